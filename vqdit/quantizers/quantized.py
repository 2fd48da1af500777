"""What every quantizer returns."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from vqdit.shapes import Array, Float


class Quantized(flax.struct.PyTreeNode):
    """A quantizer's answer.

    latents: (*b, d) input to the decoder, in z's dtype; its gradient reaches z.
    codes:   (*b, m) int32, one column per codebook; None for continuous latents.
    losses:  name -> scalar, unweighted. Weights belong to the objective.
    metrics: name -> scalar, no gradient.

    Fields are Any: JAX also rebuilds this with shardings or None inside.
    """

    latents: Any
    codes: Any
    losses: dict[str, Any]
    metrics: dict[str, Any]


def mean_square(a: Array, b: Array) -> Float[Array, ""]:
    """The mean over everything of (a - b)^2."""
    return jnp.square(a - b).mean()


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """x on the unit sphere; finite, with finite gradient, at x = 0."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
