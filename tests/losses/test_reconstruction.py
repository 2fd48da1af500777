"""Reconstruction errors in closed form, masked, and on silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import losses
from vqdit.signal.spectra import mel_filterbank

RATE, WINDOWS = 8000, (32, 128, 512)
DRAW = np.random.default_rng(0)
SINE = np.sin(np.arange(1024) * 0.3)[None, :, None].astype(np.float32) * 0.5


def spectral(name):
    if name == "stft":
        return lambda x, x_hat: losses.stft_loss(x, x_hat, WINDOWS)
    return lambda x, x_hat: losses.mel_loss(x, x_hat, RATE, WINDOWS)


def test_errors_of_every_value():
    error = jnp.array([-2.0, 0.0, 0.5])
    np.testing.assert_allclose(losses.PIXEL["l1"](error), [2, 0, 0.5])
    np.testing.assert_allclose(losses.PIXEL["l2"](error), [4, 0, 0.25])
    found = losses.PIXEL["charbonnier"](error)
    np.testing.assert_allclose(found, np.sqrt(error**2 + 1e-6) - 1e-3, atol=1e-7)
    assert found[1] == 0
    assert jax.grad(lambda e: losses.PIXEL["charbonnier"](e))(0.0) == 0


@pytest.mark.parametrize("kind", losses.PIXEL)
@pytest.mark.parametrize("channels", [1, 3], ids=["shared", "own"])
def test_masked_entries_do_not_count(kind, channels):
    """The masked mean is that of the observed values; nothing else has a gradient."""
    x, x_hat = (jnp.asarray(DRAW.normal(size=(2, 5, 3)), jnp.float32) for _ in "ab")
    mask = jnp.asarray(DRAW.integers(0, 2, (2, 5, channels)), jnp.float32)

    def loss(x_hat):
        seen = losses.observed(x, x_hat, mask)
        return losses.masked_mean(losses.PIXEL[kind](seen - x), mask)

    chosen = np.broadcast_to(mask, x.shape) > 0
    expected = losses.PIXEL[kind](x_hat - x)[chosen].mean()
    np.testing.assert_allclose(loss(x_hat), expected, rtol=1e-6)
    slope = jax.grad(loss)(x_hat)
    np.testing.assert_array_equal(np.asarray(slope) != 0, chosen)
    worse = jnp.where(chosen, x_hat, 1e6)
    assert loss(worse) == loss(x_hat)


def test_nothing_observed_costs_nothing():
    error, mask = jnp.ones((2, 4, 1)), jnp.zeros((2, 4, 1))
    assert losses.masked_mean(error, mask) == 0
    assert losses.masked_mean(error, None) == 1


@pytest.mark.parametrize("name", ["stft", "mel"])
def test_spectral_losses_are_zero_for_equals_and_grow(name):
    loss = jax.jit(spectral(name))
    noise = DRAW.normal(size=SINE.shape).astype(np.float32)
    found = [float(loss(SINE, SINE + scale * noise)) for scale in (0, 1e-2, 1e-1)]
    assert found[0] < 1e-6 and found[0] < 0.3 * found[1] < 0.3 * found[2]


@pytest.mark.parametrize("name", ["stft", "mel"])
@pytest.mark.parametrize("built", [0.0, 1e-3], ids=["silence", "noise"])
def test_silence_has_finite_losses_and_gradients(name, built):
    """All zero in, all zero or nearly out; what is not silent is pulled towards it."""
    x = jnp.zeros((2, 1024, 1))
    x_hat = built * jnp.asarray(DRAW.normal(size=x.shape), jnp.float32)
    loss, slope = jax.jit(jax.value_and_grad(spectral(name), argnums=1))(x, x_hat)
    assert np.isfinite(loss) and np.isfinite(slope).all()
    assert np.linalg.norm(slope) < 1e3
    if built:
        assert loss > 0.01 and float((slope * x_hat).sum()) > 0


def test_log_magnitude_of_a_scaled_signal_in_closed_form():
    """Far above the floor S_hat = g S: convergence |1 - g|, log magnitude |log g|."""
    noise = jnp.asarray(DRAW.normal(size=(1, 2048, 1)), jnp.float32)
    found = losses.stft_loss(noise, 0.5 * noise, (128,))
    assert abs(found - (0.5 + np.log(2))) < 0.02
    found = losses.mel_loss(noise, 0.5 * noise, RATE, (128,))
    assert abs(found - np.log10(2)) < 0.01


@pytest.mark.parametrize("rate", [1000, 8000, 16_000, 24_000, 44_100, 48_000])
def test_every_band_has_a_bin(rate):
    for window in (32, 64, 128, 256, 512, 1024, 2048):
        bands = losses.mel_bands(rate, window)
        assert mel_filterbank(rate, window, bands).shape[0] == bands
        assert 1 <= bands <= 5 * window // 32
    # DAC's five for 32 samples; and where two spacings, 400 / 3 Hz a mel over so many
    # bands and one, would be less than a bin, as many as are more.
    few = {(8000, 512): 80, (8000, 32): 5, (48_000, 32): 4, (48_000, 64): 9}
    few |= {(96_000, 32): 2, (192_000, 32): 1, (44_100, 128): 20}
    assert {how: losses.mel_bands(*how) for how in few} == few
