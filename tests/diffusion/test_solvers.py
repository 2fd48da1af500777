"""Solvers are exact where the best predictor is known."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.diffusion import toys
from tests.diffusion.toys import (
    SCHEDULES,
    best_gaussian,
    schedule_name,
    time_grid,
)
from vqdit.diffusion import (
    DDIM,
    EDM,
    Ancestral,
    Churn,
    Confidence,
    Corrector,
    Cosine,
    DDPMLinear,
    Euler,
    Gaussian,
    Heun,
    ImplicitEuler,
    Karras,
    Linear,
    Masking,
    Multistep,
    Plain,
    Reversed,
    Steps,
    Unmask,
    VarianceExploding,
    example_keys,
    sample,
)

MEAN, STD = 0.7, 0.5


def draw(processes, solver, times, examples=8, values=64, predict=None):
    """Samples, and every x_t, of all processes as so many streams: one compilation."""
    best = {n: predict or best_gaussian(p, MEAN, STD) for n, p in processes.items()}
    return sample(
        processes,
        dict.fromkeys(processes, solver),
        lambda x, t: {n: best[n](x[n], t[n]) for n in x},
        example_keys(jax.random.key(0), jnp.arange(examples)),
        dict.fromkeys(processes, (values,)),
        times,
        trajectory=True,
    )


def flow_errors(processes, solver, counts):
    """count of steps -> stream -> largest distance from where the ODE leads x_1."""

    @jax.jit
    def run():
        errors = {}
        for count in counts:
            x, path = draw(processes, solver, time_grid(count))
            errors[count] = {
                name: abs(x[name] - toys.flow_map(p, MEAN, STD, path[name][0])).max()
                for name, p in processes.items()
            }
        return errors

    return run()


@pytest.mark.parametrize("solver", [Euler(), DDIM(0.0)], ids=repr)
def test_the_limit_of_many_steps_is_the_ode(solver):
    """The same noise goes to the same quantile, closer with every step: order one."""
    processes = {schedule_name(s): Gaussian(s, "v") for s in SCHEDULES}
    errors = flow_errors(processes, solver, (400, 800))
    for name in processes:
        few, more = (errors[n][name] for n in (400, 800))
        assert more < 0.01
        # Euler meets DDPM's sqrt(t) at t = 0, where its order is lower.
        low = 1.3 if solver == Euler() and name == "DDPMLinear" else 1.8
        assert low < few / more < 2.2, (name, few, more)


@pytest.mark.parametrize(
    "solver,order",
    [(Plain(), 1), (ImplicitEuler(8), 1), (DDIM(), 1), (Heun(), 2), (Multistep(), 2)],
    ids=repr,
)
def test_a_solver_has_its_order(solver, order):
    """Slope of log error over log steps, within 0.2: on Karras's grid, and on an even
    one, where the k-th step from the data is 1/k long in log-SNR, however many there
    are, so that the 1/k^3 k^2/n^2 by which Multistep errs add up to log(n) / n^2.
    """
    counts = np.array([32, 64, 128])
    logs = np.log(counts) ** (solver == Multistep())
    for process, grid, more in (
        (EDM(), Karras, 1.0),
        (Gaussian(Linear()), Steps, logs),
    ):
        best = best_gaussian(process, MEAN, STD)

        @jax.jit  # of one step, not of a walk of each length
        def step(x, t, s, memory, process=process, best=best):
            x_t, key = x, jax.random.key(0)
            for stage in range(solver.stages):
                output = best(x, solver.time(stage, process, t, s))
                state = (output, x_t, x, t, s, key, memory)
                x, memory = solver.step(stage, process, *state)
            return x, memory

        errors = []
        for count in counts:
            times = np.asarray(grid(int(count))(process))
            start = x = process.schedule.spread * jnp.linspace(-2.0, 2.0, 16)
            memory = solver.memory(x)
            for t, s in itertools.pairwise(times):
                x, memory = step(x, t, s, memory)
            end = toys.flow_map(process, MEAN, STD, start, times[0])
            errors.append(abs(x - end).max())
        slope = np.polyfit(np.log(counts), np.log(np.divide(errors, more)), 1)[0]
        assert abs(slope + order) < 0.2, (process, slope)


@pytest.mark.parametrize(
    "schedule",
    [Linear()] + [pytest.param(s, marks=pytest.mark.slow) for s in SCHEDULES[1:]],
    ids=schedule_name,
)
def test_backwards_it_leads_where_the_ode_came_from(schedule):
    """Data at a quantile go to noise at that quantile; Euler's steps lead back."""
    process, data = Gaussian(schedule, "v"), MEAN + STD * jnp.linspace(-2, 2, 9)
    best, grid = best_gaussian(process, MEAN, STD), Steps(40)

    @functools.partial(jax.jit, static_argnums=1)
    def walk(x, solver, times):
        keys = example_keys(jax.random.key(0), jnp.arange(1))
        predict = lambda x, t: {"x": best(x["x"], t["x"])}
        where = {"x": process}, {"x": solver}, predict, keys, {"x": x.shape}, times
        return sample(*where, noise={"x": x[None]})["x"][0]

    noise = walk(data, ImplicitEuler(16), Reversed(grid)(process))
    exact = toys.flow_map(process, MEAN, STD, noise, process.start)
    np.testing.assert_allclose(exact, data, atol=0.05)
    back = walk(noise, Euler(), grid(process))
    np.testing.assert_allclose(back, data, atol=2e-4)


