"""Rotary positions (arXiv:2104.09864) on n axes.

The head's width is shared out evenly over the axes; within an axis channel j and
channel j + half are a pair, turned by position * theta^(-j / half).
"""

import jax.numpy as jnp
import numpy as np

from vqdit.shapes import AnyArray, Array, Float


def rotary_table(
    positions: np.ndarray, width: int, theta: float = 10_000.0
) -> np.ndarray:
    """(n, axes) integer positions -> (n, width // 2) float32 angles.

    `width` is a head's width and must hold a pair of channels per axis; raises
    ValueError otherwise. Channels left over by the division do not turn.
    """
    n, axes = positions.shape
    pairs = width // 2 // axes
    if width % 2 or pairs < 1:
        raise ValueError(
            f"a head of width {width} cannot hold rotary pairs for {axes} axes; "
            f"write an even head width of at least {2 * axes}"
        )
    frequencies = theta ** (-np.arange(pairs) / pairs)
    angles = (positions[:, :, None] * frequencies).reshape(n, axes * pairs)
    still = np.zeros((n, width // 2 - axes * pairs))
    return np.concatenate([angles, still], axis=1).astype(np.float32)


def rotate(
    x: Float[Array, "b n h k"], table: Float[AnyArray, "n pairs"]
) -> Float[Array, "b n h k"]:
    """Turns every pair of channels by its token's angle, in float32."""
    cos, sin = jnp.cos(table)[:, None], jnp.sin(table)[:, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, first * sin + second * cos]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
