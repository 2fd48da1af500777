"""Sound files: WAV, FLAC, OGG, MP3 and others, decoded whole."""

import io
import struct
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.files.limits import check_decoded
from vqdit.shapes import Float

# Steps of what a file's samples can hold, by libsndfile's names; of compressed sound
# and all else that of 16 bits.
STEPS = {"PCM_24": 2.0**-23, "PCM_32": 2.0**-31, "FLOAT": 2.0**-31, "DOUBLE": 2.0**-31}
STEPS |= {"PCM_S8": 2.0**-7, "PCM_U8": 2.0**-7, "ULAW": 2.0**-12, "ALAW": 2.0**-12}
STEP = 2.0**-15


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
            size = 4 * file.frames * file.channels
            check_decoded(size, have, advice="cut it into shorter ones")
            x = file.read(dtype="float32", always_2d=True)
            rate, step = int(file.samplerate), STEPS.get(file.subtype, STEP)
    except (BadInput, Unreadable):
        raise
    except Exception as error:  # a header may also ask for more memory than there is
        kind = "a text file, and " if _text(encoded) else ""
        reason = " ".join(str(error).split()).split(": ")[-1]
        raise Unreadable(f"is {kind}not a whole sound file ({reason})") from error
    if not len(x):
        raise Unreadable("holds no samples")
    return x, rate, step


def open_sound(encoded: bytes) -> Any:
    """A file as libsndfile has it, which raises anything on a broken one."""
    import soundfile  # slow to import

    return soundfile.SoundFile(io.BytesIO(encoded))


def _end_of(encoded: bytes) -> int:
    """Where the samples of a WAV file end, by its own word; 0 where nothing says it.

    libsndfile reads what there is, and says nothing of the rest. The size of the whole
    is often wrong by a byte or more and decides nothing; a stream's header leaves that
    of the samples open: 0, or all ones.
    """
    at = 12
    while encoded[:4] == b"RIFF" and at + 8 <= len(encoded):
        name, size = struct.unpack("<4sI", encoded[at : at + 8])
        if name == b"data":
            return at + 8 + size if size < 2**32 - 256 else 0
        at += 8 + size + size % 2
    return 0


def _text(encoded: bytes) -> bool:
    try:
        return encoded[:512].decode("utf-8").isprintable() or b"\n" in encoded[:512]
    except UnicodeDecodeError:
        return False