def stage(solver, process, output, x_t, t, s, key):
    """x after the first stage of a step."""
    memory = solver.memory(x_t)
    return solver.step(0, process, output, x_t, x_t, t, s, key, memory)[0]


def one_step(solver, process, share=None, key=0):
    """x_s of one step from t = 0.7 to s = 0.4, with (data, noise) known."""
    t, s = jnp.array(0.7), jnp.array(0.4)
    data, noise = jax.random.normal(jax.random.key(9), (2, 6))
    x_t = process.schedule.alpha(t) * data + process.schedule.sigma(t) * noise
    output = toys.as_target(process, data, noise, t)
    if share is not None:
        output = jnp.concatenate([output, jnp.full(6, 2 * share - 1)])
    return stage(solver, process, output, x_t, t, s, jax.random.key(key))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=schedule_name)
def test_ancestral_is_ddim_with_eta_one(schedule):
    process = Gaussian(schedule, "v")
    ancestral, ddim = one_step(Ancestral(), process), one_step(DDIM(1.0), process)
    np.testing.assert_allclose(ancestral, ddim, atol=1e-5)
    assert abs(ddim - one_step(DDIM(0.0), process)).max() > 0.1


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_marginal(eta):
    """Noise kept and noise made anew add up to sigma(s), whatever eta."""
    n = 100_000
    process, t, s = Gaussian(Cosine(), "data"), jnp.array(0.7), jnp.array(0.4)
    noise = jax.random.normal(jax.random.key(0), (n,))
    x_t = process.schedule.sigma(t) * noise
    data = jnp.zeros(n)
    x_s = stage(DDIM(eta), process, data, x_t, t, s, jax.random.key(1))
    sigma = process.schedule.sigma(s)
    assert abs(x_s.std() / sigma - 1) < 4 / math.sqrt(2 * n)
    ratio = process.schedule.alpha(t) / process.schedule.alpha(s)
    ratio = ratio * sigma / process.schedule.sigma(t)
    kept = math.sqrt(1 - eta**2 * (1 - ratio**2))
    assert abs(jnp.corrcoef(x_s, noise)[0, 1] - kept) < 4 / math.sqrt(n)


def test_ddim_of_a_straight_path_is_euler():
    process = Gaussian(Linear(), "data")
    euler, ddim = one_step(Euler(), process), one_step(DDIM(0.0), process)
    np.testing.assert_allclose(euler, ddim, atol=1e-6)


def test_solvers_of_the_ode_draw_nothing():
    process = Gaussian(Cosine())
    for solver in (Euler(), Heun(), DDIM(0.0)):
        first, second = (one_step(solver, process, key=k) for k in (0, 1))
        np.testing.assert_array_equal(first, second)
    first, second = (one_step(DDIM(0.5), process, key=k) for k in (0, 1))
    assert (first != second).all()


