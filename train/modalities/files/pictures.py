"""Pictures as they are shown: decoded to 8 bits, opaque."""

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from train.errors import BadInput, Unreadable, one_line
from train.modalities.files.limits import check_decoded

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
# Pillow warns of large pictures, and refuses twice as large ones, whatever their files
# are: `check_size` is asked in its place.
Image.MAX_IMAGE_PIXELS = None


def decode_picture(encoded: bytes) -> UInt8[np.ndarray, "h w c"]:
    """Pixels of an encoded picture; c is 1 (grey), 2 (grey, alpha), 3 or 4.

    As it is shown: turned as its EXIF orientation says. Palettes are looked up, 16-bit
    grey is scaled to 8 bits, other colour spaces become RGB, of an animation the first
    frame is taken. Anything short of a whole picture raises Unreadable.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            check_size(*picture.size, len(encoded))
            # A tile of a TIFF may be larger than its picture.
            tile = getattr(picture, "tag_v2", {})
            check_size(tile.get(322, 1), tile.get(323, 1), len(encoded))
            form = picture.tile[0][3] if picture.tile else ""
            picture.load()
            clear = picture.info.get("transparency")
            if form in FEW_BITS and isinstance(clear, int):
                picture.info["transparency"] = clear * FEW_BITS[form]
            deep = picture.format not in ("PPM", "PNG")
            turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
            pixels = _pixels(picture, deep)
        return pixels if turn is None else turn(pixels)
    except (BadInput, Unreadable):
        raise
    except Exception as error:  # a broken file may raise anything from inside Pillow
        raise Unreadable(one_line(error)) from error


def check_size(width: int, height: int, stored: int, pictures: int = 1) -> None:
    """Raises Unreadable where a picture, or so many of its size that are held at once,
    takes more than a file of `stored` bytes may."""
    size = BYTES * width * height * pictures
    check_decoded(size, stored, advice=f"make {width} x {height} smaller")


def bands(picture: Image.Image, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """Pixels in a mode of Pillow's, of which no second copy is ever made."""
    width, height = picture.size
    out = np.empty((height, width, Image.getmodebands(mode)), np.uint8)
    step = max(1, BAND // max(1, width))
    for top in range(0, height, step):
        band = picture.crop((0, top, width, min(top + step, height)))
        band = band if picture.mode == mode else band.convert(mode)
        out[top : top + step] = np.asarray(band).reshape(-1, width, out.shape[-1])
    return out


def _pixels(picture: Image.Image, deep: bool) -> np.ndarray:
    """deep: integers of 32 bits are meant, not of 16, and those of 8 fit in as well."""
    mode, clear = picture.mode, picture.info.get("transparency")
    if mode == "I" or mode.startswith("I;16"):
        wide = np.asarray(picture)[..., None]
        if wide.min() < 0 or wide.max() > 65535:
            raise Unreadable("integer pixels outside 16 bits")
        small = mode == "I" and deep and wide.max() <= 255
        scaled = lambda part: part if small else (part.astype(np.int32) + 128) // 257
        grey = by_rows(scaled, wide, 1)
        if not isinstance(clear, int):
            return grey
        alpha = np.where(wide == clear, np.uint8(0), np.uint8(255))
        return np.concatenate([grey, alpha], -1)
    if mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
        # Of 16 bits, of which Pillow has kept the upper 8.
        picture.info["transparency"] = tuple(each >> 8 for each in clear)
    if mode == "F":
        raise Unreadable("floating-point pixels have no stated range")
    if picture.has_transparency_data:
        grey = mode in ("1", "L", "LA", "La")
        return bands(picture, "LA" if grey else "RGBA")
    return bands(picture, "L" if mode in ("1", "L") else "RGB")


def opaque(image: np.ndarray) -> np.ndarray:
    """Lays (grey, alpha) or RGBA on white; other pictures pass through."""
    if image.shape[-1] in (1, 3):
        return image

    def laid(part):
        colour, alpha = np.split(part.astype(np.uint32), [-1], -1)
        return (colour * alpha + 255 * (255 - alpha) + 127) // 255

    return by_rows(laid, image, image.shape[-1] - 1)


def by_rows(
    change: Callable[[np.ndarray], np.ndarray], image: np.ndarray, channels: int
) -> UInt8[np.ndarray, "h w channels"]:
    """What becomes of a picture, in parts: its integers may be of four times as many
    bytes, and so of gigabytes, while it is computed."""
    out = np.empty((*image.shape[:-1], channels), np.uint8)
    step = max(1, BAND // max(1, image[:1].size))
    for row in range(0, len(image), step):
        out[row : row + step] = change(image[row : row + step])
    return out
