"""Group normalisation whose variance is a mean of squares, not a difference of two."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from vqdit.shapes import Array, Float

# A group of this variance or less is constant to rounding.
CONSTANT = 1e-12


class GroupNorm(nn.Module):
    """Zero mean and unit variance in each group of channels (arXiv:1803.08494, eq. 7).

    groups: how many; None for as many of 32 as divide the channels, or a quarter of
        that where it would leave one channel a group.

    Statistics are float32 and take two passes: the mean of squares less the square of
    the mean loses a constant input's variance to rounding. A constant group has no
    gradient: its true one is epsilon ** -0.5 = 1,000, and a chain of ten such layers on
    an all-zero signal overflows. Raises ValueError where the channels do not divide.
    """

    groups: int | None = None
    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid c"]:
        channels = x.shape[-1]
        groups = groups_of(channels) if self.groups is None else self.groups
        if groups < 1 or channels % groups:
            raise ValueError(
                f"{groups} groups do not divide {channels} channels; write "
                f"groups={math.gcd(max(groups, 1), channels)}"
            )
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        x = x.astype(jnp.float32)
        x = x - _mean(x, groups)
        variance = _mean(jnp.square(x), groups)
        gain = jnp.where(variance > CONSTANT, lax.rsqrt(variance + self.epsilon), 0.0)
        return (x * (gain * scale) + bias).astype(self.dtype)


def groups_of(channels: int) -> int:
    """32 groups, or as many as divide the channels, of at least two channels."""
    groups = math.gcd(32, channels)
    # A group of one channel on one site is all zero.
    return max(groups // 4, 1) if groups == channels else groups


def _mean(x, groups):
    """Over a group: sites first, then channels, which a CPU sums fastest."""
    batch, *grid, channels = x.shape
    mean = x.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
    mean = mean.reshape(batch, groups, -1).mean(-1)
    mean = jnp.repeat(mean, channels // groups, axis=-1)
    return mean.reshape(batch, *(1,) * len(grid), channels)
