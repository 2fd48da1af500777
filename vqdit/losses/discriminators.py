"""Discriminators: a signal -> verdicts, each with logits and the features under them.

PatchGAN judges signals on any grid; the others judge waveforms. All return a tuple of
verdicts, so that one loss serves one discriminator or several.

implementation: of `nn.products.convolution`, in all of them.

None has batch statistics or a re-normalised kernel: a verdict on an example depends on
that example and the parameters alone, whatever the batch and the devices.
"""

import functools
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vqdit.fields import FILLED, Checked, Count
from vqdit.nn.group_norm import GroupNorm
from vqdit.nn.products import Convolution, convolution
from vqdit.shapes import Array, Float
from vqdit.signal.spectra import hann, stft


class Verdict(NamedTuple):
    """One discriminator's answer.

    logits:   (b, ...) float32, positive for real, one a patch.
    features: outputs of the layers under them, in order, for feature matching.
    """

    logits: Array
    features: tuple[Array, ...]


class PatchDiscriminator(Checked, nn.Module):
    """PatchGAN (arXiv:1611.07004, appendix 6.1.2) over `dims` axes.

    (b, *shape, c) -> one logit for every patch of side 70 (at `layers` 3). Widths
    double from `channels` with every layer of stride 2, up to eight times.

    channels: of the first layer.
    layers:   of stride 2; more see larger patches.
    dims:     axes of the signal.
    dtype:    of activations and products; parameters and norms are float32.
    implementation: of `nn.products.convolution`, in every convolution.

    Departs from the paper in GroupNorm where it has BatchNorm, and in padding to the
    same size, so that a signal of any size, a single frame too, has a verdict. Raises
    ValueError for one of other axes than `dims`.
    """

    channels: Count = 64
    layers: Count = 3
    dims: Count = 2
    dtype: str = "float32"
    implementation: Convolution | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *shape c"]) -> tuple[Verdict, ...]:
        if x.ndim != self.dims + 2:
            raise ValueError(
                f"a PatchDiscriminator of dims={self.dims} takes (b, *{self.dims} "
                f"axes, c); got {x.shape}"
            )
        init = nn.initializers.normal(0.02)  # the published one
        conv = functools.partial(_conv, self, (4,) * self.dims, kernel_init=init)
        layers = []
        for i in range(self.layers + 1):
            width = self.channels * min(2**i, 8)
            stride = 2 if i < self.layers else 1
            layer = [conv(width, f"conv_{i}", strides=stride)]
            if i:
                groups = 32 if width % 32 == 0 else 1
                layer.append(GroupNorm(groups, dtype=self.dtype, name=f"norm_{i}"))
            layers.append(layer)
        return _verdict(x.astype(self.dtype), layers, conv(1, "conv_out"), 0.2)


class PeriodDiscriminator(nn.Module):
    """Folds a waveform by `period` and looks along every column of the fold.

    HiFi-GAN (arXiv:2010.05646, section 2.3). Departs in the weight normalisation, which
    is left out. Raises ValueError for a signal of half a period or less.
    """

    period: int
    channels: int = 32
    dtype: str = "float32"
    implementation: Convolution | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> tuple[Verdict, ...]:
        b, length, c = x.shape
        short = -length % self.period
        if short >= length:
            raise ValueError(
                f"a period of {self.period} folds signals of at least "
                f"{self.period // 2 + 1} samples; got {length}"
            )
        x = jnp.pad(x, ((0, 0), (0, short), (0, 0)), mode="reflect")
        x = x.reshape(b, -1, self.period, c).astype(self.dtype)
        layers = []
        for i, multiple in enumerate((1, 4, 16, 32, 32)):
            how = {"strides": (3 if i < 4 else 1, 1), "padding": ((2, 2), (0, 0))}
            width = self.channels * multiple
            layers.append([_conv(self, (5, 1), width, f"conv_{i}", **how)])
        out = _conv(self, (3, 1), 1, "conv_out", padding=((1, 1), (0, 0)))
        return _verdict(x, layers, out, 0.1)


