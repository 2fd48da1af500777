"""Pictures as they are shown: decoded to 8 bits, opaque."""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from train.errors import BadInput, Unreadable, one_line
from train.modalities.files.limits import check_decoded
from vqdit.shapes import UInt8

# Suffixes of single pictures that Pillow reads.
STILLS = tuple(
    ".png .jpg .jpeg .webp .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif .jfif .jpe .mpo "
    ".jp2 .j2k .apng .dib .tga .qoi".split()
)
# What Pillow multiplies grey of few bits by, and not the one that is transparent.
FEW_BITS = {"L;2": 85, "L;4": 17}
BYTES = 4  # of a pixel, as Pillow holds most kinds
BAND = 2**20  # pixels, or values, that are worked on at a time
# How pixels are turned by EXIF's orientation.
TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of a TIFF
ORIENTATION = 274  # EXIF's
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


def read_picture(encoded: bytes, white: int | None = None) -> Picture:
    """An encoded picture as it is shown: turned as its EXIF orientation says. Palettes
    are looked up, grey of more than 8 bits is scaled to these, other colour spaces
    become RGB, of an animation the first frame is taken. Anything short of a whole
    picture raises Unreadable.

    white: of grey of more than 8 bits; None: all the bits that it says it has. A PNG's
        sBIT says nothing of this: by its standard samples fill 16 bits nevertheless.
    """
    try:
        with open_picture(io.BytesIO(encoded)) as picture:
            width, height = picture.size
            check_size(width, height, len(encoded))
            # A tile of a TIFF may be larger than its picture.
            tile = getattr(picture, "tag_v2", {})
            check_size(tile.get(322, 1), tile.get(323, 1), len(encoded))
            form, bits = picture.tile[0][3] if picture.tile else "", _bits(picture)
            picture.load()
            clear = picture.info.get("transparency")
            few = isinstance(form, str) and form in FEW_BITS
            if few and isinstance(clear, int):
                picture.info["transparency"] = clear * FEW_BITS[form]
            turn = TURNS.get(picture.getexif().get(ORIENTATION))
            stated = picture.format in STATED
            if picture.mode == "I" or picture.mode.startswith("I;16"):
                deep = picture.format not in ("PPM", "PNG")
                pixels, top = _grey(picture, deep, bits, white)
            elif white is not None and bits > 8:
                raise Unreadable(
                    f"is colour of {bits} bits, of which 8 are read; data.white is of "
                    "grey, so write it as 8 bits"
                )
            else:
                pixels = _pixels(picture)
                top = 256 * int(pixels[..., :3].max()) + 255 if bits > 8 else 0
            top, dropped = 0 if stated else top, tuple(_dropped(picture, bits))
        pixels = pixels if turn is None else turn(pixels)
        return Picture(pixels, top, dropped)
    except (BadInput, Unreadable):
        raise
    except Exception as error:  # a broken file may raise anything from inside Pillow
        raise Unreadable(one_line(error)) from error


def open_picture(file: BinaryIO | str, formats: tuple[str, ...] | None = None) -> Any:
    """A picture of Pillow's, of which no more than the header is read yet."""
    # Who reads no picture has no need of it.
    from PIL import Image, UnidentifiedImageError

    # It warns of large pictures, and refuses twice as large ones, whatever their files
    # are: `check_size` is asked in its place.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:  # whose words are an address in memory
        raise Unreadable("is no picture of a kind that Pillow reads") from error


def check_size(
    width: int, height: int, stored: int, each: float = BYTES, growth: int | None = None
) -> None:
    """Raises Unreadable where a picture, of `each` pixel so many bytes, takes more than
    a file of `stored` bytes may. growth: of `check_decoded`."""
    size, advice = each * width * height, f"make {width} x {height} smaller"
    check_decoded(size, stored, advice=advice, growth=growth)


