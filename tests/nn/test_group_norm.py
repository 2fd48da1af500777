"""Group normalisation: its closed form, far from the origin and where all is equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.nn.group_norm import GroupNorm, groups_of

KEY = jax.random.key(0)


def expected(x, groups):
    """In float64, of (b, n, c)."""
    x = np.asarray(x, np.float64)
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean = grouped.mean((1, 3), keepdims=True)
    variance = np.square(grouped - mean).mean((1, 3), keepdims=True)
    return ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)


@pytest.mark.parametrize("offset,spread", [(0.0, 1.0), (100.0, 1.0), (1.0, 1e-3)])
def test_groups_have_mean_zero_and_variance_one(offset, spread):
    """Wherever they lie: one pass over the squares is wrong by 1e-2 at 100 +- 1."""
    noise = np.random.default_rng(0).normal(offset, spread, (3, 40, 12))
    x = jnp.asarray(noise, jnp.float32)
    for groups in (1, 3, 12):
        y, _ = jax.jit(GroupNorm(groups).init_with_output)(KEY, x)
        np.testing.assert_allclose(y, expected(x, groups), atol=2e-4)


def test_groups_left_out_are_as_many_as_fit_of_two_channels_or_more():
    """A group of one channel would normalise a single site to nothing."""
    for channels, groups in ((128, 32), (48, 16), (32, 8), (8, 2), (3, 1)):
        noise = np.random.default_rng(0).normal(2, 3, (1, 1, channels))
        x = jnp.asarray(noise, jnp.float32)
        y, _ = jax.jit(GroupNorm().init_with_output)(KEY, x)
        np.testing.assert_allclose(y, expected(x, groups), rtol=1e-3)


def test_a_constant_group_has_no_gradient_and_spoils_no_other():
    """Its true one is 1,000 a layer, which a chain of layers takes to infinity."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8)), jnp.float32)
    x = x.at[0, :, :4].set(0.0)
    module = GroupNorm(2)

    def out(x):
        return jnp.sin(3 * module.init_with_output(KEY, x)[0]).sum()

    slopes = np.asarray(jax.jit(jax.grad(out))(x))
    assert (slopes[0, :, :4] == 0).all()
    assert (np.abs(slopes[0, :, 4:]) > 0).all() and (np.abs(slopes[1]) > 0).all()


def test_statistics_are_float32_whatever_the_dtype():
    x = jnp.asarray(np.random.default_rng(0).normal(30, 1, (1, 64, 4)), jnp.bfloat16)
    y, held = jax.jit(GroupNorm(2, dtype="bfloat16").init_with_output)(KEY, x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(held)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(y.astype(jnp.float32), expected(x, 2), atol=2e-2)


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="32 groups do not divide 48.*groups=16"):
        jax.eval_shape(GroupNorm(32).init, KEY, jnp.zeros((1, 2, 48)))
    for groups in (0, -2):
        with pytest.raises(ValueError, match=f"{groups} groups .* 6 .*groups=1"):
            jax.eval_shape(GroupNorm(groups).init, KEY, jnp.zeros((1, 2, 6)))
    sizes = {1: 1, 2: 1, 4: 1, 6: 2, 16: 4, 32: 8, 64: 32, 96: 32}
    assert {channels: groups_of(channels) for channels in sizes} == sizes
