"""What samples of a generator are scored by, and what they are compared with."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from train.evaluation.drawing import drawn
from train.evaluation.evaluator import (
    Evaluator,
    FeatureNetwork,
    Several,
    evaluated,
    examples,
    grouped,
)
from train.evaluation.means import Mean, Median
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.runtime import hosts
from vqdit.metrics import (
    FeatureStatistics,
    feature_sums,
    frechet_distance,
    nearest_neighbours,
)
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge


def accuracy(judge: Judge, of: str = "x", name: str = "accuracy") -> Mean:
    """Share of signals, the entry `of`, in which a judge hears or sees their label."""
    return Mean(name, lambda batch: judge.predict(batch[of]) == batch["label"])


@dataclasses.dataclass(frozen=True, eq=False)
class Frechet(Evaluator):
    """Fréchet distance to a reference in the features of a network; without one, the
    statistics that such a reference is.

    Sums in float64, of d + d^2 numbers whatever the count.
    """

    network: FeatureNetwork
    reference: FeatureStatistics | None = None
    of: str = "x"
    name: str = "distance"

    def start(self):
        d = self.network.dim
        sums = {"sum": np.zeros(d), "outer": np.zeros((d, d))}
        return sums | {"count": np.zeros((), np.int64)}

    def sums(self, batch):
        return feature_sums(self.network.features(batch[self.of]))

    def finish(self, sums):
        found = FeatureStatistics.of(sums)
        if self.reference is None:
            return {self.name: found}
        return {self.name: frechet_distance(found, self.reference)}


def memorisation(data: Modality, heldout: float = 1.0) -> Median:
    """Median distance to the nearest training signal, over that of held-out signals.

    1: samples are as far from the training set as new data is. Well below 1: they copy
    it. It is no proof of the contrary: blurred or broken samples are far from
    everything. Medians are of fine bins, to a thousandth.
    """

    def distances(batch: Batch) -> np.ndarray:
        least = np.full(len(batch["x"]), np.inf)
        for part in grouped(examples(data, True, divided=False)):
            apart = nearest_neighbours(batch["x"], part["x"])[1][:, 0]
            least = np.minimum(least, apart)
        return least

    return Median("memorisation", distances, lambda median: median / heldout)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What samples are compared with: a judge, and statistics of the real signals.

    heldout, train: of the judge's features. labels: (n,) ints, of the training set.
    accuracy: the judge's own, of held-out signals. apart: their median distance to the
    nearest training signal.
    """

    judge: Judge
    data: Modality
    heldout: FeatureStatistics
    train: FeatureStatistics
    labels: np.ndarray
    accuracy: float
    apart: float

    @classmethod
    def of(cls, judge: Judge, data: Modality) -> "Reference":
        """One pass over each part. Raises ValueError where half of the held-out data is
        in the training set: nothing can be said of memorising then."""
        statistics = Frechet(judge, name="statistics")
        labels = np.zeros(len(open_examples(data, True)), np.int64)

        def labelled(batches: Iterable[Batch]) -> Iterator[Batch]:
            for batch in batches:
                labels[batch["index"]] = batch["label"]
                yield batch

        train = evaluated(statistics, labelled(grouped(examples(data, True))))
        parts = (statistics, accuracy(judge), memorisation(data))
        held = evaluated(Several(parts), grouped(examples(data, False)))
        if not held["memorisation"]:
            raise ValueError("half of the held-out data is in the training set")
        return cls(
            judge,
            data,
            heldout=held["statistics"],
            train=train["statistics"],
            labels=hosts.total(labels),
            accuracy=held["accuracy"],
            apart=held["memorisation"],
        )

    @property
    def evaluator(self) -> Evaluator:
        """Accuracy, Fréchet distance and memorisation of samples "x" with "label"."""
        distance = Frechet(self.judge, self.heldout)
        parts = (accuracy(self.judge), distance, memorisation(self.data, self.apart))
        return Several(parts)

    def figures(self, count: int) -> dict[str, Any]:
        """The judge's own accuracy, and the distances of real signals.

        train_distance: of the whole training set to the held-out one. floor_distance:
        of `count` training signals, as many of each class as the samples have: what
        perfect samples of that number and balance would have.
        """
        rows = balanced_rows(self.labels, count)
        floor = Frechet(self.judge, self.heldout, name="floor_distance")
        return {
            "judge_accuracy": self.accuracy,
            "judge": self.judge.protocol,
            "train_distance": frechet_distance(self.train, self.heldout),
            **evaluated(floor, grouped(examples(self.data, True, rows))),
            "floor_count": len(rows),
            "heldout_count": self.heldout.count,
        }


def balanced_rows(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of `count` examples spread evenly over the classes; all, if there are fewer.

    The balance of labels moves a Fréchet distance as much as picture quality does.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    # The place of each example within its class, in shuffled order.
    place = np.empty(len(labels), np.int64)
    for y in np.unique(labels):
        mine = order[labels[order] == y]
        place[mine] = np.arange(len(mine))
    return np.lexsort((labels, place))[:count]


def curve(
    generator: Generator,
    reference: Reference,
    scales: Iterable[float],
    count: int,
    seed: int = 0,
    **sampler,
) -> list[dict]:
    """Scores at every guidance scale.

    Accuracy alone can be bought with guidance and distance without it: both are given,
    for the same samples, with class-balanced labels. One compilation for all scales;
    samples are scored as they are drawn, by each process its own.
    """
    kinds = {name: codec.contract.kind for name, codec in generator.codecs.items()}
    stream = next(name for name in kinds if kinds[name] == reference.data.kind)
    draw = generator.sampler(guidance=1.0, **sampler)
    ids, label = np.arange(count), np.resize(generator.trained_labels, count)

    def batches(scale: float) -> Iterator[Batch]:
        key = jax.random.key(seed)
        for rows, x in drawn(generator, draw, key, ids, label, guidance=scale):
            if len(rows):
                yield {"x": x[stream], "label": label[rows]}

    return [
        {"guidance": scale, **evaluated(reference.evaluator, grouped(batches(scale)))}
        for scale in scales
    ]
