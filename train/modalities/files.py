"""Files as bytes and as arrays; files and folders are written whole or not at all."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from train.errors import Unreadable, reading

# Samples that are made of any file, and as a multiple of those that it holds.
MOST_MADE, LARGEST_GROWTH = 2**20, 100


@dataclasses.dataclass(frozen=True)
class Member:
    """A file that lies in another one, as readers take it in the place of a path.

    name: its path in there. read_bytes: what it holds; OSError or Unreadable.
    """

    name: str
    read_bytes: Callable[[], bytes]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def is_dir(self) -> bool:
        return False

    def __str__(self):
        return self.name


File = Path | Member


def stored(path: File) -> bytes:
    """What a file holds."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error) or "cannot be opened") from error


def opened(path: File) -> str | io.BytesIO:
    """What libraries open that read files themselves."""
    return str(path) if isinstance(path, Path) else io.BytesIO(stored(path))


def natural(name: str) -> tuple[list[str | int], str]:
    """What names are ordered by where their numbers count: 2 before 10."""
    parts: list[str | int] = list(re.split("([0-9]+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def printable(name: str) -> str:
    """A name from disk as text: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def kind_of(name: str) -> str:
    """What a file that is left out is counted under: ".heic"."""
    return printable(Path(name).suffix.lower()) or "without a suffix"


def counted(kinds: Mapping[str, int]) -> str:
    """6 .heic, 1 .txt: the most frequent first."""
    most = sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{n} {kind}" for kind, n in most)


def check_growth(count: float, of: int, why: str) -> None:
    """Raises Unreadable where a number in a file would make `count` samples of as few.

    Memory is for what a file holds, whatever its header claims.
    """
    if not count <= max(MOST_MADE, LARGEST_GROWTH * of):
        raise Unreadable(f"{why}, which would make {count:.3g} samples of {of}")


def write(path: str | os.PathLike, figures: dict, **how: Any) -> None:
    """JSON, whole or not at all."""
    write_bytes(path, (json.dumps(figures, **{"indent": 1} | how) + "\n").encode())


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def append(file: int, data: bytes) -> None:
    """Adds to the end of an open file, all of it or nothing; raises OSError."""
    size = os.fstat(file).st_size
    try:
        while data:  # of a disk that is filled by it a part is taken first
            data = data[os.write(file, data) :]
    except OSError:
        os.truncate(file, size)
        raise


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder to write into, which becomes `path` in the end, or nothing at all where
    that is not reached; what is there goes once it does."""
    path = Path(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
    try:
        fresh.mkdir(parents=True)
        yield fresh
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def write_folder(path: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files whole or not at all; what is there goes once it is."""
    with new_folder(path) as fresh:
        for name, data in files.items():
            (fresh / name).write_bytes(data)


def check_finite(values: np.ndarray) -> None:
    """Raises Unreadable for nothing at all, and for NaN and infinities."""
    if not values.size:
        raise Unreadable("it is empty")
    if not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite")


def load_arrays(path: File) -> dict[str, np.ndarray]:
    """Arrays of an .npz by name, or that of an .npy as "": numbers only.

    Raises Unreadable for anything else, also for a file under a false name.
    """
    content, kind = stored(path), path.suffix.lower().lstrip(".")
    with reading(f"not a whole {kind} file of plain arrays"):
        # From bytes, so that a text file named .npz isn't taken for an open handle.
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"": loaded}
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise Unreadable(f"array {name or '0'} is {array.dtype}, not of numbers")
    return arrays


def one_array(path: File, name: str) -> np.ndarray:
    """The array of this name, or the only one of a file."""
    arrays = load_arrays(path)
    if name in arrays:
        return arrays[name]
    if len(arrays) != 1:
        raise Unreadable(f"no array {name!r}, only {sorted(arrays)}")
    return next(iter(arrays.values()))


def npz(**arrays: np.ndarray) -> bytes:
    """A compressed .npz of these arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
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
    values = (array[..., None] if flat else array).astype(np.float32)
    which = TYPES.index(kind) if kind in TYPES else 0
    return values, bytes([which << 1 | flat])


def as_stored(values: np.ndarray, extra: bytes) -> bytes:
    """An .npy file of the axes and the type that the array had; float32 of all axes
    where extra is empty."""
    extra = extra or bytes(1)
    kind = np.dtype(TYPES[extra[0] >> 1])
    values = values[..., 0] if extra[0] & 1 else values
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.round(values.astype(np.float64)).clip(limits.min, limits.max)
    file = io.BytesIO()
    np.save(file, values.astype(kind), allow_pickle=False)
    return file.getvalue()
