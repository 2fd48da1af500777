"""Signal files to .vqd files, through a trained tokenizer.

python -m train.compress photo.png sounds/ --bundle=runs/tok --out=coded
python -m train.compress --fit --workdir=runs/tok

The second counts the codes of the training set once, and lays the counts beside the
bundle: files are smaller for it, small ones much. Their readers need it too.

--books keeps the first books of a residual tokenizer, or the first scales of a
multi-scale one, whose training never leaves scales out, so that quality suffers more.
--peak is a level in place of that of training.

A folder stands for the files in it. For a tokenizer of video a folder of pictures is
one clip, its frames in the order of their names, and a folder of such folders stands
for them.

What training did to a file's values is in the bundle, and done here too (see
`train.modalities`, each one's `takes`). Any size goes: waveforms whole where the
tokenizer allows it, all else in tiles of the bundle's shape, the last ones filled up
with the signal's edge. What of a file is not coded, such as a sound track, alpha or a
header, is said in a line. Every input is checked and coded before the first file is
written.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from train.codec import counting
from train.codec.coder import FIXED, Coder
from train.codec.container import SUFFIX, Header, bundle_name, checksum_of_codes, pack
from train.codec.files import (
    as_written,
    check_named,
    named_files,
    open_codec,
    targets,
    unwritten,
)
from train.codec.layout import Opened
from train.codec.prefixes import decodes_prefixes
from train.config.command import parse
from train.config.outputs import out_folder
from train.errors import BadInput, Unreadable, arguments, run
from train.modalities.files.writing import write_bytes
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.progress import progress, say
from train.runtime import hosts
from vqdit.fields import Finite
from vqdit.metrics.codes import code_counts, entropy_of

FLAGS = {
    "bundle": (str, "the tokenizer: a workdir or bundle folder"),
    "out": (str, "the folder of the .vqd files"),
    "books": (int, "the first so many books, or scales, are kept; else all"),
    "overlap": (int, "samples that neighbouring tiles share and blend (0)"),
    "resample": (bool, "take sounds and clips of another rate"),
    "peak": (Finite, "level that sounds are brought to and back from; 0: none"),
    "force": (bool, "replace files that are there"),
    "missing": (bool, "leave files as they are that are there, and write the others"),
    "fit": (bool, "lay the counts of a training set's codes beside the bundle"),
    **counting.OF_FIT,
}

KEPT = 2**28  # bytes of what is read to be checked that stay there to be coded
ReadFile = tuple[Record, np.ndarray, bytes]  # of `read_file`


@dataclasses.dataclass(frozen=True)
class Settings:
    """How files are coded: the program's options of these names."""

    books: int  # or scales
    overlap: int = 0
    resample: bool = False


def read_file(opened: Opened, path: Path, settings: Settings) -> ReadFile:
    """(the file's record, as it is measured; its planes, as they are coded; extra).

    Measured is what the file holds, but grey where the tokenizer is, and at the
    bundle's rate where the file says none. Coded is that at the bundle's rate and
    channels, prepared as training prepared its files.
    """
    data, contract = opened.data, opened.contract
    try:
        signal = data.read(path)
        if signal.values.ndim != len(contract.shape):
            raise BadInput(
                f"it is {signal.values.shape}, and the bundle takes {contract.shape}"
            )
        signal = dataclasses.replace(signal, rate=signal.rate or contract.rate)
        coded = signal
        if opened.resampled(signal.rate):
            if not settings.resample:
                raise BadInput(
                    f"it has a rate of {signal.rate:g} a second and the bundle "
                    f"{contract.rate:g}; write --resample"
                )
            coded = data.regrid(coded, contract.rate)
        coded = data.prepare(coded)
        planes = data.planes(coded.values, contract.shape[-1])
        if data.pixels:
            channels = min(signal.values.shape[-1], contract.shape[-1])
            grey = data.merge(data.planes(signal.values, contract.shape[-1]), channels)
            more = dict(signal.more)
            if np.any(signal.values != grey):
                more["dropped"] = (*more.get("dropped", ()), "its colour")
            signal = dataclasses.replace(signal, values=grey, more=more)
    except (Unreadable, BadInput, OSError) as error:
        raise BadInput(f"{path}: {error}") from error
    return signal, planes, coded.extra


