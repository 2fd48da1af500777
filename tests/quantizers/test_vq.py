import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.objectives.codebook import with_revival
from train.runtime.step import init_state, make_step
from vqdit.quantizers import EMAVectorQuantizer, SimVQ, VectorQuantizer

BOTH = pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
KEY = jax.random.key(5)


def draw(*shape, seed=0, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def start(quantizer):
    return quantizer.init(jax.random.key(0), jnp.zeros((1, quantizer.dim)))


@functools.partial(jax.jit, static_argnums=0)
def train(quantizer, variables, z):
    """(Quantized, variables afterwards)."""
    mutable = [name for name in variables if name != "params"]
    quantized, state = quantizer.apply(
        variables, z, train=True, key=KEY, mutable=mutable
    )
    return quantized, {**variables, **state}


def codewords(quantizer, variables):
    codes = jnp.arange(quantizer.num_codes)[:, None]
    return np.asarray(quantizer.apply(variables, codes, method="decode"))


def with_rows(quantizer, rows):
    """Variables whose codebook is the given rows."""
    rows = jnp.asarray(rows, jnp.float32)
    ones = jnp.ones(len(rows), jnp.int32)
    return quantizer.with_codewords(start(quantizer), rows, ones)


def test_codes_are_the_nearest_codewords():
    quantizer = VectorQuantizer(7, 3, revive="none")
    variables, z = start(quantizer), draw(40, 3)
    quantized, _ = train(quantizer, variables, z)
    e = codewords(quantizer, variables)
    expected = np.square(np.asarray(z)[:, None] - e).sum(-1).argmin(1)
    np.testing.assert_array_equal(quantized.codes[:, 0], expected)
    # z + (q - z), which rounds: only outside training is it q to the bit.
    np.testing.assert_allclose(quantized.latents, e[expected], atol=1e-6)


def test_first_codewords_have_the_spread_that_is_written():
    """Uniform in 3 / k on both sides; normal, of the length 3 in d channels."""
    how = {"window": 5000, "revive": "none", "start_scale": 3.0}
    even = EMAVectorQuantizer(500, 4, start="uniform", **how)
    table = codewords(even, start(even))
    assert 0.95 * 3 / 500 < np.abs(table).max() <= 3 / 500 * 1.0001
    assert table.std() == pytest.approx(3 / 500 / 3**0.5, rel=0.05)
    table = start(SimVQ(500, 4, **how))["codebook"]["frozen"]
    assert table.std() == pytest.approx(1.5, rel=0.08)


def test_cosine_codes_see_directions_only():
    quantizer = EMAVectorQuantizer(7, 3, cosine=True, revive="none")
    variables, z = start(quantizer), draw(40, 3)
    near, _ = train(quantizer, variables, z)
    far, _ = train(quantizer, variables, 50 * z)
    np.testing.assert_array_equal(near.codes, far.codes)
    e = codewords(quantizer, variables)
    np.testing.assert_allclose(np.linalg.norm(e, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(near.codes[:, 0], (np.asarray(z) @ e.T).argmax(1))


def test_moving_averages_have_their_closed_form():
    """Appendix A.1 in NumPy, over three batches."""
    quantizer = EMAVectorQuantizer(4, 2, decay=0.8, revive="none")
    variables = start(quantizer)
    state = jax.device_get(variables["codebook"])
    counts, sums = state["counts"], state["sums"]
    for seed in range(3):
        z = np.asarray(draw(30, 2, seed=seed))
        smooth = (counts + 1e-5) / (counts.sum() + 4e-5) * counts.sum()
        e = sums / smooth[:, None]
        np.testing.assert_allclose(codewords(quantizer, variables), e, rtol=1e-4)
        hits = np.eye(4)[np.square(z[:, None] - e).sum(-1).argmin(1)]
        counts = 0.8 * counts + 0.2 * hits.sum(0)
        sums = 0.8 * sums + 0.2 * hits.T @ z
        _, variables = train(quantizer, variables, z)
        np.testing.assert_allclose(variables["codebook"]["counts"], counts, rtol=1e-5)
        np.testing.assert_allclose(variables["codebook"]["sums"], sums, atol=1e-5)


def test_moving_averages_settle_on_the_means():
    """Two clusters, two codes near them: each becomes its cluster's mean."""
    quantizer = EMAVectorQuantizer(2, 2, decay=0.5, revive="none")
    z = jnp.concatenate([draw(10, 2, scale=0.1), 3 + draw(30, 2, seed=1, scale=0.1)])
    variables = with_rows(quantizer, [[0, 0], [2, 2]])
    for _ in range(30):
        _, variables = train(quantizer, variables, z)
    means = [z[:10].mean(0), z[10:].mean(0)]
    np.testing.assert_allclose(codewords(quantizer, variables), means, rtol=1e-3)


def test_losses_pull_codes_to_vectors_and_vectors_to_codes_apart():
    """Gradients of the mean square, each to its own side only (eq. 3)."""
    quantizer = VectorQuantizer(5, 3, revive="none")
    variables, z = start(quantizer), draw(20, 3)
    table = variables["params"]["codewords"]

    def losses(table, z):
        own = {**variables, "params": {"codewords": table}}
        quantized, _ = quantizer.apply(own, z, train=True, mutable="usage")
        return quantized.losses, quantized

    @jax.jit
    def gradients(table, z):
        by_table, quantized = jax.jacrev(losses, has_aux=True)(table, z)
        by_z, _ = jax.jacrev(losses, argnums=1, has_aux=True)(table, z)
        both = {name: (by_table[name], by_z[name]) for name in by_z}
        return both, quantized

    both, quantized = gradients(table, z)
    index = np.asarray(quantized.codes[:, 0])
    pull = 2 * (np.asarray(z) - np.asarray(table)[index]) / z.size
    to_table = np.zeros((5, 3))
    np.add.at(to_table, index, -pull)
    np.testing.assert_allclose(both["codebook"][0], to_table, atol=1e-6)
    np.testing.assert_array_equal(both["codebook"][1], 0)
    np.testing.assert_allclose(both["commit"][1], pull, atol=1e-6)
    np.testing.assert_array_equal(both["commit"][0], 0)
    value = np.square(np.asarray(z) - np.asarray(table)[index]).mean()
    for loss in quantized.losses.values():
        np.testing.assert_allclose(loss, value, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("cosine", [False, True])
def test_latents_pass_through_at_no_loss_until_the_codebook_is_set(kind, cosine):
    quantizer = kind(6, 3, start="kmeans", window=60, cosine=cosine)
    variables, z = start(quantizer), draw(70, 3)
    waiting, after = train(quantizer, variables, z)
    through = np.asarray(z)
    if cosine:
        through = through / np.linalg.norm(through, axis=1, keepdims=True)
    np.testing.assert_allclose(waiting.latents, through, rtol=1e-5)
    assert all(loss == 0 for loss in waiting.losses.values())
    # A window went by, and nothing learned, counted or died.
    jax.tree.map(np.testing.assert_array_equal, after, variables)

    rows = draw(6, 3, seed=1)
    if cosine:
        rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    set_ = quantizer.with_codewords(variables, rows, jnp.array([9, 1, 0, 4, 4, 4]))
    np.testing.assert_allclose(codewords(quantizer, set_), rows, rtol=1e-3)
    quantized, after = train(quantizer, set_, z)
    e = codewords(quantizer, set_)
    np.testing.assert_allclose(quantized.latents, e[quantized.codes[:, 0]], atol=1e-5)
    assert quantized.losses["commit"] > 0
    assert after["usage"]["usage"]["counts"].sum() == 60


@BOTH
@pytest.mark.parametrize("cosine", [False, True])
def test_codebook_from_data_is_its_clusters(kind, cosine):
    """Four tight clusters in four directions, four codes: each is a mean."""
    quantizer = kind(4, 2, start="kmeans", cosine=cosine, revive="none")
    centres = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    z = jnp.repeat(jnp.asarray(centres), 8, axis=0) + draw(32, 2, scale=1e-3)
    for seed in range(9):  # two starts in one cluster may both stay there
        key = jax.random.key(seed)
        variables, metrics = quantizer.from_data(start(quantizer), key, z, 10)
        if metrics["perplexity"] > 3.99:
            break
    rows = codewords(quantizer, variables)
    order = np.abs(rows[:, None] - centres).max(-1).argmin(0)
    np.testing.assert_allclose(rows[order], centres, atol=3e-3)
    assert metrics["usage"] == 1
    quantized, _ = train(quantizer, variables, z)
    np.testing.assert_allclose(quantized.latents, z, atol=1e-2)


@BOTH
def test_dead_codes_come_back_as_vectors_of_the_current_batch(kind):
    """Codes 0 and 1 are used, 2 and 3 are far away: they die after a window."""
    quantizer = kind(4, 2, window=40)
    variables = with_rows(quantizer, [[0, 0], [1, 1], [90, 90], [-90, 90]])
    parity = jnp.arange(20)[:, None] % 2
    near = [parity + draw(20, 2, seed=i, scale=0.1) for i in (0, 1)]
    quantized, variables = train(quantizer, variables, near[0])
    assert quantized.metrics["revived"] == 0
    before, z = codewords(quantizer, variables), near[1]
    quantized, variables = train(quantizer, variables, z)
    assert quantized.metrics["revived"] == 2
    if kind is VectorQuantizer:  # which tells the train step
        assert variables["revival"]["dead"].tolist() == [False, False, True, True]
        fresh = np.asarray(variables["revival"]["fresh"])[2:]
        np.testing.assert_array_equal(codewords(quantizer, variables), before)
    else:
        used, fresh = np.split(codewords(quantizer, variables), 2)
        np.testing.assert_allclose(used, before[:2], atol=0.01)
    distance = np.abs(fresh[:, None] - np.asarray(z)).max(-1)
    assert distance.min(1).max() < 1e-3
    assert len(set(distance.argmin(1))) == 2


def test_a_revived_code_of_averages_weighs_as_an_average_code():
    quantizer = EMAVectorQuantizer(4, 2, window=40, decay=0.5)
    variables = with_rows(quantizer, [[0, 0], [1, 1], [90, 90], [-90, 90]])
    z = jnp.zeros((40, 2)) + (jnp.arange(40) % 2)[:, None]
    _, after = train(quantizer, variables, z)
    # Used codes: (1 + 20) / 2; the dead had halved, and get the mean of all four.
    counts = after["codebook"]["counts"]
    np.testing.assert_allclose(counts, [10.5, 10.5, 5.5, 5.5], rtol=1e-5)


def test_codes_that_are_split_in_training_share_their_weight():
    """The most used in two, then the next; each keeps what its half has won."""
    quantizer = EMAVectorQuantizer(4, 1, window=40, decay=0.5, revive="split")
    variables = with_rows(quantizer, [[0], [5], [90], [95]])
    z = jnp.where(jnp.arange(40) < 30, 0.0, 5.5)[:, None]
    quantized, after = train(quantizer, variables, z)
    assert quantized.metrics["revived"] == 2
    counts = after["codebook"]["counts"]
    np.testing.assert_allclose(counts, [7.75, 2.75, 7.75, 2.75], rtol=1e-5)
    rows = codewords(quantizer, after)[:, 0]
    np.testing.assert_allclose(rows[:2], [0, 5.5 - 0.25 / 5.5], atol=1e-3)
    # A third of what vectors are from their codes is how far the halves may be apart.
    apart = 0.3 * np.sqrt(0.25 * (0.25 / 5.5) ** 2)
    assert (0 < np.abs(rows[2:] - rows[:2])).all()
    assert np.abs(rows[2:] - rows[:2]).max() < 4 * apart


def test_an_average_of_nothing_is_finite():
    """Laplace smoothing, to the last digits: counts of 0 and of its own size."""
    quantizer = EMAVectorQuantizer(3, 2, revive="none")
    variables = start(quantizer)
    counts, sums = jnp.array([2.0, 0.0, 3e-5]), jnp.array([[4.0, 2], [0, 0], [6e-5, 0]])
    codebook = {**variables["codebook"], "counts": counts, "sums": sums}
    rows = codewords(quantizer, {**variables, "codebook": codebook})
    np.testing.assert_allclose(rows, [[2, 1], [0, 0], [1.5, 0]], rtol=1e-4)


def test_averages_from_data_weigh_as_their_clusters():
    """Of six vectors in one place and two in another; an empty one weighs a tenth."""
    quantizer = EMAVectorQuantizer(2, 1, start="kmeans")
    z = jnp.array([[0.0]] * 6 + [[9.0]] * 2)
    variables, _ = quantizer.from_data(start(quantizer), KEY, z, 5)
    found = variables["codebook"]
    order = np.argsort(found["counts"])
    np.testing.assert_allclose(np.sort(found["counts"]), [0.5, 1.5])
    np.testing.assert_allclose(found["sums"][order], [[4.5], [0.0]], atol=1e-6)
    rows = jnp.array([[0.0], [9.0]])
    set_ = quantizer.with_codewords(start(quantizer), rows, jnp.array([8, 0]))
    np.testing.assert_allclose(set_["codebook"]["counts"], [2.0, 0.1])


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.5])
def test_an_average_that_is_not_used_holds_its_place(decay, cosine):
    """After a hundred times as many steps as its weight takes to halve, and where none
    of it is kept."""
    quantizer = EMAVectorQuantizer(3, 2, decay=decay, revive="none", cosine=cosine)
    variables = with_rows(quantizer, [[1, 0], [0, 1], [0.6, -0.8]])
    z = jnp.array([[0.6, 0.6], [1.0, 0.2]])

    @jax.jit
    def many(variables):
        body = lambda _, v: train(quantizer, v, z)[1]
        return jax.lax.fori_loop(0, 100, body, variables)

    rows = codewords(quantizer, many(variables))
    np.testing.assert_allclose(rows[2], [0.6, -0.8], rtol=2e-3)


def test_codes_stay_dead_without_revival():
    quantizer = EMAVectorQuantizer(3, 2, window=30, revive="none")
    variables = with_rows(quantizer, [[0, 0], [90, 90], [-90, 90]])
    for _ in range(3):
        quantized, variables = train(quantizer, variables, draw(20, 2))
    assert "revived" not in quantized.metrics
    np.testing.assert_allclose(codewords(quantizer, variables)[1], [90, 90], rtol=1e-3)


def objective(quantizer, params, stats, batch, key, step=0):
    quantized, stats = quantizer.apply(
        {"params": params, **stats},
        batch["z"],
        train=True,
        key=key,
        mutable=list(stats),
    )
    metrics = {"revived": quantized.metrics["revived"].astype(jnp.float32)}
    return sum(quantized.losses.values()), (dict(stats), metrics)


def trained(quantizer, rows, batches):
    """The states after every step of AdamW with revival."""
    tx = optax.adamw(0.1)
    loss = functools.partial(objective, quantizer)
    step = jax.jit(with_revival(make_step(loss, tx, 0.9)))
    state = init_state(KEY, with_rows(quantizer, rows), tx)
    states = []
    for z in batches:
        state, _ = step(state, {"z": z})
        states.append(jax.device_get(state))
    return states


def test_train_step_replaces_dead_rows_and_resets_their_moments():
    """Row 2 is used once, so that it has moments, and then for a window not at all."""
    quantizer = VectorQuantizer(3, 2, window=32)
    rows = [[0, 0], [1, 1], [90, 90]]
    batches = [draw(16, 2, seed=i, scale=0.1) + 0.5 for i in range(4)]
    batches[0] = batches[0].at[0].set(88.0)
    _, before, after, last = trained(quantizer, rows, batches)
    moments = lambda state: (state.opt[0].mu["codewords"], state.opt[0].nu["codewords"])

    assert (before.params["codewords"][2] > 80).all()
    assert all((moment[2] != 0).all() for moment in moments(before))
    table, z = after.params["codewords"], np.asarray(batches[2])
    assert (z == table[2]).all(1).any()  # a vector of this batch, to the bit
    np.testing.assert_array_equal(after.ema["codewords"][2], table[2])
    for moment in moments(after):
        assert (moment[2] == 0).all() and (moment[:2] != 0).any()
    # The others moved by their gradient alone, and the row is replaced only once.
    np.testing.assert_allclose(table[:2], before.params["codewords"][:2], atol=0.2)
    assert not after.stats["revival"]["dead"].any()
    np.testing.assert_allclose(last.params["codewords"], table, atol=0.2)


def test_step_without_codebook_is_left_alone():
    state = {"x": jnp.ones(2)}
    made = init_state(KEY, {"params": state}, optax.sgd(0.1))
    after, _ = with_revival(lambda state, batch: (state, {}))(made, None)
    assert after is made


@BOTH
def test_reviving_needs_a_key(kind):
    quantizer = kind(4, 2)
    call = lambda v: quantizer.apply(v, jnp.zeros((3, 2)), train=True, mutable=True)
    with pytest.raises(ValueError, match="pass key="):
        jax.eval_shape(call, start(quantizer))
    still = dataclasses.replace(quantizer, revive="none")
    call = lambda v: still.apply(v, jnp.zeros((3, 2)), train=True, mutable=True)
    jax.eval_shape(call, start(still))


@BOTH
@pytest.mark.parametrize(
    "fields,message",
    [
        ({"num_codes": 1, "dim": 2}, "num_codes=1: write at least 2"),
        ({"num_codes": 4, "dim": 0}, "dim=0: write at least 1"),
        ({"num_codes": 4, "dim": 2, "window": 0}, "window=0: write at least 1"),
    ],
)
def test_impossible_fields_are_refused(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_outside_zero_to_one_is_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        EMAVectorQuantizer(4, 2, decay=decay)


def test_entropy_is_blind_to_channels_that_say_nothing():
    rows, z, found = draw(5, 2), draw(30, 2, seed=1), []
    for more in (0, 3):
        wide = lambda x, more=more: jnp.pad(x, ((0, 0), (0, more)))
        quantizer = VectorQuantizer(5, 2 + more, revive="none", entropy=True)
        variables = with_rows(quantizer, wide(rows))
        found.append(float(train(quantizer, variables, wide(z))[0].losses["entropy"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
