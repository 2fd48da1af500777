"""Files of one array as signals, and back, for the codec: volumes and sweeps."""

import dataclasses
import io
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from train.codec.media import Kind, Signal, check
from train.data.files import load_arrays
from train.data.images import Unreadable
from train.data.ranges import split_sweep
from train.data.volumes import filled, read_nifti


class Arrays(Kind):
    """NumPy files of one array, `axes` axes and channels last, to .npy."""

    suffixes = (".npy", ".npz")
    types = ("<f4", "|u1", "<i2", "<u2", "<f8", "|i1", "<i4", "<u4", "<i8", "<f2")
    axes: ClassVar[int]
    name: ClassVar[str]  # of the array, among several

    def array(self, path: Path) -> np.ndarray:
        """Of a file."""
        arrays = load_arrays(path)
        if self.name in arrays:
            return arrays[self.name]
        if len(arrays) != 1:
            raise Unreadable(
                f"it holds {len(arrays)} arrays; write one, or call it {self.name!r}"
            )
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
    name = "volume"
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
    name = "range"
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
