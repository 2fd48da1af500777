"""Batches of a training step: streams by name, and what is known of each."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from train.errors import BadInput, blame, of_stream
from train.modalities.modality import Modality
from train.modalities.record import Batch
from train.pipeline.batching import endless, spaced
from train.pipeline.cache import CachedExamples
from train.pipeline.examples import LIGHT_CHUNK, VALUES_CHUNK, Examples, open_examples
from train.pipeline.joins import How, join_parts
from train.pipeline.statistics import probe
from train.progress import progress, say
from vqdit.shapes import Bool, Int
from vqdit.tokenizer import Value

# Values that are encoded as a run begins, in seconds; of texts, which are slow, the
# longest; examples that are read where the source does not tell its values.
CHECKED, LONGEST, READ = 2**20, 2**17, 256


class JointExamples:
    """Data sets of which some examples belong together.

    data:   stream -> its data. One that several streams name is read once.
    values: stream -> what is born discrete, such as Bytes or Labels: its codes are made
        of the caption, the label or the row that `tokenizer.source` names.
    how:    in which way they belong together; see `joins`.
    caches: stream -> what is read in the place of its data: latents or codes, of what
        is born discrete, too.
    classes, class_names: of the first data that has some; its labels are the batch's,
        -1 where an example has nothing of it.

    Of padding behind a text, its symbol is known and predicted, so that its length is
    modelled; that of a shorter recording is silence, and part of the signal.

    Raises BadInput for data that cannot be joined so.
    """

    def __init__(
        self,
        data: Mapping[str, Modality],
        values: Mapping[str, Any],
        train: bool,
        how: How = "index",
        caches: Mapping[str, CachedExamples] | None = None,
    ):
        self.data, self.cached = dict(data), bool(caches)
        self.values = {} if caches else dict(values)
        self.parts: dict[str, Examples | CachedExamples] = dict(caches or {})
        if not caches:
            for name, each in data.items():
                with of_stream(name, data):
                    self.parts[name] = open_examples(each, train)
        for name, value in self.values.items():
            if value.closed:
                _count_unseen(value, data[name], train, name)
        self._join = join_parts(self.parts, how, train)
        labelled = [name for name, part in self.parts.items() if part.classes]
        self._labelled = (labelled or list(self.parts))[0]
        labels = self.parts[self._labelled]
        self.classes, self.class_names = labels.classes, labels.class_names
        self.order, self.absent = labels.order, labels.absent
        if self.classes and self._labelled in self._join.missing:
            self.absent = tuple(each for each in self.absent if each != self.classes)

    def __len__(self) -> int:
        return self._join.count

    def made_of(self) -> dict[str, Any]:
        """Stream -> a probe of the records that it is trained on, as its cache has it,
        and their mark, or the cache's; None of a cache that has no probe."""
        found: dict[str, Any] = {}
        probed = functools.cache(lambda data: probe(data, True))  # streams share some
        for name, part in self.parts.items():
            if isinstance(part, CachedExamples):
                of, mark = part.cache.contract.get("data"), part.cache.mark
            else:
                of, mark = probed(part.data), part.source.mark
            found[name] = {**of, "mark": mark} if isinstance(of, dict) else of
        return found

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        """{"streams": {name: (b, ...)}, "known": {name: (b, ...)}, "label": (b,)}.

        Signals as `Examples` has them, codes (b, *grid, books) of what is born
        discrete. What is not in "known" is known whole; (b,) says which examples have
        the stream at all.
        """
        rows = self._join.rows(indices, epochs, seed)
        # A row that goes with several examples of an epoch is augmented for each.
        own = epochs * len(self) + indices

        def read(part: Examples, name: str) -> Batch:
            draws = own if name in self._join.shared else epochs
            return part.augmented(np.maximum(rows[name], 0), draws, seed)

        return self._joined(rows, read)

    def take(self, indices: np.ndarray) -> Batch:
        """The same of the examples as they are evaluated, in one draw of companions."""
        rows = self._join.rows(indices, 0, 0)
        read = lambda part, name: part.take(np.maximum(rows[name], 0))
        return self._joined(rows, read)

    def labels(
        self, indices: np.ndarray, name: str | None = None
    ) -> Int[np.ndarray, "n"]:
        """Of these examples, without reading them where the source knows: as the data
        of a stream number its classes, or those of the batch; -1 where there is none.
        """
        name = self._labelled if name is None else name
        rows = self._join.rows(indices, 0, 0)[name]
        return np.where(rows < 0, -1, self.parts[name].labels[np.maximum(rows, 0)])

    def like(self, pattern: str) -> Int[np.ndarray, "n"]:
        """Which examples have a stream whose name is like a regular expression."""
        search = name_pattern(pattern).search
        every = np.arange(len(self))
        rows, found = self._join.rows(every, 0, 0), np.zeros(len(self), bool)
        named = {name: part.keys for name, part in self.parts.items() if part.keys}
        for name, keys in named.items():
            same = np.array([search(key) is not None for key in keys])
            found |= (rows[name] >= 0) & same[np.maximum(rows[name], 0)]
        if not found.any():
            why = f"no name is like {pattern!r}" if named else "the data have no names"
            raise BadInput(f"{why} among the examples of {', '.join(self.parts)}")
        return np.flatnonzero(found)

    def has(self, indices: np.ndarray, name: str) -> Bool[np.ndarray, "n"]:
        """Which of these examples have a stream at all, without reading them."""
        return self._join.rows(indices, 0, 0)[name] >= 0

    def _joined(
        self, rows: Mapping[str, np.ndarray], read: Callable[[Any, str], Batch]
    ) -> dict[str, Any]:
        found: dict[Any, Batch] = {}
        streams: dict[str, Any] = {}
        known: dict[str, Any] = {}
        for name, part in self.parts.items():
            if part not in found:
                found[part] = read(part, name)
            batch = found[part]
            if name in self.values:
                streams[name], known[name] = codes_of(self.values[name], batch, name)
            else:
                streams[name] = batch["x"]
                if "known" in batch:
                    known[name] = batch["known"]
            if name in self._join.missing:
                streams[name], known[name] = _without(
                    rows[name] >= 0, streams[name], known.get(name)
                )
        label = found[self.parts[self._labelled]]["label"]
        label = np.where(rows[self._labelled] < 0, -1, label)
        return {"streams": streams, "known": known, "label": label}

    def batches(
        self, batch: int, seed: int, start: int = 0, rows: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Endless batches, shuffled; see `pipeline.endless`."""
        threads = [4 if self.cached else data.threads for data in self.data.values()]
        take = lambda indices, epochs: self.augmented(indices, epochs, seed)
        return endless(take, len(self), batch, seed, start, rows, max(threads))

    def in_order(
        self, batch: int, rows: np.ndarray | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        """Whole batches, at most so many, of the examples as they are evaluated.

        They are evenly spaced over the set, which may be sorted by class. What is left
        over is left out; of fewer than a batch some are there again.
        """
        mine = np.arange(batch) if rows is None else rows
        count = max(1, len(self) // batch)
        count = count if most is None else min(most, count)
        for k in range(count):
            yield self.take((k * batch + mine) * len(self) // (count * batch))


def having(batch: Batch, names: Iterable[str]) -> Bool[np.ndarray, "b"]:
    """Which examples of a joint batch have something of all these streams."""
    there = np.ones(len(next(iter(batch["streams"].values()))), bool)
    for name in names:
        if name in batch["known"]:
            there &= batch["known"][name].reshape(len(there), -1).any(1)
    return there


def _without(here, x, known):
    """(x, known) with nothing of the examples that are not here."""
    wide = lambda array: here.reshape(-1, *[1] * (array.ndim - 1))
    known = here.astype(np.float32) if known is None else known * wide(known)
    return np.where(wide(x), x, 0), known


def codes_of(tokenizer, batch: Batch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(codes (b, *grid, 1), known (b,) or (b, *grid)) of what is born discrete; what
    the training part has never had is not known."""
    with blame(f"streams.{name}.tokenizer"):
        values = seen_of(tokenizer, batch)
        return tokenizer.encode(values)[..., None], tokenizer.known(values)


def seen_of(tokenizer: Value, batch: Batch) -> Sequence[Any]:
    """What the examples have of what is born discrete, with nothing that the training
    part has never had."""
    values: Any = batch.get(tokenizer.source, [None] * len(batch["label"]))
    return tokenizer.seen(values)[0]


def name_pattern(pattern: str) -> re.Pattern[str]:
    """What names are compared with; BadInput for what is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadInput(f"--among={pattern}: {error}") from error


def say_unseen(counts: Mapping[str, int], where: str) -> None:
    """Says what `Value.seen` has taken as missing."""
    if counts:
        found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        say(f"{where}: entries that training has never seen are missing: {found}")


@functools.lru_cache(maxsize=16)
def _count_unseen(tokenizer: Value, data: Modality, train: bool, name: str) -> None:
    """Says once how much of a part of the data the training part has never had."""
    values = open_examples(data, train).values(tokenizer.source)
    with blame(f"streams.{name}.tokenizer"):
        counts = tokenizer.seen(values)[1]
    say_unseen(counts, f"data of {name!r}, {'training' if train else 'held-out'} part")


def check_values(tokenizer: Value, examples: Examples, name: str) -> bool:
    """Whether there are any values. Raises BadInput for one that has no codes, such as
    a text that is too long: else training ends when it comes to it.

    All that are told, or those of a few examples, of all classes of a sorted set; of
    texts those that may have too many codes, the longest first, so that what is advised
    does for the others. As many at once as suit the memory.
    """
    told = examples.told(tokenizer.source)
    count = len(examples) if told is None else len(told)
    chosen = spaced(count, READ if told is None else CHECKED)
    which, unsure = f"each {tokenizer.source}", count
    if told is not None and (most := tokenizer.most_codes(told)) is not None:
        unsure = int((most > tokenizer.length).sum())
        chosen = np.argsort(-most, kind="stable")[: min(unsure, LONGEST)]
        which = f"the longest {tokenizer.source}"
    size = VALUES_CHUNK if told is None else LIGHT_CHUNK
    there = told is not None and any(value is not None for value in told)
    doing = f"checking each {tokenizer.source}"
    for low in progress(range(0, len(chosen), size), doing, unit="chunk"):
        rows = chosen[low : low + size]
        if told is None:
            values = examples.take(rows).get(tokenizer.source, ())
        else:
            values = [told[i] for i in rows]
        with blame(f"streams.{name}.tokenizer"):
            tokenizer.encode(tokenizer.seen(values)[0])
        there |= any(value is not None for value in values)
    if there and len(chosen) < unsure:
        say(
            f"streams.{name}: {which} of {len(chosen):,} examples of {count:,} is "
            "known to have codes; another that has none ends training"
        )
    return there


@functools.lru_cache(maxsize=16)
def settled(tokenizer: Value, data: Modality) -> Value:
    """What is born discrete, with what the training part says of it.

    Raises ValueError where that does not say it.
    """
    if tokenizer.settled:
        return tokenizer
    return tokenizer.settle(open_examples(data, True).values(tokenizer.source))
