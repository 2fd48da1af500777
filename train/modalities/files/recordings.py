"""Files of series as one table of even times, and back: CSV, Parquet and .npz.

A column says when: the one that training named, else a first column that holds dates,
or is named time, t or seconds and is not needed as a channel. It comes back first,
under its own name where that tells what it is. An .npz has one array or several, (l,)
or (l, c), and X_time or X_rate of array X, as in training; "time" (l,) is that of all
that have none, and "values" (l, c) stands for chosen columns: these two come back.
Rows are put into the order of their times, each once; these must be even to a
hundredth of a step, and the same for all; dates come back as seconds, and numbers in
the unit that they had.
"""

import csv
import io
import itertools
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.errors import Unreadable
from train.modalities.files.arrays import load_arrays, npz
from train.modalities.files.clocks import (
    SECONDS,
    TICKS,
    Duplicates,
    epoch_of,
    in_order,
    in_seconds,
)
from train.modalities.files.stored import File
from train.modalities.files.tables import (
    Columns,
    arrays_of,
    columns_of,
    open_table,
    origin_of,
    schema_of,
    unit_of,
)
from vqdit.shapes import Float

TIME = ("time", "t", "seconds")
ONE_CLOCK = "bring it to one clock (see train.modalities.files.clocks)"


def read_recording(
    path: File,
    columns: Sequence[str],
    time: str,
    channels: int,
    duplicates: Duplicates = "first",
) -> tuple[Float[np.ndarray, "t c"], float, bytes, list[str]]:
    """(values, NaN where one is missing; rate, 0 where nothing says it; what
    `write_recording` needs; columns or arrays that are there and were not chosen).
    columns, time, channels, duplicates: of a Series.
    """
    names: list[str] = []
    if path.suffix.lower() == ".npz":
        streams, times, others, unit = _npz(path, columns, channels)
    else:
        table, named, have, when = _table(path, columns, time, channels)
        others = [n for n in have if columns and n not in columns and n != when]
        streams = columns_of(table, when, columns)
        times, _ = next(iter(streams.values()))
        unit = unit_of(table[when], when) if when else SECONDS
        names = list(streams) if named else []
        if named and when:
            own = (_is_time(when) or when == time) and when not in names
            names.insert(0, when if own else _untaken(names))
    values = np.concatenate([values for _, values in streams.values()], axis=1)
    if times is not None:
        times, values = in_order(times, values, duplicates)
    start, rate = _clock(times)
    if times is None:
        return values, rate, time_and_names(None, names), others
    ticks, first = unit
    return values, rate, time_and_names(first + start * ticks, names, ticks), others


def time_and_names(
    start: float | None, names: Sequence[str], ticks: float = 1
) -> bytes:
    """What `write_recording` needs beside values and rate: the first time where rows
    have times, of which so many ticks are a second, and the names of all columns where
    they have some."""
    unit = [*TICKS.values()].index(ticks)
    extra = struct.pack("<B", (start is not None) + 6 * bool(names) + 8 * unit)
    if start is not None:
        extra += struct.pack("<d", start)
    return extra + zlib.compress(json.dumps(names).encode(), 9) if names else extra


def _time_column(names, first, columns, time, channels) -> str:
    """The column that says when, or ""; `first` is the type of the first one."""
    from pyarrow.types import is_temporal

    if time in names:
        return time
    if columns and names[0] in columns:
        return ""
    guess = _is_time(names[0]) and (columns or len(names) - 1 == channels)
    return names[0] if guess or is_temporal(first) else ""


def _table(path, columns, time, channels):
    """(a table, whether its columns have names, these, and which says when): of chosen
    columns of a Parquet file no others are read."""
    if columns and path.suffix.lower() == ".parquet":
        schema = schema_of(path)
        if have := schema.names:
            when = _time_column(have, schema.types[0], columns, time, channels)
            only = (*columns, *filter(None, [when]))
            return *open_table(path, only=only), have, when
    table, named = open_table(path)
    have, first = table.column_names, table[0].type
    return table, named, have, _time_column(have, first, columns, time, channels)


