"""What every process, schedule, solver, grid and law of times keeps.

A new one joins its list, here or in toys.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from tests.diffusion import toys
from tests.members import missing
from vqdit import diffusion
from vqdit.diffusion import (
    DDIM,
    EDM,
    Ancestral,
    Betas,
    Case,
    Churn,
    Confidence,
    Corrector,
    Cosine,
    CosineBetas,
    DDPMLinear,
    Gaussian,
    Grid,
    Heun,
    ImplicitEuler,
    Karras,
    Linear,
    LinearBetas,
    LogitNormal,
    LogNormal,
    MaskAndReplace,
    Masking,
    Mixture,
    Multistep,
    Plain,
    Prefix,
    Process,
    Remask,
    Reversed,
    Schedule,
    Solver,
    Steps,
    Times,
    Uniform,
    Unmask,
    VarianceExploding,
    example_keys,
    preconditioned,
    priors,
    sample,
)
from vqdit.nn.streams import Continuous, Discrete

PROCESSES = toys.GAUSSIANS | toys.CODES
PROCESSES["learned variance"] = Gaussian(learned_variance=True)
SOLVERS = (
    Plain(),
    Heun(),
    ImplicitEuler(),
    DDIM(),
    DDIM(1.0),
    Ancestral(),
    Multistep(),
    Churn(scale=1.0),
    Corrector(),
    Unmask(),
    Unmask(0.8, top_p=0.9),
    Confidence(),
    Confidence(top_p=0.9),
    Remask(),
)
EXACT = (Plain(), Confidence(math.inf), Remask(0.5), Remask(cap=0.05))  # of codes
GRIDS = (
    Steps(7),
    Steps(7, 3.0),
    Karras(7),
    Karras(7, rho=math.inf),
    Times((0.999, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1, 0.0)),
)
LAWS = (Uniform(), LogitNormal(-0.5, 0.8), LogNormal())
processes = pytest.mark.parametrize("name", PROCESSES)
schedules = pytest.mark.parametrize("schedule", toys.ALL_SCHEDULES, ids=repr)
KEY = jax.random.key(5)
STREAMS = {
    "latents": Continuous("x", (2, 3), 4),
    "codes": Discrete("x", (2, 3), 3, books=2),
}
T = jnp.array([0.0, 1e-6, 0.3, 0.999, 1.0])


@pytest.mark.parametrize(
    "base, members, bases",
    [
        (Process, PROCESSES.values(), {"Process", "Replacement"}),
        (Schedule, toys.ALL_SCHEDULES, {"Schedule", "VariancePreserving"}),
        (Solver, SOLVERS, {"Solver"}),
    ],
)
def test_none_is_left_out(base, members, bases):
    belongs = lambda kind: base in kind.__mro__
    assert missing(diffusion, belongs, map(type, members)) == bases


@pytest.mark.parametrize(
    "room, members, bases",
    [("grids", GRIDS, {"Grid", "Reversed"}), ("times", LAWS, {"TimeLaw"})],
)
def test_no_grid_and_no_law_is_left_out(room, members, bases):
    belongs = lambda kind: kind.__module__ == f"vqdit.diffusion.{room}"
    assert missing(diffusion, belongs, map(type, members)) == bases


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_law_draws_a_time_in_each_part_of_its_mass(law):
    """A function of the key; an even share of each batch below any quantile."""
    draw = jit(lambda key: law(key, 8))
    t = np.stack([draw(key) for key in jax.random.split(KEY, 64)])
    np.testing.assert_array_equal(draw(KEY), draw(KEY))
    assert t.shape == (64, 8) and (t >= 0).all() and (t <= 1).all()
    for share in (0.25, 0.5, 0.75):
        below = (t < np.quantile(t, share)).sum(1)
        assert abs(below - 8 * share).max() <= 1 and t.std() > 0.05
    assert (np.diff(t[:, 0]) != 0).all() and (t[:, 0] > np.median(t)).mean() < 0.8
    hash(law)


def examples(process):
    """(x, x_t, target, a network's output) at the times T."""
    shape = (len(T), *STREAMS[process.kind].shape)
    if process.kind == "codes":
        x = jax.random.randint(jax.random.key(0), shape, 0, 3)
        output = jax.random.normal(jax.random.key(1), (*shape, 3))
    else:
        x = jax.random.normal(jax.random.key(0), shape)
        wide = (*shape[:-1], shape[-1] * process.outputs)
        output = jax.random.normal(jax.random.key(1), wide)
    return x, *process.corrupt(x, T, jax.random.key(2)), output


@functools.cache
def ran(name):
    """All that a process says of the examples, by one program."""
    process, stream = PROCESSES[name], STREAMS[PROCESSES[name].kind]

    def run():
        x, x_t, target, output = examples(process)
        floats = lambda o: process.loss(o, target, x_t, T)
        loss, pull = jax.vjp(floats, output)
        shown, time = process.inputs(x_t, T)
        tilted = process.guide(output, output - 1, jnp.array(1.0))
        one = process.step(output[2], x_t[2], T[2], jnp.array(0.1), jax.random.key(3))
        last = process.step(output[2], x_t[2], T[2], jnp.array(0.0), jax.random.key(3))
        start = process.prior(jax.random.key(4), stream.shape)
        found = loss, pull(jnp.ones_like(loss))[0], shown, time, tilted, one, last
        same = jnp.zeros if process.kind == "codes" else jnp.ones
        same = same((1, 8000), stream.dtype)
        end = process.corrupt(same, T[-1:], KEY)[0]
        prior = process.prior(jax.random.key(6), (8000,))
        left = None if process.kind == "codes" else process.schedule.alpha(T[-1])
        return (*found, start), (x, x_t, target, output), (end, prior, left)

    return jax.device_get(jit(run)())


@processes
def test_a_process_keeps_its_protocol(name):
    """Loss by place, finite with its gradient from end to end; a value; one example."""
    process, stream = PROCESSES[name], STREAMS[PROCESSES[name].kind]
    assert isinstance(process, Process) and hash(process) == hash(process)
    found, (x, x_t, _, output), _ = ran(name)
    loss, pull, shown, time, tilted, one, last, start = found
    assert loss.shape == (len(T), *stream.grid) and loss.dtype == jnp.float32
    for values in (loss, pull, shown, time, one, last):
        assert np.isfinite(values).all()
    # Cosine's slope at t = 1 rounds to below 0.
    assert (loss > -1e-6).all() and time.shape == T.shape
    assert shown.shape == x.shape == x_t.shape
    np.testing.assert_allclose(tilted, output, atol=1e-6)
    assert one.shape == last.shape == start.shape == stream.shape
    assert one.dtype == last.dtype == start.dtype == jnp.dtype(stream.dtype)


@processes
def test_a_loss_is_computed_in_float32(name):
    """Of a network's bfloat16 as of the same numbers in float32."""
    _, (_, x_t, target, output), _ = ran(name)
    half, loss = output.astype(jnp.bfloat16), PROCESSES[name].loss
    both = jit(lambda a, b, *given: (loss(a, *given), loss(b, *given)))
    one, two = both(half, half.astype(np.float32), target, x_t, T)
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@processes
def test_ends_are_data_and_prior(name):
    """At t = 0 the data, up to the noise that a schedule leaves; at t = 1 the prior."""
    process = PROCESSES[name]
    _, (x, x_t, *_), (end, start, left) = ran(name)
    if process.kind == "codes":
        np.testing.assert_array_equal(x_t[0], x[0])
        draws = [np.bincount(np.ravel(v), minlength=4) / v.size for v in (end, start)]
        # 4 standard errors of the difference of two shares.
        assert abs(draws[0] - draws[1]).max() < 4 * math.sqrt(2 * 0.25 / 8000)
        assert abs(draws[1] - toys.fallen(process)).max() < 4 * math.sqrt(0.25 / 8000)
        return
    np.testing.assert_allclose(x_t[0], x[0], atol=0.01)
    assert abs(end.std() / start.std() - 1) < 4 / math.sqrt(8000)
    assert abs(end.mean() - left) < 4 * start.std() / math.sqrt(8000)


def test_a_network_is_told_the_schedules_clock():
    """Step i of a chain as i / 1000; of EDM log(sigma) / 4, and unit variance."""
    x, i = jnp.ones((3, 4)), jnp.array([0.0, 250.0, 999.0])
    shown, time = Gaussian(LinearBetas()).inputs(x, (i + 1) / 1000)
    np.testing.assert_array_equal(shown, x)
    np.testing.assert_allclose(time, i / 1000, atol=1e-6)
    i = jnp.array([0.0, 1.0, 3.0])  # of a chain of four steps too
    _, time = Gaussian(Betas((0.1,) * 4)).inputs(x, (i + 1) / 4)
    np.testing.assert_allclose(time, i / 1000, atol=1e-6)
    process, t = EDM(data_std=0.7), jnp.array([0.1, 0.5, 1.0])
    sigma = process.schedule.sigma(t)
    shown, time = process.inputs(x, t)
    np.testing.assert_allclose(time, jnp.log(sigma) / 4, rtol=1e-5)
    scale = 1 / jnp.sqrt(sigma**2 + 0.7**2)
    np.testing.assert_allclose(shown, scale[:, None] * x, rtol=1e-5)


@processes
def test_a_process_says_which_streams_it_fits(name):
    process = PROCESSES[name]
    stream = STREAMS[process.kind]
    if process.outputs > 1:
        with pytest.raises(ValueError, match="'x': its process reads outputs=2"):
            process.fit(stream)
        stream = Continuous("x", (2, 3), 4, outputs=2)
    assert process.fit(stream) == process
    (other,) = (s for kind, s in STREAMS.items() if kind != process.kind)
    with pytest.raises(ValueError, match=f"stream 'x' holds {other.kind}"):
        process.fit(other)
    if process.kind == "codes":
        wide = Discrete("x", (2, 3), 7)
        with pytest.raises(ValueError, match="vocab 3 is not the stream's vocab 7"):
            process.fit(wide)
        assert type(process)().fit(wide).vocab == 7


@schedules
def test_log_snr_falls_and_has_its_inverse(schedule):
    assert isinstance(schedule, Schedule)
    t = jnp.linspace(0.001, 0.999, 401)
    log_snr = jit(schedule.log_snr)(t)
    assert (np.diff(log_snr) < 0).all()
    np.testing.assert_allclose(jit(schedule.time)(log_snr), t, atol=2e-5)
    ends = schedule.time(jnp.array([jnp.inf, -jnp.inf]))
    np.testing.assert_allclose(ends, [0, 1], atol=1e-6)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_a_grid_falls_from_the_start_to_the_data(grid):
    assert isinstance(grid, Grid)
    for name, process in toys.GAUSSIANS.items():
        times = np.asarray(grid(process))
        assert times.shape == (8,) and times[-1] == 0, name
        start = grid.times[0] if isinstance(grid, Times) else process.start
        np.testing.assert_allclose(times[0], start, atol=1e-6)
        falls = np.diff(times) < 0
        before, after = getattr(grid, "waits", (0, 0))
        assert falls[before : 7 - after].all(), name
        assert not falls[:before].any() and not falls[7 - after :].any(), name


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_a_grid_is_walked_backwards(grid):
    process = Gaussian()
    np.testing.assert_array_equal(Reversed(grid)(process), grid(process)[::-1])
    np.testing.assert_array_equal(
        Reversed(Steps(4))(process, 0.5), [0.0, 0.125, 0.25, 0.375, 0.5]
    )


def test_karras_grid_is_that_of_the_paper():
    """Eq. 5 at rho = 7, between 0.002 and 80; and even in log sigma for rho = inf."""
    i, n = np.arange(10), 10
    a, b = 80 ** (1 / 7), 0.002 ** (1 / 7)
    for grid, expected in (
        (Karras(n), (a + i / (n - 1) * (b - a)) ** 7),
        (Karras(n, rho=math.inf), np.geomspace(80, 0.002, n)),
    ):
        for process in (EDM(), EDM(LinearBetas())):
            t = grid(process)[:-1]
            sigma = process.schedule.sigma(t) / process.schedule.alpha(t)
            np.testing.assert_allclose(sigma[1:], expected[1:], rtol=2e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Steps(0),
        lambda: Karras(8, 2.0, 1.0),
        lambda: Karras(8, 2.0, 2.0),
        lambda: Karras(0),
        lambda: Karras(8, low=0.0),
        lambda: Karras(8, rho=0.0),
        lambda: Times((1.0, 0.5)),
        lambda: Times((0.5, 0.6, 0.0)),
        lambda: Times((1.0, 0.5, 0.5, 0.0)),
        lambda: Times((1.5, 0.0)),
        lambda: Times((0.0,)),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(make):
    with pytest.raises(ValueError, match="write"):
        make()


def test_a_grid_begins_where_it_is_told():
    """As those of streams that are drawn together do, whatever their own start."""
    process = Gaussian()
    for grid in (Steps(4, 3.0), Karras(4), Karras(4, rho=math.inf)):
        times = np.asarray(grid(process, 0.5))
        assert times.shape == (5,) and times[0] == 0.5 and (np.diff(times) < 0).all()
    # Even in log sigma from 0.5 / 0.5 down to low, at which sigma / (1 - sigma) is it.
    odds = times[1:4] / (1 - times[1:4])
    np.testing.assert_allclose(odds, 0.002 ** (np.arange(1, 4) / 3), rtol=1e-3)
    np.testing.assert_allclose(Times((0.5, 0.0))(process, 0.5), (0.5, 0.0))
    with pytest.raises(ValueError, match="0.6 is past 0.5, where sampling starts"):
        Times((0.6, 0.0))(process, 0.5)


def test_as_they_stand_they_are_those_of_their_papers():
    """Figures that a bundle or an experiment does not say."""
    for value, said in (
        (Steps(), "Steps(steps=50, shift=1.0)"),
        (Karras(), "Karras(steps=18, low=0.002, high=80.0, rho=7.0)"),
        (LogitNormal(), "LogitNormal(mean=0.0, std=1.0)"),
        (LogNormal(), "LogNormal(mean=-1.2, std=1.2, low=0.001, high=80.0)"),
        (DDPMLinear(), "DDPMLinear(beta_min=0.1, beta_max=20.0)"),
        (VarianceExploding(), "VarianceExploding(low=0.001, high=80.0)"),
        (LinearBetas(), "LinearBetas(steps=1000, low=0.0001, high=0.02, power=1.0)"),
        (CosineBetas(), "CosineBetas(steps=1000, offset=0.008, most=0.999)"),
        (ImplicitEuler(), "ImplicitEuler(rounds=4)"),
        (DDIM(), "DDIM(eta=0.0)"),
        (Corrector(), "Corrector(snr=0.1)"),
        (
            Churn(),
            "Churn(solver=Heun(), more=0.2, low=0.05, high=50.0, scale=1.003)",
        ),
        (Unmask(), "Unmask(temperature=1.0, top_p=1.0)"),
        (Confidence(), "Confidence(noise=4.5, temperature=1.0, top_p=1.0)"),
        (Remask(), "Remask(eta=0.1, cap=1.0, temperature=1.0, top_p=1.0)"),
        (Masking(), "Masking(vocab=None, schedule=Cosine(), weight='elbo')"),
        (MaskAndReplace(), "MaskAndReplace(vocab=None, schedule=Cosine(), share=0.1)"),
        (Prefix(), "Prefix(low=0.0, high=1.0)"),
        (
            Case(),
            "Case(given=0.0, absent=0.0, together=False, parts={}, weight=1.0)",
        ),
        (Mixture(), f"Mixture(cases=({Case()!r},))"),
    ):
        assert repr(value) == said
    plain = Gaussian()
    assert plain == Gaussian(Linear(), "velocity", False, guided=None)
    assert EDM() == EDM(VarianceExploding(), data_std=0.5) and EDM().target == "edm"
    starts = {
        Gaussian(Cosine(), "noise"): 0.999,
        Gaussian(Cosine(), "v"): 1.0,
        Gaussian(VarianceExploding(), "noise"): 1.0,
        Gaussian(LinearBetas(), "noise"): 1.0,
        EDM(): 1.0,
        Masking(3): 1.0,
    }
    assert [process.start for process in starts] == [*starts.values()]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: VarianceExploding(2.0, 2.0), "high=2.0: write above low, 2.0"),
        (lambda: LogNormal(low=2.0, high=2.0), "high=2.0: write above low, 2.0"),
        (lambda: Churn(low=60.0), "high=50.0: write above low, 60.0"),
        (lambda: VarianceExploding(0.0), "low=0.0: write above 0"),
        (lambda: LogNormal(low=0.0), "low=0.0: write above 0"),
        (lambda: LinearBetas(power=0.0), "power=0.0: write above 0"),
        (lambda: Churn(more=0.5), "more=0.5: write at least 0 and at most 0.4143"),
        (lambda: Prefix(-0.1), "low=-0.1: write"),
        (lambda: Prefix(0.5, 1.5), "high=1.5: write"),
        (lambda: Betas(()), "Betas: write one beta or more, each in .0, 1."),
        (lambda: Betas((0.1, 1.0)), "Betas: write one beta or more, each in .0, 1."),
        (lambda: Betas((0.0, 0.1)), "Betas: write one beta or more, each in .0, 1."),
        (lambda: LinearBetas(high=1.5), "write one beta or more, each in .0, 1."),
        (
            lambda: Masking(3, VarianceExploding()),
            "no share of codes; write Linear",
        ),
        (lambda: Masking().codes, "Masking.vocab is not known; write it"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)


# Every pair of process and solver on data whose best predictor is known.

MEAN, STD = 0.7, 0.5


def fits(solver, process):
    return isinstance(process, solver.kind)


SAMPLED = (
    "EDM",
    "LinearBetas, velocity",
    "Linear, velocity",
    "Cosine, noise",
    "VarianceExploding, noise",
)


def few_and_all(names):
    """Each process in a program makes it slow to compile."""
    every = pytest.param(tuple(names), marks=pytest.mark.slow, id="all")
    return [pytest.param(tuple(names)[:2], id="few"), every]


@pytest.mark.parametrize("names", few_and_all(SAMPLED))
@pytest.mark.parametrize(
    "solver", [s for s in SOLVERS if fits(s, Gaussian())], ids=repr
)
def test_a_solver_samples_gaussian_data_exactly(solver, names):
    """Mean and std of 2,048 draws of N(0.7, 0.5^2).

    Tolerance: 4 standard errors, and 0.03 std for what 60 steps leave undone, 0.08
    where noise is added in every one of them.
    """
    assert isinstance(solver, Solver) and hash(solver) == hash(solver)
    some = {name: toys.GAUSSIANS[name] for name in names}
    keys, steps = example_keys(jax.random.key(0), jnp.arange(32)), 60

    def predict(x, t):
        return {n: toys.best_gaussian(some[n], MEAN, STD)(x[n], t[n]) for n in x}

    def run():
        times = {name: Karras(steps)(process) for name, process in some.items()}
        solvers, shapes = dict.fromkeys(some, solver), dict.fromkeys(some, (64,))
        x = sample(some, solvers, predict, keys, shapes, times)
        return {name: (v.mean(), v.std()) for name, v in x.items()}

    noisy = isinstance(solver, Churn | Corrector | Ancestral) or solver == DDIM(1.0)
    left = 0.08 if noisy else 0.03
    for name, (mean, std) in jit(run)().items():
        assert abs(mean - MEAN) < STD * (4 / math.sqrt(2048) + left), (name, mean)
        assert abs(std - STD) < STD * (4 / math.sqrt(2 * 2048) + left), (name, std)


@pytest.mark.parametrize(
    "names", few_and_all(["MaskAndReplace", "Masking", *toys.CODES])
)
@pytest.mark.parametrize("solver", EXACT, ids=repr)
def test_a_solver_samples_the_joint_of_codes(solver, names):
    """2,000 pairs in 40 steps: a largest cell's 4 standard errors, and coincidences."""
    some = {n: p for n, p in toys.CODES.items() if n in names and fits(solver, p)}
    masked, n, steps = toys.joint_logits(), 2000, 40

    def predict(x, t):
        return {
            name: masked(x[name])
            if isinstance(process, Masking)
            else toys.others_logits(process)(x[name], t[name])
            for name, process in some.items()
        }

    def run():
        keys = example_keys(jax.random.key(0), jnp.arange(n))
        times = {name: Steps(steps)(p) for name, p in some.items()}
        solvers, shapes = dict.fromkeys(some, solver), dict.fromkeys(some, (2,))
        return sample(some, solvers, predict, keys, shapes, times)

    for name, draws in jit(run)().items():
        total = np.zeros((toys.VOCAB, toys.VOCAB))
        np.add.at(total, tuple(np.asarray(draws).T), 1 / n)
        error = abs(total - toys.JOINT).max()
        assert error < 4 * 0.46 / math.sqrt(n) + 0.03, (name, error)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_sample_is_its_key_and_id(solver):
    """Whatever the batch and whoever is drawn beside it."""
    process = next(p for p in PROCESSES.values() if fits(solver, p))
    stream = Discrete("x", (6,), 3) if process.kind == "codes" else None
    shape = stream.shape if stream else (6,)

    def network(x, t):
        if process.kind == "latents":
            return {n: jnp.tanh(v) * t[n][:, None] for n, v in x.items()}
        seen = jax.nn.one_hot(x["x"], 3)
        return {"x": seen + jnp.roll(seen, 1, axis=1)}

    def run(ids):
        keys = example_keys(jax.random.key(0), ids)
        return sample(
            {"x": process},
            {"x": solver},
            preconditioned(network, {"x": process}),
            keys,
            {"x": shape},
            Steps(3)(process),
        )["x"]

    run = jit(run)
    everyone, order = run(jnp.arange(8)), jnp.array([5, 0, 3])
    np.testing.assert_allclose(run(order), everyone[order], atol=1e-5)
    assert len({tuple(np.ravel(x).tolist()) for x in np.asarray(everyone)}) > 4


def drawn_together(solvers, answered=lambda output: output):
    """noise -> samples of every solver, each of the first process that it solves, of a
    network whose answers are `answered`; and their noise."""
    every = [*PROCESSES.values()]
    some = {repr(s): next(p for p in every if fits(s, p)) for s in solvers}
    times = {name: Steps(3)(process) for name, process in some.items()}
    keys, shapes = (
        example_keys(jax.random.key(0), jnp.arange(4)),
        {n: (6,) for n in some},
    )

    def predict(x, t):
        found = {}
        for name, process in some.items():
            if process.kind == "latents":
                found[name] = jnp.tanh(x[name]) * t[name][:, None]
            else:
                found[name] = jnp.zeros((*x[name].shape, 3)) + jnp.arange(3) / 4
        return answered(found)

    def run(noise):
        by = {repr(solver): solver for solver in solvers}
        return sample(some, by, predict, keys, shapes, times, noise=noise)

    return run, priors(some, shapes, keys)


def test_a_network_may_answer_in_bfloat16():
    """Samples are those of the same numbers in float32: draws of bfloat16 are coarse,
    and favour the first codes."""
    half = lambda found: {n: v.astype(jnp.bfloat16) for n, v in found.items()}
    wide = lambda found: {n: v.astype(jnp.float32) for n, v in half(found).items()}
    (one, noise), (two, _) = (drawn_together(SOLVERS, how) for how in (half, wide))
    found, expected = jit(lambda noise: (one(noise), two(noise)))(noise)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_sample_has_a_derivative_by_its_noise():
    """Also at t = 1, where there may be no data, and at 0, where there is no slope."""
    run, noise = drawn_together([s for s in SOLVERS if fits(s, Gaussian())])
    total = lambda noise: sum(x.sum() for x in run(noise).values())
    for name, slope in jit(jax.grad(total))(noise).items():
        assert np.isfinite(slope).all() and np.abs(slope).max() > 1e-3, name


def test_times_that_begin_past_the_start_are_refused():
    """Noise alone says nothing of the data at t = 1."""
    process = Gaussian(Linear(), "noise")
    with pytest.raises(ValueError, match="1.0 is past 0.999"):
        Times((1.0, 0.5, 0.0))(process)
    np.testing.assert_allclose(Times((0.999, 0.0))(process), (0.999, 0.0))


@pytest.mark.parametrize("solver", [Confidence(), Corrector(), Multistep()])
def test_churn_takes_solvers_of_one_step_of_latents(solver):
    with pytest.raises(ValueError, match=type(solver).__name__):
        Churn(solver)