def compressed(
    opened: Opened, path: Path, settings: Settings, read: ReadFile | None = None
) -> tuple[bytes, dict, np.ndarray]:
    """(the .vqd file, its figures, its codes (parts, places, books)). read: what
    `read_file` gave of it, where that is still there.

    Figures: dropped, see there; bytes; units, of the kind's "bits per ..."; score, of
    the file that `train.decompress` will make of it; coder; and in bits payload, fixed
    (every code at log2 k) and order_0 (the empirical entropy of this file's own codes).
    """
    signal, planes, extra = read or read_file(opened, path, settings)
    contract, shape = opened.contract, signal.values.shape
    length = planes.shape[1] if opened.resampled(signal.rate) else 0
    layout = opened.layout(
        (length or shape[0], *shape[1:]), settings.overlap, opened.whole
    )
    prefixes, books = opened.prefixes, settings.books
    codes = prefixes.cut(layout.encode(planes), books)
    alphabet = prefixes.alphabet(opened.prior, books)
    coder = alphabet.best_coder(codes)
    payload = alphabet.encode(codes, coder)
    header = Header(
        kind=contract.kind,
        suffix=signal.suffix,
        bundle=bundle_name(contract.fingerprint),
        shape=shape,
        books=books,
        coder=coder,
        prior=opened.prior.name if opened.prior and coder.needs_prior else b"",
        rate=signal.rate,
        length=length,
        overlap=settings.overlap,
        extra=extra,
        codes=checksum_of_codes(codes),
        whole=opened.whole,
    )
    data = pack(header, payload)
    values = opened.rebuild(header, codes)
    back = Record(values, header.rate, suffix=header.suffix, extra=extra)
    decoded = as_written(opened.data, back)
    figures = {
        "dropped": dropped(opened, path, signal),
        "bytes": len(data),
        "units": opened.data.units(signal.values, signal.rate),
        "score": opened.data.measure(signal.values, decoded),
        "coder": coder.name,
        "payload": 8 * len(payload),
        "fixed": alphabet.cost(codes, Coder(FIXED)),
        "order_0": alphabet.order_0_bits(codes),
    }
    return data, figures, codes


def check_books(opened: Opened, books: int | None) -> int:
    """How many books or scales are kept: all, or the first few where those decode."""
    prefixes = opened.prefixes
    have = prefixes.count
    if books is None or books == have:
        return have
    if not 1 <= books <= have:
        raise BadInput(
            f"--books={books}: the tokenizer has {have} {prefixes.word}; write 1 to "
            f"{have}"
        )
    if not decodes_prefixes(opened.codec):
        raise BadInput(
            f"--books={books}: the tokenizer's {have} books are not residual, all are "
            f"needed; leave --books out"
        )
    return books


def dropped(opened: Opened, path: Path, signal: Record) -> list[str]:
    """In words, what of a file is not coded, whatever the tokenizer makes of the rest.

    signal: that of `read_file`.
    """
    found, rate = list(opened.data.dropped(path, signal)), opened.contract.rate
    if opened.resampled(signal.rate) and signal.rate > rate:
        found.append(f"all but {rate:g} of its {signal.rate:g} samples a second")
    return found


def line(kind: Modality, figures: dict) -> str:
    """A file's or all files' figures as printed."""
    return (
        f"{figures['bytes']:,} bytes, {8 * figures['bytes'] / figures['units']:.4g} "
        f"{kind.unit}, {kind.score} {figures['score']:.2f} dB"
    )


