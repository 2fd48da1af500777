"""The fields and the layers of a convolutional backbone."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax

from vqdit.fields import Bound, Checked, Count
from vqdit.nn.convolution import convolve
from vqdit.nn.group_norm import GroupNorm, groups_of
from vqdit.nn.products import Convolution
from vqdit.nn.remat import Remat, recomputed, remat_by_word
from vqdit.shapes import Array, Float
from vqdit.signal.grids import Border

Stride = Annotated[int, Bound(at_least=1, at_most=2)]


class ConvSpec(Checked, nn.Module):
    """The fields that a convolutional encoder and its decoder share.

    channels:    width of the first level; level i has channels * multipliers[i].
    multipliers: one a level, from the signal's own grid down.
    blocks:      residual blocks a level.
    attention:   one flag a level: attention after each of its blocks; () for none.
    mid_attention: attention between the two blocks at the bottom.
    out:         channels returned: VQGAN's z_channels, or the signal's.
    dims:        spatial axes of the signal.
    wrap:        one flag an axis: the axis is a circle, such as a lidar's azimuth; ()
        for none. Turning the signal by a multiple of the factor turns the latents.
    strides:     one tuple for each level but the last, 1 or 2 an axis: how the grid
        shrinks after it; () halves every axis every time.
    patch:       sites that are folded into channels before the first convolution, which
        spares the largest grids: one number an axis, or one for all but a causal axis.
    temporal:    for clips, one flag a level: whether its convolutions look along the
        first axis, () for all. Without, a level works on pictures, each on its own,
        with a third of the products; steps along the axis look along it in any case.
    causal:      the first axis is time, and nothing sees what comes later on it; its
        patch folds t frames at once, and the first by itself.
    widths:      of the levels, in place of channels and multipliers.
    groups:      of every GroupNorm, 32 in the published models; None for as many of 32
        as divide the width, or a quarter of that where it leaves one channel a group.
    dtype:       of activations and products; parameters and norms are float32.
    remat:       what of a block the backward pass computes again (`vqdit.nn.remat`).
    implementation: of `nn.products.convolution`, in every convolution.
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
    strides: tuple[tuple[Stride, ...], ...] = ()
    patch: Count | tuple[Count, ...] = 1
    temporal: tuple[bool, ...] = ()
    causal: bool = False
    widths: tuple[Count, ...] = ()
    groups: Count | None = None
    remat: Remat | None = None
    implementation: Convolution | None = None

    def __post_init__(self):
        super().__post_init__()
        kind = type(self)
        plain = (self.channels, self.multipliers) == (kind.channels, kind.multipliers)
        advice = "write widths, or channels and multipliers"
        self.check("widths", plain or not self.widths, advice)
        if self.groups is not None:
            widths = (*self.levels, self.stem)
            fit = math.gcd(*widths, self.groups)
            advice = f"does not divide the widths {widths}; write groups={fit}"
            self.check("groups", fit == self.groups, advice)

    @staticmethod
    def upgraded(fields: dict[str, Any]) -> dict[str, Any]:
        """Files that say no groups had as many as each of the widths allowed."""
        fields = remat_by_word(fields)
        if "groups" in fields or not {"channels", "multipliers"} <= set(fields):
            return fields
        widths = [fields["channels"] * m for m in (1, *fields["multipliers"])]
        counts = {groups_of(width) for width in widths}
        return {**fields, "groups": counts.pop()} if len(counts) == 1 else fields

    @property
    def levels(self) -> tuple[int, ...]:
        """Width of each level, from the finest."""
        return self.widths or tuple(self.channels * m for m in self.multipliers)

    @property
    def stem(self) -> int:
        """Width of an encoder's first convolution."""
        return self.widths[0] if self.widths else self.channels

    @property
    def borders(self) -> tuple[Border, ...]:
        """What lies outside, an axis each."""
        wrap = self.wrap or (False,) * self.dims
        advice = f"{len(wrap)} flags for dims={self.dims}; write one an axis"
        self.check("wrap", len(wrap) == self.dims, advice)
        round_time = self.causal and wrap[0]
        self.check("wrap", not round_time, "time does not go round; write (False, ...)")
        around: list[Border] = ["wrap" if flag else "zero" for flag in wrap]
        return ("past", *around[1:]) if self.causal else tuple(around)

    @property
    def patches(self) -> tuple[int, ...]:
        """Sites that are folded into channels at the start, an axis each."""
        patch, axes = self.patch, self.borders
        if isinstance(patch, int):
            # Of a causal axis only where that is written: frames then see each other.
            patch = tuple(1 if border == "past" else patch for border in axes)
        advice = f"write one number, or {len(axes)} numbers, one an axis"
        self.check("patch", len(patch) == len(axes), advice)
        return patch

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        """How the grid shrinks after each level but the last, an axis each."""
        count = len(self.levels) - 1
        steps = self.strides or ((2,) * self.dims,) * count
        fits = len(steps) == count and all(len(step) == self.dims for step in steps)
        advice = f"write one tuple of {self.dims} a level but the last, {count} in all"
        self.check("strides", fits, advice)
        return steps

    @property
    def factor(self) -> tuple[int, ...]:
        """Sites of the signal for one of the grid, an axis each."""
        steps = (self.patches, *self.steps)
        return tuple(math.prod(axis) for axis in zip(*steps, strict=True))

    def flags(self, field: str, default: bool) -> tuple[bool, ...]:
        """`attention` or `temporal`, one a level."""
        flags = getattr(self, field) or (default,) * len(self.levels)
        advice = f"{len(flags)} flags for {len(self.levels)} levels; write one a level"
        self.check(field, len(flags) == len(self.levels), advice)
        return flags

    def looks(self, level: int, stride: int = 1) -> bool:
        """Whether a level, or a step out of it, looks along the first axis."""
        return self.flags("temporal", True)[level] or stride > 1

    def check_axes(self, x: Array) -> None:
        """Raises ValueError for another number of axes than `dims`."""
        if x.ndim != self.dims + 2:
            raise ValueError(
                f"a tokenizer of dims={self.dims} takes (b, *{self.dims} axes, c); "
                f"got {x.shape}"
            )


