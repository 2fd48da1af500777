"""Files of series as arrays, and back, for the codec."""

import csv
import dataclasses
import io
import itertools
import json
import struct
import zlib

import numpy as np

from train.codec.media import Kind, Signal
from train.data.clean import Cleaning, clean, fill, one_clock
from train.data.files import load_arrays
from train.data.images import Unreadable
from train.data.tables import Stream, arrays_of, columns_of, open_table
from train.errors import BadInput


class Table(Kind):
    """CSV, Parquet and .npz series, each to its own.

    Columns that training chose are chosen, by name ("columns"); gaps are filled, and
    outliers treated, as it did ("cleaning"), else by straight lines; and which values
    are known may be channels of their own ("mask_channels"), which do not come back.

    A column says when: the one that training named ("time"), else a first column that
    holds dates, or is named time, t or seconds and is not needed as a channel. It comes
    first, under its own name where that tells what it is. A .npz has one array or
    several, (l,) or (l, c), and X_time or X_rate of array X, as in training; "time"
    (l,) is that of all that have none, and "values" (l, c) stands for chosen columns:
    these two come back. Times must be even to a hundredth of a step, and the same for
    all; dates come back as seconds. Another rate is reached as in training, whose gaps
    stay open ("longest_gap").
    """

    suffixes = (".csv", ".parquet", ".npz")
    takes = ("columns", "time", "cleaning", "mask_channels", "longest_gap")
    score = "SNR"

    def read(self, path):
        suffix = path.suffix.lower()
        names, values, time = (self._npz if suffix == ".npz" else self._table)(path)
        known = np.isfinite(values)
        if not known.any(0).all():
            channel = int(np.flatnonzero(~known.any(0))[0])
            raise Unreadable(f"channel {channel} has no value at all")
        rule = self._cleaning.fill if self._cleaning else "linear"
        values = fill(values, known, rule).astype(np.float32)
        start, rate = _clock(time)
        extra = struct.pack("<B", (time is not None) + 6 * bool(names))
        extra += struct.pack("<d", start) if time is not None else b""
        extra += zlib.compress(json.dumps(names).encode(), 9) if names else b""
        return Signal(values, rate, suffix, extra, known)

    def _table(self, path):
        """(names with that of the times first, values, times) of a CSV or Parquet."""
        table, named = open_table(path)
        time = self._time_column(table.column_names, table[0].type)
        streams = columns_of(table, time, self.preparation.get("columns", ()))
        names = list(streams) if named else []
        if named and time:
            known = _is_time(time) or time == self.preparation.get("time")
            own = known and time not in names
            names.insert(0, time if own else _untaken(names))
        values = np.concatenate([column for _, column in streams.values()], axis=1)
        return names, values, next(iter(streams.values()))[0]

    def _time_column(self, names, first):
        """The column that says when, or ""; `first` is the type of the first one."""
        from pyarrow.types import is_temporal

        said, columns = self.preparation.get("time"), self.preparation.get("columns")
        if said in names:
            return said
        if columns and names[0] in columns:
            return ""
        guess = _is_time(names[0]) and (columns or self._takes(len(names) - 1))
        return names[0] if guess or is_temporal(first) else ""

    def _npz(self, path):
        """([], values, times)."""
        arrays, columns = load_arrays(path), self.preparation.get("columns", ())
        if columns and "values" in arrays and not set(columns) <= set(arrays):
            columns = ("values",)
        streams = arrays_of(arrays, columns)
        if not columns and "time" in streams and len(streams) > 1:
            channels = sum(each.shape[1] for _, each in streams.values()) - 1
            if self._takes(channels):
                del streams["time"]
        time = None if "time" in streams else arrays.get("time")
        times = _shared(streams, time)
        values = np.concatenate([values for _, values in streams.values()], axis=1)
        return [], values, times

    def _takes(self, channels: int) -> bool:
        """Whether the tokenizer may take as many, besides those of the mask."""
        masks = 1 + bool(self.preparation.get("mask_channels"))
        return self.channels in (0, masks * channels)

    @property
    def _cleaning(self) -> Cleaning | None:
        fields = self.preparation.get("cleaning")
        return Cleaning(**dict(fields)) if fields else None

    def prepare(self, signal):
        values, known = signal.values, signal.known
        if self._cleaning:
            found = clean(np.where(known, values, np.nan), self._cleaning)
            values, known = found.values, found.known
        if self.preparation.get("mask_channels"):
            values = np.concatenate([values, known.astype(np.float32)], axis=-1)
        return dataclasses.replace(signal, values=values)

    def planes(self, values, channels):
        masks = 1 + bool(self.preparation.get("mask_channels"))
        if values.shape[-1] != channels:
            raise BadInput(
                f"it has {values.shape[-1] // masks} columns, and the bundle takes "
                f"{channels // masks}"
            )
        return values[None]

    def merge(self, planes, channels):
        return planes[0][..., :channels]

    def write(self, signal):
        timed, names = signal.extra[0] & 1, _names(signal.extra)
        time = None
        if timed:
            (start,) = struct.unpack("<d", signal.extra[1:9])
            steps = np.arange(len(signal.values))
            time = start + (steps / signal.rate if signal.rate else steps)
        if signal.suffix == ".npz":
            arrays = {"values": signal.values} | (
                {} if time is None else {"time": time}
            )
            file = io.BytesIO()
            np.savez_compressed(file, **arrays)
            return file.getvalue()
        if signal.suffix == ".parquet":
            return _parquet(names, signal.values, time)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if names:
            # Quoted, so that they aren't taken for what divides columns.
            odd = any(set(name) & set(";\t\r\n") for name in names)
            quoting = csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL
            csv.writer(text, lineterminator="\n", quoting=quoting).writerow(names)
        for i, row in enumerate(signal.values):
            when = [] if time is None else [repr(float(time[i]))]  # as it is, exactly
            rows.writerow(when + [f"{value:.7g}" for value in row])
        return text.getvalue().encode()

    def resample(self, values, rate, to):
        count = max(1, round((len(values) - 1) * to / rate) + 1)
        at, old = np.arange(count) / to, np.arange(len(values)) / rate
        columns = [np.interp(at, old, column) for column in values.T]
        return np.stack(columns, axis=-1).astype(np.float32)

    def regrid(self, signal, to):
        """By `one_clock`: gaps stay gaps, and are filled anew."""
        raw = np.where(signal.known, signal.values.astype(np.float64), np.nan)
        times = np.arange(len(raw)) / signal.rate
        gap = self.preparation.get("longest_gap")
        values, _ = one_clock([(times, raw)], to, gap or None, ["it"])
        known = np.isfinite(values)
        rule = self._cleaning.fill if self._cleaning else "linear"
        values = fill(values, known, rule).astype(np.float32)
        return dataclasses.replace(signal, values=values, rate=to, known=known)

    def measure(self, original, decoded):
        """Signal to noise over all channels, each in units of its own spread.

        A channel that never changes has none and does not count; nan where all are so.
        """
        power = original.var(0)
        error = np.square(original - decoded).mean(0)
        moving = power > 0
        if not moving.any():
            return np.nan
        with np.errstate(divide="ignore"):
            return float(-10 * np.log10((error[moving] / power[moving]).mean()))


