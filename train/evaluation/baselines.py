"""What a learned tokenizer has to beat: k-means on blocks at the same bits."""

import dataclasses
import math
from typing import Any

import numpy as np

from train.errors import BadInput
from train.modalities import Modality
from train.pipeline import whole
from vqdit.signal.grids import fold, unfold
from vqdit.trained.codec import Codec

SAMPLE = 100_000  # patches that k-means is fitted on


@dataclasses.dataclass(frozen=True, eq=False)
class BlockKMeans:
    """Every block of a signal replaced by the nearest of its centroids.

    An example costs prod(grid / block) log2(codes) bits. Gives what it takes: float32,
    or uint8 rounded.
    """

    means: Any
    block: tuple[int, ...]

    @classmethod
    def fit(
        cls,
        train: np.ndarray,
        block: tuple[int, ...],
        codes: int,
        seed: int = 0,
        sample: int = SAMPLE,
    ) -> "BlockKMeans":
        """The best of three k-means runs on at most `sample` training blocks.

        train: (n, *grid, c), one side of `block` for each side of the grid, which it
        divides. Raises BadInput for fewer different blocks than codes.
        """
        vectors = blocks_of(train, block)
        if len(vectors) > sample:
            vectors = np.random.default_rng(seed).permutation(vectors)[:sample]
        if len(np.unique(vectors, axis=0)) < codes:
            what = "patches" if len(block) == 2 else "blocks"
            raise BadInput(
                f"the training {'images' if len(block) == 2 else 'signals'} have fewer "
                f"than {codes} different {what}; write fewer codes"
            )
        from sklearn.cluster import KMeans  # a slow import, of use only here

        return cls(KMeans(codes, n_init=3, random_state=seed).fit(vectors), block)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, *grid, c) like the signals it was fitted to."""
        nearest = self.means.predict(blocks_of(x, self.block))
        rows = self.means.cluster_centers_[nearest].astype(np.float32)
        found = unblock(rows, x.shape, self.block)
        if x.dtype == np.uint8:
            return np.clip(np.round(found), 0, 255).astype(np.uint8)
        return found


def fitted(codec: Codec, data: Modality, most: int | None = None) -> BlockKMeans | None:
    """The baseline of as many codes and tokens as a tokenizer has; None where its codes
    do not tile the signal, or are of several books."""
    contract = codec.contract
    grid, sides = contract.code_grid, contract.shape[:-1]
    tiled = len(grid) == len(sides) and not any(
        side % cell for side, cell in zip(sides, grid, strict=True)
    )
    if len(contract.codes) != 1 or not tiled:
        return None
    block = tuple(side // cell for side, cell in zip(sides, grid, strict=True))
    # No more signals than the sample of blocks that k-means reads.
    enough = -(-SAMPLE // math.prod(grid))
    train = whole(data, train=True, count=min(most or enough, enough))["x"]
    return BlockKMeans.fit(train, block, contract.codes[0])


def blocks_of(x: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """(n, *grid, c) -> (n * blocks, prod(block) * c) float32, row by row.

    Raises BadInput for blocks that do not divide the grid.
    """
    grid = x.shape[1:-1]
    if len(block) != len(grid) or any(
        side % size for side, size in zip(grid, block, strict=True)
    ):
        raise BadInput(f"blocks of {block} do not divide signals of {grid}")
    rows = fold(x, block).reshape(-1, math.prod(block) * x.shape[-1])
    return rows.astype(np.float32)


def unblock(
    rows: np.ndarray, shape: tuple[int, ...], block: tuple[int, ...]
) -> np.ndarray:
    """The inverse of `blocks_of`, for signals of this shape."""
    grid = [side // size for side, size in zip(shape[1:-1], block, strict=True)]
    return unfold(rows.reshape(shape[0], *grid, -1), block)
