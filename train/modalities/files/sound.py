"""Sound files: WAV, FLAC, OGG, MP3 and others, decoded whole."""

import io
import itertools
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.files.ends import end_of_sound, tell_open
from train.modalities.files.limits import check_decoded
from vqdit.shapes import Float

# Steps of what a file's samples can hold, by libsndfile's names; of compressed sound
# and all else that of 16 bits.
STEPS = {"PCM_24": 2.0**-23, "PCM_32": 2.0**-31, "FLOAT": 2.0**-31, "DOUBLE": 2.0**-31}
STEPS |= {"PCM_S8": 2.0**-7, "PCM_U8": 2.0**-7, "ULAW": 2.0**-12, "ALAW": 2.0**-12}
STEP = 2.0**-15
UNKNOWN = 2**63 - 1  # samples by libsndfile, of what was written into a pipe
# Of the samples that a file says it has, so many may be missing.
LOST = 0.01
SHORTER = "cut it into shorter ones"


def decode_audio(encoded: bytes) -> tuple[Float[np.ndarray, "l c"], int, float]:
    """(samples in about [-1, 1], rate, the step of its samples) of an encoded WAV,
    FLAC, OGG, MP3 or other file that libsndfile reads.

    Raises Unreadable for anything else, a file that is cut short included.
    """
    have, end = len(encoded), end_of_sound(encoded)
    if have < end:
        raise Unreadable(f"is cut short: {have} bytes of {end}")
    try:
        with open_sound(encoded) as file:
            rate, step = int(file.samplerate), STEPS.get(file.subtype, STEP)
            form, open_ended = file.format, file.frames == UNKNOWN
            if open_ended or _guessed(file.subtype, encoded):
                x, open_ended = _by_ffmpeg(encoded), True
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
    # These two say how many samples they have; of others that is made of their size.
    if open_ended or not end and form not in ("FLAC", "MP3"):
        tell_open(form)
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
    with av.open(io.BytesIO(encoded), "r") as file:
        for frame in itertools.chain(file.decode(audio=0), [None]):
            parts = [part.to_ndarray() for part in floats.resample(frame)]
            found += parts
            size += sum(part.nbytes for part in parts)
            check_decoded(size, len(encoded), advice=SHORTER)
    return np.concatenate(found, axis=1).T if found else np.zeros((0, 1), np.float32)


def _guessed(subtype: str, encoded: bytes) -> bool:
    """Whether it is MP3, also in a WAV file, that does not say in the place of its
    first frame how many it has."""
    if not subtype.startswith("MPEG"):
        return False
    at = 0
    if encoded[:3] == b"ID3":
        at = 10 + sum(x << 7 * i for i, x in enumerate(encoded[9:5:-1]))
    first = encoded[at : at + 64]
    return not any(tag in first for tag in (b"Xing", b"Info", b"VBRI"))


def _text(encoded: bytes) -> bool:
    try:
        return encoded[:512].decode("utf-8").isprintable() or b"\n" in encoded[:512]
    except UnicodeDecodeError:
        return False
