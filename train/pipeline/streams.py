"""Batches of a training step: streams by name, and what is known of each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from train.errors import BadInput, blame
from train.modalities.modality import Batch, Modality
from train.pipeline.batching import endless
from train.pipeline.examples import Examples, open_examples


class JointExamples:
    """Data sets whose rows belong together: row i of each is of the same example.

    data:   stream -> its data. One that several streams name is read once.
    values: stream -> what is born discrete, such as Bytes or Labels: its codes are made
        of the caption or the label that `tokenizer.source` names.
    classes, class_names: of the first data that has some; its labels are the batch's.

    Raises BadInput for data of different lengths, and for folders whose files differ in
    their names, or of which some may be left out.
    """

    def __init__(self, data: Mapping[str, Modality], values: Mapping[str, Any], train):
        self.data, self.values = dict(data), dict(values)
        self.parts = {name: open_examples(each, train) for name, each in data.items()}
        (first, one), *others = self.parts.items()
        for name, other in others:
            if len(other) != len(one):
                raise BadInput(
                    f"data.{name} has {len(other)} examples and data.{first} has "
                    f"{len(one)}: streams are joined by index; write as many of each"
                )
            if other is not one:
                _check_files({first: one, name: other})
        labelled = [part for part in self.parts.values() if part.classes]
        self._labels = (labelled or [one])[0]
        self.classes = self._labels.classes
        self.class_names = self._labels.class_names
        self.order, self.absent = self._labels.source.order, self._labels.source.absent

    def __len__(self) -> int:
        return len(self._labels)

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        """{"streams": {name: (b, ...)}, "known": {name: (b, ...)}, "label": (b,)}.

        Signals as `Examples` has them, codes (b, *grid, books) of what is born
        discrete. What is not in "known" is known whole.
        """
        return self._joined(lambda part: part.augmented(indices, epochs, seed))

    def take(self, indices: np.ndarray) -> Batch:
        """The same of the examples as they are evaluated."""
        return self._joined(lambda part: part.take(indices))

    def _joined(self, read: Callable[[Examples], Batch]) -> Batch:
        found: dict[Examples, Batch] = {}
        for part in self.parts.values():
            if part not in found:
                found[part] = read(part)
        streams, known = {}, {}
        for name, part in self.parts.items():
            batch = found[part]
            if name in self.values:
                streams[name], known[name] = codes_of(self.values[name], batch, name)
            else:
                streams[name] = batch["x"]
                if "known" in batch:
                    known[name] = batch["known"]
        label = found[self._labels]["label"]
        return {"streams": streams, "known": known, "label": label}

    def batches(
        self, batch: int, seed: int, start: int = 0, rows: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Endless batches, shuffled; see `pipeline.endless`."""
        threads = max(data.threads for data in self.data.values())
        take = lambda indices, epochs: self.augmented(indices, epochs, seed)
        return endless(take, len(self), batch, seed, start, rows, threads)

    def in_order(self, batch: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
        """One pass of whole batches, of the examples as they are evaluated.

        What is left over is left out; of fewer than a batch some are there again.
        """
        mine = np.arange(batch) if rows is None else rows
        for k in range(max(1, len(self) // batch)):
            yield self.take((k * batch + mine) % len(self))


def _check_files(parts: Mapping[str, Examples]) -> None:
    """Rows of two folders belong together by the names of their files."""
    stems = {}
    for name, part in parts.items():
        files = getattr(part.source, "files", None)
        if files is None:
            continue
        if part.data.bad_share:
            raise BadInput(
                f"data.{name}.bad_share={part.data.bad_share}: a file that is left out "
                f"would move all rows after it; write data.{name}.bad_share=0"
            )
        stems[name] = list(map(part.data.stem, files))
    if len(stems) < 2:
        return
    (a, left), (b, right) = stems.items()
    for one, other in zip(left, right, strict=True):
        if one != other:
            raise BadInput(
                f"data.{b} has the file {other!r} where data.{a} has {one!r}: streams "
                "are joined by index; write folders train/ and test/ of files with the "
                "same names in each"
            )


def codes_of(tokenizer, batch: Batch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(codes (b, *grid, 1), known (b,)) of captions or labels; an empty one is none."""
    values = batch.get(tokenizer.source, [None] * len(batch["label"]))
    if tokenizer.source == "label":
        known = values >= 0
    else:
        values = [text or "" for text in values]
        known = np.array([text != "" for text in values])
    with blame(f"streams.{name}.tokenizer"):
        codes = tokenizer.encode(values)
    return codes[..., None], known
