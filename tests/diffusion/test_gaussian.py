"""Corruption and its inverse, the learned variance and its bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.toys import SCHEDULES, TARGETS, schedule_name
from vqdit.diffusion import Cosine, DDPMLinear, Gaussian, Linear, Process

schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=schedule_name)
targets = pytest.mark.parametrize("target", TARGETS)


def examples(key, *shape):
    return jax.random.normal(jax.random.key(key), shape)


@targets
@schedules
def test_split_inverts_corrupt(schedule, target):
    process = Gaussian(schedule, target)
    assert isinstance(process, Process)
    x, t = examples(0, 6, 2, 3), jnp.array([0.02, 0.1, 0.3, 0.5, 0.9, 0.98])
    x_t, output = process.corrupt(x, t, jax.random.key(1))
    data, noise = process.split(output, x_t, t)
    np.testing.assert_allclose(data, x, atol=1e-4)
    # The same key draws the same noise: what is left of pure-noise data is eps.
    eps, _ = process.corrupt(0 * x, jnp.ones(6), jax.random.key(1))
    np.testing.assert_allclose(noise, eps, atol=1e-4)
    # One example at a time, as the sampler asks.
    one, _ = process.split(output[2], x_t[2], t[2])
    np.testing.assert_allclose(one, data[2], atol=1e-5)


@targets
@schedules
def test_targets_are_what_they_are_called(schedule, target):
    process = Gaussian(schedule, target)
    x, t = examples(0, 1, 4), jnp.array([0.4])
    x_t, output = process.corrupt(x, t, jax.random.key(1))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    eps = (x_t - alpha * x) / sigma
    h = 1e-2
    ahead, behind = (process.corrupt(x, t + d, jax.random.key(1))[0] for d in (h, -h))
    expected = {
        "data": x,
        "noise": eps,
        "velocity": (ahead - behind) / (2 * h),  # dx_t/dt along one example's path
        "v": alpha * eps - sigma * x,
    }[target]
    np.testing.assert_allclose(output, expected, atol=2e-3)


@schedules
def test_ends_are_data_and_noise(schedule):
    process = Gaussian(schedule)
    x, key = examples(0, 3, 5), jax.random.key(1)
    at = lambda x, t: process.corrupt(x, jnp.full(3, t), key)[0]
    np.testing.assert_allclose(at(x, 0.0), x, atol=5e-3)  # sigma(T_MIN) is 1e-3
    # What noise remembers of the data: alpha(1), which is DDPM's 0.0066.
    np.testing.assert_allclose(at(x, 1.0), at(-x, 1.0), atol=0.04)
    assert abs(at(x, 1.0)).min() > 0


@schedules
def test_marginal_mean_and_variance(schedule):
    """100,000 draws: 4 standard errors of a mean and of a variance."""
    n, t = 100_000, 0.3
    x = jnp.full((1, n), 2.0)
    x_t, _ = Gaussian(schedule).corrupt(x, jnp.array([t]), jax.random.key(3))
    sigma = float(schedule.sigma(t))
    mean = 2.0 * float(schedule.alpha(t))
    assert abs(x_t.mean() - mean) < 4 * sigma / np.sqrt(n)
    assert abs(x_t.var() - sigma**2) < 4 * sigma**2 * np.sqrt(2 / n)


def test_low_precision_data_is_corrupted_in_float32():
    x_t, target = Gaussian().corrupt(
        jnp.ones((1, 2), jnp.bfloat16), jnp.array([0.3]), jax.random.key(0)
    )
    assert x_t.dtype == target.dtype == jnp.float32


def test_prior_is_unit_noise():
    draw = Gaussian().prior(jax.random.key(0), (200, 500))
    assert abs(draw.mean()) < 4 / np.sqrt(draw.size)
    assert abs(draw.var() - 1) < 4 * np.sqrt(2 / draw.size)


@targets
def test_loss_is_the_mean_squared_error_per_example(target):
    process = Gaussian(target=target)
    x, t = examples(0, 2, 3, 4), jnp.array([0.2, 0.8])
    x_t, goal = process.corrupt(x, t, jax.random.key(1))
    np.testing.assert_array_equal(process.loss(goal, goal, x_t, t), 0.0)
    output = goal + jnp.array([2.0, -3.0])[:, None, None]
    np.testing.assert_allclose(process.loss(output, goal, x_t, t), [4, 9], rtol=1e-5)


@targets
@schedules
def test_last_step_returns_the_data(schedule, target):
    """Whatever noise is left goes at once."""
    process = Gaussian(schedule, target)
    x, t = examples(0, 1, 8), jnp.array([0.05])
    x_t, output = process.corrupt(x, t, jax.random.key(1))
    last = process.step(output[0], x_t[0], t[0], jnp.array(0.0), jax.random.key(2))
    np.testing.assert_allclose(last, x[0], atol=1e-5)


@schedules
def test_velocity_is_the_same_from_every_target(schedule):
    x, t = examples(0, 2, 6), jnp.array([0.3, 0.7])
    slopes = []
    for target in TARGETS:
        process = Gaussian(schedule, target)
        x_t, output = process.corrupt(x, t, jax.random.key(1))
        slopes.append(process.velocity(output, x_t, t))
    for slope in slopes[1:]:
        np.testing.assert_allclose(slope, slopes[0], atol=1e-4)


# The learned variance.

VARIANCE = Gaussian(DDPMLinear(), "noise", learned_variance=True)


def with_share(process, share, t, x, key=1):
    """(output with the right mean part, target, x_t); share 0 is the lower bound."""
    x_t, target = process.corrupt(x, t, jax.random.key(key))
    extra = jnp.full_like(target, 2 * share - 1)
    return jnp.concatenate([target, extra], -1), target, x_t


def posterior(schedule, x, x_t, t, s):
    """(mean, variance) of q(x_s | x_t, x) from joint Gaussian conditioning, float64.

    x_s = a_s x + s_s e, x_t = (a_t / a_s) x_s + more noise.
    """
    a_t, s_t, a_s, s_s = (
        np.float64(f(np.float64(u)))
        for u in (t, s)
        for f in (schedule.alpha, schedule.sigma)
    )
    covariance = a_t / a_s * s_s**2
    gain = covariance / s_t**2
    return a_s * x + gain * (x_t - a_t * x), s_s**2 - gain * covariance


@targets
@schedules
def test_reverse_is_the_posterior_when_the_data_is_known(schedule, target):
    process = Gaussian(schedule, target)
    x, t, s = examples(0, 1, 5), 0.6, 0.4
    x_t, output = process.corrupt(x, jnp.array([t]), jax.random.key(1))
    mean, log_variance = process.reverse(output[0], x_t[0], jnp.array(t), jnp.array(s))
    true_mean, true_variance = posterior(schedule, x[0], x_t[0], t, s)
    np.testing.assert_allclose(mean, true_mean, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(log_variance), true_variance, rtol=1e-4)


def test_variance_share_runs_between_its_bounds():
    """Share 1 is the variance of x_t given x_s, DDPM's beta (arXiv:2102.09672)."""
    t, s, x = jnp.array([0.5]), jnp.array([0.499]), examples(0, 1, 3)
    logs = []
    for share in (0.0, 0.5, 1.0):
        output, _, x_t = with_share(VARIANCE, share, t, x)
        logs.append(VARIANCE.reverse(output, x_t, t, s)[1])
    a_t, a_s = VARIANCE.schedule.alpha(t), VARIANCE.schedule.alpha(s)
    np.testing.assert_allclose(jnp.exp(logs[2])[0], 1 - (a_t / a_s) ** 2, rtol=1e-2)
    _, low = posterior(VARIANCE.schedule, x, x_t, 0.5, 0.499)
    np.testing.assert_allclose(jnp.exp(logs[0])[0], low, rtol=1e-2)
    np.testing.assert_allclose(logs[1], (logs[0] + logs[2]) / 2, rtol=1e-5)


