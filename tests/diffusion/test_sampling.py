"""The sampling loop: times, keys, streams that condition each other."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.toys import time_grid
from vqdit.diffusion import (
    DDIM,
    Ancestral,
    Cosine,
    Euler,
    Gaussian,
    Heun,
    Linear,
    Masking,
    Solver,
    Steps,
    Unmask,
    VarianceExploding,
    example_keys,
    priors,
    sample,
)


def test_times_run_from_start_to_zero():
    for shift in (0.5, 1.0, 3.0):
        times = time_grid(7, 0.999, shift)
        assert times.shape == (8,) and times[-1] == 0 and times[0] <= 1
        assert (jnp.diff(times) < 0).all()
    np.testing.assert_allclose(time_grid(4), [1, 0.75, 0.5, 0.25, 0], atol=1e-7)
    np.testing.assert_allclose(time_grid(2, 0.9), [0.9, 0.45, 0], atol=1e-7)


def test_shift_multiplies_the_odds_of_noise():
    plain, shifted = (np.asarray(time_grid(10, 1.0, s))[1:] for s in (1.0, 3.0))
    odds = lambda t: t / (1 - t)
    np.testing.assert_allclose(odds(shifted), 3 * odds(plain), rtol=1e-4)


def test_shift_keeps_the_start():
    """Past it, alpha may vanish and the data can no longer be read off the noise."""
    times = np.asarray(time_grid(4, 0.999, 100.0))
    np.testing.assert_allclose(times[[0, -1]], [0.999, 0.0], atol=1e-6)
    assert (np.diff(times) < 0).all()


@pytest.mark.parametrize("fields", [(0,), (4, 1.0, 0.0), (4, 1.0, -2.0)])
def test_times_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="write"):
        time_grid(*fields)


# A line and a word: noise in every step of both, each seeing the other.
PROCESSES = {"line": Gaussian(Cosine(), "data"), "word": Masking(3)}
SOLVERS = {"line": Ancestral(), "word": Unmask()}
SHAPES = {"line": (5,), "word": (4,)}


def predict(x, t):
    line, word = x["line"], x["word"].astype(jnp.float32)
    mean = jnp.tanh(line + word.sum(1, keepdims=True)) * (1 - t["line"][:, None])
    logits = 0.1 * jnp.arange(3) * line[:, :4, None] + t["word"][:, None, None]
    return {"line": mean, "word": logits}


@jax.jit
def draw(key, ids):
    keys = example_keys(key, ids)
    return sample(PROCESSES, SOLVERS, predict, keys, SHAPES, time_grid(4))


KEY = jax.random.key(3)


def equal(a, b):
    for name in SHAPES:
        np.testing.assert_allclose(a[name], b[name], atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def everyone():
    """Samples 0 to 15, in one batch and in order."""
    return draw(KEY, jnp.arange(16))


def test_samples_differ(everyone):
    for name in SHAPES:
        assert len({tuple(np.asarray(v)) for v in everyone[name]}) > 10
    assert not jnp.array_equal(
        draw(jax.random.key(4), jnp.arange(16))["line"], everyone["line"]
    )


@pytest.mark.slow
def test_a_sample_is_its_key_and_id(everyone):
    order = jnp.array([11, 3, 3, 0, 15])
    equal(draw(KEY, order), {name: v[order] for name, v in everyone.items()})
    equal(draw(KEY, jnp.array([7])), {name: v[7:8] for name, v in everyone.items()})


def test_a_sample_is_the_same_on_eight_devices(everyone):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    many = draw(KEY, jax.device_put(jnp.arange(16), batch))
    assert len(many["line"].sharding.device_set) == 8
    equal(many, everyone)


def test_noise_of_a_stream_ignores_its_companions():
    """Dropping a stream that the other doesn't look at changes nothing."""
    alone = {"line": PROCESSES["line"]}
    see_line = lambda x, t: {"line": jnp.tanh(x["line"])}
    see_both = lambda x, t: predict(x, t) | see_line(x, t)
    keys = example_keys(KEY, jnp.arange(3))

    @jax.jit
    def both():
        one = sample(alone, SOLVERS, see_line, keys, {"line": (5,)}, time_grid(4))
        two = sample(PROCESSES, SOLVERS, see_both, keys, SHAPES, time_grid(4))
        return one["line"], two["line"]

    np.testing.assert_allclose(*both(), atol=1e-6)


