"""Pictures: which ones an experiment reads, decoding, fitting to one square size."""

import dataclasses
import io
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from train.data.augment import ImageAugment
from train.data.signals import Signals
from train.errors import BadInput

if TYPE_CHECKING:
    from train.data.fitted import Fitted

Crop = Literal["center", "random"]


@dataclasses.dataclass(frozen=True)
class Images(Signals):
    """The pictures of an experiment, and how they become (size, size, channels).

    name:        "digits" (ships with scikit-learn), "folder", "npz", or any TFDS set,
                 with configuration and version if wanted: "mnist", "mnist:3.0.1".
    data_dir:    the folder of images, the .npz file, or the TFDS data directory
                 ("" is TFDS's own default).
    crop, flip:  augmentation while training; evaluation always crops the centre.
    augment:     more of it: turns, colour, noise (see train.data.augment).
    train_split, test_split: TFDS splits ("train[:90%]" works), or sub-folders (.npz
                 files) of data_dir; where those are missing, holdout divides the data.
    holdout:     share kept for testing, chosen by a hash of the file name or index.
    bad_share:   share of unreadable image files that is skipped rather than refused.
    threads:     workers that read and decode; 0 reads in the caller's own thread.
    download:    may TFDS use the network to prepare a missing set.
    """

    kind: ClassVar[str] = "image"

    name: str = "digits"
    data_dir: str = ""
    size: int = 8
    channels: int = 1
    crop: Crop = "center"
    flip: bool = False
    augment: ImageAugment | None = None
    train_split: str = "train"
    test_split: str = "test"
    holdout: float = 0.2
    bad_share: float = 0.01
    threads: int = 4
    download: bool = False

    def __post_init__(self):
        if not self.name:
            raise BadInput(
                "data.name is empty: write digits, folder, npz or a TFDS set"
            )
        if self.size < 1:
            raise BadInput(f"data.size={self.size}: write at least 1")
        if self.channels not in (1, 3):
            raise BadInput(f"data.channels={self.channels}: write 1 (grey) or 3 (RGB)")
        if self.augment is not None and self.augment.pace:
            raise BadInput(
                f"data.augment.pace={self.augment.pace}: pictures have no pace; "
                "leave it out"
            )
        if self.crop not in get_args(Crop):
            raise BadInput(f"data.crop={self.crop!r}: write center or random")
        if not 0 <= self.holdout < 1:
            raise BadInput(f"data.holdout={self.holdout}: write a share in [0, 1)")
        if not 0 <= self.bad_share < 1:
            raise BadInput(f"data.bad_share={self.bad_share}: write a share in [0, 1)")
        if self.threads < 0:
            raise BadInput(f"data.threads={self.threads}: write 0 or more")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(size, size, channels)."""
        return (self.size, self.size, self.channels)

    def open(self, train: bool) -> "Fitted":
        """The training or the held-out part of the pictures, fitted to `shape`."""
        # They need this module, and most of what they import is slow to.
        from train.data.fitted import Fitted
        from train.data.sources import open_source

        return Fitted(self, open_source(self, train))


class Unreadable(ValueError):
    """Bytes that are not a whole picture; the message says why."""


def decode(encoded: bytes, upright: bool = False) -> UInt8[np.ndarray, "h w c"]:
    """Pixels of an encoded picture; c is 1 (grey), 2 (grey, alpha), 3 or 4.

    Palettes are looked up, 16-bit grey is scaled to 8 bits, other colour spaces become
    RGB, of an animation the first frame is taken. `upright` applies the EXIF
    orientation. Anything short of a whole picture raises Unreadable.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            picture.load()
            return _pixels(ImageOps.exif_transpose(picture) if upright else picture)
    except Unreadable:
        raise
    except Exception as error:  # a broken file may raise anything from inside Pillow
        raise Unreadable(
            " ".join(str(error).split()) or type(error).__name__
        ) from error


def _pixels(picture: Image.Image) -> np.ndarray:
    mode = picture.mode
    if mode == "I" or mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise Unreadable("integer pixels outside 16 bits")
        return ((wide + 128) // 257).astype(np.uint8)[..., None]
    if mode == "F":
        raise Unreadable("floating-point pixels have no stated range")
    if picture.has_transparency_data:
        grey = mode in ("1", "L", "LA", "La")
        picture = picture.convert("LA" if grey else "RGBA")
    elif mode == "1":
        picture = picture.convert("L")
    elif mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def fit(
    image: UInt8[np.ndarray, "h w c"],
    size: int,
    channels: int,
    place: float = 0.5,
) -> UInt8[np.ndarray, "size size channels"]:
    """Crops the largest square and resamples it to (size, size, channels).

    This is "shorter side to size, then crop" without computing the part cut away.
    `place` in [0, 1) slides the square along the longer side; 0.5 is the centre.
    Resampling is bicubic and antialiased; smaller pictures are enlarged. Alpha is laid
    on white; grey is repeated to RGB, RGB becomes grey by luma (ITU-R 601).
    """
    image = opaque(image)
    height, width = image.shape[:2]
    side = min(height, width)
    # With slack + 1 places every one is equally likely and 0.5 is the middle.
    top = int(place * (height - side + 1))
    left = int(place * (width - side + 1))
    if channels == 1 and image.shape[-1] == 3:
        grey = Image.fromarray(np.ascontiguousarray(image)).convert("L")
        image = np.asarray(grey)[..., None]
    if side == size:
        image = image[top : top + side, left : left + side]
    else:
        plane = image[..., 0] if image.shape[-1] == 1 else image
        resampled = Image.fromarray(np.ascontiguousarray(plane)).resize(
            (size, size),
            Image.Resampling.BICUBIC,
            box=(left, top, left + side, top + side),
        )
        image = np.asarray(resampled).reshape(size, size, -1)
    return np.repeat(image, 3, axis=-1) if channels > image.shape[-1] else image


def opaque(image: np.ndarray) -> np.ndarray:
    """Lays (grey, alpha) or RGBA on white; other pictures pass through."""
    if image.shape[-1] in (1, 3):
        return image
    colour, alpha = image[..., :-1].astype(np.uint32), image[..., -1:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
