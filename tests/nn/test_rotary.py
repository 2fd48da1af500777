import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.nn import rotary_table, rotate


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def places(*grid):
    return np.indices(grid).reshape(len(grid), -1).T


@pytest.mark.parametrize("axes,width", [(1, 8), (2, 8), (2, 14), (3, 12)])
def test_scores_depend_on_relative_position_only(axes, width):
    """One query and one key, at all places and again after a common shift."""
    q, k = draw(1, 1, 1, width), draw(1, 1, 1, width, seed=1)
    positions = places(*(3,) * axes)
    shift = np.array([5, -2, 7])[:axes]

    def scores(positions):
        table = rotary_table(positions, width)
        all_of = lambda x: rotate(jnp.repeat(x, len(table), axis=1), table)[0, :, 0]
        return all_of(q) @ all_of(k).T

    np.testing.assert_allclose(scores(positions), scores(positions + shift), atol=2e-5)
    # And on every axis of it.
    assert len(np.unique(np.round(scores(positions)[0], 4))) == 3**axes


def test_angles_in_closed_form():
    """Pair j of an axis turns by position * theta^(-j / pairs), axes side by side."""
    table = rotary_table(np.array([[3, 5]]), 8, theta=100.0)
    np.testing.assert_allclose(table, [[3, 3 / 10, 5, 5 / 10]], rtol=1e-6)


def test_pairs_are_channels_half_a_width_apart():
    x = jnp.array([1.0, 2.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    table = np.array([[np.pi / 2, 0.0]], np.float32)
    np.testing.assert_allclose(rotate(x, table)[0, 0, 0], [0, 2, 1, 0], atol=1e-6)


def test_left_over_channels_do_not_turn():
    """A head of 14 has 7 pairs: 3 for each of two axes, and one that is still."""
    table = rotary_table(places(4, 4), 14)
    assert table.shape == (16, 7) and (table[:, 6] == 0).all()
    assert (table[-1, :6] != 0).all()


def test_lengths_are_kept_and_the_origin_stays():
    x = draw(2, 9, 3, 8)
    turned = rotate(x, rotary_table(places(3, 3), 8))
    norm = lambda x: np.linalg.norm(x, axis=-1)
    np.testing.assert_allclose(norm(turned), norm(x), rtol=1e-5)
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])


def test_angles_are_float32_whatever_the_dtype():
    """bfloat16 cannot tell position 1000 from 1003."""
    x = draw(1, 4, 1, 8).astype(jnp.bfloat16)
    table = rotary_table(np.array([[1000], [1001], [1002], [1003]]), 8)
    turned = rotate(x, table)
    assert turned.dtype == jnp.bfloat16
    expected = rotate(x.astype(jnp.float32), table)
    np.testing.assert_array_equal(turned, expected.astype(jnp.bfloat16))


@pytest.mark.parametrize("axes,width", [(1, 7), (3, 4), (1, 0)])
def test_heads_too_narrow_or_odd_are_refused(axes, width):
    with pytest.raises(ValueError, match="even head width"):
        rotary_table(np.zeros((2, axes), int), width)
