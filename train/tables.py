"""Files of numbers as arrays, and back, for the codec: series, volumes and sweeps."""

import csv
import dataclasses
import io
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from train.data.clean import Cleaning, clean, fill
from train.data.files import load_arrays
from train.data.images import Unreadable
from train.data.ranges import split_sweep
from train.data.tables import check_names, columns_of, open_table
from train.data.volumes import filled, read_nifti
from train.errors import BadInput
from train.media import Kind, Signal, check


class Table(Kind):
    """CSV, Parquet and .npz series, each to its own.

    Columns that training chose are chosen, by name ("columns"); gaps are filled, and
    outliers treated, as it did ("cleaning"), else by straight lines; and which values
    are known may be channels of their own ("mask_channels"), which do not come back. A
    column says when: the one that training named ("time"), else a first column that is
    named time, t or seconds, or that holds dates. A .npz has arrays "values" (l, c),
    the chosen columns, or one by the name of each, and, if it likes, "time" (l,). Times
    must be even to a hundredth of a step; dates come back as seconds.
    """

    suffixes = (".csv", ".parquet", ".npz")
    takes = ("columns", "time", "cleaning", "mask_channels")
    score = "SNR"

    def read(self, path):
        suffix = path.suffix.lower()
        columns = self.preparation.get("columns", ())
        if suffix == ".npz":
            names, values, time = _npz(path, columns)
        else:
            names, values, time = _table(path, columns, self.preparation.get("time"))
        known = np.isfinite(values)
        if not known.any(0).all():
            channel = int(np.flatnonzero(~known.any(0))[0])
            raise Unreadable(f"channel {channel} has no value at all")
        rule = self._cleaning.fill if self._cleaning else "linear"
        values = fill(values, known, rule).astype(np.float32)
        start, rate = _clock(time)
        extra = struct.pack("<B", (time is not None) + 2 * bool(names))
        extra += struct.pack("<d", start) if time is not None else b""
        extra += zlib.compress("\n".join(names).encode(), 9) if names else b""
        return Signal(values, rate, suffix, extra, known)

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
        if signal.suffix == ".parquet":
            return _parquet(names, signal.values, time)
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
    """NumPy files of one array, `axes` axes and channels last, to .npy."""

    suffixes = (".npy", ".npz")
    types = ("<f4", "|u1", "<i2", "<u2", "<f8", "|i1", "<i4", "<u4", "<i8", "<f2")
    axes: ClassVar[int]

    def array(self, path: Path) -> np.ndarray:
        """Of a file."""
        arrays = load_arrays(path)
        if len(arrays) != 1:
            raise Unreadable(f"it holds {len(arrays)} arrays; write a file of one")
        return next(iter(arrays.values()))

    def read(self, path):
        array = self.array(path)
        if array.ndim not in (self.axes, self.axes + 1) or not array.size:
            raise Unreadable(
                f"its array is {array.shape}; write {self.axes} axes, and channels last"
            )
        kind = array.dtype.newbyteorder("<").str
        if kind not in self.types:
            raise Unreadable(f"its array is {array.dtype}; write float32")
        flat = array.ndim == self.axes
        values = (array[..., None] if flat else array).astype(np.float32)
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


class Volume(Arrays):
    """Scans (d, h, w[, c]), NIfTI too, which becomes .npy as (z, y, x), without its
    header. Intensities are clipped to the "window" of training, for good. What is not
    finite is taken for the least there is, and comes back so."""

    axes = 3
    suffixes = (*Arrays.suffixes, ".nii", ".nii.gz")
    takes = ("window",)

    def array(self, path):
        if path.suffix.lower() in (".nii", ".gz"):
            return read_nifti(path)
        return super().array(path)

    def read(self, path):
        signal = super().read(path)
        return dataclasses.replace(signal, values=filled(signal.values))

    def prepare(self, signal):
        if "window" not in self.preparation:
            return signal
        values = np.clip(signal.values, *map(np.float32, self.preparation["window"]))
        return dataclasses.replace(signal, values=values)


class Sweep(Arrays):
    """Range images (rows, azimuth[, c]).

    Where the bundle says what stood for a beam that did not return ("far"), it stands
    for those that are NaN, 0 or less. Which they were is kept, exactly, and they come
    back as the first of them was. The score is that of beams that returned.
    """

    axes = 2
    takes = ("far",)

    def read(self, path):
        signal = super().read(path)
        if "far" not in self.preparation:
            check(signal.values)
        return signal

    def prepare(self, signal):
        if "far" not in self.preparation:
            return signal
        values, hit = split_sweep(signal.values, self.preparation["far"])
        lost = hit[..., 0] == 0
        extra = signal.extra
        if lost.any():
            extra += signal.values[lost][0].astype("<f4").tobytes()
            extra += zlib.compress(np.packbits(lost).tobytes(), 9)
        return dataclasses.replace(signal, values=values, extra=extra)

    def restore(self, values, extra):
        if len(extra) == 1:
            return values
        size = 1 + 4 * values.shape[-1]
        bits = np.frombuffer(zlib.decompress(extra[size:]), np.uint8)
        beams = values.shape[:-1]
        lost = np.unpackbits(bits, count=beams[0] * beams[1]).reshape(beams) > 0
        beam = np.frombuffer(extra[1:size], "<f4")
        return np.where(lost[..., None], beam, values)

    def measure(self, original, decoded):
        hit = split_sweep(original, 1.0)[1][..., 0] > 0
        return super().measure(original[hit], decoded[hit]) if hit.any() else np.nan


TIME = ("time", "t", "seconds")


def _table(path, columns, time):
    table, named = open_table(path)
    names = table.column_names
    if not time or time not in names:
        time = names[0] if _says_when(names[0], table[0].type) else ""
    streams = columns_of(table, time, columns)
    times = next(iter(streams.values()))[0]
    values = np.concatenate([column for _, column in streams.values()], axis=1)
    return list(streams) if named else [], values, times


def _says_when(name, kind) -> bool:
    from pyarrow.types import is_temporal

    return name.strip().lower() in TIME or is_temporal(kind)


def _parquet(names, values, time) -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = [] if time is None else [time]
    columns += [np.ascontiguousarray(column) for column in values.T]
    names = ([] if time is None else ["time"]) + names
    file = io.BytesIO()
    table = pyarrow.Table.from_arrays(list(map(pyarrow.array, columns)), names=names)
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _npz(path, columns):
    arrays = load_arrays(path)
    time = arrays.pop("time", None)
    values = arrays.pop("values", None)
    if columns and set(columns) <= set(arrays):
        parts = [arrays[name] for name in columns]
        if {part.ndim for part in parts} - {1, 2} or len(set(map(len, parts))) > 1:
            raise Unreadable("its columns are not of one length: write (l,) or (l, c)")
        values = np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1)
    elif values is None and len(arrays) == 1:
        (values,) = arrays.values()
    if values is None:
        check_names(columns, arrays)
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
