import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.metrics.audio import kbps, log_mel_distance, si_sdr
from vqdit.tokenizer.mel import LogMel


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("decibels", [-6.0, 0.0, 20.0])
def test_noise_at_a_known_level_is_that_ratio(decibels):
    reference, other = noise(3, 500).astype(np.float64), noise(3, 500, seed=1)
    share = (reference * other).sum(1, keepdims=True) / np.square(reference).sum(
        1, keepdims=True
    )
    other = other - share * reference  # shares nothing with the reference
    size = np.linalg.norm(reference, axis=1) / np.linalg.norm(other, axis=1)
    noisy = reference + other * (size * 10 ** (-decibels / 20))[:, None]
    np.testing.assert_allclose(si_sdr(reference, noisy), decibels, atol=1e-9)
    # Scale says nothing.
    np.testing.assert_allclose(si_sdr(reference, -0.1 * noisy), decibels, atol=1e-9)


def test_the_ratio_at_its_ends():
    x = noise(1, 64)
    assert si_sdr(x, 0.25 * x)[0] == np.inf
    across = np.stack([np.ones(4), [1, -1, 1, -1]]).astype(np.float32)
    assert si_sdr(across[:1], across[1:])[0] == -np.inf
    assert np.isnan(si_sdr(np.zeros_like(x), x))[0]
    np.testing.assert_array_equal(si_sdr(x[..., None], x[..., None]), np.inf)


def test_a_gain_is_its_logarithm():
    x = noise(2, 4096)
    distance = log_mel_distance(x, 0.5 * x, 8000, floor=1e-12)
    np.testing.assert_allclose(distance, np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(log_mel_distance(x, x, 8000), 0)


def test_silence_against_silence_is_nothing_and_against_sound_is_finite():
    x = noise(1, 1024)
    assert log_mel_distance(0 * x, 0 * x, 8000)[0] == 0
    assert 3 < log_mel_distance(0 * x, x, 8000)[0] < -np.log(1e-4)


def test_it_measures_with_the_front_end_s_bands():
    """The same distance by the front end: frames 2 .. n - 2 lie wholly inside."""
    a, b = noise(1, 1024), noise(1, 1024, seed=1)
    front = LogMel(8000, 256, 128, bands=16)
    span = np.log1p(1e4) / 2
    inside = [
        np.asarray(front.apply({}, jnp.asarray(x)[:, 64:-64, None])) for x in (a, b)
    ]
    mine = span * np.abs(inside[0] - inside[1])[0, 1:-1, :, 0].mean()
    theirs = log_mel_distance(a[:, 128:-128], b[:, 128:-128], 8000, bands=16)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)


def test_kilobits_a_second():
    assert kbps(640, 8192, 8000) == pytest.approx(0.625)
    assert kbps(8, 1, 0.5) == pytest.approx(0.004)
    for samples, rate in ((0, 8000), (8192, 0), (-1, 8000), (8192, -1)):
        with pytest.raises(ValueError, match="write numbers above 0"):
            kbps(640, samples, rate)


def test_unequal_pairs_are_refused():
    with pytest.raises(ValueError, match="equal pairs"):
        si_sdr(noise(2, 8), noise(2, 9))
    with pytest.raises(ValueError, match="equal pairs"):
        si_sdr(noise(0, 8), noise(0, 8))
    for shape in ((8,), (2, 8, 2), (1, 2, 8, 1)):
        with pytest.raises(ValueError, match=r"write \(b, l\) or \(b, l, 1\)"):
            si_sdr(noise(*shape), noise(*shape))


def test_the_figure_that_is_quoted_has_windows_of_256_and_64_bands():
    """Written out it is the same; of one window's length one frame is left."""
    a, b = noise(2, 700), noise(2, 700, seed=1)
    said = log_mel_distance(a, b, 8000, 256, 128, 64, 1e-4)
    np.testing.assert_array_equal(log_mel_distance(a, b, 8000), said)
    assert log_mel_distance(a[:, :256], b[:, :256], 8000).shape == (2,)
    with pytest.raises(ValueError, match="255 samples hold no window of 256"):
        log_mel_distance(a[:, :255], b[:, :255], 8000)
    # Frames begin every hop: of 256 + 2 * 128 samples three.
    cut = [x[:1, i * 128 : i * 128 + 256] for i in range(3) for x in (a, b)]
    each = [log_mel_distance(*cut[2 * i : 2 * i + 2], 8000) for i in range(3)]
    whole = log_mel_distance(a[:1, :600], b[:1, :600], 8000)
    np.testing.assert_allclose(np.mean(each), whole[0], rtol=1e-9)
