"""Cleaning of series: gaps, outliers, dead channels.

Plain functions of arrays. A series is (t, c), time first; "known" is a mask of the same
shape that is True where a value was measured and is to be believed.
"""

import dataclasses
from typing import Literal

import numpy as np

from train.modalities.settings import DataSettings
from vqdit.fields import Natural, Positive
from vqdit.shapes import Bool, Float

Fill = Literal["linear", "previous", "mean", "zero"]
Outliers = Literal["clip", "missing", "keep"]

# Standard deviation of a normal variable over its median and its mean absolute
# deviation, so that a robust z-score reads like an ordinary one.
OF_MEDIAN, OF_MEAN = 1.482602218505602, 1.2533141373155001
# Of a normal variable: from its 95 % quantile to six standard deviations, over the way
# from its 5 % to its 95 % quantile.
BEYOND_TENTHS = (6 / 1.6448536269514722 - 1) / 2
FEW = 5  # values, of which less say nothing of each other
WINDOWED = 2**20  # values in windows that are judged together


@dataclasses.dataclass(frozen=True)
class Cleaning(DataSettings):
    """What is done to a series before anything learns from it.

    fill:     how gaps, NaN and infinities are filled: "linear" and "previous" hold the
              first and last known value at the edges, "mean" is the channel's own,
              "zero" is what no cleaning at all would give.
    outliers: values whose robust z-score is beyond `limit` are clipped to it, marked
              missing and filled, or kept.
    limit:    robust standard deviations from the median.
    window:   samples around each one whose median and spread judge it; 0: the whole
              series.
    """

    called = "cleaning"

    fill: Fill = "linear"
    outliers: Outliers = "clip"
    limit: Positive = 6.0
    window: Natural = 0

    def __post_init__(self):
        super().__post_init__()
        enough = self.window == 0 or self.window >= 5
        self.check("window", enough, "write 5 samples or more, or 0 for all")


