"""Attention, GELU and modulated LayerNorm, written for how XLA fuses them.

The same functions as the textbook's, to rounding. What is chosen is the order of the
operations and what the backward pass keeps.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# gelu(x) = x sigmoid(A x + B x^3) is the tanh form: A = 2 sqrt(2 / pi), B = 0.044715 A.
A = 1.5957691216057308
B = 0.07135481282722363
EPSILON = 1e-6


BATCH = ((0,), (0,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend(
    q: Float[Array, "b n k"],
    k: Float[Array, "b n k"],
    v: Float[Array, "b n k"],
    block: int = 0,
) -> Float[Array, "b n k"]:
    """softmax(q k^T / sqrt(k)) v; b holds examples and heads.

    block: consecutive tokens that see each other and those before them, not those of
        later blocks; 0 where all see all.

    Scores and softmax are float32. Nothing of size n x n is kept for the backward pass,
    which computes the scores again; so it differentiates backwards only.
    """
    weights, total = _weights(q, k, block)
    # Divided after the product, not before: n x k values instead of n x n, and XLA:CPU
    # makes one kernel of the whole, which a softmax in between prevents.
    mixed = _product(weights.astype(v.dtype), v, 2, 1)
    return (mixed / total).astype(v.dtype)


def _attend_forward(q, k, v, block):
    out = attend(q, k, v, block)
    return out, (q, k, v, out)


def _attend_backward(block, kept, dout):
    q, k, v, out = kept
    weights, total = _weights(q, k, block)
    dout = dout.astype(jnp.float32) / total
    inner = (dout * out).sum(-1, keepdims=True)
    dout, low = dout.astype(v.dtype), weights.astype(v.dtype)
    dscores = (weights * (_product(dout, v, 2, 2) - inner)).astype(v.dtype)
    scale = q.shape[-1] ** -0.5
    dq = _product(dscores, k, 2, 1) * scale
    dk = _product(dscores, q, 1, 1) * scale
    dv = _product(low, dout, 1, 1)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


attend.defvjp(_attend_forward, _attend_backward)


def _weights(q, k, block):
    """Unnormalised attention weights (b, n, n) and their sums (b, n, 1), float32."""
    scores = _product(q * q.shape[-1] ** -0.5, k, 2, 2)
    if block:
        turn = jnp.arange(scores.shape[-1]) // block
        scores = jnp.where(turn[:, None] >= turn, scores, -jnp.inf)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    return weights, weights.sum(-1, keepdims=True)


def _product(a, b, axis_a, axis_b):
    """Contracts one axis of each, example by example, and adds up in float32."""
    dims = (((axis_a,), (axis_b,)), BATCH)
    return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The tanh form of GELU (arXiv:1606.08415), with one exponential.

    Differentiates backwards only, and keeps x, not the slope.
    """
    return x * _gate(x)


def _gelu_forward(x):
    return gelu(x), x


def _gelu_backward(x, dout):
    gate = _gate(x)
    return (dout * (gate + x * gate * (1 - gate) * (A + 3 * B * x * x)),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def _gate(x):
    return 1 / (1 + jnp.exp(-x * (A + B * x * x)))


@jax.custom_vjp
def norm_modulate(
    x: Float[Array, "b n d"], shift: Float[Array, "b m d"], scale: Float[Array, "b m d"]
) -> Float[Array, "b n d"]:
    """LayerNorm without its own scale and bias, times (1 + scale), plus shift.

    m is 1 or n. Statistics are float32; returns shift's type. Differentiates backwards
    only: it keeps x and takes the statistics again, which on a CPU is worth a third of
    the training step over keeping what forward mode leaves (RESULTS.md).
    """
    unit, _ = _normalised(x)
    return (unit * (1 + scale) + shift).astype(shift.dtype)


def _norm_modulate_forward(x, shift, scale):
    return norm_modulate(x, shift, scale), (x, scale)


def _norm_modulate_backward(kept, dout):
    x, scale = kept
    unit, rate = _normalised(x)
    dout = dout.astype(jnp.float32)
    dunit = dout * (1 + scale)
    dx = rate * (
        dunit
        - dunit.mean(-1, keepdims=True)
        - unit * (dunit * unit).mean(-1, keepdims=True)
    )
    dshift, dscale = dout, dout * unit
    if scale.shape[1] == 1:
        dshift = dshift.sum(1, keepdims=True)
        dscale = dscale.sum(1, keepdims=True)
    return dx.astype(x.dtype), dshift.astype(scale.dtype), dscale.astype(scale.dtype)


norm_modulate.defvjp(_norm_modulate_forward, _norm_modulate_backward)


def _normalised(x):
    x = x.astype(jnp.float32)
    centred = x - x.mean(-1, keepdims=True)
    rate = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPSILON)
    return centred * rate, rate
