"""Signals drawn from a trained generator: a picture of all, arrays, or files.

python -m train.sample --workdir=runs/dit --label=3 --num=16 --guidance=4 --out=grid.png
python -m train.sample --workdir=runs/speech_dit --num=8 --out=drawn
python -m train.sample --workdir=runs/any --given.text=seven --want=image
python -m train.sample --workdir=runs/any --given.audio=a.wav --want=text
python -m train.sample --workdir=runs/clinic --given.record=patients.csv --out=full.csv
python -m train.sample --workdir=runs/any --given.video=a.gif --want=boxes --out=a.csv
python -m train.sample --workdir=runs/any --given.video=a.gif --shown.video=3 --out=on
python -m train.sample --workdir=runs/any --given.image=a.png --hole.image=mask.png
python -m train.sample --workdir=runs/any --given.text="a red ***" --hole.text='*'

The second makes a folder of files of their own kind, sounds to hear (.wav), clips to
watch (.gif), tables (.csv), texts (.txt), pictures, scans (.nii.gz where the bundle has
a data.spacing, else .npy), and sheet.png, all of them to see. Of several streams any
are drawn given any: --given.NAME is a file, or a folder of files, one after the other;
of text the text itself, a .txt, or a folder of such with a / in its name; of a label
its name or number; of rows a .csv, or one row as age=61,sex=f, whose missing entries
are drawn, and the others stay; of boxes a .csv of class, x0, y0, x1, y1 in shares of
the sides, with the columns sample and frame where there are several. A file is given as
evaluation would see it: a picture brought to the size, a recording cut to its middle,
or with silence around it. --shown.NAME=3 keeps the first three places of what is given,
and draws the rest, or leaves it absent where the stream is not wanted: latents in time
of a clip, a sound or a series, rows of latents of a picture, codes of a text. A whole
example is given, also where only its beginning is to stay; what stays has seen the
rest, unless its tokenizer is causal. --hole.NAME draws what is in a hole: of pictures
and clips a picture that is white there, or x0,y0,x1,y1 in shares of the sides; of
sounds and series start,end in seconds; of a text a character that stands for a code.
What stays of a signal is written as it was given, where latents stand for blocks of it.
What is neither wanted nor given is absent. Texts, rows and boxes are printed where no
--out is written.
"""

import math
import mimetypes
from collections.abc import Set
from pathlib import Path
from typing import Annotated

import numpy as np

from train.codec.examples import cells_beside, given_examples
from train.codec.examples import class_of as number_of
from train.codec.holes import pasted, with_holes
from train.config.command import parse
from train.config.outputs import out_file, out_folder
from train.errors import BadInput, blame, run
from train.evaluation.drawing import SAMPLER, draw_all, first_shown, restored
from train.modalities.files.limits import LARGEST
from train.modalities.shown import class_words
from train.objectives.bundles import open_bundle
from train.report.samples import FILES, is_listed, is_rows, said_of, write_samples
from train.runtime import hosts
from train.runtime.keys import key_of
from vqdit.fields import Bound, Count, Finite, Names, Seed
from vqdit.tokenizer.text import Text
from vqdit.trained.generator import Generator

# Samples have numbers of 31 bits.
FirstSample = Annotated[int, Bound(at_least=0, below=2**31)]
SampleCount = Annotated[int, Bound(at_least=1, below=2**31)]

FLAGS = {
    "workdir": (str, "the generator: a workdir or bundle folder"),
    "given.": (str, "of a stream: files, a folder, a text, a label or a row"),
    "want": (Names, "streams that are drawn; else all that are not given"),
    "shown.": (Count, "of a given stream: its first places, which stay"),
    "hole.": (str, "of a given stream: what is drawn of it, a picture or numbers"),
    "label": (str, "the class that is drawn, its name or number; else all in turn"),
    "num": (SampleCount, "of samples (16, or as many as files are given)"),
    "guidance": (Finite | dict[str, Finite], "scale; 1 means none"),
    "guidance.": (Finite, "of one given stream, or of the label, in its place"),
    **SAMPLER,
    "cut": (bool, "drop what a given text has beyond its stream's length"),
    "resample": (bool, "take given sounds and clips of another rate"),
    "seed": (Seed, "of all samples (0)"),
    "first": (FirstSample, "number of the first sample (0)"),
    "out": (str, "a .png, .npz, .txt, .csv (rows, boxes) or folder (grid.png)"),
}


