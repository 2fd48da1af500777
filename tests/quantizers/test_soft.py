"""Gumbel, IBQ and SimVQ: quantizers whose codebook gets a gradient of its own."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import IBQ, GumbelQuantizer, SimVQ, VectorQuantizer
from vqdit.quantizers.codebook.assignment import assign
from vqdit.quantizers.codebook.entropy import usage_entropy
from vqdit.quantizers.vq import orthogonality

KEY = jax.random.key(2)


def draw(*shape, seed=0, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


def start(quantizer):
    return jax.jit(quantizer.init)(jax.random.key(0), jnp.zeros((1, quantizer.dim)))


def train(quantizer, variables, z):
    """(Quantized, variables afterwards)."""
    mutable = [name for name in variables if name != "params"]
    quantized, state = quantizer.apply(
        variables, z, train=True, key=KEY, mutable=mutable
    )
    return quantized, {**variables, **state}


jit_train = jax.jit(train, static_argnums=0)


def logits_of(variables, z):
    dense = variables["params"]["logits"]
    return np.asarray(z @ dense["kernel"] + dense["bias"])


def test_gumbel_is_the_argmax_of_the_logits_outside_training():
    quantizer = GumbelQuantizer(7, 3)
    variables, z = start(quantizer), draw(40, 3)
    quantized = jax.jit(quantizer.apply)(variables, z)
    expected = logits_of(variables, z).argmax(1)
    np.testing.assert_array_equal(quantized.codes[:, 0], expected)
    table = variables["params"]["codewords"]
    np.testing.assert_array_equal(quantized.latents, table[expected])


def test_gumbel_samples_the_softmax_and_its_loss_is_the_distance_from_uniform():
    """4,000 draws at one z: shares within four standard errors."""
    quantizer = GumbelQuantizer(5, 3)
    variables, z = start(quantizer), jnp.broadcast_to(draw(1, 3), (4000, 3))
    quantized, _ = jit_train(quantizer, variables, z)
    logits = logits_of(variables, z[:1])[0]
    p = np.exp(logits) / np.exp(logits).sum()
    share = np.bincount(quantized.codes[:, 0], minlength=5) / 4000
    assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / 4000)).all()
    kl = (p * np.log(5 * p)).sum()
    np.testing.assert_allclose(quantized.losses["kl"], kl, rtol=1e-4)


def test_soft_gumbel_hardens_as_its_temperature_falls():
    """To the codeword of the largest noisy logit; warm, it mixes them all."""
    z = draw(20, 3)
    cold = GumbelQuantizer(5, 3, hard=False, temperature=1e-4)
    variables = start(cold)
    table = np.asarray(variables["params"]["codewords"])
    quantized, _ = jit_train(cold, variables, z)
    np.testing.assert_allclose(
        quantized.latents, table[quantized.codes[:, 0]], atol=1e-4
    )
    warm, _ = jit_train(cold.clone(temperature=1e4), variables, z)
    np.testing.assert_allclose(warm.latents, np.tile(table.mean(0), (20, 1)), atol=1e-3)


def test_hard_gumbel_has_the_codeword_forward_and_the_soft_gradient():
    """The codeword that was chosen, and no other, is pulled, and once; of a mixture
    each by its share."""
    z, weight = draw(20, 3), draw(20, 3, seed=1)
    hard = GumbelQuantizer(5, 3, temperature=0.7)
    variables = start(hard)
    table = variables["params"]["codewords"]

    def score(z, table, quantizer):
        params = {**variables["params"], "codewords": table}
        answer, _ = train(quantizer, {**variables, "params": params}, z)
        return (answer.latents * weight).sum(), answer

    @jax.jit
    def run(z, table):
        both = (hard, hard.clone(hard=False))
        slope = jax.grad(score, (0, 1), has_aux=True)
        return [slope(z, table, quantizer) for quantizer in both]

    ((slope, pull), answer), ((soft_slope, soft_pull), soft) = run(z, table)
    np.testing.assert_allclose(slope, soft_slope, rtol=1e-4, atol=1e-6)
    chosen = np.asarray(answer.codes[:, 0])
    np.testing.assert_allclose(answer.latents, table[chosen], rtol=1e-5, atol=1e-6)
    expected = np.zeros_like(table)
    np.add.at(expected, chosen, np.asarray(weight))
    np.testing.assert_allclose(pull, expected, rtol=1e-4, atol=1e-5)
    # Shares add up to one, and a mixture is linear in what is mixed.
    np.testing.assert_allclose(soft_pull.sum(0), weight.sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        (soft_pull * table).sum(), (soft.latents * weight).sum(), rtol=1e-4
    )


def test_gumbel_temperature_falls_with_the_calls_of_training():
    """From 1 to 1/10,000 in two calls, and there it stays: the third is hard."""
    quantizer = GumbelQuantizer(5, 3, hard=False, least=1e-4, decay_steps=2)
    variables, z = start(quantizer), draw(20, 3)
    table = np.asarray(variables["params"]["codewords"])
    distance = []
    for _ in range(3):
        quantized, variables = jit_train(quantizer, variables, z)
        q = table[quantized.codes[:, 0]]
        distance.append(np.abs(np.asarray(quantized.latents) - q).max())
    assert distance[0] > 0.1 > 1e-3 > distance[2]
    assert variables["usage"]["calls"] == 3
    # Exponentially: after half of the calls the geometric mean of both ends.
    half = {**variables, "usage": {**variables["usage"], "calls": jnp.int32(1)}}
    middle = quantizer.clone(temperature=1e-2, decay_steps=0)
    found, expected = (jit_train(q, half, z)[0] for q in (quantizer, middle))
    np.testing.assert_allclose(found.latents, expected.latents, rtol=1e-4, atol=1e-5)
    warm = GumbelQuantizer(5, 3, hard=False, temperature=4.0, least=0.5, decay_steps=1)
    held = warm.clone(temperature=0.5, decay_steps=0)
    late = {**variables, "usage": {**variables["usage"], "calls": jnp.int32(9)}}
    found, expected = (jit_train(each, late, z)[0] for each in (warm, held))
    np.testing.assert_allclose(found.latents, expected.latents, rtol=1e-5, atol=1e-6)
    # One that starts below `least` does not rise to it.
    found, _ = jit_train(held.clone(least=4.0, decay_steps=1), late, z)
    np.testing.assert_allclose(found.latents, expected.latents, rtol=1e-5, atol=1e-6)


def test_gumbel_draws_alike_for_no_two_vectors():
    """Also where they are done a few at a time."""
    quantizer = GumbelQuantizer(64, 3, scores=64 * 4)  # four vectors at a time
    variables, z = start(quantizer), jnp.zeros((32, 3))
    codes = jax.jit(lambda z: train(quantizer, variables, z)[0].codes[:, 0])(z)
    # 32 draws of 64 codes alike have 25 kinds, give or take 2.
    assert len(set(codes.tolist())) > 15


def test_gumbel_needs_a_key_in_training():
    quantizer = GumbelQuantizer(4, 2)
    call = lambda v: quantizer.apply(v, jnp.zeros((3, 2)), train=True, mutable=True)
    with pytest.raises(ValueError, match="pass key="):
        jax.eval_shape(call, start(quantizer))


@pytest.mark.parametrize("by", ["product", "distance"])
def test_ibq_is_a_hard_choice_with_the_gradient_of_the_softmax(by):
    """Of one-hot + p - sg[p], written out with an (n, k) matrix; so has its loss."""
    quantizer = IBQ(7, 3, entropy=False, by=by)
    variables, z, weight = start(quantizer), draw(20, 3), draw(20, 3, seed=1)
    table = variables["params"]["codewords"]

    def scores(table, z):
        if by == "product":
            return z @ table.T
        return -jnp.square(z[:, None] - table).sum(-1) / 2

    def plain(table, z):
        p = jax.nn.softmax(scores(table, z))
        one_hot = jax.nn.one_hot(scores(table, z).argmax(-1), 7)
        out = (one_hot + p - jax.lax.stop_gradient(p)) @ table
        return (out * weight).sum() + jnp.square(out - z).mean()

    def ours(table, z):
        changed = {**variables, "params": {"codewords": table}}
        answer, _ = train(quantizer, changed, z)
        return (answer.latents * weight).sum() + answer.losses["codebook"]

    found, expected = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(table, z) for f in (ours, plain)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )
    # Every code has a gradient, also those that no vector chose.
    used = set(np.asarray(scores(table, z)).argmax(1))
    assert len(used) < 7 and (np.abs(found[1][0]).max(1) > 0).all()


def test_ibq_entropies_are_those_of_its_softmax():
    quantizer = IBQ(7, 3, entropy_temperature=0.5)
    variables, z = start(quantizer), draw(20, 3)
    logits = np.asarray(z @ variables["params"]["codewords"].T) / 0.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = lambda p: -(p * np.log(p)).sum(-1)
    expected = entropy(p).mean() - entropy(p.mean(0))
    loss = jit_train(quantizer, variables, z)[0].losses["entropy"]
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_ibq_keeps_its_codewords_apart_where_asked():
    quantizer = IBQ(7, 3, orthogonal=True)
    variables = start(quantizer)
    e = np.asarray(variables["params"]["codewords"])
    u = e / np.linalg.norm(e, axis=1, keepdims=True)
    losses = jit_train(quantizer, variables, draw(20, 3))[0].losses
    assert set(losses) == {"commit", "codebook", "entropy", "orthogonal"}
    expected = np.square(u @ u.T - np.eye(7)).sum() / 49
    np.testing.assert_allclose(losses["orthogonal"], expected, rtol=1e-4)


def test_simvq_from_data_has_the_clusters_in_a_basis_of_its_own():
    quantizer = SimVQ(2, 1, start="kmeans")
    variables = start(quantizer)
    variables = {**variables, "params": {"basis": jnp.full((1, 1), 2.0)}}
    z = jnp.array([[0.0], [9.0], [0.0]])
    made, _ = quantizer.from_data(variables, KEY, z, 3)
    assert made["params"]["basis"] == 1 and made["codebook"]["ready"]
    assert sorted(made["codebook"]["frozen"][:, 0].tolist()) == [0, 9]
    np.testing.assert_allclose(quantizer.apply(made, z).latents, z, atol=1e-5)


def test_simvq_puts_a_row_where_its_basis_takes_it_to_the_vector():
    """And nowhere where the basis is singular, or the code not dead."""
    quantizer = SimVQ(3, 2, window=30, revive="batch")
    frozen = draw(3, 2)
    dead, fresh = jnp.array([False, True, True]), draw(3, 2, seed=1)

    @jax.jit
    def replaced(basis, dead):
        variables = {"params": {"basis": basis}}
        variables["codebook"] = {"frozen": frozen, "ready": jnp.array(True)}
        how = {"method": "_replace", "mutable": "codebook"}
        return quantizer.apply(variables, dead, fresh, **how)[1]["codebook"]["frozen"]

    basis = jnp.array([[2.0, 1.0], [0.5, -1.0]])
    found = replaced(basis, dead)
    np.testing.assert_array_equal(found[0], frozen[0])
    np.testing.assert_allclose(found[1:] @ basis, fresh[1:], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(replaced(jnp.zeros((2, 2)), dead), frozen)
    np.testing.assert_array_equal(replaced(basis, jnp.zeros(3, bool)), frozen)


@pytest.mark.slow
def test_simvq_revives_where_its_basis_takes_the_row():
    """A dead code's codeword, not its row of C, becomes a vector of the batch."""
    quantizer = SimVQ(6, 3, window=60, revive="batch")
    variables, z = start(quantizer), draw(60, 3, seed=1)
    far = variables["codebook"]["frozen"].at[2:].set(100.0)
    variables = {
        **variables,
        "params": {"basis": jnp.eye(3) + 0.3 * draw(3, 3, seed=4)},
        "codebook": {**variables["codebook"], "frozen": far},
    }
    quantized, after = train(quantizer, variables, z)
    assert quantized.metrics["revived"] >= 4
    codewords = np.asarray(
        quantizer.apply(after, jnp.arange(6)[:, None], method="decode")
    )
    apart = np.abs(codewords[2:, None] - np.asarray(z)).max(-1).min(1)
    np.testing.assert_allclose(apart, 0, atol=1e-4)


