"""Evaluators of a figure with the interval that it lies in, 95 times of 100."""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from train.evaluation.evaluator import Evaluator
from train.evaluation.means import Values
from train.modalities import Batch
from vqdit.shapes import Bool, Float, Int

Z = 1.959964  # standard deviations on either side that hold 95 %
RESAMPLED = 200  # sets that a bootstrap draws
ENDS = (2.5, 97.5)  # percentiles


class Estimate(float):
    """A figure, with what each set of a bootstrap has in its place.

    sets: (RESAMPLED,), nan where a set has none. Figures of the same examples have the
        same sets (areas under a curve where the labels are the same ones): a difference
        of two has theirs, and so an interval of its own, which is the narrower the more
        alike both are.
    """

    sets: Float[np.ndarray, "sets"]

    def __new__(cls, figure: float, sets: Any):
        made = super().__new__(cls, figure)
        made.sets = np.asarray(sets, np.float64)
        return made

    def __getnewargs__(self):  # of a copy
        return float(self), self.sets

    @property
    def interval(self) -> list[float] | None:
        """Between which 95 of 100 sets are; None where none has a figure."""
        sets = self.sets[np.isfinite(self.sets)]
        return np.percentile(sets, ENDS).tolist() if len(sets) else None

    def __add__(self, other):
        return self._by(operator.add, other)

    def __sub__(self, other):
        return self._by(operator.sub, other)

    def __rsub__(self, other):
        return self._by(lambda mine, other: other - mine, other)

    def __mul__(self, other):
        return self._by(operator.mul, other)

    def _by(self, change, other):
        others = getattr(other, "sets", other)
        return Estimate(change(float(self), float(other)), change(self.sets, others))


@dataclasses.dataclass(frozen=True)
class Proportion(Evaluator):
    """Share of examples of which something is true, by values of 0, 1, and nan where
    there is nothing to be said; with Wilson's interval, which has a width where all or
    none are. An Estimate where batches have an "index", unless all or none are."""

    name: str
    values: Values

    def start(self):
        return {"sums": np.zeros((1 + RESAMPLED, 2))}  # as of Resampled: true, and all

    def sums(self, batch):
        x = np.asarray(self.values(batch), np.float64)
        there = ~np.isnan(x)
        pairs = np.stack([x[there] == 1, np.ones(there.sum())], 1)
        if "index" in batch:
            return {"sums": _weights(np.asarray(batch["index"])[there]) @ pairs}
        sums = self.start()
        sums["sums"][0] = pairs.sum(0)
        return sums

    def finish(self, sums):
        (true, n), sets = sums["sums"][0], sums["sums"][1:]
        if not n:
            return {}
        share = float(true / n)
        # Where all or none are, every set says the same, and knows of no doubt.
        if sets.any() and 0 < share < 1:
            with np.errstate(invalid="ignore"):
                share = Estimate(share, sets[:, 0] / sets[:, 1])
        center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
        # Rounding would leave a share of 1 outside.
        low, high = min(share, center - half), max(share, center + half)
        ends = [float(max(0.0, low)), float(min(1.0, high))]
        return {self.name: share, f"{self.name}_interval": ends}


@dataclasses.dataclass(frozen=True)
class Resampled(Evaluator):
    """A figure of sums over examples, with the interval of a bootstrap.

    values: of a batch, (n, places), whose sums over the examples, (places,), `then`
        makes the figure of; a row with a nan is left out.

    Each example counts as often as a Poisson variable says in each of RESAMPLED sets,
    a function of its "index" alone: so sets add up over batches and processes
    (Chamandy et al. 2012, estimating uncertainty for massive data streams).
    """

    name: str
    values: Values
    places: int
    then: Callable[[Float[np.ndarray, "places"]], float]

    def start(self):
        shape = (1 + RESAMPLED, self.places)
        return {"sums": np.zeros(shape), "count": np.zeros((), np.int64)}

    def sums(self, batch):
        x = np.asarray(self.values(batch), np.float64)
        there = ~np.isnan(x).any(1)
        weights = _weights(np.asarray(batch["index"])[there])
        return {"sums": weights @ x[there], "count": there.sum()}

    def finish(self, sums):
        if not sums["count"]:
            return {}
        with np.errstate(invalid="ignore", divide="ignore"):
            figure, *sets = [float(self.then(each)) for each in sums["sums"]]
        found = Estimate(figure, sets)
        return {self.name: found, f"{self.name}_interval": found.interval}


