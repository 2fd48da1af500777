"""What samples of a generator are scored by, and what they are compared with."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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
    LIKENESS,
    NEIGHBOURS,
    Likeness,
    Memorisation,
    accuracy,
)
from train.evaluation.texts import TextReference
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.runtime import hosts
from train.runtime.keys import key_of
from vqdit.metrics import FeatureStatistics, frechet_distance
from vqdit.trained.generator import Generator


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What samples are compared with: real signals, in the features of a network.

    labelled: whether samples are, so that a judge's accuracy says something.
    copies:   whether memorisation is measured, which reads the training set for
        every group of samples.
    balanced: whether samples are of all classes alike, and not as the data are.

    Each part of the data is read once, when something of it is first asked for.
    """

    network: FeatureNetwork
    data: Modality
    labelled: bool = True
    copies: bool = True
    balanced: bool = True

    @property
    def prefix(self) -> str:
        """Of figures in the features of a tokenizer, which is no judge."""
        return "tokenizer_" if isinstance(self.network, Latents) else ""

    @property
    def judges(self) -> bool:
        """Whether its network tells classes, and samples have some."""
        return self.labelled and not self.prefix

    @functools.cached_property
    def heldout(self) -> dict[str, Any]:
        """Of the held-out part: "features", RealFeatures; a judge's "accuracy";
        "apart" and "copied_share" (see Memorisation)."""
        kept = open_examples(self.data, False).spaced(NEIGHBOURS)
        batches = examples(self.data, False, doing="held-out part")
        return evaluated(self._compared(kept, {}), grouped(batches))

    @functools.cached_property
    def train(self) -> tuple[FeatureStatistics, np.ndarray]:
        """Statistics and labels (n,) of the training part."""
        labels = np.zeros(len(open_examples(self.data, True)), np.int64)

        def labelled(batches: Iterable[Batch]) -> Iterator[Batch]:
            for batch in batches:
                labels[batch["index"]] = batch["label"]
                yield batch

        none = Likeness(self.network, np.zeros(0, int))
        batches = grouped(examples(self.data, True, doing="training part"))
        found = evaluated(none, labelled(batches))
        return found["features"].statistics, hosts.total(labels)

    def names(self, prefix: str = "") -> list[str]:
        """The figures of `evaluator`, without reading anything."""
        found = [self.prefix + name for name in LIKENESS]
        found += ["accuracy"] if self.judges else []
        found += ["memorisation", "copied_share"] if self.copies else []
        return [prefix + name for name in found]

    def evaluator(self, count: int, of: str = "x", prefix: str = "") -> Evaluator:
        """Of `count` samples, the entry `of`, with their "index" and, for a judge,
        "label": its accuracy, Fréchet distance, neighbourhoods and memorisation."""
        kept = np.arange(min(count, NEIGHBOURS))
        return self._compared(kept, self.heldout, of, prefix)

    def _compared(self, kept, held: Mapping[str, Any], of="x", prefix="") -> Several:
        """With the held-out part, by what is known of it, if anything is."""
        judge: Any = self.network  # which it is where there are classes
        parts: list[Evaluator] = []
        if self.judges:
            parts.append(accuracy(judge, of, f"{prefix}accuracy"))
        how = held.get("features"), of, prefix + self.prefix
        parts.append(Likeness(self.network, kept, *how))
        if self.copies:
            parts.append(Memorisation(self.data, held.get("apart"), of, prefix))
        return Several(parts)

    def figures(self, count: int, prefix: str = "") -> dict[str, Any]:
        """The judge's own accuracy, and the distances of real signals.

        train_distance: of the whole training set to the held-out one. floor_: the
        figures of `count` training signals, as many of each class as the samples have:
        what perfect samples of that number and balance would have.
        """
        statistics, labels = self.train
        labels = labels if self.balanced else np.zeros_like(labels)
        heldout, rows = self.heldout["features"], balanced_rows(labels, count)
        # No more than are compared, or the first of these would be the first classes.
        some, own = np.sort(rows[: len(heldout.some)]), self.prefix
        floor = Likeness(self.network, some, heldout, prefix=f"{prefix}floor_{own}")
        figures = {
            "judge_accuracy": self.heldout.get("accuracy"),
            "features" if own else "judge": self.network.protocol,
            f"train_{own}distance": frechet_distance(statistics, heldout.statistics),
            "floor_count": len(rows),
            "heldout_count": heldout.statistics.count,
            "heldout_copied_share": self.heldout.get("copied_share"),
        }
        figures = {f"{prefix}{k}": v for k, v in figures.items() if v is not None}
        batches = examples(self.data, True, rows, doing="real examples")
        found = evaluated(floor, grouped(batches))
        return figures | found


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


TEXTS = ("caption", "label")  # sources of what is compared as texts are
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
    words = [name for name, each in values if each.source == "label"]
    ids, label = np.arange(count), None
    if generator.module.classes:
        label = np.resize(generator.trained_labels, count)

    def batches() -> Iterator[Batch]:
        key = key_of(seed)
        for rows, x in drawn(generator, draw, key, ids, label, raw=False, **call):
            if not len(rows):
                continue
            batch = {"index": rows} | {_entry(name): x[name] for name in references}
            said = [x[name] for name in words if name in x]
            if label is not None:
                batch["label"] = label[rows]
            elif said:
                batch["label"] = said[0]
            yield batch

    named = zip(references, prefixed(references, generator).items(), strict=True)
    parts = [x.evaluator(count, _entry(n), prefix) for n, (prefix, x) in named]
    return evaluated(Several(parts), grouped(batches()))


def compared(generator: Generator) -> tuple[str, ...]:
    """The streams whose samples are compared with real ones: signals, and texts."""
    values = generator.values.items()
    return *generator.codecs, *(n for n, each in values if each.source in TEXTS)


def check_compared(generator: Generator) -> None:
    """Raises ValueError where there are none, as of rows and boxes alone."""
    if not compared(generator):
        raise ValueError(
            "samples are scored of signals, texts and labels, and none is drawn; "
            "train.score says how likely held-out examples are"
        )


def prefixed(
    references: References, generator: Generator
) -> dict[str, Reference | TextReference]:
    """By what the figures of each begin with: the same whichever streams are wanted."""
    several = len(compared(generator)) > 1
    return {f"{name}_" if several else "": each for name, each in references.items()}


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
