"""Pictures as they are shown: decoded to 8 bits, opaque."""

import io

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


def decode_picture(encoded: bytes) -> UInt8[np.ndarray, "h w c"]:
    """Pixels of an encoded picture; c is 1 (grey), 2 (grey, alpha), 3 or 4.

    As it is shown: turned as its EXIF orientation says. Palettes are looked up, 16-bit
    grey is scaled to 8 bits, other colour spaces become RGB, of an animation the first
    frame is taken. Anything short of a whole picture raises Unreadable.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            form = picture.tile[0][3] if picture.tile else ""
            picture.load()
            clear = picture.info.get("transparency")
            if form in FEW_BITS and isinstance(clear, int):
                picture.info["transparency"] = clear * FEW_BITS[form]
            deep = picture.format not in ("PPM", "PNG")
            return _pixels(ImageOps.exif_transpose(picture), deep)
    except Unreadable:
        raise
    except Exception as error:  # a broken file may raise anything from inside Pillow
        raise Unreadable(one_line(error)) from error


def _pixels(picture: Image.Image, deep: bool) -> np.ndarray:
    """deep: integers of 32 bits are meant, not of 16, and those of 8 fit in as well."""
    mode, clear = picture.mode, picture.info.get("transparency")
    if mode == "I" or mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise Unreadable("integer pixels outside 16 bits")
        small = mode == "I" and deep and wide.max() <= 255
        grey = (wide if small else (wide + 128) // 257).astype(np.uint8)[..., None]
        if not isinstance(clear, int):
            return grey
        alpha = np.where(wide == clear, 0, 255).astype(np.uint8)[..., None]
        return np.concatenate([grey, alpha], -1)
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


def opaque(image: np.ndarray) -> np.ndarray:
    """Lays (grey, alpha) or RGBA on white; other pictures pass through."""
    if image.shape[-1] in (1, 3):
        return image
    colour, alpha = image[..., :-1].astype(np.uint32), image[..., -1:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
