"""Waveform encoder and decoder of strided 1-D convolutions: DAC, EnCodec.

After DAC (arXiv:2306.06546, section 3.1 and appendix A), which took them from
SoundStream (arXiv:2107.03312). Departures, and why:
    no weight normalisation: it steadies DAC's adversarial training at large learning
        rates; without, a convolution is a plain `nn.Conv`, and its kernels shard, load
        and count like all others;
    no tanh on the way out: it flattens loud samples, and a codec clips anyway;
    causal=True pads on the left alone, as EnCodec does (arXiv:2210.13438, 3.1).
Nothing here is normalised over time, so an output depends on `context` alone, and a
silent signal has no variance to divide by.
"""

import math
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp

from vqdit.fields import FILLED, Checked, Count, TwoOrMore
from vqdit.nn.products import Convolution, TransposedConvolution, convolution
from vqdit.nn.remat import Remat, recomputed, remat_by_word
from vqdit.shapes import Array, Float
from vqdit.signal.grids import divide_samples


class WaveSpec(Checked, nn.Module):
    """The fields that WaveEncoder and WaveDecoder share.

    channels:  width at the signal's own rate; every stride doubles it.
    strides:   how much shorter the signal gets after each level of the encoder; the
        decoder goes through them backwards.
    dilations: of the residual units of a level.
    kernel:    odd; of the first convolution and the dilated ones.
    out:       channels returned: the latents', or the signal's.
    dtype:     of activations and products; parameters are float32.
    causal:    a latent sees no sample after its own, a sample no later latent.
    remat:     what of a residual unit the backward pass computes again
        (`vqdit.nn.remat`).
    implementation: of `nn.products.convolution`, in every convolution.
    """

    channels: int = 64
    strides: Annotated[tuple[TwoOrMore, ...], FILLED] = (2, 4, 8, 8)
    dilations: Annotated[tuple[Count, ...], FILLED] = (1, 3, 9)
    kernel: Count = 7
    out: int = 64
    causal: bool = False
    dtype: str = "float32"
    remat: Remat | None = None
    implementation: Convolution | None = None

    upgraded = staticmethod(remat_by_word)

    def __post_init__(self):
        super().__post_init__()
        self.check("kernel", self.kernel % 2, "write an odd number")

    @property
    def factor(self) -> tuple[int, ...]:
        return (math.prod(self.strides),)


