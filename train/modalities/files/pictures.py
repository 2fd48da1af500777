"""Pictures as they are shown: decoded to 8 bits, opaque."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from train.errors import Unreadable, one_line

# Suffixes of single pictures that Pillow reads.
STILLS = tuple(
    ".png .jpg .jpeg .webp .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif .jfif .jpe .mpo "
    ".jp2 .j2k .apng .dib .tga .qoi".split()
)
# What Pillow multiplies grey of few bits by, and not the one that is transparent.
FEW_BITS = {"L;2": 85, "L;4": 17}
BITS_PER_SAMPLE = 258  # a TIFF's tag
# Formats whose samples Pillow scales to all 16 bits, as the file says what is white.
STATED = ("PPM", "JPEG2000")
# Pictures of 16 bits whose values all lie below have 14 bits or fewer.
DIM = 2**14


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """pixels: uint8 (h, w, c); c is 1 (grey), 2 (grey, alpha), 3 or 4.
    top: the largest value of 16 bits of which nothing said what is white, else 0; of
        colour, of which 8 bits are read, the largest that it may be.
    dropped: in words, what the file holds and the pixels do not.
    """

    pixels: UInt8[np.ndarray, "h w c"]
    top: int = 0
    dropped: tuple[str, ...] = ()

    @property
    def more(self) -> dict[str, Any]:
        """What a record has of it beside values."""
        dropped = self.dropped
        if self.pixels.shape[-1] in (2, 4) and self.pixels[..., -1].min() < 255:
            dropped = (*dropped, "its alpha, laid on white")
        more = {"top": self.top, "dropped": dropped}
        return {name: x for name, x in more.items() if x}


def decode_picture(encoded: bytes) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of `read_picture`."""
    return read_picture(encoded).pixels


def read_picture(encoded: bytes, white: int | None = None) -> Picture:
    """An encoded picture as it is shown: turned as its EXIF orientation says. Palettes
    are looked up, grey of more than 8 bits is scaled to these, other colour spaces
    become RGB, of an animation the first frame is taken. Anything short of a whole
    picture raises Unreadable.

    white: of grey of more than 8 bits; None: all the bits that it says it has. A PNG's
        sBIT says nothing of this: by its standard samples fill 16 bits nevertheless.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            form, bits = picture.tile[0][3] if picture.tile else "", _bits(picture)
            picture.load()
            clear = picture.info.get("transparency")
            few = isinstance(form, str) and form in FEW_BITS
            if few and isinstance(clear, int):
                picture.info["transparency"] = clear * FEW_BITS[form]
            shown = ImageOps.exif_transpose(picture)
            stated = picture.format in STATED
            if picture.mode == "I" or picture.mode.startswith("I;16"):
                deep = picture.format not in ("PPM", "PNG")
                pixels, top = _grey(shown, deep, bits, white)
            elif white is not None and bits > 8:
                raise Unreadable(
                    f"is colour of {bits} bits, of which 8 are read; data.white is of "
                    "grey, so write it as 8 bits"
                )
            else:
                pixels = _pixels(shown)
                top = 256 * int(pixels[..., :3].max()) + 255 if bits > 8 else 0
            top = 0 if stated else top
            return Picture(pixels, top, tuple(_dropped(picture, bits)))
    except Unreadable:
        raise
    except Exception as error:  # a broken file may raise anything from inside Pillow
        raise Unreadable(one_line(error)) from error


def _bits(picture: Image.Image) -> int:
    """Of a sample, as the file has them."""
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    form = str(picture.tile[0][3]) if picture.tile else ""
    return 16 if ";16" in form or picture.mode.startswith("I") else 8


def _dropped(picture: Image.Image, bits: int) -> Iterator[str]:
    if bits > 8:
        yield f"all but 8 of its {bits} bits"
    if picture.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        yield from [] if picture.mode.startswith("I") else [f"{picture.mode}, now RGB"]
    if picture.info.get("icc_profile"):
        yield "its colour profile (ICC)"
    with contextlib.suppress(Exception):  # whatever a broken rest holds, it is not read
        if getattr(picture, "is_animated", False):
            yield "all frames but the first"


def _grey(
    picture: Image.Image, deep: bool, bits: int, white: int | None
) -> tuple[UInt8[np.ndarray, "h w c"], int]:
    """(pixels, the largest value where nothing says what is white, else 0).

    deep: integers of 32 bits are meant, not of 16, and those of 8 fit in as well.
    """
    wide, clear = np.asarray(picture).astype(np.int64), picture.info.get("transparency")
    top, said = int(wide.max()), white is not None
    if wide.min() < 0 or top > 65535:
        raise Unreadable("integer pixels outside 16 bits")
    if not said:
        small = picture.mode == "I" and deep and top <= 255
        said = small or 8 < bits < 16
        white = 255 if small else 2**bits - 1 if said else 65535
    if top > white:
        raise Unreadable(f"has values to {top}, more than data.white={white}")
    grey = ((wide * 255 + white // 2) // white).astype(np.uint8)[..., None]
    if isinstance(clear, int):
        alpha = np.where(wide == clear, 0, 255).astype(np.uint8)[..., None]
        grey = np.concatenate([grey, alpha], -1)
    return grey, 0 if said else top


def _pixels(picture: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    mode, clear = picture.mode, picture.info.get("transparency")
    if mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Of 16 bits, of which Pillow has kept the upper 8.
        picture.info["transparency"] = tuple(each >> 8 for each in clear)
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


def dim(top: int) -> str:
    """What is said of pictures of 16 bits whose largest value nothing explains; ""
    where there is nothing to say."""
    return f"have values to {top} of 65535, next to black" if 0 < top < DIM else ""


def opaque(image: np.ndarray) -> np.ndarray:
    """Lays (grey, alpha) or RGBA on white; other pictures pass through."""
    if image.shape[-1] in (1, 3):
        return image
    colour, alpha = image[..., :-1].astype(np.uint32), image[..., -1:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
