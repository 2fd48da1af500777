"""Corruption and its inverse, the learned variance and its bound."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.diffusion.toys import SCHEDULES, TARGETS, schedule_name
from vqdit import Continuous
from vqdit.diffusion import DDPMLinear, Gaussian, Linear, Process, VarianceExploding

schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=schedule_name)
targets = pytest.mark.parametrize("target", TARGETS)


TIMES = jnp.array([0.02, 0.3, 0.6, 0.98])


def examples(schedule, target, t=TIMES, **fields):
    """(process, x, eps, x_t, the right output): four examples of six values.

    One shape for all tests, since each new one compiles every operation anew.
    """
    process = Gaussian(schedule, target, **fields)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    key = jax.random.key(1)
    eps = jax.random.normal(key, (4, 6))
    return process, x, eps, *process.corrupt(x, t, key)


@targets
@schedules
def test_split_inverts_corrupt(schedule, target):
    process, x, eps, x_t, output = examples(schedule, target)
    assert isinstance(process, Process)
    data, noise = process.estimate(output, x_t, TIMES)
    np.testing.assert_allclose(data, x, atol=1e-4)
    np.testing.assert_allclose(noise, eps, atol=1e-4)
    # One example at a time, as the sampler asks.
    one, _ = process.estimate(output[2], x_t[2], TIMES[2])
    np.testing.assert_allclose(one, data[2], atol=1e-5)


@targets
@schedules
def test_targets_are_what_they_are_called(schedule, target):
    _, x, eps, x_t, output = examples(schedule, target)
    alpha, sigma = schedule.alpha(TIMES)[:, None], schedule.sigma(TIMES)[:, None]
    np.testing.assert_allclose(x_t, alpha * x + sigma * eps, atol=1e-6)
    if target == "velocity":  # dx_t/dt along each example's path, one second after
        _, _, _, ahead, _ = examples(schedule, target, TIMES + 1e-2)
        _, _, _, behind, _ = examples(schedule, target, TIMES - 1e-2)
        slope = (ahead - behind) / 2e-2
        # DDPM's path bends as sqrt(t) at 0, which a difference doesn't follow.
        np.testing.assert_allclose(output[1:], slope[1:], atol=5e-3)
        return
    expected = {"data": x, "noise": eps, "v": alpha * eps - sigma * x}[target]
    np.testing.assert_allclose(output, expected, atol=1e-5)


@schedules
def test_ends_are_data_and_noise(schedule):
    _, x, eps, at_0, _ = examples(schedule, "v", 0 * TIMES)
    _, _, _, at_1, _ = examples(schedule, "v", 0 * TIMES + 1)
    np.testing.assert_allclose(at_0, x, atol=5e-3)  # sigma(T_MIN) is 1e-3 for DDPM
    # What the end remembers of the data: alpha(1), which is 0.0066 for DDPM.
    np.testing.assert_allclose(at_1, eps, atol=0.02)


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
    process, _, _, x_t, goal = examples(Linear(), target)
    np.testing.assert_array_equal(process.loss(goal, goal, x_t, TIMES), 0.0)
    off = jnp.array([0.0, 1.0, 2.0, -3.0])
    loss = process.loss(goal + off[:, None], goal, x_t, TIMES)
    np.testing.assert_allclose(loss, off**2, rtol=1e-5)


@targets
@schedules
def test_last_step_returns_the_data(schedule, target):
    """Whatever noise is left goes at once."""
    process, x, _, x_t, output = examples(schedule, target)
    end, key = jnp.array(0.0), jax.random.key(2)
    last = process.step(output[1], x_t[1], TIMES[1], end, key)
    np.testing.assert_allclose(last, x[1], atol=1e-5)


@schedules
def test_velocity_is_the_same_from_every_target(schedule):
    slopes = []
    for target in TARGETS:
        process, _, _, x_t, output = examples(schedule, target)
        slopes.append(process.velocity(output, x_t, TIMES))
    for slope in slopes[1:]:
        np.testing.assert_allclose(slope, slopes[0], atol=5e-4)


# The learned variance.


def with_share(schedule, target, share, t=TIMES):
    """(process, x, the right output, its target, x_t); share 0 is the lower bound."""
    process, x, _, x_t, goal = examples(schedule, target, t, learned_variance=True)
    extra = jnp.full_like(goal, 2 * share - 1)
    return process, x, jnp.concatenate([goal, extra], -1), goal, x_t


def posterior(schedule, x, x_t, t, s):
    """(mean, variance) of q(x_s | x_t, x): conditioning of two jointly normal values,
    x_s = a_s x + s_s e and x_t = (a_t / a_s) x_s + more noise.
    """
    a_t, s_t, a_s, s_s = (
        np.float64(f(u)) for u in (t, s) for f in (schedule.alpha, schedule.sigma)
    )
    covariance = a_t / a_s * s_s**2
    gain = covariance / s_t**2
    return a_s * x + gain * (x_t - a_t * x), s_s**2 - gain * covariance


@targets
@schedules
def test_reverse_is_the_posterior_when_the_data_is_known(schedule, target):
    process, x, _, x_t, output = examples(schedule, target)
    mean, log_variance = process.reverse(output[2], x_t[2], TIMES[2], TIMES[1])
    true_mean, true_variance = posterior(schedule, x[2], x_t[2], TIMES[2], TIMES[1])
    np.testing.assert_allclose(mean, true_mean, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(log_variance), true_variance, rtol=1e-4)


def test_variance_share_runs_between_its_bounds():
    """Share 1 is the variance of x_t given x_s, DDPM's beta (arXiv:2102.09672)."""
    schedule, t, s = DDPMLinear(), TIMES[2], TIMES[1]
    logs = []
    for share in (0.0, 0.5, 1.0):
        process, x, output, _, x_t = with_share(schedule, "noise", share)
        logs.append(process.reverse(output[2], x_t[2], t, s)[1][0])
    _, low = posterior(schedule, x, x_t, t, s)
    np.testing.assert_allclose(jnp.exp(logs[0]), low, rtol=1e-4)
    beta = 1 - (schedule.alpha(t) / schedule.alpha(s)) ** 2
    np.testing.assert_allclose(jnp.exp(logs[2]), beta, rtol=1e-4)
    np.testing.assert_allclose(logs[1], (logs[0] + logs[2]) / 2, rtol=1e-4)


