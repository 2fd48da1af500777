"""Attention, GELU and modulated norms, written for how XLA fuses them on a CPU.

The same functions as the textbook's, to rounding. What is chosen is the order of the
operations and what the backward pass keeps; so they differentiate backwards only.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.shapes import Array, Bool, Float

Norm = Literal["layer", "rms"]

# gelu(x) = x sigmoid(A x + B x^3) is the tanh form: A = 2 sqrt(2 / pi), B = 0.044715 A.
A = 1.5957691216057308
B = 0.07135481282722363
EPSILON = 1e-6
HIDDEN = -1e30  # a score whose exponential is 0; finite, so that a row of them is


@jax.custom_vjp
def attend(
    q: Float[Array, "b n h k"],
    k: Float[Array, "b n h k"],
    v: Float[Array, "b n h k"],
    mask: Bool[Array, "#b 1 #n n"] | None = None,
) -> Float[Array, "b n h k"]:
    """`nn.attention.attend`; mask is true where a query sees a key.

    The backward pass computes the scores again.
    """
    return _attend_forward(q, k, v, mask)[0]


def _attend_forward(q, k, v, mask):
    q, k, v = (_heads_first(x) for x in (q, k, v))
    weights, total = _weights(q, k, mask)
    # Divided after the product, not before: n x k values instead of n x n, and XLA:CPU
    # makes one kernel of the whole, which a softmax in between prevents.
    mixed = _product(weights.astype(v.dtype), v, 3, 2)
    out = (mixed / total).astype(v.dtype)
    return _heads_first(out), (q, k, v, mask, out)


def _attend_backward(kept, dout):
    q, k, v, mask, out = kept
    weights, total = _weights(q, k, mask)
    dout = _heads_first(dout).astype(jnp.float32) / total
    inner = (dout * out).sum(-1, keepdims=True)
    dout, low = dout.astype(v.dtype), weights.astype(v.dtype)
    dscores = (weights * (_product(dout, v, 3, 3) - inner)).astype(v.dtype)
    scale = q.shape[-1] ** -0.5
    dq = _product(dscores, k, 3, 2) * scale
    dk = _product(dscores, q, 2, 2) * scale
    dv = _product(low, dout, 2, 2)
    pairs = ((dq, q), (dk, k), (dv, v))
    return *(_heads_first(dx.astype(x.dtype)) for dx, x in pairs), None


attend.defvjp(_attend_forward, _attend_backward)


def _heads_first(x):
    """(b, n, h, k) -> (b, h, n, k), and back."""
    return x.transpose(0, 2, 1, 3)


def _weights(q, k, mask):
    """Unnormalised attention weights (b, h, n, n), their sums (b, h, n, 1); float32."""
    scale = q.shape[-1] ** -0.5
    if q.dtype == jnp.float32:
        scores = _product(q * scale, k, 3, 3)
    else:  # a scaled q would be rounded a second time
        scores = _product(q, k, 3, 3) * scale
    if mask is not None:
        scores = jnp.where(mask, scores, HIDDEN)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    return weights, weights.sum(-1, keepdims=True)


def _product(a, b, axis_a, axis_b):
    """Contracts one axis of each, head by head, and adds up in float32."""
    dims = (((axis_a,), (axis_b,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The tanh form of GELU (arXiv:1606.08415), with one exponential.

    Keeps x, not the slope.
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def norm_modulate(
    x: Float[Array, "b n d"],
    shift: Float[Array, "b m d"],
    scale: Float[Array, "b m d"],
    norm: Norm = "layer",
) -> Float[Array, "b n d"]:
    """`modulated`, whose backward pass takes the statistics again.

    It keeps x, which on a CPU is worth a third of the training step over keeping what
    forward mode leaves (RESULTS.md).
    """
    return modulated(x, shift, scale, norm)


def modulated(
    x: Float[Array, "b n d"],
    shift: Float[Array, "b m d"],
    scale: Float[Array, "b m d"],
    norm: Norm = "layer",
) -> Float[Array, "b n d"]:
    """LayerNorm or RMSNorm without scale and bias, times (1 + scale), plus shift.

    m is 1 or n. Statistics are float32; returns shift's type. Differentiates in any
    order.
    """
    unit, _ = _normalised(x, norm)
    return (unit * (1 + scale) + shift).astype(shift.dtype)


def _norm_modulate_forward(x, shift, scale, norm):
    return modulated(x, shift, scale, norm), (x, scale)


def _norm_modulate_backward(norm, kept, dout):
    x, scale = kept
    unit, rate = _normalised(x, norm)
    dout = dout.astype(jnp.float32)
    dunit = dout * (1 + scale)
    dx = dunit
    if norm == "layer":
        dx = dx - dunit.mean(-1, keepdims=True)
    dx = rate * (dx - unit * (dunit * unit).mean(-1, keepdims=True))
    dshift, dscale = dout, dout * unit
    if scale.shape[1] == 1:
        dshift = dshift.sum(1, keepdims=True)
        dscale = dscale.sum(1, keepdims=True)
    kinds = (x.dtype, scale.dtype, scale.dtype)
    grads = (dx, dshift, dscale)
    return tuple(g.astype(kind) for g, kind in zip(grads, kinds, strict=True))


norm_modulate.defvjp(_norm_modulate_forward, _norm_modulate_backward)


def _normalised(x, norm):
    x = x.astype(jnp.float32)
    if norm == "layer":
        x = x - x.mean(-1, keepdims=True)
    rate = jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)
    return x * rate, rate
