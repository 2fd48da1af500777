"""What every quantizer returns, and the pieces they share."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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


def straight_through(z: Float[Array, "*b d"], q: Float[Array, "*b d"]) -> Array:
    """q forward, the identity backward (arXiv:1308.3432)."""
    return z + jax.lax.stop_gradient(q - z)


def nearest(z: Float[Array, "n d"], codewords: Float[Array, "k d"]) -> Int[Array, "n"]:
    """Index of the nearest codeword in L2, computed in float32."""
    # On TPU and GPU a float32 matmul still rounds its inputs unless told not to,
    # and rounded distances pick wrong neighbours.
    dots = jnp.matmul(z, codewords.T, precision="highest")
    return (dots - 0.5 * jnp.square(codewords).sum(-1)).argmax(-1).astype(jnp.int32)


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """x on the unit sphere; finite, with finite gradient, at x = 0."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
