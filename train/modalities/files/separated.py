"""CSV files: their lines in front, what divides their columns, and what is missing."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Mapping
from typing import Any

from train.errors import reading
from train.modalities.files.limits import check_decoded

# How a missing value is written in a CSV.
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "?"]

COLUMN = 10_000  # bytes that pyarrow needs for a column of a CSV, about


def read_csv(content: bytes, as_text: Mapping[str, Any]) -> tuple[Any, bool]:
    """(a pyarrow.Table, whether its columns have names); as_text: the columns that are
    read, where not all are, and their types. Raises Unreadable where it is no UTF-8, or
    takes too much memory; pyarrow's own errors for what is no table."""
    import pyarrow.csv  # slow to import

    arrow = pyarrow.csv
    content = _without_comments(content)
    mark, first = first_row(content[:65536].decode("utf-8-sig", "replace"))
    # A line of commas alone would make columns of nothing.
    ends = re.search(rb"[\r\n]", content)  # \r alone, as spreadsheets on a Mac have it
    end = ends.start() if ends else len(content)
    with reading("its first line is no UTF-8 text; save it as UTF-8"):
        content[:end].decode()
    wide = content.count(mark.encode(), 0, end)
    check_decoded(COLUMN * wide, len(content), False, "write fewer columns")
    # A first row of numbers is data: such a file has no names.
    bare = bool(first) and all(map(is_number, first))
    table = arrow.read_csv(
        io.BytesIO(content),
        read_options=arrow.ReadOptions(autogenerate_column_names=bare),
        # Else it cuts a large file at line ends, those inside of quotes as well.
        parse_options=arrow.ParseOptions(delimiter=mark, newlines_in_values=True),
        convert_options=arrow.ConvertOptions(
            # Numbers may stand behind a space, and so may what is none.
            null_values=[f"{space}{word}" for space in ("", " ") for word in MISSING],
            strings_can_be_null=not as_text,
            column_types=as_text,
            include_columns=list(as_text),
        ),
    )
    return table, not bare


def first_row(head: str) -> tuple[str, list[str]]:
    """What stands between the columns of a CSV that begins so, and its first row."""
    rows = _first_rows(head)
    mark = max(rows, key=lambda mark: len(rows[mark]))
    return mark, rows[mark]


def _first_rows(head: str) -> dict[str, list[str]]:
    # Names may hold any of these, and line ends, in quotes.
    return {
        mark: next(csv.reader(io.StringIO(head, newline=""), delimiter=mark), [])
        for mark in ",;\t"
    }


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() in MISSING
    return True


def _without_comments(content: bytes) -> bytes:
    """Without lines at its start that begin with # and have other columns than what
    follows, as loggers write them; one that has as many may be its names."""
    head = content[:65536].removeprefix(codecs.BOM_UTF8)
    lines = io.BytesIO(head).readlines()
    rows = (line for line in lines if line.strip() and not line.startswith(b"#"))
    first = next(rows, b"")

    def widths(line):
        text = line.decode("utf-8", "replace")
        return {mark: len(row) for mark, row in _first_rows(text).items()}

    def above(line):
        if not (line.strip() and line.startswith(b"#")):
            return not line.strip()
        # Of all marks, since a row of 1,5;2,5 does not say which of two it has.
        same = widths(line).items() & widths(first).items()
        return not (any(n > 1 for _, n in same) or len(same) == 3)

    size = sum(map(len, itertools.takewhile(above, lines))) if first else 0
    return content.removeprefix(codecs.BOM_UTF8)[size:] if size else content
