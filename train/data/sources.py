"""Random access to stored pictures: digits, .npz arrays, and the door to the others."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64, Int, UInt8

from train.data.draws import MIRROR, ORDER, PLACE, chance
from train.data.images import Images
from train.errors import BadInput

__all__ = ["MIRROR", "ORDER", "PLACE", "Arrays", "Source", "chance", "open_source"]

# {"image": uint8 (h, w, c) as stored, "label": int, -1 where absent, ["caption": str]}
Example = dict[str, Any]


class Source(Protocol):
    """Examples by index, so that a position in the data is an integer.

    classes:     number of classes, 0 where examples have no label.
    class_names: one per class, or empty.
    square:      every stored picture is known to be square, so a crop moves nothing.
    light:       decoding is so cheap that threads would only wait for each other.
    """

    classes: int
    class_names: tuple[str, ...]
    square: bool
    light: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def take(self, indices: Sequence[int]) -> list[Example]:
        """Several examples in one read, in the order asked for."""
        ...


def open_source(images: Images, train: bool) -> Source:
    """Opens the training or the held-out part of the pictures; never empty.

    Raises BadInput, in one line, for whatever can't be read.
    """
    # TFDS takes a third of a second to import, and most runs of the demo need none.
    match images.name:
        case "digits":
            return digits(train)
        case "npz":
            return npz(images, train)
        case "folder":
            from train.data.folder import open_folder

            return open_folder(images, train)
        case _:
            from train.data.catalogue import open_catalogued

            return open_catalogued(images, train)


class Arrays:
    """A Source over pictures and labels that are already in memory."""

    light = True

    def __init__(
        self,
        image: UInt8[np.ndarray, "n h w c"],
        label: Int[np.ndarray, "n"],
        class_names: tuple[str, ...] = (),
        classes: int | None = None,
    ):
        self.image, self.label = image, label
        self.class_names = class_names
        self.classes = len(class_names) if classes is None else classes
        self.square = image.shape[1] == image.shape[2]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> Example:
        return {"image": self.image[index], "label": int(self.label[index])}

    def take(self, indices: Sequence[int]) -> list[Example]:
        return [self[index] for index in indices]


def digits(train: bool) -> Arrays:
    """Handwritten digits of scikit-learn, 8x8: a fixed stratified 1437 / 360 split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    # 16 grey levels and white: 0..16.
    image = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    label = data.target.astype(np.int64)
    parts = train_test_split(
        np.arange(len(label)), test_size=360, stratify=label, random_state=0
    )
    rows = np.sort(parts[0 if train else 1])
    return Arrays(image[rows], label[rows], tuple(map(str, data.target_names)))


def npz(images: Images, train: bool) -> Arrays:
    """Arrays "image" uint8 (n, h, w, c) or (n, h, w) and optional "label" of an .npz.

    data_dir is one file, divided by holdout, or a folder that holds one file a split:
    train.npz and test.npz.
    """
    path = Path(images.data_dir).expanduser()
    if not images.data_dir:
        raise BadInput("data.data_dir is empty: write the .npz file to read")
    if path.is_dir():
        splits = [path / f"{s}.npz" for s in (images.train_split, images.test_split)]
        both = [_load_npz(split) for split in splits]
        image, label = both[0 if train else 1]
        # One class count for both parts, or the label table would depend on the part.
        classes = max(1 + int(labels.max()) for _, labels in both)
        return Arrays(image, label, classes=classes)
    image, label = _load_npz(path)
    rows = divide(chance(0, np.arange(len(image))), images.holdout, train, str(path))
    return Arrays(image[rows], label[rows], classes=1 + int(label.max()))


def _load_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        # From bytes, so that a text file named .npz isn't taken for an open handle.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; write data.data_dir=FILE.npz") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(
            f"{path}: not a whole .npz file of plain arrays ({error})"
        ) from error
    except (AttributeError, TypeError):  # np.load returned a bare array
        raise BadInput(
            f"{path}: a single array; write np.savez(file, image=...)"
        ) from None
    if "image" not in found:
        raise BadInput(
            f"{path}: no array 'image', only {sorted(found)}; "
            "write np.savez(file, image=..., label=...)"
        )
    image = found["image"]
    if image.dtype != np.uint8:
        raise BadInput(f"{path}: image is {image.dtype}; write uint8 in 0..255")
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4 or image.shape[-1] not in (1, 2, 3, 4):
        raise BadInput(f"{path}: image is {image.shape}; write (n, h, w, c), c in 1..4")
    if 0 in image.shape:
        raise BadInput(f"{path}: image is {image.shape}, which holds no picture")
    label = found.get("label", np.full(len(image), -1))
    if label.shape != (len(image),) or label.dtype.kind not in "iu":
        raise BadInput(
            f"{path}: label is {label.dtype} {label.shape}; "
            f"write one integer a picture, ({len(image)},)"
        )
    label = label.astype(np.int64)
    if label.min() < 0 and "label" in found:
        at = int(label.argmin())
        raise BadInput(
            f"{path}: label[{at}] = {label[at]} is outside the classes; write 0 or more"
        )
    return image, label


def divide(
    draws: Float64[np.ndarray, "n"], holdout: float, train: bool, where: str
) -> Int[np.ndarray, "rows"]:
    """Indices of the training part, or of the held-out part: those drawn < holdout.

    Each draw belongs to its example alone, so a file added later moves no other across.
    Both parts get at least one example; holdout = 0 keeps everything for training.
    """
    if holdout == 0:
        if not train:
            raise BadInput(
                "data.holdout=0 keeps nothing for testing; write for example 0.1"
            )
        return np.arange(len(draws))
    if len(draws) < 2:
        raise BadInput(
            f"{where}: {len(draws)} example cannot be divided into training and test; "
            "add more, or write data.holdout=0"
        )
    held = draws < holdout
    if not held.any():
        held[draws.argmin()] = True
    if held.all():
        held[draws.argmax()] = False
    return np.flatnonzero(~held if train else held)
