"""Tiles of a signal: what is cut is joined to what it was."""

import numpy as np
import pytest

from vqdit.signal.tiles import Tiling

SIGNAL = np.random.default_rng(0).normal(size=(13, 9, 2)).astype(np.float32)


@pytest.mark.parametrize("around", [None, 1])
@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("size", [(13, 9), (4, 6), (3, 5), (8, 7), (1, 1)])
def test_joined_tiles_are_the_signal(size, overlap, around):
    """Of sides that tiles fit, stick out of, or are larger than."""
    signal = SIGNAL[: size[0], : size[1]]
    tiling = Tiling(size, (4, 6), overlap, around)
    tiles = np.concatenate([tiling.cut(signal, i, i + 1) for i in range(len(tiling))])
    assert tiles.shape == (len(tiling), 4, 6, 2)
    np.testing.assert_array_equal(tiling.cut(signal, 0, len(tiling)), tiles)
    np.testing.assert_allclose(tiling.join(iter(tiles), 2), signal, atol=1e-6)


def test_a_tile_that_sticks_out_repeats_the_edge_or_goes_round():
    signal = SIGNAL[:5, :7]
    for around, last in ((None, [6, 6, 6, 6, 6]), (1, [0, 1, 2, 3, 4])):
        tile = Tiling((5, 7), (5, 6), 0, around).cut(signal, 1, 2)[0]
        np.testing.assert_array_equal(tile, signal[:, [6, *last]])


def test_neighbours_share_the_overlap():
    tiling = Tiling((13, 9), (4, 6), 2)
    tiles = tiling.cut(SIGNAL, 0, len(tiling)).reshape(*tiling.counts, 4, 6, 2)
    np.testing.assert_array_equal(tiles[0, 0, 2:], tiles[1, 0, :2])
    np.testing.assert_array_equal(tiles[0, 0, :, 4:], tiles[0, 1, :, :2])


@pytest.mark.parametrize("around", [-1, 2, True])
def test_an_axis_that_is_none_is_refused(around):
    """It was left flat without a word."""
    with pytest.raises(ValueError, match=f"around={around} is no axis of .13, 9.; "):
        Tiling((13, 9), (4, 6), 1, around)


@pytest.mark.parametrize(
    "fields, message",
    [
        (((13,), (4, 6)), "a signal of (13,) does not divide into tiles of (4, 6)"),
        (((0, 9), (4, 6)), "a signal of (0, 9) does not divide into tiles of (4, 6)"),
        (
            ((13, 9), (4, 6), -1),
            "overlap=-1 does not fit tiles of (4, 6); write 0 to 3",
        ),
        (((13, 9), (4, 6), 4), "overlap=4 does not fit tiles of (4, 6); write 0 to 3"),
    ],
)
def test_tiles_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError) as refusal:
        Tiling(*fields)
    assert str(refusal.value) == message


def test_weights_fall_linearly_towards_the_border_of_a_tile():
    """Of two that share three places the first has 3, 2 and 1 of 4 parts there."""
    tiling = Tiling((9,), (6,), 3)
    joined = tiling.join(np.array([[[0.0]] * 6, [[1.0]] * 6], np.float32), 1)
    expected = [0, 0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    np.testing.assert_allclose(joined[:, 0], expected, atol=1e-6)
    assert joined.dtype == np.float32
    with pytest.raises(ValueError):  # tiles are all there, and no more
        tiling.join(np.zeros((3, 6, 1), np.float32), 1)
