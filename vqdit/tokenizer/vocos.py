"""Transformers over short-time spectra, for waveforms (Vocos, arXiv:2306.00814, 3.2).

A frame of the spectrum is a token, and a token a latent. What is drawn is a level and a
direction for each bin, so that a band's loudness is as easy to learn 60 dB down as it
is at the top; a network that draws samples loses what is weak. An inverse transform
makes the waveform, and upsampling has nothing to alias. Departs from the paper, a
vocoder of mel spectrograms, in its blocks, ViT's instead of ConvNeXt's; in the
direction, a vector of any length instead of an angle, which wraps; and in having an
encoder, which sees the spectrum as the decoder draws it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn import sincos_positions
from vqdit.shapes import Array, Float
from vqdit.signal.grids import divide_samples
from vqdit.signal.spectra import check_frames, hann, istft, stft
from vqdit.tokenizer.vit import TransformerSpec, embed, head, transformer

FLOOR = 1e-5  # levels below this, -100 dB of full scale, are not told apart
CENTRE = -7.0  # the log level that is drawn as 0: -61 dB


class VocosSpec(TransformerSpec):
    """The fields that VocosEncoder and VocosDecoder share.

    window, hop: samples of a frame, and between frames; a frame is centred on the
        samples of its latent, and so is never causal.

    Raises ValueError unless window >= 2 hop and both are even or both odd: where frames
    hardly overlap, a window that falls to 0 at its ends cannot be divided out.
    """

    window: int = 256
    hop: int = 64

    def __post_init__(self):
        super().__post_init__()
        check_frames(self.window, self.hop)
        twice = f"write at least twice the hop, {2 * self.hop}: all samples in 2 frames"
        self.check("window", self.window >= 2 * self.hop, twice)
        ahead = "a frame sees samples after its latent's; write False, or WaveEncoder"
        self.check("causal", not self.causal, ahead)

    @property
    def factor(self) -> tuple[int, ...]:
        return (self.hop,)


class VocosEncoder(VocosSpec, kw_only=True):
    """(b, l, c) -> (b, l / hop, out)."""

    out: int = 64

    @nn.nowrap
    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(l,) -> (l / hop,). Raises ValueError, naming the lengths that fit."""
        return divide_samples(shape, self.hop)

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b n out"]:
        grid = self.grid(x.shape[1:-1])
        x = analysis(x, self.window, self.hop).reshape(len(x), *grid, -1)
        x = embed(self, x, sincos_positions(grid, self.width))
        return head(self, transformer(self)(x), self.out, self.dtype)


class VocosDecoder(VocosSpec, kw_only=True):
    """(b, n, d) -> (b, n * hop, out), float32, for signals in [-1, 1]."""

    out: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b l out"]:
        batch, n, _ = x.shape
        bins = self.window // 2 + 1
        x = embed(self, x, sincos_positions((n,), self.width))
        # float32: a level is an exponential, and the reconstruction meets the loss.
        x = head(self, transformer(self)(x), 3 * bins * self.out, "float32")
        return synthesis(x.reshape(batch, n, self.out, 3, bins), self.window, self.hop)


def analysis(
    x: Float[Array, "b l c"], window: int, hop: int
) -> Float[Array, "b n c 3 bins"]:
    """Of each bin the log level, 0 at CENTRE, and the spectrum, its levels ** 0.3.

    Levels are `spectral.magnitude`'s, no less than FLOOR. float32.
    """
    x = jnp.moveaxis(x.astype(jnp.float32), -1, 1)
    spectrum = jnp.moveaxis(stft(x, window, hop), 1, 2) / hann(window).sum()
    real, imag = spectrum.real, spectrum.imag
    level = jnp.sqrt(jnp.square(real) + jnp.square(imag) + FLOOR**2)
    shrink = level**-0.7
    return jnp.stack([jnp.log(level) - CENTRE, real * shrink, imag * shrink], axis=-2)


def synthesis(
    drawn: Float[Array, "b n c 3 bins"], window: int, hop: int
) -> Float[Array, "b l c"]:
    """The inverse of `analysis`; the length of the direction says nothing.

    No bin is drawn louder than full scale, the most that a signal in [-1, 1] has.
    """
    level, real, imag = jnp.moveaxis(drawn, -2, 0)
    level = jnp.exp(jnp.minimum(level + CENTRE, 0.0)) * hann(window).sum()
    turn = level * jax.lax.rsqrt(jnp.square(real) + jnp.square(imag) + 1e-6)
    spectrum = jnp.moveaxis(jax.lax.complex(turn * real, turn * imag), 2, 1)
    return jnp.moveaxis(istft(spectrum, window, hop), 1, -1)
