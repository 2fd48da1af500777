"""Signals drawn from a trained generator: a picture of all, arrays, or files.

python -m train.sample --workdir=runs/dit --label=3 --num=16 --guidance=4 --out=grid.png
python -m train.sample --workdir=runs/speech_dit --num=8 --out=drawn

The second makes a folder of files of their own kind, sounds to hear (.wav), clips to
watch (.gif), tables (.csv), pictures, scans (.npy), and sheet.png, all of them to see.
"""

import math
from pathlib import Path

import jax
import numpy as np

from train.config.command import parse
from train.errors import BadInput, run
from train.evaluation.drawing import SAMPLER, draw_all
from train.modalities.files import npz, write_bytes, write_folder
from train.modalities.modality import of_contract
from train.modalities.shown import png
from train.objectives.bundles import open_bundle
from train.progress import progress, say
from train.report import pictures
from train.runtime import hosts
from vqdit.fields import Count, Natural
from vqdit.trained.generator import Generator

FLAGS = {
    "workdir": (str, "the generator: a workdir or bundle folder"),
    "label": (str, "the class that is drawn, its name or number; else all in turn"),
    "num": (Count, "of samples (16)"),
    "guidance": (float, "scale; 1 means none"),
    **SAMPLER,
    "seed": (int, "of all samples (0)"),
    "first": (Natural, "number of the first sample (0)"),
    "out": (str, "a .png, a .npz of arrays, or a folder (grid.png)"),
}


def main(argv):
    hosts.alone()
    command = parse(argv, None, flags=FLAGS)
    flags = command.flags
    generator = open_bundle(command.workdir, Generator, "--workdir")
    count, classes = flags.get("num", 16), generator.module.classes
    ids, labels = np.arange(count) + flags.get("first", 0), None
    if "label" in flags:
        labels = np.full(
            count, class_of(flags["label"], classes, generator.class_names)
        )
    elif classes:
        labels = np.take(generator.trained_labels, ids, mode="wrap")
    out = Path(flags.get("out", "grid.png"))
    if out.suffix not in (".png", ".npz", ""):
        raise BadInput(
            f"--out={out}: write a .png (a picture), a .npz (arrays), or a folder"
        )
    if not out.suffix and out.exists():
        raise BadInput(f"--out={out} is there already; write another folder")
    for name in generator.processes:
        if out.suffix != ".npz" and name not in generator.codecs:
            raise BadInput(f"--out={out}: stream {name!r} is no signal; write a .npz")

    try:
        chosen = {n: flags[n] for n in (*SAMPLER, "guidance") if n in flags}
        draw = generator.sampler(**chosen)
        key = jax.random.key(flags.get("seed", 0))
        x = draw_all(generator, draw, key, ids, labels)
    except ValueError as error:
        raise BadInput(str(error)) from error
    files = {}
    for name, signal in x.items():
        end = "" if len(x) == 1 else f"_{name}"
        path, codec = out.with_stem(out.stem + end), generator.codecs.get(name)
        if out.suffix == ".npz":
            arrays = {codec.contract.kind if codec else name: signal}
            arrays |= {} if labels is None else {"label": labels}
            write_bytes(path, npz(**arrays))
        else:
            shown = signal if signal.dtype == np.uint8 else codec.from_raw(signal)
            kind, columns = codec.contract.kind, math.ceil(count**0.5)
            picture = pictures.sheet(kind, np.asarray(shown), columns)
            if out.suffix:
                pictures.save_png(path, picture)
            else:
                path, files[f"sheet{end}.png"] = out, png(picture)
                files |= _files(codec.contract, signal, end)
        if out.suffix:
            say(f"{count} samples of {name!r} are in {path}")
    if files:
        write_folder(out, files)
        say(f"{count} samples of {', '.join(map(repr, x))} are in {out}")


def _files(contract, signal, end) -> dict[str, bytes]:
    """Name -> content of a file for each sample."""
    data = of_contract(contract)
    digits, suffix = len(str(len(signal) - 1)), data.suffixes[0]
    return {
        f"{i:0{digits}d}{end}{suffix}": data.write(data.new(values, contract.rate))
        for i, values in enumerate(progress(signal, "writing", unit="file"))
    }


def class_of(text: str, classes: int, names: tuple[str, ...]) -> int:
    """The number of the class that the text names; a name goes before a number.

    Raises BadInput, with what there is, for what is none of `classes` and `names`.
    """
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < classes:
        return int(text)
    known = f"0 to {classes - 1}" if classes else "no --label: it has no classes"
    if named := ", ".join(names[:20]):
        known += f", or one of {named}" + (", ..." if len(names) > 20 else "")
    raise BadInput(f"--label={text} is none of the classes; write {known}")


if __name__ == "__main__":
    run(main)
