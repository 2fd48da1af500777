"""Masking: its rate, its bound on the likelihood, its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.toys import JOINT, VOCAB, joint_logits, pairs, schedule_name
from vqdit.diffusion import Cosine, DDPMLinear, Linear, Masking, Process, Uniform

schedules = pytest.mark.parametrize(
    "schedule", [Linear(), Cosine(), DDPMLinear()], ids=schedule_name
)
MASK = VOCAB


@schedules
def test_each_code_falls_with_the_rate_of_its_example(schedule):
    """4 standard errors of a share of 20,000 coins; and no two coins are alike."""
    process = Masking(VOCAB, schedule)
    assert isinstance(process, Process)
    t = jnp.array([0.1, 0.5, 0.9])
    x = jnp.full((3, 20_000), 2)
    x_t, target = process.corrupt(x, t, jax.random.key(0))
    np.testing.assert_array_equal(target, x)
    assert set(np.unique(x_t)) == {2, MASK}
    share, rate = (x_t == MASK).mean(1), np.asarray(schedule.sigma(t))
    assert (abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / 20_000)).all()


def test_ends_are_data_and_mask():
    process, x = Masking(VOCAB), jnp.array([[0, 1, 2]] * 2)
    x_t, _ = process.corrupt(x, jnp.array([0.0, 1.0]), jax.random.key(0))
    np.testing.assert_array_equal(x_t, [[0, 1, 2], [MASK] * 3])
    prior = process.prior(jax.random.key(1), (4, 1))
    assert prior.dtype == jnp.int32
    np.testing.assert_array_equal(prior, MASK)


def nll(joint):
    """-log p of each pair in nats, in the order of `pairs`."""
    with np.errstate(divide="ignore"):
        return -np.log(np.asarray(joint).reshape(-1))


@schedules
def test_a_query_is_at_the_time_at_which_so_many_are_masked(schedule):
    """Of twelve codes, of which ten are known, 1 to 10; none of the other two."""
    process, known = Masking(VOCAB, schedule), jnp.arange(12) < 10
    keys = jax.random.split(jax.random.key(0), 10)
    u = (jnp.arange(10) + 0.5) / 10
    query = lambda u, key: process.query(jnp.zeros((12, 1), jnp.int32), u, key, known)
    x_t, t = jax.vmap(query)(u, keys)
    masked = np.asarray(x_t[..., 0] == MASK)
    np.testing.assert_array_equal(masked.sum(1), np.arange(1, 11))
    assert not masked[:, 10:].any()
    np.testing.assert_allclose(schedule.sigma(t), masked.sum(1) / 10, atol=1e-3)


INDEPENDENT = np.outer([0.5, 0.3, 0.2], [0.1, 0.6, 0.3])
joints = pytest.mark.parametrize("joint", [INDEPENDENT, JOINT], ids=["apart", "joint"])


@joints
@schedules
def test_bound_is_exact_for_the_perfect_predictor(schedule, joint):
    """Integrated over t and summed over masks it is -log p per code, for every pair.

    A perfect predictor's conditionals belong to one joint, so no order of unmasking is
    better than another and nothing of the bound is lost.
    """
    process, predict = Masking(VOCAB, schedule), joint_logits(joint)
    possible = joint.reshape(-1) > 0
    x = jnp.asarray(pairs()[possible])
    count = 4000
    # Midpoints of equal steps in u, t = u^3: dense where the weight is held.
    u = (np.arange(count, dtype=np.float32) + 0.5) / count

    @jax.jit
    def expected_loss(u):
        t, total = u**3, 0.0
        for mask in ([1, 1], [0, 1], [1, 0]):
            mask = np.array(mask, bool)
            sigma = schedule.sigma(t)
            share = jnp.where(mask, sigma, 1 - sigma).prod()
            x_t = jnp.where(mask, MASK, x)
            time = jnp.full(len(x), t)
            total += share * process.loss(predict(x_t), x, x_t, time)
        return 3 * u**2 * total

    bound = jax.lax.map(expected_loss, u, batch_size=200).mean(0)
    np.testing.assert_allclose(bound, nll(joint)[possible] / 2, atol=1e-3)


def test_loss_at_uniform_times_estimates_the_likelihood():
    """The entropy of the data, within 4 standard errors of 10,000 draws."""
    n, keys = 10_000, jax.random.split(jax.random.key(0), 3)
    predict = joint_logits()
    entropy = (JOINT.reshape(-1) * np.nan_to_num(nll(JOINT), posinf=0)).sum() / 2

    @jax.jit
    def losses():
        log_p = jnp.log(JOINT.reshape(-1))
        x = jnp.asarray(pairs())[jax.random.categorical(keys[0], log_p, shape=(n,))]
        t = Uniform()(keys[1], n)
        found = []
        for schedule in (Linear(), Cosine()):
            process = Masking(VOCAB, schedule)
            x_t, target = process.corrupt(x, t, keys[2])
            found.append(process.loss(predict(x_t), target, x_t, t))
        return found

    for loss in losses():
        assert abs(loss.mean() - entropy) < 4 * loss.std() / np.sqrt(n)


def test_maskgit_weight_is_the_plain_mean_over_masks():
    process = Masking(VOCAB, weight="none")
    x = jnp.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    x_t = jnp.array([[0, MASK, MASK], [MASK] * 3, [0, 1, 2]])
    logits = jnp.log(jnp.array([0.2, 0.5, 0.3])) * jnp.ones((3, 3, 1)) + 7.0
    loss = process.loss(logits, x, x_t, jnp.array([0.3, 0.9, 0.0]))
    a, b, c = -np.log([0.2, 0.5, 0.3])
    np.testing.assert_allclose(loss, [(b + c) / 2, (a + b + c) / 3, 0.0], rtol=1e-5)


def test_loss_reads_nothing_from_codes_that_are_seen():
    process = Masking(VOCAB)
    x, x_t, t = jnp.array([[0, 1]]), jnp.array([[0, MASK]]), jnp.array([0.5])
    loss = lambda logits: process.loss(logits, x, x_t, t)[0]
    gradient = jax.grad(loss)(jnp.zeros((1, 2, VOCAB)))
    assert (gradient[0, 0] == 0).all() and (gradient[0, 1] != 0).all()


@pytest.mark.parametrize("schedule, power", [(Linear(), 1), (DDPMLinear(), 0.547)])
def test_below_the_hold_a_weight_makes_up_for_the_fewer_masks(schedule, power):
    """Of sigma ~ t^p it is (p + 1) / hold below a thousandth, where codes fall with the
    smaller sigma(t), and p / t above."""
    process, x_t = Masking(VOCAB, schedule), jnp.full((3, 1), MASK)
    t = jnp.array([1e-6, 9e-4, 1.1e-3])
    loss = process.loss(jnp.zeros((3, 1, VOCAB)), 0 * x_t, x_t, t)
    expected = np.log(3) * np.array([power + 1, power + 1, power / 1.1]) / 1e-3
    np.testing.assert_allclose(loss, expected, rtol=0.02)


def test_estimate_is_certain_of_what_is_seen():
    x_t, logits = jnp.array([1, MASK]), jnp.log(jnp.array([0.2, 0.5, 0.3])) + 1.0
    found = Masking(VOCAB).estimate(jnp.stack([logits] * 2), x_t, jnp.array(0.5))
    np.testing.assert_allclose(found, [[0, 1, 0], [0.2, 0.5, 0.3]], rtol=1e-6)


@schedules
def test_loss_is_finite_at_the_ends(schedule):
    process, x = Masking(VOCAB, schedule), jnp.zeros((2, 4), jnp.int32)
    loss = process.loss(
        jnp.zeros((2, 4, VOCAB)), x, jnp.full((2, 4), MASK), jnp.array([0.0, 1.0])
    )
    assert jnp.isfinite(loss).all()


@schedules
def test_step_reveals_its_share_and_keeps_what_is_seen(schedule):
    """4 standard errors of a share of 20,000 coins."""
    process, n = Masking(VOCAB, schedule), 20_000
    x_t = jnp.where(jnp.arange(n) % 2 == 0, MASK, 1)
    logits = jnp.log(jnp.array([0.6, 0.0, 0.4])) * jnp.ones((n, 1))
    t, s = jnp.array(0.8), jnp.array(0.5)
    step = jax.jit(process.step)
    x_s = step(logits, x_t, t, s, jax.random.key(0))
    np.testing.assert_array_equal(x_s[1::2], 1)
    fallen = np.asarray(x_s[::2])
    left, expected = (
        (fallen == MASK).mean(),
        float(schedule.sigma(s) / schedule.sigma(t)),
    )
    assert abs(left - expected) < 4 * 0.5 / np.sqrt(n / 2)
    revealed = fallen[fallen != MASK]
    assert set(revealed) == {0, 2}
    assert abs((revealed == 0).mean() - 0.6) < 4 * 0.5 / np.sqrt(len(revealed))
    last = step(logits, x_t, t, jnp.array(0.0), jax.random.key(0))
    assert (last != MASK).all()


def test_guidance_tilts_the_distribution():
    """p is proportional to p(given)^3 p(absent)^-2."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.5, 0.3])
    guide = Masking(VOCAB).guide
    logits = guide(jnp.log(p) + 2.0, jnp.log(q) - 5.0, jnp.array(3.0))
    tilted = p**3 / q**2
    np.testing.assert_allclose(jax.nn.softmax(logits), tilted / tilted.sum(), rtol=1e-5)


def test_a_vocabulary_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Masking(1)