class WaveEncoder(WaveSpec):
    """(b, l, c) -> (b, l / factor, out), factor the product of the strides."""

    @property
    def context(self) -> tuple[int, int]:
        """Samples that a latent sees before, and after, the `factor` of its own."""
        layers = [(self.kernel, 1, 1)]
        for stride in self.strides:
            layers += [(self.kernel, 1, d) for d in self.dilations]
            layers.append((2 * stride, stride, 1))
        seen = (0, 0)
        for layer in reversed([*layers, (3, 1, 1)]):
            seen = _seen(layer, seen, self.causal)
        return -seen[0], max(0, seen[1] - self.factor[0] + 1)

    @nn.nowrap
    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(l,) -> (l / factor,). Raises ValueError, naming the lengths that fit."""
        return divide_samples(shape, self.factor[0])

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b n out"]:
        self.grid(x.shape[1:-1])
        x = _conv(self, self.channels, self.kernel, "conv_in")(x.astype(self.dtype))
        for i, stride in enumerate(self.strides):
            x = _units(self, x, f"down_{i}")
            x = Snake(name=f"down_{i}_snake")(x)
            out = self.channels * 2 ** (i + 1)
            x = _conv(self, out, 2 * stride, f"down_{i}_conv", stride=stride)(x)
        x = Snake(name="snake_out")(x)
        return _conv(self, self.out, 3, "conv_out")(x)


class WaveDecoder(WaveSpec):
    """(b, n, d) -> (b, n * factor, out): the encoder's mirror."""

    out: int = 1

    @property
    def context(self) -> tuple[int, int]:
        """Latents before, and after, a latent that its `factor` samples see."""
        layers = [(self.kernel, 1, 1)]
        for stride in reversed(self.strides):
            layers.append((2 * stride, stride, 1))
            layers += [(self.kernel, 1, d) for d in self.dilations]
        seen = (0, self.factor[0] - 1)
        for kernel, stride, dilation in reversed([*layers, (self.kernel, 1, 1)]):
            if stride == 1:
                seen = _seen((kernel, 1, dilation), seen, self.causal)
            else:
                cut = 0 if self.causal else stride // 2
                first = -((-seen[0] - cut + kernel - 1) // stride)
                seen = first, (seen[1] + cut) // stride
        return -seen[0], seen[1]

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b l out"]:
        width = self.channels * 2 ** len(self.strides)
        x = _conv(self, width, self.kernel, "conv_in")(x.astype(self.dtype))
        for i, stride in reversed(list(enumerate(self.strides))):
            x = Snake(name=f"up_{i}_snake")(x)
            size = (self.channels * 2**i, 2 * stride, stride)
            fields = (self.dtype, self.implementation)
            grow = TransposedConvolution(*size, *fields, name=f"up_{i}_conv")
            cut = 0 if self.causal else stride // 2
            x = grow(x)[:, cut : cut + stride * x.shape[1]]
            x = _units(self, x, f"up_{i}")
        x = Snake(name="snake_out")(x)
        # float32: the reconstruction meets the loss.
        last = _conv(self, self.out, self.kernel, "conv_out", dtype="float32")
        return last(x).astype(jnp.float32)


class Snake(nn.Module):
    """x + sin(a x)^2 / a with a learned a > 0 for each channel (arXiv:2006.08195).

    a is kept as its logarithm, after BigVGAN (arXiv:2206.04658): it cannot pass zero,
    where the quotient is not defined. At the start a = 1.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        start = nn.initializers.zeros_init()
        log_a = self.param("scale", start, (x.shape[-1],)).astype(x.dtype)
        # sin^2 by the double angle: one cosine, and half the work backwards.
        return x + (1 - jnp.cos(2 * jnp.exp(log_a) * x)) * (0.5 * jnp.exp(-log_a))


def _units(owner, x, name):
    """Residual units: Snake, dilated convolution, Snake, pointwise convolution."""
    run = recomputed(_unit, owner.remat, static_argnums=(2, 3))
    for j, dilation in enumerate(owner.dilations):
        x = run(owner, x, f"{name}_unit_{j}", dilation)
    return x


def _unit(owner, x, name, dilation):
    h = Snake(name=f"{name}_snake_0")(x)
    h = _conv(owner, x.shape[-1], owner.kernel, f"{name}_conv_0", dilation=dilation)(h)
    h = Snake(name=f"{name}_snake_1")(h)
    return x + _conv(owner, x.shape[-1], 1, f"{name}_conv_1")(h)


def _conv(owner, out, kernel, name, stride=1, dilation=1, dtype=None):
    return nn.Conv(
        out,
        (kernel,),
        strides=(stride,),
        kernel_dilation=(dilation,),
        padding=[_padding(kernel, stride, dilation, owner.causal)],
        dtype=dtype or owner.dtype,
        precision="highest" if dtype else None,
        conv_general_dilated=convolution(owner.implementation),
        name=name,
    )


def _padding(kernel, stride, dilation, causal):
    """Zeros before and after, so that l samples become l / stride."""
    total = (kernel - 1) * dilation + 1 - stride
    before = total if causal else total // 2
    return before, total - before


def _seen(layer, seen, causal):
    """The first and last input that outputs first .. last of a convolution see."""
    kernel, stride, dilation = layer
    before, _ = _padding(kernel, stride, dilation, causal)
    first = seen[0] * stride - before
    return first, seen[1] * stride - before + (kernel - 1) * dilation