class Level:
    """Layers with the borders of one of the owner's levels and its fields filled in."""

    def __init__(self, owner, level, strides=(1,)):
        self.owner, self.dtype, self.groups = owner, owner.dtype, owner.groups
        self.borders = owner.borders
        if not owner.looks(level, strides[0]):
            self.borders = ("alone", *self.borders[1:])

    def conv(self, out, name, dtype=None, strides=()):
        # A type of its own is float32's, which an accelerator's products round.
        precision = "highest" if dtype else None
        fields = (dtype or self.dtype, self.owner.implementation, precision)
        return lambda x: convolve(x, out, name, self.borders, strides, *fields)

    def norm(self, name):
        return within(self.borders, NestedGroupNorm(self.groups, self.dtype, name=name))

    def residual(self, out, name):
        block = recomputed(ResidualBlock, self.owner.remat)
        fields = (self.dtype, self.groups, self.owner.implementation)
        return block(out, self.borders, *fields, name=name)

    def attention(self, name):
        block = recomputed(AttentionBlock, self.owner.remat)
        return within(self.borders, block(self.dtype, self.groups, name=name))

    def middle(self, x):
        x = self.residual(x.shape[-1], "mid_block_0")(x)
        if self.owner.mid_attention:
            x = self.attention("mid_attention")(x)
        return self.residual(x.shape[-1], "mid_block_1")(x)


class NestedGroupNorm(nn.Module):
    """GroupNorm, whose parameters trained files keep one name further down."""

    groups: int | None = None
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid c"]:
        return GroupNorm(self.groups, dtype=self.dtype, name="norm")(x)


class ResidualBlock(nn.Module):
    """Two convolutions with GroupNorm and SiLU before each."""

    out: int
    borders: tuple[Border, ...]
    dtype: str = "float32"
    groups: int | None = None
    implementation: Convolution | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid out"]:
        fields = (self.borders, (), self.dtype, self.implementation)
        conv = lambda h, name: convolve(h, self.out, name, *fields)
        norm = lambda name: within(
            self.borders, NestedGroupNorm(self.groups, self.dtype, name=name)
        )
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
    groups: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid c"]:
        c = x.shape[-1]
        h = NestedGroupNorm(self.groups, self.dtype, name="norm")(x).reshape(
            x.shape[0], -1, 1, c
        )
        dense = lambda name: nn.Dense(c, dtype=self.dtype, name=name)
        q, k, v = dense("query")(h), dense("key")(h), dense("value")(h)
        h = jax.nn.dot_product_attention(q, k, v)
        return x + dense("out")(h).reshape(x.shape)


def within(borders: Sequence[Border], mixing: nn.Module) -> Callable[[Array], Array]:
    """A module that mixes all sites, kept within each frame where time is causal."""
    if borders[0] not in ("past", "alone"):
        return mixing
    return lambda x: mixing(x.reshape(-1, *x.shape[2:])).reshape(x.shape)
