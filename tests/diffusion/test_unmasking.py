"""Solvers that draw codes: what they keep of a place's codes, what they mask again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.diffusion import (
    Confidence,
    Cosine,
    LinearBetas,
    LogLinear,
    MaskAndReplace,
    Masking,
    Remask,
    UniformState,
    Unmask,
)
from vqdit.diffusion.unmasking import sharpened

P = np.array([0.5, 0.05, 0.3, 0.15])
LOGITS = jnp.broadcast_to(jnp.log(jnp.asarray(P, jnp.float32)), (4000, 4))
N = len(LOGITS)


def step(solver, process, x_t, t, s):
    key, t, s = jax.random.key(0), jnp.array(t), jnp.array(s)
    memory = solver.memory(x_t)
    return np.asarray(solver.step(0, process, LOGITS, x_t, x_t, t, s, key, memory)[0])


@pytest.mark.parametrize(
    "top_p, kept",
    [(0.4, [0]), (0.5, [0]), (0.51, [0, 2]), (0.9, [0, 2, 3]), (1.0, [0, 1, 2, 3])],
)
def test_the_nucleus_is_the_least_set_of_that_probability(top_p, kept):
    found = np.asarray(sharpened(LOGITS[0], 1.0, top_p))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found)), kept)
    np.testing.assert_array_equal(found[kept], LOGITS[0][np.array(kept)])


def test_temperature_comes_before_the_nucleus():
    hot = sharpened(LOGITS[0], 4.0, 0.5)
    assert np.isfinite(hot).sum() == 2
    np.testing.assert_allclose(hot[0], LOGITS[0][0] / 4, rtol=1e-6)


@pytest.mark.parametrize("solver", [Unmask, Confidence, Remask])
def test_all_that_draw_codes_draw_of_the_nucleus(solver):
    """Its codes in proportion: 0.5 to 0.3."""
    drawn = step(solver(top_p=0.8), Masking(4), jnp.full(N, 4), 1.0, 0.0)
    assert set(drawn.tolist()) == {0, 2}
    assert abs((drawn == 0).mean() - 0.625) < 4 * 0.5 / np.sqrt(N)


@pytest.mark.parametrize("process", [UniformState(4), MaskAndReplace(4)])
def test_a_nucleus_of_codes_that_are_replaced(process):
    drawn = step(Unmask(top_p=0.8), process, jnp.zeros(N, int), 0.999, 0.0)
    assert (np.isin(drawn, [0, 2])).mean() > 0.99


@pytest.mark.parametrize("schedule", [LogLinear(), Cosine(), LinearBetas()], ids=repr)
@pytest.mark.parametrize("solver", [Remask(1.0), Remask(0.3), Remask(cap=0.02)])
def test_the_share_of_masks_is_the_processes(solver, schedule):
    """Whatever is masked again; 4 standard errors of both shares."""
    process, t, s = Masking(4, schedule), 0.4, 0.2
    masked = jax.random.uniform(jax.random.key(1), (N,)) < schedule.sigma(jnp.array(t))
    x_t = jnp.where(masked, 4, 1)
    x_s = step(solver, process, x_t, t, s)
    expected = float(schedule.sigma(jnp.array(s)))
    assert abs((x_s == 4).mean() - expected) < 5.6 * 0.5 / np.sqrt(N)
    again = (x_s == 4)[~np.asarray(masked)].mean()
    assert 0 < again and (solver.cap == 1 or again < 0.04)
    assert not (step(solver, process, x_t, t, 0.0) == 4).any()


def test_a_cap_binds_only_where_the_share_is_above_it():
    """At most 0.4 / 0.5 of the codes may fall again, of which eta takes half."""
    process, x_t, error = Masking(4, LogLinear()), jnp.ones(N, int), 4 / np.sqrt(N)
    for cap, again in ((0.1, 0.1), (0.5, 0.4)):
        x_s = step(Remask(eta=0.5, cap=cap), process, x_t, 0.5, 0.4)
        assert abs((x_s == 4).mean() - again) < error * np.sqrt(again * (1 - again))


def test_nothing_is_masked_again_at_eta_0():
    x_t = jnp.where(jnp.arange(N) % 2 == 0, 4, 1)
    x_s = step(Remask(0.0), Masking(4), x_t, 0.6, 0.3)
    assert (x_s[1::2] == 1).all()


@pytest.mark.parametrize("top_p", [0.0, 1.1])
def test_a_nucleus_is_a_probability(top_p):
    for solver in (Unmask, Confidence, Remask):
        with pytest.raises(ValueError, match="top_p=.*: write above 0 and at most 1"):
            solver(top_p=top_p)