# What is left to do where nothing is to be cleaned: a gap cannot be trained on as NaN.
UNCLEANED = Cleaning(fill="zero", outliers="keep")


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A series without holes, and what was found in it.

    values:   (t, c) float32, all finite.
    known:    (t, c) True where the value was measured and kept, clipped or not.
    missing:  share of values that were not finite, per channel.
    outliers: share of the measured values beyond the limit, per channel.
    limits:   (lowest, highest) value within it, per channel, in the channel's own unit;
              with a window the widest there are.
    constant: channels that never change, or hold nothing at all.
    """

    values: Float[np.ndarray, "t c"]
    known: Bool[np.ndarray, "t c"]
    missing: tuple[float, ...]
    outliers: tuple[float, ...]
    constant: tuple[bool, ...]
    limits: tuple[tuple[float, float], ...] = ()


def clean(x: Float[np.ndarray, "t c"], cleaning: Cleaning) -> Cleaned:
    """A series with its outliers treated and its gaps filled."""
    x = np.asarray(x, np.float64)
    known = np.isfinite(x)
    still = constant(x, known)
    far = np.zeros(x.shape, bool)
    missing = (~known).mean(0)
    limits: tuple[tuple[float, float], ...] = ()
    if cleaning.outliers != "keep":
        center, spread = robust_scale(x, known, cleaning.window)
        reach = cleaning.limit * spread
        with np.errstate(invalid="ignore"):  # what is not known may be infinite
            far = known & (np.abs(x - center) > reach)
        ends = ((center - reach).min(0), (center + reach).max(0))
        low, high = (end.tolist() for end in ends)
        limits = tuple(zip(low, high, strict=True))
        if cleaning.outliers == "clip":
            x = np.where(far, np.clip(x, center - reach, center + reach), x)
    outliers = far.sum(0) / np.maximum(known.sum(0), 1)
    if cleaning.outliers == "missing":
        known = known & ~far
    values = fill(x, known, cleaning.fill).astype(np.float32)
    return Cleaned(
        values,
        known,
        tuple(map(float, missing)),
        tuple(map(float, outliers)),
        tuple(map(bool, still)),
        limits,
    )


def fill(
    x: Float[np.ndarray, "t c"], known: Bool[np.ndarray, "t c"], rule: Fill = "linear"
) -> Float[np.ndarray, "t c"]:
    """Values of `x` where known, and by the rule of `Cleaning.fill` elsewhere.

    A channel of which nothing is known becomes 0.
    """
    filled = np.where(known, x, 0.0)
    if rule == "zero":
        return filled
    places = np.arange(len(x))
    for channel in range(x.shape[1]):
        here = known[:, channel]
        if here.all() or not here.any():
            continue
        at, values = places[here], x[here, channel]
        match rule:
            case "linear":
                found = np.interp(places, at, values)
            case "previous":
                last = np.searchsorted(at, places, side="right") - 1
                found = values[np.maximum(last, 0)]
            case _:  # "mean"
                found = np.where(here, filled[:, channel], values.mean())
        filled[:, channel] = found
    return filled


def robust_scale(
    x: Float[np.ndarray, "t c"], known: Bool[np.ndarray, "t c"], window: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(center, spread) that broadcast over x: median and 1.4826 MAD.

    Where half of the values are equal the MAD is 0 and says nothing, so 1.2533 times
    the mean absolute deviation from the median stands in (Iglewicz and Hoaglin 1993);
    that is 0 only where all are equal. Where what differs from that value is enough to
    be judged by itself, as of rain, counts or events, the spread is a sixth of `_reach`
    at least. window: of this many samples, made odd, around each one, shorter at the
    edges; 0 is one center and spread a channel.
    """
    holes = np.where(known, x, np.nan)
    if not window:
        center, spread = _center_and_spread(np.ascontiguousarray(holes.T))
        return center[None], spread[None]
    half = window // 2
    padded = np.pad(holes, ((half, half), (0, 0)), constant_values=np.nan)
    center, spread = np.empty(x.shape), np.empty(x.shape)
    for c in range(x.shape[1]):
        views = np.lib.stride_tricks.sliding_window_view(padded[:, c], 2 * half + 1)
        step = max(1, WINDOWED // (2 * half + 1))  # of all at once no memory may hold
        for low in range(0, len(x), step):
            part = slice(low, low + step)
            center[part, c], spread[part, c] = _center_and_spread(views[part])
    return center, spread


def _center_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row, of what is not NaN in it; 0 and 0 where nothing is."""
    some = ~np.isnan(values).all(-1)
    center, spread = np.zeros(len(values)), np.zeros(len(values))
    if some.any():
        center[some] = np.nanmedian(values[some], -1)
        away = np.abs(values[some] - center[some, None])
        middle = OF_MEDIAN * np.nanmedian(away, -1)
        spread[some] = np.where(middle > 0, middle, OF_MEAN * np.nanmean(away, -1))
        resting = np.flatnonzero(some)[middle == 0]
        reach = _reach(values[resting], center[resting])
        spread[resting] = np.fmax(spread[resting], reach / 6)
    return center, spread


def _reach(values: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Of every row how far from its center what differs from it is no fault; NaN where
    less than FEW samples do.

    To the fences of the values that there are, each once, since a code for a fault, as
    -9999, may be there often. Of events and of small counts, which are less than FEW
    values, seven times as far as nineteen of twenty are.
    """
    own = np.sort(np.where(values != center[:, None], values, np.nan), -1)  # NaN last
    last = np.sum(~np.isnan(own), -1, keepdims=True) - 1
    away = np.sort(np.abs(own - center[:, None]), -1)
    usual = np.take_along_axis(away, np.maximum(0.95 * last, 0).astype(int), -1)[:, 0]
    each = own.copy()
    each[:, 1:][own[:, 1:] == own[:, :-1]] = np.nan
    fenced = np.abs(np.stack(_fences(each)) - center).max(0)
    reach = np.where(np.isnan(fenced), 7 * usual, fenced)
    return np.where(last[:, 0] + 1 < FEW, np.nan, reach)


def _fences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row, six standard deviations from the middle of the middle nine tenths
    of what is not NaN, if those were of a normal variable; NaN of less than FEW."""
    ordered = np.sort(values, -1)  # NaN last
    last = np.sum(~np.isnan(values), -1, keepdims=True) - 1
    # Values that are there: between two of them a spike of a few would count in part.
    ends = np.ceil(0.05 * last), np.floor(0.95 * last)
    low, high = (
        np.take_along_axis(ordered, np.maximum(end, 0).astype(int), -1) for end in ends
    )
    reach = np.where(last + 1 < FEW, np.nan, BEYOND_TENTHS * (high - low))
    return (low - reach)[:, 0], (high + reach)[:, 0]


def outlying(x: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Values so far from the others that they may be faults.

    Beyond the fences of all, no more than a twentieth at either end: half of the
    values, which median and MAD tell of, may be the air around a scan, and all that is
    scanned far from it. Where more than half are one value, further from it than
    `_reach` of what differs.
    """
    if not x.size:
        return np.zeros(x.shape, bool)
    middle = np.median(x)
    if (x != middle).sum() < len(x) / 2:
        (reach,) = _reach(x[None], middle[None])
        if not np.isnan(reach):
            return np.abs(x - middle) > reach
    (low,), (high,) = _fences(x[None])
    return (x < low) | (x > high)


def constant(
    x: Float[np.ndarray, "t c"], known: Bool[np.ndarray, "t c"]
) -> Bool[np.ndarray, "c"]:
    """Channels whose known values are all one value, or that have none."""
    low = np.where(known, x, np.inf).min(0)
    high = np.where(known, x, -np.inf).max(0)
    return low >= high
