"""Clips as frames: of GIF, of what FFmpeg's libraries read, of folders of pictures."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from train.data.files import FRAMES
from train.data.images import Unreadable, decode


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
        return decode(path.read_bytes(), upright=True)
    except OSError as error:
        why = error.strerror or "cannot be opened"
        raise Unreadable(f"{path.name}: {why}") from error
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
