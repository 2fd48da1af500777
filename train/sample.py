"""Signals drawn from a trained generator, as a picture or as arrays.

python -m train.sample --workdir=runs/dit --label=3 --num=16 --guidance=4 --out=grid.png
"""

import math
from pathlib import Path

import jax
import numpy as np

from train.config.command import parse
from train.errors import BadInput, run
from train.evaluation.drawing import SAMPLER, draw_all
from train.modalities.files import npz, write_bytes
from train.objectives.bundles import open_bundle
from train.report import pictures
from train.runtime import hosts
from train.runtime.log import say
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
    "out": (str, "a .png, or a .npz of arrays (grid.png)"),
}


def main(argv):
    hosts.alone()
    command = parse(argv, None, flags=FLAGS)
    flags = command.flags
    generator = open_bundle(command.workdir, Generator, "--workdir")
    count, classes = flags.get("num", 16), generator.module.classes
    labels = None
    if "label" in flags:
        labels = np.full(
            count, class_of(flags["label"], classes, generator.class_names)
        )
    elif classes:
        labels = np.arange(count) % classes
    out = Path(flags.get("out", "grid.png"))
    if out.suffix not in (".png", ".npz"):
        raise BadInput(f"--out={out}: write a .png (a picture) or .npz (arrays)")
    for name in generator.processes:
        if out.suffix == ".png" and name not in generator.codecs:
            raise BadInput(f"--out={out}: stream {name!r} is no signal; write a .npz")

    try:
        chosen = {n: flags[n] for n in (*SAMPLER, "guidance") if n in flags}
        draw = generator.sampler(**chosen)
        ids = np.arange(count) + flags.get("first", 0)
        key = jax.random.key(flags.get("seed", 0))
        x = draw_all(generator, draw, key, ids, labels)
    except ValueError as error:
        raise BadInput(str(error)) from error
    for name, signal in x.items():
        path = out if len(x) == 1 else out.with_stem(f"{out.stem}_{name}")
        codec = generator.codecs.get(name)
        if out.suffix == ".npz":
            arrays = {codec.contract.kind if codec else name: signal}
            arrays |= {} if labels is None else {"label": labels}
            write_bytes(path, npz(**arrays))
        else:
            shown = signal if signal.dtype == np.uint8 else codec.from_raw(signal)
            picture = pictures.sheet(
                codec.contract.kind, np.asarray(shown), math.ceil(count**0.5)
            )
            pictures.save_png(path, picture)
        say(f"{count} samples of {name!r} are in {path}")


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
