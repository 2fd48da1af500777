"""Signals as pictures to look at: curves, grids of pictures, PNG."""

import io
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from train.errors import BadInput
from vqdit.shapes import Float, UInt8
from vqdit.signal import to_uint8

# Distinct to colour-blind eyes, and on a dark page too.
COLOURS = ("#2f6fb3", "#d2691e", "#2a8c6a", "#a8508f", "#8a7a2f", "#5d6675")

HEIGHT, WIDTH = 64, 160  # pixels of curves and spectrograms
WINDOW, DECIBELS = 0.032, 80  # seconds under a spectrogram's window, and its range


class Axis(NamedTuple):
    """From the first place of a picture's side to its last; name: a unit, or what it is
    of."""

    low: float
    high: float
    name: str = ""


class Panel(NamedTuple):
    """A picture (h, w, c) and what its sides are of, `up` from the bottom; note: what
    its values are."""

    picture: np.ndarray
    across: Axis | None = None
    up: Axis | None = None
    note: str = ""


class Units(NamedTuple):
    """Of a signal: samples or frames a second, its values, raw = offset + scale x, and
    what its channels are called; each may be unknown."""

    rate: float = 0.0
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, contract: Any) -> "Units":
        # Bundles of before have those alone that an experiment wrote.
        names = contract.names or dict(contract.preparation).get("columns", ())
        return cls(contract.rate, contract.offset, contract.scale, tuple(names))

    def called(self, channel: int) -> str:
        known = channel < len(self.names)
        return self.names[channel] if known else f"channel {channel}"

    def ends(self, channel: int = 0) -> tuple[float, float]:
        """What -1 and 1 stand for."""
        if not self.scale:
            return -1.0, 1.0
        i = channel if len(self.scale) > 1 else 0
        return self.offset[i] - self.scale[i], self.offset[i] + self.scale[i]

    def greys(self, unit: str = "") -> str:
        """What black and white stand for."""
        low, high = (f"{end:,.5g} {unit}".strip() for end in self.ends())
        return f"black {low}, white {high}"

    def along(self, length: int) -> Axis:
        at = self.rate
        return Axis(0, length / at, "s") if at else Axis(0, length, "samples")


def spectrogram(
    x: Float[np.ndarray, "l"], rate: float
) -> UInt8[np.ndarray, "height width 1"]:
    """Magnitudes from 0 to rate / 2, upwards, of WIDTH windows along the sound: of a
    sine of full scale white, DECIBELS below it black."""
    size = 2 ** max(5, round(np.log2(WINDOW * rate)))
    x = np.pad(np.nan_to_num(x.astype(np.float64)), size // 2)
    starts = np.linspace(0, len(x) - size, WIDTH).astype(int)
    shape = np.hanning(size)
    frames = x[starts[:, None] + np.arange(size)] * shape
    level = np.abs(np.fft.rfft(frames)) / (shape.sum() / 2)
    # A row has the loudest of the bins that it stands for.
    edges = np.linspace(0, level.shape[1], HEIGHT + 1).astype(int)
    rows = [level[:, a : max(b, a + 1)].max(1) for a, b in pairwise(edges)]
    decibels = 20 * np.log10(np.maximum(np.stack(rows[::-1]), 1e-9))
    return np.clip(255 * (1 + decibels / DECIBELS), 0, 255).astype(np.uint8)[..., None]


def grid(
    images: np.ndarray, columns: int | None = None, gap: int = 1, fill: int = 112
) -> UInt8[np.ndarray, "h w c"]:
    """Images side by side, row by row: uint8 (rows * h + ..., columns * w + ..., c).

    images: (n, h, w) or (n, h, w, c), c of 1 or 3, uint8 or floats in [-1, 1].
    columns: the square root of n by default. `gap` pixels of grey level `fill` lie
    between images, and fill the places left over.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        raise BadInput(
            f"a grid is of images (n, h, w, 1 or 3), not {list(images.shape)}"
        )
    images = eight_bits(images)
    n, h, w, c = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    cells = np.full((rows * columns, h + gap, w + gap, c), fill, np.uint8)
    cells[:n, :h, :w] = images
    cells = cells.reshape(rows, columns, h + gap, w + gap, c).swapaxes(1, 2)
    sheet = cells.reshape(rows * (h + gap), columns * (w + gap), c)
    return sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]


def curves(x: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """(l, c) as curves over a white ground, uint8 (HEIGHT, WIDTH, 3).

    Each pixel column spans the least to the greatest of its samples, so that a peak is
    seen whatever the length.
    """
    x = np.clip(np.nan_to_num(x.astype(np.float32)), -1, 1)
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    edges = np.linspace(0, len(x), WIDTH + 1).astype(int)
    for channel in range(x.shape[-1] - 1, -1, -1):
        colour = COLOURS[channel % len(COLOURS)]
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        for column in range(WIDTH):
            low = min(edges[column], len(x) - 1)
            part = x[low : max(edges[column + 1], low + 1) + 1, channel]
            top, bottom = (
                int(round((1 - v) / 2 * (HEIGHT - 1))) for v in (part.max(), part.min())
            )
            picture[top : bottom + 1, column] = rgb
    return picture


def eight_bits(picture: np.ndarray) -> UInt8[np.ndarray, "*axes"]:
    """Floats in [-1, 1] as pixels; uint8 passes through."""
    if picture.dtype == np.uint8:
        return picture
    if not np.issubdtype(picture.dtype, np.floating):
        raise BadInput(
            f"a picture is uint8 or floats in [-1, 1], not {picture.dtype}; say which "
            f"by casting it"
        )
    if not np.isfinite(picture).all():
        raise BadInput("a picture has values that are not finite")
    return np.asarray(to_uint8(jnp.asarray(picture)))


def png(picture: np.ndarray, scale: int = 1) -> bytes:
    """PNG of one picture (h, w), (h, w, 1 or 3), every pixel repeated scale x scale."""
    from PIL import Image  # who draws no picture has no need of it

    picture = eight_bits(np.asarray(picture))
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.shape[2:] not in ((), (3,)):
        raise BadInput(f"a picture is (h, w, 1 or 3), not {list(picture.shape)}")
    picture = picture.repeat(scale, 0).repeat(scale, 1)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png")
    return file.getvalue()


def class_words(labels: Iterable[Any], names: Sequence[str]) -> list[str]:
    """Of each class its name, or its number where it has none."""
    return [names[y] if 0 <= y < len(names) else str(y) for y in map(int, labels)]


def picture_sides(content: bytes) -> tuple[int, int]:
    """(width, height) of a PNG, or a GIF."""
    gif = content[:4] == b"GIF8"
    return struct.unpack_from("<HH" if gif else ">II", content, 6 if gif else 16)
