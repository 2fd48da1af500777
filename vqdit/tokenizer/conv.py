"""VQGAN's convolutional encoder and decoder (arXiv:2012.09841), for n spatial axes.

Parameter counts in 2-D equal those of CompVis/taming-transformers and LlamaGen.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class ConvEncoder(nn.Module):
    """(b, *grid, c) -> (b, *grid / factor, out).

    channels:    width of the first level; level i has channels * multipliers[i].
    blocks:      residual blocks a level.
    attention:   one flag a level: attention after each of its blocks.
    mid_attention: attention between the two blocks at the bottom.
    out:         channels returned (VQGAN's z_channels).
    dims:        spatial axes of the signal.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = ()
    mid_attention: bool = True
    out: int = 256
    dims: int = 2
    dtype: str = "float32"

    @property
    def factor(self) -> int:
        """How much smaller the grid comes out, per axis."""
        return 2 ** (len(self.multipliers) - 1)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        _check_axes(x, self.dims)
        if any(size % self.factor for size in x.shape[1:-1]):
            raise ValueError(
                f"the signal's sides {x.shape[1:-1]} are not multiples of the "
                f"tokenizer's factor {self.factor}"
            )
        part = _parts(self)
        x = part.conv(self.channels, "conv_in")(x.astype(self.dtype))
        flags = _flags(self)
        for i, multiplier in enumerate(self.multipliers):
            for j in range(self.blocks):
                x = part.residual(self.channels * multiplier, f"down_{i}_block_{j}")(x)
                if flags[i]:
                    x = part.attention(f"down_{i}_attention_{j}")(x)
            if i < len(self.multipliers) - 1:
                # Padded after, not around: the published models' convention.
                x = jnp.pad(x, ((0, 0), *((0, 1),) * self.dims, (0, 0)))
                down = nn.Conv(
                    x.shape[-1],
                    (3,) * self.dims,
                    strides=2,
                    padding="VALID",
                    dtype=self.dtype,
                    name=f"down_{i}_conv",
                )
                x = down(x)
        x = part.middle(x, self.mid_attention)
        x = nn.silu(part.norm("norm_out")(x))
        return part.conv(self.out, "conv_out")(x)


class ConvDecoder(nn.Module):
    """(b, *grid, d) -> (b, *grid * factor, out): the encoder's mirror.

    One block a level more than the encoder, nearest-neighbour upsampling and a
    convolution between levels; `out` is the signal's channels.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = ()
    mid_attention: bool = True
    out: int = 3
    dims: int = 2
    dtype: str = "float32"

    @property
    def factor(self) -> int:
        """How much larger the grid comes out, per axis."""
        return 2 ** (len(self.multipliers) - 1)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        _check_axes(x, self.dims)
        part = _parts(self)
        flags = _flags(self)
        x = part.conv(self.channels * self.multipliers[-1], "conv_in")(
            x.astype(self.dtype)
        )
        x = part.middle(x, self.mid_attention)
        for i in reversed(range(len(self.multipliers))):
            for j in range(self.blocks + 1):
                width = self.channels * self.multipliers[i]
                x = part.residual(width, f"up_{i}_block_{j}")(x)
                if flags[i]:
                    x = part.attention(f"up_{i}_attention_{j}")(x)
            if i:
                for axis in range(1, 1 + self.dims):
                    x = jnp.repeat(x, 2, axis=axis)
                x = part.conv(x.shape[-1], f"up_{i}_conv")(x)
        x = nn.silu(part.norm("norm_out")(x))
        # float32: the reconstruction meets the loss.
        return part.conv(self.out, "conv_out", "float32")(x).astype(jnp.float32)


class _parts:
    """Layers with the owner's dims and dtype filled in."""

    def __init__(self, owner):
        self.dims, self.dtype = owner.dims, owner.dtype

    def conv(self, out, name, dtype=None):
        kernel = (3,) * self.dims
        return nn.Conv(out, kernel, dtype=dtype or self.dtype, name=name)

    def norm(self, name):
        return GroupNorm(self.dtype, name=name)

    def residual(self, out, name):
        return ResidualBlock(out, self.dims, self.dtype, name=name)

    def attention(self, name):
        return AttentionBlock(self.dtype, name=name)

    def middle(self, x, attention):
        x = self.residual(x.shape[-1], "mid_block_0")(x)
        if attention:
            x = self.attention("mid_attention")(x)
        return self.residual(x.shape[-1], "mid_block_1")(x)


class GroupNorm(nn.Module):
    """32 groups, or as many as divide the channels. Statistics are float32."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid c"]:
        groups = math.gcd(32, x.shape[-1])
        if groups == x.shape[-1]:
            groups = max(groups // 4, 1)  # a group of one channel on 1 site is all zero
        return nn.GroupNorm(groups, epsilon=1e-6, dtype=self.dtype, name="norm")(x)


class ResidualBlock(nn.Module):
    """Two convolutions with GroupNorm and SiLU before each."""

    out: int
    dims: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid out"]:
        kernel = (3,) * self.dims
        h = nn.silu(GroupNorm(self.dtype, name="norm_0")(x))
        h = nn.Conv(self.out, kernel, dtype=self.dtype, name="conv_0")(h)
        h = nn.silu(GroupNorm(self.dtype, name="norm_1")(h))
        h = nn.Conv(self.out, kernel, dtype=self.dtype, name="conv_1")(h)
        if x.shape[-1] != self.out:
            x = nn.Dense(self.out, dtype=self.dtype, name="shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """Single-head self-attention over all sites, residual."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid c"]:
        c = x.shape[-1]
        h = GroupNorm(self.dtype, name="norm")(x).reshape(x.shape[0], -1, 1, c)
        dense = lambda name: nn.Dense(c, dtype=self.dtype, name=name)
        q, k, v = dense("query")(h), dense("key")(h), dense("value")(h)
        h = jax.nn.dot_product_attention(q, k, v)
        return x + dense("out")(h).reshape(x.shape)


def _flags(owner):
    flags = owner.attention or (False,) * len(owner.multipliers)
    if len(flags) != len(owner.multipliers):
        raise ValueError(
            f"{type(owner).__name__}.attention has {len(flags)} flags for "
            f"{len(owner.multipliers)} levels; write one a level"
        )
    return flags


def _check_axes(x, dims):
    if x.ndim != dims + 2:
        raise ValueError(
            f"a tokenizer of dims={dims} takes (b, *{dims} axes, c); got {x.shape}"
        )
