"""Pictures: decoded, and fitted to one square size."""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.draws import Draws, Version, Word
from train.modalities.files.pictures import STILLS, dim, opaque, read_picture
from train.modalities.files.stored import stored
from train.modalities.modality import EightOrMore, Modality
from train.modalities.record import Batch, Record
from train.modalities.shown import png
from train.modalities.transforms.augment import ImageAugment
from train.modalities.transforms.warp import without_slivers
from vqdit.fields import Bound, Count, Seed
from vqdit.shapes import Float, UInt8

ImageCrop = Literal["center", "random"]


class Pixels(Modality):
    """Signals whose values are 8 bits: grey and colour become each other."""

    pixels: ClassVar[bool] = True
    unit: ClassVar[str] = "bits per pixel"

    white: Any = None  # of pictures alone a field

    def __post_init__(self):
        super().__post_init__()
        allowed = self.channels in (1, 3)
        self.check("channels", allowed, "write 1 (grey) or 3 (RGB)")

    def reread(self, path, record):
        values = super().reread(path, record)
        return self.planes(values, record.values.shape[-1])[0]

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
        error = np.square(original.astype(np.float64) - decoded).mean()
        return float(10 * np.log10(255.0**2 / error)) if error else np.inf

    def units(self, values, rate):
        return values.size / values.shape[-1]


@dataclasses.dataclass(frozen=True)
class Images(Pixels):
    """Pictures, uint8 (size, size, channels).

    name:        "digits" (ships with scikit-learn), "folder", "webdataset" (tar
                 shards), "huggingface" (as it was saved to disk), "npz", or any TFDS
                 set, with configuration and version if wanted: "mnist:3.0.1";
                 "driving" and "driving_faults", what a camera sees of generated streets
                 (train/sources/generated/driving.py), with "boxes" of vehicles and
                 walkers.
    size:        of a side, in pixels; larger pictures are made smaller and cropped.
    channels:    1 for grey pictures, 3 for colour.
    crop, flip:  augmentation while training; evaluation always crops the centre.
    augment:     more of it: turns, colour, noise.
    download:    may TFDS use the network to prepare a missing set.
    examples, seed: of streets: `examples` to train on, an eighth to test on.
    white:       what is white in grey pictures of more than 8 bits, 4095 where they
                 hold 12; None: all of their bits.
    """

    kind: ClassVar[str] = "image"
    sides: ClassVar[tuple[str, ...]] = ("size", "size", "channels")
    measures: ClassVar[str] = "pictures"
    feature: ClassVar[str] = "Image"
    judged: ClassVar[int] = 1000
    boxed: ClassVar[bool] = True
    made: ClassVar[tuple[str, ...]] = ("examples", "seed")
    suffixes: ClassVar[tuple[str, ...]] = (*STILLS, ".gif")
    takes: ClassVar[tuple[str, ...]] = ("white",)

    name: str = "digits"
    size: Count = 8
    channels: int = 1
    crop: ImageCrop = "center"
    flip: bool = False
    augment: ImageAugment | None = None
    download: bool = False
    examples: EightOrMore = 4096
    seed: Seed = 0
    white: Annotated[int, Bound(at_least=1, at_most=65535)] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.augment is not None and self.augment.pace:
            raise BadInput(
                f"data.augment.pace={self.augment.pace}: pictures have no pace; "
                "leave it out"
            )

    @property
    def preparation(self) -> tuple[tuple[str, int], ...]:
        return () if self.white is None else (("white", self.white),)

    def findings(self, records):
        """Of pictures of 16 bits that do not say what is white: how many, and the
        largest value in them."""
        tops = [each.more.get("top", 0) for each in records]
        if not any(tops):
            return {}
        return {"of_16_bits": sum(map(bool, tops)), "largest_of_65535": max(tops)}

    def changes(self, findings):
        top = findings.get("largest_of_65535", 0)
        if said := dim(top):
            yield (
                f"{findings['of_16_bits']} pictures of 16 bits {said}: of grey "
                f"data.white={2 ** top.bit_length() - 1} makes that white, colour has "
                "to be written as 8 bits"
            )

    def read(self, path):
        """PNG, JPEG and others that Pillow reads; alpha is laid on white."""
        picture = read_picture(stored(path), self.white)
        values = np.ascontiguousarray(opaque(picture.pixels))
        return Record(values, more=picture.more, suffix=".png")

    def dropped(self, path, record):
        return record.more.get("dropped", ())

    def write(self, record):
        return png(record.values)

    def adapt(self, record):
        height, width = record.values.shape[:2]
        if record.values.shape == self.shape:
            return record
        if self.crop == "random" and height != width:
            return record  # where it is cut is drawn anew each time
        values, more = fit_square(record.values, self.size, self.channels), record.more
        if "boxes" in more:
            more = {**more, "boxes": fit_boxes(more["boxes"], height, width)}
        return dataclasses.replace(record, values=values, more=more)

    def signals_in(self, arrays):
        x = super().signals_in(arrays)
        if x.dtype != np.uint8:
            raise Unreadable(f"image is {x.dtype}; write uint8 in 0..255")
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim != 4 or x.shape[-1] not in (1, 2, 3, 4):
            raise Unreadable(f"image is {x.shape}; write (n, h, w, c), c in 1..4")
        return x

    @property
    def drawn(self):
        return self.crop == "random"

    def pieces(self, records, starts, draws):
        if self.crop != "random":
            return super().pieces(records, starts, draws)
        # Squares have been fitted, and move nowhere.
        fit = functools.partial(fit_square, size=self.size, channels=self.channels)
        return [functools.partial(fit, place=at) for at in draws(Word.PLACE).tolist()]

    def cut(self, records, starts, draws):
        batch = super().cut(records, starts, draws)
        if self.drawn and "boxes" in batch:
            sides = [record.values.shape[:2] for record in records]
            places = (draws or Version((), 0, len(records)))(Word.PLACE).tolist()
            of_each = zip(batch["boxes"], sides, places, strict=True)
            batch["boxes"] = np.stack(
                [fit_boxes(x, *at, place) for x, at, place in of_each]
            )
        return batch

    @property
    def mirrors(self):
        own = {"flip": (Word.MIRRORED,)} if self.flip else {}
        return own | super().mirrors

    def augmented(self, batch: Batch, draws: Draws) -> Batch:
        if self.flip:
            mirror = (draws(Word.MIRRORED) < 0.5)[:, None, None, None]
            image = batch["x"]
            batch = batch | {"x": np.where(mirror, image[:, :, ::-1], image)}
            if "boxes" in batch:
                boxes = batch["boxes"]
                turned = boxes[..., [2, 1, 0, 3, 4]]
                turned[..., [0, 2]] = 1 - turned[..., [0, 2]]
                there = boxes[..., 4:] >= 0
                batch["boxes"] = np.where(mirror[:, 0] & there, turned, boxes)
        return super().augmented(batch, draws)


