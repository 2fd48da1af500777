"""Medians of sets that are too many to keep: counts in fine bins, which add up."""

import dataclasses

import numpy as np

from vqdit.shapes import Float, Int


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Bins from `low` to `high`, `step` apart; what lies beyond is in the outermost.

    logarithmic: of values above 0, bins a factor of 1 + step wide; what is below `low`
        counts as 0.
    A median of finite values within the bins is off by half a bin at most.
    """

    low: float
    high: float
    step: float
    logarithmic: bool = False

    @property
    def bins(self) -> int:
        return int(self._places(np.asarray([self.high]))[0]) + 1

    def counts(self, x: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "bins"]:
        """Of the values that are not nan."""
        x = np.asarray(x, np.float64)
        x = np.clip(x[~np.isnan(x)], None if self.logarithmic else self.low, self.high)
        return np.bincount(self._places(x), minlength=self.bins)

    def median(self, counts: Int[np.ndarray, "bins"]) -> float:
        """The mean of the two in the middle where they are even; nan of none."""
        total, ranks = counts.sum(), counts.cumsum()
        if not total:
            return np.nan
        middle = np.searchsorted(ranks, [(total - 1) // 2, total // 2], side="right")
        if self.logarithmic:
            values = self.low * (1 + self.step) ** (middle - 1.0)
            return float(np.where(middle > 0, values, 0.0).mean())
        return float((self.low + self.step * middle).mean())

    def below(self, counts: Int[np.ndarray, "bins"], x: float) -> float:
        """The share of values below x, to a bin; nan of none."""
        total = counts.sum()
        place = max(0, int(self._places(np.minimum([float(x)], self.high))[0]))
        return float(counts[:place].sum() / total) if total else np.nan

    def _places(self, x):
        if not self.logarithmic:
            return np.rint((x - self.low) / self.step).astype(np.int64)
        inside = np.maximum(x, self.low) / self.low
        places = 1 + np.rint(np.log(inside) / np.log1p(self.step)).astype(np.int64)
        return np.where(x < self.low, 0, places)


# Distances in any unit, to a thousandth; decibels to a two-hundredth.
DISTANCES = Histogram(1e-7, 1e9, 2e-3, logarithmic=True)
DECIBELS = Histogram(-100.0, 100.0, 5e-3)
