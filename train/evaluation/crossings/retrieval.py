"""Which of many examples is the true companion of one: ranks, by any measure."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from train.evaluation.crossings.rivals import flat_signals, principal
from train.evaluation.texts import edits
from train.modalities import Batch
from train.pipeline import JointExamples, having, spaced
from vqdit.shapes import Float, Int
from vqdit.tokenizer.text import Text

TRAINING, VALUES = 10_000, 2**28  # training examples that are looked through, at most
FIRST = 10  # ranks that count as found


def ranks(
    costs: Float[np.ndarray, "n k"], true: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Of each row's true column among all, 1 for the least cost. Of those that cost as
    much as the true one, half stand before it."""
    own = costs[np.arange(len(true)), true][:, None]
    return 0.5 + (costs < own).sum(1) + (costs == own).sum(1) / 2


def retrieved(found: Float[np.ndarray, "n"]) -> dict[str, float]:
    """Of ranks: their median and mean, and the shares that are first, or among the
    first ten."""
    return {
        "median_rank": float(np.median(found)),
        "mean_rank": float(found.mean()),
        "first_share": float((found < 1.5).mean()),
        f"first_{FIRST}_share": float((found < FIRST + 0.5).mean()),
    }


def with_all(
    data: JointExamples, rows: Int[np.ndarray, "n"], names: Iterable[str]
) -> tuple[Int[np.ndarray, "k"], Batch]:
    """Those of the rows that have something of all these streams, and their batch."""
    batch = data.take(rows)
    there = having(batch, names)
    return rows[there], jax.tree.map(lambda x: x[there], batch)


class Nearest:
    """The training example that is nearest to another by some of their streams.

    Texts are as far apart as the edits between them, signals as the distance of their
    principal components, all else as the codes in which they differ; several streams as
    the sum, each over its mean from the example, whatever others are in its batch.

    train: joined as the others are; `streams` are those of at most TRAINING of it.
    """

    def __init__(self, train: JointExamples, names: Collection[str]):
        size = max(math.prod(data.shape) for data in train.data.values())
        rows = spaced(len(train), min(TRAINING, max(1, VALUES // size)))
        self.streams = with_all(train, rows, train.data)[1]["streams"]
        self.apart = {
            name: _measure(train.values.get(name), self.streams[name]) for name in names
        }

    def places(
        self, streams: Mapping[str, np.ndarray], by: Collection[str]
    ) -> Int[np.ndarray, "n"]:
        """Of the nearest, in `self.streams`, to each of these by the streams `by`."""
        each = [self.apart[name](streams[name], self.streams[name]) for name in by]
        mean = lambda x: np.maximum(x.mean(1, keepdims=True), 1e-12)
        return sum(x / mean(x) for x in each).argmin(1)


def nearest_costs(
    train: JointExamples, scored: Batch, candidates: Batch, of: str, given: str
) -> Float[np.ndarray, "n k"]:
    """What needs no network: how far each candidate is by `given` from the training
    example that is nearest to the scored one by `of`."""
    near = Nearest(train, (of, given))
    found = near.streams[given][near.places(scored["streams"], (of,))]
    return near.apart[given](found, candidates["streams"][given])


def _measure(tokenizer: Any, train: np.ndarray) -> Callable:
    """(n examples, k others) of a stream -> how far they are apart, (n, k)."""

    def texts(a, b):
        others = tokenizer.decode(b[..., 0])
        found = [edits(text, others) for text in tokenizer.decode(a[..., 0])]
        return np.stack(found).astype(np.float64)

    def codes(a, b):
        a, b = a.reshape(len(a), 1, -1), b.reshape(1, len(b), -1)
        return (a != b).sum(-1).astype(np.float64)

    def signals(a, b):
        a, b = (seen(x).astype(np.float64) for x in (a, b))
        squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        return np.sqrt(np.maximum(squared, 0))

    if tokenizer is not None:
        return texts if isinstance(tokenizer, Text) else codes
    seen = principal(flat_signals, train)
    return signals