def test_streams_and_steps_draw_their_own_noise():
    same = Gaussian()
    keys = example_keys(KEY, jnp.arange(2))
    start = priors({"a": same, "b": same}, {"a": (1000,), "b": (1000,)}, keys)
    assert abs(jnp.corrcoef(start["a"][0], start["b"][0])[0, 1]) < 4 / math.sqrt(1000)
    assert abs(jnp.corrcoef(start["a"][0], start["a"][1])[0, 1]) < 4 / math.sqrt(1000)

    # With data known to be 0, Ancestral's x_s is kept noise and fresh noise.
    nothing = lambda x, t: {"a": jnp.zeros_like(x["a"])}
    process = Gaussian(Linear(), "data")
    times = jnp.array([1.0, 0.99, 0.98, 0.0])
    _, path = sample(
        {"a": process},
        {"a": Ancestral()},
        nothing,
        keys,
        {"a": (1000,)},
        times,
        None,
        True,
    )
    # From t = 1 nothing is kept (alpha is 0), so the first three are independent.
    first, second = path["a"][0, 0], path["a"][1, 0]
    assert abs(jnp.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(1000)


def test_a_path_starts_at_the_prior_and_ends_at_the_sample(everyone):
    keys = example_keys(KEY, jnp.arange(3))
    x, path = sample(
        PROCESSES, SOLVERS, predict, keys, SHAPES, time_grid(4), trajectory=True
    )
    start = priors(PROCESSES, SHAPES, keys)
    for name, shape in SHAPES.items():
        assert path[name].shape == (5, 3, *shape)
        np.testing.assert_array_equal(path[name][0], start[name])
        np.testing.assert_array_equal(path[name][-1], x[name])
        np.testing.assert_allclose(x[name], everyone[name][:3], atol=1e-5)


# Two normal streams with correlation 0.8, whose best predictor is a 2x2 solve.

MEANS, STDS, RHO = (0.5, -1.0), (1.0, 0.5), 0.8


def best_pair(x, t):
    """E[data | both at their own times], for the target "data"."""
    a, b = x["a"][:, 0], x["b"][:, 0]
    alpha = jnp.stack([1 - t["a"], 1 - t["b"]], -1)
    sigma = jnp.stack([t["a"], t["b"]], -1)
    cross = RHO * STDS[0] * STDS[1]
    covariance = jnp.array([[STDS[0] ** 2, cross], [cross, STDS[1] ** 2]])
    seen = alpha[:, :, None] * covariance * alpha[:, None]
    seen += (sigma**2 + 1e-6)[:, :, None] * jnp.eye(2)  # a stream at t = 0 is exact
    means = jnp.array(MEANS)
    surprise = jnp.stack([a, b], -1) - alpha * means
    (p, q), (r, s) = (seen[:, 0].T, seen[:, 1].T)
    det = p * s - q * r
    solved = jnp.stack(
        [
            (s * surprise[:, 0] - q * surprise[:, 1]) / det,
            (p * surprise[:, 1] - r * surprise[:, 0]) / det,
        ],
        -1,
    )
    data = means + (alpha * solved) @ covariance
    return {"a": data[:, :1], "b": data[:, 1:]}


N = 4096
PAIR = {"a": Gaussian(Linear(), "data"), "b": Gaussian(Linear(), "data")}


@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(1.0)], ids=repr)
def test_two_streams_are_drawn_jointly(solver):
    """Means, spreads and correlation: 4 standard errors and 0.02 for the steps."""
    keys = example_keys(jax.random.key(0), jnp.arange(N))
    solvers = {"a": solver, "b": Heun()}
    shapes = {"a": (1,), "b": (1,)}
    run = jax.jit(
        lambda: sample(PAIR, solvers, best_pair, keys, shapes, time_grid(200))
    )
    x = run()
    a, b = np.asarray(x["a"][:, 0]), np.asarray(x["b"][:, 0])
    for values, mean, std in ((a, MEANS[0], STDS[0]), (b, MEANS[1], STDS[1])):
        assert abs(values.mean() - mean) < std * (4 / math.sqrt(N) + 0.02)
        assert abs(values.std() - std) < std * (4 / math.sqrt(2 * N) + 0.02)
    error = 4 * (1 - RHO**2) / math.sqrt(N) + 0.02
    assert abs(np.corrcoef(a, b)[0, 1] - RHO) < error


