"""Blocks and chunks answer as the whole matrix would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vqdit import sums
from vqdit.quantizers import VectorQuantizer, kmeans, nearest
from vqdit.quantizers.codebook import search


def whole_numbers(*shape, seed=0):
    """Products of these are exact in float32, and many are equal."""
    draw = np.random.default_rng(seed).integers(-2, 3, shape)
    return jnp.asarray(draw, jnp.float32)


@pytest.mark.parametrize("k", [1024, 700])
def test_blocks_find_what_the_matrix_does_ties_included(k):
    """In blocks of 128; 5^3 places for the codes: often several are the nearest."""
    z, e = whole_numbers(64, 3), whole_numbers(k, 3, seed=1)
    distance = np.square(np.asarray(z)[:, None] - np.asarray(e)).sum(-1)
    expected = distance.argmin(1)
    assert (distance == distance.min(1, keepdims=True)).sum(1).mean() > 2
    np.testing.assert_array_equal(jax.jit(nearest)(z, e), expected)
    few = lambda z, e: nearest(z, e, 64 * 100)
    jaxpr = str(jax.make_jaxpr(few)(z, e))
    assert "scan" in jaxpr and f"f32[64,{k}]" not in jaxpr
    blocks = jax.jit(few)
    np.testing.assert_array_equal(blocks(z, e), expected)
    # What fills up the last block is never nearest, however far the codes are.
    far = np.square(np.asarray(z)[:, None] - np.asarray(e + 100)).sum(-1)
    np.testing.assert_array_equal(blocks(z, e + 100), far.argmin(1))


def test_what_fills_up_the_last_block_is_no_code():
    """Around the origin, where its zeros would be nearer than all codes."""
    angle = np.linspace(0, 2 * np.pi, 700, endpoint=False)
    codes = jnp.asarray(10 * np.stack([np.cos(angle), np.sin(angle)], 1), jnp.float32)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)), jnp.float32)
    found = jax.jit(lambda z, e: nearest(z, e, 64 * 100))(z, codes)
    np.testing.assert_array_equal(found, jax.jit(nearest)(z, codes))
    assert found.max() < 700


def test_search_cuts_the_codes_and_leaves_the_vectors_where_they_are():
    """On eight devices nothing is sent: the program has no collective."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    z, e = whole_numbers(64, 3), whole_numbers(512, 3, seed=1)
    few = lambda z, e: nearest(z, e, 64 * 128)
    program = jax.jit(few, in_shardings=(rows, everywhere))
    found = program(z, e)
    np.testing.assert_array_equal(found, nearest(z, e))
    text = program.lower(z, e).compile().as_text()
    assert not any(name in text for name in ("all-gather", "all-reduce", "all-to-all"))


def test_262144_codes_fit_everywhere():
    """Memory of a whole training call, its gradient, and the state it leaves."""
    quantizer = VectorQuantizer(262_144, 2, entropy=True, orthogonal=True)
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
    program = jax.jit(jax.grad(loss, has_aux=True))
    compiled = program.lower(variables["params"], stats, z).compile()
    matrix = 4 * 1024 * 262_144
    assert compiled.memory_analysis().temp_size_in_bytes < matrix / 8


def test_kmeans_never_holds_all_distances():
    """Of 32,768 vectors to as many codes: 4 GiB; it takes a hundredth."""
    x = jax.ShapeDtypeStruct((32_768, 2), jnp.float32)
    program = jax.jit(lambda x: kmeans(jax.random.key(0), x, 32_768, 2))
    memory = program.lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 32_768**2 / 64


@pytest.mark.parametrize("n,scores", [(24, 40), (7, 40), (13, 24), (5, 1)])
def test_rows_in_chunks_give_the_same_values_and_gradients(n, scores):
    """In equal chunks, with some left over, and where a row alone is over the limit."""
    x, e = (
        whole_numbers(n, 3),
        jnp.asarray(np.random.default_rng(2).normal(size=(8, 3))),
    )

    def both(x, e, scores):
        def soft(x):
            p = jax.nn.softmax(x @ e.T)
            return p @ e, p.sum(0)

        rows, total = search.by_rows(soft, 8, x, scores=scores)
        return (jnp.sin(rows).sum() + jnp.square(total).sum()), (rows, total)

    def run(scores):
        loss = lambda x: both(x, e, scores)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(x)

    whole, parts = run(None), run(scores)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        parts,
        whole,
    )


@pytest.mark.parametrize("n", [8, 9, 16, 17, 64])
def test_no_chunk_has_more_scores_than_the_limit(n):
    seen = []

    def of(x):
        seen.append(x.size * 8)  # each with 8 codes
        return x, x.sum()

    rows, total = search.by_rows(of, 8, jnp.arange(n, dtype=jnp.float32), scores=64)
    np.testing.assert_array_equal(rows, np.arange(n))
    assert total == n * (n - 1) / 2
    assert max(seen) <= 64


def test_the_highest_is_the_first_of_equals_and_in_range_beside_nan():
    scores = np.array(whole_numbers(300, 40))
    value, index = jax.jit(search.highest)(scores)
    np.testing.assert_array_equal(index, scores.argmax(-1))
    np.testing.assert_array_equal(value, scores.max(-1))
    scores[3, 7], scores[5] = np.nan, np.nan
    _, index = jax.jit(search.highest)(scores)
    assert index[3] < 40 and index[5] < 40


@pytest.mark.parametrize("offset", [100.0, 1000.0])
def test_codes_far_from_the_origin_are_told_apart(offset):
    """Uncentred, 1 and 44 of 100 neighbours are wrong, by rounding."""
    draw = np.random.default_rng(0)
    z, e = (draw.normal(offset, 1, (n, 8)).astype(np.float32) for n in (512, 256))
    exact = np.square(np.float64(z)[:, None] - np.float64(e)).sum(-1).argmin(1)
    assert (jax.jit(nearest)(z, e) == exact).mean() > 0.998


def test_an_accelerator_s_choices_are_a_cpu_s(monkeypatch):
    """The argmax, and one-hot products, of codes and of the gradient of a look-up."""
    z, e = whole_numbers(60, 3), whole_numbers(300, 3, seed=1)
    rows = jnp.asarray(np.random.default_rng(2).normal(size=(60, 3)), jnp.float32)

    def run():
        def answers(z, e):
            index = search.nearest(z, e, 60 * 128)
            added = sums.sums_by_code(index, rows, 300, scores=60 * 128)
            loss = lambda e: sums.take(jnp.sin(e), index, scores=60 * 128) * rows
            return index, added, jax.grad(lambda e: loss(e).sum())(e)

        program = jax.jit(answers).lower(z, e)
        return "scatter" in program.as_text(), program.compile()(z, e)

    scatters, own = run()
    for module in (search, sums):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    never, other = run()
    assert scatters and not never
    np.testing.assert_array_equal(other[0], own[0])
    for a, b in zip(other[1:], own[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
