"""What is drawn of a stream, beside what is true: evaluators by what the stream is.

Their batches have an entry of what was "said", as `Answer.truth` has it, and "truth",
"label", "index", and "there": of which examples there is something to be said.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from train.evaluation.crossings.columns import rows
from train.evaluation.crossings.overlap import central, paired
from train.evaluation.crossings.rivals import VALUES
from train.evaluation.estimates import Proportion, Resampled, explained, mean
from train.evaluation.evaluator import Evaluator, Evaluators
from train.evaluation.means import right, where_there
from train.modalities import Batch, Modality
from train.modalities.shown import class_words
from train.pipeline import JointExamples, having, open_examples, spaced
from vqdit.shapes import Bool, Int

USUAL = 1024  # training examples, at most, of which the usual answer is made
OVERLAP = 0.5  # of a drawn box and a true one, from which on it is found
DECIBELS = 100.0  # at most, either way, of a signal that comes back exactly

# Signals or texts of a stream -> their classes (n,), -1 where they say none.
Reader = Callable[[Any], Int[np.ndarray, "n"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """A stream that is drawn, and how it is told whether that is right.

    tokenizer: a Codec, or a value that is born discrete.
    read:      the class that a drawn one says, if that can be told.
    words:     of a text that says a class, that of each class.
    """

    name: str
    data: Modality
    tokenizer: Any
    read: Reader | None = None
    words: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """What of an example it is, as `tokenizer.source` says; "" is a signal."""
        return getattr(self.tokenizer, "source", "")

    @functools.cached_property
    def classes(self) -> Int[np.ndarray, "y *grid 1"] | None:
        """The codes of each class, of a stream of labels or of words that say one; None
        of all others."""
        if self.source == "label":
            said: Any = np.arange(open_examples(self.data, True).classes)
        elif self.words:
            said = list(self.words)
        else:
            return None
        try:
            return self.tokenizer.encode(said)[..., None]
        except ValueError:  # a class whose word no stream can say
            return None

    def truth(self, batch: Batch) -> Any:
        """What a batch of `JointExamples` has of it, as a sampler would draw it."""
        x = batch["streams"][self.name]
        return self.tokenizer.decode(x[..., 0]) if self.source else x

    def word(self, x: Any) -> str:
        """One that is no signal, in a few words."""
        if self.source == "label":
            return class_words([x], open_examples(self.data, True).class_names)[0]
        if self.source == "boxes":
            return f"{int((np.asarray(x)[..., 4] >= 0).sum())} boxes"
        return self.tokenizer.said([x])[0]

    def agreed(self, draws: Sequence[Any]) -> Any:
        """One answer to each example, of several draws: the mean of signals and of
        numbers, of all else the most frequent, and of the boxes of a frame those that
        overlap most with the others' (minimum Bayes risk)."""
        if len(draws) == 1:
            return draws[0]
        made = central if self.source == "boxes" else usual
        found = []
        for each in zip(*draws, strict=True):
            several: Any = np.stack(each) if np.ndim(each[0]) else list(each)
            found.append(made(several, np.ones(len(draws), bool)))
        return np.stack(found) if isinstance(draws[0], np.ndarray) else found

    def evaluators(self, of: str = "said", exact: bool = True) -> list[Evaluator]:
        """Of the entry `of`: against the class where that can be read, and, where
        examples have `exact` one truth, against it."""
        found: list[Evaluator] = []
        if self.read is not None:
            read = self.read
            true = where_there(right(lambda batch: read(batch[of])))
            found.append(Proportion("accuracy", true))
        if exact:
            found += BY_SOURCE[self.source](self, of)
        return found

    @functools.cached_property
    def usual(self) -> Any:
        """The answer of who knows the training part, and nothing of the example: the
        mean of signals and numbers, of all else the most frequent. None of boxes."""
        if self.source == "boxes":
            return None
        values = {self.name: self.tokenizer} if self.source else {}
        joint = JointExamples({self.name: self.data}, values, True)
        # Signals are in memory at once, and those of films and scans are large.
        size = 1 if self.source else math.prod(self.data.shape)
        rows = spaced(len(joint), min(USUAL, max(1, VALUES // size)))
        batch = joint.take(rows)
        there = having(batch, [self.name])
        return usual(self.truth(batch), there) if there.any() else None


def usual(said: Any, there: Bool[np.ndarray, "n"]) -> Any:
    """One for all of what was said: see `Answer.usual`."""
    if isinstance(said, np.ndarray) and said.ndim > 1:
        mean = said[there].mean(0, dtype=np.float64)
        return (np.round(mean) if said.dtype == np.uint8 else mean).astype(said.dtype)
    found = [each for each, here in zip(said, there, strict=True) if here]
    if isinstance(found[0], dict):
        return {column: _usual([row[column] for row in found]) for column in found[0]}
    return _usual(found)


def _usual(found: list) -> Any:
    known = [x for x in found if x is not None]
    if known and isinstance(known[0], float):
        return float(np.mean(known))
    return Counter(known).most_common(1)[0][0] if known else None


def signals(answer: Answer, of: str) -> Evaluators:
    """The modality's own measure, in decibels, the mean over examples.

    explained: of the squared error of the mean training example, over channels that
        have units of their own, see `estimates.explained`. Values that were filled in
        count as true.
    """
    codec, data = answer.tokenizer, answer.data
    channels = data.quantities
    raw = lambda x: x if x.dtype == np.uint8 else np.asarray(codec.to_raw(x))

    def measured(batch: Batch) -> np.ndarray:
        pairs = zip(raw(batch["truth"]), raw(batch[of]), strict=True)
        found = [data.measure(*(x.astype(np.float32) for x in pair)) for pair in pairs]
        return np.clip(found, -DECIBELS, DECIBELS)

    def errors(batch: Batch) -> np.ndarray:
        """(n, 3 * channels): squared, of what was said, of the mean example, and the
        truth itself, in any unit."""
        whole = batch["truth"], batch[of], answer.usual[None]
        true, said, mean = (x[..., :channels].astype(np.float64) for x in whole)
        each = [np.square(x) for x in (said - true, mean - true, true)]
        return np.concatenate([x.mean(1) for x in each], axis=1)

    def share(sums: np.ndarray) -> float:
        error, spread, power = sums.reshape(3, -1)
        return explained(error, spread, spread > 1e-12 * power)  # rounding is none

    name = f"{data.score.lower().replace('-', '_')}_db"
    yield mean(name, where_there(measured))
    if channels and answer.usual is not None:
        yield Resampled("explained", where_there(errors), 3 * channels, share)


def texts(answer: Answer, of: str) -> Evaluators:
    """text:   share that is the true one, letter by letter.
    tokens: of the codes of the true one and its end, those that are there in their
        places, a mean over texts."""
    codes = lambda said: answer.tokenizer.encode(list(said), truncate=True)

    def tokens(batch: Batch) -> np.ndarray:
        true, drawn = codes(batch["truth"]), codes(batch[of])
        length = (true != answer.tokenizer.padding).sum(1)
        counts = np.arange(true.shape[1]) <= length[:, None]  # and the first padding
        return ((true == drawn) & counts).sum(1) / counts.sum(1)

    same = lambda batch: np.array(
        [a == b for a, b in zip(batch[of], batch["truth"], strict=True)]
    )
    yield Proportion("text", where_there(same))
    yield mean("tokens", where_there(tokens))


def boxes(answer: Answer, of: str) -> Evaluators:
    """iou: of each true box with the drawn one that it is paired with, of its class,
        0 without one; the mean over those of an example and then over examples.
    map: average precision where boxes overlap by half, the mean over classes. Draws
        are in no order of confidence, so that of a class it is precision x recall.

    Both (b, *frames, k, 5): edges and class, -1 where there is none.
    """
    classes = answer.tokenizer.classes

    def pairs(batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(overlap, class) of the true boxes of all frames of each example."""
        for example in zip(batch[of], batch["truth"], strict=True):
            frames = [x.reshape(-1, *x.shape[-2:]) for x in example]
            each = [paired(*frame) for frame in zip(*frames, strict=True)]
            overlap, kind = map(np.concatenate, zip(*each, strict=True))
            yield overlap, kind

    def overlaps(batch: Batch) -> list[float]:
        return [found.mean() if len(found) else np.nan for found, _ in pairs(batch)]

    def counts(batch: Batch) -> np.ndarray:
        """(n, 3 * classes): boxes that are found, drawn, and true."""
        rows = []
        for (found, true), said in zip(pairs(batch), batch[of], strict=True):
            every = true[found >= OVERLAP], said[..., 4], true
            rows.append([(x == c).sum() for x in every for c in range(classes)])
        return np.array(rows)

    def precision(sums: np.ndarray) -> float:
        hit, drawn, true = sums.reshape(3, classes)
        each = hit**2 / np.maximum(drawn * true, 1e-9)
        return float(each[true > 0].mean()) if (true > 0).any() else np.nan

    yield mean("iou", where_there(overlaps))
    yield Resampled("map", where_there(counts), 3 * classes, precision)


BY_SOURCE = {
    "": signals,
    "caption": texts,
    "label": lambda answer, of: (),  # nothing beside the class
    "boxes": boxes,
    "row": lambda answer, of: rows(answer.usual or {}, of),
}
