"""Sound files: WAV, FLAC, OGG, MP3 and others, decoded whole."""

import io
import itertools
import struct
from typing import Any

import numpy as np
from jaxtyping import Float

from train.errors import BadInput, Unreadable
from train.modalities.files.limits import check_decoded

# Steps of what a file's samples can hold, by libsndfile's names; of compressed sound
# and all else that of 16 bits.
STEPS = {"PCM_24": 2.0**-23, "PCM_32": 2.0**-31, "FLOAT": 2.0**-31, "DOUBLE": 2.0**-31}
STEPS |= {"PCM_S8": 2.0**-7, "PCM_U8": 2.0**-7, "ULAW": 2.0**-12, "ALAW": 2.0**-12}
STEP = 2.0**-15
# What a header says where it was written before the length was known: frames of
# libsndfile's, and bytes, of which some writers leave out a few.
UNKNOWN, OPEN = 2**63 - 1, 2**32 - 256
# Files of chunks: where these begin, how they do, and the name of the one with the
# samples.
CHUNKED = {
    b"RIFF": (12, "<4sI", b"data"),
    b"RIFX": (12, ">4sI", b"data"),
    b"RF64": (12, "<4sI", b"data"),
    b"FORM": (12, ">4sI", b"SSND"),
    b"caff": (8, ">4sq", b"data"),
}
# Of the samples that a file says it has, so many may be missing.
LOST = 0.01
SHORTER = "cut it into shorter ones"


def decode_audio(encoded: bytes) -> tuple[Float[np.ndarray, "l c"], int, float]:
    """(samples in about [-1, 1], rate, the step of its samples) of an encoded WAV,
    FLAC, OGG, MP3 or other file that libsndfile reads.

    Raises Unreadable for anything else, a file that is cut short included.
    """
    have, end = len(encoded), _end_of(encoded)
    if have < end:
        raise Unreadable(f"is cut short: {have} bytes of {end}")
    try:
        with open_sound(encoded) as file:
            rate, step = int(file.samplerate), STEPS.get(file.subtype, STEP)
            if file.frames == UNKNOWN or file.format == "MP3" and not _counted(encoded):
                x = _by_ffmpeg(encoded)
            else:
                size = 4 * file.frames * file.channels
                check_decoded(size, have, advice=SHORTER)
                x = file.read(dtype="float32", always_2d=True)
                if len(x) < (1 - LOST) * file.frames:
                    said = f"{len(x)} samples of {file.frames}"
                    raise Unreadable(f"is cut short: {said}")
    except (BadInput, Unreadable):
        raise
    except Exception as error:  # a header may also ask for more memory than there is
        kind = "a text file, and " if _text(encoded) else ""
        kind = kind if encoded else "an empty file, and "
        told = getattr(error, "strerror", None) or str(error)
        reason = " ".join(told.split()).split(": ")[-1]
        raise Unreadable(f"is {kind}not a whole sound file ({reason})") from error
    if not len(x):
        raise Unreadable("holds no samples")
    return x, rate, step


def open_sound(encoded: bytes) -> Any:
    """A file as libsndfile has it, which raises anything on a broken one."""
    import soundfile  # slow to import

    return soundfile.SoundFile(io.BytesIO(encoded))


def _by_ffmpeg(encoded: bytes) -> Float[np.ndarray, "l c"]:
    """To the end, wherever it is: libsndfile stops where it takes the end to be, and
    that of an MP3 which does not say it is a guess from its first frames."""
    import av  # slow to import, and of use only here

    found, size, floats = [], 0, av.AudioResampler("fltp")
    with av.open(io.BytesIO(encoded)) as file:
        for frame in itertools.chain(file.decode(audio=0), [None]):
            parts = [part.to_ndarray() for part in floats.resample(frame)]
            found += parts
            size += sum(part.nbytes for part in parts)
            check_decoded(size, len(encoded), advice=SHORTER)
    return np.concatenate(found, axis=1).T if found else np.zeros((0, 1), np.float32)


def _counted(encoded: bytes) -> bool:
    """Whether an MP3 says how many frames it has, in the place of its first one."""
    at = 0
    if encoded[:3] == b"ID3":
        at = 10 + sum(x << 7 * i for i, x in enumerate(encoded[9:5:-1]))
    first = encoded[at : at + 64]
    return any(tag in first for tag in (b"Xing", b"Info", b"VBRI"))


def _end_of(encoded: bytes) -> int:
    """Where the samples of a file end, by its own word; 0 where nothing says it.

    libsndfile reads what there is, and says nothing of the rest. The size of the whole
    is often wrong by a byte or more and decides nothing; a stream's header leaves that
    of the samples open: 0, or all ones.
    """
    kind = encoded[:4]
    if kind == b"OggS":
        return _end_of_pages(encoded)
    if kind in (b".snd", b"dns.") and len(encoded) >= 12:
        order = ">" if kind == b".snd" else "<"
        start, size = struct.unpack(order + "II", encoded[4:12])
        return start + size if size < OPEN else 0
    if kind == b"riff":  # names of 16 bytes, and sizes with their own
        at = 40
        while at + 24 <= len(encoded):
            (size,) = struct.unpack("<Q", encoded[at + 16 : at + 24])
            if encoded[at : at + 4] == b"data":
                return at + size if 24 < size < 2**63 else 0
            at += max(24, size + -size % 8)
        return 0
    return _end_of_chunks(encoded, *CHUNKED[kind]) if kind in CHUNKED else 0


def _end_of_chunks(encoded: bytes, at: int, begins: str, samples: bytes) -> int:
    head, large = struct.calcsize(begins), 0
    while at + head <= len(encoded):
        name, size = struct.unpack(begins, encoded[at : at + head])
        if name == samples:
            open_end = not large and not 0 < size < (OPEN if head == 8 else UNKNOWN)
            return 0 if open_end else at + head + (large or size)
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


def _text(encoded: bytes) -> bool:
    try:
        return encoded[:512].decode("utf-8").isprintable() or b"\n" in encoded[:512]
    except UnicodeDecodeError:
        return False
