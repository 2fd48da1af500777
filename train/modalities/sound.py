"""Recordings made alike: decoding, one channel, one rate, no silence, one level."""

import dataclasses
import io
import math
import struct
from typing import Annotated

import numpy as np
from jaxtyping import Float

from train.errors import Unreadable
from train.modalities.checked import Checked
from vqdit.fields import Bound, Positive

FRAME = 0.01  # seconds whose loudness decides what is silence
SILENT = 1e-9  # magnitude below which nothing is made loud


@dataclasses.dataclass(frozen=True)
class AudioCleaning(Checked):
    """What is done to a recording, in this order; None leaves a step out.

    dc:       take the mean off.
    trim:     decibels below the loudest 10 ms at which the start and the end of a
              recording are silence, and cut off; what lies between stays.
    peak:     largest magnitude afterwards, such as 0.9.
    loudness: RMS afterwards in dB of full scale, such as -23, or less where the largest
              magnitude would pass 1; instead of peak.
    """

    called = "clean"

    dc: bool = True
    trim: Positive | None = None
    peak: Annotated[float, Bound(above=0, at_most=1)] | None = 0.9
    loudness: Annotated[float, Bound(below=0)] | None = None

    def __post_init__(self):
        super().__post_init__()
        alone = self.peak is None or self.loudness is None
        self.check("peak", alone, "clean.loudness sets the level too; write None")

    def __call__(
        self, x: Float[np.ndarray, "l"], rate: float
    ) -> Float[np.ndarray, "n"]:
        """The cleaned recording, float32; silence stays silence."""
        x = np.asarray(x, np.float64)
        if self.dc:
            x = x - x.mean()
        if self.trim is not None:
            x = trimmed(x, rate, self.trim)
        # Rounding of the mean of a constant is no sound.
        silent = np.abs(x).max() < SILENT
        return (x * (0.0 if silent else self.gain(x))).astype(np.float32)

    def gain(self, x: Float[np.ndarray, "*b"]) -> float:
        """What brings a recording to its level; 1 for silence."""
        top = float(np.abs(x).max())
        if top >= SILENT and self.peak is not None:
            return self.peak / top
        if top >= SILENT and self.loudness is not None:
            level = math.sqrt(np.square(x, dtype=np.float64).mean())
            return min(10 ** (self.loudness / 20) / level, 1 / top)
        return 1.0


def trimmed(x: np.ndarray, rate: float, decibels: float) -> np.ndarray:
    """From the first to the last 10 ms that are within `decibels` of the loudest."""
    frame = max(1, round(rate * FRAME))
    energy = np.square(np.pad(x, (0, -len(x) % frame))).reshape(-1, frame).mean(1)
    heard = np.flatnonzero(energy >= energy.max() * 10 ** (-decibels / 10))
    return x[heard[0] * frame : (heard[-1] + 1) * frame]


def resampled(x: np.ndarray, rate: float, to: float) -> np.ndarray:
    """(l,) at another rate: polyphase, with a low-pass filter (scipy's Kaiser 5)."""
    if rate == to:
        return x
    from scipy.signal import resample_poly

    common = math.gcd(round(rate), round(to))
    return resample_poly(x, round(to) // common, round(rate) // common)


def one_channel(x: np.ndarray) -> Float[np.ndarray, "l"]:
    """(l,) or (l, c) -> the mean of the channels; integers are of 16 bits.

    Raises Unreadable where that is nothing.
    """
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x / 32768.0
    if x.ndim not in (1, 2) or not x.size:
        raise Unreadable(f"is {list(x.shape)}, which holds no sound")
    x = x.astype(np.float64)
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise Unreadable(f"has {bad} samples that are no finite numbers")
    return x if x.ndim == 1 else x.mean(1)


def decode_audio(encoded: bytes) -> tuple[Float[np.ndarray, "l c"], int]:
    """(samples, rate) of an encoded WAV, FLAC or OGG file, in [-1, 1].

    Raises Unreadable for anything else, a file that is cut short included.
    """
    import soundfile

    if encoded[:4] == b"RIFF" and len(encoded) >= 8:
        # libsndfile reads what there is of a WAV, and says nothing of the rest. A
        # stream's header leaves the size open: 0, or all ones.
        (size,) = struct.unpack("<I", encoded[4:8])
        if 0 < size < 2**32 - 256 and size + 8 > len(encoded):
            raise Unreadable(f"is cut short: {len(encoded)} bytes of {size + 8}")
    try:
        x, rate = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        kind = "a text file, and " if _text(encoded) else ""
        reason = " ".join(str(error).split()).split(": ")[-1]
        raise Unreadable(
            f"is {kind}not a whole WAV, FLAC or OGG file ({reason})"
        ) from error
    if not len(x):
        raise Unreadable("holds no samples")
    return x, int(rate)


def _text(encoded: bytes) -> bool:
    try:
        return encoded[:512].decode("utf-8").isprintable() or b"\n" in encoded[:512]
    except UnicodeDecodeError:
        return False