def test_a_given_stream_conditions_the_other():
    """a given b is N(m + rho s_a (b - m_b) / s_b, (1 - rho^2) s_a^2), b by b."""
    given = {"b": jnp.repeat(jnp.array([-2.0, 0.0]), N // 2)[:, None]}
    keys = example_keys(jax.random.key(0), jnp.arange(N))
    run = jax.jit(
        lambda given: sample(
            PAIR, {"a": Heun()}, best_pair, keys, {"a": (1,)}, time_grid(100), given
        )
    )
    x = run(given)
    assert set(x) == {"a"}
    left = STDS[0] * math.sqrt(1 - RHO**2)
    for part, b in zip(jnp.split(x["a"], 2), (-2.0, 0.0), strict=True):
        mean = MEANS[0] + RHO * STDS[0] * (b - MEANS[1]) / STDS[1]
        assert abs(part.mean() - mean) < left * 4 / math.sqrt(N / 2) + 0.01
        assert abs(part.std() - left) < left * 4 / math.sqrt(N) + 0.01


def test_a_step_draws_anew_at_its_begin_and_at_every_stage():
    """And for what is held beside it, from the start on."""

    @dataclasses.dataclass(frozen=True)
    class Held(Gaussian):
        def held(self, x0, t, key):
            return jnp.full_like(x0, jax.random.uniform(key))

    @dataclasses.dataclass(frozen=True)
    class Draws(Solver):
        stages = 2

        def begin(self, process, x, t, s, key, memory):
            return x.at[0].set(jax.random.uniform(key))

        def step(self, stage, process, output, x_t, x, t, s, key, memory):
            return x.at[1 + stage].set(jax.random.uniform(key)), memory

    process = {"a": Held()}
    keys, times = example_keys(KEY, jnp.arange(2)), Steps(4)(process["a"])
    asked = lambda x, t: x
    shapes, solver = {"a": (4,)}, {"a": Draws()}
    fixed = {"a": (jnp.zeros((2, 4)), jnp.tile(jnp.arange(4) == 3, (2, 1)))}
    how = {"fixed": fixed, "trajectory": True}
    _, path = sample(process, solver, asked, keys, shapes, times, **how)
    drawn = [*np.ravel(path["a"][1:]).tolist(), *path["a"][0, :, 3].tolist()]
    assert len(set(drawn)) == len(drawn) == 4 * 2 * 4 + 2


def test_each_stream_is_held_asked_and_walked_at_its_own_times():
    """Of two on other times: a place each for the time at which the network is asked,
    for t and s of `begin` and of `step`; and one that is held, and seen so."""

    @dataclasses.dataclass(frozen=True)
    class Held(Gaussian):
        def held(self, x0, t, key):
            return jnp.full_like(x0, t)

    @dataclasses.dataclass(frozen=True)
    class Told(Solver):
        def begin(self, process, x, t, s, key, memory):
            return x.at[:2].set(jnp.stack([t, s]))

        def step(self, stage, process, output, x_t, x, t, s, key, memory):
            return jnp.concatenate([x[:2], jnp.stack([t, s]), output[4:]]), memory

    times = {"a": jnp.array([1.0, 0.7, 0.0]), "b": jnp.array([0.9, 0.2, 0.0])}
    asked = lambda x, t: {
        n: x[n].at[:, 4].set(t[n]).at[:, 5].set(x[n][:, 6]) for n in x
    }
    fixed = (jnp.zeros((2, 7)), jnp.tile(jnp.arange(7) == 6, (2, 1)))
    _, path = sample(
        dict.fromkeys(times, Held()),
        dict.fromkeys(times, Told()),
        asked,
        example_keys(KEY, jnp.arange(2)),
        dict.fromkeys(times, (7,)),
        times,
        trajectory=True,
        fixed=dict.fromkeys(times, fixed),
    )
    for name, (first, second, last) in times.items():
        step = lambda t, s: [t, s, t, s, t, t, s]
        expected = np.array([step(first, second), step(second, last)], np.float32)
        np.testing.assert_array_equal(path[name][1:, 0], expected)
        assert path[name][0, 0, 6] == first


def test_a_stream_that_waits_for_another_stands_where_it_went():
    @dataclasses.dataclass(frozen=True)
    class Asked(Solver):
        stages = 2

        def step(self, stage, process, output, x_t, x, t, s, key, memory):
            return (output if stage else x), memory

    both = {"a": Gaussian(), "b": Gaussian()}
    keys, times = example_keys(KEY, jnp.arange(2)), Steps(4)(both["a"])
    asked = lambda x, t: {"a": jnp.broadcast_to(t["b"], (2,)), "b": x["b"]}
    solvers, shapes = {"a": Asked(), "b": Euler()}, {"a": (), "b": ()}
    _, path = sample(both, solvers, asked, keys, shapes, times, trajectory=True)
    np.testing.assert_array_equal(path["a"][1:, 0], times[1:])


def test_streams_of_several_counts_of_times_are_refused():
    times = {"line": Steps(4)(Gaussian()), "word": Steps(2)(Masking(3))}
    with pytest.raises(ValueError, match="steps are 4 of 'line', 2 of 'word': streams"):
        jax.eval_shape(
            lambda keys: sample(
                PROCESSES,
                {"line": Euler(), "word": Unmask()},
                lambda x, t: x,
                keys,
                {"line": (1,), "word": (1,)},
                times,
            ),
            example_keys(KEY, jnp.arange(2)),
        )


def test_what_is_fixed_ends_as_the_data_whatever_noise_a_schedule_leaves():
    process = {"a": Gaussian(VarianceExploding(low=0.5))}
    data, mask = jnp.ones((2, 3, 1)), jnp.array([[1, 0, 1]] * 2)
    keys, times = example_keys(KEY, jnp.arange(2)), Steps(3)(process["a"])
    x = sample(
        process,
        {"a": Euler()},
        lambda x, t: {"a": 0 * x["a"]},
        keys,
        {"a": (3, 1)},
        times,
        fixed={"a": (data, mask)},
    )["a"]
    np.testing.assert_array_equal(x[:, ::2], 1.0)
    assert (x[:, 1] != 1.0).all()


def test_masked_codes_that_are_known_are_seen_from_the_first_step():
    """Two codes that always agree: the other one is never drawn before it is seen."""
    n, first = 512, jnp.arange(512)[:, None] % 3
    data = jnp.concatenate([first, first], axis=1)
    table = jnp.concatenate([jnp.where(jnp.eye(3) > 0, 0.0, -30.0), jnp.zeros((1, 3))])
    predict = lambda x, t: {"w": table[x["w"][:, ::-1]]}
    x = sample(
        {"w": Masking(3)},
        {"w": Euler()},
        predict,
        example_keys(jax.random.key(0), jnp.arange(n)),
        {"w": (2,)},
        time_grid(4),
        fixed={"w": (data, jnp.tile(jnp.array([1, 0]), (n, 1)))},
    )["w"]
    np.testing.assert_array_equal(x, data)


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=repr)
def test_places_of_parts_stand_at_zero_as_they_are(solver):
    """At every call of the network, whatever the solver does to them in between."""
    data = jnp.arange(8.0).reshape(2, 4, 1)
    mask = jnp.array([[1, 0, 0, 1], [0, 0, 0, 0]])
    asked = []

    def predict(x, t):
        jax.debug.callback(lambda *seen: asked.append(seen), x["a"], t["a"])
        return {"a": x["a"] + 1}

    @jax.jit
    def run():
        return sample(
            {"a": Gaussian()},
            {"a": solver},
            predict,
            example_keys(jax.random.key(0), jnp.arange(2)),
            {"a": (4, 1)},
            time_grid(3),
            fixed={"a": (data, mask)},
            parts={"a": mask > 0},
        )["a"]

    found = jax.block_until_ready(run())
    jax.effects_barrier()
    assert len(asked) == 3 * solver.stages
    mask = np.asarray(mask)
    for x, t in asked:
        assert t.shape == (2, 4)
        np.testing.assert_array_equal(t[mask > 0], 0)
        assert len(set(t[mask == 0].tolist())) == 1
        np.testing.assert_array_equal(x[mask > 0], data[mask > 0])
    assert len({float(t[1, 0]) for _, t in asked}) == (3 if solver.stages == 1 else 4)
    np.testing.assert_array_equal(found[mask > 0], data[mask > 0])
    assert abs(found - data)[mask == 0].min() > 1e-3