def test_simvq_solves_for_rows_only_where_a_code_is_dead():
    """Otherwise a step costs none of it."""
    quantizer = SimVQ(6, 3, window=60, revive="batch")
    variables = jax.eval_shape(quantizer.init, KEY, draw(1, 3))
    jaxpr = jax.make_jaxpr(lambda v, z: train(quantizer, v, z))(variables, draw(60, 3))

    def solves(jaxpr, whole):
        """How many factorisations there are, in branches too or outside of them."""
        found = 0
        for equation in jaxpr.eqns:
            found += equation.primitive.name == "lu"
            if whole or equation.primitive.name != "cond":
                for inner in jax.extend.core.jaxprs_in_params(equation.params):
                    found += solves(inner, whole)
        return found

    assert solves(jaxpr.jaxpr, whole=True) == 1
    assert solves(jaxpr.jaxpr, whole=False) == 0


def test_simvq_moves_every_code_and_keeps_its_codebook_frozen():
    quantizer = SimVQ(6, 3)
    variables, z = start(quantizer), draw(20, 3, seed=1)
    frozen = variables["codebook"]["frozen"]
    codes = jnp.arange(6)[:, None]
    decode = lambda v: quantizer.apply(v, codes, method="decode")
    np.testing.assert_array_equal(decode(variables), frozen)  # the basis is I

    def loss(params):
        quantized, after = train(quantizer, {**variables, "params": params}, z)
        return quantized.losses["codebook"], after["codebook"]

    gradient, codebook = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert set(gradient) == {"basis"}
    jax.tree.map(np.testing.assert_array_equal, codebook, variables["codebook"])
    basis = variables["params"]["basis"] - gradient["basis"]
    moved = decode({**variables, "params": {"basis": basis}})
    np.testing.assert_allclose(moved, frozen @ basis, rtol=1e-5, atol=1e-6)
    assert (np.abs(moved - frozen).max(1) > 1e-3).all()


