"""Losses between short-time spectra of waveforms."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vqdit.shapes import Array, Float
from vqdit.signal.spectra import magnitude, mel_filterbank, slaney

# Magnitudes of a spectrum below this, -80 dB of full scale, are not told apart.
FLOOR = 1e-4


def stft_loss(
    x: Float[Array, "b l c"], x_hat: Float[Array, "b l c"], windows: Sequence[int]
) -> Float[Array, ""]:
    """Multi-resolution STFT loss (arXiv:1910.11480, eq. 4 to 7), a mean over windows.

    Spectral convergence, ||S - S_hat||_F / ||S||_F, plus the mean of
    |log S - log S_hat|, with a hop of a quarter of the window. Departs from the paper
    in FLOOR: it is added to S in the logarithm, and bounds ||S|| from below, so that
    silence has finite losses and gradients.
    """
    losses = []
    for window in windows:
        s, s_hat = (_magnitude(each, window) for each in (x, x_hat))
        apart = jnp.sqrt(jnp.square(s - s_hat).sum() + FLOOR**4)
        least = FLOOR * float(np.sqrt(s.size))
        convergence = apart / jnp.maximum(jnp.sqrt(jnp.square(s).sum()), least)
        log = jnp.abs(jnp.log(s + FLOOR) - jnp.log(s_hat + FLOOR)).mean()
        losses.append(convergence + log)
    return sum(losses, jnp.zeros(())) / len(losses)


def mel_loss(
    x: Float[Array, "b l c"],
    x_hat: Float[Array, "b l c"],
    rate: int,
    windows: Sequence[int],
) -> Float[Array, ""]:
    """Multi-scale mel loss (DAC, arXiv:2306.06546, section 3.4), a mean over windows.

    The mean of |log10 M - log10 M_hat| over mel spectrograms of `mel_bands` bands, with
    a hop of a quarter of the window. Departs from the paper, which sums over windows
    and bounds M at 1e-5 where FLOOR is added here.
    """
    losses = []
    for window in windows:
        bank = mel_filterbank(rate, window, mel_bands(rate, window))
        m, m_hat = (
            jnp.log10(
                jnp.matmul(_magnitude(each, window), bank.T, precision="highest")
                + FLOOR
            )
            for each in (x, x_hat)
        )
        losses.append(jnp.abs(m - m_hat).mean())
    return sum(losses, jnp.zeros(())) / len(losses)


def mel_bands(rate: int, window: int) -> int:
    """DAC's five bands for every 32 samples of the window, or as many as have a bin.

    A band is at least twice the mel scale's linear spacing wide, 200 / 3 Hz a mel, and
    has a bin where that is more than the rate / window between bins.
    """
    most = int(np.ceil(slaney(rate / 2) * 400 / 3 * window / rate - 1)) - 1
    return max(1, min(5 * window // 32, most))


def _magnitude(x, window):
    """(b, l, c) -> (b, c, frames, bins)."""
    x = jnp.moveaxis(x.astype(jnp.float32), -1, 1)
    return magnitude(x, window, window // 4)
