"""Recordings from files: columns of CSV and Parquet tables, arrays of .npz."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from train.data.clean import one_clock
from train.data.files import load_arrays
from train.data.images import Unreadable
from train.errors import BadInput

EXTENSIONS = frozenset((".csv", ".parquet", ".npz"))
# How a missing value is written in a CSV.
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "?"]

Stream = tuple[np.ndarray | None, np.ndarray]  # times in seconds or None, (t, c)


def read_columns(
    path: Path, series: Any, share: tuple[float, float] = (0.0, 1.0)
) -> Float[np.ndarray, "t c"]:
    """The part of a recording between two shares of its length, on one clock; NaN where
    a value is missing. Raises Unreadable, naming what a Series asks for and it lacks.
    """
    if path.suffix.lower() == ".npz":
        streams = _arrays(path)
        check_names(series.columns, streams)
    else:
        advice = "; choose with data.columns, or name it in data.time"
        table, _ = open_table(path)
        streams = columns_of(table, series.time, series.columns, advice)
    names = series.columns or tuple(streams)
    parts = [streams[name] for name in names]
    if any(times is not None for times, _ in parts):
        values = _clocked(parts, names, series)
    else:
        lengths = {len(values) for _, values in parts}
        if len(lengths) > 1:
            raise Unreadable(
                f"its series have {min(lengths)} to {max(lengths)} samples and no "
                "times; store NAME_time or NAME_rate beside each"
            )
        values = np.concatenate([values for _, values in parts], axis=1)
    first, last = (round(part * len(values)) for part in share)
    values = values[first:last]
    if values.shape[1] != series.channels:
        raise Unreadable(
            f"has {values.shape[1]} channels, where data.channels={series.channels}; "
            "choose with data.columns"
        )
    if len(values) < series.length:
        part = "" if share == (0.0, 1.0) else " in this part"
        raise Unreadable(
            f"{len(values)} samples{part}, fewer than data.length={series.length}"
        )
    return values


def _clocked(parts: list[Stream], names: tuple[str, ...], series: Any) -> np.ndarray:
    if not series.rate:
        raise Unreadable("its series have their own times; write data.rate")
    bare = [n for n, (times, _) in zip(names, parts, strict=True) if times is None]
    if bare:
        raise Unreadable(f"{bare[0]} has no times, unlike the others")
    try:
        return one_clock(parts, series.rate, series.longest_gap or None, names)[0]
    except BadInput as error:
        raise Unreadable(str(error)) from error


def _arrays(path: Path) -> dict[str, Stream]:
    """Series of an .npz by name, with their times."""
    arrays = load_arrays(path)
    streams: dict[str, Stream] = {}
    for name, array in arrays.items():
        owner = name.removesuffix("_time").removesuffix("_rate")
        if owner != name and owner in arrays:
            continue
        if array.ndim not in (1, 2):
            raise Unreadable(
                f"array {name!r} is {list(array.shape)}, not (t,) or (t, c)"
            )
        values = np.asarray(array, np.float64).reshape(len(array), -1)
        times = arrays.get(f"{name}_time")
        own = arrays.get(f"{name}_rate")
        if times is None and own is not None:
            if own.size != 1 or not own.item() > 0:
                raise Unreadable(f"{name}_rate is not one number above 0")
            times = np.arange(len(values)) / own.item()
        streams[name] = (times, values)
    if not streams:
        raise Unreadable("holds no arrays")
    return streams


def check_names(names: Iterable[str], have: Collection[str]) -> None:
    """Raises Unreadable for a column that is not there."""
    for name in names:
        if name not in have:
            raise Unreadable(f"has no column {name!r}, only {', '.join(have)}")


def open_table(path: Path) -> tuple[Any, bool]:
    """(a CSV or Parquet file as a pyarrow.Table, whether its columns have names).

    Where they have none they are called f0, f1, ... Raises Unreadable where it is no
    table, has no rows, or two columns of one name.
    """
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput("reading tables needs pyarrow; pip install pyarrow") from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or "cannot be opened") from error
    try:
        if path.suffix.lower() == ".parquet":
            content = pyarrow.BufferReader(content)
            table, named = pyarrow.parquet.read_table(content), True
        else:
            table, named = _csv(content, pyarrow.csv)
    except (pyarrow.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        kind = path.suffix.lower().lstrip(".")
        words = " ".join(str(error).split())[:160]
        raise Unreadable(f"not a whole {kind} table ({words})") from error
    if not table.num_rows:
        raise Unreadable("has no rows")
    names = table.column_names
    for name in names:
        if names.count(name) > 1:
            raise Unreadable(f"has {names.count(name)} columns named {name!r}")
    return table, named


def columns_of(
    table: Any, time: str = "", names: Sequence[str] = (), advice: str = ""
) -> dict[str, Stream]:
    """Columns of a table by name, with the times they share.

    names: those that are read; (): all but `time`. advice: what to do about a column
    that does not hold numbers.
    """
    import pyarrow

    if time and time not in table.column_names:
        raise Unreadable(
            f"has no column {time!r} of times, only {', '.join(table.column_names)}"
        )
    check_names(names, table.column_names)
    times = _seconds(table[time], time, pyarrow) if time else None
    streams = {}
    for name in names or (name for name in table.column_names if name != time):
        values = _numbers(table[name], name, pyarrow, advice)
        streams[name] = (times, values[:, None])
    if not streams:
        raise Unreadable(f"has no column but {time!r}")
    return streams


def _csv(content: bytes, arrow) -> tuple[Any, bool]:
    head = content[:65536].decode("utf-8-sig", "replace").splitlines() or [""]
    mark = max(",;\t", key=head[0].count)
    first = next(csv.reader([head[0]], delimiter=mark), [])
    # A first row of numbers is data: such a file has no names.
    bare = bool(first) and all(map(_is_number, first))
    table = arrow.read_csv(
        io.BytesIO(content),
        read_options=arrow.ReadOptions(autogenerate_column_names=bare),
        parse_options=arrow.ParseOptions(delimiter=mark),
        convert_options=arrow.ConvertOptions(
            null_values=MISSING, strings_can_be_null=True
        ),
    )
    return table, not bare


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() in MISSING
    return True


def _numbers(column, name: str, arrow, advice: str = "") -> Float[np.ndarray, "t"]:
    kind, is_ = column.type, arrow.types
    if not (
        is_.is_floating(kind)
        or is_.is_integer(kind)
        or is_.is_boolean(kind)
        or is_.is_decimal(kind)
        or is_.is_null(kind)
    ):
        raise Unreadable(f"column {name!r} holds {kind}, not numbers{advice}")
    if is_.is_boolean(kind):
        column = column.cast(arrow.int8())
    return np.asarray(column.cast(arrow.float64()).to_numpy(), np.float64)


def _seconds(column, name: str, arrow) -> Float[np.ndarray, "t"]:
    """Times as seconds: numbers as they are, dates since the first one."""
    if arrow.types.is_temporal(column.type):
        ticks = column.cast(arrow.timestamp("us")).to_numpy().astype(np.float64) / 1e6
        return ticks - ticks[0]
    return _numbers(column, name, arrow)