def test_usage_entropy_is_that_of_the_counts_when_cold():
    """-log k for all codes alike, sum p log p of the shares else, 0 for one code."""
    e = jnp.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 4.0]])
    cold = jax.jit(lambda z: usage_entropy(z, e, jnp.array(1.0), 1e-2))
    assert cold(e[jnp.zeros(8, int)]) == 0
    np.testing.assert_allclose(cold(jnp.tile(e, (2, 1))), -np.log(4), rtol=1e-5)
    np.testing.assert_allclose(cold(e[:3][jnp.array([0, 0, 1, 2])]), -1.5 * np.log(2))


def test_usage_entropy_is_that_of_the_mean_assignment():
    """p = mean of softmax(-|z - e|^2 / (temperature scale)), over all vectors, wherever
    in the batch they stand; the scale is a unit and has no gradient."""
    z = draw(3000, 2) + jnp.tile(jnp.linspace(0, 3, 8), 375)[:, None]
    e, scale, temperature = draw(5, 2, seed=1, scale=2.0), jnp.array(1.7), 0.8
    apart = np.square(np.asarray(z)[:, None] - np.asarray(e)).sum(-1)
    logits = -apart / (temperature * float(scale))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True)).mean(0)
    run = jax.value_and_grad(usage_entropy, argnums=(0, 2))
    value, (slope, none) = jax.jit(run, static_argnums=3)(z, e, scale, temperature)
    np.testing.assert_allclose(value, (p * np.log(p)).sum(), rtol=1e-4)
    assert none == 0 and (slope != 0).any(1).all()


