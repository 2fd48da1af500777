"""What is stored, a record, and what is learned from, a batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

Batch = dict[str, Any]  # arrays by name, or of several streams such by theirs


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Record:
    """One stored signal.

    values: (*axes, c), uint8 for pixels and float32 or float64 for all else.
    rate:   samples or frames a second; 0 where nothing says it.
    known:  as values, False where a gap was filled; None where none could be.
    label:  its class, -1 where there is none.
    more:   what else comes with it, by name, such as "truth", "caption", and "row",
            {column: number, word or None}.
    suffix, extra: of the file that the values become again ("" is a folder), and what
        the modality's `write` and `restore` need besides values and rate.
    """

    values: np.ndarray
    rate: float = 0.0
    known: np.ndarray | None = None
    label: int = -1
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    suffix: str = ""
    extra: bytes = b""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        known = 0 if self.known is None else self.known.nbytes
        more = sum(getattr(each, "nbytes", 0) for each in self.more.values())
        return self.values.nbytes + known + more
