"""Files of arrays, .npy and .npz: numbers only."""

import contextlib
import dataclasses
import functools
import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from train.errors import Unreadable, reading
from train.modalities.files.limits import check_decoded
from train.modalities.files.stored import File, opened_file, size_of
from vqdit.shapes import Float

LONGEST_HEADER = 10_000  # bytes that NumPy, too, believes to be one


def check_finite(values: np.ndarray) -> None:
    """Raises Unreadable for nothing at all, and for NaN and infinities."""
    if not values.size:
        raise Unreadable("it is empty")
    if not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite")


@dataclasses.dataclass(frozen=True)
class Kept:
    """An array in a file, by its header; `read` reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def size(self, item: int = 0) -> int:
        """Bytes that it takes, as numbers of at least so many each."""
        return math.prod(self.shape) * max(self.dtype.itemsize, item)


@contextlib.contextmanager
def arrays_in(path: File) -> Iterator[dict[str, Kept]]:
    """Arrays of an .npz by name, or that of an .npy as "": numbers only, and none is
    read yet.

    Raises Unreadable for anything else, also for a file under a false name.
    """
    kind = path.suffix.lower().lstrip(".")
    with reading(f"not a whole {kind} file of plain arrays"), opened_file(path) as file:
        first = file.read(4)
        file.seek(0)
        if first[:2] != b"PK":
            yield {"": _kept("0", lambda: contextlib.nullcontext(file), size_of(path))}
            return
        with zipfile.ZipFile(file) as archive:
            found = {}
            for info in archive.infolist():
                # Others may take any memory before the first byte comes out.
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise Unreadable(f"{info.filename} is packed as NumPy does not")
                name = info.filename.removesuffix(".npy")
                opened = functools.partial(archive.open, info)
                found[name] = _kept(name, opened, info.file_size)
            yield found


def _kept(name: str, opened: Callable[[], Any], there: int) -> Kept:
    """there: bytes of the array's file."""
    with opened() as file:
        version, at = np.lib.format.read_magic(file), np.lib.format.MAGIC_LEN
        long = version > (1, 0)
        # A header's length is asked for first, since it is read as a whole.
        length = int.from_bytes(file.read(4 if long else 2), "little")
        if length > LONGEST_HEADER:
            raise Unreadable(f"array {name} has a header of {length} bytes")
        # Of 1.0 and later alike but for the length, which stands before it.
        text = struct.pack("<I", length) + file.read(length)
        shape, _, dtype = np.lib.format.read_array_header_2_0(io.BytesIO(text))
    if dtype.hasobject:
        raise ValueError(f"array {name} holds objects")
    if dtype.kind not in "fiub":
        raise Unreadable(f"array {name} is {dtype}, not of numbers")
    have = there - at - (4 if long else 2) - length
    if math.prod(shape) * dtype.itemsize > have:
        raise Unreadable(f"array {name} is cut short: {list(shape)} in {have} bytes")

    def read() -> np.ndarray:
        with opened() as file:
            if file.tell():  # of an .npy, whose header was read from it
                file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)

    return Kept(shape, dtype, read)


def load_arrays(path: File, item: int = 0, alone: bool = True) -> dict[str, np.ndarray]:
    """All `arrays_in` a file, read. item: bytes of a number as it is used, at least;
    alone: of `check_decoded`."""
    with arrays_in(path) as found:
        size = sum(each.size(item) for each in found.values())
        check_decoded(size, size_of(path), alone, "save fewer arrays in a file")
        return {name: each.read() for name, each in found.items()}


def one_array(path: File, *names: str) -> list[np.ndarray | None]:
    """The array of the first name, or the only one of a file; those of the others, None
    where there is none."""
    with arrays_in(path) as found:
        first = names[0] if names[0] in found else ""
        if not first and len(found) == 1:
            first = next(iter(found))
        elif not first:
            raise Unreadable(f"no array {names[0]!r}, only {sorted(found)}")
        chosen = [found.get(name) for name in (first, *names[1:])]
        size = sum(each.size(4) for each in chosen if each)
        check_decoded(size, size_of(path), advice="cut it into parts")
        return [None if each is None else each.read() for each in chosen]


def npz(**arrays: np.ndarray) -> bytes:
    """A compressed .npz of these arrays."""
    file = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(file, **named)
    return file.getvalue()


# Types that come back as they were; others do as the first. Their order is part of the
# .vqd format: new ones go to the end.
TYPES = ("<f4", "|u1", "<i2", "<u2", "<f8", "|i1", "<i4", "<u4", "<i8", "<f2")


def with_channels(
    array: np.ndarray, axes: int
) -> tuple[Float[np.ndarray, "*axes c"], bytes]:
    """(values, channels last; what `as_stored` needs) of an array of as many axes."""
    if array.ndim not in (axes, axes + 1) or not array.size:
        raise Unreadable(
            f"is {list(array.shape)}; write {axes} axes, and channels last"
        )
    kind, flat = array.dtype.newbyteorder("<").str, array.ndim == axes
    values = (array[..., None] if flat else array).astype(np.float32, copy=False)
    which = TYPES.index(kind) if kind in TYPES else 0
    return values, bytes([which << 1 | flat])


def as_flat(values: np.ndarray, extra: bytes) -> np.ndarray:
    """Without the last axis where the array had none; several channels keep theirs."""
    return values[..., 0] if extra[0] & 1 and values.shape[-1] == 1 else values


def as_stored(values: np.ndarray, extra: bytes) -> bytes:
    """An .npy file of the axes and the type that the array had; float32 of all axes
    where extra is empty."""
    extra = extra or bytes(1)
    kind = np.dtype(TYPES[extra[0] >> 1])
    values = as_flat(values, extra)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.round(values.astype(np.float64)).clip(limits.min, limits.max)
    file = io.BytesIO()
    np.save(file, values.astype(kind), allow_pickle=False)
    return file.getvalue()
