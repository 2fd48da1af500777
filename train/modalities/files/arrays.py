"""Files of arrays, .npy and .npz: numbers only."""

import io

import numpy as np
from jaxtyping import Float

from train.errors import Unreadable, reading
from train.modalities.files.stored import File, stored


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
