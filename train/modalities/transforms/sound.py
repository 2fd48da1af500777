"""Recordings made alike: one channel, one rate, no silence, one level."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from train.errors import Unreadable
from train.modalities.files.stored import LARGEST_GROWTH, check_growth
from train.modalities.settings import DataSettings
from vqdit.fields import Bound, Positive
from vqdit.shapes import Float

FRAME = 0.01  # seconds whose loudness decides what is silence
# Magnitude below which nothing is made loud, in steps of what a file's samples can
# hold: dither reaches two.
SILENT = 2.5
TOLD = 0.01  # of full scale, the least mean that is worth a line


@dataclasses.dataclass(frozen=True)
class AudioCleaning(DataSettings):
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
        self, x: Float[np.ndarray, "l"], rate: float, step: float = 2.0**-31
    ) -> Float[np.ndarray, "n"]:
        """The cleaned recording, float32; silence stays silence.

        step: what its samples were rounded to, which is no sound.
        """
        x = np.asarray(x, np.float64)
        if self.dc:
            x = x - x.mean()
        if self.trim is not None:
            x = trimmed(x, rate, self.trim)
        silent = np.abs(x).max() < SILENT * step
        return (x * (0.0 if silent else self.gain(x, step))).astype(np.float32)

    def gain(self, x: Float[np.ndarray, "*b"], step: float = 2.0**-31) -> float:
        """What brings a recording to its level; 1 for silence."""
        top = float(np.abs(x).max())
        if top < SILENT * step:
            return 1.0
        if self.peak is not None:
            return self.peak / top
        if self.loudness is not None:
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
    """(l, ...) at another rate: polyphase, with a low-pass filter (scipy's Kaiser 5).

    Raises Unreadable where the rate is none, or would make far more samples.
    """
    if rate == to:
        return x
    said = f"states a rate of {rate:g} a second"
    if not 1 <= rate <= LARGEST_GROWTH * to:  # of more the filter alone is too long
        raise Unreadable(f"{said}, where data.rate={to:g}")
    check_growth(len(x) * to / rate, len(x), said)
    from scipy.signal import resample_poly

    common = math.gcd(round(rate), round(to))
    return resample_poly(x, round(to) // common, round(rate) // common)


def one_channel(x: np.ndarray) -> Float[np.ndarray, "l"]:
    """(l,) or (l, c) -> the mean of the channels; integers are of 16 bits.

    Raises Unreadable where that is nothing.
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or not x.size:
        raise Unreadable(f"is {list(x.shape)}, which holds no sound")
    if x.dtype.kind != "f":
        if max(-int(x.min()), int(x.max())) > 32768:
            raise Unreadable("has integers of more than 16 bits; write floats")
        x = x / 32768.0
    x = x.astype(np.float64)
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise Unreadable(f"has {bad} samples that are no finite numbers")
    return x if x.ndim == 1 else x.mean(1)


def alike_findings(was: Sequence[Mapping[str, float]]) -> dict[str, list[Any]]:
    """Of how many recordings "rates" and "channels" were others; the largest mean that
    was taken off, "mean_to", and of their lengths the "cut_share". None where nothing
    was done.

    was: of each its "rate" and "channels" where these were others, its "mean", and the
        share "cut" off.
    """
    found: dict[str, list[Any]] = {}
    for name, word in (("rates", "rate"), ("channels", "channels")):
        others = Counter(each[word] for each in was if word in each)
        if others:
            counts = others.most_common()
            found[name] = [f"{n} of {len(was)}: {x:g}" for x, n in counts]
    if mean := max((each.get("mean", 0.0) for each in was), default=0.0):
        found["mean_to"] = [mean]
    if cut := float(np.mean([each.get("cut", 0.0) for each in was] or [0.0])):
        found["cut_share"] = [cut]
    return found


def alike_lines(findings: Mapping[str, list[Any]], rate: float) -> Iterator[str]:
    """A line for each way in which recordings are not as they were stored."""
    for name, done in (
        ("rates", f"samples a second, brought to {rate:g}"),
        ("channels", "channels, which are averaged"),
    ):
        for found in findings.get(name, ()):
            count, _, value = found.partition(": ")
            yield f"recordings of {value} {done}: {count}"
    (mean,) = findings.get("mean_to", [0.0])
    if mean > TOLD:
        yield (
            f"means to {mean:.2g} of full scale are taken off recordings; they stay "
            "with data.clean.dc=False"
        )
    (cut,) = findings.get("cut_share", [0.0])
    if cut >= 1e-4:
        yield f"silence at the ends of recordings is cut off, {cut:.2%} of their length"
