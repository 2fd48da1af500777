import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation.baselines import BlockKMeans, blocks_of, unblock


def mosaic(palette, n, seed):
    """(n, 4, 6, c) images of 2x2 patches drawn from the palette (k, 2, 2, c)."""
    picked = np.random.default_rng(seed).integers(0, len(palette), (n, 2, 3))
    blocks = palette[picked].swapaxes(2, 3)
    return blocks.reshape(n, 4, 6, palette.shape[-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_as_many_codes_as_patches_rebuild_exactly(channels):
    """Also the place and orientation of every patch, in images that are not square."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (7, 2, 2, channels)).astype(np.uint8)
    train, test = mosaic(palette, 40, 1), mosaic(palette, 9, 2)
    found = BlockKMeans.fit(train, (2, 2), 7)(test)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, test)


def test_one_code_is_the_mean_patch():
    train = np.random.default_rng(3).integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    found = BlockKMeans.fit(train, (4, 4), 1)(train[:2])
    np.testing.assert_array_equal(found[0], np.round(train.mean(0)))


def test_few_patches_are_sampled_the_same_each_time():
    train = np.random.default_rng(4).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    first, again = (
        BlockKMeans.fit(train, (2, 2), 8, 1, sample=100)(train[:5]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_bad_requests_are_refused():
    images = np.zeros((3, 6, 6, 1), np.uint8)
    with pytest.raises(BadInput, match="do not divide"):
        BlockKMeans.fit(images, (4, 4), 1)
    with pytest.raises(BadInput, match="fewer than 2 different"):
        BlockKMeans.fit(images, (2, 2), 2)
    means = BlockKMeans.fit(images, (2, 2), 1)
    with pytest.raises(BadInput, match="do not divide"):
        means(images[:, :5])


@pytest.mark.parametrize("block", [(4,), (2, 3), (2, 1, 3)])
def test_blocks_are_cut_and_joined_in_place(block):
    grid = tuple(3 * size for size in block)
    x = np.random.default_rng(5).random((2, *grid, 2)).astype(np.float32)
    rows = blocks_of(x, block)
    assert rows.shape == (2 * 3 ** len(block), np.prod(block) * 2)
    first = x[0][tuple(slice(0, size) for size in block)]
    np.testing.assert_array_equal(rows[0], first.ravel())
    second = x[0][(*(slice(0, s) for s in block[:-1]), slice(block[-1], 2 * block[-1]))]
    np.testing.assert_array_equal(rows[1], second.ravel())
    np.testing.assert_array_equal(unblock(rows, x.shape, block), x)


def test_volumes_of_few_different_blocks_rebuild_exactly():
    palette = np.random.default_rng(6).standard_normal((5, 2, 2, 2)).astype(np.float32)
    picked = np.random.default_rng(7).integers(0, 5, (20, 3, 2, 2))
    x = np.zeros((20, 6, 4, 4, 1), np.float32)
    for place in np.ndindex(3, 2, 2):
        cut = tuple(slice(2 * p, 2 * p + 2) for p in place)
        x[(slice(None), *cut, 0)] = palette[picked[(slice(None), *place)]]
    found = BlockKMeans.fit(x[:12], (2, 2, 2), 5)(x[12:])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x[12:], atol=1e-6)
    with pytest.raises(BadInput, match="do not divide"):
        BlockKMeans.fit(x, (4, 2, 2), 5)
    with pytest.raises(BadInput, match="fewer than 6 different blocks"):
        BlockKMeans.fit(x, (2, 2, 2), 6)
