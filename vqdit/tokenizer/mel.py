"""Log-mel pictures of waveforms, in front of a tokenizer."""

import math
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Bound, Checked, Count
from vqdit.shapes import Array, Float
from vqdit.signal.spectra import (
    Scale,
    check_frames,
    griffin_lim,
    hann,
    magnitude,
    mel_filterbank,
    non_negative,
)


class LogMel(Checked, nn.Module):
    """A waveform as a picture of frames by mel bands, and back by Griffin-Lim.

    features = log((mel + floor) / floor) / log((1 + floor) / floor) * 2 - 1, where mel
    is the mean `magnitude` of a band: in [-1, 1] for a signal in [-1, 1], and -1 for
    silence.

    rate: samples a second.
    window, hop: samples of a frame, and between frames.
    bands: of frequency, a row of the picture each.
    floor: magnitude below which nothing is told apart; 1e-4 is -80 dB of full scale.
    low, high, scale: of `mel_filterbank`; high = None is half the rate.
    iterations: of Griffin-Lim.
    momentum: of Griffin-Lim, see `griffin_lim`.
    """

    rate: int
    window: int = 256
    hop: int = 128
    bands: int = 64
    floor: Annotated[float, Bound(above=0, below=1)] = 1e-4
    low: float = 0.0
    high: float | None = None
    scale: Scale = "slaney"
    iterations: Count = 32
    momentum: Annotated[float, Bound(at_least=0, below=2)] = 0.99

    def __post_init__(self):
        super().__post_init__()
        check_frames(self.window, self.hop)
        self.filters()

    @nn.nowrap
    def filters(self) -> Float[np.ndarray, "bands bins"]:
        """The filterbank. Raises ValueError as `mel_filterbank` does."""
        bank = (self.window, self.bands, self.low, self.high, self.scale)
        return mel_filterbank(self.rate, *bank)

    @nn.nowrap
    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(l,) -> (frames, bands). Raises ValueError unless l is a multiple of hop."""
        if len(shape) != 1 or shape[0] % self.hop or not shape[0]:
            whole = max(1, -(-shape[0] // self.hop)) * self.hop
            raise ValueError(
                f"a log-mel front end of hop {self.hop} takes (l,) samples, l a "
                f"multiple of {self.hop}; got {shape}, write for example {whole}"
            )
        return shape[0] // self.hop, self.bands

    def __call__(self, x: Float[Array, "b l 1"]) -> Float[Array, "b frames bands 1"]:
        self.grid(x.shape[1:-1])
        level = magnitude(x[..., 0].astype(jnp.float32), self.window, self.hop)
        mel = jnp.matmul(level, self.filters().T, precision="highest")
        return (2 * jnp.log1p(mel / self.floor) / self._span - 1)[..., None]

    def invert(self, features: Float[Array, "b frames bands 1"]) -> Array:
        """(b, frames * hop, 1), of the phase that Griffin-Lim finds.

        Magnitudes of the bins are the non-negative solution of the filterbank.
        """
        place = jnp.clip((features[..., 0].astype(jnp.float32) + 1) / 2, 0, 1)
        mel = self.floor * jnp.expm1(place * self._span)
        level = non_negative(mel, self.filters()) * hann(self.window).sum()
        x = griffin_lim(level, self.window, self.hop, self.iterations, self.momentum)
        return x[..., None]

    @property
    def _span(self):
        """Nats between silence and full scale."""
        return math.log1p(1 / self.floor)