TIME = ("time", "t", "seconds")
ONE_CLOCK = "bring it to one clock (see train.data.clean)"


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


def _shared(streams: dict[str, Stream], time: np.ndarray | None) -> np.ndarray | None:
    """The times of all series; `time` is that of those with none of their own."""
    if time is not None:
        time = np.asarray(time, np.float64)
    (first, (times, values)), *others = streams.items()
    count, times = len(values), time if times is None else times
    if times is not None and times.shape != (count,):
        raise Unreadable(f"{times.shape} times for {count} rows of values")
    for name, (own, values) in others:
        own = time if own is None else own
        if (own is None) != (times is None):
            bare, timed = (name, first) if own is None else (first, name)
            raise Unreadable(f"{bare} has no times, unlike {timed}")
        if len(values) != count:
            raise Unreadable(
                f"{first} has {count} samples and {name} {len(values)}; {ONE_CLOCK}"
            )
        step = 0.0 if times is None else abs(times[-1] - times[0]) / max(1, count - 1)
        if times is not None and not np.abs(own - times).max() <= 0.01 * step:
            raise Unreadable(f"{first} and {name} differ in their times; {ONE_CLOCK}")
    return times


def _clock(time) -> tuple[float, float]:
    """(first time, rate); rate 0 where nothing says it."""
    if time is None:
        return 0.0, 0.0
    if len(time) < 2:
        return float(time[0]), 0.0
    steps = np.diff(time)
    step = float(time[-1] - time[0]) / len(steps)
    if not np.isfinite(time).all() or step <= 0:
        raise Unreadable("its times do not rise")
    if np.abs(steps - step).max() > 0.01 * step:
        raise Unreadable(f"its times are not even; {ONE_CLOCK}")
    return float(time[0]), 1 / step