def fit_square(
    image: UInt8[np.ndarray, "h w c"], size: int, channels: int, place: float = 0.5
) -> UInt8[np.ndarray, "size size channels"]:
    """Crops the largest square and resamples it to (size, size, channels).

    This is "shorter side to size, then crop" without computing the part cut away.
    `place` in [0, 1) slides the square along the longer side; 0.5 is the centre.
    Resampling is bicubic and antialiased; smaller pictures are enlarged. Alpha is laid
    on white; grey is repeated to RGB, RGB becomes grey by luma (ITU-R 601).
    """
    from PIL import Image  # who reads no picture has no need of it

    image = opaque(image)
    height, width = image.shape[:2]
    side, top, left = _square(height, width, place)
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


def _square(height: int, width: int, place: float) -> tuple[int, int, int]:
    """(side, top, left) of the largest square, at its place along the longer side."""
    side = min(height, width)
    # With slack + 1 places every one is equally likely and 0.5 is the middle.
    return side, int(place * (height - side + 1)), int(place * (width - side + 1))


def fit_boxes(
    boxes: Float[np.ndarray, "k 5"], height: int, width: int, place: float = 0.5
) -> Float[np.ndarray, "k 5"]:
    """Where boxes of a picture, in shares of its sides, lie in its square; one that is
    cut is what is left of it, and one of which nothing is left is absent."""
    side, top, left = _square(height, width, place)
    scale, start = np.tile([width, height], 2), np.tile([left, top], 2)
    edges = ((boxes[:, :4] * scale - start) / side).clip(0, 1)
    there = boxes[:, 4:] >= 0
    fitted = np.where(there, edges, boxes[:, :4])
    return without_slivers(np.concatenate([fitted, boxes[:, 4:]], 1, dtype=boxes.dtype))


def luma(values: UInt8[np.ndarray, "*b 3"]) -> UInt8[np.ndarray, "*b 1"]:
    """ITU-R 601, as Pillow's; a grey picture in RGB comes back as it was."""
    weights = np.array([19595, 38470, 7471], np.uint32)  # of 2**16
    grey = (values.astype(np.uint32) @ weights + 2**15) >> 16
    return grey.astype(np.uint8)[..., None]
