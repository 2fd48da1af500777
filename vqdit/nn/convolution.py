"""Convolutions whose border and stride are chosen for each axis."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from vqdit.nn.products import Convolution, convolution
from vqdit.shapes import Array, Float
from vqdit.signal.grids import Border

KERNEL = 3
lecun = nn.initializers.lecun_normal()


def convolve(
    x: Float[Array, "b *grid c"],
    out: int,
    name: str,
    borders: Sequence[Border],
    strides: Sequence[int] = (),
    dtype: str = "float32",
    implementation: Convolution | None = None,
    precision: str | None = None,
) -> Float[Array, "b *grid2 out"]:
    """A convolution of 3 sites an axis, as a submodule of whoever calls it.

    borders: what lies outside, an axis each: "zero"; "wrap", the other end of a circle;
        "past", the first site again and again, and nothing after the last, so that no
        output sees what comes later; "alone", the axis is not looked along at all.
    strides: 1 or 2 an axis. With 2, zeros and circles are padded after, not around, the
        published models' convention; a sequence of 1 + 2 k sites becomes 1 + k.
    implementation: of `products.convolution`. precision: of its sums, as jax has it.
    """
    strides = tuple(strides) or (1,) * len(borders)
    kernel = tuple(1 if border == "alone" else KERNEL for border in borders)
    zeros, wraps, pasts = [], [(0, 0)], [(0, 0)]
    for border, stride in zip(borders, strides, strict=True):
        around = (1, 1) if stride == 1 else (0, 1)
        zeros.append(around if border == "zero" else (0, 0))
        wraps.append(around if border == "wrap" else (0, 0))
        pasts.append((KERNEL - 1, 0) if border == "past" else (0, 0))
    if "wrap" in borders:
        x = jnp.pad(x, (*wraps, (0, 0)), mode="wrap")
    if "past" in borders:
        x = jnp.pad(x, (*pasts, (0, 0)), mode="edge")
    conv = nn.Conv(
        out,
        kernel,
        strides=strides,
        padding=zeros,
        dtype=dtype,
        precision=precision,
        kernel_init=_present(strides[0]) if borders[0] == "past" else lecun,
        conv_general_dilated=convolution(implementation),
        name=name,
    )
    return conv(x)


def _present(stride):
    """A convolution over past and present that starts as one of the present alone.

    MAGVIT's inflation of an image's kernels (arXiv:2212.05199, section 3.1), with new
    ones; a step in time starts with the mean of its frames. Otherwise a stack of
    convolutions starts by mixing the frames, and a network spends its first thousands
    of steps on taking them apart.
    """

    def init(key, shape, dtype=jnp.float32):
        taps = min(stride, shape[0])
        own = lecun(key, shape[1:], dtype) / taps
        return jnp.zeros(shape, dtype).at[-taps:].set(own)

    return init


def upsample(
    x: Float[Array, "b *grid c"], borders: Sequence[Border], strides: Sequence[int]
) -> Float[Array, "b *grid2 c"]:
    """Repeats every site; the first of a causal axis stays alone, 1 + k -> 1 + 2 k."""
    for axis, (border, stride) in enumerate(zip(borders, strides, strict=True), 1):
        x = jnp.repeat(x, stride, axis=axis)
        if border == "past":
            x = lax.slice_in_dim(x, stride - 1, None, axis=axis)
    return x
