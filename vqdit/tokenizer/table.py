"""Rows of a table, numbers and categories with gaps, as a code an entry.

Numbers fall into bins that hold equally many of the training values, as in quantile
binning of tabular data; a category is a code. NumPy, on the host.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from vqdit.fields import TwoOrMore
from vqdit.shapes import AnyArray, Bool, Int, Shaped
from vqdit.tokenizer.columns import Category, Number, spelled, word_of
from vqdit.tokenizer.value import Value, first_other, known_codes, ordered, side_by_side
from vqdit.values import near

Row = Mapping[str, Any] | Sequence[Any] | None


@dataclasses.dataclass(frozen=True)
class Table(Value):
    """A row of a table, an entry a column, as a code each.

    columns: in their order; () for all of the training part, words as categories.
    bins:    most bins of a column of numbers, where the training part makes them.

    A row is {column: number, word or None} or a sequence in their order. An entry that
    is missing, None, NaN or "", is not known: nothing sees it, it has no loss, and it
    is what is drawn where the rest of a row is given. A word that a category does not
    have is refused, or taken as missing by `seen`, as data are read. Codes: those of
    the first column, then those of the next.
    """

    source: ClassVar[str] = "row"
    wide: ClassVar[bool] = True
    closed: ClassVar[bool] = True
    left: ClassVar[tuple[str, ...]] = ("columns",)

    columns: tuple[Number | Category, ...] = ()
    bins: TwoOrMore = 16

    def __post_init__(self):
        super().__post_init__()
        once = len(set(self.names)) == len(self.names)
        self.check("columns", once, "write each name once")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def length(self) -> int:  # type: ignore[override]  # of others it is a field
        return len(self.columns)

    @property
    def code_count(self) -> int:
        return int(self._ends[-1])

    @property
    def _ends(self) -> Int[np.ndarray, "columns"]:
        return np.cumsum([len(column.values) for column in self.columns])

    @property
    def settled(self) -> bool:
        return bool(self.columns) and all(column.values for column in self.columns)

    def stream(self, kind):
        if not self.settled:
            raise ValueError(
                "the training part has yet to say its columns, bins and words; without "
                "data write Table(columns=(Number(name, edges, values), ...))"
            )
        return super().stream(kind)

    def settle(self, values: Sequence[Row]) -> "Table":
        """With the columns that the rows have, where none are written, and the bins and
        words of those that say none. Raises ValueError for a column without entries."""
        columns = self.columns or _columns(values)
        have = {
            name: None for row in values if isinstance(row, Mapping) for name in row
        }
        for column in columns:
            if have and column.name not in have:
                raise ValueError(
                    f"the training part has no column {column.name!r}; "
                    f"{near(column.name, have)}"
                )
        rows = dataclasses.replace(self, columns=columns)._entries(values)
        there, found = ~_missing(rows), []
        for i, column in enumerate(columns):
            own = rows[there[:, i], i]
            if not len(own) and not column.values:
                raise ValueError(
                    f"column {column.name!r} has no entry in the training part; write "
                    "columns=(...) without it"
                )
            column = column if column.values else column.settle(own, self.bins)
            column.encode(own)  # which refuses a word that is not listed
            found.append(column)
        return dataclasses.replace(self, columns=tuple(found))

    def contradiction(self, settled):
        written = dataclasses.replace(self, columns=())
        if found := first_other(written, settled, self.left):
            return found
        if self.columns and self.names != settled.names:
            return "columns", self.names, settled.names
        for own, other in zip(self.columns, settled.columns, strict=False):
            at, kinds = f"columns.{own.name}", (type(own), type(other))
            if kinds[0] is not kinds[1]:
                return at, *(kind.__name__ for kind in kinds)
            if found := first_other(own, other, ("edges", "values")):
                return f"{at}.{found[0]}", *found[1:]
        return None

    def seen(self, values):
        rows, counts = self._entries(values), {}
        there = ~_missing(rows)
        for i, column in enumerate(self.columns):
            if isinstance(column, Category):
                own, words = np.flatnonzero(there[:, i]), set(column.values)
                unseen = [row for row in own if word_of(rows[row, i]) not in words]
                if unseen:
                    rows[unseen, i] = None
                    counts[column.name] = len(unseen)
        if not counts:
            return values, counts
        found = [dict(zip(self.names, row, strict=True)) for row in rows]
        more = [dict(row) if isinstance(row, Mapping) else {} for row in values]
        return [a | b for a, b in zip(more, found, strict=True)], counts

    def known(self, values: Sequence[Row]) -> Bool[np.ndarray, "b columns"]:
        return ~_missing(self._entries(values))

    def encode(self, values: Sequence[Row]) -> Int[np.ndarray, "b columns"]:
        rows = self._entries(values)
        there, ends = ~_missing(rows), self._ends
        codes = np.empty(rows.shape, np.int32)
        for i, (column, own) in enumerate(zip(self.columns, there.T, strict=True)):
            # What is missing has the code of another column, which comes back as that.
            codes[~own, i] = ends[i] % ends[-1]
            first = ends[i] - len(column.values)
            codes[own, i] = first + column.encode(rows[own, i])
        return codes

    def decode(
        self, codes: Int[AnyArray, "b columns"]
    ) -> list[dict[str, float | str | None]]:
        """Rows; an entry whose code is another column's, as a model may draw it, is
        missing."""
        codes = known_codes(codes, self.code_count)
        table, ends = np.full(codes.shape, None, object), self._ends
        for i, column in enumerate(self.columns):
            code = codes[:, i] - (ends[i] - len(column.values))
            own = (code >= 0) & (code < len(column.values))
            table[own, i] = np.array(column.values, object)[code[own]]
        return [dict(zip(self.names, row, strict=True)) for row in table.tolist()]

    def codewords(self):
        """Words of a category, and bins in their order."""
        kinds = {Number: ordered, Category: np.eye}
        return side_by_side(*(kinds[type(c)](len(c.values)) for c in self.columns))

    def kept(
        self,
        drawn: Sequence[Mapping[str, Any]],
        given: Sequence[Row],
        known: Bool[np.ndarray, "b *n"],
    ) -> list[dict[str, float | str | None]]:
        """Rows that were drawn, with the numbers given instead of their bins'."""
        entries, found = self._entries(given), [dict(row) for row in drawn]
        known = np.broadcast_to(known.reshape(len(found), -1), entries.shape)
        for i, column in enumerate(self.columns):
            if isinstance(column, Number):
                own = np.flatnonzero(known[:, i])
                numbers = column.read(entries[own, i]).tolist()
                for row, number in zip(own.tolist(), numbers, strict=True):
                    found[row][column.name] = number
        return found

    def arrays(self, values: Sequence[Row]) -> dict[str, Shaped[np.ndarray, "b"]]:
        """Column -> its entries: float64, NaN where one is missing, or str, ""."""
        entries, found = self._entries(values), {}
        for i, column in enumerate(self.columns):
            if isinstance(column, Number):
                found[column.name] = entries[:, i].astype(np.float64)
            else:
                found[column.name] = np.array(list(map(spelled, entries[:, i])), str)
        return found

    def said(self, values: Sequence[Row]) -> list[str]:
        """age=61,sex=f; of what is missing nothing stands behind the sign."""
        return [
            ",".join(
                f"{name}={spelled(x)}" for name, x in zip(self.names, row, strict=True)
            )
            for row in self._entries(values)
        ]

    def _entries(self, rows: Sequence[Row]) -> Shaped[np.ndarray, "b columns"]:
        """Of objects, None where a row has none. Raises ValueError for a row of other
        columns; one that has them all may have more."""
        names, known = self.names, set(self.names)
        table = np.full((len(rows), len(names)), None, object)
        for i, row in enumerate(rows):
            if isinstance(row, Mapping):
                others = row.keys() - known
                if others and known - row.keys():
                    name = min(others)
                    raise ValueError(f"no column {name!r}; {near(name, names)}")
                table[i] = [row.get(name) for name in names]
            elif row is not None:
                several = isinstance(row, Sequence | np.ndarray)
                if isinstance(row, str) or not several or len(row) != len(names):
                    raise ValueError(
                        f"row {i} is {row!r}; write the columns {', '.join(names)}"
                    )
                table[i] = list(row)
        return table


def _columns(rows: Sequence[Row]) -> tuple[Number | Category, ...]:
    """Those of all rows, in the order in which they come."""
    found: dict[str, list] = {}
    for row in rows:
        for name, entry in dict(row or {}).items():
            found.setdefault(name, []).append(entry)
    if not found:
        raise ValueError("the training part has no rows; write columns=(...)")
    kinds = {}
    for name, entries in found.items():
        column = np.fromiter(entries, object, len(entries))
        column = column[~_missing(column)]
        numbers = all(isinstance(x, int | float | np.number) for x in column)
        words = not numbers or any(isinstance(x, bool) for x in column)
        kinds[name] = Category if words else Number
    return tuple(kind(name) for name, kind in kinds.items())


def _missing(entries: Shaped[np.ndarray, "*b"]) -> Bool[np.ndarray, "*b"]:
    none = [x is None or x == "" or x != x for x in entries.reshape(-1)]
    return np.array(none, bool).reshape(entries.shape)