def main(argv=None):
    argv = arguments(argv)
    hosts.alone()
    if any(word == "--fit" or word.startswith("--fit=") for word in argv):
        return counting.main(argv)
    command = parse(argv, None, FLAGS, inputs=True, needed=("bundle", "out"))
    for name in counting.OF_FIT:
        if name in command.flags or (name == "workdir" and command.workdir):
            raise BadInput(f"--{name} is of the counts: write --fit too")
    check_named(command.inputs)
    out_folder(command.flags["out"], there=True)
    flags = command.flags
    opened = open_codec(flags["bundle"])
    if "peak" in flags:
        data = opened.data.at_peak(flags["peak"])
        opened = dataclasses.replace(opened, data=data)
    kind, settings = opened.data, _settings(opened, flags)
    books = settings.books
    paths = named_files(command.inputs, kind.suffixes, kind.folders)
    missing = flags.get("missing", False)
    names = ((path, SUFFIX) for path in paths)
    outs = targets(flags["out"], names, command.force, missing)
    todo = unwritten(paths, outs, missing)
    paths = [path for path, _ in todo]
    if not paths:
        return
    shapes, held, room = [], {}, KEPT
    with progress(paths, "checking") as bar:
        for path in bar:
            read = read_file(opened, path, settings)
            shapes.append(read[1].shape[1:])
            size = read[0].values.nbytes + read[1].nbytes
            if size <= room:
                held[path], room = read, room - size
    layouts = (opened.layout(shape, settings.overlap, opened.whole) for shape in shapes)
    counts = [layout.count for layout in layouts]
    opened = opened.batched(max(counts))
    if "overlap" not in flags and max(counts) > 1:
        side = min(opened.contract.shape[:-1])
        say(
            f"{paths[np.argmax(counts)]} is cut into {max(counts)} tiles, whose seams "
            f"may show; --overlap={max(1, side // 8)} blends them, for more bytes"
        )
    kept = opened.prefixes.alphabet(opened.prior, books).code_counts
    done, used = [], [np.zeros(k, np.int64) for k in kept]
    with progress(paths, "coding") as bar:
        for path in bar:
            read = held.pop(path, None)
            data, figures, codes = compressed(opened, path, settings, read)
            done.append((data, figures))
            for book, k in enumerate(kept):
                used[book] += code_counts(codes[..., book], k)
    for (path, out), (data, figures) in zip(todo, done, strict=True):
        write_bytes(out, data)
        if figures["dropped"]:
            say(f"{path}: left out: {'; '.join(figures['dropped'])}")
        print(
            f"{path} -> {out}: {line(kind, figures)}; {figures['coder']} codes "
            f"{figures['payload'] / 8:,.0f} bytes, at fixed length "
            f"{figures['fixed'] / 8:,.0f}, own order-0 entropy "
            f"{figures['order_0'] / 8:,.0f}"
        )
    if len(done) > 1:
        print(f"{len(done)} files: {_total(kind, [f for _, f in done], used)}")


def _settings(opened: Opened, flags: dict) -> Settings:
    overlap = flags.get("overlap", 0)
    side = min(opened.contract.shape[:-1])
    if not 0 <= overlap < side:
        raise BadInput(f"--overlap={overlap}: write 0 to {side - 1}, less than a tile")
    if overlap and opened.whole:
        raise BadInput(
            "--overlap is for tiles, and this tokenizer takes a signal of any length "
            "whole; leave it out"
        )
    if flags.get("resample") and not opened.contract.rate:
        kind = opened.contract.kind
        raise BadInput(
            f"--resample: the tokenizer is of {kind} without a rate; drop it"
        )
    books = check_books(opened, flags.get("books"))
    return Settings(books, overlap, flags.get("resample", False))


def _total(kind: Modality, figures: list[dict], counts: list[np.ndarray]) -> str:
    size = sum(f["bytes"] for f in figures)
    scores = [f["score"] for f in figures if math.isfinite(f["score"])]
    total = {
        "bytes": size,
        "units": sum(f["units"] for f in figures),
        "score": float(np.mean(scores)) if scores else math.nan,
    }
    entropy = sum(book.sum() * entropy_of(book) for book in counts)
    return (
        f"{line(kind, total)} (mean); codes "
        f"{sum(f['payload'] for f in figures) / 8:,.0f} bytes, order-0 entropy of all "
        f"files' codes together {entropy / 8:,.0f}"
    )


if __name__ == "__main__":
    run(main)
