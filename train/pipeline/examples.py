"""One part of an experiment's data: records of a source as examples of a modality."""

import contextlib
import functools
import logging
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from train.errors import BadInput
from train.modalities.draws import Draws
from train.modalities.modality import Modality
from train.modalities.record import Batch, Record
from train.modalities.transforms.normalise import Normaliser, normaliser
from train.pipeline.batching import spaced
from train.pipeline.statistics import records_of, statistics_of
from train.progress import progress
from vqdit.shapes import Int

log = logging.getLogger(__name__)

# Records read at once, which lie in memory uncut: light ones; others, of so many bytes
# if all were as large as the first; and those of which one value is wanted.
LIGHT_CHUNK, CHUNK, VALUES_CHUNK, CHUNK_BYTES = 4096, 256, 16, 2**26
LOOKED_AT = 64  # records that are read at the start for what is told of them
# Examples of one part stay in memory up to this many bytes of signal: MNIST is 47 MB.
KEPT_BYTES = 2**30


class Examples:
    """One part of the data as arrays of one shape.

    A batch has the signal as "x", uint8 pixels or float32 in about [-1, 1], as
    (b, *shape), and "label" int32 (b,), -1 where there is none. It may have "known",
    shaped like the signal, 1 where the value was observed, at rest "truth", and
    "caption" and "row", None where there is none.

    classes, class_names, order, absent: of the source.
    offset, scale: per channel; signal = (raw - offset) / scale. () where signals are
        used as they are. normaliser: of the channels that are measured, or None.
    """

    def __init__(self, data: Modality, train: bool):
        self.data, self.source = data, records_of(data, train)
        self.classes, self.class_names = self.source.classes, self.source.class_names
        self.found, self.refused = self.source.found, self.source.refused
        self.order = self.source.order
        if data.words and len(data.words) != self.classes:
            raise BadInput(
                f"data.words has {len(data.words)} and the data has {self.classes} "
                "classes; write one for each"
            )
        self.normaliser = None
        self.offset: tuple[float, ...] = ()
        self.scale: tuple[float, ...] = ()
        if data.normalise is not None:
            own = self.normaliser = normaliser(statistics_of(data), data.normalise)
            # What a modality adds to the channels that are measured is 0 or 1.
            more = (0.5,) * (data.shape[-1] - len(own.offset))
            self.offset, self.scale = own.offset + more, own.scale + more
        starts: Iterable[Sequence[int]] = [(0,)] * len(self.source)
        windowed = type(data).starts is not Modality.starts
        if windowed:  # else without reading any
            records = progress(self.source, "finding windows", unit="record")
            starts = map(data.starts, records)
        if train:
            self._tell(windowed)
        windows = [(row, start) for row, each in enumerate(starts) for start in each]
        self._windows = np.array(windows).reshape(-1, 2)
        # What is not drawn anew is kept once it is made, where all of it fits.
        values = len(self) * math.prod(data.shape)
        fits = values * (1 if data.pixels else 4) <= KEPT_BYTES
        self._made = np.zeros(len(self), bool) if fits else None
        self._kept: Batch = {}

    def __len__(self) -> int:
        return len(self._windows)

    def _tell(self, read: bool) -> None:
        """Warns of what is done to values: of all records where these are `read` anyway
        or are few, else of some if values have one range for all, else not."""
        if type(self.data).changes is Modality.changes:
            return
        if self.data.normalise is None:
            some = self.source.take(spaced(len(self.source), LOOKED_AT))
            found = self.data.findings(some)
        elif read or len(self.source) <= LIGHT_CHUNK:
            found = self.findings
        else:  # inspect says it
            return
        for line in self.data.changes(found):
            log.warning("%s", line)

    @property
    def absent(self) -> tuple[int, ...]:
        return self.source.absent

    @functools.cached_property
    def labels(self) -> Int[np.ndarray, "n"]:
        """Of all examples; where the source does not know, all records are read."""
        labels = self.source.labels
        if labels is None:
            labels = np.array(self.source.read_labels(), int)
        return labels[self._windows[:, 0]]

    @property
    def keys(self) -> list[str] | None:
        """Of all examples, each its record's; None where there are none."""
        keys = self.source.keys
        return None if keys is None else [keys[row] for row in self._windows[:, 0]]

    @property
    def names(self) -> tuple[str, ...]:
        """What the channels are called in the first file, where it says so."""
        return tuple(self.source[0].more.get("names", ()))

    def spaced(self, most: int | None = None) -> Int[np.ndarray, "n"]:
        """Indices of so many, evenly spaced; of all where there are no more."""
        return spaced(len(self), most)

    @property
    def findings(self) -> dict[str, Any]:
        """What `train.inspect` says of the records as they were stored."""
        return self.data.findings(self.source)

    def take(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples as they are evaluated: always the same for an index."""
        if self._made is None:
            return self._read(indices)
        new = indices[~self._made[indices]]
        if new.size:
            # Two threads may both make an example; they write the same.
            new = np.unique(new)
            for name, x in self._read(new).items():
                column = np.empty((len(self), *x.shape[1:]), x.dtype)
                self._kept.setdefault(name, column)[new] = x
            self._made[new] = True
        # A copy, since another thread may meet the first caption meanwhile.
        return {name: column[indices] for name, column in dict(self._kept).items()}

    def augmented(
        self, indices: Int[np.ndarray, "b"], epochs: Int[np.ndarray, "b"], seed: int
    ) -> Batch:
        """The examples as they are trained on: a function of (seed, epoch, index)."""
        draws = Draws(seed, epochs, indices)
        if self.data.drawn:
            batch = self._cut(indices, draws)
        else:
            batch = self.take(indices)
            batch.pop("truth", None)  # of what is not augmented
        return self.data.augmented(batch, draws)

    def _read(self, indices: np.ndarray) -> Batch:
        """`take` from the source, in chunks of bounded memory."""
        light = self.source.light
        found: dict[str, np.ndarray] = {}
        chunk = LIGHT_CHUNK if light else self._chunk

        def read(low: int) -> None:
            part = slice(low, low + chunk)
            for name, x in self._cut(indices[part], None).items():
                # Untouched pages of an array that is there already cost no memory.
                whole = np.empty((len(indices), *x.shape[1:]), x.dtype)
                found.setdefault(name, whole)[part] = x

        chunks = range(0, len(indices), chunk)
        if light or not self.data.threads:
            list(map(read, chunks))
        else:
            with ThreadPoolExecutor(self.data.threads) as pool:
                list(pool.map(read, chunks))
        return found

    @functools.cached_property
    def _chunk(self) -> int:
        return min(CHUNK, max(1, CHUNK_BYTES // max(1, self.source[0].nbytes)))

    def _cut(self, indices: np.ndarray, draws: Draws | None) -> Batch:
        rows, starts = self._windows[indices].T
        records = self.source.take(rows)
        batch = self.data.cut(records, starts, draws)
        for name in ("x", "truth"):
            if self.normaliser and name in batch:
                c = batch[name].shape[-1]
                own = Normaliser(self.offset[:c], self.scale[:c])
                batch[name] = own(batch[name])
        for name in ("caption", "row"):
            values = (self._value(record, name) for record in records)
            column = np.fromiter(values, object, len(records))
            if any(value is not None for value in column):
                batch[name] = column
        label = np.array([record.label for record in records], np.int32)
        return batch | {"label": label}

    def told(self, name: str) -> list[Any] | None:
        """The `values` of that name where the source tells them without reading any."""
        found, labels = self.source.told(name), self.source.labels
        if found is None or (labels is None and self.data.words):
            return None
        labels = np.full(len(found), -1) if labels is None else labels
        pairs = zip(found, labels.tolist(), strict=True)
        return [self._own(each, label, name) for each, label in pairs]

    def values(self, name: str) -> list[Any]:
        """What all records have of this name, such as "caption"; None for nothing.

        Where the source does not tell, all are read, by the threads of the data.
        """
        if (told := self.told(name)) is not None:
            return told
        source = self.source
        chunk = LIGHT_CHUNK if source.light else VALUES_CHUNK

        def read(low: int) -> list[Any]:
            records = source.take(range(low, min(low + chunk, len(source))))
            return [self._value(record, name) for record in records]

        lows = range(0, len(source), chunk)
        with contextlib.ExitStack() as stack:
            parts: Iterable[list[Any]] = map(read, lows)
            if self.data.threads and not source.light:
                pool = stack.enter_context(ThreadPoolExecutor(self.data.threads))
                parts = pool.map(read, lows)
            found = progress(parts, f"reading each {name}", len(lows), "chunk")
            return [value for part in found for value in part]

    def _value(self, record: Record, name: str) -> Any:
        return self._own(record.more.get(name), record.label, name)

    def _own(self, found: Any, label: int, name: str) -> Any:
        """Its own; a caption, else, is that of its class."""
        named = name == "caption" and self.data.words and label >= 0
        return self.data.words[label] if named and not found else found


# Evaluation and training read the same sets again and again within one program.
@functools.lru_cache(maxsize=16)  # which keeps what is asked for by name apart
def open_examples(data: Modality, train: bool, /) -> Examples:
    """The training or the held-out part, shared by all who ask for the same.

    Raises BadInput, in one line, for whatever cannot be read.
    """
    return Examples(data, train)


def whole(data: Modality, train: bool, count: int | None = None) -> Batch:
    """Every example, not augmented. `count` takes that many, evenly spaced, of a larger
    set."""
    examples = open_examples(data, train)
    return examples.take(examples.spaced(count))
