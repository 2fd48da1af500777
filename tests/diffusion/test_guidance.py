"""Guidance against distributions whose tilt is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.toys import (
    SCHEDULES,
    TARGETS,
    as_target,
    schedule_name,
    time_grid,
)
from vqdit.diffusion import (
    Cosine,
    Gaussian,
    Heun,
    Linear,
    Masking,
    example_keys,
    guided,
    sample,
    unguided,
)

NULL = 2
CENTRES, STD = jnp.array([-1.5, 1.0]), 0.6


def log_density(process, x_t, t, label):
    """log p_t(x_t | label) up to a constant; the null label is the even mixture."""
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    spread = alpha**2 * STD**2 + sigma**2
    each = -((x_t - alpha * CENTRES) ** 2) / (2 * spread)
    both = jax.nn.logsumexp(each)
    return jnp.where(label == NULL, both, each[jnp.minimum(label, 1)])


def two_gaussians(process):
    """The best network of the toy, from the score: eps = -sigma grad log p_t."""

    def network(streams, times, label):
        x_t, t = streams["x"][:, 0], times["x"]
        score = jax.vmap(jax.grad(lambda x, t, y: log_density(process, x, t, y)))
        return {"x": from_score(process, score(x_t, t, label), x_t, t)[:, None]}

    return network


def from_score(process, score, x_t, t):
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    noise = -sigma * score
    return as_target(process, (x_t - sigma * noise) / alpha, noise, t)


LABEL = jnp.array([0, 0, 1, 1, 0, 1])
X_T = {"x": jnp.array([-2.0, 0.1, 0.5, 3.0, 1.0, -1.0])[:, None]}


def at(t):
    return {"x": jnp.full(6, t)}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=schedule_name)
def test_the_score_is_tilted(schedule, target):
    """score(uncond) + w (score(cond) - score(uncond)), whatever the network says."""
    process, t, w = Gaussian(schedule, target), 0.4, 2.5
    network = two_gaussians(process)
    guide = guided(network, {"x": process}, LABEL, NULL, {}, jnp.array(w))
    output = guide(X_T, at(t))["x"][:, 0]
    tilt = lambda x, y: (
        w * log_density(process, x, t, y) + (1 - w) * log_density(process, x, t, NULL)
    )
    score = jax.vmap(jax.grad(tilt))(X_T["x"][:, 0], LABEL)
    expected = from_score(process, score, X_T["x"][:, 0], jnp.full(6, t))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


NETWORK = two_gaussians(Gaussian(Cosine()))
PROCESS = {"x": Gaussian(Cosine())}


def outputs(t, scale, interval=(0.0, 1.0)):
    scale = jnp.array(scale)
    return guided(NETWORK, PROCESS, LABEL, NULL, {}, scale, interval)(X_T, at(t))["x"]


def test_a_scale_may_be_a_plain_number():
    for scale in (3.0, {"label": 3.0}):
        predict = guided(NETWORK, PROCESS, LABEL, NULL, {}, scale)
        found = predict(X_T, at(0.4))["x"]
        np.testing.assert_allclose(found, outputs(0.4, 3.0), atol=1e-5)


def test_scale_one_is_none_and_scale_zero_is_unconditional():
    given = unguided(NETWORK, LABEL)(X_T, at(0.4))["x"]
    absent = unguided(NETWORK, jnp.full(6, NULL))(X_T, at(0.4))["x"]
    np.testing.assert_allclose(outputs(0.4, 1.0), given, atol=1e-6)
    np.testing.assert_allclose(outputs(0.4, 0.0), absent, atol=1e-6)
    assert abs(given - absent).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "t,inside",
    [(0.29, False), (0.3, True), (0.5, True), (0.6, True), (0.61, False)],
)
def test_the_scale_applies_inside_its_interval(t, inside):
    low, high = jnp.float32(0.3), jnp.float32(0.6)
    scale = 3.0 if inside else 1.0
    limited = outputs(t, 3.0, (low, high))
    np.testing.assert_allclose(limited, outputs(t, scale), rtol=1e-5)
    assert not jnp.array_equal(outputs(t, 3.0), outputs(t, 1.0))


def test_guided_gaussians_of_one_width_are_sampled_exactly():
    """N(m, s^2)^w N(0, s^2)^(1 - w) is N(w m, s^2), and so is every noised tilt.

    4,096 draws, 4 standard errors and 0.01 for the steps.
    """
    process, n, w, m, s = Gaussian(Linear(), "velocity"), 4096, 3.0, 0.5, 0.4

    def network(streams, times, label):
        x_t, t = streams["x"], times["x"][:, None]
        mean = jnp.where(label == NULL, 0.0, m)[:, None]
        surprise = (x_t - (1 - t) * mean) / ((1 - t) ** 2 * s**2 + t**2)
        data = mean + (1 - t) * s**2 * surprise
        return {"x": t * surprise - data}

    @jax.jit
    def run(scale):
        label = jnp.zeros(n, jnp.int32)
        predict = guided(network, {"x": process}, label, NULL, {}, scale)
        keys = example_keys(jax.random.key(0), jnp.arange(n))
        solvers = {"x": Heun()}
        return sample(
            {"x": process}, solvers, predict, keys, {"x": (1,)}, time_grid(60)
        )

    for scale, mean in ((1.0, m), (w, w * m)):
        x = run(scale)["x"]
        assert abs(x.mean() - mean) < s * 4 / math.sqrt(n) + 0.01
        assert abs(x.std() - s) < s * 4 / math.sqrt(2 * n) + 0.01


def test_absent_streams_are_moved_to_their_noise():
    """What the network is asked: given as it is, absent as drawn and at t = 1."""
    asked = {}

    def network(streams, times, label):
        asked.update(streams=streams, times=times, label=label)
        return {"word": streams["word"][..., None] * jnp.ones(4)}

    processes = {"line": Gaussian(), "word": Masking(4)}
    line, noise = jnp.array([[1.0], [2.0]]), jnp.array([[8.0], [9.0]])
    word = jnp.array([[0, 4], [4, 4]])
    predict = guided(network, processes, None, 0, {"line": noise}, jnp.array(2.0))
    times = {"line": jnp.zeros(2), "word": jnp.full(2, 0.5)}
    output = predict({"line": line, "word": word}, times)
    np.testing.assert_array_equal(asked["streams"]["line"], [[1], [2], [8], [9]])
    np.testing.assert_array_equal(asked["streams"]["word"], [*word, *word])
    np.testing.assert_array_equal(asked["times"]["line"], [0, 0, 1, 1])
    np.testing.assert_array_equal(asked["times"]["word"], [0.5] * 4)
    assert asked["label"] is None
    assert output["word"].shape == (2, 2, 4)


def test_the_interval_goes_by_the_time_of_what_is_drawn():
    """A given stream stands at t = 0, which says nothing of the step."""
    network = lambda streams, times, label: {"b": streams["a"] * times["b"][:, None]}
    processes = {"a": Gaussian(), "b": Gaussian()}
    streams = {"a": jnp.array([[1.0]]), "b": jnp.array([[0.0]])}
    noise, scale, interval = {"a": jnp.array([[5.0]])}, jnp.array(3.0), (0.4, 0.6)
    predict = guided(network, processes, None, 0, noise, scale, interval)
    found = {}
    for t in (0.3, 0.4, 0.5, 0.6, 0.8):
        times = {"a": jnp.zeros(1), "b": jnp.full(1, t)}
        found[t] = float(predict(streams, times)["b"][0, 0]) / t
    # given 1, absent 5: 5 + 3 (1 - 5) inside, ends included; given alone outside.
    np.testing.assert_allclose([*found.values()], [1, -7, -7, -7, 1], rtol=1e-6)


def test_each_stream_has_the_interval_at_its_own_time():
    """One is inside and is guided; the other, drawn beside it, is not."""
    network = lambda streams, times, label: dict.fromkeys("bc", streams["a"])
    streams = {"a": jnp.array([[1.0]]), "b": jnp.zeros((1, 1)), "c": jnp.zeros((1, 1))}
    noise, processes = {"a": jnp.array([[5.0]])}, dict.fromkeys("abc", Gaussian())
    how = (network, processes, None, 0, noise, jnp.array(3.0), (0.4, 0.6))
    times = {"a": jnp.zeros(1), "b": jnp.full(1, 0.5), "c": jnp.full(1, 0.9)}
    found = guided(*how)(streams, times)
    assert (found["b"].item(), found["c"].item()) == (-7.0, 1.0)


def test_outside_the_interval_the_batch_is_asked_alone():
    """Each step's batch, as the program runs it."""
    asked = []

    def network(streams, times, label):
        jax.debug.callback(asked.append, len(label) * jnp.ones((), int))
        return NETWORK(streams, times, label)

    ends = jnp.float32(0.3), jnp.float32(0.6)
    predict = guided(network, PROCESS, LABEL, NULL, {}, jnp.array(3.0), ends)
    for t in (0.9, 0.5, 0.1):
        jax.block_until_ready(predict(X_T, at(t)))
        jax.effects_barrier()
    assert [int(n) for n in asked] == [6, 12, 6]


def test_the_interval_goes_by_the_places_that_are_drawn():
    """Those that are known stand at t = 0 beside them."""
    copied = lambda streams, times, label: {
        "b": jnp.tile(streams["a"][:, None], (1, 2, 1))
    }
    processes = {"a": Gaussian(), "b": Gaussian()}
    streams = {"a": jnp.array([[1.0]]), "b": jnp.zeros((1, 2, 1))}
    noise, scale, interval = {"a": jnp.array([[5.0]])}, jnp.array(3.0), (0.4, 0.6)
    predict = guided(copied, processes, None, 0, noise, scale, interval)
    for t, expected in ((0.5, -7.0), (0.8, 1.0)):
        times = {"a": jnp.zeros(1), "b": jnp.array([[0.0, t]])}
        np.testing.assert_allclose(predict(streams, times)["b"], expected, rtol=1e-6)
