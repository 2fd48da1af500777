"""What a learned tokenizer has to beat: k-means on patches at the same bits."""

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
    n, h, w, c = test.shape
    if h % patch or w % patch:
        raise BadInput(f"patches of {patch} do not divide images of {h}x{w}")
    vectors = _patches(train, patch)
    if len(vectors) > sample:
        vectors = np.random.default_rng(seed).permutation(vectors)[:sample]
    if len(np.unique(vectors, axis=0)) < codes:
        raise BadInput(
            f"the training images have fewer than {codes} different patches; write "
            f"fewer codes"
        )
    from sklearn.cluster import KMeans  # a slow import, of use only here

    means = KMeans(codes, n_init=3, random_state=seed).fit(vectors)
    found = means.cluster_centers_[means.predict(_patches(test, patch))]
    found = np.clip(np.round(found), 0, 255).astype(np.uint8)
    blocks = found.reshape(n, h // patch, w // patch, patch, patch, c)
    return blocks.swapaxes(2, 3).reshape(n, h, w, c)


def _patches(images: np.ndarray, patch: int) -> np.ndarray:
    """(n * tokens, patch * patch * c) float32."""
    n, h, w, c = images.shape
    blocks = images.reshape(n, h // patch, patch, w // patch, patch, c).swapaxes(2, 3)
    return blocks.reshape(-1, patch * patch * c).astype(np.float32)
