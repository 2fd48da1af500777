"""VQGAN's convolutional encoder and decoder (arXiv:2012.09841), for n spatial axes.

Parameter counts in 2-D equal those of CompVis/taming-transformers and LlamaGen.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vqdit.nn.convolution import Border, convolve, upsample
from vqdit.signal.grids import divide, fold, unfold


class ConvEncoder(nn.Module):
    """(b, *grid, c) -> (b, *grid / factor, out).

    channels:    width of the first level; level i has channels * multipliers[i].
    blocks:      residual blocks a level.
    attention:   one flag a level: attention after each of its blocks.
    mid_attention: attention between the two blocks at the bottom.
    out:         channels returned (VQGAN's z_channels).
    dims:        spatial axes of the signal.
    wrap:        one flag an axis: the axis is a circle, such as a lidar's azimuth; ()
        for none. Turning the signal by a multiple of the factor turns the latents.
    strides:     one tuple for each level but the last, 1 or 2 an axis: how the grid
        shrinks after it; () halves every axis every time.
    patch:       sites that are folded into channels before the first convolution,
        which spares the largest grids: of every axis, or one number an axis; 1 for
        none.
    temporal:    for clips, one flag a level: whether its convolutions look along the
        first axis, () for all. Without, a level works on pictures, each on its own,
        with a third of the products; steps along the axis look along it in any case.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = ()
    mid_attention: bool = True
    out: int = 256
    dims: int = 2
    dtype: str = "float32"
    wrap: tuple[bool, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    patch: int | tuple[int, ...] = 1
    temporal: tuple[bool, ...] = ()

    @property
    def borders(self) -> tuple[Border, ...]:
        """What lies outside, an axis each."""
        return _borders(self)

    @property
    def factor(self) -> int | tuple[int, ...]:
        """How much smaller the grid comes out; a tuple where the axes differ."""
        return total_factor(self)

    @property
    def context(self) -> tuple[int, int]:
        """Refused: what an output depends on has no bounds here."""
        return _unbounded(self)

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of a signal with these sides.

        Raises ValueError, naming the nearest sides that fit, if it has none.
        """
        if len(shape) != self.dims:
            raise ValueError(
                f"a tokenizer of dims={self.dims} takes {self.dims} axes, not {shape}"
            )
        return divide(shape, self.factor)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        _check_axes(x, self.dims)
        self.grid(x.shape[1:-1])
        return encode(self, x)


class ConvDecoder(nn.Module):
    """(b, *grid, d) -> (b, *grid * factor, out): the encoder's mirror.

    One block a level more than the encoder, nearest-neighbour upsampling and a
    convolution between levels; `out` is the signal's channels. `wrap`, `strides`,
    `patch` and `temporal` are the encoder's.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = ()
    mid_attention: bool = True
    out: int = 3
    dims: int = 2
    dtype: str = "float32"
    wrap: tuple[bool, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    patch: int | tuple[int, ...] = 1
    temporal: tuple[bool, ...] = ()

    @property
    def borders(self) -> tuple[Border, ...]:
        """What lies outside, an axis each."""
        return _borders(self)

    @property
    def factor(self) -> int | tuple[int, ...]:
        """How much larger the grid comes out; a tuple where the axes differ."""
        return total_factor(self)

    @property
    def context(self) -> tuple[int, int]:
        """Refused: what an output depends on has no bounds here."""
        return _unbounded(self)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        _check_axes(x, self.dims)
        return decode(self, x)


def encode(
    owner: nn.Module, x: Float[Array, "b *grid c"]
) -> Float[Array, "b *grid2 d"]:
    """The layers of a convolutional encoder; called where they are its submodules."""
    strides, flags = level_strides(owner), _flags(owner)
    x = fold(x.astype(owner.dtype), owner.borders, patches_of(owner))
    part = _parts(owner, 0)
    x = part.conv(owner.channels, "conv_in")(x)
    for i, multiplier in enumerate(owner.multipliers):
        part = _parts(owner, i)
        for j in range(owner.blocks):
            x = part.residual(owner.channels * multiplier, f"down_{i}_block_{j}")(x)
            if flags[i]:
                x = part.attention(f"down_{i}_attention_{j}")(x)
        if i < len(owner.multipliers) - 1:
            part = _parts(owner, i, strides[i])
            x = part.conv(x.shape[-1], f"down_{i}_conv", strides=strides[i])(x)
    x = part.middle(x, owner.mid_attention)
    x = nn.silu(part.norm("norm_out")(x))
    return part.conv(owner.out, "conv_out")(x)


def decode(
    owner: nn.Module, x: Float[Array, "b *grid d"]
) -> Float[Array, "b *grid2 c"]:
    """The layers of a convolutional decoder; called where they are its submodules."""
    flags, strides = _flags(owner), level_strides(owner)
    part = _parts(owner, len(owner.multipliers) - 1)
    x = part.conv(owner.channels * owner.multipliers[-1], "conv_in")(
        x.astype(owner.dtype)
    )
    x = part.middle(x, owner.mid_attention)
    for i in reversed(range(len(owner.multipliers))):
        part = _parts(owner, i)
        for j in range(owner.blocks + 1):
            width = owner.channels * owner.multipliers[i]
            x = part.residual(width, f"up_{i}_block_{j}")(x)
            if flags[i]:
                x = part.attention(f"up_{i}_attention_{j}")(x)
        if i:
            x = upsample(x, owner.borders, strides[i - 1])
            part = _parts(owner, i - 1, strides[i - 1])
            x = part.conv(x.shape[-1], f"up_{i}_conv")(x)
    x = nn.silu(part.norm("norm_out")(x))
    patches = patches_of(owner)
    out = owner.out * math.prod(patches)
    # float32: the reconstruction meets the loss.
    x = part.conv(out, "conv_out", "float32")(x).astype(jnp.float32)
    return unfold(x, owner.borders, patches)


class _parts:
    """Layers with the borders of one of the owner's levels and its dtype filled in."""

    def __init__(self, owner, level, strides=(1,)):
        self.borders, self.dtype = owner.borders, owner.dtype
        if not looks_along(owner, level, strides[0]):
            self.borders = ("alone", *self.borders[1:])

    def conv(self, out, name, dtype=None, strides=()):
        return lambda x: convolve(
            x, out, name, self.borders, strides, dtype or self.dtype
        )

    def norm(self, name):
        return _within(self.borders, GroupNorm(self.dtype, name=name))

    def residual(self, out, name):
        return ResidualBlock(out, self.borders, self.dtype, name=name)

    def attention(self, name):
        return _within(self.borders, AttentionBlock(self.dtype, name=name))

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
    borders: tuple[Border, ...]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid out"]:
        conv = lambda h, name: convolve(h, self.out, name, self.borders, (), self.dtype)
        norm = lambda name: _within(self.borders, GroupNorm(self.dtype, name=name))
        h = nn.silu(norm("norm_0")(x))
        h = conv(h, "conv_0")
        h = nn.silu(norm("norm_1")(h))
        h = conv(h, "conv_1")
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


def _within(borders, mixing):
    """A module that mixes all sites, kept within each frame where time is causal."""
    if borders[0] not in ("past", "alone"):
        return mixing
    return lambda x: mixing(x.reshape(-1, *x.shape[2:])).reshape(x.shape)


def patches_of(owner: nn.Module) -> tuple[int, ...]:
    """Sites that are folded into channels at the start, an axis each."""
    patch, axes = owner.patch, owner.borders
    if isinstance(patch, int):
        # Of a causal axis only where that is written: it makes frames see each other.
        patch = tuple(1 if border == "past" else patch for border in axes)
    if len(patch) != len(axes) or min(patch) < 1:
        raise ValueError(
            f"{type(owner).__name__}.patch={owner.patch}: write at least 1, or "
            f"{len(axes)} numbers of at least 1, one an axis"
        )
    return patch


def looks_along(owner: nn.Module, level: int, stride: int = 1) -> bool:
    """Whether a level, or a step out of it, looks along the first axis."""
    flags = owner.temporal or (True,) * len(owner.multipliers)
    if len(flags) != len(owner.multipliers):
        raise ValueError(
            f"{type(owner).__name__}.temporal has {len(flags)} flags for "
            f"{len(owner.multipliers)} levels; write one a level"
        )
    return flags[level] or stride > 1


def _flags(owner):
    flags = owner.attention or (False,) * len(owner.multipliers)
    if len(flags) != len(owner.multipliers):
        raise ValueError(
            f"{type(owner).__name__}.attention has {len(flags)} flags for "
            f"{len(owner.multipliers)} levels; write one a level"
        )
    return flags


def _unbounded(owner):
    raise ValueError(
        f"{type(owner).__name__} cannot work in chunks: its GroupNorm takes statistics "
        f"over the whole signal, so every output depends on all of it; use WaveEncoder "
        f"and WaveDecoder, or CausalEncoder and CausalDecoder"
    )


def _borders(owner):
    wrap = owner.wrap or (False,) * owner.dims
    if len(wrap) != owner.dims:
        raise ValueError(
            f"{type(owner).__name__}.wrap has {len(wrap)} flags for dims={owner.dims}; "
            f"write one an axis"
        )
    return tuple("wrap" if around else "zero" for around in wrap)


def level_strides(owner: nn.Module) -> tuple[tuple[int, ...], ...]:
    """How the grid shrinks after each level but the last, an axis each."""
    steps = len(owner.multipliers) - 1
    strides = owner.strides or ((2,) * owner.dims,) * steps
    if len(strides) != steps or any(len(step) != owner.dims for step in strides):
        raise ValueError(
            f"{type(owner).__name__}.strides {strides}: write one tuple of "
            f"{owner.dims} for each level but the last, {steps} in all"
        )
    if not {stride for step in strides for stride in step} <= {1, 2}:
        raise ValueError(f"{type(owner).__name__}.strides {strides}: write 1 or 2")
    return strides


def total_factor(owner: nn.Module) -> int | tuple[int, ...]:
    """The product of patch and strides; a tuple where the axes differ."""
    steps = (patches_of(owner), *level_strides(owner))
    factors = [math.prod(axis) for axis in zip(*steps, strict=True)]
    return factors[0] if len(set(factors)) == 1 else tuple(factors)


def _check_axes(x, dims):
    if x.ndim != dims + 2:
        raise ValueError(
            f"a tokenizer of dims={dims} takes (b, *{dims} axes, c); got {x.shape}"
        )
