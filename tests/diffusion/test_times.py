"""Each example's law of times, and how a batch shares them out."""

import jax
import numpy as np
import pytest
from scipy import stats

from vqdit.diffusion import LogitNormal, LogNormal, Uniform, VarianceExploding

KEYS = jax.random.split(jax.random.key(0), 2000)


def batches(law, batch):
    return np.asarray(jax.vmap(lambda key: law(key, batch))(KEYS))


def test_each_place_of_a_batch_is_uniform():
    """Kolmogorov-Smirnov; a right law falls below p = 1e-3 once in a thousand keys."""
    t = batches(Uniform(), 4)
    assert t.shape == (2000, 4)
    assert t.min() >= 0 and t.max() < 1
    for place in range(4):
        assert stats.kstest(t[:, place], "uniform").pvalue > 1e-3


def test_a_batch_covers_the_times_evenly():
    t = np.sort(batches(Uniform(), 5), axis=1)
    np.testing.assert_allclose(np.diff(t, axis=1), 0.2, atol=1e-6)


def test_place_says_nothing_of_time():
    """Neighbours are as often ahead as behind: 4 standard errors of a fair coin."""
    t = batches(Uniform(), 5)
    ahead = ((t[:, 1] - t[:, 0]) % 1.0 < 0.5).mean()
    assert abs(ahead - 0.5) < 4 * 0.5 / np.sqrt(len(t))


@pytest.mark.parametrize("mean,std", [(0.0, 1.0), (-0.8, 0.5), (1.2, 1.4)])
def test_logit_normal_is_normal_in_logits(mean, std):
    t = batches(LogitNormal(mean, std), 3)
    assert t.min() > 0 and t.max() < 1
    logit = np.log(t) - np.log1p(-t)
    for place in range(3):
        standard = (logit[:, place] - mean) / std
        assert stats.kstest(standard, "norm").pvalue > 1e-3


def test_times_of_a_wide_law_are_still_below_1():
    """Of std 10 every twentieth logit is beyond what float32 has numbers for."""
    t = batches(LogitNormal(std=10.0), 4)
    assert t.min() > 0 and t.max() < 1
    np.testing.assert_allclose((t > 1 - 2**-20).mean(), 1 - stats.norm.cdf(1.39), 0.02)


def test_logit_normal_covers_its_quantiles_evenly():
    t = np.sort(batches(LogitNormal(0.5, 2.0), 4), axis=1)
    share = stats.norm.cdf(np.log(t) - np.log1p(-t), 0.5, 2.0)
    np.testing.assert_allclose(np.diff(share, axis=1), 0.25, atol=1e-4)


@pytest.mark.parametrize("low, high", [(0.001, 80.0), (0.1, 2.0)])
def test_log_normal_is_normal_in_log_sigma_between_its_ends(low, high):
    """Those of EDM, where nothing is cut, and those that cut much."""
    t = batches(LogNormal(-1.2, 1.2, low, high), 3)
    log_sigma = np.log(VarianceExploding(low, high).sigma(t))
    law = stats.truncnorm(*((np.log([low, high]) + 1.2) / 1.2), -1.2, 1.2)
    for place in range(3):
        assert stats.kstest(log_sigma[:, place], law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_spread_that_is_none_is_refused(std):
    for law in (LogitNormal, LogNormal):
        with pytest.raises(ValueError, match="std=.*: write above 0"):
            law(std=std)
