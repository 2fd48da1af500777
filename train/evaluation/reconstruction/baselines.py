"""What a learned tokenizer has to beat: k-means on blocks at the same bits."""

import dataclasses
import math
from typing import Any

import numpy as np

from train.errors import BadInput
from train.modalities import Modality
from train.pipeline import whole
from vqdit.signal.grids import divide, fold, unfold
from vqdit.trained.codec import Codec

SAMPLE = 100_000  # blocks that k-means is fitted on


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
        cls, train: np.ndarray, block: tuple[int, ...], codes: int
    ) -> "BlockKMeans":
        """The best of three k-means runs on at most SAMPLE training blocks.

        train: (n, *grid, c), one side of `block` for each side of the grid, which it
        divides. Raises BadInput for fewer different blocks than codes.
        """
        vectors = _rows(fold(train, block))
        if len(vectors) > SAMPLE:
            vectors = np.random.default_rng(0).permutation(vectors)[:SAMPLE]
        if len(np.unique(vectors, axis=0)) < codes:
            raise BadInput(
                f"the training part has fewer than {codes} different blocks of "
                f"{block}; write fewer codes"
            )
        from sklearn.cluster import KMeans  # a slow import, of use only here

        return cls(KMeans(codes, n_init=3, random_state=0).fit(vectors), block)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, *grid, c) like the signals it was fitted to."""
        cells = fold(x, self.block)
        nearest = self.means.predict(_rows(cells))
        rows = self.means.cluster_centers_[nearest].astype(np.float32)
        found = unfold(rows.reshape(cells.shape), self.block)
        if x.dtype == np.uint8:
            return np.clip(np.round(found), 0, 255).astype(np.uint8)
        return found


def _rows(cells: np.ndarray) -> np.ndarray:
    return cells.reshape(-1, cells.shape[-1]).astype(np.float32)


def fitted(codec: Codec, data: Modality) -> BlockKMeans | None:
    """The baseline of as many codes and tokens as a tokenizer has; None where its codes
    do not tile the signal, or are of several books."""
    contract = codec.contract
    if len(contract.codes) != 1:
        return None
    try:
        block = divide(contract.shape[:-1], contract.code_grid)
    except ValueError:  # a side without its share of the codes, or more codes than axes
        return None
    # No more signals than the sample of blocks that k-means reads.
    enough = -(-SAMPLE // math.prod(contract.code_grid))
    train = whole(data, train=True, count=enough)["x"]
    return BlockKMeans.fit(train, block, contract.codes[0])
