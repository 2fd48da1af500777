"""What a learned tokenizer has to beat: k-means on blocks at the same bits."""

import numpy as np

from train.errors import BadInput

SAMPLE = 100_000  # patches that k-means is fitted on


def patch_kmeans(
    train: np.ndarray,
    test: np.ndarray,
    patch: int = 2,
    codes: int = 128,
    seed: int = 0,
    sample: int = SAMPLE,
) -> np.ndarray:
    """Test images with every patch replaced by the nearest of `codes` centroids.

    train, test: uint8 (n, h, w, c); patches are patch x patch pixels, all channels
    together, so an image costs (h / patch) (w / patch) log2(codes) bits. Centroids are
    the best of three k-means runs on at most `sample` training patches. Returns uint8
    like `test`.
    """
    for name, images in (("train", train), ("test", test)):
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
            raise BadInput(
                f"the k-means baseline takes uint8 images (n, h, w, c); {name} is "
                f"{images.dtype}{list(images.shape)}"
            )
    _, h, w, _ = test.shape
    if h % patch or w % patch:
        raise BadInput(f"patches of {patch} do not divide images of {h}x{w}")
    found = block_kmeans(train, test, (patch, patch), codes, seed, sample)
    return np.clip(np.round(found), 0, 255).astype(np.uint8)


def block_kmeans(
    train: np.ndarray,
    test: np.ndarray,
    block: tuple[int, ...],
    codes: int,
    seed: int = 0,
    sample: int = SAMPLE,
) -> np.ndarray:
    """Test signals with every block replaced by the nearest of `codes` centroids.

    train, test: (n, *grid, c), one side of `block` for each side of the grid, which it
    divides; an example costs prod(grid / block) log2(codes) bits. Centroids are the
    best of three k-means runs on at most `sample` training blocks. float32.
    """
    grid = test.shape[1:-1]
    if len(block) != len(grid) or any(
        side % size for side, size in zip(grid, block, strict=True)
    ):
        raise BadInput(f"blocks of {block} do not divide signals of {grid}")
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

    means = KMeans(codes, n_init=3, random_state=seed).fit(vectors)
    found = means.cluster_centers_[means.predict(blocks_of(test, block))]
    return joined(found.astype(np.float32), test.shape, block)


def blocks_of(x: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """(n, *grid, c) -> (n * blocks, prod(block) * c) float32, row by row."""
    split, axes = _split(x.shape, block)
    rows = x.reshape(split).transpose(axes)
    return rows.reshape(-1, int(np.prod(block)) * x.shape[-1]).astype(np.float32)


def joined(
    rows: np.ndarray, shape: tuple[int, ...], block: tuple[int, ...]
) -> np.ndarray:
    """The inverse of `blocks_of`, for signals of this shape."""
    split, axes = _split(shape, block)
    x = rows.reshape([split[axis] for axis in axes])
    return x.transpose(np.argsort(axes)).reshape(shape)


def _split(shape, block):
    """Every side as (blocks, size), and the order that puts the sizes last."""
    k = len(block)
    pairs = [(n // b, b) for n, b in zip(shape[1:-1], block, strict=True)]
    split = [shape[0], *(size for pair in pairs for size in pair), shape[-1]]
    axes = [0, *range(1, 2 * k, 2), *range(2, 2 * k + 1, 2), 2 * k + 1]
    return split, axes