@pytest.mark.parametrize(
    "solver",
    [
        Plain(),
        Heun(),
        Multistep(),
        Ancestral(),
        DDIM(),
        DDIM(0.5),
        Churn(DDIM()),
        Corrector(),
    ],
    ids=repr,
)
def test_the_last_step_removes_the_noise_that_a_schedule_leaves(solver):
    """It returns the data estimate, here 0, though sigma(0) is a half."""
    process = Gaussian(VarianceExploding(low=0.5, high=8.0), "data")
    times, none = Steps(3)(process), lambda x, t: 0 * x
    x, path = draw({"x": process}, solver, times, predict=none)
    np.testing.assert_array_equal(x["x"], 0)
    assert (path["x"][-2] != 0).all()


def test_ancestral_steps_with_the_learned_variance():
    """Two shares under one key: the noise is scaled, the mean is not moved."""
    fixed = Gaussian(Cosine(), "v")
    process = dataclasses.replace(fixed, learned_variance=True)
    shares = {share: one_step(Ancestral(), process, share) for share in (0.0, 0.5, 1.0)}
    np.testing.assert_allclose(shares[0.0], one_step(Ancestral(), fixed), atol=1e-5)
    a, b = (Cosine().alpha(u) for u in (0.7, 0.4))
    high = 1 - (a / b) ** 2
    low = high * (Cosine().sigma(0.4) / Cosine().sigma(0.7)) ** 2
    apart = lambda i, j: shares[i] - shares[j]
    grown = (high**0.5 - low**0.5) / ((high * low) ** 0.25 - low**0.5)
    np.testing.assert_allclose(apart(1.0, 0.0) / apart(0.5, 0.0), grown, rtol=1e-3)


@pytest.mark.parametrize("schedule", [Cosine(), DDPMLinear()], ids=schedule_name)
def test_a_perfect_variance_is_exact_in_few_steps(schedule):
    """p(x_s | x_t) of Gaussian data is Gaussian: four steps do what took a thousand.

    Mean and std of 16,384 draws, 4 standard errors; the last step, from t = 0.01,
    draws nothing, which costs the std at most 0.006.
    """
    times = jnp.array([1.0, 0.8, 0.6, 0.3, 0.01, 0.0])
    process = Gaussian(schedule, "v", learned_variance=True)
    best = best_gaussian(process, MEAN, STD)

    def predict(x_t, t):
        s = times[jnp.searchsorted(-times, -t[0]) + 1]
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        before, rest = schedule.alpha(s), schedule.sigma(s)
        ratio = alpha / before
        fresh = sigma**2 - ratio**2 * rest**2
        # Var(x_s | x_t) = that for known data, and what x_t leaves open of the data.
        known = fresh * rest**2 / sigma**2
        open_ = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)
        variance = known + (before * fresh / sigma**2) ** 2 * open_
        share = jnp.log(variance / known) / jnp.log(fresh / known)
        share = jnp.where(s == 0, 0.0, share)
        return jnp.concatenate([best(x_t, t), jnp.full_like(x_t, 2 * share - 1)], -1)

    run = jax.jit(
        lambda: draw({"x": process}, Ancestral(), times, 256, predict=predict)
    )
    x = run()[0]["x"]
    assert abs(x.mean() - MEAN) < STD * 4 / math.sqrt(x.size) + 0.004  # alpha(1) m
    assert abs(x.std() - STD) < STD * 4 / math.sqrt(2 * x.size) + 0.006


# Unmasking.


def codes(solver, schedule, steps, n=8000):
    """(n, 2) draws of the two-token toy."""
    process, predict = Masking(toys.VOCAB, schedule), toys.joint_logits()

    @jax.jit
    def run():
        return sample(
            {"x": process},
            {"x": solver},
            lambda x, t: {"x": predict(x["x"])},
            example_keys(jax.random.key(0), jnp.arange(n)),
            {"x": (2,)},
            time_grid(steps),
        )

    return run()["x"]


def fits(draws, joint):
    """A right sampler fails this with one key in a thousand."""
    statistic, freedom = toys.chi_square(draws, joint)
    return stats.chi2.sf(statistic, freedom) > 1e-3


def both_at_once(schedule, steps):
    """The joint of Unmask: codes that fall in the same step don't see each other."""
    sigma = np.asarray(schedule.sigma(np.linspace(1, 0, steps + 1)))
    same = (np.diff(sigma) ** 2).sum()
    apart = np.outer(toys.JOINT.sum(1), toys.JOINT.sum(0))
    return same * apart + (1 - same) * toys.JOINT