@targets
@schedules
def test_bound_is_zero_at_the_true_posterior(schedule, target):
    process, _, output, goal, x_t = with_share(schedule, target, 0.0)
    loss = process.loss(output, goal, x_t, TIMES)
    np.testing.assert_allclose(loss, 0.0, atol=1e-5)


@schedules
def test_bound_is_the_divergence_of_the_two_gaussians(schedule):
    """Against an integral of q log(q / p) on a fine grid, in bits."""
    t, s = TIMES[1], TIMES[1] - 1e-3
    # A share far outside the bounds: e^0.8 times the true variance, in any schedule.
    share = 0.4 / np.log(schedule.sigma(t) / schedule.sigma(s))
    process, x, output, goal, x_t = with_share(schedule, "data", share)
    wrong = output.at[:, :6].add(20.0)
    bits = process.loss(wrong, goal, x_t, TIMES)[1] - 20.0**2

    x, x_t, output = np.float64(x[1, 0]), np.float64(x_t[1, 0]), wrong[1]
    mean, log_variance = process.reverse(output, jnp.full(6, x_t), t, s)
    mean, variance = np.float64(mean[0]), np.exp(np.float64(log_variance[0]))
    true_mean, true_variance = posterior(schedule, x, x_t, t, s)
    grid = true_mean + np.sqrt(true_variance) * np.linspace(-9, 9, 2001)
    log_q = -((grid - true_mean) ** 2) / true_variance - np.log(true_variance)
    log_p = -((grid - mean) ** 2) / variance - np.log(variance)
    q = np.exp(log_q / 2) / np.sqrt(2 * np.pi)
    integral = np.trapezoid(q * (log_q - log_p) / 2, grid) / np.log(2)
    assert integral > 0.2
    # float32: differences of two times a thousandth apart keep three digits or four.
    np.testing.assert_allclose(bits, integral, rtol=0.01)


@schedules
def test_a_point_is_scored_under_noise_of_a_hundredth(schedule):
    """Data that are one point, known to the network: what is left of -log p is the
    entropy of the noise at which the bound ends."""
    process, x = Gaussian(schedule, "data"), jnp.zeros((1, 1))
    known = jnp.ones(1, bool)
    x_t, t = process.query(x, jnp.float32(0.3), jax.random.key(0), known)
    nats = process.bound(x, x, x_t, t, known)
    entropy = stats.norm(scale=0.01).entropy()
    np.testing.assert_allclose(nats, entropy, atol=0.01)