@schedules
@targets
def test_bound_is_zero_at_the_true_posterior(schedule, target):
    """All else is above it: the bound is a divergence."""
    process = Gaussian(schedule, target, learned_variance=True)
    x, t = examples(0, 4, 7), jnp.array([0.05, 0.3, 0.6, 0.95])
    output, goal, x_t = with_share(process, 0.0, t, x)
    np.testing.assert_allclose(process.loss(output, goal, x_t, t), 0.0, atol=1e-5)
    wide, goal, x_t = with_share(process, 3.0, t, x)
    assert (process.loss(wide, goal, x_t, t) > 1e-5).all()


def test_bound_is_the_divergence_of_the_two_gaussians():
    """Against an integral of q log(q / p) on a fine grid, in bits."""
    process = Gaussian(Cosine(), "data", learned_variance=True)
    x, t = jnp.array([[0.7]]), jnp.array([0.5])
    x_t, goal = process.corrupt(x, t, jax.random.key(0))
    output = jnp.array([[0.9, 0.4]])
    squares = (0.9 - 0.7) ** 2
    bits = process.loss(output, goal, x_t, t)[0] - squares

    true_mean, true_variance = posterior(Cosine(), 0.7, x_t[0, 0], 0.5, 0.499)
    mean, log_variance = process.reverse(output, x_t, t, t - 1e-3)
    mean, variance = float(mean[0, 0]), float(jnp.exp(log_variance)[0, 0])
    grid = float(true_mean) + np.sqrt(true_variance) * np.linspace(-9, 9, 20_001)
    log_q = -((grid - true_mean) ** 2) / (2 * true_variance) - np.log(true_variance) / 2
    log_p = -((grid - mean) ** 2) / (2 * variance) - np.log(variance) / 2
    q = np.exp(log_q) / np.sqrt(2 * np.pi)
    integral = np.trapezoid(q * (log_q - log_p), grid) / np.log(2)
    assert integral > 0.01
    np.testing.assert_allclose(bits, integral, rtol=0.02)