def test_usage_entropy_draws_vectors_and_codes_to_what_is_not_used():
    """Three codes are used and one is not: a step along the gradient uses it more."""
    z = draw(64, 2, scale=0.5)
    quantizer = VectorQuantizer(4, 2, revive="none", entropy=True)
    table = jnp.array([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9], [1.5, 1.5]])

    variables = start(quantizer)

    @jax.jit
    def loss_and_slope(table):
        def loss(table):
            own = {**variables, "params": {"codewords": table}}
            return train(quantizer, own, z)[0].losses["entropy"]

        return jax.value_and_grad(loss)(table)

    before = np.linalg.norm(table[3])
    first = loss_and_slope(table)[0]
    for _ in range(100):
        value, slope = loss_and_slope(table)
        table = table - 0.5 * slope
    assert value < first - 0.05 and np.linalg.norm(table[3]) < before - 0.2


def test_orthogonality_is_the_frobenius_distance_from_the_identity():
    e = draw(9, 4)
    u = np.asarray(e) / np.linalg.norm(e, axis=1, keepdims=True)
    expected = np.square(u @ u.T - np.eye(9)).sum() / 81
    np.testing.assert_allclose(orthogonality(e), expected, rtol=1e-4)
    np.testing.assert_allclose(orthogonality(3 * jnp.eye(5)), 0, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GumbelQuantizer(1, 2), "num_codes=1: write at least 2"),
        (lambda: GumbelQuantizer(4, 2, temperature=0.0), "temperature=0.0"),
        (lambda: IBQ(4, 2, entropy_temperature=0.0), "entropy_temperature=0.0: w"),
        (lambda: IBQ(4, 2, start="kmeans"), 'write by="distance"'),
        (
            lambda: VectorQuantizer(4, 2, start_scale=0.0),
            "start_scale=0.0: write above",
        ),
    ],
)
def test_impossible_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("field, value", [("revive", True), ("start", "random")])
def test_a_choice_that_is_none_is_refused(field, value):
    """Where nothing checks annotations before."""
    quantizer = VectorQuantizer(4, 2)
    object.__setattr__(quantizer, field, value)
    with pytest.raises(ValueError, match=f"{field}={value!r}: write one of n"):
        quantizer.__post_init__()