def test_unmask_draws_the_joint_in_many_steps():
    """100 steps leave 0.012 of the pairs to coincidence."""
    draws = codes(Unmask(), Cosine(), 100)
    assert fits(draws, both_at_once(Cosine(), 100))
    total = np.zeros((toys.VOCAB, toys.VOCAB))
    np.add.at(total, tuple(np.asarray(draws).T), 1 / len(draws))
    # A largest cell's 4 standard errors, and that share.
    np.testing.assert_allclose(total, toys.JOINT, atol=4 * 0.46 / 8000**0.5 + 0.012)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=schedule_name)
def test_unmask_errs_by_coincidence_alone_in_few_steps(schedule):
    draws = codes(Unmask(), schedule, 3)
    assert fits(draws, both_at_once(schedule, 3))
    assert not fits(draws, both_at_once(schedule, 4))


def test_confidence_in_random_order_draws_the_joint():
    """One code a step, each seeing all before it: exact in as many steps as codes."""
    assert fits(codes(Confidence(noise=math.inf), Linear(), 2), toys.JOINT)


@pytest.mark.slow
def test_confidence_reveals_the_count_it_says():
    """Ten codes in ten steps: one each, not what rounding makes of 0.9 times ten.

    Of fewer codes, and by MaskGIT's cosine, the share of the schedule, rounded down
    with one offset in all steps.
    """
    values, rows = 7, 40
    solvers = {
        "each": Confidence(math.inf),
        "few": Confidence(0.0),
        "cosine": Confidence(),
    }
    counts = {"each": 10, "few": 5, "cosine": 49}
    masking = Masking(values, Linear())
    processes = {"each": masking, "few": masking, "cosine": Masking(values, Cosine())}
    logits = jax.random.normal(jax.random.key(5), (49, values))

    @jax.jit
    def run():
        _, path = sample(
            processes,
            solvers,
            lambda x, t: {n: jnp.stack([logits[:c]] * rows) for n, c in counts.items()},
            example_keys(jax.random.key(0), jnp.arange(rows)),
            {name: (count,) for name, count in counts.items()},
            time_grid(10),
            trajectory=True,
        )
        return path

    times = np.arange(10, -1, -1) / 10
    for name, path in run().items():
        path = np.asarray(path)
        seen = path[:-1] != values
        np.testing.assert_array_equal(path[1:][seen], path[:-1][seen])
        left = (path == values).sum(-1).T  # rows, times
        share = np.sin(np.pi / 2 * times) if name == "cosine" else times
        exact = np.round(counts[name] * share, 9)
        if name == "each":
            np.testing.assert_array_equal(left, [exact] * rows)
            continue
        lost, whole = left - np.floor(exact), exact == np.floor(exact)
        assert set(np.unique(lost)) == {0, 1} and not lost[:, whole].any()
        # Up where the offset is at least 1 - a fraction: each row has one between.
        up = 1 - (exact - np.floor(exact))
        low = np.where(lost == 1, up, 0).max(1)
        high = np.where((lost == 0) & ~whole, up, 1).min(1)
        assert (low <= high).all()
        assert len(np.unique(low)) > 1  # and each row its own


def test_confidence_counts_what_it_draws_around_what_is_known():
    """Eight of 32 codes, two a step, and not five in the last."""
    process, x = Masking(2, Linear()), jnp.where(jnp.arange(32) < 8, 2, 0)
    data = {"x": (0 * x[None], (x == 0)[None])}
    _, path = sample(
        {"x": process},
        {"x": Confidence()},
        lambda x, t: {"x": jnp.zeros((1, 32, 2))},
        example_keys(jax.random.key(0), jnp.arange(1)),
        {"x": (32,)},
        time_grid(4),
        fixed=data,
        trajectory=True,
    )
    left = (np.asarray(path["x"]) == 2).sum((1, 2))
    np.testing.assert_array_equal(left, [8, 6, 4, 2, 0])