class MultiPeriodDiscriminator(Checked, nn.Module):
    """HiFi-GAN's multi-period discriminator (arXiv:2010.05646, section 2.3).

    Waveforms (b, l, c) -> a verdict a period. Periods are primes, so that no two see
    the same columns.

    periods: samples that each discriminator folds by.
    channels: of the first layer.
    dtype: of activations and products; parameters are float32.
    implementation: of `nn.products.convolution`, in every convolution.
    """

    periods: Annotated[tuple[Count, ...], FILLED] = (2, 3, 5, 7, 11)
    channels: Count = 32
    dtype: str = "float32"
    implementation: Convolution | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> tuple[Verdict, ...]:
        fields = self.channels, self.dtype, self.implementation
        verdicts: tuple[Verdict, ...] = ()
        for p in self.periods:
            verdicts += PeriodDiscriminator(p, *fields, name=f"period_{p}")(x)
        return verdicts


class ResolutionDiscriminator(nn.Module):
    """Looks at the real and imaginary parts of one short-time Fourier transform.

    EnCodec (arXiv:2210.13438, section 3.4 and figure 2): dilated in time, strided in
    frequency; a hop of a quarter of the window. Departs in the weight normalisation,
    which is left out.
    """

    size: int
    channels: int = 32
    dtype: str = "float32"
    implementation: Convolution | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> tuple[Verdict, ...]:
        x = jnp.moveaxis(x.astype(jnp.float32), -1, 1)
        spectrum = stft(x, self.size, self.size // 4)
        # Per unit of the window's energy: white noise is as loud in every window.
        spectrum = spectrum / np.linalg.norm(hann(self.size))
        spectrum = jnp.moveaxis(spectrum, 1, -1)
        x = jnp.concatenate([spectrum.real, spectrum.imag], axis=-1)
        # Kernel, stride in frequency, dilation in time.
        shapes = [
            ((3, 9), 1, 1),
            *(((3, 9), 2, 2**i) for i in range(3)),
            ((3, 3), 1, 1),
        ]
        layers = []
        for i, (kernel, stride, dilation) in enumerate(shapes):
            how = {"strides": (1, stride), "kernel_dilation": (dilation, 1)}
            layers.append([_conv(self, kernel, self.channels, f"conv_{i}", **how)])
        out = _conv(self, (3, 3), 1, "conv_out")
        return _verdict(x.astype(self.dtype), layers, out, 0.2)


class MultiResolutionDiscriminator(Checked, nn.Module):
    """EnCodec's multi-scale STFT discriminator (arXiv:2210.13438, section 3.4).

    Waveforms (b, l, c) -> a verdict a window.

    sizes: samples in each window.
    channels: of every layer.
    dtype: of activations and products; parameters are float32.
    implementation: of `nn.products.convolution`, in every convolution.
    """

    sizes: Annotated[tuple[Count, ...], FILLED] = (2048, 1024, 512, 256, 128)
    channels: Count = 32
    dtype: str = "float32"
    implementation: Convolution | None = None

    def __post_init__(self):
        super().__post_init__()
        eights = not any(size % 8 for size in self.sizes)
        self.check("sizes", eights, "write multiples of 8")

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> tuple[Verdict, ...]:
        fields = self.channels, self.dtype, self.implementation
        verdicts: tuple[Verdict, ...] = ()
        for n in self.sizes:
            verdicts += ResolutionDiscriminator(n, *fields, name=f"window_{n}")(x)
        return verdicts


class Discriminators(Checked, nn.Module):
    """Several discriminators of one signal; their verdicts, one after another."""

    members: Annotated[tuple[nn.Module, ...], FILLED]

    def __call__(self, x: Float[Array, "b *shape c"]) -> tuple[Verdict, ...]:
        return sum((member(x) for member in self.members), ())


def _conv(owner, kernel, width, name, **fields):
    """One of the owner's convolutions; the last is exact, in float32."""
    last = name == "conv_out"
    return nn.Conv(
        width,
        kernel,
        dtype="float32" if last else owner.dtype,
        precision="highest" if last else None,
        conv_general_dilated=convolution(owner.implementation),
        name=name,
        **fields,
    )


def _verdict(x, layers, out, slope):
    """Of layers one after another, each behind a leaky ReLU, and of the last."""
    features = []
    for layer in layers:
        for each in layer:
            x = each(x)
        x = nn.leaky_relu(x, slope)
        features.append(x)
    return (Verdict(out(x).astype(jnp.float32), tuple(features)),)
