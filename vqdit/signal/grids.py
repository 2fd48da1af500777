"""Grids: the cells of a signal's sides, and patches folded into channels."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp

from vqdit.shapes import AnyArray, Shaped

# What lies outside an axis: see `vqdit.nn.convolution.convolve`.
Border = Literal["zero", "wrap", "past", "alone"]


def fold(
    x: Shaped[AnyArray, "b *grid c"],
    patches: Sequence[int],
    borders: Sequence[Border] = (),
) -> Shaped[Any, "b *grid2 c2"]:
    """Patches of a grid into channels: (b, *grid / patches, prod(patches) * c).

    Of a causal axis the first site is a patch of its own, many times over: 1 + p k
    sites become 1 + k, and none sees what comes later.
    """
    first = _copies(patches, borders)
    if any(first):
        x = jnp.pad(x, [(0, 0), *((n, 0) for n in first), (0, 0)], mode="edge")
    batch, *grid, channels = x.shape
    coarse = [size // p for size, p in zip(grid, patches, strict=True)]
    split = [n for pair in zip(coarse, patches, strict=True) for n in pair]
    dims = len(grid)
    order = (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1)
    x = x.reshape(batch, *split, channels).transpose(order)
    return x.reshape(batch, *coarse, math.prod(patches) * channels)


def unfold(
    x: Shaped[AnyArray, "b *grid c"],
    patches: Sequence[int],
    borders: Sequence[Border] = (),
) -> Shaped[Any, "b *grid2 c2"]:
    """The inverse of `fold`; of the copies of a causal axis's first site, the last."""
    batch, *grid, channels = x.shape
    dims, channels = len(grid), channels // math.prod(patches)
    order = [axis for i in range(dims) for axis in (1 + i, 1 + dims + i)]
    x = x.reshape(batch, *grid, *patches, channels).transpose(0, *order, 2 * dims + 1)
    fine = [size * p for size, p in zip(grid, patches, strict=True)]
    x = x.reshape(batch, *fine, channels)
    first = _copies(patches, borders)
    return x[(slice(None), *(slice(n, None) for n in first))]


def _copies(patches, borders):
    """Of the first site that stand before it, an axis each."""
    borders = borders or ("zero",) * len(patches)
    return [(p - 1) * (b == "past") for b, p in zip(borders, patches, strict=True)]


def blocks_of(
    sides: Sequence[int], grid: Sequence[int], borders: Sequence[Border] = ()
) -> tuple[int, ...] | None:
    """The patches by which `fold` brings these sides to the grid; None for no such."""
    if len(sides) != len(grid):
        return None
    patches, alone = [], _copies((2,) * len(grid), borders)
    for n, g, first in zip(sides, grid, alone, strict=True):
        n, g = (n - 1, g - 1) if first else (n, g)  # the first site is its own patch
        patch = n // g if g else 1
        if patch * g != n:
            return None
        patches.append(patch)
    return tuple(patches)


def divide(shape: Sequence[int], factor: tuple[int, ...]) -> tuple[int, ...]:
    """The grid of a signal's sides, `factor` sites a cell.

    Raises ValueError, naming the nearest sides that fit, where one does not.
    """
    down = tuple(n // f * f for n, f in zip(shape, factor, strict=True))
    up = tuple(-(-n // f) * f for n, f in zip(shape, factor, strict=True))
    if down != up:
        nearest = f"{down} or {up}" if min(down) else f"{up}"
        raise ValueError(
            f"the signal's sides {tuple(shape)} are not multiples of the tokenizer's "
            f"factor {factor}; the nearest that are: {nearest}"
        )
    if not min(shape):
        raise ValueError(f"the signal's sides {tuple(shape)}: write at least {factor}")
    return tuple(n // f for n, f in zip(shape, factor, strict=True))


def divide_samples(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """The grid of a waveform, (l,) -> (l / factor,).

    Raises ValueError, naming the lengths that fit.
    """
    if len(shape) != 1:
        raise ValueError(f"a waveform has one axis, (samples,), not {shape}")
    return divide(shape, (factor,))


def divide_frames(shape: tuple[int, ...], factor: tuple[int, ...]) -> tuple[int, ...]:
    """The grid of a causal signal, time first, such as (frames, height, width).

    Raises ValueError, naming the nearest that fit, for sides that do not divide and
    frames that are not 1 + t k.
    """
    if len(shape) != len(factor):
        axes = ("frames", "height", "width", *("depth",) * len(factor))[: len(factor)]
        raise ValueError(f"a video has ({', '.join(axes)}), not {shape}")
    t, *factors = factor
    frames, *sides = shape
    if frames < 1 or (frames - 1) % t:
        k = max(frames - 1, 0) // t
        raise ValueError(
            f"{frames} frames are not 1 + {t} k; the nearest that are: "
            f"{1 + t * k} or {1 + t * (k + 1)}"
        )
    grid = divide(sides, tuple(factors)) if sides else ()
    return (1 + (frames - 1) // t, *grid)
