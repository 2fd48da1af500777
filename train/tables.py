"""Files of numbers as arrays, and back, for the codec: series, volumes and sweeps."""

import csv
import io
import struct
import zlib

import numpy as np

from train.data.clean import fill
from train.data.files import load_arrays
from train.data.images import Unreadable
from train.media import Kind, Signal, check


class Table(Kind):
    """CSV and .npz series, each to its own; gaps are filled by straight lines.

    A first column named time, t or seconds says when; a .npz has arrays "values"
    (l, c) and, if it likes, "time" (l,). Times must be even to a hundredth of a step.
    """

    suffixes = (".csv", ".npz")
    score = "SNR"

    def read(self, path):
        suffix = path.suffix.lower()
        names, values, time = (_csv if suffix == ".csv" else _npz)(path)
        known = np.isfinite(values)
        if not known.any(0).all():
            channel = int(np.flatnonzero(~known.any(0))[0])
            raise Unreadable(f"channel {channel} has no value at all")
        values = fill(values, known, "linear").astype(np.float32)
        start, rate = _clock(time)
        extra = struct.pack("<B", (time is not None) + 2 * bool(names))
        extra += struct.pack("<d", start) if time is not None else b""
        extra += zlib.compress("\n".join(names).encode(), 9) if names else b""
        return Signal(values, rate, suffix, extra)

    def write(self, signal):
        timed, named = signal.extra[0] & 1, signal.extra[0] & 2
        names = []
        if named:
            names = zlib.decompress(signal.extra[9 if timed else 1 :]).decode()
            names = names.split("\n")
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
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if named:
            rows.writerow((["time"] if timed else []) + names)
        for i, row in enumerate(signal.values):
            when = [] if time is None else [f"{time[i]:.12g}"]
            rows.writerow(when + [f"{value:.7g}" for value in row])
        return text.getvalue().encode()

    def resample(self, values, rate, to):
        count = max(1, round((len(values) - 1) * to / rate) + 1)
        at, old = np.arange(count) / to, np.arange(len(values)) / rate
        columns = [np.interp(at, old, column) for column in values.T]
        return np.stack(columns, axis=-1).astype(np.float32)

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


class Arrays(Kind):
    """NumPy files: volumes (d, h, w[, c]) and range images (rows, azimuth[, c])."""

    suffixes = (".npy", ".npz")
    types = ("<f4", "|u1", "<i2", "<u2", "<f8", "|i1", "<i4", "<u4", "<i8", "<f2")

    def __init__(self, axes: int):
        self.axes = axes

    def read(self, path):
        arrays = load_arrays(path)
        if len(arrays) != 1:
            raise Unreadable(f"it holds {len(arrays)} arrays; write a file of one")
        (array,) = arrays.values()
        if array.ndim not in (self.axes, self.axes + 1) or not array.size:
            raise Unreadable(
                f"its array is {array.shape}; write {self.axes} axes, and channels last"
            )
        kind = array.dtype.newbyteorder("<").str
        if kind not in self.types:
            raise Unreadable(f"its array is {array.dtype}; write float32")
        flat = array.ndim == self.axes
        values = (array[..., None] if flat else array).astype(np.float32)
        check(values)
        extra = bytes([self.types.index(kind) << 1 | flat])
        return Signal(values, 0.0, ".npy", extra)

    def write(self, signal):
        kind = np.dtype(self.types[signal.extra[0] >> 1])
        values = signal.values[..., 0] if signal.extra[0] & 1 else signal.values
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            values = np.round(values.astype(np.float64))
            values = np.clip(values, limits.min, limits.max)
        file = io.BytesIO()
        np.save(file, values.astype(kind), allow_pickle=False)
        return file.getvalue()


TIME = ("time", "t", "seconds")
MISSING = ("", "nan", "na", "null", "none")


def _csv(path):
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"no CSV file ({error})") from error
    names = []
    if rows and not all(map(_is_number, rows[0])):
        names = [name.strip() for name in rows.pop(0)]
    if not rows or len({len(row) for row in rows}) != 1 or "\0" in text:
        raise Unreadable("no table: write rows of as many numbers each")
    try:
        numbers = [
            [np.nan if c.strip().lower() in MISSING else float(c) for c in row]
            for row in rows
        ]
    except ValueError as error:
        raise Unreadable(f"no table of numbers ({error})") from error
    values = np.array(numbers, np.float64)
    if names and len(names) != values.shape[1]:
        raise Unreadable(f"{len(names)} names over {values.shape[1]} columns")
    time = None
    if names and names[0].lower() in TIME:
        names, time, values = names[1:], values[:, 0], values[:, 1:]
    if not values.size:
        raise Unreadable("no column of values")
    return names, values, time


def _is_number(text):
    if text.strip().lower() in MISSING:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _npz(path):
    arrays = load_arrays(path)
    time = arrays.pop("time", None)
    values = arrays.pop("values", None)
    if values is None and len(arrays) == 1:
        (values,) = arrays.values()
    if values is None:
        raise Unreadable('no array "values" of (l, c) in it')
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size:
        raise Unreadable(f"its values are {values.shape}; write (l, c)")
    if time is not None and time.shape != values.shape[:1]:
        raise Unreadable(f"{time.shape} times for {len(values)} rows of values")
    return [], values.astype(np.float64), time


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
        raise Unreadable(
            "its times are not even; bring it to one clock (see train.data.clean)"
        )
    return float(time[0]), 1 / step