def main(argv=None):
    hosts.alone()
    command = parse(argv, None, flags=FLAGS)
    flags = command.flags
    generator = open_bundle(command.workdir, Generator, "--workdir")
    for flag in ("given.", "want=", "hole.", "before="):
        for name in flags.get(flag[:-1], ()):
            if name not in generator.streams:
                streams = ", ".join(generator.streams)
                raise BadInput(f"--{flag}{name}: the streams are {streams}")
    words, counts, holes = (flags.get(n, {}) for n in ("given", "shown", "hole"))
    values = [generator.values.get(name) for name in words]
    codecs = [generator.codecs[name] for name in words if name in generator.codecs]
    if flags.get("cut") and not any(isinstance(each, Text) for each in values):
        raise BadInput("--cut is of a given text; drop it")
    if flags.get("resample") and not any(codec.contract.rate for codec in codecs):
        raise BadInput("--resample is of a given signal that has a rate; drop it")
    first_shown(generator, counts, 1)
    for name in counts.keys() - words.keys():
        raise BadInput(f"--shown.{name}: write --given.{name}, of which it is a part")
    for name in holes.keys() - words.keys():
        raise BadInput(f"--hole.{name}: write --given.{name}, in which it is a hole")
    for name in counts.keys() & holes.keys():
        raise BadInput(f"--shown.{name} and --hole.{name}: leave one of the two out")
    rows = {name for name in words if is_rows(generator, name)}
    some = counts.keys() | holes.keys()
    whole = words.keys() - rows - some
    want = _wanted(generator, flags.get("want"), whole)
    for name in flags.get("before", ()):
        if name in whole:
            raise BadInput(f"--before={name}: it is given; leave one of the two out")
    number = None
    if "label" in flags:
        classes, names = generator.module.classes, generator.class_names
        number = label_number(flags["label"], classes, names)
    if not rows:  # of which their gaps say what is drawn
        out, draw = _opened(generator, want, flags)
    held = {name: flags.get(name, False) for name in ("cut", "resample")}
    given = given_examples(generator, words, **held, holed=holes.keys())
    told, (given, around) = given, with_holes(generator, given, holes)
    gaps = {n for n in rows if not generator.values[n].known(given[n]).all()}
    gaps |= some
    want = _wanted(generator, flags.get("want"), words.keys() - gaps, rows - gaps)
    if rows:
        out, draw = _opened(generator, want, flags)
    count = flags.get("num", max(map(len, given.values()), default=16))
    _check_room(generator, want, count)
    ids, labels = np.arange(count) + flags.get("first", 0), None
    given, told = (
        {name: x[ids % len(x)] for name, x in each.items()} for each in (given, told)
    )
    stays = first_shown(generator, counts, count)
    stays |= {name: kept[ids % len(kept)] for name, kept in around.items()}
    if number is not None:
        labels = np.full(count, number)
    elif generator.module.classes:
        labels = np.take(generator.trained_labels, ids, mode="wrap")

    with blame():
        key = key_of(flags.get("seed", 0))
        call = {"given": given, "known": stays}
        x = draw_all(generator, draw, key, ids, labels, **call)
    for name in stays.keys() & generator.codecs.keys() & set(want):
        codec = generator.codecs[name]
        own = restored(codec, given[name], raw=True)
        stream = generator.streams[name]
        x[name] = pasted(codec, stream, own, x[name], stays[name])
    for name in rows & set(want):  # with columns that the stream does not have
        asked = [dict(row) for row in given[name]]
        cells = cells_beside(generator.values[name], words[name], asked[0]) or [{}]
        x[name] = [
            row | cells[i % len(cells)] | drawn
            for i, row, drawn in zip(ids, asked, x[name], strict=True)
        ]
    said = [name for name in want if name in generator.values]
    texts = {name: said_of(generator, name, x[name]) for name in said}
    if out is None:
        for i, row in enumerate(zip(*texts.values(), strict=True)):
            print(*(ids[i], *row), sep="\t")
        return
    # Pictures are named by what they were drawn of, or else by what came with them.
    known = {n: x.get(n, told[n]) for n in told if n in generator.values}
    asked = [said_of(generator, name, values) for name, values in known.items()]
    named = next(iter([*asked, *texts.values()]), ())
    if labels is not None:
        named = class_words(labels, generator.class_names)
    write_samples(generator, out, x, texts, labels, named)


