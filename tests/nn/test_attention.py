import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.nn import Attention, rotary_table


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def start(module, x):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return quick.parameters(shapes)


@functools.partial(quick.jit, static_argnums=0)
def apply(module, variables, x, rotary=None):
    return module.apply(variables, x, rotary)


def softmax_attention(params, x, heads, qk_norm=False):
    """The same in NumPy, in float64."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    qkv = x @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    q, k, v = qkv.reshape(n, heads, 3, d // heads).transpose(2, 1, 0, 3)
    if qk_norm:
        square = lambda x: np.sqrt(np.square(x).mean(-1, keepdims=True))
        q = q / square(q) * params["query_norm"]["scale"]
        k = k / square(k) * params["key_norm"]["scale"]
    scores = q @ k.swapaxes(1, 2) / np.sqrt(d // heads)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = weights / weights.sum(-1, keepdims=True) @ v
    y = y.transpose(1, 0, 2).reshape(n, d)
    return y @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_it_is_softmax_attention(qk_norm):
    x, module = draw(2, 5, 12), Attention(3, qk_norm)
    variables = start(module, x)
    y = apply(module, variables, x)
    for i in range(2):
        params = jax.device_get(variables["params"])
        expected = softmax_attention(params, x[i], 3, qk_norm)
        np.testing.assert_allclose(y[i], expected, atol=1e-5)


def test_it_does_not_see_the_order_of_tokens_without_positions():
    x, module = draw(1, 6, 8), Attention(2)
    variables = start(module, x)
    order = np.array([3, 0, 5, 1, 4, 2])
    y = apply(module, variables, x)
    np.testing.assert_allclose(
        apply(module, variables, x[:, order]), y[:, order], atol=1e-5
    )


def test_with_rotary_it_sees_relative_places_only():
    x, module = draw(1, 6, 8), Attention(2)
    variables = start(module, x)
    table = lambda first: rotary_table(first + np.arange(6)[:, None], 4)
    y = apply(module, variables, x, table(0))
    np.testing.assert_allclose(apply(module, variables, x, table(40)), y, atol=1e-4)
    assert np.abs(y - apply(module, variables, x)).max() > 0.01


def test_normalised_scores_are_bounded():
    """A million times larger tokens leave the weights as they were: no overflow."""
    x, module = draw(1, 4, 8), Attention(2, qk_norm=True)
    variables = start(module, x)
    params = variables["params"]
    params["qkv"]["bias"] = jnp.zeros_like(params["qkv"]["bias"])
    params["out"]["bias"] = jnp.zeros_like(params["out"]["bias"])
    y = apply(module, variables, x)
    np.testing.assert_allclose(apply(module, variables, 1e6 * x), 1e6 * y, rtol=1e-3)


def test_softmax_is_float32_in_bfloat16():
    """512 equal tokens weigh 1/512 each, though a bfloat16 sum of ones stops at 256."""
    x = jnp.broadcast_to(draw(1, 1, 8), (1, 512, 8))
    module, low = Attention(1), Attention(1, dtype="bfloat16")
    variables = start(module, x)
    y, y_low = apply(module, variables, x), apply(low, variables, x)
    assert y_low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y_low, np.float32), y, atol=0.05)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="5 heads do not divide the width 12"):
        jax.eval_shape(Attention(5).init, jax.random.key(0), draw(1, 2, 12))
