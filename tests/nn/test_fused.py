"""The fused formulas against the textbook's, values and derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.nn import attention
from vqdit.nn.fused import attend, gelu, norm_modulate

pytestmark = pytest.mark.optimized


def draws(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, s) for key, s in zip(keys, shapes, strict=True)]


def softmax_attention(q, k, v):
    scores = jnp.einsum("bnhk,bmhk->bhnm", q, k) / jnp.sqrt(q.shape[-1])
    return jnp.einsum("bhnm,bmhk->bnhk", jax.nn.softmax(scores), v)


def layer_norm(x, shift, scale):
    mean = x.mean(-1, keepdims=True)
    spread = jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return (x - mean) / spread * (1 + scale) + shift


def same_with_gradients(ours, theirs, inputs, rtol=1e-5, atol=1e-5):
    out, backward = jax.vjp(ours, *inputs)
    expected, backward_expected = jax.vjp(theirs, *inputs)
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=atol)
    (cotangent,) = draws(out.shape)
    for mine, other in zip(
        backward(cotangent), backward_expected(cotangent), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=atol)


def test_attend_is_softmax_attention_and_its_gradient():
    same_with_gradients(attend, softmax_attention, draws(*3 * [(3, 7, 2, 4)]))


@pytest.mark.parametrize("block", [1, 3, 4])
def test_attend_in_blocks_sees_none_that_comes_later(block):
    """Against a mask, and the last block, of 1 token where block = 3, is shorter."""
    turn = np.arange(7) // block

    def masked(q, k, v):
        scores = jnp.einsum("bnhk,bmhk->bhnm", q, k) / jnp.sqrt(q.shape[-1])
        scores = jnp.where(turn[:, None] < turn, -1e9, scores)
        return jnp.einsum("bhnm,bmhk->bnhk", jax.nn.softmax(scores), v)

    inputs = draws(*3 * [(3, 7, 2, 4)])
    fused = lambda *x: attention.attend(*x, None, block, "fused")
    same_with_gradients(fused, masked, inputs)


def test_attend_survives_scores_that_overflow_an_exponential():
    q, k, v = draws(*3 * [(1, 5, 1, 4)])
    out, backward = jax.vjp(attend, 60 * q, 60 * k, v)
    np.testing.assert_allclose(out, softmax_attention(60 * q, 60 * k, v), atol=1e-4)
    assert all(np.isfinite(g).all() for g in backward(v))


@pytest.mark.slow
def test_attend_keeps_bfloat16_and_sums_in_float32():
    q, k, v = (x.astype(jnp.bfloat16) for x in draws(*3 * [(2, 64, 1, 8)]))
    out = attend(q, k, v)
    assert out.dtype == jnp.bfloat16
    exact = softmax_attention(*(x.astype(jnp.float32) for x in (q, k, v)))
    # Half a unit in the last of 8 bits, and as much again for rounding the weights.
    np.testing.assert_allclose(out.astype(jnp.float32), exact, rtol=2**-7, atol=2**-7)


def test_gelu_is_the_tanh_form_and_its_gradient():
    x = jnp.linspace(-12, 12, 2001)
    # tanh rounds to -1 where the sigmoid still has digits: 1e-5 at the far left.
    same_with_gradients(gelu, lambda x: nn.gelu(x, approximate=True), [x], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 6])
def test_norm_modulate_is_layer_norm_modulated(m):
    same_with_gradients(
        norm_modulate, layer_norm, draws((2, 6, 16), (2, m, 16), (2, m, 16))
    )


def test_norm_modulate_of_a_constant_is_its_shift_with_finite_gradient():
    x, (shift, scale) = jnp.full((1, 2, 8), 3.0), draws((1, 1, 8), (1, 1, 8))
    out, backward = jax.vjp(norm_modulate, x, shift, scale)
    np.testing.assert_allclose(out, jnp.broadcast_to(shift, out.shape), atol=1e-6)
    assert all(np.isfinite(g).all() for g in backward(jnp.ones_like(out)))


@pytest.mark.parametrize("m", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_gradients_of_norm_modulate_keep_the_inputs_types(m):
    x, shift, scale, dout = draws((2, 6, 16), (2, m, 16), (2, m, 16), (2, 6, 16))
    low = [shift.astype(jnp.bfloat16), scale.astype(jnp.bfloat16)]
    out, backward = jax.vjp(norm_modulate, x, *low)
    dx, dshift, dscale = backward(dout.astype(jnp.bfloat16))
    assert out.dtype == dshift.dtype == dscale.dtype == jnp.bfloat16
    assert dx.dtype == jnp.float32
    _, exact = jax.vjp(layer_norm, x, shift, scale)
    # 8 bits a number on the way in and out, statistics and sums in float32.
    for mine, other in zip((dx, dshift, dscale), exact(dout), strict=True):
        np.testing.assert_allclose(mine.astype(jnp.float32), other, atol=0.1)


def test_gelu_and_norm_modulate_keep_only_their_inputs():
    """XLA:CPU pays for memory traffic: nothing of x's size may be kept twice."""
    x, shift, scale = draws((2, 6, 16), (2, 1, 16), (2, 1, 16))
    for function, inputs in ((gelu, (x,)), (norm_modulate, (x, shift, scale))):
        _, backward = jax.vjp(function, *inputs)
        kept = sum(leaf.size for leaf in jax.tree.leaves(backward))
        assert kept <= sum(i.size for i in inputs)
