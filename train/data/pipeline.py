"""From examples to batches, on Grain: order, augmentation, stacking, worker threads.

Batch k is a function of (seed, k) alone, and a picture's augmentation of (seed, epoch,
index). So a position in the data is one integer, and resuming is exact.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
from jaxtyping import Int

from train.data.images import Images, fit
from train.data.sources import Source, chance, open_source
from train.errors import BadInput

Batch = dict[str, np.ndarray]

# Fitted pictures of a set stay in memory up to this many bytes: MNIST is 47 MB.
KEPT_BYTES = 2**30
# Pictures read at once, light ones and others; bounds how many lie in memory unfitted.
LIGHT_CHUNK, CHUNK = 4096, 256

# First words of the hash behind each kind of draw, so that no two are the same numbers.
ORDER, PLACE, MIRROR = 1, 2, 3


def batches(
    images: Images,
    train: bool,
    batch: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Batches {"image": uint8 (b, size, size, c), "label": int32 (b,)}.

    train=True: endless; every epoch is another order of all examples, and batches run
    across its end, so a batch may be larger than the set.
    train=False: in order, once, with "valid": bool (b,), False on the padding that
    fills the last batch. Label -1 means there is none.

    `start`: batches already consumed. `process`: (index, count); each of the count
    processes gets its own equal rows of the same global batch.
    """
    fitted = prepare(images, train)
    if not train:
        return once(fitted.take, len(fitted), batch, start, process, images.threads)

    def augmented(indices: np.ndarray, epochs: np.ndarray) -> Batch:
        place = (
            chance(PLACE, seed, epochs, indices) if images.crop == "random" else None
        )
        stacked = fitted.take(indices, place)
        if images.flip:
            mirror = chance(MIRROR, seed, epochs, indices) < 0.5
            image = stacked["image"]
            image = np.where(mirror[:, None, None, None], image[:, :, ::-1], image)
            stacked["image"] = image
        return stacked

    return endless(augmented, len(fitted), batch, seed, start, process, images.threads)


