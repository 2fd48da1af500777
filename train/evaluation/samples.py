"""What samples of a generator are scored by, and what they are compared with."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
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
from train.evaluation.features import Latents
from train.evaluation.likeness import (
    NEIGHBOURS,
    Likeness,
    Memorisation,
    RealFeatures,
    accuracy,
)
from train.evaluation.texts import TextReference
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.runtime import hosts
from vqdit.metrics import FeatureStatistics, frechet_distance
from vqdit.trained.generator import Generator


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What samples are compared with: a network, and its features of real signals.

    heldout: features of the held-out part. train: statistics of the training part.
    labels: (n,) ints, of the training set. accuracy: of a judge, on held-out signals;
    None of another network. apart, copied_share: of held-out signals (see
    Memorisation). What takes a pass over the training set is None where it was not
    asked for.
    """

    network: FeatureNetwork
    data: Modality
    heldout: RealFeatures
    train: FeatureStatistics | None = None
    labels: np.ndarray | None = None
    accuracy: float | None = None
    apart: float | None = None
    copied_share: float | None = None

    @classmethod
    def of(
        cls,
        network: FeatureNetwork,
        data: Modality,
        labelled: bool = True,
        train: bool = True,
        copies: bool = True,
    ) -> "Reference":
        """One pass over each part.

        labelled: whether samples will be, so that a judge's accuracy says something.
        train:    whether over the training part; without it there are no `figures`.
        copies:   whether memorisation is measured, which reads that part for samples.
        """
        held = open_examples(data, False)
        parts = [Likeness(network, held.spaced(NEIGHBOURS))]
        if labelled and not isinstance(network, Latents):
            parts.append(accuracy(network))
        if copies:
            parts.append(Memorisation(data))
        heldout = evaluated(
            Several(parts), grouped(examples(data, False, doing="held-out part"))
        )
        found = {name: heldout.get(name) for name in ("accuracy", "apart")}
        found["copied_share"] = heldout.get("copied_share")
        if train:
            found |= _of_training(network, data)
        return cls(network, data, heldout["features"], **found)

    @property
    def prefix(self) -> str:
        """Of figures in the features of a tokenizer, which is no judge."""
        return "tokenizer_" if isinstance(self.network, Latents) else ""

    def evaluator(self, count: int, of: str = "x", prefix: str = "") -> Evaluator:
        """Of `count` samples, the entry `of`, with their "index" and, for a judge,
        "label": its accuracy, Fréchet distance, neighbourhoods and memorisation."""
        kept, own = np.arange(min(count, NEIGHBOURS)), prefix + self.prefix
        parts = [Likeness(self.network, kept, self.heldout, of, own)]
        if self.accuracy is not None:
            parts.insert(0, accuracy(self.network, of, f"{prefix}accuracy"))
        if self.apart is not None:
            parts.append(Memorisation(self.data, self.apart, of, prefix))
        return Several(parts)

    def figures(self, count: int, prefix: str = "") -> dict[str, Any]:
        """The judge's own accuracy, and the distances of real signals.

        train_distance: of the whole training set to the held-out one. floor_: the
        figures of `count` training signals, as many of each class as the samples have:
        what perfect samples of that number and balance would have.
        """
        rows = balanced_rows(self.labels, count)
        some, own = np.sort(rows[:NEIGHBOURS]), self.prefix
        floor = Likeness(
            self.network, some, self.heldout, prefix=f"{prefix}floor_{own}"
        )
        distance = frechet_distance(self.train, self.heldout.statistics)
        figures = {
            "judge_accuracy": self.accuracy,
            "features" if own else "judge": self.network.protocol,
            f"train_{own}distance": distance,
            "floor_count": len(rows),
            "heldout_count": self.heldout.statistics.count,
            "heldout_copied_share": self.copied_share,
        }
        figures = {f"{prefix}{k}": v for k, v in figures.items() if v is not None}
        found = evaluated(floor, grouped(examples(self.data, True, rows)))
        return figures | found


def _of_training(network, data) -> dict[str, Any]:
    """Statistics and labels of the training part."""
    labels = np.zeros(len(open_examples(data, True)), np.int64)

    def labelled(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            labels[batch["index"]] = batch["label"]
            yield batch

    none = Likeness(network, np.zeros(0, int))
    batches = grouped(examples(data, True, doing="training part"))
    found = evaluated(none, labelled(batches))
    return {"train": found["features"].statistics, "labels": hosts.total(labels)}


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


References = Mapping[str, Reference | TextReference]  # stream -> its own


def scored(
    generator: Generator,
    draw,
    references: References,
    count: int,
    seed: int = 0,
    **call: Any,
) -> dict[str, Any]:
    """Figures of `count` samples, by each stream's reference; those of several streams
    begin with the stream's name.

    Samples are scored as they are drawn, by each process its own. Labels are
    class-balanced; without classes those that are drawn beside a signal are its.
    """
    values = generator.values.items()
    word = next((name for name, each in values if each.source == "label"), None)
    ids, label = np.arange(count), None
    if generator.module.classes:
        label = np.resize(generator.trained_labels, count)

    def batches() -> Iterator[Batch]:
        key = jax.random.key(seed)
        for rows, x in drawn(generator, draw, key, ids, label, raw=False, **call):
            if not len(rows):
                continue
            batch = {"index": rows} | {_entry(name): x[name] for name in references}
            if label is not None or word in x:
                batch["label"] = x[word] if label is None else label[rows]
            yield batch

    return evaluated(evaluators(references, count), grouped(batches()))


def evaluators(references: References, count: int) -> Several:
    """Those of all streams, of `count` samples."""
    prefix = "{}_" if len(references) > 1 else ""
    found = references.items()
    return Several([x.evaluator(count, _entry(n), prefix.format(n)) for n, x in found])


def _entry(stream: str) -> str:
    """Of a batch, which has others beside its streams."""
    return f"stream {stream}"


def curve(
    generator: Generator,
    references: References,
    scales: Iterable[float],
    count: int,
    seed: int = 0,
    **sampler: Any,
) -> list[dict]:
    """Scores at every guidance scale; one row of a generator without classes.

    Accuracy alone can be bought with guidance and distance without it: both are given,
    for the same samples. One compilation for all scales.
    """
    score = (references, count, seed)
    if not generator.module.classes:
        return [scored(generator, generator.sampler(**sampler), *score)]
    draw = generator.sampler(guidance=1.0, **sampler)
    return [
        {"guidance": scale, **scored(generator, draw, *score, guidance=scale)}
        for scale in scales
    ]