def test_confidence_without_noise_takes_the_surest():
    """Nearly certain codes; which value is drawn is not in question."""
    sure = jnp.array([5.0, 9.0, 6.0, 7.0])
    logits = jnp.stack([0 * sure, sure, 0 * sure], axis=-1)
    x_t = jnp.array([3, 3, 2, 3])  # the third is seen, and does not count
    t, s, process = jnp.array(1.0), jnp.array(2 / 3), Masking(3, Linear())
    solver = Confidence(noise=0.0)
    for key in range(3):
        x_s = stage(solver, process, logits, x_t, t, s, jax.random.key(key))
        np.testing.assert_array_equal(x_s, [3, 1, 2, 3])
    # With noise the order is drawn.
    solver = Confidence(noise=1e6)
    keys = jax.random.split(jax.random.key(0), 20)
    draws = [stage(solver, process, logits, x_t, t, s, key) for key in keys]
    assert len({tuple(np.asarray(d)) for d in draws}) == 3


def test_confidence_is_drawn_less_the_less_noise_is_left():
    """Of a sure code and one of log p = -log 2 the latter comes first with probability
    1 / (1 + 2^(1 / (noise s))): 4 standard errors of 4,000 draws."""
    logits = jnp.array([[9.0, -9.0], [0.0, 0.0]])
    x_t, process, solver = jnp.full(2, 2), Masking(2, Linear()), Confidence(noise=2.0)
    keys = jax.random.split(jax.random.key(1), 4000)
    for s in (0.5, 0.9):
        times = jnp.array(1.0), jnp.array(s)
        run = lambda key, times=times: stage(solver, process, logits, x_t, *times, key)
        seen = jax.jit(jax.vmap(run))(keys) != 2
        one = seen[seen.sum(1) == 1]  # of 0.9 times two one in five: two are masked yet
        assert abs(len(one) / 4000 - 2 * (1 - s)) < 0.03
        expected = 1 / (1 + 2 ** (1 / (2 * s)))
        assert abs(one[:, 1].mean() - expected) < 4 * math.sqrt(expected / len(one))


def test_temperature_sharpens_the_values():
    """4 standard errors of a share of 20,000 codes."""
    n, process = 20_000, Masking(2)
    logits = jnp.log(jnp.array([0.6, 0.4])) * jnp.ones((n, 1))
    end = jnp.array(0.0)
    for temperature in (0.5, 2.0):
        solver = Confidence(temperature=temperature)
        x = stage(
            solver, process, logits, jnp.full(n, 2), end + 1, end, jax.random.key(0)
        )
        p = 0.6 ** (1 / temperature) / (
            0.6 ** (1 / temperature) + 0.4 ** (1 / temperature)
        )
        assert abs((x == 0).mean() - p) < 4 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize("fields", [{"noise": -1.0}, {"temperature": 0.0}])
def test_confidence_refuses_what_has_no_meaning(fields):
    with pytest.raises(ValueError, match="=.*: write (above|at least) 0"):
        Confidence(**fields)


def test_churn_adds_as_much_noise_as_its_scale_says():
    x, key = jnp.linspace(-1.0, 1.0, 8), jax.random.key(0)
    t, s = jnp.array(0.5), jnp.array(0.4)
    none, one, two = (
        Churn(scale=scale).begin(Gaussian(), x, t, s, key, ())
        for scale in (0.0, 1.0, 2.0)
    )
    np.testing.assert_allclose(two - none, 2 * (one - none), atol=1e-5)
    assert np.abs(one - none).max() > 0.1


