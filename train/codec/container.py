"""The .vqd file: what a signal was, which bundle coded it, its codes, a checksum.

    magic and version      5 bytes
    kind                   1, its place in KINDS, or OTHER, a varint and its name
    suffix                 the same, of the file it becomes again, in SUFFIXES
    bundle                 8, first bytes of the tokenizer's fingerprint
    shape                  varint, the number of axes, and a varint each: axes, channels
    rate                   varint, bytes of it (0 or 8), and a double: samples a second
    length                 varint, samples along the first axis as coded, 0 as in shape
    overlap                varint, samples that neighbouring tiles share
    books                  varint, how many were kept, or of how many scales
    coder                  1, model, power, and whether it passed whole (layout.py)
    prior                  4, its name, for a coder that needs one
    extra                  varint, bytes of it, and what else the kind keeps
    codes                  4, CRC-32 of the codes: another machine decodes the same
    payload                up to the checksum; zeros may follow it
    checksum               8, BLAKE2b of all before

Varints have seven bits a byte, low bits first; all else is little-endian. About 45
bytes beside payload and extra.
"""

import dataclasses
import hashlib
import io
import math
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.codec.coder import NAMES, Coder
from train.errors import BadInput
from vqdit.shapes import Int

MAGIC, VERSION = b"\x89VQD", 1
CHECKSUM = 8
OTHER = 255
# Values that a file stands for at most: so many, and so many a byte. Files of next to
# nothing, such as silence, are filled up with zeros to where that allows them.
FREE, RATIO = 2**25, 2**15
# Their order is part of the format; others are spelled. No suffix is a folder.
KINDS = ("image", "audio", "video", "series", "volume", "range")
SUFFIX = ".vqd"
SUFFIXES = (
    *(".png", ".wav", ".flac", ".gif", ".mp4", ".csv", ".npz", ".npy", ".parquet"),
    "",
)


@dataclasses.dataclass(frozen=True)
class Header:
    """What a .vqd file says before its payload; fields as in the module's text.

    bundle: the fingerprint's first 8 bytes. shape: of the original, channels last.
    rate, length: of the original, and as coded, which differ where it was resampled.
    prior: 4 bytes, empty for a coder that needs none.
    """

    kind: str
    suffix: str
    bundle: bytes
    shape: tuple[int, ...]
    books: int
    coder: Coder
    prior: bytes = b""
    rate: float = 0.0
    length: int = 0
    overlap: int = 0
    extra: bytes = b""
    codes: int = 0
    whole: bool = False

    @property
    def coded_shape(self) -> tuple[int, ...]:
        """The shape that was cut into tiles."""
        return (self.length or self.shape[0], *self.shape[1:])


def bundle_name(fingerprint: str) -> bytes:
    """What stands for a tokenizer in its files."""
    return bytes.fromhex(fingerprint)[:8]


def checksum_of_codes(codes: Int[np.ndarray, "tiles places m"]) -> int:
    """CRC-32 over the codes as little-endian int32."""
    return zlib.crc32(np.ascontiguousarray(codes, "<i4").tobytes())


def pack(header: Header, payload: bytes) -> bytes:
    """The whole file."""
    parts = [
        MAGIC,
        bytes([VERSION]),
        _word(header.kind, KINDS),
        _word(header.suffix, SUFFIXES),
        header.bundle,
        _varint(len(header.shape)),
        *map(_varint, header.shape),
        _sized(struct.pack("<d", header.rate) if header.rate else b""),
        _varint(header.length),
        _varint(header.overlap),
        _varint(header.books),
        bytes([header.coder.model | header.coder.power << 3 | header.whole << 7]),
        header.prior,
        _sized(header.extra),
        header.codes.to_bytes(4, "little"),
        payload,
    ]
    body = b"".join(parts)
    values = max(math.prod(header.shape), math.prod(header.coded_shape))
    body += bytes(max(0, -(-(values - FREE) // RATIO) - len(body) - CHECKSUM))
    return body + _digest(body)


def room(size: int) -> int:
    """How many values a file of this size may stand for, or be coded as."""
    return FREE + RATIO * size


def unpack(data: bytes, large: bool = False) -> tuple[Header, bytes]:
    """(header, payload) of a whole file, unaltered; BadInput says what else it is.

    large: whether it may stand for more values than its size bears out.
    """
    if not data.startswith(MAGIC):
        raise BadInput("this is no .vqd file; write one that train.compress made")
    # First of all, so that a damaged version or length is not taken at its word.
    if _digest(data[:-CHECKSUM]) != data[-CHECKSUM:]:
        raise BadInput("the file is cut short or altered; copy it again")
    reader = _Reader(data[len(MAGIC) : -CHECKSUM])
    try:
        if (version := reader.byte()) == VERSION:
            header, payload = _header(reader), reader.read()
            values = max(math.prod(header.shape), math.prod(header.coded_shape))
            if values > room(len(data)) and not large:
                raise BadInput(
                    f"it says that its {len(data):,} bytes are {values:,} values, more "
                    f"than such a file should be: write --large if you know it"
                )
            return header, payload
    except (IndexError, struct.error, OverflowError, UnicodeError) as error:
        raise BadInput("the file's header makes no sense; compress again") from error
    raise BadInput(f"the file has version {version}; this program reads {VERSION}")


def _header(reader: "_Reader") -> Header:
    fields: dict[str, Any] = {
        "kind": reader.word(KINDS),
        "suffix": reader.word(SUFFIXES),
        "bundle": reader.take(8),
        "shape": tuple(reader.varint() for _ in range(reader.varint())),
        "rate": reader.rate(),
        "length": reader.varint(),
        "overlap": reader.varint(),
        "books": reader.varint(),
    }
    packed = reader.byte()
    coder = Coder(packed & 7, packed >> 3 & 15)
    header = Header(
        **fields,
        coder=coder,
        whole=bool(packed >> 7),
        prior=reader.take(4) if coder.needs_prior else b"",
        extra=reader.sized(),
        codes=int.from_bytes(reader.take(4), "little"),
    )
    sensible = header.shape and 0 not in header.shape and header.books > 0
    timed = math.isfinite(header.rate) and header.rate >= 0
    timed = timed and (header.rate > 0 or not header.length)
    # It becomes part of a path.
    ends = re.fullmatch(r"(\.[A-Za-z0-9]{1,16}){0,3}", header.suffix)
    if not (sensible and timed and ends) or coder.model >= len(NAMES):
        raise IndexError
    return header


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()


def _word(word: str, known: Sequence[str]) -> bytes:
    if word in known:
        return bytes([known.index(word)])
    return bytes([OTHER]) + _sized(word.encode())


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


class _Reader(io.BytesIO):
    def take(self, count: int) -> bytes:
        found = self.read(count)
        if len(found) < count:
            raise IndexError
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def sized(self) -> bytes:
        return self.take(self.varint())

    def rate(self) -> float:
        packed = self.sized()
        return struct.unpack("<d", packed)[0] if packed else 0.0

    def word(self, known: Sequence[str]) -> str:
        at = self.byte()
        return self.sized().decode() if at == OTHER else known[at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 56:
                raise OverflowError
