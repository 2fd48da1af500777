"""Rows of a table as examples: numbers and categories, a class, a text."""

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from train.errors import Unreadable, reading
from train.modalities.files.parquet import ENTRY
from train.modalities.files.stored import File, percent, stem_of
from train.modalities.files.tables import check_names, open_table
from train.modalities.kinds import modalities
from train.modalities.modality import Modality
from train.modalities.record import Record
from vqdit.tokenizer.columns import spelled

TABULAR = (".csv", ".parquet")
SEVERAL = 20  # rows from which on it is no chance that all are different
# Numbers as many a spreadsheet writes them, which a column may hold a thousand of.
COMMA = re.compile(r"[+-]?\d[\d.]*(,\d+)*(\.\d+)?")
WORDS = "taken for words: write numbers with a point alone, as 1234.5"


class Listed(Sequence):
    """The rows of a table, each {column: entry}, made of its columns as it is asked
    for: kept whole, a row takes thirty times what its entries do."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], count: int):
        self.columns, self.length = dict(columns), count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at):
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(self.length))]
        return {name: column[at] for name, column in self.columns.items()}


@dataclasses.dataclass(frozen=True)
class Tables(Modality):
    """Rows of a CSV or Parquet file, an example each, for streams of `Table()`,
    `Labels(k)` and `Bytes(n)`. There is no signal in them that a tokenizer would learn.

    data_dir:  the file, whose columns have names; or a folder with one file a part,
               train.csv and test.csv.
    columns:   of numbers and categories, in this order; (): all but those below.
    key:       the column by which rows belong to other streams (join="key"): names of
               files, with their suffix or without; "": rows belong by their place.
    label:     the column of the class; "": there is none.
    caption:   the column of a text; "": there is none.
    """

    kind: ClassVar[str] = "table"
    pictured: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = TABULAR
    # What tells one row from another, where signals are compared.
    shape: ClassVar[tuple[int, ...]] = (1,)

    name: Literal["table"] = "table"
    columns: tuple[str, ...] = ()
    key: str = ""
    label: str = ""
    caption: str = ""

    def __post_init__(self):
        super().__post_init__()
        own = {self.key, self.label, self.caption} - {""}
        apart = not own.intersection(self.columns)
        self.check("columns", apart, "write each column once, in one field")

    def stem(self, file: str) -> str:
        """A key without the suffix of a file, of any kind of signal."""
        return stem_of(file, [end for kind in modalities() for end in kind.suffixes])

    def findings(self, records):
        """Of each column its range, or its commonest words, and the share missing; then
        for what its entries are taken that they may not be meant for."""
        return {name: _told(each) for name, each in _columns(records).items()}

    def doubts(self, records):
        """Columns that say nothing of a row, or tell it from all others."""
        for name, entries in _columns(records).items():
            there = [entry for entry in entries if entry is not None]
            count, different = len(there), set(there)
            if not there:
                yield f"column {name} is empty"
            elif len(different) == 1 < count:
                yield f"column {name} says nothing but {spelled(there[0])}"
            elif count >= SEVERAL and _are_ids(different, count):
                yield (
                    f"column {name} has {len(different)} values in {count} rows, as "
                    "ids have, and texts; data.columns chooses others"
                )

    def changes(self, findings):
        for name, (said, *taken) in findings.items():
            yield from (f"column {name!r}: {said}; {each}" for each in taken)

    def write(self, record: Record) -> bytes:
        return csv_of([record.more["row"]])


def _columns(records) -> dict[str, list]:
    columns: dict[str, list] = {}
    for record in records:
        for name, entry in record.more["row"].items():
            columns.setdefault(name, []).append(entry)
    return columns


def _are_ids(different: set, count: int) -> bool:
    """Of as many words as rows, nearly; numbers that count these, of which the other
    part may have some."""
    if any(isinstance(each, str) for each in different):
        return len(different) > 0.9 * count
    whole = all(float(each).is_integer() for each in different)
    return whole and len(different) == count > (max(different) - min(different)) / 2


def _told(entries: list) -> list[str]:
    there, taken = [entry for entry in entries if entry is not None], []
    if all(isinstance(entry, float) for entry in there):
        said = f"{min(there):g} to {max(there):g}" if there else "nothing"
    else:
        common = Counter(there).most_common(6)
        said = ", ".join(f"{word} {count}" for word, count in common)
        words = [*map(str, dict.fromkeys(there))]
        if all(map(COMMA.fullmatch, words)) and "," in "".join(words):
            taken.append(WORDS)
    return [f"{said}; {percent(1 - len(there) / len(entries))} missing", *taken]


def rows_of(
    path: File, columns: Sequence[str] = (), apart: Sequence[str] = ()
) -> tuple[Listed, dict[str, list[str]]]:
    """(rows of these columns, or of all but those that are `apart`; these as words).

    A row is {column: float, str, or None where it is missing}. Raises Unreadable for a
    file that is no table with names, or lacks a column.
    """
    only = (*columns, *apart) if columns else ()
    table, named = open_table(path, only=only, entry=ENTRY)
    if not named:
        raise Unreadable("its first line holds numbers; write the columns' names there")
    check_names((*columns, *apart), table.column_names)
    names = columns or [n for n in table.column_names if n not in apart]
    found = {name: _entries(_text(table, name)) for name in {*names, *apart}}
    rows = Listed({name: found[name] for name in names}, table.num_rows)
    return rows, {name: list(map(spelled, found[name])) for name in apart}


def cells_of(path: File, names: Collection[str]) -> dict[str, list[str]]:
    """These columns as the file has them: 007 and NA are no numbers."""
    if not names:
        return {}
    table = open_table(path, names, only=names)[0]
    return {
        n: ["" if x is None else _cell(x) for x in _text(table, n).to_pylist()]
        for n in names
    }


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of the same columns as a CSV, "" where an entry is missing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([map(spelled, row.values()) for row in rows])
    return text.getvalue().encode()


def _cell(entry: Any) -> str:
    """Of Parquet, where numbers and yes or no are not written, as `rows_of` has it."""
    if isinstance(entry, float):
        return spelled(entry)
    return str(entry).lower() if isinstance(entry, bool) else str(entry)


def _text(table, name: str):
    """A column, with text in the place of bytes, which pyarrow makes of words that are
    no UTF-8, and which some write into Parquet for words."""
    import pyarrow  # as in `open_table`

    column, is_ = table[name], pyarrow.types
    if not (is_.is_binary(column.type) or is_.is_large_binary(column.type)):
        return column
    with reading(f"column {name!r} is no UTF-8 text; save it as UTF-8"):
        return column.cast(pyarrow.large_string())


def _entries(column) -> list[float | str | None]:
    import pyarrow  # as in `open_table`

    is_, kind = pyarrow.types, column.type
    if is_.is_boolean(kind):
        return [None if x is None else str(x).lower() for x in column.to_pylist()]
    if is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind):
        found = np.asarray(column.cast(pyarrow.float64(), safe=False).to_numpy())
        return [None if np.isnan(x) else x for x in found.tolist()]
    return [None if x is None or x == "" else str(x) for x in column.to_pylist()]
