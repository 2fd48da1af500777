"""Where what counts in a file ends, by the file's own word, so that one which is cut
short is told from a whole one: libraries read what there is.

0 is where nothing says it, which is told once a form. The size of the whole is often
wrong by a byte or more and decides nothing; that of the samples, or frames, does. A
stream's header leaves it open: 0, or all ones.
"""

import functools
import io
import logging
import math
import re
import struct
import zlib
from typing import BinaryIO

from train.errors import Unreadable
from train.modalities.files.stored import File, opened_file, size_of

log = logging.getLogger(__name__)

# Sizes that say that a file was written before its length was known: those from OPEN
# on, since some writers leave out a few bytes, and what SoX writes; of 64 bits UNKNOWN.
OPEN, SOX, UNKNOWN = 2**32 - 256, 0x7FFFF000, 2**63 - 1
# Sound in chunks: where these begin, how they do, and the name of the one with the
# samples.
CHUNKED = {
    b"RIFF": (12, "<4sI", b"data"),
    b"RIFX": (12, ">4sI", b"data"),
    b"RF64": (12, "<4sI", b"data"),
    b"FORM": (12, ">4sI", b"SSND"),
    b"caff": (8, ">4sq", b"data"),
    b"riff": (40, "<4s12xQ", b"data"),  # of names of 16 bytes
}
# Chunks of a film that are looked at; most AVI files have two or three before their
# frames, an hour of Matroska a thousand of frames.
MOST_CHUNKS = {"avi": 1000, "matroska": 10_000, "mov": 10_000}
# Of Matroska; blocks of frames count where their cluster does not say its size.
SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
FRAMES = (CLUSTER, b"\xa3", b"\xa0")
# Of MPEG: what begins a pack and ends all, and how much of a file's end is looked at,
# several times the longest packet; bytes of a packet of a transport stream and, among
# them, of the time before it.
PACK, MPEG_END, TAIL = b"\0\0\1\xba", b"\0\0\1\xb9", 2**20
TRANSPORT = {188: 0, 192: 4, 204: 0}
# Of an Ogg page's third word: it is its stream's first, its last.
FIRST, LAST = 2, 4
# Bytes with their bits in reverse, by which zlib's checksum becomes Ogg's.
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_film(path: File, kind: str) -> None:
    """Raises Unreadable where a film ends before its frames do. kind: of FFmpeg's."""
    have, end = size_of(path), 0
    if kind in FILMS:
        with opened_file(path) as file:
            end = FILMS[kind](file, have, MOST_CHUNKS.get(kind, 0))
    if have < end:
        raise Unreadable(f"is cut short: {have} bytes of {end}")
    if not end:
        tell_open(kind)


@functools.cache  # once a form
def tell_open(kind: str) -> None:
    """Says that files of a form are taken for whole, since nothing says their end."""
    log.warning(
        "%s files that do not say where they end are read as far as they go: one that "
        "is cut short is not noticed",
        kind,
    )


def _said(size: int) -> bool:
    """Whether a size of 32 bits is one."""
    return 0 < size < OPEN and size != SOX


def _end_of_mp4(file: BinaryIO, have: int, most: int) -> int:
    """Of all boxes of frames: there are many where it was written piece by piece."""
    at = end = 0
    for _ in range(most):
        file.seek(min(at, have))
        if len(head := file.read(16)) < 8:
            return end if end < UNKNOWN else 0
        size, name = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8:  # 0: it goes on to the end
            break
        at += size
        end = at if name in (b"mdat", b"moof") else end
    return 0


def _end_of_matroska(file: BinaryIO, have: int, most: int) -> int:
    at = end = 0
    for _ in range(most):
        file.seek(min(at, have))
        name, size, begin = _element(file.read(12))
        if not begin:
            return end
        if name == SEGMENT or name == CLUSTER and size is None:
            at += begin  # what follows lies inside
            continue
        if size is None:
            break
        at += begin + size
        end = at if name in FRAMES else end
    return 0


def _element(head: bytes) -> tuple[bytes, int | None, int]:
    """(name, size, None where it is open, bytes of both, 0 where there is none)."""
    name = 9 - head[0].bit_length() if head else 9
    if name > 4 or len(head) <= name:
        return b"", None, 0
    length = 9 - head[name].bit_length()
    if length > 8 or len(head) < name + length:
        return b"", None, 0
    most = 2 ** (7 * length) - 1
    size = int.from_bytes(head[name : name + length]) & most
    return head[:name], None if size == most else size, name + length


def _end_of_packs(file: BinaryIO, have: int, _: int) -> int:
    """Of an MPEG program stream: of its last packet where that is cut, and of the whole
    where a code ends it."""
    file.seek(max(0, have - TAIL))
    tail = file.read()
    at = tail.rfind(PACK)
    while 0 <= at and at + 6 <= len(tail) and tail[at : at + 3] == PACK[:3]:
        if tail[at : at + 4] == MPEG_END:
            return have
        if tail[at : at + 4] != PACK:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6])
        elif tail[at + 4] >> 6 == 1:  # of MPEG-2
            at += 14 + (tail[at + 13] & 7 if at + 13 < len(tail) else 0)
        else:
            at += 12
    if tail[at : at + 4] == MPEG_END:
        return have
    return have + at - len(tail) if at > len(tail) else 0


