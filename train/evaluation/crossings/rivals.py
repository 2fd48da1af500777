"""What a crossing into a class has to beat: classifiers of the raw signals given."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import log_softmax

from train.evaluation.judge import BATCH, train_classifier
from train.evaluation.probing import components
from train.modalities import Batch, Modality
from train.pipeline import JointExamples, spaced
from train.progress import say
from vqdit.shapes import Float, Int, Shaped
from vqdit.signal import to_signal
from vqdit.trained.judge import Judge, as_pictures

COMPONENTS = 64  # principal ones, of each stream
VALUES = 2**27  # of training signals that are fitted at once

# Scores of classes (n, classes), or boxes.
Answers = Callable[[Batch], np.ndarray]
FeatureMap = Callable[[Shaped[np.ndarray, "n *shape"]], Float[np.ndarray, "n d"]]
Given = Mapping[str, np.ndarray]


class Rival(NamedTuple):
    """What it says of a batch, and what it was given to learn that: "examples" and
    "seconds", and of each network, by its streams, "steps", "batch", "parameters"."""

    says: Answers
    budget: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Rivals:
    """Classifiers that learn the class of a stream from others, on the training part.

    pca: logistic regression on the principal components of the raw signals, of each
        stream for itself and then side by side; of codes, of what is born discrete,
        each in a column of its own.
    cnn: a small convolutional network for this task alone; of several streams logistic
        regression on what their networks see, and the components of those without.

    train:   training examples of the streams, joined as the generator was trained.
    books:   stream -> how many codes it has, of what is born discrete.
    judges:  (stream, wanted stream) -> a network that knows the task; new ones are put
        in here.
    steps:   for which those are trained, else as long as a judge of the kind of signal.
    """

    train: JointExamples
    given: Sequence[str]
    want: str
    classes: int
    books: Mapping[str, int]
    judges: dict[tuple[str, str], Judge]
    steps: int | None = None

    def fit(self) -> dict[str, Rival]:
        """Name -> scores of a batch of `JointExamples`, as `Posterior` takes them; none
        where the training part has fewer than two classes."""
        say(f"fitting baselines of {'+'.join(self.given)}_to_{self.want}")
        rows, labels = self._labelled
        if len(np.unique(labels)) < 2:
            return {}
        some = held_at_once(self.train, self.given, self.books, rows)
        batch, labels = self.train.take(rows[some]), labels[some]
        x = {name: batch["streams"][name] for name in self.given}
        start = time.monotonic()
        linear = {n: principal(flat(self.books.get(n)), v) for n, v in x.items()}
        says = self._regression(linear, x, labels)
        found = {"pca": Rival(says, spent(len(labels), start))}
        judges = {n: judge for n in self.given if (judge := self._judge(n)) is not None}
        networks = {n: learned(judge) for n, judge in judges.items()}
        if len(self.given) == 1 and judges:
            ((name, judge),) = judges.items()
            says = lambda batch: log_softmax(judge.logits(batch["streams"][name]), 1)
            found["cnn"] = Rival(says, {"networks": networks})
        elif judges:
            start = time.monotonic()
            seen = linear | {n: judge.features for n, judge in judges.items()}
            says = self._regression(seen, x, labels)
            budget = spent(len(labels), start) | {"networks": networks}
            found["cnn"] = Rival(says, budget)
        return found

    @functools.cached_property
    def _labelled(self) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Training examples that have all that is given, and a class; their classes."""
        every = np.arange(len(self.train))
        labels = self.train.labels(every, self.want)
        there = [self.train.has(every, name) for name in self.given]
        rows = np.flatnonzero(np.all([labels >= 0, *there], 0))
        return rows, labels[rows]

    def _judge(self, name: str) -> Judge | None:
        data: Modality = self.train.data[name]
        if name in self.books or not data.judged:
            return None
        if (name, self.want) not in self.judges:
            rows, labels = self._labelled

            def take(at: np.ndarray) -> Batch:
                x = self.train.take(rows[at])["streams"][name]
                return {"x": as_pictures(data.front, x), "label": labels[at]}

            steps = self.steps or data.judged
            size = (len(rows), self.classes, 0, steps, data.threads)
            judge = dataclasses.replace(train_classifier(take, *size), front=data.front)
            self.judges[name, self.want] = judge
        return self.judges[name, self.want]

    def _regression(self, features: Mapping[str, FeatureMap], x, labels) -> Answers:
        from sklearn.linear_model import LogisticRegression  # slow to import

        own, seen = standardised(features, x)
        model = LogisticRegression(max_iter=1000).fit(own, labels)

        def scores(batch: Batch) -> np.ndarray:
            found = np.zeros((len(batch["label"]), self.classes))
            found[:, model.classes_] = model.predict_proba(seen(batch["streams"]))
            return found

        return scores


def standardised(
    features: Mapping[str, FeatureMap], x: Given
) -> tuple[Float[np.ndarray, "n d"], Callable[[Given], Float[np.ndarray, "n d"]]]:
    """(features of these streams, what makes them of others), all in units of the
    spread that these have."""

    def together(streams: Given) -> np.ndarray:
        return np.concatenate([f(streams[n]) for n, f in features.items()], 1)

    own = together(x)
    center, scale = own.mean(0), own.std(0) + 1e-6
    return (own - center) / scale, lambda x: (together(x) - center) / scale


def held_at_once(
    train: JointExamples,
    given: Sequence[str],
    books: Mapping[str, int],
    rows: Int[np.ndarray, "n"],
) -> Int[np.ndarray, "k"]:
    """Which of the rows, evenly spaced, are fitted: as many as have VALUES, as they are
    read or in columns, of which a text has one for each of its codes in each place."""
    one = train.take(rows[:1])["streams"]
    wide = lambda name: flat(books.get(name))(one[name]).size
    values = sum(max(math.prod(train.data[n].shape), wide(n)) for n in given)
    return spaced(len(rows), max(1, VALUES // values))


def spent(examples: int, start: float) -> dict[str, Any]:
    return {"examples": examples, "seconds": round(time.monotonic() - start, 1)}


def learned(judge: Judge) -> dict[str, Any]:
    """What a network was given; without "seconds" if it was opened and not trained."""
    said = judge.protocol
    found = {"examples": said.get("trained_on"), "steps": said.get("steps")}
    found |= {"batch": BATCH, "parameters": parameters(judge.params)}
    if judge.seconds is not None:
        found["seconds"] = round(judge.seconds, 1)
    return found


def parameters(params: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def flat(codes: int | None) -> FeatureMap:
    """A row of numbers for each example, a column of 0 and 1 for each of so many codes
    in each place; of None, signals."""
    if codes is None:
        return flat_signals
    columns = lambda x: x.reshape(len(x), -1, 1) == np.arange(codes)
    return lambda x: columns(x).reshape(len(x), -1).astype(np.float32)


def flat_signals(x: Shaped[np.ndarray, "n *shape"]) -> Float[np.ndarray, "n d"]:
    """Values in [-1, 1], a row an example."""
    return np.asarray(to_signal(x)).reshape(len(x), -1)


def principal(rows: FeatureMap, x: Shaped[np.ndarray, "n *shape"]) -> FeatureMap:
    """The principal components of signals like these."""
    project = components(rows(x), COMPONENTS, "auto")
    return lambda x: project(rows(x))