def test_bound_trains_the_variance_alone():
    process, _, output, goal, x_t = with_share(DDPMLinear(), "noise", 0.7)
    wrong = output.at[:, :6].add(0.3)
    gradient = jax.grad(lambda o: process.loss(o, goal, x_t, TIMES).sum())(wrong)
    # The squared error's own gradient, 2 (output - target) / values.
    np.testing.assert_allclose(gradient[:, :6], 2 * 0.3 / 6, rtol=1e-4)
    assert (gradient[:, 6:] != 0).all()


@targets
@schedules
def test_loss_stays_modest_where_nothing_is_known(schedule, target):
    """At t = 1 noise says nothing of the data; one example must not explode."""
    t = jnp.array([0.9995, 0.9999, 1 - 6e-8, 1.0])
    process, _, output, goal, x_t = with_share(schedule, target, 0.5, t)
    wrong = output + 0.5
    loss, pull = jax.vjp(lambda o: process.loss(o, goal, x_t, t), wrong)
    assert (loss < 100).all(), loss
    assert (abs(pull(jnp.ones(4))[0]) < 100).all()


def test_loss_stays_finite_where_all_is_known():
    t = jnp.array([0.0, 1e-8, 1e-4, 1e-3])
    for target in TARGETS:
        process, _, output, goal, x_t = with_share(DDPMLinear(), target, 0.5, t)
        loss, pull = jax.vjp(lambda o: process.loss(o, goal, x_t, t), output + 0.1)  # noqa: B023
        assert jnp.isfinite(loss).all() and jnp.isfinite(pull(jnp.ones(4))[0]).all()


def test_guidance_leaves_the_learned_variance_alone():
    process = Gaussian(learned_variance=True)
    given, absent = jnp.array([1.0, 2.0, 5.0, 6.0]), jnp.array([0.0, 1.0, 7.0, 8.0])
    guided = process.guide(given, absent, jnp.array(3.0))
    np.testing.assert_array_equal(guided, [3.0, 4.0, 5.0, 6.0])


def test_guidance_moves_the_channels_that_it_is_for():
    """Three of four, as DiT's code: eps_u + s (eps_c - eps_u), the rest eps_c."""
    given, absent = jnp.arange(8.0).reshape(1, 8), jnp.ones((1, 8))
    scale = jnp.array([[3.0]])
    moved = [-2.0, 1.0, 4.0, 7.0]
    for learned in (False, True):
        process = Gaussian(target="noise", learned_variance=learned, guided=3)
        width = 4 * process.outputs
        found = process.guide(given[:, :width], absent[:, :width], scale)
        wanted = [*moved[:3], *range(3, width)]
        np.testing.assert_array_equal(found[0], wanted)
        whole = dataclasses.replace(process, guided=None)
        found = whole.guide(given[:, :width], absent[:, :width], scale)
        np.testing.assert_array_equal(found[0], [*moved, *range(4, width)])
    assert Gaussian(guided=4).fit(Continuous("x", (2,), 4)) == Gaussian(guided=4)
    with pytest.raises(ValueError, match="guided=5 of 4 channels; write at most"):
        Gaussian(guided=5).fit(Continuous("x", (2,), 4))


@pytest.mark.parametrize("schedule", [VarianceExploding(0.01, 2.0), Linear()])
def test_the_bound_of_a_perfect_network_is_the_likelihood(schedule):
    """Of numbers that are N(0, 1), also where at the greatest noise, of twice their
    spread, a fifth of what is there is still data."""
    process, known = Gaussian(schedule, "noise"), jnp.ones((1,), bool)

    def one(x0, u, key):
        x_t, t = process.query(x0, u, key, known)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        output = sigma * x_t / (alpha**2 + sigma**2)  # the mean of the noise, given x_t
        return process.bound(output, x0, x_t, t, known)

    draws = 20_000
    u = (jnp.arange(draws) + 0.5) / draws
    keys = jax.random.split(jax.random.key(0), draws)
    x0 = jnp.array([0.0, 1.0, 2.5])[:, None, None]
    bounds = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))(x0, u, keys)
    exact = 0.5 * (np.log(2 * np.pi) + np.asarray(x0)[:, 0, 0] ** 2)
    error = 4 * np.asarray(bounds.std(1)) / np.sqrt(draws)
    assert (np.abs(bounds.mean(1) - exact) < error + 0.01).all()
    assert (error < 0.4).all()  # the noisiest end alone is worth 0.6 at 2.5
