"""Signal files to .vqd files, through a trained tokenizer.

python -m train.compress photo.png sounds/ --bundle=runs/tok --out=coded
python -m train.compress --fit --workdir=runs/tok

The second counts the codes of the training set once, and lays the counts beside the
bundle: files are smaller for it, small ones much. Their readers need it too.

Options: --books=n keeps the first n books of a residual tokenizer; --overlap=n lets
neighbouring tiles share n samples and blends them; --resample takes files of another
rate; --force replaces files that are there. Any size goes: tiles of the bundle's shape,
the last ones filled up with the signal's edge. Every input is checked and coded before
the first file is written.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from train import prior as priors
from train.coding import (
    BATCH,
    Opened,
    bundle_folder,
    listed,
    open_bundle,
    open_tokenizer,
    targets,
    watch,
)
from train.command import parse
from train.config import Experiment
from train.container import Header, bundle_name, checksum_of_codes, pack
from train.data import prepare
from train.data.images import Unreadable
from train.data.pipeline import once
from train.entropy import choose, encode, order_0_bits
from train.errors import BadInput, run
from train.log import say
from train.media import PIXELS, Kind, Signal
from train.pictures import write_bytes
from train.prior import Prior
from vqdit.codec import Codec
from vqdit.metrics import code_counts
from vqdit.tokenizer import to_signal

SUFFIX = ".vqd"
FLAGS = {
    "bundle": str,
    "out": str,
    "books": int,
    "overlap": int,
    "resample": bool,
    "force": bool,
}
CHUNK = 256  # training examples at once, when codes are counted
# Two rates are one where they differ by less than this share.
SAME_RATE = 1e-3


def read(
    opened: Opened, path: Path, resample: bool
) -> tuple[Signal, np.ndarray, Signal]:
    """(the file, its planes at the bundle's rate and channels, the file as measured).

    The last differs from the first in its channels, where a colour picture goes through
    a grey tokenizer, and in the rate that a file without one is given.
    """
    kind, contract = opened.kind, opened.contract
    try:
        signal = kind.read(path)
        rate = signal.rate or contract.rate
        if signal.values.ndim != len(contract.shape):
            raise BadInput(
                f"it is {signal.values.shape}, and the bundle takes {contract.shape}"
            )
        values = signal.values
        if _resampled(opened, rate):
            if not resample:
                raise BadInput(
                    f"it has a rate of {rate:g} a second and the bundle "
                    f"{contract.rate:g}; write --resample"
                )
            values = kind.resample(values, rate, contract.rate)
        planes = kind.planes(values, contract.shape[-1])
    except (Unreadable, BadInput, OSError) as error:
        raise BadInput(f"{path}: {error}") from error
    reference = signal.values
    if contract.kind in PIXELS:
        channels = min(reference.shape[-1], contract.shape[-1])
        reference = kind.merge(kind.planes(reference, contract.shape[-1]), channels)
    return signal, planes, dataclasses.replace(signal, values=reference, rate=rate)


def compressed(
    opened: Opened, path: Path, books: int, overlap: int = 0, resample: bool = False
) -> tuple[bytes, dict, np.ndarray]:
    """(the .vqd file, its figures, its codes (tiles, places, books)).

    Figures: bytes; units, of the kind's "bits per ..."; score, of what
    `train.decompress` will make of it; coder; and in bits payload, fixed (every code at
    log2 k) and order_0 (the empirical entropy of this file's own codes).
    """
    signal, planes, original = read(opened, path, resample)
    contract, shape = opened.contract, original.values.shape
    length = planes.shape[1] if _resampled(opened, original.rate) else 0
    tiling = opened.tiling((length or shape[0], *shape[1:]), overlap)
    codes = opened.codes(planes, tiling)[..., :books]
    counts = contract.codes[:books]
    coder = choose(codes, counts, opened.prior)
    payload = encode(codes, counts, coder, opened.prior)
    header = Header(
        kind=contract.kind,
        suffix=signal.suffix,
        bundle=bundle_name(contract.fingerprint),
        shape=shape,
        books=books,
        coder=coder,
        prior=opened.prior.name if coder.needs_prior else b"",
        rate=original.rate,
        length=length,
        overlap=overlap,
        extra=signal.extra,
        codes=checksum_of_codes(codes),
    )
    data = pack(header, payload)
    figures = {
        "bytes": len(data),
        "units": opened.kind.units(original.values, original.rate),
        "score": opened.kind.measure(original.values, opened.rebuild(header, codes)),
        "coder": coder.name,
        "payload": 8 * len(payload),
        "fixed": codes[..., 0].size * sum(map(math.log2, counts)),
        "order_0": order_0_bits(codes, counts),
    }
    return data, figures, codes


def check_books(opened: Opened, books: int | None) -> int:
    """How many books are kept: all, or the first few of a residual tokenizer."""
    have = len(opened.contract.codes)
    if books is None or books == have:
        return have
    if not 1 <= books <= have:
        raise BadInput(f"--books={books}: the tokenizer has {have}; write 1 to {have}")
    if not decodes_prefixes(opened.codec):
        raise BadInput(
            f"--books={books}: the tokenizer's {have} books are not residual, all are "
            f"needed; leave --books out"
        )
    return books


def decodes_prefixes(codec: Codec) -> bool:
    """Whether the first few books alone decode to a signal."""
    grid = codec.contract.code_grid
    one = jax.ShapeDtypeStruct((1, *grid, 1), np.int32)
    try:
        shape = jax.eval_shape(
            lambda codes: codec.apply("decode", codec.variables, codes), one
        ).shape
    except (ValueError, TypeError, IndexError):
        return False
    return shape == (1, *codec.contract.shape)


def fit_prior(codec: Codec, data, most: int | None = None) -> Prior:
    """Counts of a tokenizer's codes over the training part of an experiment's data.

    most: examples at most, evenly spaced.
    """
    if tuple(data.shape) != codec.contract.shape or data.kind != codec.contract.kind:
        raise BadInput(
            f"the tokenizer takes {codec.contract.kind} of {codec.contract.shape}, the "
            f"data is {data.kind} of {tuple(data.shape)}"
        )
    examples = prepare(data, True)
    count = min(most or len(examples), len(examples))

    def take(rows):
        return examples.take(rows * len(examples) // count)

    def parts():
        chunk = min(CHUNK, count)
        in_order = once(take, count, chunk, threads=data.threads)
        for batch in tqdm(in_order, "counting codes", -(-count // chunk), leave=False):
            codes = codec.encode(to_signal(batch[data.kind])).codes
            yield np.asarray(codes)[batch["valid"]]

    return priors.fit(parts(), codec.contract.codes, codec.contract.fingerprint)


def fit(argv: Sequence[str]) -> None:
    """The program's --fit: writes prior.npz into the bundle."""
    command = parse(argv, Experiment, {"fit": bool, "bundle": str}, inputs=True)
    if command.inputs:
        raise BadInput(f"--fit reads the training set; leave {command.inputs[0]} out")
    path = command.flags.get("bundle") or command.workdir
    if path is None:
        raise BadInput("write --workdir=DIR, or --bundle=DIR with --config=FILE")
    file = bundle_folder(path) / priors.FILE
    if file.exists() and not command.force:
        raise BadInput(
            f"{file} is there, and files coded under it could not be read under "
            f"another; write --force to replace it"
        )
    prior = fit_prior(open_tokenizer(path), command.experiment.data)
    priors.save(file.parent, prior)
    places = "its own table at every place of the grid"
    for book, counts in enumerate(prior.counts):
        kind = places if len(counts) > 1 else "one table for all places"
        say(f"book {book}: {counts.sum():,} codes counted, {kind}")
    say(f"{file} is written; train.compress uses it from here on")


def _resampled(opened: Opened, rate: float) -> bool:
    """Whether a signal of this rate has to change it."""
    own = opened.contract.rate
    return bool(own and rate) and abs(rate - own) > SAME_RATE * own


def line(kind: Kind, figures: dict) -> str:
    """A file's or all files' figures as printed."""
    return (
        f"{figures['bytes']:,} bytes, "
        f"{8 * figures['bytes'] / figures['units']:.4g} {kind.unit}, "
        f"{kind.score} {figures['score']:.2f} dB"
    )


def main(argv=None):
    if any(word == "--fit" or word.startswith("--fit=") for word in argv):
        return fit(argv)
    command = parse(argv, None, FLAGS, inputs=True)
    flags = command.flags
    if command.workdir:
        raise BadInput("--workdir goes with --fit; write --bundle=DIR")
    opened = open_bundle(flags.get("bundle"))
    kind, contract = opened.kind, opened.contract
    books = check_books(opened, flags.get("books"))
    overlap, resample = flags.get("overlap", 0), flags.get("resample", False)
    side = min(contract.shape[:-1])
    if not 0 <= overlap < side:
        raise BadInput(f"--overlap={overlap}: write 0 to {side - 1}, less than a tile")
    paths = listed(command.inputs, kind.suffixes)
    outs = targets(flags.get("out"), ((p, SUFFIX) for p in paths), command.force)
    most = 1
    with watch(paths, "checking") as bar:
        for path in bar:
            _, planes, _ = read(opened, path, resample)
            most = max(most, len(opened.tiling(planes.shape[1:], overlap)))
    # One compilation for all files, and no larger a batch than the largest needs.
    batch = min(BATCH, 1 << (most - 1).bit_length())
    opened = dataclasses.replace(opened, batch=batch)
    done, counts = [], [np.zeros(k, np.int64) for k in contract.codes[:books]]
    with watch(paths, "coding") as bar:
        for path in bar:
            data, figures, codes = compressed(opened, path, books, overlap, resample)
            done.append((data, figures))
            for book, k in enumerate(contract.codes[:books]):
                counts[book] += code_counts(codes[..., book], k)
    for path, out, (data, figures) in zip(paths, outs, done, strict=True):
        write_bytes(out, data)
        print(
            f"{path} -> {out}: {line(kind, figures)}; {figures['coder']} codes "
            f"{figures['payload'] / 8:,.0f} bytes, at fixed length "
            f"{figures['fixed'] / 8:,.0f}, own order-0 entropy "
            f"{figures['order_0'] / 8:,.0f}"
        )
    if len(done) > 1:
        print(f"{len(done)} files: {_total(kind, [f for _, f in done], counts)}")


def _total(kind: Kind, figures: list[dict], counts: list[np.ndarray]) -> str:
    size = sum(f["bytes"] for f in figures)
    scores = [f["score"] for f in figures if math.isfinite(f["score"])]
    total = {
        "bytes": size,
        "units": sum(f["units"] for f in figures),
        "score": float(np.mean(scores)) if scores else math.nan,
    }
    entropy = 0.0
    for book in counts:
        p = book[book > 0] / book.sum()
        entropy -= float(book.sum() * (p * np.log2(p)).sum())
    return (
        f"{line(kind, total)} (mean); codes "
        f"{sum(f['payload'] for f in figures) / 8:,.0f} bytes, order-0 entropy of all "
        f"files' codes together {entropy / 8:,.0f}"
    )


if __name__ == "__main__":
    run(main)
