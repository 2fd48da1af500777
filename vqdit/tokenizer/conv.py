"""VQGAN's convolutional encoder and decoder (arXiv:2012.09841), for n spatial axes.

Parameter counts in 2-D equal those of CompVis/taming-transformers and LlamaGen.

Causal, they are MAGVIT-v2's for video (arXiv:2310.05737, section 3.2): a frame is never
seen by what comes before it, so the first frame alone is an image and 1 + t k frames
become 1 + k. Departs from the paper as Cosmos does (arXiv:2501.03575, section 5):
before the first frame stands the first frame, not zeros, so that an image is a video in
which nothing moves. Normalisation and attention stay within a frame; statistics over
time would let the later ones be seen.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.convolution import KERNEL, upsample
from vqdit.shapes import Array, Float
from vqdit.signal.grids import divide, divide_frames, fold, unfold
from vqdit.tokenizer.blocks import ConvSpec, Level


class ConvEncoder(ConvSpec):
    """(b, *grid, c) -> (b, *grid / factor, out); causal, 1 + t k frames to 1 + k."""

    @property
    def context(self) -> tuple[int, int] | None:
        """Causal: frames before and after frame t n that latent n sees.

        Else None: GroupNorm takes statistics over the whole signal.
        """
        if not self.causal:
            return None
        patch, last = self.patches[0], len(self.levels) - 1
        layers = [_conv(patch, kernel=patch), *_convs(self, 1, 0)]
        for i, (stride, *_) in enumerate(self.steps):
            step = [_conv(stride)] * self.looks(i, stride)
            layers += [*_convs(self, 2 * self.blocks, i), *step]
        layers += _convs(self, 2 * self.blocks + 4 + 1, last)
        return -_first_seen(layers, 0), 0

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of a signal with these sides.

        Raises ValueError, naming the nearest sides that fit, if it has none.
        """
        if self.causal:
            return divide_frames(shape, self.factor)
        if len(shape) != self.dims:
            raise ValueError(
                f"a tokenizer of dims={self.dims} takes {self.dims} axes, not {shape}"
            )
        return divide(shape, self.factor)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        self.grid(x.shape[1:-1])
        flags = self.flags("attention", False)
        x = fold(x.astype(self.dtype), self.patches, self.borders)
        x = Level(self, 0).conv(self.stem, "conv_in")(x)
        for i, width in enumerate(self.levels):
            level = Level(self, i)
            for j in range(self.blocks):
                x = level.residual(width, f"down_{i}_block_{j}")(x)
                if flags[i]:
                    x = level.attention(f"down_{i}_attention_{j}")(x)
            if i < len(self.steps):
                level = Level(self, i, self.steps[i])
                x = level.conv(width, f"down_{i}_conv", strides=self.steps[i])(x)
        x = level.middle(x)
        x = nn.silu(level.norm("norm_out")(x))
        return level.conv(self.out, "conv_out")(x)


class ConvDecoder(ConvSpec):
    """(b, *grid, d) -> (b, *grid * factor, out): the encoder's mirror.

    One block a level more than the encoder, nearest-neighbour upsampling and a
    convolution between levels.
    """

    out: int = 3

    @property
    def context(self) -> tuple[int, int] | None:
        """Causal: latents before and after latent n that its frames, up to t n, see."""
        if not self.causal:
            return None
        layers = _convs(self, 1 + 4 + 2 * (self.blocks + 1), len(self.levels) - 1)
        for i, (stride, *_) in reversed([*enumerate(self.steps)]):
            step = [_conv(1)] * self.looks(i, stride)
            layers += [_up(stride), *step, *_convs(self, 2 * (self.blocks + 1), i)]
        layers += [*_convs(self, 1, 0), _up(self.patches[0])]
        t = self.factor[0]
        return max(-_first_seen(layers, frame) for frame in range(1 - t, 1)), 0

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        self.check_axes(x)
        flags = self.flags("attention", False)
        level = Level(self, len(self.levels) - 1)
        x = level.conv(self.levels[-1], "conv_in")(x.astype(self.dtype))
        x = level.middle(x)
        for i, width in reversed([*enumerate(self.levels)]):
            level = Level(self, i)
            for j in range(self.blocks + 1):
                x = level.residual(width, f"up_{i}_block_{j}")(x)
                if flags[i]:
                    x = level.attention(f"up_{i}_attention_{j}")(x)
            if i:
                step = self.steps[i - 1]
                x = upsample(x, self.borders, step)
                x = Level(self, i - 1, step).conv(width, f"up_{i}_conv")(x)
        x = nn.silu(level.norm("norm_out")(x))
        out = self.out * math.prod(self.patches)
        # float32: the reconstruction meets the loss.
        x = level.conv(out, "conv_out", "float32")(x).astype(jnp.float32)
        return unfold(x, self.patches, self.borders)


class CausalEncoder(ConvEncoder):
    """ConvEncoder for clips: (b, 1 + t k, h, w, c) -> (b, 1 + k, h / s, w / s, out)."""

    multipliers: tuple[int, ...] = (1, 2, 2)
    mid_attention: bool = False
    dims: int = 3
    causal: bool = True


class CausalDecoder(ConvDecoder):
    """ConvDecoder for clips: (b, 1 + k, h, w, d) -> (b, 1 + t k, h s, w s, out)."""

    multipliers: tuple[int, ...] = (1, 2, 2)
    mid_attention: bool = False
    dims: int = 3
    causal: bool = True


# For output i of a layer: the first input it sees. Negative ones are in the past too.
def _conv(stride, kernel=KERNEL):
    return lambda i: stride * i - (kernel - 1)


def _convs(owner, count, level):
    return [_conv(1)] * (count * owner.looks(level))


def _up(stride):
    return lambda i: -(-i // stride)


def _first_seen(layers, i):
    """The first input that output i of these layers, first to last, depends on."""
    for first in reversed(layers):
        i = first(i)
    return i
