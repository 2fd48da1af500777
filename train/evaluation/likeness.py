"""How like real signals samples are: evaluators that compare the two."""

import dataclasses
from typing import NamedTuple

import numpy as np

from train.evaluation.evaluator import Evaluator, FeatureNetwork, examples, grouped
from train.evaluation.means import Mean, or_none, right
from train.modalities import Modality
from vqdit.metrics import (
    FeatureStatistics,
    feature_sums,
    frechet_distance,
    nearest_neighbours,
    neighbourhoods,
)
from vqdit.metrics.histogram import DISTANCES
from vqdit.shapes import Float, Int
from vqdit.trained.judge import Judge

NEIGHBOURS = 10_000  # features that are kept, since every pair of them is compared
K = 5  # neighbours that a ball reaches to
LIKENESS = ("distance", "precision", "recall", "density", "coverage")
COPY = 1 / 3  # of the distance of new data, below which a sample counts as a copy


def accuracy(judge: Judge, of: str = "x", name: str = "accuracy") -> Mean:
    """Share of signals, the entry `of`, in which a judge hears or sees their label; of
    those that have one, None where none has."""
    return Mean(name, right(lambda batch: judge.predict(batch[of])), or_none)


class RealFeatures(NamedTuple):
    """Of a set of signals: the statistics of all, and the features of some, (n, d)."""

    statistics: FeatureStatistics
    some: Float[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True, eq=False)
class Likeness(Evaluator):
    """Fréchet distance and neighbourhoods in the features of a network, against those
    of a reference; without one, what such a reference is.

    kept:   of the batches' "index" those, ascending, whose features are kept for the
        neighbourhoods. As many of the reference's are compared with them.
    prefix: of the figures' names.

    Sums in float64, of d + d^2 numbers and d for each that is kept.
    """

    network: FeatureNetwork
    kept: Int[np.ndarray, "n"]
    reference: RealFeatures | None = None
    of: str = "x"
    prefix: str = ""

    def start(self):
        d = self.network.dim
        sums = {"sum": np.zeros(d), "outer": np.zeros((d, d))}
        sums |= {"count": np.zeros((), np.int64)}
        return sums | {"some": np.zeros((len(self.kept), d))}

    def sums(self, batch):
        found = self.network.features(batch[self.of])
        some = self.start()["some"]
        place = np.searchsorted(self.kept, batch["index"])
        stays = np.isin(batch["index"], self.kept)
        some[place[stays]] = found[stays]
        return feature_sums(found) | {"some": some}

    def finish(self, sums):
        found = RealFeatures(FeatureStatistics.of(sums), sums["some"])
        if self.reference is None:
            return {"features": found}
        real = self.reference
        figures = {"distance": frechet_distance(found.statistics, real.statistics)}
        n, m = len(found.some), len(real.some)
        if min(n, m) > 1:
            n = min(n, m)
            few = real.some[np.arange(n) * m // n]
            figures |= neighbourhoods(few, found.some[:n], min(K, n - 1))
        return {f"{self.prefix}{name}": value for name, value in figures.items()}


@dataclasses.dataclass(frozen=True)
class Memorisation(Evaluator):
    """How far samples are from their nearest training signals.

    heldout: the median distance of held-out signals. Without one the figures are what
        is known of held-out ones: that median, `apart`, and their own copied_share.

    memorisation: the median, over that. 1: samples are as far from the training set as
        new data is. Well below 1: they copy it. It is no proof of the contrary: blurred
        or broken samples are far from everything.
    copied_share: of samples nearer than a third of that distance, which the median does
        not see where they are few.

    Of fine bins, to a thousandth; None where half of the held-out data is in the
    training set.
    """

    data: Modality
    heldout: float | None = None
    of: str = "x"
    prefix: str = ""

    def start(self):
        return {"counts": np.zeros(DISTANCES.bins, np.int64)}

    def sums(self, batch):
        return {"counts": DISTANCES.counts(self._distances(batch[self.of]))}

    def _distances(self, x) -> np.ndarray:
        least = np.full(len(x), np.inf)
        train = examples(self.data, True, divided=False, doing="nearest in training")
        for part in grouped(train):
            least = np.minimum(least, nearest_neighbours(x, part["x"])[1][:, 0])
        return least

    def finish(self, sums):
        counts = sums["counts"]
        median = DISTANCES.median(counts)
        unit = median if self.heldout is None else self.heldout
        found = {"copied_share": DISTANCES.below(counts, COPY * unit) if unit else None}
        if self.heldout is None:
            found["apart"] = median
        else:
            found["memorisation"] = median / unit if unit else None
        return {f"{self.prefix}{name}": value for name, value in found.items()}
