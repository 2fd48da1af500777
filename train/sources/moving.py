"""Clips of digits that bounce off the walls, made as they are asked for."""

import functools

import numpy as np
from jaxtyping import Float, UInt8

from train.modalities.draws import Word
from train.modalities.image import Images
from train.modalities.modality import Modality, Record
from train.sources.arrays import digits
from train.sources.catalogue import open_prepared
from train.sources.generated import Generated, rng


def moving(data: Modality, train: bool) -> Generated:
    """Digits that bounce off the walls: data.examples of training digits, and a tenth
    as many of test digits. A record makes its frames at any time; its label is the
    digit's where there is one.
    """
    name = "mnist" if data.name == "moving_mnist" else "digits"
    pictures, labels = digit_pictures(name, data.data_dir, train)
    alone = data.digits == 1

    def make(data, part, row) -> Record:
        words = (Word.VIDEO, data.seed, part, row)
        at = lambda times: moving_digits(
            pictures, data.size, times, data.digits, rng(*words)
        )
        first = chosen(rng(*words), pictures, data.digits)[0]
        label = int(labels[first]) if alone else -1
        return Record(np.empty(0, np.uint8), label=label, more={"at": at})

    names = tuple("0123456789") if alone else ()
    count = data.examples if train else data.examples // 10
    return Generated(data, train, make, count, names)


@functools.lru_cache(maxsize=4)
def digit_pictures(
    name: str, data_dir: str, train: bool
) -> tuple[UInt8[np.ndarray, "n h w"], np.ndarray]:
    """(pictures, labels) of "digits" (scikit-learn) or "mnist" (TFDS, data_dir)."""
    size, open_part = {"digits": (8, digits), "mnist": (28, open_prepared)}[name]
    source = open_part(Images(name=name, data_dir=data_dir, size=size), train)
    found = source.take(range(len(source)))
    pictures = np.stack([record.values[..., 0] for record in found])
    return pictures, np.array([record.label for record in found])


def bounce(
    start: Float[np.ndarray, "*b"], speed: Float[np.ndarray, "*b"], room: float
) -> Float[np.ndarray, "*b"]:
    """Where a point that left 0 <= start <= room is, reflected at both walls.

    A triangle wave of the way gone, so a frame needs none of those before it.
    """
    if room <= 0:
        return np.zeros(np.broadcast_shapes(np.shape(start), np.shape(speed)))
    way = np.mod(start + speed, 2 * room)
    return np.where(way > room, 2 * room - way, way)


def moving_digits(
    pictures: UInt8[np.ndarray, "n h w"],
    size: int,
    times: Float[np.ndarray, "f"],
    digits: int,
    draw: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "f s s"], Float[np.ndarray, "f k 4"]]:
    """(frames, boxes): digits that bounce off the walls.

    As Moving MNIST (Srivastava et al. 2015, arXiv:1502.04681): each digit has its own
    place, direction and speed, 3 to 8 % of the side a frame, and overlapping ink is as
    bright as the brighter. times: in frames, need not be whole. A digit is enlarged to
    about 7/16 of the side. Boxes: x0, y0, x1, y1 of its ink in shares of the side.
    """
    frames = np.zeros((len(times), size, size), np.uint8)
    boxes = np.empty((len(times), digits, 4), np.float32)
    for k, index in enumerate(chosen(draw, pictures, digits)):
        picture = pictures[index]
        factor = max(1, size * 7 // 16 // picture.shape[0])
        picture = picture.repeat(factor, 0).repeat(factor, 1)[:size, :size]
        rows, columns = (np.flatnonzero(picture.any(1 - axis)) for axis in (0, 1))
        # Bounced by its ink, which a blank picture does not have.
        if rows.size:
            picture = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = picture.shape
        angle, speed = draw.uniform(0, 2 * np.pi), draw.uniform(0.03, 0.08) * size
        room = np.array([size - height, size - width], float)
        start = draw.uniform(0, 1, 2) * room
        velocity = speed * np.array([np.sin(angle), np.cos(angle)])
        at = [bounce(start[i], velocity[i] * times, room[i]) for i in (0, 1)]
        tops, lefts = (np.round(x).astype(int) for x in at)
        for frame, top, left in zip(frames, tops, lefts, strict=True):
            part = frame[top : top + height, left : left + width]
            np.maximum(part, picture, out=part)
        corners = [lefts, tops, lefts + width, tops + height]
        boxes[:, k] = np.stack(corners, -1) / size
    return frames, boxes


def chosen(draw: np.random.Generator, pictures: np.ndarray, digits: int) -> np.ndarray:
    """Which pictures move; the first draw of a clip."""
    return draw.integers(0, len(pictures), digits)