def _end_of_transport(file: BinaryIO, have: int, _: int) -> int:
    """Of its last packet, where that is cut."""
    head = file.read(6 * max(TRANSPORT))
    for size, before in TRANSPORT.items():
        for at in range(size):
            if head[at : at + 5 * size : size] == b"G" * 5:
                over = (have - at + before) % size
                return have + size - over if over else 0
    return 0


def _end_of_ogg(file: BinaryIO, _: int, __: int) -> int:
    """Of pages, where the last one of each stream says that it is, or is cut. Raises
    Unreadable where one is damaged or missing, which decoders pass over, and where
    streams stand one behind the other, of which they may take the first."""
    at, begun, last = 0, False, set[int]()
    pages: dict[int, tuple[int, bool]] = {}  # of each stream the last
    while (head := file.read(27))[:4] == b"OggS"[: len(head)] and head:
        sizes = file.read(head[26]) if len(head) == 27 else b""
        page = head + sizes + file.read(sum(sizes))
        end = at + 27 + (head[26] if len(head) == 27 else 0) + sum(sizes)
        if at + len(page) < end:
            return end
        kind, place, serial, number, checksum = struct.unpack("<BqIII", head[5:26])
        if _checksum(head[:22] + bytes(4) + page[26:]) != checksum:
            raise Unreadable(f"is damaged: its page at byte {at} has another checksum")
        if kind & FIRST and begun:
            raise Unreadable(
                "holds several streams, one behind the other; write a file of each"
            )
        begun |= not kind & FIRST
        # What was caught of a broadcast has its headers, and then goes on anywhere.
        before, sounded = pages.get(serial, (number - 1, False))
        if sounded and number != before + 1:
            raise Unreadable(f"lacks pages before byte {at}")
        pages[serial] = number, place != 0
        last |= {serial} if kind & LAST else set()
        at = end
    if b"OggS" in head + file.read():
        raise Unreadable(f"is damaged: no page is where one ought to be, at byte {at}")
    return at if last == pages.keys() else 0


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32: zlib's with the bits of all bytes, and its own, in reverse, from 0
    and not inverted."""
    ones = 2**32 - 1
    return int(f"{zlib.crc32(page.translate(REVERSED), ones) ^ ones:032b}"[::-1], 2)


# By FFmpeg's names.
FILMS = {
    # Of its first part.
    "avi": lambda file, _, most: _end_of_chunks(file, most, 12, "<4sI", b"LISTmovi"),
    "matroska": _end_of_matroska,
    "mov": _end_of_mp4,
    "mpeg": _end_of_packs,
    "mpegts": _end_of_transport,
    "ogg": _end_of_ogg,
}


def end_of_sound(encoded: bytes) -> int:
    """Of an encoded file."""
    kind = encoded[:4]
    if kind == b"OggS":
        return _end_of_ogg(io.BytesIO(encoded), len(encoded), 0)
    if kind == b"NIST":
        return _end_of_sphere(encoded)
    if kind in (b".snd", b"dns.") and len(encoded) >= 12:
        order = ">" if kind == b".snd" else "<"
        start, size = struct.unpack(order + "II", encoded[4:12])
        return start + size if _said(size) else 0
    if kind not in CHUNKED:
        return 0
    return _end_of_chunks(io.BytesIO(encoded), len(encoded), *CHUNKED[kind])


def _end_of_chunks(
    file: BinaryIO, most: int, at: int, begins: str, samples: bytes
) -> int:
    """Of the chunk that is called and goes on so, among so many."""
    head, large = struct.calcsize(begins), 0
    for _ in range(most):
        file.seek(min(at, UNKNOWN))  # a size of 64 bits may lead anywhere
        if len(begin := file.read(24)) < head:
            break
        name, size = struct.unpack(begins, begin[:head])
        size -= head if head == 24 else 0  # which count in these
        if name == samples[:4] and begin[head:].startswith(samples[4:]):
            said = _said(size) if head == 8 else 0 < size < UNKNOWN
            return at + head + (large or size) if large or said else 0
        if name == b"ds64" and len(begin) == 24:  # of RF64, what 32 bits cannot
            (large,) = struct.unpack("<Q", begin[16:])
        at += head + max(0, size) + -size % {8: 2, 12: 1, 24: 8}[head]
    return 0


def _end_of_sphere(encoded: bytes) -> int:
    """Of NIST SPHERE, whose header is lines of a name, a type and a value."""
    said = re.findall(rb"(?m)^(\w+) -\w+ (\d{1,18})$", encoded[:1024])
    size = re.match(rb"NIST_1A\n *(\d{1,9})\n", encoded)
    numbers = {name: int(value) for name, value in said}
    names = b"sample_count", b"channel_count", b"sample_n_bytes"
    if not size or not all(map(numbers.get, names)):
        return 0
    return int(size[1]) + math.prod(numbers[name] for name in names)
