"""Pictures and clips: decoding, fitting to one square size, frames of a file."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, ImageSequence

from train.errors import Unreadable
from train.modalities.files import stored

FRAMES = frozenset(".png .jpg .jpeg .webp .bmp .tif .tiff".split(" "))


def decode_picture(encoded: bytes, upright: bool = False) -> UInt8[np.ndarray, "h w c"]:
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


def fit_square(
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


def luma(values: UInt8[np.ndarray, "*b 3"]) -> UInt8[np.ndarray, "*b 1"]:
    """ITU-R 601, as Pillow's; a grey picture in RGB comes back as it was."""
    weights = np.array([19595, 38470, 7471], np.uint32)  # of 2**16
    grey = (values.astype(np.uint32) @ weights + 2**15) >> 16
    return grey.astype(np.uint8)[..., None]


def read_frames(path: Path) -> tuple[list[UInt8[np.ndarray, "h w c"]], float]:
    """(frames as they are shown, frames a second, 0 where nothing says it).

    Raises Unreadable, of a folder naming the picture.
    """
    if path.is_dir():
        return [_picture(still) for still in stills(path)], 0.0
    frames, rate = (_gif if path.suffix.lower() == ".gif" else _stream)(path)
    if not frames:
        raise Unreadable("it holds no frame")
    return frames, rate


def stills(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FRAMES and not path.name.startswith(".")
    )


def _picture(path: Path) -> UInt8[np.ndarray, "h w c"]:
    try:
        return decode_picture(stored(path), upright=True)
    except Unreadable as error:
        raise Unreadable(f"{path.name}: {error}") from error


def _gif(path):
    try:
        with Image.open(path, formats=("GIF",)) as picture:
            # Each frame of a GIF changes a part of the one before; Pillow puts it in.
            frames, durations = [], []
            for frame in ImageSequence.Iterator(picture):
                frames.append(np.asarray(frame.convert("RGB")))
                durations.append(frame.info.get("duration", 0))
    except Exception as error:  # a broken file may raise anything from inside Pillow
        words = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"no GIF file ({words})") from error
    mean = float(np.mean(durations)) / 1000
    return frames, 1 / mean if mean else 0.0


def _stream(path):
    import imageio.v3 as imageio  # slow to import, and of use only here

    try:
        with imageio.imopen(path, "r", plugin="pyav") as file:
            rate = float(file.metadata().get("fps", 0.0))
            return list(file.iter(format="rgb24")), rate
    except Exception as error:  # each container breaks in its own way
        words = " ".join(str(error).split())[-120:] or type(error).__name__
        raise Unreadable(f"not a whole video ({words})") from error


def alike(frames: Sequence[np.ndarray]) -> UInt8[np.ndarray, "f h w c"]:
    """Pictures of a folder as one clip: opaque, and grey only where all are."""
    frames = [opaque(frame) for frame in frames]
    sizes = {frame.shape[:2]: None for frame in frames}
    if len(sizes) > 1:
        (a, b), (c, d), *_ = sizes
        raise Unreadable(f"it has frames of {a}x{b} and of {c}x{d}; write one size")
    channels = max(frame.shape[-1] for frame in frames)
    grown = [np.repeat(f, channels // f.shape[-1], axis=-1) for f in frames]
    return np.stack(grown)
