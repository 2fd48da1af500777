"""A signal of any size as tiles of one size, and back: edges padded, overlaps blended.

Nothing here copies a padded signal: a tile that sticks out repeats the last value, by
clipped indices, and what sticks out is dropped when the tiles are joined.
"""

import functools
import itertools
import math
import numbers
from collections.abc import Iterable

import numpy as np

from vqdit.shapes import Float, Shaped


class Tiling:
    """Where the tiles of a signal lie.

    size:    (*axes,) of the signal, without channels.
    tile:    (*axes,) of a tile.
    overlap: samples that neighbours share along every axis on which there are two or
        more; less than every side of the tile.
    around:  the axis that goes round, if one does: what sticks out there is the start.

    Raises ValueError, saying what to write, where these do not fit.
    """

    def __init__(
        self,
        size: tuple[int, ...],
        tile: tuple[int, ...],
        overlap: int = 0,
        around: int | None = None,
    ):
        sides = all(isinstance(n, numbers.Integral) and n > 0 for n in size)
        if len(size) != len(tile) or not sides:
            raise ValueError(f"a signal of {size} does not divide into tiles of {tile}")
        whole = isinstance(overlap, numbers.Integral)
        if not whole or not 0 <= overlap < min(tile):
            raise ValueError(
                f"overlap={overlap} does not fit tiles of {tile}; write 0 to "
                f"{min(tile) - 1}"
            )
        axes = range(len(size))
        if around is not None and (isinstance(around, bool) or around not in axes):
            raise ValueError(
                f"around={around!r} is no axis of {size}; write one of {[*axes]}"
            )
        self.size, self.tile, self.overlap = tuple(size), tuple(tile), overlap
        self.around = around
        self.counts = tuple(
            1 + max(0, -(-(whole - part) // (part - overlap)))
            for whole, part in zip(size, tile, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(self.counts)

    def cut(
        self, signal: Shaped[np.ndarray, "*size c"], start: int, stop: int
    ) -> Shaped[np.ndarray, "n *tile c"]:
        """Tiles start to stop, in row-major order of where they lie."""
        tiles = []
        for at in itertools.islice(self._corners(), start, stop):
            places = []
            for axis, (low, whole) in enumerate(zip(at, self.size, strict=True)):
                place = np.arange(low, low + self.tile[axis])
                turn = place % whole if axis == self.around else place
                places.append(np.minimum(turn, whole - 1))
            tiles.append(signal[np.ix_(*places)])
        return np.stack(tiles)

    def join(
        self, tiles: Iterable[Float[np.ndarray, "*tile c"]], channels: int
    ) -> Float[np.ndarray, "*size c"]:
        """The inverse of `cut` over all tiles, which may come from a generator.

        Where tiles overlap they are averaged with weights that fall linearly towards
        each tile's border, so that no seam is left.
        """
        out = np.zeros((*self.size, channels), np.float32)
        whole = np.zeros((*self.size, 1), np.float32)
        ramps = [_ramp(side, self.overlap) for side in self.tile]
        weight = functools.reduce(np.multiply.outer, ramps)[..., None]
        for at, tile in zip(self._corners(), tiles, strict=True):
            inside = tuple(
                slice(low, min(low + side, size))
                for low, side, size in zip(at, self.tile, self.size, strict=True)
            )
            kept = tuple(slice(0, place.stop - place.start) for place in inside)
            if self.overlap:
                out[inside] += weight[kept] * tile[kept]
                whole[inside] += weight[kept]
            else:
                out[inside] = tile[kept]
        return out / whole if self.overlap else out

    def _corners(self):
        steps = [side - self.overlap for side in self.tile]
        return itertools.product(
            *(
                range(0, count * step, step)
                for count, step in zip(self.counts, steps, strict=True)
            )
        )


def _ramp(side: int, overlap: int) -> np.ndarray:
    """(side,) weights: 1 inside, falling to 1 / (overlap + 1) at both ends."""
    place = np.arange(side)
    edge = np.minimum(place + 1, side - place) / (overlap + 1)
    return np.minimum(1.0, edge).astype(np.float32)
