"""Where what counts in a file ends, by the file's own word, so that one which is cut
short is told from a whole one: libraries read what there is.

0 is where nothing says it. The size of the whole is often wrong by a byte or more and
decides nothing; that of the samples, or frames, does. A stream's header leaves it open:
0, or all ones.
"""

import struct
from typing import BinaryIO

from train.errors import Unreadable
from train.modalities.files.stored import File, opened_file, size_of

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
}
# Chunks of a film that are looked at; most AVI files have two or three before their
# frames, an hour of Matroska a thousand of frames.
MOST_CHUNKS = {"avi": 1000, "matroska": 10_000, "mov": 10_000}
SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"  # of Matroska


def check_film(path: File, kind: str) -> None:
    """Raises Unreadable where a film ends before its frames do. kind: of FFmpeg's."""
    if kind not in FILMS:
        return
    have = size_of(path)
    with opened_file(path) as file:
        end = FILMS[kind](file, have, MOST_CHUNKS[kind])
    if have < end:
        raise Unreadable(f"is cut short: {have} bytes of {end}")


def _said(size: int) -> bool:
    """Whether a size of 32 bits is one."""
    return 0 < size < OPEN and size != SOX


def _end_of_avi(file: BinaryIO, _: int, most: int) -> int:
    """Of its first part."""
    at = 12
    for _ in range(most):
        file.seek(at)
        if len(head := file.read(12)) < 12:
            break
        name, size, form = struct.unpack("<4sI4s", head)
        if name == b"LIST" and form == b"movi":
            return at + 8 + size if _said(size) else 0
        at += 8 + size + size % 2
    return 0


def _end_of_mp4(file: BinaryIO, have: int, most: int) -> int:
    """Of all boxes of frames: there are many where it was written piece by piece."""
    at = end = 0
    for _ in range(most):
        file.seek(at)
        if at >= have or len(head := file.read(16)) < 8:
            break
        size, name = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8:  # 0: it goes on to the end
            break
        at += size
        end = at if name in (b"mdat", b"moof") else end
    return end if end < UNKNOWN else 0


def _end_of_matroska(file: BinaryIO, have: int, most: int) -> int:
    at = end = 0
    for _ in range(most):
        file.seek(at)
        head = file.read(12)
        name, size, begin = _element(head)
        if at >= have or not begin:
            break
        if name == SEGMENT:  # what follows lies inside
            at += begin
            continue
        if size is None:
            break
        at += begin + size
        end = at if name == CLUSTER else end
    return end


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


# By FFmpeg's names.
FILMS = {"avi": _end_of_avi, "matroska": _end_of_matroska, "mov": _end_of_mp4}


def end_of_sound(encoded: bytes) -> int:
    """Of an encoded file."""
    kind = encoded[:4]
    if kind == b"OggS":
        return _end_of_pages(encoded)
    if kind in (b".snd", b"dns.") and len(encoded) >= 12:
        order = ">" if kind == b".snd" else "<"
        start, size = struct.unpack(order + "II", encoded[4:12])
        return start + size if _said(size) else 0
    if kind == b"riff":  # names of 16 bytes, and sizes with their own
        at = 40
        while at + 24 <= len(encoded):
            (size,) = struct.unpack("<Q", encoded[at + 16 : at + 24])
            if encoded[at : at + 4] == b"data":
                return at + size if 24 < size < UNKNOWN else 0
            at += max(24, size + -size % 8)
        return 0
    return _end_of_chunks(encoded, *CHUNKED[kind]) if kind in CHUNKED else 0


def _end_of_chunks(encoded: bytes, at: int, begins: str, samples: bytes) -> int:
    head, large = struct.calcsize(begins), 0
    while at + head <= len(encoded):
        name, size = struct.unpack(begins, encoded[at : at + head])
        if name == samples:
            said = _said(size) if head == 8 else 0 < size < UNKNOWN
            return at + head + (large or size) if large or said else 0
        if name == b"ds64" and at + 24 <= len(encoded):  # of RF64, what 32 bits cannot
            (large,) = struct.unpack("<Q", encoded[at + 16 : at + 24])
        at += head + max(0, size) + (size % 2 if head == 8 else 0)
    return 0


def _end_of_pages(encoded: bytes) -> int:
    """Of an Ogg stream, as many as stand one behind the other."""
    at = 0
    while at < len(encoded) and encoded[at : at + 4] == b"OggS"[: len(encoded) - at]:
        if at + 27 > len(encoded):
            return at + 27
        segments = encoded[at + 26]
        sizes = encoded[at + 27 : at + 27 + segments]
        at += 27 + segments + sum(sizes)
    return at
