"""Blocks and chunks answer as the whole matrix would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests import quick
from vqdit.quantizers import VectorQuantizer, kmeans, nearest, search


def whole_numbers(*shape, seed=0):
    """Products of these are exact in float32, and many are equal."""
    draw = np.random.default_rng(seed).integers(-2, 3, shape)
    return jnp.asarray(draw, jnp.float32)


@pytest.mark.parametrize("k", [1024, 700])
def test_blocks_find_what_the_matrix_does_ties_included(monkeypatch, k):
    """In blocks of 128; 5^3 places for the codes: often several are the nearest."""
    z, e = whole_numbers(64, 3), whole_numbers(k, 3, seed=1)
    distance = np.square(np.asarray(z)[:, None] - np.asarray(e)).sum(-1)
    expected = distance.argmin(1)
    assert (distance == distance.min(1, keepdims=True)).sum(1).mean() > 2
    np.testing.assert_array_equal(quick.jit(nearest)(z, e), expected)
    monkeypatch.setattr(search, "LIMIT", 64 * 100)
    jaxpr = str(jax.make_jaxpr(lambda z, e: nearest(z, e))(z, e))
    assert "scan" in jaxpr and f"f32[64,{k}]" not in jaxpr
    blocks = quick.jit(lambda z, e: nearest(z, e))
    np.testing.assert_array_equal(blocks(z, e), expected)
    # What fills up the last block is never nearest, however far the codes are.
    far = np.square(np.asarray(z)[:, None] - np.asarray(e + 100)).sum(-1)
    np.testing.assert_array_equal(blocks(z, e + 100), far.argmin(1))


def test_search_cuts_the_codes_and_leaves_the_vectors_where_they_are(monkeypatch):
    """On eight devices nothing is sent: the program has no collective."""
    monkeypatch.setattr(search, "LIMIT", 64 * 128)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    z, e = whole_numbers(64, 3), whole_numbers(512, 3, seed=1)
    program = quick.jit(lambda z, e: nearest(z, e), in_shardings=(rows, everywhere))
    found = program(z, e)
    np.testing.assert_array_equal(found, nearest(z, e))
    text = program.lower(z, e).compile().as_text()
    assert not any(name in text for name in ("all-gather", "all-reduce", "all-to-all"))


def test_262144_codes_fit_everywhere():
    """Memory of a whole training call, its gradient, and the state it leaves."""
    quantizer = VectorQuantizer(262_144, 2, window=4096, entropy=True, orthogonal=True)
    z = jax.ShapeDtypeStruct((1024, 2), jnp.float32)
    variables = jax.eval_shape(quantizer.init, jax.random.key(0), z)
    mutable = ["codebook", "usage", "revival"]

    def loss(params, stats, z):
        variables = {"params": params, **stats}
        key = jax.random.key(0)
        quantized, stats = quantizer.apply(
            variables, z, train=True, key=key, mutable=mutable
        )
        return sum(quantized.losses.values()) + quantized.latents.sum(), stats

    stats = {name: variables[name] for name in mutable}
    program = quick.jit(jax.grad(loss, has_aux=True))
    compiled = program.lower(variables["params"], stats, z).compile()
    matrix = 4 * 1024 * 262_144
    assert compiled.memory_analysis().temp_size_in_bytes < matrix / 8


def test_kmeans_never_holds_all_distances():
    """Of 32,768 vectors to as many codes: 4 GiB; it takes a hundredth."""
    x = jax.ShapeDtypeStruct((32_768, 2), jnp.float32)
    program = jax.jit(lambda x: kmeans(jax.random.key(0), x, 32_768, 2))
    memory = program.lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 32_768**2 / 64


@pytest.mark.parametrize("n", [24, 7])
def test_rows_in_chunks_give_the_same_values_and_gradients(monkeypatch, n):
    x, e = (
        whole_numbers(n, 3),
        jnp.asarray(np.random.default_rng(2).normal(size=(8, 3))),
    )

    def both(x, e):
        def soft(x):
            p = jax.nn.softmax(x @ e.T)
            return p @ e, p.sum(0)

        rows, total = search.by_rows(soft, 8, x)
        return (jnp.sin(rows).sum() + jnp.square(total).sum()), (rows, total)

    run = lambda: quick.jit(jax.value_and_grad(lambda x: both(x, e), has_aux=True))(x)
    whole = run()
    monkeypatch.setattr(search, "LIMIT", 40)
    parts = run()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        parts,
        whole,
    )


def test_the_highest_is_the_first_of_equals_and_in_range_beside_nan():
    scores = np.array(whole_numbers(300, 40))
    value, index = quick.jit(search.highest)(scores)
    np.testing.assert_array_equal(index, scores.argmax(-1))
    np.testing.assert_array_equal(value, scores.max(-1))
    scores[3, 7], scores[5] = np.nan, np.nan
    _, index = quick.jit(search.highest)(scores)
    assert index[3] < 40 and index[5] < 40
