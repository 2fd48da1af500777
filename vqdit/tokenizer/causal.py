"""Causal 3-D convolutions for video (MAGVIT-v2, arXiv:2310.05737, section 3.2).

A frame is never seen by what comes before it, so the first frame alone is an image and
1 + t k frames become 1 + k. Departs from the paper as Cosmos does (arXiv:2501.03575,
section 5): before the first frame stands the first frame, not zeros, so that an image
is a video in which nothing moves. Normalisation and attention stay within a frame;
statistics over time would let the later ones be seen.
"""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from vqdit.nn.convolution import KERNEL, Border
from vqdit.signal.grids import divide_frames
from vqdit.tokenizer.conv import (
    decode,
    encode,
    level_strides,
    looks_along,
    patches_of,
    total_factor,
)


class CausalEncoder(nn.Module):
    """(b, 1 + t k, h, w, c) -> (b, 1 + k, h / s, w / s, out), `factor` (t, s, s).

    strides: one triple (time, height, width) for each level but the last, 1 or 2 each;
        () halves every axis every time.
    attention: one flag a level; within a frame, as is `mid_attention`.
    patch: side of the squares of a frame that are folded into channels at the start, or
        (time, height, width): t frames at once, and the first by itself, as in Cosmos,
        spares the layers that see all frames.
    The other fields, `temporal` among them, are ConvEncoder's.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    strides: tuple[tuple[int, int, int], ...] = ()
    attention: tuple[bool, ...] = ()
    mid_attention: bool = False
    out: int = 256
    dtype: str = "float32"
    patch: int | tuple[int, int, int] = 1
    temporal: tuple[bool, ...] = ()

    dims: ClassVar[int] = 3
    borders: ClassVar[tuple[Border, ...]] = ("past", "zero", "zero")

    @property
    def factor(self) -> tuple[int, int, int]:
        """How much smaller time, height and width come out."""
        return _factors(self)

    @property
    def context(self) -> tuple[int, int]:
        """Frames before and after frame t n that latent n sees."""
        last = len(self.multipliers) - 1
        convs = lambda count, level: [_conv(1)] * (count * looks_along(self, level))
        patch = patches_of(self)[0]
        layers = [_conv(patch, kernel=patch), *convs(1, 0)]
        for i, (stride, *_) in enumerate(level_strides(self)):
            step = [_conv(stride)] * looks_along(self, i, stride)
            layers += [*convs(2 * self.blocks, i), *step]
        layers += convs(2 * self.blocks + 4 + 1, last)
        return -_first_seen(layers, 0), 0

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of (frames, height, width).

        Raises ValueError, naming the nearest that fit, for sides that do not divide and
        frames that are not 1 + t k.
        """
        return divide_frames(shape, self.factor)

    @nn.compact
    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b n gh gw out"]:
        self.grid(x.shape[1:-1])
        return encode(self, x)


class CausalDecoder(nn.Module):
    """(b, 1 + k, h, w, d) -> (b, 1 + t k, h s, w s, out): the encoder's mirror."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    strides: tuple[tuple[int, int, int], ...] = ()
    attention: tuple[bool, ...] = ()
    mid_attention: bool = False
    out: int = 3
    dtype: str = "float32"
    patch: int | tuple[int, int, int] = 1
    temporal: tuple[bool, ...] = ()

    dims: ClassVar[int] = 3
    borders: ClassVar[tuple[Border, ...]] = ("past", "zero", "zero")

    @property
    def factor(self) -> tuple[int, int, int]:
        """How much larger time, height and width come out."""
        return _factors(self)

    @property
    def context(self) -> tuple[int, int]:
        """Latents before and after latent n that its frames, up to frame t n, see."""
        last = len(self.multipliers) - 1
        convs = lambda count, level: [_conv(1)] * (count * looks_along(self, level))
        layers = convs(1 + 4 + 2 * (self.blocks + 1), last)
        for i, (stride, *_) in reversed([*enumerate(level_strides(self))]):
            step = [_conv(1)] * looks_along(self, i, stride)
            layers += [_up(stride), *step, *convs(2 * (self.blocks + 1), i)]
        layers += [*convs(1, 0), _up(patches_of(self)[0])]
        t = self.factor[0]
        return max(-_first_seen(layers, frame) for frame in range(1 - t, 1)), 0

    @nn.compact
    def __call__(self, x: Float[Array, "b n gh gw d"]) -> Float[Array, "b f h w out"]:
        return decode(self, x)


def _factors(owner):
    factor = total_factor(owner)
    return factor if isinstance(factor, tuple) else (factor,) * 3


# For output i of a layer: the first input it sees. Negative ones are in the past too.
def _conv(stride, kernel=KERNEL):
    return lambda i: stride * i - (kernel - 1)


def _up(stride):
    return lambda i: -(-i // stride)


def _first_seen(layers, i):
    """The first input that output i of these layers, first to last, depends on."""
    for first in reversed(layers):
        i = first(i)
    return i