def _wanted(
    generator, want, whole: Set[str], full: Set[str] = frozenset()
) -> tuple[str, ...]:
    """The streams to draw; `whole`: those that are given without gaps, and `full`,
    among them, those of rows. Raises BadInput where there is none, or one is given."""
    rest = tuple(name for name in generator.streams if name not in whole)
    wanted = rest if want is None else want
    for name in wanted:
        if name in full:
            raise BadInput(
                f"--want={name}: it is given, too, and its rows have no gaps; nothing "
                "is to be drawn"
            )
        if name in whole:
            raise BadInput(f"--want={name}: it is given, too; leave one of the two out")
    if not wanted and full:
        raise BadInput(
            f"--given.{min(full)}: its rows have no gaps; nothing is to be drawn"
        )
    if not wanted:
        streams = ", ".join(generator.streams)
        raise BadInput(f"nothing is wanted; write --want= one of {streams}")
    return wanted


def _opened(generator, want, flags):
    """(where samples go, what draws them)."""
    out = _out(generator, want, flags.get("out"))
    if "num" in flags:
        _check_room(generator, want, flags["num"])
    chosen = {n: flags[n] for n in (*SAMPLER, "guidance") if n in flags}
    with blame():
        return out, generator.sampler(want=want, **chosen)


def _check_room(generator, want, count: int) -> None:
    """Raises BadInput where so many samples, which are kept until all are drawn, take
    more memory than a file's signal may."""
    shapes = [
        generator.codecs[name].contract.shape
        if name in generator.codecs
        else generator.streams[name].shape
        for name in want
    ]
    each = 4 * sum(map(math.prod, shapes))
    most = max(1, LARGEST // each)
    if count > most:
        raise BadInput(
            f"--num={count}: samples of {each} bytes take {count * each / 1e9:.3g} GB; "
            f"draw them in parts, --num={most} --first=0, then --first={most}, ..."
        )


def _out(generator, want, written: str | None) -> Path | None:
    """Where samples go; None where texts alone are drawn, which are printed."""
    said = [name for name in want if name in generator.values]
    if written is None and len(said) == len(want):
        return None
    out = Path(written or "grid.png")
    if out.suffix not in FILES and mimetypes.guess_type(out.name)[0]:
        raise BadInput(
            f"--out={out}: write a .png (a picture), a .npz (arrays), a .txt (texts), "
            f"a .csv (rows, boxes), or a folder"
        )
    out = out_file(out, *FILES) if out.suffix in FILES else out_folder(out)
    for name in want:
        if out.suffix == ".txt" and name not in said:
            raise BadInput(f"--out={out}: stream {name!r} is no text; write a .png")
        if out.suffix == ".csv" and not is_listed(generator, name):
            raise BadInput(
                f"--out={out}: stream {name!r} has no rows or boxes; write --want= "
                "those that have, or a folder"
            )
        if out.suffix != ".npz" and name not in generator.codecs and name not in said:
            raise BadInput(
                f"--out={out}: stream {name!r} has no tokenizer; write a .npz"
            )
    return out


def label_number(text: str, classes: int, names: tuple[str, ...]) -> int:
    """The number of the class that the text names; a name goes before a number.

    Raises BadInput, with what there is, for what is none of `classes` and `names`.
    """
    try:
        number = number_of(text, names)
    except ValueError:
        number = -1
    if 0 <= number < classes:
        return number
    if not classes:
        raise BadInput(f"--label={text}: the model has no classes; leave it out")
    known = f"0 to {classes - 1}"
    if named := ", ".join(names[:20]):
        known += f", or one of {named}" + (", ..." if len(names) > 20 else "")
    raise BadInput(f"--label={text} is none of the classes; write {known}")


if __name__ == "__main__":
    run(main)
