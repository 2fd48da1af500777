"""Samples and scores where the best network is known: a table over two streams of
codes, and a code beside a number. Both are drawn jointly, each given the other, each
alone; the bounds are the exact -log p.
"""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.diffusion.toys import JOINT, best_gaussian, chances
from vqdit import Continuous, Discrete, Gaussian, Generator
from vqdit.diffusion import (
    EDM,
    Ancestral,
    Confidence,
    Cosine,
    Heun,
    Linear,
    MaskAndReplace,
    Masking,
    Plain,
    Remask,
    UniformState,
    Unmask,
)
from vqdit.dit import DiT

KEY, N = jax.random.key(0), 4000
CODES = {
    "Masking": Masking(3, Linear()),
    "Masking, Cosine": Masking(3, Cosine()),
    "UniformState": UniformState(3, Linear()),
    "MaskAndReplace": MaskAndReplace(3, Cosine(), share=0.3),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The network of two codes that fall together as JOINT says.

    `hot` is 1 for the best one. What is unknown, or left out, says nothing of the
    other.
    """

    process: object
    hot: float = 1.0
    streams: ClassVar = (Discrete("a", (1,), 3), Discrete("b", (1,), 3))
    classes: ClassVar = 0

    def apply(self, variables, x, times, label, known=None):
        del variables, label
        likely = dict.fromkeys("ab", jnp.ones(3))
        for name in x:
            sigma = self.process.schedule.sigma(times[name])[:, None]
            seen = chances(self.process, x[name][:, 0, 0], sigma)
            if known and name in known:
                seen = jnp.where(known[name], seen, 1.0)
            likely[name] = seen
        joint = jnp.asarray(JOINT, jnp.float32)
        p = {"a": likely["b"] @ joint.T, "b": likely["a"] @ joint}
        logits = {name: self.hot * jnp.log(p[name] + 1e-30) for name in x}
        shape = lambda name: (*x[name].shape, 3)
        return {
            n: jnp.broadcast_to(v[..., None, None, :], shape(n))
            for n, v in logits.items()
        }


def generator(network, processes, absent):
    """One whose network is not a transformer, but the best."""
    out = tuple(processes) if absent == "out" else ()
    model = Generator(DiT(network.streams), {}, processes, {}, left_out=out)
    model.module = network
    return model


def table(name, absent="out", hot=1.0):
    both = dict.fromkeys("ab", CODES[name])
    return generator(Table(CODES[name], hot), both, absent)


def close(found, expected, n=N, left=0.0):
    """Shares of n draws: 4 standard errors and what the steps leave undone."""
    found, expected = np.asarray(found), np.asarray(expected)
    error = 4 * np.sqrt(expected * (1 - expected) / n) + left
    assert (abs(found - expected) <= error + 1e-6).all(), (found, expected)


def shares(*codes):
    counts = np.zeros((3,) * len(codes))
    np.add.at(counts, tuple(np.ravel(c) for c in codes), 1)
    return counts / counts.sum()


EXACT = [(name, solver) for name in CODES for solver in (Plain(), Unmask())]
EXACT += [("Masking", Remask(0.5)), ("Masking, Cosine", Remask(cap=0.05))]
EXACT += [(name, Confidence(math.inf)) for name in ("Masking", "Masking, Cosine")]


@pytest.mark.parametrize("name, solver", EXACT, ids=str)
def test_a_table_is_drawn_jointly(name, solver):
    """In 60 steps: codes that fall in one step do not see each other."""
    draw = table(name).sampler(steps=60, solver=solver)
    found = draw(KEY, np.arange(N))
    close(shares(found["a"], found["b"]), JOINT, left=0.012)


PARTS = [(name, "out") for name in CODES]
PARTS += [("Masking", "noise"), ("UniformState", "noise")]


BACK = [pytest.param(*part, "b", marks=pytest.mark.slow) for part in PARTS]


@pytest.mark.parametrize("name, absent, want", [(*x, "a") for x in PARTS] + BACK)
def test_a_table_is_drawn_in_part(name, absent, want):
    """One given the other, and alone: one code at a time, exact in 3 steps."""
    model, solvers = table(name, absent), [Plain()]
    if want == "b":
        solvers += [Unmask()]
    if name == "Masking" and absent == "out":
        solvers += [Confidence(math.inf), Remask(0.5)]
    given, (other,) = np.arange(N) % 3, {"a", "b"} - {want}
    joint = JOINT if want == "a" else JOINT.T
    for solver in solvers:
        draw = model.sampler(want=want, steps=3, solver=solver)
        found = draw(KEY, np.arange(N), given={other: given[:, None, None]})[want]
        for value in range(3):
            expected = joint[:, value] / joint[:, value].sum()
            close(shares(found[given == value]), expected, n=N // 3)
        close(shares(draw(KEY, np.arange(N))[want]), joint.sum(1))


@pytest.mark.parametrize("name", CODES)
def test_the_bound_of_a_table_is_exact(name):
    """-log p of one given the other, of one alone, of both by the chain rule. Of one
    masked code it has no error at all."""
    possible = np.argwhere(JOINT > 0)
    a, b = (v[:, None, None].astype(np.int32) for v in possible.T)
    ids, p = np.arange(len(a)), JOINT[tuple(possible.T)]
    masking = isinstance(CODES[name], Masking)
    model, draws = table(name), 8 if masking else 2048
    alone = JOINT.sum(1)[possible[:, 0]]
    for of, x, given, expected in (
        ("a", {"a": a}, {"b": b}, p / JOINT.sum(0)[possible[:, 1]]),
        ("a", {"a": a}, {}, alone),
        (("a", "b"), {"a": a, "b": b}, {}, p),
    ):
        found = model.scorer(of, draws=draws)(KEY, ids, x, given=given)
        assert not masking or (found.error < 1e-6).all()
        assert (abs(found.nats + np.log(expected)) < 4 * found.error + 3e-3).all()
        np.testing.assert_allclose(
            found.bits, found.nats / np.log(2) / len(x), rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", CODES)
def test_the_bound_of_a_worse_network_is_above(name):
    """Averaged over the data, as a cross entropy is above the entropy."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(9, 2000, p=JOINT.reshape(-1))
    a, b = (v[:, None, None].astype(np.int32) for v in np.divmod(drawn, 3))
    exact = -np.log(JOINT.reshape(-1)[drawn]).mean()
    for hot in (0.3, 3.0):
        model = table(name, hot=hot)
        found = model.scorer(draws=16)(KEY, np.arange(2000), {"a": a, "b": b})
        assert found.nats.mean() > exact + 0.04


# A code of two values, and a number that is normal around a mean of each.
WEIGHTS, MEANS, STD = np.array([0.3, 0.7]), np.array([-1.0, 1.2]), 0.5


class Shown(EDM):
    """Whose network is shown x_t and t themselves."""

    def inputs(self, x_t, t):
        return x_t, t


MIXED = {
    "flow, masks": (Gaussian(), Masking(2)),
    "noise, uniform": (Gaussian(Cosine(), "noise"), UniformState(2)),
    "EDM, both": (Shown(), MaskAndReplace(2, share=0.3)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Mixed:
    """The best network of the code "c" and the number "x"."""

    number: object
    code: object
    off: float = 0.0  # added to what it says of the number
    streams: ClassVar = (Continuous("x", (1,), 1), Discrete("c", (1,), 2))
    classes: ClassVar = 0

    def apply(self, variables, seen, times, label, known=None):
        del variables, label, known
        size = len(next(iter(seen.values())))
        log_c = jnp.zeros((size, 2))
        if "c" in seen:
            code, sigma = seen["c"][:, 0, 0], self.code.schedule.sigma(times["c"])
            masked = {Masking: 1.0, UniformState: 0.0}.get(type(self.code), None)
            masked = 1 - self.code.share if masked is None else masked
            fallen = jnp.where(code == 2, masked, (1 - masked) / 2)
            kept = (1 - sigma)[:, None] * jax.nn.one_hot(code, 2)
            log_c = jnp.log(kept + (sigma * fallen)[:, None] + 1e-30)
        out = {}
        log_x = jnp.zeros((size, 2))
        if "x" in seen:
            x, t = seen["x"][:, 0, 0], times["x"]
            alpha = self.number.schedule.alpha(t)
            sigma = self.number.schedule.sigma(t)
            spread = jnp.sqrt(alpha**2 * STD**2 + sigma**2)[:, None]
            log_x = jax.scipy.stats.norm.logpdf(
                x[:, None], alpha[:, None] * MEANS, spread
            )
            best = [best_gaussian(self.number, mean, STD)(x, t) for mean in MEANS]
            share = jax.nn.softmax(jnp.log(WEIGHTS) + log_c + log_x)
            out["x"] = (jnp.stack(best, -1) * share).sum(-1)[:, None, None] + self.off
        if "c" in seen:
            out["c"] = (jnp.log(WEIGHTS) + log_x)[:, None, None]
        return out


@functools.cache
def mixed(name, off=0.0):
    number, code = MIXED[name]
    return generator(Mixed(number, code, off), {"x": number, "c": code}, "out")


def normal(x, mean, std, left):
    x, n = np.ravel(x), x.size
    assert abs(x.mean() - mean) < 4 * std / math.sqrt(n) + left, (x.mean(), mean)
    assert abs(x.std() - std) < 4 * std / math.sqrt(n) + left, (x.std(), std)


SLOW = pytest.mark.slow
OTHERS = [(name, Plain()) for name in list(MIXED)[1:]]
OTHERS += [(name, Unmask()) for name in MIXED]
OTHERS += [("flow, masks", Remask(0.5)), ("flow, masks", Confidence(math.inf))]
OTHERS = [pytest.param(*each, marks=SLOW) for each in OTHERS]


@pytest.mark.parametrize("name, codes", [("flow, masks", Plain()), *OTHERS])
def test_a_code_and_a_number_are_drawn(name, codes):
    """Together, each given the other, each alone; 60 steps leave 0.03."""
    model, ids = mixed(name), np.arange(N)
    solver = {"c": codes, "x": Heun() if name != "noise, uniform" else Ancestral()}
    found = model.sampler(steps=60, solver=solver)(KEY, ids)
    c = np.ravel(found["c"])
    close(np.bincount(c, minlength=2) / N, WEIGHTS, left=0.01)
    for value in (0, 1):
        normal(found["x"][c == value], MEANS[value], STD, 0.04)
    given = {"c": (ids % 2)[:, None, None].astype(np.int32)}
    draw = model.sampler(want="x", steps=60, solver={"x": solver["x"]})
    x = np.ravel(draw(KEY, ids, given=given)["x"])
    for value in (0, 1):
        normal(x[ids % 2 == value], MEANS[value], STD, 0.03)
    mean = WEIGHTS @ MEANS
    spread = math.sqrt(STD**2 + WEIGHTS @ (MEANS - mean) ** 2)
    normal(draw(KEY, ids)["x"], mean, spread, 0.04)
    draw = model.sampler(want="c", steps=5, solver={"c": codes})
    close(np.ravel(draw(KEY, ids)["c"]).mean(), WEIGHTS[1])
    for x in (-0.2, 0.0, 0.3):
        c = draw(KEY, ids, given={"x": np.full((N, 1, 1), x, np.float32)})["c"]
        both = WEIGHTS * stats.norm.pdf(x, MEANS, STD)
        close(np.ravel(c).mean(), both[1] / both.sum())


@pytest.mark.parametrize(
    "name",
    ["EDM, both"] + [pytest.param(n, marks=SLOW) for n in list(MIXED)[:2]],
)
def test_the_bounds_of_a_code_and_a_number_are_exact(name):
    """The density of the number alone and given the code; the code given it. The bound
    of a density ends at a noise of a hundredth of the data's."""
    model, x = mixed(name), np.linspace(-2, 2.5, 8).astype(np.float32)
    ids, c = np.arange(8), np.arange(8) % 2
    each = stats.norm.pdf(x[:, None], MEANS, STD)
    both = WEIGHTS * each
    number, code = x[:, None, None], c[:, None, None].astype(np.int32)
    own = both[ids, c]
    for of, scored, given, p in (
        ("x", {"x": number}, {"c": code}, each[ids, c]),
        ("x", {"x": number}, {}, both.sum(1)),
        ("c", {"c": code}, {"x": number}, own / both.sum(1)),
        (("c", "x"), {"c": code, "x": number}, {}, own),
    ):
        found = model.scorer(of, draws=1024)(KEY, ids, scored, given=given)
        assert (abs(found.nats + np.log(p)) < 4 * found.error + 0.02).all(), of
        assert (found.error < 1.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXED)
def test_the_bound_of_a_worse_network_of_a_number_is_above(name):
    """Averaged over the data, as a cross entropy is above the entropy."""
    rng = np.random.default_rng(0)
    x = MEANS[(rng.random(1000) < WEIGHTS[1]).astype(int)] + STD * rng.normal(size=1000)
    density = (WEIGHTS * stats.norm.pdf(x[:, None], MEANS, STD)).sum(1)
    scored = {"x": x[:, None, None].astype(np.float32)}
    for off, low, high in ((0.0, 0.0, 0.05), (0.3, 0.25, 1.0), (-0.3, 0.25, 1.0)):
        found = mixed(name, off).scorer("x", draws=64)(KEY, np.arange(1000), scored)
        assert low < found.nats.mean() + np.log(density).mean() < high, off
