"""Pictures: fitted to one square size."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.augment import ImageAugment
from train.modalities.draws import MIRRORED, PLACE, Draws
from train.modalities.files import stored
from train.modalities.modality import Batch, Modality, Record, peak_ratio
from train.modalities.pixels import decode_picture, fit_square, luma, opaque
from train.modalities.shown import png

Crop = Literal["center", "random"]


class Pixels(Modality):
    """Signals whose values are 8 bits: grey and colour become each other."""

    pixels: ClassVar[bool] = True
    unit: ClassVar[str] = "bits per pixel"

    def planes(self, values, channels):
        if channels == 1 and values.shape[-1] == 3:
            return luma(values)[None]
        if channels == 3 and values.shape[-1] == 1:
            return np.repeat(values, 3, axis=-1)[None]
        return super().planes(values, channels)

    def merge(self, planes, channels):
        values = planes[0]
        return luma(values) if channels == 1 and values.shape[-1] == 3 else values

    def measure(self, original, decoded):
        return peak_ratio(255.0**2, original, decoded)

    def units(self, values, rate):
        return values.size / values.shape[-1]


@dataclasses.dataclass(frozen=True)
class Images(Pixels):
    """Pictures, uint8 (size, size, channels).

    name:        "digits" (ships with scikit-learn), "folder", "npz", or any TFDS set,
                 with configuration and version if wanted: "mnist", "mnist:3.0.1".
    data_dir:    the folder of images, the .npz file, or the TFDS data directory
                 ("" is TFDS's own default).
    crop, flip:  augmentation while training; evaluation always crops the centre.
    augment:     more of it: turns, colour, noise.
    train_split, test_split: TFDS splits ("train[:90%]" works), or as in Modality.
    download:    may TFDS use the network to prepare a missing set.
    """

    kind: ClassVar[str] = "image"
    measures: ClassVar[str] = "pictures"
    feature: ClassVar[str] = "Image"
    judged: ClassVar[int] = 1000
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        ".png .jpg .jpeg .webp .bmp .tif .tiff .gif .ppm .pgm".split(" ")
    )

    name: str = "digits"
    size: int = 8
    channels: int = 1
    crop: Crop = "center"
    flip: bool = False
    augment: ImageAugment | None = None
    download: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.at_least(size=1)
        self.one_of(crop=Crop)
        if self.channels not in (1, 3):
            raise BadInput(f"data.channels={self.channels}: write 1 (grey) or 3 (RGB)")
        if self.augment is not None and self.augment.pace:
            raise BadInput(
                f"data.augment.pace={self.augment.pace}: pictures have no pace; "
                "leave it out"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, self.channels)

    def read(self, path):
        """PNG, JPEG and others that Pillow reads; alpha is laid on white."""
        values = opaque(decode_picture(stored(path), upright=True))
        return Record(np.ascontiguousarray(values), suffix=".png")

    def write(self, record):
        return png(record.values)

    def adapt(self, record):
        height, width = record.values.shape[:2]
        if record.values.shape == self.shape:
            return record
        if self.crop == "random" and height != width:
            return record  # where it is cut is drawn anew each time
        values = fit_square(record.values, self.size, self.channels)
        return dataclasses.replace(record, values=values)

    def rows(self, arrays):
        if "image" not in arrays:
            raise Unreadable(
                f"no array 'image', only {sorted(arrays)}; "
                "write np.savez(file, image=..., label=...)"
            )
        x = arrays["image"]
        if x.dtype != np.uint8:
            raise Unreadable(f"image is {x.dtype}; write uint8 in 0..255")
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim != 4 or x.shape[-1] not in (1, 2, 3, 4):
            raise Unreadable(f"image is {x.shape}; write (n, h, w, c), c in 1..4")
        if 0 in x.shape:
            raise Unreadable(f"image is {x.shape}, which holds no picture")
        return x

    @property
    def drawn(self):
        return self.crop == "random"

    def cut(self, records, starts, draws) -> Batch:
        if self.crop != "random":
            return super().cut(records, starts, draws)
        # Squares have been fitted, and move nowhere.
        place = np.full(len(records), 0.5) if draws is None else draws(PLACE)
        pairs = zip(records, place.tolist(), strict=True)
        fit = lambda x, at: fit_square(x, self.size, self.channels, at)
        return {"x": np.stack([fit(record.values, at) for record, at in pairs])}

    def augmented(self, batch: Batch, draws: Draws) -> Batch:
        if self.flip:
            mirror = (draws(MIRRORED) < 0.5)[:, None, None, None]
            image = batch["x"]
            batch = batch | {"x": np.where(mirror, image[:, :, ::-1], image)}
        return super().augmented(batch, draws)
