"""Cells and patches of a signal's sides, by hand; what does not divide."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.signal import divide, divide_frames, divide_samples, fold, unfold
from vqdit.signal.grids import blocks_of

X = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)


def test_a_patch_is_a_site_with_its_places_in_row_major_order():
    y = fold(X, (2, 3))
    assert y.shape == (2, 2, 2, 18)
    np.testing.assert_array_equal(y[1, 1, 0], X[1, 2:4, 0:3].reshape(-1))
    np.testing.assert_array_equal(unfold(y, (2, 3)), X)
    np.testing.assert_array_equal(fold(X, (1, 6))[0, 2, 0], X[0, 2].reshape(-1))


def test_the_first_site_of_a_causal_axis_is_a_patch_of_its_own():
    """1 + 2 k frames to 1 + k; of another border nothing is copied."""
    x = jnp.arange(5 * 4).reshape(1, 5, 4, 1)
    y = fold(x, (2, 2), ("past", "wrap"))
    assert y.shape == (1, 3, 2, 4)
    np.testing.assert_array_equal(y[0, 0, 1], [2, 3, 2, 3])
    np.testing.assert_array_equal(y[0, 1, 0], [4, 5, 8, 9])
    np.testing.assert_array_equal(unfold(y, (2, 2), ("past", "wrap")), x)


@pytest.mark.parametrize(
    "sides, grid, borders, patches",
    [
        ((8, 6), (4, 2), (), (2, 3)),
        ((8, 6), (8, 6), (), (1, 1)),
        ((8, 6), (3, 2), (), None),
        ((8, 6), (8,), (), None),
        ((9, 8), (3, 4), ("past", "zero"), (4, 2)),
        ((9, 8), (3, 4), ("zero", "zero"), (3, 2)),
        ((9, 8), (5, 4), ("past", "alone"), (2, 2)),
        ((1, 8), (1, 8), ("past", "zero"), (1, 1)),
        ((9, 8), (4, 4), ("past", "zero"), None),
        ((2, 8), (1, 8), ("past", "zero"), None),
    ],
)
def test_blocks_are_the_patches_that_lead_there(sides, grid, borders, patches):
    assert blocks_of(sides, grid, borders) == patches
    if patches is not None:
        x = np.zeros((1, *sides, 1))
        assert fold(x, patches, borders).shape[1:-1] == grid


def test_a_signal_is_divided_into_cells():
    assert divide((8, 6), (4, 2)) == (2, 3) and divide((5,), (1,)) == (5,)
    assert divide_samples((12,), 4) == (3,)
    assert divide_frames((9, 8, 6), (4, 2, 3)) == (3, 4, 2)
    assert divide_frames((1, 8, 6), (4, 2, 3)) == (1, 4, 2)
    assert divide_frames((5,), (2,)) == (3,)


@pytest.mark.parametrize(
    "refused, message",
    [
        (
            lambda: divide((8, 7), (4, 2)),
            "the signal's sides (8, 7) are not multiples of the tokenizer's factor "
            "(4, 2); the nearest that are: (8, 6) or (8, 8)",
        ),
        (
            lambda: divide((3, 4), (4, 2)),
            "the signal's sides (3, 4) are not multiples of the tokenizer's factor "
            "(4, 2); the nearest that are: (4, 4)",
        ),
        (
            lambda: divide((0, 4), (4, 2)),
            "the signal's sides (0, 4): write at least (4, 2)",
        ),
        (
            lambda: divide_samples((8, 1), 4),
            "a waveform has one axis, (samples,), not (8, 1)",
        ),
        (
            lambda: divide_frames((9, 8), (4, 2, 2)),
            "a video has (frames, height, width), not (9, 8)",
        ),
        (
            lambda: divide_frames((9, 8), (4, 2, 2, 2)),
            "a video has (frames, height, width, depth), not (9, 8)",
        ),
        (
            lambda: divide_frames((8, 4), (4, 2)),
            "8 frames are not 1 + 4 k; the nearest that are: 5 or 9",
        ),
        (
            lambda: divide_frames((0, 4), (4, 2)),
            "0 frames are not 1 + 4 k; the nearest that are: 1 or 5",
        ),
        (
            lambda: divide_frames((5, 3), (4, 2)),
            "the signal's sides (3,) are not multiples of the tokenizer's factor "
            "(2,); the nearest that are: (2,) or (4,)",
        ),
    ],
)
def test_sides_that_do_not_divide_are_refused(refused, message):
    with pytest.raises(ValueError) as refusal:
        refused()
    assert str(refusal.value) == message