def _weights(index: Int[np.ndarray, "n"]) -> Float[np.ndarray, "sets n"]:
    """Once in the set itself, and so often in each of those that are drawn."""
    weights = np.ones((1 + RESAMPLED, len(index)))
    for column, i in enumerate(index):
        weights[1:, column] = np.random.default_rng((0, i)).poisson(1.0, RESAMPLED)
    return weights


def mean(
    name: str, values: Values, then: Callable[[float], float] = float
) -> Resampled:
    """The mean of a value of each example, nan where it has none, or a function of
    it."""

    def pairs(batch: Batch) -> np.ndarray:
        x = np.asarray(values(batch), np.float64)
        return np.stack([x, np.ones_like(x)], 1)

    return Resampled(name, pairs, 2, lambda sums: then(sums[0] / sums[1]))


def explained(
    error: Float[np.ndarray, "c"],
    usual: Float[np.ndarray, "c"],
    varies: Bool[np.ndarray, "c"],
) -> float:
    """1 - the errors over those of who knows nothing, the mean over what varies (a
    skill score; Murphy 1988, Monthly Weather Review 116): 1 where all is right, 0 of
    who knows nothing of the example, below it of who is worse; nan where nothing does.
    """
    each = 1 - error[varies] / usual[varies]
    return float(each.mean()) if len(each) else np.nan


def roc_auc(
    label: Int[np.ndarray, "n"],
    scores: Mapping[int, Float[np.ndarray, "n"]],
) -> dict[str, Any]:
    """Area under the ROC curve, the mean over classes, each against all others, and
    the interval of a bootstrap that draws as many of each class.

    scores: class -> what is high where that is the label; of classes that all or none
    have there is no curve, and without any no figure.
    """
    kinds = {y: np.flatnonzero(label == y) for y in np.unique(label)}
    curves = {y: score for y, score in scores.items() if y in kinds and len(kinds) > 1}
    if not curves:
        return {}

    def area(rows: np.ndarray) -> float:
        return float(
            np.mean([_area(label[rows] == y, s[rows]) for y, s in curves.items()])
        )

    draw = np.random.default_rng(0)
    again = lambda rows: rows[draw.integers(0, len(rows), len(rows))]
    rows = [np.concatenate([*map(again, kinds.values())]) for _ in range(RESAMPLED)]
    found = Estimate(area(np.arange(len(label))), [*map(area, rows)])
    return {"auc": found, "auc_interval": found.interval}


def _area(is_one: np.ndarray, score: np.ndarray) -> float:
    """The share of pairs that are in order, ties by half (Mann and Whitney 1947)."""
    ranks, n = rankdata(score)[is_one], is_one.sum()
    return float((ranks.sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


@dataclasses.dataclass(frozen=True)
class Posterior(Evaluator):
    """How often the likeliest class is the true one, and how well what is said of each
    tells it from the others: the mean over classes of the area under the ROC curve.

    scores: of a batch, (n, classes), the probability of each class, or its logarithm;
        nan where there is none. Logits alone, which any number may be added to, do not
        tell an example of a class from those of others.
    count:  the examples there are, by their "rank"; an "index" is that of `Proportion`.
    """

    scores: Values
    classes: int
    count: int

    def start(self):
        sums = {"scores": np.zeros((self.count, self.classes))}
        return sums | {n: np.zeros(self.count, np.int64) for n in ("label", "index")}

    def sums(self, batch):
        sums, scores = self.start(), np.asarray(self.scores(batch), np.float64)
        there = batch["there"] & (batch["label"] >= 0) & ~np.isnan(scores).any(1)
        rank = batch["rank"][there]
        sums["scores"][rank] = scores[there]
        sums["label"][rank] = batch["label"][there] + 1
        sums["index"][rank] = batch["index"][there]
        return sums

    def finish(self, sums):
        there = sums["label"] > 0
        scores, label = sums["scores"][there], sums["label"][there] - 1
        right = Proportion("accuracy", lambda batch: batch["right"])
        classes = range(1 if self.classes == 2 else 0, self.classes)
        told = {"right": scores.argmax(1) == label, "index": sums["index"][there]}
        figures = right.finish(right.sums(told))
        # Of two classes the other has the same curve.
        return figures | roc_auc(label, {y: scores[:, y] for y in classes})
