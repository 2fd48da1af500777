"""Columns of a table, numbers and categories: entries as codes of their own."""

import dataclasses
from typing import Any

import numpy as np

from vqdit.fields import Checked, Finite
from vqdit.shapes import Float, Int, Shaped


@dataclasses.dataclass(frozen=True)
class Number(Checked):
    """A column of numbers.

    edges:  between its bins, ascending; a number at an edge belongs to the upper one,
        and one beyond all that were trained on to the first or the last.
    values: what each bin comes back as. () until the training part has settled both.
    """

    name: str
    edges: tuple[Finite, ...] = ()
    values: tuple[Finite, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        ascend = not self.edges or (np.diff(self.edges) > 0).all()
        self.check("edges", ascend, "write ascending numbers")
        fits = not (self.edges or self.values) or len(self.values) == 1 + len(
            self.edges
        )
        self.check("values", fits, f"write one more than edges, {1 + len(self.edges)}")

    def settle(self, column: Shaped[np.ndarray, "n"], bins: int) -> "Number":
        """With at most so many bins, alike full, and the median of each. A column of
        no more different numbers has a bin for each, and is exact."""
        x = self.read(column)
        different = np.unique(x)
        first = different  # numbers that begin a bin
        if len(different) > bins:
            shares = np.arange(bins) / bins
            first = np.unique(np.quantile(x, shares, method="higher"))
        before = different[np.searchsorted(different, first[1:]) - 1]
        middle = before + (first[1:] - before) / 2
        edges = np.where(middle > before, middle, first[1:])  # neighbours to the bit
        bin_of = np.searchsorted(edges, x, side="right")
        bins_of = (x[bin_of == i] for i in range(len(edges) + 1))
        values = tuple(float(np.median(each)) for each in bins_of)
        return dataclasses.replace(self, edges=tuple(edges.tolist()), values=values)

    def read(self, column: Shaped[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Numbers, all of them there. Raises ValueError for what is none."""
        try:
            found = column.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            wrong = next(x for x in column if not _is_number(x))
            raise ValueError(
                f"{self.name}={wrong!r}: write a number, or None where it is missing"
            ) from None
        if not np.isfinite(found).all():
            raise ValueError(f"{self.name}={found[~np.isfinite(found)][0]}: not finite")
        return found

    def encode(self, column: Shaped[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        return np.searchsorted(np.asarray(self.edges), self.read(column), side="right")


@dataclasses.dataclass(frozen=True)
class Category(Checked):
    """A column of words. values: all there may be, in the order of their codes; () for
    those of the training part."""

    name: str
    values: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        once = len(set(self.values)) == len(self.values)
        self.check("values", once, "write each once")

    def settle(self, column: Shaped[np.ndarray, "n"], bins: int) -> "Category":
        """With the words of the column, where none are listed."""
        del bins
        words = self.values or tuple(sorted({word_of(x) for x in column}))
        return dataclasses.replace(self, values=words)

    def encode(self, column: Shaped[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Raises ValueError for a word that there is not."""
        words, inverse = np.unique(list(map(word_of, column)), return_inverse=True)
        for word in words.tolist():
            if word not in self.values:
                there = ", ".join(self.values[:20])
                raise ValueError(f"{self.name}={word!r} is none of {there}")
        codes = [self.values.index(word) for word in words.tolist()]
        return np.asarray(codes, int)[inverse]


def spelled(entry: float | str | None) -> str:
    """An entry as a cell of a CSV, "" where it is missing."""
    if isinstance(entry, float):
        return repr(float(entry)).removesuffix(".0")  # also of a NumPy scalar
    return "" if entry is None else str(entry)


def _is_number(entry: Any) -> bool:
    try:
        float(entry)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def word_of(entry: Any) -> str:
    """A number that is a category is a word, 3.0 as 3; so is what is true or false."""
    if isinstance(entry, bool | np.bool_):
        return str(entry).lower()
    if isinstance(entry, int | np.integer):
        return str(int(entry))  # as a float two long ones may be the same
    return spelled(float(entry) if isinstance(entry, np.number) else entry)
