"""From examples to batches, on Grain: order, stacking, worker threads.

Batch k is a function of (seed, k) alone, and an example's augmentation of (seed, epoch,
index). So a position in the data is one integer, and resuming is exact.
"""

import functools
import sys
from collections.abc import Callable, Iterator

import numpy as np

from train.modalities.draws import Word, chance
from train.modalities.record import Batch
from vqdit.shapes import Int


def spaced(count: int, most: int | None = None) -> Int[np.ndarray, "n"]:
    """Rows of a set of so many, evenly spaced; all where there are no more."""
    some = count if most is None else min(most, count)
    return np.arange(some) * count // max(1, some)


def endless(
    take: Callable[[np.ndarray, np.ndarray], Batch],
    count: int,
    batch: int,
    seed: int,
    start: int = 0,
    rows: np.ndarray | None = None,
    threads: int = 4,
) -> Iterator[Batch]:
    """Shuffled batches without end; take(indices, epochs) reads the rows asked for.

    Every epoch is another order of all `count` examples, and batches run across its
    end, so a batch may be larger than the set. start: batches already consumed. rows:
    those of each batch that are read, such as one process's own; None is all.
    """
    mine = np.arange(batch) if rows is None else rows

    # Two epochs, since batches run across their border. Kept here, and not drawn by
    # Grain's shuffle, which costs fifty times more per example.
    @functools.lru_cache(maxsize=2)
    def shuffled(epoch: int) -> np.ndarray:
        return permutation(count, seed, epoch)

    def load(k: int) -> Batch:
        epochs, ranks = np.divmod(k * batch + mine, count)
        indices = np.empty_like(ranks)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = shuffled(int(epoch))[ranks[here]]
        return take(indices, epochs)

    return _iterate(load, sys.maxsize, start, threads)


def permutation(count: int, seed: int, epoch: int) -> Int[np.ndarray, "count"]:
    """The order of an epoch, a function of (seed, epoch) and the number of examples."""
    return np.argsort(chance(Word.ORDER, seed, epoch, np.arange(count)), kind="stable")


def once(
    take: Callable[[np.ndarray], Batch],
    count: int,
    batch: int,
    rows: np.ndarray | None = None,
    threads: int = 4,
) -> Iterator[Batch]:
    """Batches in order, one pass, the last filled up with its last example; "valid",
    bool (b,), is False on what fills it up."""
    mine = np.arange(batch) if rows is None else rows

    def load(k: int) -> Batch:
        index = k * batch + mine
        return take(np.minimum(index, count - 1)) | {"valid": index < count}

    return _iterate(load, -(-count // batch), 0, threads)


def _iterate(
    load: Callable[[int], Batch], count: int, start: int, threads: int
) -> Iterator[Batch]:
    if start >= count:
        return iter(())
    import grain  # a machine that reads no data has no need of it

    dataset = grain.MapDataset.range(count).map(load)
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=2 * threads if threads else 0
    )
    # A generator ends at the first error, where Grain's own iterator would go on with
    # the batch after it, and a caller that retried would lose one.
    return (each for each in dataset[start:].to_iter_dataset(options))