def _npz(path, columns, channels):
    arrays, chosen = load_arrays(path, 8), columns
    if columns and "values" in arrays and not set(columns) <= set(arrays):
        columns = ("values",)
    streams = arrays_of(arrays, columns)
    origin = origin_of(arrays, streams)
    if not columns and "time" in streams and len(streams) > 1:
        if sum(each.shape[1] for _, each in streams.values()) - 1 == channels:
            del streams["time"]
    clocks = {f"{name}_{what}" for name in streams for what in ("time", "rate")}
    others = arrays.keys() - streams.keys() - clocks - {"time"} if chosen else ()
    time = None if "time" in streams else arrays.get("time")
    unit = origin or (SECONDS if time is None else epoch_of(time))
    time = None if time is None else in_seconds(time, unit)
    return streams, _shared(streams, time), sorted(others), unit


def write_recording(record: Any) -> bytes:
    timed, names = record.extra[0] & 1, _names(record.extra)
    time = None
    if timed:
        (start,) = struct.unpack("<d", record.extra[1:9])
        ticks = [*TICKS.values()][record.extra[0] >> 3 & 3]
        steps = np.arange(len(record.values)) * ticks / (record.rate or 1)
        time = start + steps
        if 2**53 <= abs(start) < 2**62:  # as nanoseconds are, of which a float has few
            time = int(start) + np.rint(steps).astype(np.int64)
    if record.suffix == ".npz":
        arrays = {"values": record.values} | ({} if time is None else {"time": time})
        return npz(**arrays)
    if record.suffix == ".parquet":
        return _parquet(names, record.values, time)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    if names:
        # Quoted, so that they aren't taken for what divides columns.
        odd = any(set(name) & set(";\t\r\n") for name in names)
        quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        (quoted if odd else rows).writerow(names)
    for i, row in enumerate(record.values):
        when = [] if time is None else [repr(time[i].item())]  # as it is, exactly
        rows.writerow(when + [f"{value:.7g}" for value in row])
    return text.getvalue().encode()


def _is_time(name) -> bool:
    return name.strip().lower() in TIME


def _names(extra: bytes) -> list[str]:
    """Names of a table's columns in order, with that of the times; [] if it has none.

    Files of before had names with a line each, and none of the times.
    """
    timed, named, spelled = (extra[0] & bit for bit in (1, 2, 4))
    if not named:
        return []
    text = zlib.decompress(extra[9 if timed else 1 :]).decode()
    if spelled:
        return json.loads(text)
    names = text.split("\n")
    return [_untaken(names), *names] if timed else names


def _untaken(names) -> str:
    """A name for the column of times."""
    more = (f"time_{i}" for i in itertools.count(2))
    return next(name for name in itertools.chain(TIME, more) if name not in names)


def _parquet(names, values, time) -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = [] if time is None else [time]
    columns += [np.ascontiguousarray(column) for column in values.T]
    file = io.BytesIO()
    table = pyarrow.Table.from_arrays(list(map(pyarrow.array, columns)), names=names)
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _shared(streams: dict[str, Columns], time: np.ndarray | None) -> np.ndarray | None:
    """The times of all series; `time` is that of those with none of their own."""
    clocks = {n: time if own is None else own for n, (own, _) in streams.items()}
    first = next(iter(streams))
    times, count = clocks[first], len(streams[first][1])
    if times is not None and times.shape != (count,):
        raise Unreadable(f"{times.shape} times for {count} rows of values")
    step = 0.0 if times is None else abs(times[-1] - times[0]) / max(1, count - 1)
    for name, own in clocks.items():
        samples = len(streams[name][1])
        if (own is None) != (times is None):
            bare, timed = (name, first) if own is None else (first, name)
            raise Unreadable(f"{bare} has no times, unlike {timed}")
        if samples != count:
            raise Unreadable(
                f"{first} has {count} samples and {name} {samples}; {ONE_CLOCK}"
            )
        if own is None or times is None or own is times:
            continue
        if not np.abs(own - times).max() <= 0.01 * step:
            raise Unreadable(f"{first} and {name} differ in their times; {ONE_CLOCK}")
    return times


def _clock(time) -> tuple[float, float]:
    """(first time, rate) of times that rise; rate 0 where nothing says it."""
    if time is None:
        return 0.0, 0.0
    if len(time) < 2:
        return float(time[0]), 0.0
    steps = np.diff(time)
    step = float(time[-1] - time[0]) / len(steps)
    if np.abs(steps - step).max() > 0.01 * step:
        raise Unreadable(f"its times are not even; {ONE_CLOCK}")
    return float(time[0]), 1 / step
