"""Samples of a generator as files: arrays, tables, texts, pictures, sounds, clips."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.modalities.boxes import box_rows
from train.modalities.files.arrays import npz
from train.modalities.files.writing import write_bytes, write_folder
from train.modalities.kinds import of_contract
from train.modalities.rows import csv_of
from train.modalities.shown import Units, class_words, png
from train.progress import progress, say
from train.report.sheets import sheet
from vqdit.tokenizer import Boxes, Table
from vqdit.trained.generator import Generator

FILES = (".png", ".npz", ".txt", ".csv")  # any other name is a folder's


def is_rows(generator: Generator, name: str) -> bool:
    """Whether samples of a stream are rows of a table."""
    return isinstance(generator.values.get(name), Table)


def is_listed(generator: Generator, name: str) -> bool:
    """Whether its samples are the rows of one CSV."""
    return isinstance(generator.values.get(name), Table | Boxes)


def said_of(generator: Generator, name: str, drawn: Any) -> list[str]:
    """A line each, of a label the class's name where it has one."""
    if generator.values[name].source == "label":
        return class_words(drawn, generator.class_names)
    return generator.values[name].said(drawn)


def said_file(generator: Generator, name: str, drawn: Any) -> tuple[str, bytes]:
    """(suffix, content) of the one file of a stream that is born discrete: a table of
    rows or boxes, or else a line for each sample."""
    if is_listed(generator, name):
        return ".csv", csv_of(drawn if is_rows(generator, name) else box_rows(drawn))
    return ".txt", "".join(f"{t}\n" for t in said_of(generator, name, drawn)).encode()


def write_samples(
    generator: Generator,
    out: Path,
    x: Mapping[str, Any],
    texts: Mapping[str, Sequence[str]],
    labels: np.ndarray | None,
    named: Sequence[str],
) -> None:
    """One file a stream, by the ending of `out`, or else a folder of a file a sample.

    x:      stream -> samples in their raw unit. texts: of `said_of`.
    labels: of the samples, into an .npz. named: a title of each, on sheets.
    """
    files: dict[str, bytes] = {}
    for name, signal in x.items():
        end, count = "" if len(x) == 1 else f"_{name}", len(signal)
        path, codec = out.with_stem(out.stem + end), generator.codecs.get(name)
        if out.suffix == ".npz":
            arrays = {codec.contract.kind if codec else name: np.asarray(signal)}
            if is_rows(generator, name):
                arrays = generator.values[name].arrays(signal)
            if labels is not None:
                arrays.setdefault("label", labels)  # a column or stream goes first
            write_bytes(path, npz(**arrays))
        elif name in generator.values:
            suffix, content = said_file(generator, name, signal)
            if out.suffix in FILES:
                path = path.with_suffix(suffix)
                write_bytes(path, content)
            elif is_listed(generator, name):
                files[f"{name}{suffix}"] = content
            else:
                files |= _numbered([t.encode() for t in texts[name]], end, ".txt")
        elif codec is not None:  # of what has none there is no picture
            shown = signal if signal.dtype == np.uint8 else codec.from_raw(signal)
            kind, columns = codec.contract.kind, math.ceil(count**0.5)
            shown, units = np.asarray(shown), Units.of(codec.contract)
            picture = sheet(kind, shown, units, columns, named)
            if out.suffix in FILES:
                write_bytes(path, png(picture))
            else:
                files[f"sheet{end}.png"] = png(picture)
                files |= files_of(codec.contract, signal, shown, end)
        if out.suffix in FILES:
            say(f"{count} samples of {name!r} are in {path}")
    if files:
        write_folder(out, files)
        say(f"{count} samples of {', '.join(map(repr, x))} are in {out}")


def files_of(contract, signal, shown, end: str = "") -> dict[str, bytes]:
    """Name -> content of a file for each sample, and of its picture beside a sound.

    shown: the samples as their tokenizer takes them.
    """
    data, units = of_contract(contract), Units.of(contract)
    records = [data.new(values, contract.rate, units.names) for values in signal]
    contents = [data.write(each) for each in progress(records, "writing", unit="file")]
    files = _numbered(contents, end, records[0].suffix)
    if data.front is not None:  # a sound, whose file cannot be looked at
        seen = [png(sheet(contract.kind, each[None], units)) for each in shown]
        files |= _numbered(seen, end, ".png")
    return files


def _numbered(contents, end, suffix):
    digits = len(str(len(contents) - 1))
    return {f"{i:0{digits}d}{end}{suffix}": each for i, each in enumerate(contents)}
