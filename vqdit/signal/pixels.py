"""Pixels to signals and back."""

import jax.numpy as jnp

from vqdit.shapes import AnyArray, Array, Float, Num, UInt8


def to_signal(image: Num[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
    """uint8 pixels -> float32 in [-1, 1]; floats pass through."""
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 127.5 - 1.0
    return image.astype(jnp.float32)


def to_uint8(x: Float[AnyArray, "*shape"]) -> UInt8[Array, "*shape"]:
    """[-1, 1] -> the nearest of 256 levels; values outside are clipped.

    The exact inverse of `to_signal` on its range.
    """
    return jnp.clip(jnp.round((x + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
