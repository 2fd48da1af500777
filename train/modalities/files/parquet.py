"""Parquet files, of which a few kilobytes may hold a column of 10**9 rows.

A value that repeats is stored once, so the sizes that a file states say nothing of what
it takes as an array: that follows from how many rows there are, for numbers, and of
texts only from the entries themselves, which are counted before they are spelled out.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, BinaryIO

from train.errors import Unreadable
from train.modalities.files.limits import check_decoded

BATCH = 2**16  # rows that are decoded at a time
ENTRY = 32  # bytes of a number as an object of Python's, and its place in a list


def read_parquet(
    file: BinaryIO, stored: int, only: Collection[str] = (), entry: int = 8
) -> Any:
    """A pyarrow.Table of the columns in `only`, or of all; of none where one of these
    is not there. entry: of `open_table`. Raises Unreadable where it takes too much."""
    import pyarrow  # slow to import
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as opened:
        schema, about = opened.schema_arrow, opened.metadata
    check_table(about.num_rows, schema.names)
    names = [name for name in schema.names if not only or name in only]
    if set(only) - set(names):  # whoever asked says what there is
        return schema.empty_table()
    kinds = [schema.field(name).type for name in names]
    is_, texts = pyarrow.types, []
    for name, kind in zip(names, kinds, strict=True):
        if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_binary(kind):
            texts.append(name)
        if kind.num_fields:
            raise Unreadable(
                f"column {name!r} holds {kind}, not numbers or words; choose with "
                "data.columns"
            )
    size = entry * len(names) * about.num_rows
    advice = "choose columns, or split it into parts"
    check = lambda size: check_decoded(size, stored, False, advice)
    check(size + _unpacked(about, names))
    found = []
    file.seek(0)
    with pyarrow.parquet.ParquetFile(file, read_dictionary=texts) as opened:
        for batch in opened.iter_batches(BATCH, columns=names):
            arrays = []
            for column in batch.columns:
                if pyarrow.types.is_dictionary(column.type):
                    size += _spelled(column)
                    check(size)
                    column = column.dictionary_decode()
                arrays.append(column)
            found.append(pyarrow.RecordBatch.from_arrays(arrays, names=names))
    chosen = pyarrow.schema([schema.field(name) for name in names])
    return pyarrow.Table.from_batches(found).cast(chosen)


def check_table(rows: int, names: Sequence[str]) -> None:
    """Raises Unreadable where a table has no rows, or two columns of one name."""
    if not rows:
        raise Unreadable("has no rows")
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise Unreadable(f"has {count} columns named {name!r}")


def _unpacked(about: Any, names: Collection[str]) -> int:
    """Bytes of the largest of these columns' pieces, which are unpacked as a whole."""
    sizes = [0]
    for group in range(about.num_row_groups):
        pieces = about.row_group(group)
        for at in range(about.num_columns):
            piece = pieces.column(at)
            if piece.path_in_schema.split(".")[0] in names:
                sizes.append(piece.total_uncompressed_size)
    return max(sizes)


def _spelled(column: Any) -> int:
    """Bytes of the words that a column of a dictionary stands for."""
    from pyarrow import compute

    lengths = compute.binary_length(column.dictionary).fill_null(0).cast("int64")
    return compute.sum(lengths.take(column.indices)).as_py() or 0
