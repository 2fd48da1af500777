"""Arrays to pictures: grids of images, plots, PNG bytes, files."""

import io
import os
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from train.errors import BadInput
from train.runtime.files import write_bytes
from vqdit.signal import to_uint8

INK, FAINT = "#2b2f36", "#c9ced6"
# Distinct to colour-blind eyes, and on a dark page too.
COLOURS = ("#2f6fb3", "#d2691e", "#2a8c6a", "#a8508f", "#8a7a2f", "#5d6675")


def grid(
    images: np.ndarray, columns: int | None = None, gap: int = 1, fill: int = 112
) -> np.ndarray:
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
    images = _bytes(images)
    n, h, w, c = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    cells = np.full((rows * columns, h + gap, w + gap, c), fill, np.uint8)
    cells[:n, :h, :w] = images
    cells = cells.reshape(rows, columns, h + gap, w + gap, c).swapaxes(1, 2)
    sheet = cells.reshape(rows * (h + gap), columns * (w + gap), c)
    return sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]


def sheet(kind: str, x: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Signals of any kind as one picture to look at, uint8 (h, w, 1 or 3).

    x: (n, *shape), pixels or floats in about [-1, 1]. Images and range images as they
    are; of a video every frame in a row, of a volume the middle slice; audio and series
    as curves, a colour a channel. Values outside [-1, 1] are clipped in pictures.
    """
    x = np.asarray(x)
    if kind == "video":
        x = np.stack([grid(np.asarray(clip), len(clip)) for clip in x])
    elif kind == "volume":
        x = x[:, x.shape[1] // 2]
    elif kind in ("audio", "series"):
        x = np.stack([_curves(each) for each in x])
    if x.shape[-1] not in (1, 3):
        x = x[..., :1]  # the first channel stands for them
    if x.dtype != np.uint8:
        x = np.clip(x, -1, 1)
    return grid(x, columns)


def _curves(x: np.ndarray, height: int = 64, width: int = 160) -> np.ndarray:
    """(l, c) as curves over a white ground: uint8 (height, width, 3).

    Each pixel column spans the least to the greatest of its samples, so that a peak is
    seen whatever the length.
    """
    x = np.clip(np.nan_to_num(x.astype(np.float32)), -1, 1)
    picture = np.full((height, width, 3), 255, np.uint8)
    edges = np.linspace(0, len(x), width + 1).astype(int)
    for channel in range(x.shape[-1] - 1, -1, -1):
        colour = COLOURS[channel % len(COLOURS)]
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        for column in range(width):
            low = min(edges[column], len(x) - 1)
            part = x[low : max(edges[column + 1], low + 1) + 1, channel]
            top, bottom = (
                int(round((1 - v) / 2 * (height - 1))) for v in (part.max(), part.min())
            )
            picture[top : bottom + 1, column] = rgb
    return picture


def png(picture: np.ndarray, scale: int = 1) -> bytes:
    """PNG of one picture (h, w), (h, w, 1 or 3), every pixel repeated scale x scale."""
    picture = _bytes(np.asarray(picture))
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.shape[2:] not in ((), (3,)):
        raise BadInput(f"a picture is (h, w, 1 or 3), not {list(picture.shape)}")
    picture = picture.repeat(scale, 0).repeat(scale, 1)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png")
    return file.getvalue()


def save_png(path: str | os.PathLike, picture: np.ndarray, scale: int = 1) -> None:
    """Writes `png(picture, scale)`, whole or not at all; makes the folder."""
    write_bytes(path, png(picture, scale))


def line_plot(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str = "",
    y_label: str = "",
    *,
    points: Mapping[str, Sequence[str]] | None = None,
    bars: Mapping[str, float] | None = None,
    log_y: bool = False,
    size: tuple[float, float] = (4.6, 2.9),
) -> bytes:
    """Lines by name as PNG with a clear background, for a light page.

    lines: name -> (xs, ys); values that are not finite leave a gap.
    points: name -> a mark and its text at each x of that line, such as the guidance
    scale along a curve of accuracy and distance. bars: name -> y of a dashed line
    across, such as an acceptance limit.
    """
    figure, axes = _figure(size)
    for colour, (name, (x, y)) in zip(_colours(len(lines)), lines.items(), strict=True):
        marks = (points or {}).get(name)
        mark = "o" if marks else None
        axes.plot(x, y, color=colour, lw=1.6, label=name, marker=mark, ms=3.5)
        for at_x, at_y, text in zip(x, y, marks, strict=True) if marks else ():
            axes.annotate(
                text,
                (at_x, at_y),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7.5,
                color=colour,
            )
    for name, y in (bars or {}).items():
        axes.axhline(y, color=INK, lw=0.9, ls=(0, (4, 3)), label=name)
    if log_y:
        axes.set_yscale("log")
    if len(lines) + len(bars or {}) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return _drawn(figure, axes, x_label, y_label)


def bar_plot(
    heights: Sequence[float],
    x_label: str = "",
    y_label: str = "",
    *,
    names: Sequence[str] | None = None,
    size: tuple[float, float] = (4.6, 2.9),
) -> bytes:
    """One bar per height, such as the counts of the codewords, as PNG."""
    figure, axes = _figure(size)
    # Touching bars where there are too many to tell apart.
    width = 0.8 if len(heights) <= 32 else 1.0
    axes.bar(range(len(heights)), heights, width=width, color=COLOURS[0])
    if names is not None:
        axes.set_xticks(range(len(heights)), names)
    axes.margins(x=0.01)
    return _drawn(figure, axes, x_label, y_label)


def _bytes(picture: np.ndarray) -> np.ndarray:
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


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _figure(size):
    # Not pyplot: a figure of its own has no global state and needs no display. And
    # here, not above: matplotlib is slow to import and most programs draw no plot.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=200, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
    axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _drawn(figure, axes, x_label, y_label) -> bytes:
    axes.set_xlabel(x_label, fontsize=8.5, color=INK)
    axes.set_ylabel(y_label, fontsize=8.5, color=INK)
    file = io.BytesIO()
    # No software version in the file: the same figures give the same bytes.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
