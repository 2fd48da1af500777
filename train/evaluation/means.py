"""Evaluators of one figure: a mean, or a median, of values that batches give."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from train.evaluation.evaluator import Evaluator
from train.modalities import Batch
from vqdit.metrics.histogram import DISTANCES, Histogram

Values = Callable[[Batch], Any]


def where_there(values: Values) -> Values:
    """nan of the examples of which nothing is to be said, by the entry "there"."""

    def known(batch: Batch) -> np.ndarray:
        x, there = np.asarray(values(batch), np.float64), batch["there"]
        return np.where(there.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan)

    return known


def right(classes: Values) -> Values:
    """1 of the examples whose "label" is the class that is said, 0 of others; nan of
    those that have none."""

    def values(batch: Batch) -> np.ndarray:
        same = np.asarray(classes(batch)) == batch["label"]
        return np.where(batch["label"] >= 0, same, np.nan)

    return values


@dataclasses.dataclass(frozen=True)
class Mean(Evaluator):
    """The mean of all values that are not nan; nan of none.

    values: of a batch, of any shape, or (n, places), each place with a mean of its own.
    then:   what becomes of the mean, such as its square root.
    """

    name: str
    values: Values
    then: Callable[[Any], Any] = float
    places: int | None = None

    def start(self):
        shape = () if self.places is None else (self.places,)
        return {"sum": np.zeros(shape), "count": np.zeros(shape, np.int64)}

    def sums(self, batch):
        x = np.asarray(self.values(batch), np.float64)
        x = x.ravel() if self.places is None else x
        known = ~np.isnan(x)
        return {"sum": x.sum(0, where=known), "count": known.sum(0)}

    def finish(self, sums):
        with np.errstate(invalid="ignore"):
            return {self.name: self.then(sums["sum"] / sums["count"])}


@dataclasses.dataclass(frozen=True)
class Median(Evaluator):
    """The median of all values that are not nan, of counts in fine bins."""

    name: str
    values: Values
    then: Callable[[float], Any] = float
    bins: Histogram = DISTANCES

    def start(self):
        return {"counts": np.zeros(self.bins.bins, np.int64)}

    def sums(self, batch):
        return {"counts": self.bins.counts(self.values(batch))}

    def finish(self, sums):
        return {self.name: self.then(self.bins.median(sums["counts"]))}


def or_none(figure: float) -> float | None:
    """A mean, or median; None of no values."""
    return None if np.isnan(figure) else float(figure)


def decibels(error: Any, peak: float = 1.0) -> Any:
    """PSNR of a mean squared error, inf of none; a list of several."""
    with np.errstate(divide="ignore"):
        return (20 * math.log10(peak) - 10 * np.log10(error)).tolist()


def squared_error(found: str, wanted: str, where: str = "") -> Values:
    """Between two entries of a batch, of every value or of those where an entry says
    so."""
    error = distance(found, wanted, where)
    return lambda batch: np.square(error(batch), dtype=np.float64)


def distance(found: str, wanted: str, where: str = "") -> Values:
    """The same, of which the squares are."""

    def values(batch):
        apart = np.abs(batch[found] - batch[wanted])
        return apart[batch[where]] if where else apart

    return values


def root_mean_square(name: str, *entries: str) -> Mean:
    """Of the errors between two entries; see `squared_error`."""
    return Mean(name, squared_error(*entries), lambda error: float(np.sqrt(error)))
