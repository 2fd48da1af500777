import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.signal.spectra import (
    griffin_lim,
    hann,
    istft,
    magnitude,
    mel_filterbank,
    non_negative,
    stft,
)
from vqdit.tokenizer.mel import LogMel

RATE, WINDOW, HOP = 8000, 256, 128


def noise(*shape, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


def voice(length=2048):
    """A gliding harmonic tone with pauses: something that a mel picture can hold."""
    t = np.arange(length) / RATE
    phase = 2 * np.pi * (150 * t + 80 * np.square(t))
    tone = sum(np.sin(k * phase) / k for k in range(1, 8))
    x = 0.3 * tone * np.sin(2 * np.pi * 4 * t) ** 2
    return jnp.asarray(x[None], jnp.float32)


@pytest.mark.parametrize("window,hop", [(256, 128), (64, 16), (15, 5), (20, 14)])
def test_the_inverse_is_exact_up_to_the_edges(window, hop):
    x = noise(2, 3, 10 * hop)

    @jax.jit
    def there_and_back(x):
        spectrum = stft(x, window, hop)
        return spectrum, istft(spectrum, window, hop)

    spectrum, again = there_and_back(x)
    assert spectrum.shape == (2, 3, 10, window // 2 + 1)
    np.testing.assert_allclose(again, x, atol=5e-6)


def test_a_length_that_is_no_multiple_is_continued_with_zeros():
    x = noise(1, 300)
    spectrum = stft(x, 64, 32)
    np.testing.assert_array_equal(spectrum, stft(jnp.pad(x, ((0, 0), (0, 20))), 64, 32))
    np.testing.assert_allclose(istft(spectrum, 64, 32, 300), x, atol=5e-6)


def test_frames_are_centred_on_their_own_samples():
    """A click in the middle of hop 3 is strongest in frame 3, alike in 2 and 4."""
    x = jnp.zeros((1, 8 * HOP)).at[0, 3 * HOP + HOP // 2].set(1.0)
    level = np.asarray(magnitude(x, WINDOW, HOP))[0].mean(-1)
    assert level.argmax() == 3
    np.testing.assert_allclose(level[2], level[4], rtol=1e-4)


def test_the_transform_is_the_plain_sum():
    x = np.asarray(noise(1, 4 * HOP), np.float64)[0]
    spectrum = stft(jnp.asarray(x[None], jnp.float32), WINDOW, HOP)[0, 1]
    cut = x[HOP - 64 : HOP - 64 + WINDOW] * np.asarray(hann(WINDOW), np.float64)
    k = np.arange(WINDOW // 2 + 1)[:, None]
    plain = (cut * np.exp(-2j * np.pi * k * np.arange(WINDOW) / WINDOW)).sum(-1)
    np.testing.assert_allclose(spectrum, plain, atol=1e-4)


def test_a_sine_of_amplitude_a_peaks_at_half_of_it():
    t = np.arange(1024)
    x = jnp.asarray(0.6 * np.sin(2 * np.pi * 16 * t / WINDOW)[None], jnp.float32)
    level = np.asarray(magnitude(x, WINDOW, HOP))[0, 3]
    assert level.argmax() == 16
    np.testing.assert_allclose(level[16], 0.3, rtol=1e-4)
    np.testing.assert_allclose(level[[15, 17]], 0.15, rtol=1e-3)


@pytest.mark.parametrize("window,hop", [(128, 128), (100, 33), (64, 0)])
def test_windows_that_cannot_be_centred_are_refused(window, hop):
    with pytest.raises(ValueError, match="longer than the hop"):
        stft(noise(1, 512), window, hop)


@pytest.mark.parametrize("window,hop", [(130, 128), (256, 240)])
def test_windows_that_leave_gaps_are_refused(window, hop):
    """The inverse divides by what overlaps there: 7e-7 of a window two longer."""
    with pytest.raises(ValueError, match="all but vanish where one ends"):
        LogMel(rate=8000, window=window, hop=hop, bands=8)
    LogMel(rate=8000, window=160, hop=128, bands=8)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_bands_are_means_and_their_peaks_rise(scale):
    bank = mel_filterbank(RATE, 512, 40, scale=scale)
    np.testing.assert_allclose(bank.sum(1), 1, rtol=1e-6)
    assert (bank >= 0).all() and (np.diff(bank.argmax(1)) >= 0).all()


def test_centres_of_bands_are_where_the_scales_say():
    """HTK: 1000 Hz is 1000 mel. Slaney: 1000 Hz is 15, 6400 Hz is 42."""
    # Three bands up to 4000 Hz: the middle one peaks halfway in mel.
    middle = mel_filterbank(RATE, 8000, 3, scale="htk")[1].argmax()
    half = 2595 * np.log10(1 + 4000 / 700) / 2
    assert abs(middle - 700 * (10 ** (half / 2595) - 1)) <= 1
    front = LogMel(RATE, 8000, 4000, bands=3, scale="htk")
    assert front.filters()[1].argmax() == middle
    assert abs(2595 * np.log10(1 + 1000 / 700) - 1000) < 0.1
    top = mel_filterbank(12_800, 12_800, 41)
    assert abs(int(top[14].argmax()) - 1000) <= 1  # 42 steps to 6400 Hz, the 15th
    assert abs(int(top[7].argmax()) - 533) <= 1


def test_bands_too_narrow_or_outside_are_refused():
    with pytest.raises(ValueError, match="fewer bands"):
        mel_filterbank(RATE, 64, 64)
    with pytest.raises(ValueError, match="4000"):
        mel_filterbank(RATE, 256, 20, high=5000.0)
    for bands, ends in (
        (0, {}),
        (8, {"low": -1.0}),
        (8, {"low": 100.0, "high": 100.0}),
    ):
        with pytest.raises(ValueError, match=f"{bands} mel bands .*: write at least 1"):
            mel_filterbank(RATE, 256, bands, **ends)


def test_bands_lie_between_the_ends_that_are_said():
    """Each reaches from its neighbours' centres; half the rate where none is said."""
    bank, hertz = (
        mel_filterbank(RATE, 512, 8, 500.0, 3000.0),
        np.arange(257) * RATE / 512,
    )
    assert (bank[:, (hertz <= 500) | (hertz >= 3000)] < 1e-6).all()
    assert bank[0, hertz > 500][0] > 0 and bank[-1, hertz < 3000][-1] > 0
    np.testing.assert_array_equal(
        mel_filterbank(RATE, 512, 8), mel_filterbank(RATE, 512, 8, 0.0, RATE / 2)
    )
    assert mel_filterbank(RATE, 512, 8)[-1, -2] > 0
    # One triangle of Slaney's linear part: 0, 500 and 1000 Hz, over its sum, 7 * 0.5.
    one = mel_filterbank(2000, 16, 1)
    triangle = [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]
    np.testing.assert_allclose(one[0], np.array(triangle) / 4, atol=1e-6)


FRONT = LogMel(RATE, WINDOW, HOP, bands=32)


def test_a_front_end_says_its_frames_and_bands():
    assert FRONT.grid((12 * HOP,)) == (12, 32)
    with pytest.raises(ValueError, match=f"write for example {2 * HOP}"):
        FRONT.grid((HOP + 1,))


@jax.jit
def features_and_gradient(x):
    forward = lambda x: FRONT.apply({}, x)
    return forward(x), jax.grad(lambda x: forward(x).sum())(x)


@jax.jit
def invert(features):
    return FRONT.apply({}, features, method="invert")


def test_features_lie_between_silence_and_full_scale():
    loud = np.concatenate([noise(1, 1024), np.ones((1, 1024))])
    features, _ = features_and_gradient(jnp.asarray(loud, jnp.float32)[..., None])
    assert features.shape == (2, 8, 32, 1) == (2, *FRONT.grid((1024,)), 1)
    assert features.min() >= -1 and features.max() <= 1
    silent, gradient = features_and_gradient(jnp.zeros((2, 1024, 1)))
    np.testing.assert_array_equal(silent, -1)
    assert np.isfinite(gradient).all()


def test_features_are_the_stated_formula():
    x = voice()
    features = FRONT.apply({}, x[..., None])[..., 0]
    mel = magnitude(x, WINDOW, HOP) @ FRONT.filters().T
    expected = np.log((mel + 1e-4) / 1e-4) / np.log(1.0001 / 1e-4) * 2 - 1
    np.testing.assert_allclose(features, expected, atol=2e-5)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="for example 1024"):
        FRONT.apply({}, jnp.zeros((1, 1000, 1)))


def test_a_front_end_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="fewer bands"):
        LogMel(RATE, 64, 32, bands=64)
    with pytest.raises(ValueError, match="floor"):
        LogMel(RATE, floor=0.0)


def test_bins_from_bands_are_non_negative_and_give_the_bands_back():
    bank = mel_filterbank(RATE, WINDOW, 32)
    solve = jax.jit(lambda mel: non_negative(mel, bank))
    mel = np.square(noise(5, WINDOW // 2 + 1)) @ bank.T
    found = np.asarray(solve(mel))
    assert found.min() >= 0
    np.testing.assert_allclose(found @ bank.T, mel, rtol=0.06)
    np.testing.assert_array_equal(solve(jnp.zeros((5, 32))), 0)


def test_fast_griffin_lim_finds_a_signal_of_the_magnitudes():
    """Spectral convergence under 5 %, where the plain algorithm has 8 %."""
    x = voice(8192)

    @functools.partial(jax.jit, static_argnums=0)
    def convergence(momentum):
        level = jnp.abs(stft(x, WINDOW, 64))
        found = griffin_lim(level, WINDOW, 64, 60, momentum)
        error = jnp.abs(stft(found, WINDOW, 64)) - level
        return jnp.linalg.norm(error) / jnp.linalg.norm(level)

    plain, fast = convergence(0.0), convergence(0.99)
    assert fast < 0.05 < plain < 0.2


def test_inversion_keeps_what_the_picture_holds():
    x = voice()[..., None]
    features, _ = features_and_gradient(x)
    found = invert(features)
    assert found.shape == x.shape
    again, _ = features_and_gradient(found)
    # 1 is 4.6 nat; the tokenizers' own error is several times as large.
    assert np.abs(again - features).mean() < 0.04
    np.testing.assert_array_equal(invert(jnp.full(features.shape, -1.0)), 0)
