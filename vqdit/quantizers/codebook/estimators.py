"""How a gradient gets past the choice of a code."""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.shapes import Array, Float

Estimator = Literal["straight_through", "rotation"]


def estimate(estimator: Estimator, z: Array, q: Array) -> Array:
    """q forward; backward what the estimator says."""
    return {"straight_through": straight_through, "rotation": rotation}[estimator](z, q)


def straight_through(z: Float[Array, "*b d"], q: Float[Array, "*b d"]) -> Array:
    """q forward, the identity backward (arXiv:1308.3432)."""
    return z + jax.lax.stop_gradient(q - z)


def rotation(z: Float[Array, "*b d"], q: Float[Array, "*b d"]) -> Array:
    """The rotation trick (arXiv:2410.06424, eq. 4): lambda R z, with lambda and R held.

    R turns z's direction into q's, lambda = |q| / |z|, so a gradient keeps its angle to
    q when it moves to z. R z = z - 2 r (r . z) + 2 q^ (z^ . z), r = unit(z^ + q^), is
    the paper's section 4.2 without forming R. Straight-through where there is no such
    rotation: a vector of zero length, or two that are opposite.
    """
    value, q = jax.lax.stop_gradient((z, q))
    z_size, q_size = _norm(value), _norm(q)
    z_unit, q_unit = value / jnp.maximum(z_size, _TINY), q / jnp.maximum(q_size, _TINY)
    between = z_unit + q_unit
    size = _norm(between)
    r = between / jnp.maximum(size, _TINY)
    along, across = (r * z).sum(-1, keepdims=True), (z_unit * z).sum(-1, keepdims=True)
    turned = z - 2 * r * along + 2 * q_unit * across
    turned = turned * (q_size / jnp.maximum(z_size, _TINY))
    exists = (z_size > _TINY) & (q_size > _TINY) & (size > 1e-3)
    out = jnp.where(exists, turned, z)
    # The rounding of the rotation stays out of the value.
    return out + jax.lax.stop_gradient(q - out)


_TINY = 1e-6


def _norm(x):
    return jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))
