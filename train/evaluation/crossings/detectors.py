"""What a crossing into boxes has to beat: detectors of the raw signals given."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.evaluation.crossings.rivals import (
    Given,
    Rival,
    flat,
    held_at_once,
    parameters,
    principal,
    spent,
    standardised,
)
from train.evaluation.judge import BATCH, after_batches, side_of, widths
from train.modalities import Batch
from train.pipeline import JointExamples, endless
from train.progress import progress, say
from vqdit.features.detector import Detector
from vqdit.shapes import Array, Float, Int
from vqdit.signal import to_signal
from vqdit.tokenizer import Boxes
from vqdit.trained.judge import one_picture

STEPS = 1000
MATCHED = 4  # boxes of a picture, at most, that are matched in every order
EDGES, OVERLAP = 5.0, 2.0  # weights of arXiv:2005.12872, section A.4

Drawn = Float[np.ndarray, "n *frames k 5"]


@dataclasses.dataclass(frozen=True, eq=False)
class Detectors:
    """Detectors that learn the boxes of a stream from others, on the training part.

    pca: on the principal components of the raw signals, of each stream for itself and
        then side by side, logistic regression of the class of each box, or that there
        is none, and linear regression of the edges of those that there are.
    cnn: a small convolutional network for this task alone, `Detector`, over all that is
        given; its loss is that of DETR (arXiv:2005.12872), by which a box that is said
        counts as the true one that makes all together cheapest.

    train:  training examples of the streams, joined as the generator was trained.
    boxes:  of the wanted stream.
    books:  stream -> how many codes it has, of what is born discrete.
    """

    train: JointExamples
    given: Sequence[str]
    want: str
    boxes: Boxes
    books: Mapping[str, int]
    steps: int = STEPS

    def fit(self) -> dict[str, Rival]:
        """Name -> boxes (n, *frames, count, 5) of a batch, as `Boxes.decode` has them;
        no "cnn" of what is born discrete."""
        say(f"fitting baselines of {'+'.join(self.given)}_to_{self.want}")
        every = np.arange(len(self.train))
        names = (*self.given, self.want)
        there = [self.train.has(every, name) for name in names]
        rows = np.flatnonzero(np.all(there, 0))
        some = held_at_once(self.train, self.given, self.books, rows)
        kept = self._taken(rows[some])
        found = {"pca": self._regressions(kept)}
        if any(name not in self.books for name in self.given):
            take, threads = lambda at: jax.tree.map(lambda x: x[at], kept), 0
            if len(some) < len(rows):  # not all are in memory
                take = lambda at: self._taken(rows[at])
                threads = max(self.train.data[name].threads for name in self.given)
            found["cnn"] = self._network(take, len(rows), threads)
        return found

    def _taken(self, rows: Int[np.ndarray, "n"]) -> Batch:
        """ "streams", the true "boxes", and "there", of which something is known."""
        batch = self.train.take(rows)
        codes, known = batch["streams"][self.want], batch["known"].get(self.want)
        there = np.ones(len(rows), bool)
        if known is not None:
            there = known.reshape(len(rows), -1).all(1)
        return {
            "streams": {name: batch["streams"][name] for name in self.given},
            "boxes": self.boxes.decode(codes[..., 0]),
            "there": there,
        }

    def _regressions(self, kept: Batch) -> Rival:
        from sklearn.linear_model import LinearRegression, LogisticRegression  # slow

        start, x = time.monotonic(), kept["streams"]
        maps = {n: principal(flat(self.books.get(n)), x[n]) for n in self.given}
        own, seen = standardised(maps, x)
        own, true = own[kept["there"]], kept["boxes"][kept["there"]]
        true = true.reshape(len(true), -1, 5)  # places of all frames

        def fitted(true: Float[np.ndarray, "n 5"]) -> Callable[[np.ndarray], Drawn]:
            kinds, present = np.unique(true[:, 4]), true[:, 4] >= 0
            edges = lambda x: np.zeros((len(x), 4))
            says = lambda x: np.full(len(x), kinds[0])
            if present.any():
                edges = LinearRegression().fit(own[present], true[present, :4]).predict
            if len(kinds) > 1:
                model = LogisticRegression(max_iter=1000)
                says = model.fit(own, true[:, 4]).predict
            return lambda x: _made(says(x), edges(x))

        places = [fitted(true[:, i]) for i in range(true.shape[1])]
        shape = kept["boxes"].shape[1:]

        def says(batch: Batch) -> Drawn:
            x = seen(batch["streams"])
            return np.stack([place(x) for place in places], 1).reshape(-1, *shape)

        return Rival(says, spent(len(own), start))

    def _network(
        self, take: Callable[[np.ndarray], Batch], count: int, threads: int
    ) -> Rival:
        """AdamW, cosine schedule, shuffled batches of BATCH pictures of `count`
        examples, of each of which a clip has several."""
        start, boxes, steps = time.monotonic(), self.boxes, self.steps
        size = max(1, BATCH // max(1, boxes.frames))
        signals = self._signals(take(np.arange(1))["streams"])
        sides = tuple((name, _widths(x)) for name, x in signals.items())
        network = Detector(boxes.count, boxes.classes, sides, boxes.frames)
        params = jax.jit(network.init)(jax.random.key(0), signals)["params"]
        schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-3, steps // 20, steps)
        tx = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2)
        )

        def loss(params, signals, true, there):
            said = network.apply({"params": params}, signals)
            each = cost(*said, true).reshape(len(there), -1).mean(1)
            return (each * there).sum() / jnp.maximum(there.sum(), 1)

        read = lambda at, epochs: take(at)
        batches = endless(read, count, size, seed=0, threads=threads)
        batches = itertools.islice(batches, steps)
        seen = lambda b: (self._signals(b["streams"]), b["boxes"], b["there"])
        doing = progress(batches, "training the detector", steps, "step")
        params = after_batches(params, tx, loss, map(seen, doing))
        run = jax.jit(lambda signals: network.apply({"params": params}, signals))

        def says(batch: Batch) -> Drawn:
            logits, edges = map(np.asarray, run(self._signals(batch["streams"])))
            kinds = logits.argmax(-1)
            return _made(np.where(kinds == boxes.classes, -1, kinds), edges)

        budget = {"steps": steps, "batch": size, "parameters": parameters(params)}
        budget = spent(count, start) | budget
        return Rival(says, {"networks": {"+".join(self.given): budget}})

    def _signals(self, streams: Given) -> dict[str, Array]:
        """As `Detector` takes them: clips frame by frame where boxes are of each, what
        else has more than two sides with slices as channels, and rows of codes."""
        found: dict[str, Any] = {}
        for name in self.given:
            x: Any = streams[name]
            if name in self.books:
                found[name] = jnp.asarray(flat(self.books[name])(x))
                continue
            x = to_signal(x)
            framed = x.ndim == 5 and x.shape[1] == self.boxes.frames
            found[name] = x if framed else one_picture(x)
        return found


def _widths(x: Array) -> tuple[int, ...]:
    return () if x.ndim == 2 else widths(side_of(x.shape[-3:]))


def _made(kinds: np.ndarray, edges: np.ndarray) -> Drawn:
    """Boxes of classes, -1 where there is none, and edges."""
    none = kinds[..., None] < 0
    boxes = np.concatenate([np.where(none, 0, edges), kinds[..., None]], -1)
    return boxes.astype(np.float32)


def cost(
    logits: Float[Array, "*b k y"],
    edges: Float[Array, "*b k 4"],
    true: Float[Array, "*b k 5"],
) -> Float[Array, "*b"]:
    """Of the boxes said of each picture, matched with the true ones so that it is the
    least; of more than MATCHED each with the one in its place."""
    kinds = true[..., 4].astype(jnp.int32)
    present, last = kinds >= 0, logits.shape[-1] - 1
    kinds = jnp.where(present, kinds, last)
    nats = -jax.nn.log_softmax(logits)  # (*b, said, class)
    named = jnp.take_along_axis(nats, kinds[..., None, :], -1)  # (*b, said, true)
    # What is not there is any box that has an area: beside a box of none, a gradient
    # that counts for nothing would be no number.
    wanted = jnp.where(present[..., None], true[..., :4], jnp.array([0.0, 0, 1, 1]))
    said, wanted = edges[..., :, None, :], wanted[..., None, :, :]
    apart = jnp.abs(said - wanted).sum(-1)
    far = EDGES * apart + OVERLAP * (1 - generalized_overlap(said, wanted))
    each = named + jnp.where(present[..., None, :], far, 0)
    k = each.shape[-1]
    orders: Iterable[Iterable[int]] = [range(k)]
    if k <= MATCHED:
        orders = itertools.permutations(range(k))
    matched = (sum(each[..., i, j] for i, j in enumerate(order)) for order in orders)
    sums = jnp.stack(list(map(jnp.asarray, matched)), -1)
    # Chosen, since the gradient of a least one compares values with it, which a
    # compiler may have computed twice and rounded otherwise: none is equal, and 0 / 0.
    best = jax.nn.one_hot(jax.lax.stop_gradient(sums).argmin(-1), sums.shape[-1])
    return (sums * best).sum(-1)


def generalized_overlap(
    a: Float[Array, "*b 4"], b: Float[Array, "*b 4"]
) -> Float[Array, "*b"]:
    """Generalized intersection over union (arXiv:1902.09630) of x0, y0, x1, y1."""
    area = lambda low, high: jnp.maximum(high - low, 0).prod(-1)
    ends = lambda box: (box[..., :2], box[..., 2:])
    (a0, a1), (b0, b1) = ends(a), ends(b)
    both = area(jnp.maximum(a0, b0), jnp.minimum(a1, b1))
    union = area(a0, a1) + area(b0, b1) - both
    hull = area(jnp.minimum(a0, b0), jnp.maximum(a1, b1))
    return both / (union + 1e-6) - (hull - union) / (hull + 1e-6)
