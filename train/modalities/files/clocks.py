"""Times of series: samples in their order, and several clocks made one.

Plain functions of arrays. A series is (t, c), time first; what is not known is NaN.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from train.errors import Unreadable
from train.modalities.files.stored import check_growth
from vqdit.shapes import Float

Duplicates = Literal["first", "mean"]
# Shares of a step by which the mean step, and any one time, may be off.
ROUNDED, NEAR = 0.01, 0.1
GAP = 2.5  # steps from which on what lies between two samples is a gap

# Ticks a second of times, by their unit.
TICKS = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
CALLED = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
TODAY = (3e8, 4.2e9)  # seconds since 1970, in 1979 and 2103
SECONDS = (1, 0)  # what `epoch_of` says of these
# What .NET counts from the year 1, in 100 ns, between 2003 and 2038: as nanoseconds
# since 1970 these would be of the spring of 1990.
SINCE_1 = (632e15, 643e15)


def epoch_of(times: np.ndarray) -> tuple[float, Any]:
    """(n, first): numbers that count n a second since 1970, and begin at `first`, where
    as seconds they would be of no time near ours; (1, 0) of all others, but for those
    of more digits than a float has, which begin at their own.

    By their size alone: nanoseconds since a start five minutes before would be
    milliseconds since 1970, and end in another century. Who trains on them is told.
    """
    first, last = (times.item(at) if times.size else 0 for at in (0, -1))
    low, high = TODAY
    near = (n for n in TICKS.values() if low <= first / n < high)
    ticks = next((n for n in near if not abs(last) / n >= high), 1)
    ticks = 1 if SINCE_1[0] <= first < SINCE_1[1] else ticks
    return ticks, first if ticks > 1 or 2**53 < abs(first) < np.inf else 0


def in_seconds(
    times: np.ndarray, origin: tuple[float, Any] | None = None
) -> np.ndarray:
    """Numbers as seconds: as they are, but those of another `epoch_of` since then.

    origin: `epoch_of` the times that these are compared with, if any: all are since its
        first.
    """
    ticks, first = epoch_of(times)
    if times.dtype.kind == "u":  # of which none is below the first
        times = times.astype(np.int64)
    seconds = np.asarray(times - first, np.float64) / ticks
    of, since = origin or (ticks, first)
    # Exact, since each has more digits than a float.
    return seconds + float(Fraction(first) / int(ticks) - Fraction(since) / int(of))


def in_order(
    times: Float[np.ndarray, "t"],
    values: Float[np.ndarray, "t c"],
    duplicates: Duplicates = "first",
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n c"]]:
    """Samples by their times, each time once: its first sample, or the mean of all.

    A channel that the first one does not know is taken from the next that does. Raises
    Unreadable where a time is missing.
    """
    lost = int((~np.isfinite(times)).sum())
    if lost:
        raise Unreadable(f"{lost} of its {len(times)} times are missing")
    if (np.diff(times) > 0).all():
        return times, values
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    own, first, count = np.unique(times, return_index=True, return_counts=True)
    merged = values[first]
    for at in np.flatnonzero(count > 1):
        same = values[first[at] : first[at] + count[at]]
        for c in range(values.shape[1]):
            known = same[np.isfinite(same[:, c]), c]
            if len(known):
                merged[at, c] = known[0] if duplicates == "first" else known.mean()
    return own, merged


def one_clock(
    streams: Sequence[tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t c"]]],
    rate: float,
    longest_gap: float | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Float[np.ndarray, "n channels"], float]:
    """(values, time of the first): streams of (times in s, values), on one grid.

    The grid has `rate` samples a second over the time that all streams cover, to a
    tenth of its step; channels follow in order. A stream no faster than the grid, to a
    hundredth, is interpolated linearly; of a faster one each grid point is the mean of
    its linear interpolant over one grid step, which keeps what the grid cannot hold
    from folding into it. Between neighbouring samples that are further apart than
    longest_gap seconds (default: 2.5 times the larger of the stream's median step and
    the grid's) the result is NaN.

    Raises Unreadable where times do not increase, or no moment is covered by all.
    """
    names = names or [f"stream {i}" for i in range(len(streams))]
    if not rate > 0:
        raise Unreadable(f"rate={rate}: write samples a second, above 0")
    for name, (times, values) in zip(names, streams, strict=True):
        if len(times) != len(values) or len(times) < 2:
            raise Unreadable(
                f"{name}: {len(times)} times for {len(values)} samples; write as many, "
                "at least 2"
            )
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise Unreadable(f"{name}: its times do not increase; sort them, each once")
    most = max(len(times) for times, _ in streams)
    starts = [times[0] for times, _ in streams]
    ends = [times[-1] for times, _ in streams]
    first, last = int(np.argmax(starts)), int(np.argmin(ends))
    if starts[first] > ends[last]:
        raise Unreadable(
            f"the series have no overlap in time: {names[last]} ends at "
            f"{ends[last]:g} s and {names[first]} starts at {starts[first]:g} s"
        )
    span = ends[last] - starts[first]
    check_growth(span * rate, most, f"its times span {span:g} s at data.rate={rate:g}")
    # A part of a step more, so that rounding does not cost the last point.
    count = int(span * rate + NEAR) + 1
    grid = starts[first] + np.arange(count) / rate
    columns = [
        _on_grid(times, values[:, c], grid, 1 / rate, longest_gap)
        for times, values in streams
        for c in range(values.shape[1])
    ]
    return np.stack(columns, axis=1), float(starts[first])


def _on_grid(times, values, grid, step, longest_gap):
    """One channel on the grid; NaN within gaps and outside of what is known."""
    known, steps = np.isfinite(values), np.diff(times)
    median = np.median(steps)
    times, values = np.asarray(times, np.float64)[known], values[known]
    if len(times) < 2:
        return np.full(len(grid), np.nan)
    gap = GAP * max(median, step) if longest_gap is None else longest_gap
    # A grid point on a sample must not count as within the gap beside it.
    slack = NEAR * step
    before = np.searchsorted(times, grid + slack, side="right") - 1
    after = np.searchsorted(times, grid - slack, side="left")
    outside = (before < 0) | (after >= len(times))
    before, after = np.maximum(before, 0), np.minimum(after, len(times) - 1)
    hole = outside | (times[after] - times[before] > gap + ROUNDED * step)
    # The mean, since steps of 33 and 34 ms are those of 30 a second, and no faster.
    if steps[steps <= GAP * median].mean() < step * (1 - ROUNDED):
        found = _mean_around(times, values, grid, step / 2)
    else:
        found = np.interp(grid, times, values)
    return np.where(hole, np.nan, found)


def _mean_around(times, values, grid, half):
    """Mean of the linear interpolant over grid +- half, narrower near the ends."""
    half = np.minimum(half, np.minimum(grid - times[0], times[-1] - grid))
    narrow = half <= 1e-9
    half = np.where(narrow, 1.0, half)
    areas = np.diff(times) * (values[1:] + values[:-1]) / 2
    total = np.concatenate([[0.0], np.cumsum(areas)])

    def integral(at):
        left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
        past = at - times[left]
        slope = (values[left + 1] - values[left]) / (times[left + 1] - times[left])
        return total[left] + past * values[left] + slope * past**2 / 2

    mean = (integral(grid + half) - integral(grid - half)) / (2 * half)
    return np.where(narrow, np.interp(grid, times, values), mean)
