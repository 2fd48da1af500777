"""Evaluators: figures of sums, over batches, so that no set has to fit in memory.

An evaluator is a frozen dataclass. Its sums are arrays of integers or float64 that add
up, whatever the batches, their order and the processes that they are divided among.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.pipeline.batching import once
from train.progress import progress
from train.runtime import hosts
from vqdit.shapes import Float, Shaped
from vqdit.signal import to_uint8
from vqdit.signal.rows import by_chunks
from vqdit.trained.codec import Codec

Sums = Any  # a tree of arrays
CHUNK, VALUES = 256, 2**21  # signals coded at a time, and their values in all
GROUP = 2**28  # values of small signals that are compared with others at once


class FeatureNetwork(Protocol):
    """A network whose features are compared; `dim` of them. protocol: what figures
    depend on."""

    @property
    def dim(self) -> int: ...

    @property
    def protocol(self) -> Any: ...

    def features(self, x: np.ndarray) -> Float[np.ndarray, "b d"]: ...


class Evaluator:
    """What a model is scored by: `start`, `sums` of a batch, and `finish`."""

    def start(self) -> Sums:
        """The sums of nothing."""
        raise NotImplementedError

    def sums(self, batch: Batch) -> Sums:
        """Those of one batch alone."""
        raise NotImplementedError

    def add(self, sums: Sums, batch: Batch) -> Sums:
        """The sums with those of a batch."""
        return merged(sums, self.sums(batch))

    def finish(self, sums: Sums) -> dict[str, Any]:
        """Figures by name, as JSON has them."""
        raise NotImplementedError


Evaluators = Iterator[Evaluator]


@dataclasses.dataclass(frozen=True)
class Several(Evaluator):
    """Evaluators of the same batches: their figures together, and what is known.

    rows: the name of a list of their figures instead.
    """

    parts: Sequence[Evaluator]
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rows: str = ""

    def start(self):
        return [each.start() for each in self.parts]

    def sums(self, batch):
        return [each.sums(batch) for each in self.parts]

    def finish(self, sums):
        found = [each.finish(x) for each, x in zip(self.parts, sums, strict=True)]
        if self.rows:
            return {self.rows: found}
        return {name: x for each in (*found, self.known) for name, x in each.items()}


def merged(a: Sums, b: Sums) -> Sums:
    """The sums of two sets together. Raises ValueError for those of two evaluators."""
    return jax.tree.map(np.add, a, b)


def evaluated(evaluator: Evaluator, batches: Iterable[Batch]) -> dict[str, Any]:
    """The figures over the batches of all processes, each of which brings its own."""
    sums = evaluator.start()
    with hosts.together():
        for batch in batches:
            sums = evaluator.add(sums, batch)
    return evaluator.finish(jax.tree.map(hosts.total, sums))


def examples(
    data: Modality,
    train: bool,
    index: np.ndarray | None = None,
    divided: bool = True,
    *,
    doing: str,
) -> Iterator[Batch]:
    """A part of the data in chunks of bounded memory, as `Examples` has them, with
    "index". As many rows in each; "valid" says which count, and is not all False.

    index: of the examples that are read; None is all. divided: among the processes.
    doing: what is said of how far it has come, where that takes long.
    """
    held = open_examples(data, train)
    index = held.spaced() if index is None else index

    def take(ranks: np.ndarray) -> Batch:
        return held.take(index[ranks]) | {"index": index[ranks]}

    size = affordable(math.prod(data.shape))
    return in_turn(take, len(index), size, data.threads, doing, divided)


def in_turn(
    take: Callable[[np.ndarray], Batch],
    count: int,
    size: int,
    threads: int,
    doing: str,
    divided: bool = True,
) -> Iterator[Batch]:
    """take(ranks) of 0 to `count`, at most `size` at a time and as many each time, as
    `examples` has them, which see."""
    process, processes = hosts.share() if divided else (0, 1)
    size = min(size, -(-count // processes))
    rows, step = np.arange(size) + size * process, size * processes
    found = once(take, count, step, rows=rows, threads=threads)
    found = progress(found, doing, -(-count // step), "batch")
    return (batch for batch in found if batch["valid"].any())


def grouped(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same rows in fewer batches, of as many values as are affordable."""
    held: list[Batch] = []
    size = lambda batch: sum(np.size(x) for x in batch.values())
    for batch in map(_valid, batches):
        if sum(map(size, [*held, batch])) > GROUP and held:
            yield _joined(held)
            held = []
        held.append(batch)
    if held:
        yield _joined(held)


def reconstructions(
    codec: Codec,
    data: Modality,
    most: int | None = None,
    beside: Sequence[Callable[[Batch], Batch]] = (),
) -> Iterator[Batch]:
    """`examples` held out with "x_hat", "codes" of a discrete tokenizer, and what each
    of `beside` makes of the batch."""
    index = open_examples(data, False).spaced(most)
    for batch in examples(data, False, index, doing="scoring"):
        batch["x_hat"], codes = _coded(codec, batch["x"])
        batch |= {} if codes is None else {"codes": codes}
        for make in beside:
            batch |= make(batch)
        yield _valid(batch)


def reconstruct(
    codec: Codec, x: Shaped[np.ndarray, "n *shape c"]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(reconstructions, codes or None) of signals, or of uint8 pictures as these, in
    chunks."""
    x_hat, codes = chunked(lambda part: _coded(codec, part), x)
    return (np.asarray(to_uint8(x_hat)) if x.dtype == np.uint8 else x_hat), codes


def chunked(
    function: Callable, x: Shaped[np.ndarray, "n *shape"], values: int | None = None
) -> Any:
    """function(x), arrays of n rows, of as many rows at a time as are affordable.

    values: of the signal that a row stands for; None where rows are signals.
    """
    size = min(len(x), affordable(values or math.prod(x.shape[1:])))
    return by_chunks(lambda part: hosts.gather(function(part)), x, size)


def affordable(values: int) -> int:
    """Signals of so many values that are held at a time."""
    return max(1, min(CHUNK, VALUES // values))


def signal(
    codec: Codec, x: Shaped[np.ndarray, "n *shape c"]
) -> Float[Any, "n *shape c"]:
    """Examples as their tokenizer takes them, of which those of pixels are uint8."""
    return codec.from_raw(x) if x.dtype == np.uint8 else x


def _coded(codec, x):
    q = codec.encode(signal(codec, x))
    x_hat = codec.decode(q.latents if q.codes is None else q.codes)
    return jax.tree.map(np.asarray, (x_hat, q.codes))


def _valid(batch):
    valid = batch.get("valid")
    if valid is None or valid.all():
        return batch
    return {name: x[valid] for name, x in batch.items()}


def _joined(batches):
    if len(batches) == 1:
        return batches[0]
    # Of a few examples none may have a caption.
    names = set.intersection(*map(set, batches))
    return {name: np.concatenate([each[name] for each in batches]) for name in names}
