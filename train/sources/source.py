"""Random access to stored records, so that a position in the data is an integer."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from train.modalities.record import Record

# Records of a source that were read stay in memory up to this many bytes.
KEPT_BYTES = 2**30


def marked(*what: Any) -> str:
    """What `Source.mark` is, of values that are written alike wherever they are."""
    return hashlib.sha256(repr(what).encode(errors="backslashreplace")).hexdigest()


class Source:
    """Records by index; `take` keeps those that were read while they fit into memory.

    A source of one's own says how many it has, and reads those that are asked for.

    classes:     number of classes, 0 where records have no label.
    class_names: one per class, or empty.
    identity:    text that differs where the data behind it does.
    mark:        a digest of all that is known of the records before they are read, such
                 as names, sizes and captions: by it they are known at another path; ""
                 where that does not tell them from others.
    light:       reading is so cheap that threads would only wait for each other.
    found, refused: how many files there were, and (file, why) of the unreadable ones.
    labels:      of all records, where they are known without reading these, or None.
    named:       records belong to names, of files or that a table lists for them.
    keys:        of all records, by which they belong to others of equal keys, or None.
    order:       class names by number, where earlier versions numbered them otherwise.
    left_out:    files beside them that are no signals of the kind, counted by suffix.
    """

    class_names: tuple[str, ...] = ()
    identity: str = ""
    mark: str = ""
    order: str = ""
    labels: np.ndarray | None = None
    keys: Sequence[str] | None = None
    light: bool = False
    named: bool = False
    refused: tuple[tuple[str, str], ...] = ()
    left_out: Mapping[str, int] = MappingProxyType({})

    def __init__(self, count: int, class_names: Sequence[str] = ()):
        self.count = self.found = count
        self.class_names = tuple(class_names)
        self.classes = len(self.class_names)
        self._kept: dict[int, Record] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self.count:  # what ends an iteration
            raise IndexError(f"record {index} of {self.count}")
        return self.take([index])[0]

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(self.count))

    @property
    def absent(self) -> tuple[int, ...]:
        """Labels of no record, `classes` where every one has a label."""
        if not self.classes or self.labels is None:
            return ()
        found = np.where(self.labels < 0, self.classes, self.labels)
        return tuple(np.setdiff1d(np.arange(self.classes + 1), found).tolist())

    def told(self, name: str) -> Sequence[Any] | None:
        """What all records have of this name, such as "caption", where that is known
        without reading them, or None."""
        del name
        return None

    def read_labels(self) -> Sequence[int]:
        """Those of all records, each of which is read; see `labels`."""
        return [record.label for record in self]

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Record]:
        """Several records in one read, in the order asked for."""
        rows = np.asarray(rows, int).tolist()
        new = sorted({row for row in rows if row not in self._kept})
        found = dict(zip(new, self.read(new), strict=True)) if new else {}
        for row, record in found.items():
            size = record.nbytes
            if self._bytes + size <= KEPT_BYTES:
                # Two threads may both keep a record; they have read the same.
                self._bytes += size
                self._kept[row] = record
        return [found[row] if row in found else self._kept[row] for row in rows]

    def read(self, rows: Sequence[int]) -> list[Record]:
        """These records, each once; BadInput where one cannot be read."""
        raise NotImplementedError