@pytest.mark.parametrize("n,k,scores", [(7, 9, 16), (9, 64, 4096)])
def test_an_assignment_by_tiles_is_the_whole_softmax(n, k, scores):
    """In blocks of codes and chunks of vectors, the last of each filled up or short."""
    z, table, values = draw(n, 3), draw(k, 3, seed=1), draw(k, 2, seed=2)
    bias, weight = draw(k, seed=3), draw(n, 2, seed=4)

    def whole(z, table, bias, values):
        p = jax.nn.softmax((z @ table.T + bias) * 2)
        entropy = -(p * jnp.log(p)).sum()
        return p @ values, (z @ table.T + bias).argmax(-1), p.sum(0), entropy

    def tiles(*parts):
        return tuple(assign(*parts, sharpness=2.0, scores=scores))

    def run(function):
        def loss(*parts):
            mixture, index, total, entropy = answer = function(*parts)
            value = jnp.sin(mixture * weight).sum() + jnp.square(total).sum() + entropy
            return value, answer

        program = jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)
        return jax.jit(program)(z, table, bias, values)

    for a, b in zip(*map(jax.tree.leaves, (run(tiles), run(whole))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # An accelerator rounds the factors of a product that does not ask for all bits.
    text = jax.jit(tiles).lower(z, table, bias, values).as_text()
    assert 2 <= text.count("dot_general") == text.count("[HIGHEST, HIGHEST]")


def test_a_softmax_over_262144_codes_reads_them_a_few_times():
    """With its gradient; in whole rows of what is held at once, 2,048 times."""
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32_768, 4), (262_144, 4))]

    def loss(z, table):
        p = assign(z, table, jnp.zeros(len(table)), table, scores=1 << 22)
        return p.mixture.sum() + p.entropy

    def loops(jaxpr, times=1):
        """How often each scan over all blocks of the table runs."""
        for equation in jaxpr.eqns:
            inner = list(jax.extend.core.jaxprs_in_params(equation.params))
            repeats = equation.params.get("length", 1)
            if repeats == 128:
                yield times
            for each in inner:
                yield from loops(each, times * (1 if repeats == 128 else repeats))

    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(*shapes)
    found = list(loops(jaxpr.jaxpr))
    assert found and sum(found) <= 6 * 16


@pytest.mark.parametrize("offset", [1e3, 3e4])
def test_choices_and_gradients_far_from_the_origin_are_those_near_it(offset):
    """At an offset of 1,000 spreads half of the codes by distance were wrong."""
    # Multiples of 1/64: moved by a whole number they keep all their digits.
    z, e = jnp.round(64 * draw(60, 3)) / 64, jnp.round(64 * draw(16, 3, seed=1)) / 64
    ibq = IBQ(16, 3, by="distance", entropy_temperature=0.5, window=None)
    state = start(ibq)

    def losses(z, e):
        variables = {**state, "params": {"codewords": e}}
        found, _ = train(ibq, variables, z)
        usage = usage_entropy(z, e, jnp.ones(()), 0.5)
        return found.losses["entropy"] + usage, found

    both = jax.jit(jax.value_and_grad(losses, (0, 1), has_aux=True))
    (near, found), slopes = both(z, e)
    (far, moved), slopes_far = both(z + offset, e + offset)
    np.testing.assert_array_equal(moved.codes, found.codes)
    np.testing.assert_allclose(far, near, rtol=1e-5)
    for a, b in zip(slopes_far, slopes, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
