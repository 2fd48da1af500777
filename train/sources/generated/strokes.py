"""Gestures: the way of a hand that writes the digits of MNIST, found from their ink."""

import numpy as np
from scipy import ndimage

from train.modalities.draws import Word
from train.modalities.record import Record
from train.modalities.series import Series
from train.sources.generated.moving import digit_pictures
from train.sources.generated.signals import Generated, poorly, rng
from vqdit.shapes import Bool, Float, UInt8

INK = 96  # of 255, from which a pixel belongs to a stroke
LARGE = 3  # times which pictures of 8 pixels are enlarged, so that lines can be told
# The eight neighbours in turn, clockwise from above.
AROUND = np.array(
    [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
)
BACK = 4.0  # what a right angle costs beside a pixel further on


def strokes(data: Series, train: bool) -> Generated:
    """A gesture for each of the first data.examples digits of the training part, of
    MNIST or of scikit-learn's, and an eighth as many of the test part; as many as there
    are. Its label is the digit's."""
    small = data.name == "digit_strokes"
    name = "digits" if small else "mnist"
    pictures, labels = digit_pictures(name, data.data_dir, train)

    def make(data, part, row) -> Record:
        draw = rng(Word.STROKES, data.seed, part, row)
        picture = pictures[row]
        if small:
            picture = ndimage.zoom(picture, LARGE, order=1)
        truth = gesture(picture, data.length)
        more = {"truth": truth.astype(np.float32)}
        return Record(poorly(truth, draw, data), label=int(labels[row]), more=more)

    count = min(data.examples if train else data.examples // 8, len(pictures))
    source = Generated(data, train, make, count, tuple("0123456789"))
    source.labels = labels[:count]
    return source


def gesture(picture: UInt8[np.ndarray, "h w"], length: int) -> Float[np.ndarray, "l 3"]:
    """(across, down, pen) at `length` even steps of the way along the ink.

    Across and down are in halves of the side from the middle; pen is 1 on the paper and
    -1 on the way from one stroke to the next. A picture without ink is a pen that rests
    in the middle, off the paper.
    """
    way, pen = walk(thinned(picture >= INK))
    if not len(way):
        return np.tile([0.0, 0.0, -1.0], (length, 1))
    gone = np.linalg.norm(np.diff(way, axis=0), axis=1)
    gone = np.concatenate([[0.0], np.cumsum(gone)])
    at = np.linspace(0, gone[-1], length)
    down, across = (np.interp(at, gone, way[:, axis]) for axis in (0, 1))
    step = np.maximum(np.searchsorted(gone, at, side="left"), 1)
    on = pen[np.minimum(step, len(pen) - 1)]
    half_down, half_across = (np.array(picture.shape) - 1) / 2
    places = [across / half_across - 1, down / half_down - 1]
    return np.stack([*places, np.where(on, 1.0, -1.0)], -1)


def thinned(ink: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Lines one pixel wide along the middle of the ink (Zhang and Suen 1984)."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.copy()
        for first in (True, False):
            p = [np.roll(ink, (-y, -x), (0, 1)) for y, x in AROUND]
            count = sum(each.astype(int) for each in p)
            turns = sum(~p[i] & p[(i + 1) % 8] for i in range(8)).astype(int)
            north, east, south, west = p[0], p[2], p[4], p[6]
            if first:
                free = ~(north & east & south) & ~(east & south & west)
            else:
                free = ~(north & east & west) & ~(north & south & west)
            ink = ink & ~((count >= 2) & (count <= 6) & (turns == 1) & free)
        if (ink == before).all():
            return ink[1:-1, 1:-1]


def walk(
    lines: Bool[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
    """(pixels in the order in which a hand may draw them, whether it drew on its way to
    each).

    A stroke begins at the highest end of a line, else at the highest pixel, goes on as
    straight as it can, and ends where nothing is left beside it; the next one begins at
    the nearest of the ends that are left. What is left beside two pixels that are
    drawn is a corner that was cut.
    """
    left = {(int(down), int(along)) for down, along in np.argwhere(lines)}
    ends = ndimage.convolve(lines.astype(int), np.ones((3, 3), int), mode="constant")
    way: list[tuple[int, int]] = []
    pen: list[bool] = []
    drawn: set[tuple[int, int]] = set()
    while left := {at for at in left if len(_beside(at, drawn)) < 2}:
        tips = [at for at in left if ends[at] == 2] or list(left)
        here: tuple[int, int] | None = min(
            tips, key=lambda at: (np.hypot(*np.subtract(way[-1], at)) if way else 0, at)
        )
        down, course = False, np.array([1.0, 0.0])
        while here is not None:
            left.discard(here)
            way.append(here)
            pen.append(down)
            beside = _beside(here, left)
            step = min(
                beside, key=lambda at: (_bend(course, here, at), at), default=None
            )
            if step is not None:
                course = 0.5 * course + np.subtract(step, here)
            here, down = step, True
        drawn.update(way)
    return np.array(way, float).reshape(-1, 2), np.array(pen, bool)


def _beside(at, pixels) -> list[tuple[int, int]]:
    around = ((at[0] + y, at[1] + x) for y, x in AROUND.tolist())
    return [each for each in around if each in pixels]


def _bend(course, here, at) -> float:
    """What a step costs: its length, and how far it turns."""
    step = np.subtract(at, here)
    length = float(np.hypot(*step))
    turn = 1 - float(course @ step) / (length * max(float(np.hypot(*course)), 1e-9))
    return length + BACK * turn
