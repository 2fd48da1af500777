"""Errors of a reconstruction, value by value, and their mean over what was observed."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp

from vqdit.shapes import Array, Float

Pixel = Literal["l1", "l2", "charbonnier"]


def charbonnier(error: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt(e^2 + 1e-6) - 1e-3: |e| with a round bottom (arXiv:1710.01992, eq. 4).

    Departs from the paper in taking the constant off, so that no error costs nothing.
    """
    return jnp.sqrt(jnp.square(error) + 1e-6) - 1e-3


# name -> error of every value.
PIXEL: dict[str, Callable] = {
    "l1": jnp.abs,
    "l2": jnp.square,
    "charbonnier": charbonnier,
}


def observed(
    x: Float[Array, "b *shape c"],
    x_hat: Float[Array, "b *shape c"],
    mask: Float[Array, "b *shape m"] | None,
) -> Float[Array, "b *shape c"]:
    """x_hat where the mask is 1 and x elsewhere, so no loss sees what was not observed.

    mask: of the signal's channels, or of one for all of them; None is all ones.
    """
    return x_hat if mask is None else jnp.where(mask > 0, x_hat, x)


def masked_mean(
    error: Float[Array, "b *shape c"], mask: Float[Array, "b *shape m"] | None
) -> Float[Array, ""]:
    """The mean over the values whose mask is 1; 0 where there are none."""
    if mask is None:
        return error.mean()
    mask = jnp.broadcast_to((mask > 0).astype(error.dtype), error.shape)
    return (error * mask).sum() / jnp.maximum(mask.sum(), 1.0)
