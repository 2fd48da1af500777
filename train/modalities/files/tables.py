"""Recordings from files: columns of CSV and Parquet tables, arrays of .npz."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable, reading
from train.modalities.files.arrays import load_arrays
from train.modalities.files.clocks import (
    SECONDS,
    TICKS,
    epoch_of,
    in_order,
    in_seconds,
    one_clock,
)
from train.modalities.files.limits import check_decoded
from train.modalities.files.parquet import check_table, read_parquet
from train.modalities.files.separated import is_number, read_csv
from train.modalities.files.stored import File, opened_file, printable, size_of, stored
from vqdit.shapes import Float

HALF_A_DAY = 43_200  # seconds
Columns = tuple[np.ndarray | None, np.ndarray]  # times in seconds or None, (t, c)


def read_columns(
    path: File, series: Any, share: tuple[float, float] = (0.0, 1.0)
) -> tuple[Float[np.ndarray, "t c"], dict[str, Any]]:
    """(the part of a recording between two shares of its length, on one clock, NaN
    where a value is missing; "names" of the channels, where they have some, how many
    times were "repeated", how many "ticks" are a second of them, and "apart", the steps
    of the clock from one sample to the next, of the fastest).
    Raises Unreadable, naming what a Series asks for and it lacks.
    """
    if path.suffix.lower() == ".npz":
        arrays, named = load_arrays(path, 8), True
        streams = arrays_of(arrays, series.columns)
        unit = origin_of(arrays, streams) or SECONDS
    else:
        advice = "; choose with data.columns, or name it in data.time"
        only = (*filter(None, [series.time]), *series.columns) if series.columns else ()
        table, named = open_table(path, only=only)
        streams = columns_of(table, series.time, series.columns, advice)
        unit = unit_of(table[series.time], series.time) if series.time else SECONDS
    repeated, counted, apart = 0, None, 1.0
    for name, (times, values) in streams.items():
        if times is not None:
            streams[name] = ordered = in_order(times, values, series.duplicates)
            if times is not counted:  # columns of a table share theirs
                repeated += len(times) - len(ordered[0])
            counted = times
    parts: list[Any] = list(streams.values())
    bare = [name for name, (times, _) in streams.items() if times is None]
    if not bare and not series.rate:
        raise Unreadable("its series have their own times; write data.rate")
    if not bare:
        names, gap = tuple(streams), series.longest_gap or None
        values = one_clock(parts, series.rate, gap, names)[0]
        apart = series.rate * min(float(np.median(np.diff(t))) for t, _ in parts)
    elif len(bare) < len(parts):
        raise Unreadable(f"{bare[0]} has no times, unlike the others")
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
    called = tuple(  # b, and b 0, b 1 of an array of two
        printable(f"{name} {c}" if own.shape[1] > 1 else name)
        for name, (_, own) in streams.items()
        for c in range(own.shape[1])
    )
    more = {"repeated": repeated, "apart": apart, "ticks": unit[0]}
    return values, more | ({"names": called} if named else {})


def arrays_of(
    arrays: Mapping[str, np.ndarray], names: Sequence[str] = ()
) -> dict[str, Columns]:
    """Series of an .npz by name, each with its times, of "NAME_time" or "NAME_rate".

    names: those that are read; (): all.
    """

    def is_clock(name):
        owner = name.removesuffix("_time").removesuffix("_rate")
        return owner != name and owner in arrays

    have = [name for name in arrays if not is_clock(name)]
    if not have:
        raise Unreadable("holds no arrays")
    check_names(names, have)
    streams: dict[str, Columns] = {}
    origin = origin_of(arrays, names or have)
    for name in names or have:
        array = arrays[name]
        if array.ndim not in (1, 2) or not array.size:
            raise Unreadable(
                f"array {name!r} is {list(array.shape)}, not (t,) or (t, c)"
            )
        values = np.asarray(array, np.float64).reshape(len(array), -1)
        times = arrays.get(f"{name}_time")
        own = arrays.get(f"{name}_rate")
        if times is not None:
            if times.shape != (len(values),):
                raise Unreadable(
                    f"{name}_time is {list(times.shape)}, not [{len(values)}] as its "
                    f"array"
                )
            times = in_seconds(times, origin)
        elif own is not None:
            if own.size != 1 or not own.item() > 0:
                raise Unreadable(f"{name}_rate is not one number above 0")
            times = in_seconds(np.arange(len(values)) / own.item(), origin)
        streams[name] = (times, values)
    return streams


def origin_of(
    arrays: Mapping[str, np.ndarray], names: Iterable[str]
) -> tuple[float, Any] | None:
    """`epoch_of` the first of these that counts from another time than 0, for several
    clocks of a file to be of one; (1, 0) where all do, None where there are none."""
    clocks = (arrays.get(f"{name}_time") for name in names)
    found = [epoch_of(clock) for clock in clocks if clock is not None]
    return next(
        (each for each in found if each != SECONDS), found[0] if found else None
    )


def check_names(names: Iterable[str], have: Collection[str]) -> None:
    """Raises Unreadable for a column that is not there."""
    for name in names:
        if name not in have:
            raise Unreadable(f"has no column {name!r}, only {', '.join(have)}")


def open_table(
    path: File, words: Collection[str] = (), only: Collection[str] = (), entry: int = 8
) -> tuple[Any, bool]:
    """(a CSV or Parquet file as a pyarrow.Table, whether its columns have names).

    words: columns of a CSV whose cells stay the texts that they are, and the only ones
        that are read; (): all, as what they look like.
    only: columns that are wanted; of a Parquet file the others are not read.
    entry: bytes that a number or a word takes as it is kept.
    Where columns have no names they are called f0, f1, ... Raises Unreadable where it
    is no table, has no rows, or two columns of one name, or takes too much memory.
    """
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput("reading tables needs pyarrow; pip install pyarrow") from error
    kind = path.suffix.lower().lstrip(".")
    with reading(f"not a whole {kind} table"):
        if kind == "parquet":
            with opened_file(path) as file:
                table, named = read_parquet(file, size_of(path), only, entry), True
        else:
            as_text = {name: pyarrow.string() for name in words}
            table, named = read_csv(stored(path), as_text)
            cells = entry * table.num_rows * table.num_columns
            check_decoded(cells, size_of(path), False, "split it into parts")
            check_table(table.num_rows, table.column_names)
    return table, named


def schema_of(path: File) -> Any:
    """The pyarrow.Schema of a Parquet file, of which nothing else is read."""
    import pyarrow.parquet

    with reading("not a whole parquet table"), opened_file(path) as file:
        return pyarrow.parquet.read_schema(file)


def columns_of(
    table: Any, time: str = "", names: Sequence[str] = (), advice: str = ""
) -> dict[str, Columns]:
    """Columns of a table by name, with the times they share.

    names: those that are read; (): all but `time`. advice: what to do about a column
    that does not hold numbers.
    """
    if time and time not in table.column_names:
        raise Unreadable(
            f"has no column {time!r} of times, only {', '.join(table.column_names)}"
        )
    check_names(names, table.column_names)
    names = names or [name for name in table.column_names if name != time]
    if not names:
        raise Unreadable(f"has no column but {time!r}")
    times, streams = None, {}
    if time:
        with reading(f"column {time!r} cannot be read"):
            times = _seconds(table[time], time)
    for name in names:
        with reading(f"column {name!r} cannot be read"):
            values = _numbers(table[name], name, advice)
        streams[name] = (times, values[:, None])
    return streams


def _numbers(column, name: str, advice: str = "") -> Float[np.ndarray, "t"]:
    import pyarrow

    kind, is_ = column.type, pyarrow.types
    plain = is_.is_primitive(kind) and not is_.is_temporal(kind)
    if not (plain or is_.is_decimal(kind) or is_.is_null(kind)):
        odd = _odd_cell(column) if is_.is_string(kind) else ""
        raise Unreadable(f"column {name!r} holds {kind}, not numbers{odd}{advice}")
    if is_.is_boolean(kind):
        column = column.cast(pyarrow.int8())
    column = column.cast(pyarrow.float64(), safe=False)  # more digits than it has go
    return np.asarray(column.to_numpy(), np.float64)


def _odd_cell(column) -> str:
    """The first word that is no number; where its point is a comma, what to write."""
    for row, cell in enumerate(column, 1):
        word = cell.as_py() or ""
        if not is_number(word):
            comma = re.fullmatch(r"[+-]?\d+,(?!\d{3}$)\d+", word.strip())
            point = f", write {word.strip().replace(',', '.')}" if comma else ""
            return f" (row {row}: {printable(word[:40])!r}{point})"
    return ""


def _seconds(column, name: str) -> Float[np.ndarray, "t"]:
    """Times as seconds: numbers by `in_seconds`, dates and times of day since the first
    of them.
    """
    import pyarrow
    import pyarrow.compute

    kind, is_ = column.type, pyarrow.types
    if is_.is_date(kind):
        column = column.cast(pyarrow.timestamp("ms"))
    ticks = TICKS.get(getattr(column.type, "unit", ""))
    if ticks is None:
        return in_seconds(_counted(column, name))
    if is_.is_time32(kind):
        column = column.cast(pyarrow.int32())
    column = column.cast(pyarrow.int64())
    # As integers, since nanoseconds of today have more digits than a float.
    first = next(iter(column.drop_null()), column[0])
    since = pyarrow.compute.subtract(column, first)
    since = since.cast(pyarrow.float64(), safe=False)
    seconds = np.asarray(since.to_numpy(), np.float64) / ticks
    back = np.flatnonzero(np.diff(seconds) < -HALF_A_DAY)
    if is_.is_time(kind) and back.size:
        raise Unreadable(
            f"column {name!r} passes midnight in row {back[0] + 2}, and times of day "
            "would put what follows first; write dates"
        )
    return seconds


def _counted(column, name: str) -> np.ndarray:
    """As `_numbers`, of integers all their digits."""
    import pyarrow

    if not pyarrow.types.is_integer(column.type) or column.null_count:
        return _numbers(column, name)
    return column.cast(pyarrow.int64()).to_numpy()


def unit_of(column, name: str) -> tuple[float, Any]:
    """`epoch_of` a column of times that are numbers; (1, 0) of dates."""
    import pyarrow

    dates = pyarrow.types.is_temporal(column.type)
    return SECONDS if dates else epoch_of(_counted(column, name))
