"""Files from `train.compress` to signal files again.

python -m train.decompress coded/ --bundle=runs/tok --out=decoded

Pictures become PNG, sounds WAV or FLAC, series, clips and NIfTI scans what they were, a
folder of frames a folder of PNG, other volumes and range images .npy. Every input is
checked and its codes are read before the first file is written.
"""

import math
from pathlib import Path

import numpy as np

from train.codec.container import (
    SUFFIX,
    Header,
    bundle_name,
    checksum_of_codes,
    room,
    unpack,
)
from train.codec.files import (
    check_named,
    named_files,
    open_codec,
    targets,
    unwritten,
    write_content,
)
from train.codec.layout import Opened
from train.config.command import parse
from train.config.outputs import out_folder
from train.errors import BadInput, Unreadable, reading, run
from train.modalities.files.stored import stored
from train.modalities.record import Record
from train.progress import progress
from train.runtime import hosts

FLAGS = {
    "bundle": (str, "the tokenizer that they were made with"),
    "out": (str, "the folder of the signals"),
    "force": (bool, "replace files that are there"),
    "missing": (bool, "leave files as they are that are there, and write the others"),
    "large": (bool, "take files that are far smaller than what they say they hold"),
}


def read_codes(
    opened: Opened, path: Path, large: bool = False
) -> tuple[Header, np.ndarray]:
    """(header, codes (tiles, places, books)) of a file, or BadInput that names it.

    large: of `unpack`.
    """
    try:
        data = stored(path)
        header, payload = unpack(data, large)
        most = math.inf if large else room(len(data))
        return header, _codes(opened, header, payload, most)
    except (BadInput, Unreadable, OSError) as error:
        raise BadInput(f"{path}: {error}") from error


def _codes(opened: Opened, header: Header, payload: bytes, most: float) -> np.ndarray:
    contract, prior = opened.contract, opened.prior
    mine = bundle_name(contract.fingerprint)
    if header.bundle != mine:
        raise BadInput(
            f"it was made with bundle {header.bundle.hex()}, --bundle is {mine.hex()}; "
            f"write the one it was made with"
        )
    if header.coder.needs_prior and (prior is None or prior.name != header.prior):
        have = "none" if prior is None else prior.name.hex()
        raise BadInput(
            f"it was coded under prior.npz {header.prior.hex()} and the bundle has "
            f"{have}; put the one that it was coded under into the bundle"
        )
    prefixes, books = opened.prefixes, header.books
    try:
        if header.kind != contract.kind or books > prefixes.count:
            raise ValueError(f"kind or {prefixes.word} are not the bundle's")
        layout = opened.layout_of(header)
        opened.check_channels(header.shape[-1])
        parts = layout.count * opened.data.count(header.shape[-1], contract.shape[-1])
        places = prefixes.places(layout.places, books)
        if parts * places * books > most:
            raise ValueError(f"{parts * places * books:,} codes are too many for it")
        alphabet = prefixes.alphabet(prior, books)
        codes = alphabet.decode(payload, parts, places, header.coder)
        if checksum_of_codes(codes) != header.codes:
            raise ValueError("its codes are not those that were written")
    except (ValueError, OverflowError, MemoryError) as error:
        raise BadInput(f"it cannot be decoded: {error}; compress it again") from error
    return codes


def signal_of(opened: Opened, path: Path, header: Header, codes: np.ndarray):
    """The content of the file that the codes stand for, or BadInput that names it."""
    try:
        with reading("it cannot be decoded"):
            values = opened.rebuild(header, codes)
            if values.shape != header.shape:
                raise ValueError(f"it is {values.shape}, and says {header.shape}")
            extra, suffix = header.extra, header.suffix
            record = Record(values, header.rate, suffix=suffix, extra=extra)
            return opened.data.write(record)
    except Unreadable as error:
        raise BadInput(f"{path}: {error}; compress it again") from error


def main(argv=None):
    hosts.alone()
    command = parse(argv, None, FLAGS, inputs=True, needed=("bundle", "out"))
    check_named(command.inputs)
    out_folder(command.flags["out"], there=True)
    opened = open_codec(command.flags["bundle"])
    paths = named_files(command.inputs, (SUFFIX,))
    with progress(paths, "reading") as bar:
        large = command.flags.get("large", False)
        found = [read_codes(opened, path, large) for path in bar]
    names = ((p, header.suffix) for p, (header, _) in zip(paths, found, strict=True))
    missing = command.flags.get("missing", False)
    outs = targets(command.flags["out"], names, command.force, missing)
    opened = opened.batched(max(opened.layout_of(header).count for header, _ in found))
    held = dict(zip(paths, found, strict=True))
    with progress(unwritten(paths, outs, missing), "decoding") as bar:
        for path, out in bar:
            header, codes = held.pop(path)
            write_content(out, signal_of(opened, path, header, codes))
            bar.write(f"{path} -> {out}")


if __name__ == "__main__":
    run(main)
