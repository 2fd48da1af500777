"""LFQ and BSQ, and their pair of entropies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import BSQ, LFQ
from vqdit.quantizers.codebook.entropy import bit_entropy


def draw(*shape, seed=0, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


def call(quantizer, z, train=False):
    start = jax.jit(quantizer.init_with_output, static_argnames="train")
    return start(jax.random.key(0), z, train=train)[0]


def test_lfq_codes_are_signs_and_the_first_channel_is_the_lowest_bit():
    z = draw(50, 4).at[0].set(0.0)
    quantized = call(LFQ(4), z)
    positive = np.asarray(z) >= 0
    np.testing.assert_array_equal(quantized.latents, np.where(positive, 1, -1))
    np.testing.assert_array_equal(quantized.codes[:, 0], positive @ [1, 2, 4, 8])
    assert quantized.codes[0, 0] == 15  # 0 counts as positive


def test_bsq_is_the_nearest_corner_of_the_sphere_with_the_error_of_the_paper():
    z = draw(50, 6)
    quantized = call(BSQ(6), z)
    np.testing.assert_allclose(np.linalg.norm(quantized.latents, axis=1), 1, rtol=1e-6)
    u = np.asarray(z) / np.linalg.norm(z, axis=1, keepdims=True)
    corners = np.array(list(itertools.product([-1, 1], repeat=6))) / np.sqrt(6)
    nearest = corners[np.square(u[:, None] - corners).sum(-1).argmin(1)]
    np.testing.assert_allclose(quantized.latents, nearest, atol=1e-6)
    error = np.square(u - quantized.latents).sum(1)
    expected = 2 - 2 * np.abs(u).sum(1) / np.sqrt(6)
    np.testing.assert_allclose(error, expected, atol=1e-5)
    assert error.max() < 2 - 2 / np.sqrt(6)
    loss = call(BSQ(6), z, train=True).losses["commit"]
    np.testing.assert_allclose(loss, error.mean() / 6, rtol=1e-5)


def brute_force(v, temperature):
    """Both entropies with the softmax over all codes written out."""
    v = np.asarray(v, np.float64)
    codes = np.array(list(itertools.product([-1, 1], repeat=v.shape[1])))
    distance = np.square(v[:, None] - codes).sum(-1) / temperature
    p = np.exp(-distance) / np.exp(-distance).sum(1, keepdims=True)
    entropy = lambda p: -(p * np.log(p)).sum(-1)
    return entropy(p).mean(), entropy(p.mean(0))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_entropies_factorise(temperature):
    v = draw(30, 5, scale=0.7)
    each, mean = brute_force(v, temperature)
    found = jax.jit(lambda v: bit_entropy(v, temperature, 5))(v)
    np.testing.assert_allclose(found, each - mean, rtol=1e-4)
    for quantizer, scale in ((LFQ(5, temperature=temperature), 1), (BSQ(5), 5**0.5)):
        if isinstance(quantizer, BSQ):
            unit = v / jnp.linalg.norm(v, axis=1, keepdims=True)
            each, mean = brute_force(unit * scale, 1.0)
        loss = call(quantizer, v, train=True).losses["entropy"]
        np.testing.assert_allclose(loss, each - mean, rtol=1e-4)


def test_groups_bound_the_entropy_of_the_mean_and_meet_it_when_independent():
    v = draw(30, 6)
    whole, split = (jax.jit(lambda v, g=g: bit_entropy(v, 1.0, g))(v) for g in (6, 3))
    assert split < whole  # minus an upper bound
    # All pairs of 8 halves with 8 halves: the two groups know nothing of each other.
    half = draw(8, 3, seed=1)
    v = jnp.concatenate([jnp.repeat(half, 8, axis=0), jnp.tile(half, (8, 1))], 1)
    whole, split = (jax.jit(lambda v, g=g: bit_entropy(v, 1.0, g))(v) for g in (6, 3))
    np.testing.assert_allclose(split, whole, rtol=1e-5)


def test_entropy_loss_is_least_for_sure_codes_used_alike():
    """Every corner once, far out: no doubt about each, log 2^d over all. The worst is
    one corner for all, or no idea about any: 0."""
    corners = jnp.array(list(itertools.product([-9.0, 9.0], repeat=4)))
    loss = jax.jit(lambda v: bit_entropy(v, 1.0, 9))
    np.testing.assert_allclose(loss(corners), -4 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(loss(jnp.full((16, 4), 9.0)), 0, atol=1e-5)
    np.testing.assert_allclose(loss(jnp.zeros((16, 4))), 0, atol=1e-5)


def test_entropy_loss_brings_a_dead_bit_back():
    """All vectors on one side of a channel: its gradient spreads them over both."""
    v = draw(64, 3, scale=0.3).at[:, 0].add(0.5)
    step = jax.jit(lambda v: v - 5 * jax.grad(lambda v: bit_entropy(v, 1.0, 9))(v))
    before = (v[:, 0] > 0).mean()
    for _ in range(60):
        v = step(v)
    assert before > 0.9 and 0.4 < (v[:, 0] > 0).mean() < 0.8


@pytest.mark.parametrize("kind", [LFQ, BSQ])
def test_each_of_the_two_entropies_has_a_factor(kind):
    v = draw(30, 4)
    loss = lambda **fields: call(kind(4, **fields), v, train=True).losses["entropy"]
    sample, book = loss(codebook_entropy=0.0), loss(sample_entropy=0.0)
    assert sample > 0 > book
    np.testing.assert_allclose(loss(), sample + book, rtol=1e-5)
    found = loss(sample_entropy=0.5, codebook_entropy=3.0)
    np.testing.assert_allclose(found, 0.5 * sample + 3 * book, rtol=1e-5)
    assert kind(10).grouped and not kind(9).grouped
    assert not kind(10, entropy=False).grouped


def test_no_entropy_unless_asked():
    losses = call(LFQ(3, entropy=False), draw(4, 3), train=True).losses
    assert set(losses) == {"commit"}


@pytest.mark.parametrize("kind", [LFQ, BSQ])
@pytest.mark.parametrize(
    "fields, message",
    [
        ({"bits": 0}, "bits=0: write at least 1"),
        ({"bits": 30}, r"GroupedQuantizer\((LFQ|BSQ)\(bits\), count\)"),
        ({"bits": 4, "temperature": 0.0}, "temperature=0.0: write above 0"),
        ({"bits": 4, "group": 40}, "group=40: write .* at most 16"),
    ],
)
def test_impossible_fields_are_refused(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)