def whole(images: Images, train: bool, count: int | None = None) -> Batch:
    """Every example, centre crop, not augmented: {"image": uint8 (n, size, size, c),
    "label": int32 (n,)}. `count` takes that many, evenly spaced, of a larger set."""
    fitted = prepare(images, train)
    n = len(fitted)
    if count is not None and count < 1:
        raise BadInput(f"count={count}: ask for at least 1 example")
    if count is None or count >= n:
        return fitted.take(np.arange(n))
    return fitted.take(np.arange(count) * n // count)


class Fitted:
    """Pictures of a Source at one size, stacked; kept once decoded where they fit."""

    def __init__(self, images: Images, source: Source):
        self.images, self.source = images, source
        shape = (len(source), images.size, images.size, images.channels)
        self._kept = None
        if np.prod(shape, dtype=np.int64) <= KEPT_BYTES:
            # Untouched pages of an empty array cost no memory.
            self._kept = np.empty(shape, np.uint8)
            self._label = np.empty(len(source), np.int32)
            self._have = np.zeros(len(source), bool)

    def __len__(self) -> int:
        return len(self.source)

    def take(
        self, indices: Int[np.ndarray, "b"], place: np.ndarray | None = None
    ) -> Batch:
        """Stacked examples. `place` (b,) in [0, 1) slides each crop along the longer
        side; None is the centre."""
        if place is not None and not self.source.square:
            return self._read(indices, place)
        if self._kept is None:
            return self._read(indices, None)
        missing = np.unique(indices[~self._have[indices]])
        if missing.size:
            # Two threads may both decode an example; they write the same bytes.
            read = self._read(missing, None)
            self._kept[missing], self._label[missing] = read["image"], read["label"]
            self._have[missing] = True
        return {"image": self._kept[indices], "label": self._label[indices]}

    def _read(self, indices: np.ndarray, place: np.ndarray | None) -> Batch:
        size, channels = self.images.size, self.images.channels
        image = np.empty((len(indices), size, size, channels), np.uint8)
        label = np.empty(len(indices), np.int32)

        def fill(low: int) -> None:
            examples = self.source.take(indices[low : low + chunk])
            for row, example in enumerate(examples, low):
                at = 0.5 if place is None else float(place[row])
                image[row] = fit(example["image"], size, channels, at)
                label[row] = example["label"]

        chunk = LIGHT_CHUNK if self.source.light else CHUNK
        starts = range(0, len(indices), chunk)
        # A batch of training is one chunk, read on one of Grain's threads.
        if len(starts) == 1 or self.source.light or not self.images.threads:
            for low in starts:
                fill(low)
        else:
            with ThreadPoolExecutor(self.images.threads) as pool:
                list(pool.map(fill, starts))
        return {"image": image, "label": label}


# Evaluation and training read the same sets again and again within one program.
@functools.lru_cache(maxsize=4)
def prepare(images: Images, train: bool) -> Fitted:
    """The part of the pictures as a Fitted, shared by all who ask for the same."""
    return Fitted(images, open_source(images, train))


def endless(
    take: Callable[[np.ndarray, np.ndarray], Batch],
    count: int,
    batch: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    threads: int = 4,
) -> Iterator[Batch]:
    """Shuffled batches without end; take(indices, epochs) reads one process's rows."""
    low, high = _rows(batch, start, process)
    if not 0 <= seed < 2**63:
        raise BadInput(f"run.seed={seed}: write a number in [0, 2**63)")

    # Two epochs, since batches run across their border. Kept here, and not drawn by
    # Grain's shuffle, which costs fifty times more per example.
    @functools.lru_cache(maxsize=2)
    def shuffled(epoch: int) -> np.ndarray:
        return permutation(count, seed, epoch)

    def load(k: int) -> Batch:
        epochs, ranks = np.divmod(k * batch + np.arange(low, high), count)
        indices = np.empty_like(ranks)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = shuffled(int(epoch))[ranks[here]]
        return take(indices, epochs)

    return _iterate(grain.MapDataset.range(sys.maxsize).map(load), start, threads)


def permutation(count: int, seed: int, epoch: int) -> Int[np.ndarray, "count"]:
    """The order of an epoch, a function of (seed, epoch) and the number of examples."""
    return np.argsort(chance(ORDER, seed, epoch, np.arange(count)), kind="stable")


def once(
    take: Callable[[np.ndarray], Batch],
    count: int,
    batch: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    threads: int = 4,
) -> Iterator[Batch]:
    """Batches in order, one pass, the last filled up with its last example."""
    low, high = _rows(batch, start, process)

    def load(k: int) -> Batch:
        rows = k * batch + np.arange(low, high)
        return take(np.minimum(rows, count - 1)) | {"valid": rows < count}

    order = grain.MapDataset.range(-(-count // batch)).map(load)
    return _iterate(order, start, threads)


def _rows(batch: int, start: int, process: tuple[int, int]) -> tuple[int, int]:
    """The rows of a global batch that belong to this process."""
    index, of = process
    if batch < 1 or batch % of:
        nearest = max(of, batch // of * of)
        raise BadInput(
            f"run.batch={batch} does not divide over {of} processes; write {nearest}"
        )
    if start < 0:
        raise BadInput(f"start={start}: batches consumed cannot be negative")
    if not 0 <= index < of:
        raise ValueError(f"process {index} of {of}")
    return index * (batch // of), (index + 1) * (batch // of)


def _iterate(dataset, start: int, threads: int) -> Iterator[Batch]:
    if start >= len(dataset):
        return iter(())
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=2 * threads if threads else 0
    )
    # A generator ends at the first error, where Grain's own iterator would go on with
    # the batch after it, and a caller that retried would lose one.
    return (each for each in dataset[start:].to_iter_dataset(options))


def stack(examples: Sequence[dict[str, np.ndarray]]) -> Batch:
    """Examples with the same names and shapes as one array per name."""
    return {name: np.stack([e[name] for e in examples]) for name in examples[0]}