def test_bound_trains_the_variance_alone():
    process = VARIANCE
    x, t = examples(0, 2, 3), jnp.array([0.2, 0.6])
    output, goal, x_t = with_share(process, 0.7, t, x)
    output = output + 0.3
    gradient = jax.grad(lambda o: process.loss(o, goal, x_t, t).sum())(output)
    mean, extra = jnp.split(gradient, 2, axis=-1)
    plain = Gaussian(process.schedule, process.target)
    error = jax.grad(lambda o: plain.loss(o, goal, x_t, t).sum())(output[:, :3])
    np.testing.assert_allclose(mean, error, rtol=1e-5)
    assert (extra != 0).all()


@targets
@schedules
def test_loss_stays_finite_and_modest_at_the_ends(schedule, target):
    """At t = 1 noise says nothing of the data; a single example must not explode."""
    process = Gaussian(schedule, target, learned_variance=True)
    t = jnp.array([0.0, 1e-4, 0.9999, 1 - 6e-8, 1.0])
    x = examples(0, 5, 4)
    x_t, goal = process.corrupt(x, t, jax.random.key(1))
    output = jnp.concatenate([goal + 0.5, 0 * goal], -1)
    loss = lambda output: process.loss(output, goal, x_t, t)
    assert (loss(output) < 1e3).all()
    assert jnp.isfinite(jax.grad(lambda o: loss(o).sum())(output)).all()


def test_guidance_leaves_the_learned_variance_alone():
    given, absent = jnp.array([1.0, 2.0, 5.0, 6.0]), jnp.array([0.0, 1.0, 7.0, 8.0])
    guided = VARIANCE.guide(given, absent, 3.0)
    np.testing.assert_array_equal(guided, [3.0, 4.0, 5.0, 6.0])


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="'data', 'noise', 'velocity'"):
        Gaussian(Linear(), "epsilon")