def test_churn_raises_the_noise_by_its_share_and_no_further():
    """sigma to 1.3 sigma within its range; of a flow it is sigma / alpha that grows.

    What is added is the difference of the variances, and alpha falls with it.
    """
    churn, key = Churn(more=0.3, low=0.5, high=2.0, scale=1.5), jax.random.key(3)
    x, levels = jnp.linspace(-1.0, 1.0, 6), np.array([0.4, 0.501, 1.0, 1.99, 3.0])

    @jax.jit
    def run():
        found = []
        for process in (EDM(), Gaussian(Linear())):
            schedule = process.schedule
            t = schedule.time(-2 * jnp.log(jnp.float32(levels)))
            later = churn.time(0, process, t, 0.5 * t)
            begun = churn.begin(process, x, t[2], 0.5 * t[2], key, ())
            still = churn.begin(process, x, t[4], 0.5 * t[4], key, ())
            ratio = schedule.sigma(later) / schedule.alpha(later)
            second = churn.time(1, process, t, 0.5 * t) / t
            found.append((ratio, second, begun, still))
        return found, jax.random.normal(key, (6,))

    found, eps = run()
    # From sigma 1 to 1.3; the flow from x/2 + eps/2 to (x + 1.3 eps) / 2.3.
    for (ratio, second, begun, still), kept in zip(found, (1, 2 / 2.3), strict=True):
        np.testing.assert_allclose(ratio / levels, [1, 1.3, 1.3, 1.3, 1], rtol=1e-3)
        np.testing.assert_allclose(second, 0.5, rtol=1e-6)
        fresh = 1.5 * (1 if kept == 1 else 1 / 2.3) * 0.69**0.5
        np.testing.assert_allclose(begun, kept * x + fresh * eps, atol=2e-3)
        np.testing.assert_array_equal(still, x)


def test_churn_steps_as_its_solver_from_where_the_noise_was_raised():
    """From the later time to s, at both stages of Heun."""
    process, key, churn = EDM(), jax.random.key(0), Churn(more=0.3)
    x, output = jnp.linspace(-1, 1, 4), jnp.linspace(2, 3, 4)
    assert churn.stages == 2 and DDIM().stages == Churn(DDIM()).stages == 1

    @jax.jit
    def run():
        t, s = process.schedule.time(-2 * jnp.log(jnp.array([2.0, 1.0])))
        later = churn.time(0, process, t, s)
        found, expected = [churn.memory(x)], [Heun().memory(x)]
        for each, memory in ((0, 0 * x), (1, x)):
            same = each, process, output, x, x + 1
            found.append(churn.step(*same, t, s, key, memory))
            expected.append(Heun().step(*same, later, s, key, memory))
        return later - t, found, expected

    apart, found, expected = run()
    assert apart > 0.01
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_correction_is_a_step_of_langevin():
    """x - 2 (snr sigma)^2 noise / sigma + 2 snr sigma z, at t; then the step to s."""
    process, key = Gaussian(Cosine(), "noise"), jax.random.key(2)
    x, noise = jnp.linspace(-1, 1, 5), jnp.linspace(2, -1, 5)

    @jax.jit
    def run():
        t, s, solver = jnp.float32(0.6), jnp.float32(0.5), Corrector(0.3)
        found = stage(solver, process, noise, x, t, s, key)
        last, _ = solver.step(1, process, noise, x, found, t, s, key, ())
        times = [solver.time(i, process, t, s) for i in (0, 1)]
        plain = process.step(noise, found, t, s, key)
        return found, last, plain, times, jax.random.normal(key, (5,))

    found, last, plain, times, z = run()
    sigma = np.sin(0.3 * np.pi)
    expected = x - 2 * 0.09 * sigma * noise + 2 * 0.3 * sigma * z
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(last, plain, atol=1e-6)
    np.testing.assert_allclose(times, 0.6, rtol=1e-6)


def test_confidence_rounds_by_one_draw_in_all_steps():
    """Five masks of which half stay: 2.5 and the offset, rounded down."""
    solver, process = Confidence(), Masking(3, Linear())
    t, s, masked = jnp.float32(0.7), jnp.float32(0.5), jnp.full(5, 3)

    @jax.jit
    def run(key, memory, s):
        x = jnp.zeros((5, 3))
        return solver.step(0, process, x, masked, masked, t, s, key, memory)

    for offset, stay in ((0.25, 2), (0.75, 3)):
        memory = jnp.int32(5), jnp.float32(offset)
        x, kept = run(jax.random.key(0), memory, s)
        assert (x == 3).sum() == stay and kept == memory
        assert not (run(jax.random.key(0), memory, 0 * s)[0] == 3).any()
    kept = [run(jax.random.key(i), solver.memory(masked), s) for i in range(8)]
    assert {int(count) for _, (count, _) in kept} == {5}
    offsets = [float(offset) for _, (_, offset) in kept]
    assert len(set(offsets)) == 8 and 0 <= min(offsets) and max(offsets) < 1
    for (x, _), offset in zip(kept, offsets, strict=True):
        assert (x == 3).sum() == math.floor(2.5 + offset)