def bands(picture: Any, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """Pixels in a mode of Pillow's, a letter a band, of which no second copy is ever
    made."""
    width, height = picture.size
    out = np.empty((height, width, len(mode)), np.uint8)
    step = max(1, BAND // max(1, width))
    for top in range(0, height, step):
        band = picture.crop((0, top, width, min(top + step, height)))
        band = band if picture.mode == mode else band.convert(mode)
        out[top : top + step] = np.asarray(band).reshape(-1, width, out.shape[-1])
    return out


def _bits(picture: Any) -> int:
    """Of a sample, as the file has them."""
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    form = str(picture.tile[0][3]) if picture.tile else ""
    return 16 if ";16" in form or picture.mode.startswith("I") else 8


def _dropped(picture: Any, bits: int) -> Iterator[str]:
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
    picture: Any, deep: bool, bits: int, white: int | None
) -> tuple[UInt8[np.ndarray, "h w c"], int]:
    """(pixels, the largest value where nothing says what is white, else 0).

    deep: integers of 32 bits are meant, not of 16, and those of 8 fit in as well.
    """
    wide, clear = np.asarray(picture)[..., None], picture.info.get("transparency")
    # As in a TIFF of film, which Pillow turns round itself up to 8 bits.
    inverse = getattr(picture, "tag_v2", {}).get(PHOTOMETRIC) == 0
    top, said = int(wide.max()), white is not None
    if wide.min() < 0 or top > 65535:
        raise Unreadable("integer pixels outside 16 bits")
    if white is None:
        small = picture.mode == "I" and deep and top <= 255
        said = small or 8 < bits < 16
        white = 255 if small else 2**bits - 1 if said else 65535
    if top > white:
        raise Unreadable(f"has values to {top}, more than data.white={white}")

    def scaled(part):
        grey = (part.astype(np.int64) * 255 + white // 2) // white
        return 255 - grey if inverse else grey

    grey = in_bands(scaled, wide, 1)
    if isinstance(clear, int):
        alpha = np.where(wide == clear, np.uint8(0), np.uint8(255))
        grey = np.concatenate([grey, alpha], -1)
    return grey, 0 if said or inverse else top


def _pixels(picture: Any) -> UInt8[np.ndarray, "h w c"]:
    mode, clear = picture.mode, picture.info.get("transparency")
    if mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Of 16 bits, of which Pillow has kept the upper 8.
        picture.info["transparency"] = tuple(each >> 8 for each in clear)
    if mode == "F":
        raise Unreadable("floating-point pixels have no stated range")
    if picture.has_transparency_data:
        grey = mode in ("1", "L", "LA", "La")
        return bands(picture, "LA" if grey else "RGBA")
    return bands(picture, "L" if mode in ("1", "L") else "RGB")


def dim(top: int) -> str:
    """What is said of pictures of 16 bits whose largest value nothing explains; ""
    where there is nothing to say."""
    return f"have values to {top} of 65535, next to black" if 0 < top < DIM else ""


def opaque(image: np.ndarray) -> np.ndarray:
    """Lays (grey, alpha) or RGBA on white; other pictures pass through."""
    if image.shape[-1] in (1, 3):
        return image

    def laid(part):
        colour, alpha = np.split(part.astype(np.uint32), [-1], -1)
        return (colour * alpha + 255 * (255 - alpha) + 127) // 255

    return in_bands(laid, image, image.shape[-1] - 1)


def in_bands(
    change: Callable[[np.ndarray], np.ndarray], image: np.ndarray, channels: int
) -> UInt8[np.ndarray, "h w channels"]:
    """What becomes of a picture, in parts: its integers may be of four times as many
    bytes, and so of gigabytes, while it is computed."""
    out = np.empty((*image.shape[:-1], channels), np.uint8)
    step = max(1, BAND // max(1, image[:1].size))
    for row in range(0, len(image), step):
        out[row : row + step] = change(image[row : row + step])
    return out
