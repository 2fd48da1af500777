"""A planted collapse: every codeword far from every vector, and no k-means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.objectives.codebook import with_revival
from train.runtime.step import init_state, make_step
from vqdit.quantizers import EMAVectorQuantizer, VectorQuantizer
from vqdit.quantizers.codebook.health import split_sources

KEY = jax.random.key(2)
STEPS, BATCH, CODES = 80, 256, 64


def objective(quantizer, params, stats, batch, key, step):
    quantized, stats = quantizer.apply(
        {"params": params, **stats}, batch, train=True, key=key, mutable=list(stats)
    )
    return sum(quantized.losses.values(), 0.0), (dict(stats), quantized.metrics)


@pytest.mark.parametrize("revive", ["none", "batch", "split"])
@pytest.mark.parametrize("kind", [EMAVectorQuantizer, VectorQuantizer])
def test_codebook_recovers_with_revival_and_not_without(kind, revive):
    """Usage over the last 1,024 codes, of 64."""
    fields = {"decay": 0.9} if kind is EMAVectorQuantizer else {}
    quantizer = kind(
        CODES, 4, start_scale=100.0, revive=revive, window=4 * BATCH, **fields
    )
    tx = optax.adam(0.02)
    step = with_revival(make_step(functools.partial(objective, quantizer), tx))

    @jax.jit
    def run():
        variables = quantizer.init(KEY, jnp.zeros((1, 4)))
        state = init_state(KEY, {"params": {}, **variables}, tx)

        def body(state, key):
            state, metrics = step(state, jax.random.normal(key, (BATCH, 4)))
            return state, (metrics["usage"], metrics["perplexity"])

        return jax.lax.scan(body, state, jax.random.split(KEY, STEPS))[1]

    usage, perplexity = run()
    assert usage[3] <= 0.1  # it has collapsed
    if revive == "none":
        assert usage[-1] <= 0.1
    else:
        assert usage[-1] >= 0.95 and perplexity[-1] > 0.6 * CODES


def test_dead_codes_split_the_most_used_first():
    counts = jnp.array([5, 0, 9, 0, 0, 7, 0, 0])
    dead = jnp.array([False, True, False, True, True, False, True, False])
    source = split_sources(counts, dead)
    # The last code is neither dead nor used: nothing to split there.
    assert source[dead].tolist() == [2, 5, 0, 2]


def test_a_code_that_is_split_shares_its_weight_with_its_halves():
    """By hand: rows of sums over counts stay, but for the dead one's, which is new."""
    quantizer = EMAVectorQuantizer(4, 1, window=40, revive="split")
    codebook = {"sums": jnp.array([[16.0], [4.0], [7.0], [9.0]])}
    codebook["counts"] = jnp.array([8.0, 2.0, 1.0, 1.0])
    codebook["ready"] = jnp.array(True)
    dead, source = jnp.array([False, False, True, True]), jnp.array([1, 1, 0, 0])
    fresh = jnp.array([[0.0], [0.0], [1.5], [2.5]])
    _, after = quantizer.apply(
        {"codebook": codebook},
        *(dead, fresh, source),
        method="_replace",
        mutable="codebook",
    )
    # Of 8 a third each.
    np.testing.assert_allclose(after["codebook"]["counts"], [8 / 3, 2, 8 / 3, 8 / 3])
    sums = [[16 / 3], [4], [4], [20 / 3]]
    np.testing.assert_allclose(after["codebook"]["sums"], sums, rtol=1e-6)


@pytest.mark.slow
def test_halves_of_a_split_code_share_its_weight_and_its_vectors():
    """Moving averages: weights add up, means stay, and both halves win vectors."""
    quantizer = EMAVectorQuantizer(3, 2, window=64, revive="split", decay=0.9)
    rows = jnp.array([[0.0, 0.0], [3.0, 3.0], [90.0, 90.0]])
    draw = np.random.default_rng(0)
    blob = np.concatenate([draw.normal(0, 0.5, (48, 2)), draw.normal(3, 0.1, (16, 2))])
    z = jnp.asarray(blob, jnp.float32)
    variables = quantizer.init(KEY, z)
    variables = quantizer.with_codewords(variables, rows, jnp.ones(3, jnp.int32))

    @jax.jit
    def run(variables):
        quantized, state = quantizer.apply(
            variables, z, train=True, key=KEY, mutable=["codebook", "usage"]
        )
        return quantized, {**variables, **state}

    quantized, after = run(variables)
    assert quantized.metrics["revived"] == 1
    counts = after["codebook"]["counts"]
    # 0.9 of the old weight of 1, and 0.1 of the 48 vectors, in two.
    np.testing.assert_allclose(counts, [2.85, 2.5, 2.85], rtol=1e-5)
    e = after["codebook"]["sums"] / counts[:, None]
    assert 0 < np.abs(e[2] - e[0]).max() < 1
    again, _ = run(after)
    shares = np.bincount(again.codes[:48, 0], minlength=3)
    assert shares[0] > 8 and shares[2] > 8 and shares[1] == 0
