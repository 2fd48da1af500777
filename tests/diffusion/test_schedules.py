"""Ends, monotonicity, derivatives, and DDPM's discrete chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.toys import ALL_SCHEDULES, SCHEDULES, schedule_name
from vqdit.diffusion import (
    Betas,
    Cosine,
    CosineBetas,
    DDPMLinear,
    Linear,
    LinearBetas,
    Schedule,
)

t = np.linspace(0.0, 1.0, 101, dtype=np.float32)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=schedule_name)
def test_ends_are_data_and_noise(schedule):
    assert isinstance(schedule, Schedule)
    alpha, sigma = schedule.alpha(jnp.asarray(t)), schedule.sigma(jnp.asarray(t))
    assert (alpha[0], sigma[0]) == (1.0, 0.0)
    # DDPM's chain ends at alpha^2 = exp(-10.05): what is left of the data.
    left = np.exp(-10.05 / 2) if isinstance(schedule, DDPMLinear) else 0.0
    np.testing.assert_allclose(alpha[-1], left, atol=1e-6)
    np.testing.assert_allclose(sigma[-1], np.sqrt(1 - left**2), atol=1e-6)
    assert (jnp.diff(alpha) < 0).all() and (jnp.diff(sigma) > 0).all()


def test_linear_is_straight():
    np.testing.assert_array_equal(Linear().alpha(t) + Linear().sigma(t), 1.0)
    np.testing.assert_array_equal(Linear().sigma(t), t)


@pytest.mark.parametrize("schedule", [Cosine(), DDPMLinear()], ids=schedule_name)
def test_variance_is_preserved(schedule):
    total = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    np.testing.assert_allclose(total, 1.0, atol=3e-7)


def test_cosine_is_an_angle():
    angle = np.arctan2(Cosine().sigma(t), Cosine().alpha(t))
    np.testing.assert_allclose(angle, np.pi / 2 * t, atol=1e-6)


def test_ddpm_is_the_limit_of_the_thousand_steps():
    """log alpha^2 differs by the sum of beta^2 / 2, 0.068 at the end.

    Where there is data left to speak of, alpha^2 is the same to 0.001.
    """
    discrete = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    continuous = DDPMLinear().alpha(np.arange(1, 1001) / 1000) ** 2
    np.testing.assert_allclose(continuous, discrete, atol=0.001)
    np.testing.assert_allclose(np.log(continuous), np.log(discrete), atol=0.07)


def test_chains_are_those_of_their_papers():
    """alpha^2 after every step and, as log alpha^2 is linear, halfway; the first beta
    and, of the published ones, what the last leaves."""
    cosine = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    root = np.linspace(0.00085**0.5, 0.012**0.5, 1000)
    chains = {
        LinearBetas(): (np.linspace(1e-4, 0.02, 1000), 1e-4, 4.0358e-5),
        LinearBetas(low=0.00085, high=0.012, power=2.0): (root**2, 0.00085, 0.00466),
        # A squared cosine, but for its last beta.
        CosineBetas(): (np.minimum(1 - cosine[1:] / cosine[:-1], 0.999), 4.1284e-5, 0),
        LinearBetas(steps=2, low=0.1, high=0.3): (np.array([0.1, 0.3]), 0.1, 0.63),
        Betas((0.2, 0.5, 0.1)): (np.array([0.2, 0.5, 0.1]), 0.2, 0.36),
    }

    @jax.jit
    def run():
        at = lambda n: np.arange(2 * n + 1, dtype=np.float32) / (2 * n)
        return [s.alpha(at(len(betas))) ** 2 for s, (betas, *_) in chains.items()]

    for (schedule, (betas, first, left)), found in zip(
        chains.items(), run(), strict=True
    ):
        after = np.cumprod(1 - np.concatenate([[0.0], betas]))
        assert schedule.table()[0] == pytest.approx(first, rel=1e-4)
        assert after[-1] == pytest.approx(left, rel=1e-4, abs=1e-8)
        np.testing.assert_allclose(found[::2], after, rtol=2e-3, atol=1e-9)
        half = np.sqrt(after[:-1] * after[1:])
        np.testing.assert_allclose(found[1::2], half, rtol=2e-3, atol=1e-9)


def test_ddpm_keeps_its_digits_near_data():
    """sigma^2 = beta_min t there; 1 - alpha^2 would lose it to rounding."""
    small = np.float32(1e-6)
    np.testing.assert_allclose(DDPMLinear().sigma(small) ** 2, 1e-7, rtol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=schedule_name)
def test_derivatives_are_those_of_the_functions(schedule):
    """Central differences of step h err by h^2 f''' / 6 and by rounding / h."""
    inside, h = t[1:-1], 1e-2
    for function in (schedule.alpha, schedule.sigma):
        slope = jax.vmap(jax.grad(function))(inside)
        difference = (function(inside + h) - function(inside - h)) / (2 * h)
        far = inside > 0.1  # sqrt(t) has no bounded third derivative at 0
        np.testing.assert_allclose(slope[far], difference[far], atol=2e-3)


@pytest.mark.parametrize("schedule", ALL_SCHEDULES, ids=schedule_name)
def test_paths_do_not_turn_at_the_last_moment(schedule):
    """The slope at t = 1, where walks begin, is that of just before."""
    last = jnp.array([1 - 1e-6, 1.0])
    for function in (schedule.alpha, schedule.sigma):
        before, end = jax.vmap(jax.grad(function))(last)
        np.testing.assert_allclose(end, before, rtol=0.01, atol=1e-5)
