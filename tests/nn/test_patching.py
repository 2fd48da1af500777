import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.nn import patchify, unpatchify

GRIDS = [((12,), 4), ((4, 6), 2), ((2, 4, 6), 2), ((5, 3), 1)]


@pytest.mark.parametrize("grid,patch", GRIDS)
def test_unpatchify_is_the_inverse(grid, patch):
    x = np.arange(2 * np.prod(grid) * 3).reshape(2, *grid, 3)
    tokens = patchify(jnp.asarray(x), patch)
    coarse = np.prod([size // patch for size in grid])
    assert tokens.shape == (2, coarse, patch ** len(grid) * 3)
    np.testing.assert_array_equal(unpatchify(tokens, grid, patch), x)


def test_unpatchify_takes_any_number_of_channels():
    """A learned variance doubles them."""
    tokens = jnp.arange(2 * 6 * 4 * 5).reshape(2, 6, 20)
    x = unpatchify(tokens, (4, 6), 2)
    assert x.shape == (2, 4, 6, 5)
    np.testing.assert_array_equal(patchify(x, 2), tokens)


def test_tokens_are_row_major_and_so_are_the_pixels_inside():
    x = jnp.arange(4 * 4).reshape(1, 4, 4, 1)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    np.testing.assert_array_equal(patchify(x, 2)[0], expected)


@pytest.mark.parametrize("grid,patch", [((8,), 4), ((4, 6), 2)])
def test_projection_equals_a_strided_convolution(grid, patch):
    """So that published patch embeddings can be read with a reshape."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *grid, 3)), jnp.float32)
    conv = nn.Conv(5, (patch,) * len(grid), strides=patch, padding="VALID")
    y, variables = conv.init_with_output(jax.random.key(0), x)
    kernel = variables["params"]["kernel"].reshape(-1, 5)
    tokens = patchify(x, patch) @ kernel
    np.testing.assert_allclose(tokens, y.reshape(2, -1, 5), atol=1e-5)


@pytest.mark.parametrize("patch", [0, 3, 4])
def test_patch_that_does_not_divide_is_refused(patch):
    with pytest.raises(ValueError, match=f"patch {patch} does not divide"):
        patchify(jnp.zeros((1, 4, 6, 1)), patch)
    with pytest.raises(ValueError, match=f"patch {patch} does not divide"):
        unpatchify(jnp.zeros((1, 6, 4)), (4, 6), patch)
