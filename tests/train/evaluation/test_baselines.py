import types

import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation.reconstruction import baselines
from train.evaluation.reconstruction.baselines import BlockKMeans, fitted
from train.evaluation.reconstruction.kinds import BASELINES, BY_NAME
from train.modalities import Audio, Images, Ranges, Series, Video, Volumes
from vqdit.trained.contract import LatentContract


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


def test_few_patches_are_sampled_the_same_each_time(monkeypatch):
    train = np.random.default_rng(4).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    every = BlockKMeans.fit(train, (2, 2), 8)(train[:5])
    monkeypatch.setattr(baselines, "SAMPLE", 100)
    first, again = (BlockKMeans.fit(train, (2, 2), 8)(train[:5]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, every)


def test_fewer_blocks_than_codes_are_refused():
    with pytest.raises(BadInput, match=r"fewer than 2 different blocks of \(2, 2\)"):
        BlockKMeans.fit(np.zeros((3, 6, 6, 1), np.uint8), (2, 2), 2)


@pytest.mark.parametrize("block", [(4,), (2, 3), (2, 1, 3)])
def test_blocks_of_any_axes_are_cut_and_joined_in_place(block):
    grid = tuple(3 * size for size in block)
    x = np.random.default_rng(5).random((2, *grid, 2)).astype(np.float32)
    found = BlockKMeans.fit(x, block, 2 * 3 ** len(block))(x)
    np.testing.assert_allclose(found, x, atol=1e-6)


def contract(shape, grid, codes):
    return LatentContract("image", shape, grid, 1, codes, (0.0,), (1.0,), "")


@pytest.mark.parametrize(
    "shape, grid, codes",
    [
        ((8, 8, 1), (3, 4), (4,)),  # a side that the grid does not divide
        ((8, 8, 1), (16,), (4,)),  # codes of no place
        ((8, 8, 1), (4, 4), (4, 4)),  # several books
    ],
)
def test_codes_that_do_not_tile_the_signal_have_no_baseline(shape, grid, codes):
    codec = types.SimpleNamespace(contract=contract(shape, grid, codes))
    assert fitted(codec, Images(threads=0)) is None
    codec = types.SimpleNamespace(contract=contract((8, 8, 1), (4, 4), (4,)))
    assert fitted(codec, Images(threads=0)).block == (2, 2)


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
    with pytest.raises(BadInput, match="fewer than 6 different blocks"):
        BlockKMeans.fit(x, (2, 2, 2), 6)


def test_the_kinds_that_have_a_baseline_are_those_that_are_compared():
    kinds = [Audio, Images, Ranges, Series, Video, Volumes]
    assert {kind.measures for kind in kinds} | {""} == set(BY_NAME)
    having = {kind for kind in kinds if kind.measures in BASELINES}
    assert having == {Images, Ranges, Series, Volumes}
