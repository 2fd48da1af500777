import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import FSQ, ResidualFSQ
from vqdit.values import build, describe


def call(quantizer, z):
    z = jnp.asarray(z, jnp.float32)
    return jax.jit(quantizer.init_with_output)(jax.random.key(0), z)[0]


def train(quantizer, z):
    """(Quantized, counts in the window, d latents / d z) of the first training call."""

    @jax.jit
    def run(z):
        variables = quantizer.init(jax.random.key(0), z)

        def latents(z):
            answer = quantizer.apply(variables, z, train=True, mutable="usage")
            return answer[0].latents.sum(), answer

        gradient, (quantized, state) = jax.grad(latents, has_aux=True)(z)
        return quantized, state["usage"]["usage"]["counts"], gradient

    return run(jnp.asarray(z, jnp.float32))


def decode(quantizer, codes):
    return FSQ.decode(quantizer, jnp.asarray(codes, jnp.int32))


def test_odd_levels_round_a_tanh():
    """Five levels: round(2 tanh(z)) / 2, ends pulled in by a thousandth."""
    z = np.linspace(-4, 4, 81)[:, None]
    expected = np.round(2.002 * np.tanh(z)) / 2
    np.testing.assert_array_equal(call(FSQ((5,)), z).latents, expected)


def test_even_levels_are_one_more_below_than_above():
    """Four levels: -2, -1, 0, 1, over 2."""
    latents = call(FSQ((4,)), np.linspace(-6, 6, 121)[:, None]).latents
    assert np.unique(latents).tolist() == [-1, -0.5, 0, 0.5]
    assert call(FSQ((4,)), np.zeros((1, 1))).latents == 0


def test_symmetric_levels_lie_alike_on_both_sides():
    """Algorithm of arXiv:2411.19842: 2 / (L - 1) floor((L - 1) (tanh z + 1) / 2 + 1/2)
    - 1, and what is mirrored has mirrored codes."""
    quantizer = FSQ((4, 5, 2), symmetric=True)
    z = np.random.default_rng(0).normal(0, 2, (200, 3)).astype(np.float32)
    steps = np.array([3, 4, 1])
    expected = np.floor(steps * (np.tanh(z) + 1) / 2 + 0.5) * 2 / steps - 1
    latents = call(quantizer, z).latents
    np.testing.assert_allclose(latents, expected, atol=1e-6)
    np.testing.assert_allclose(call(quantizer, -z).latents, -latents, atol=1e-6)
    np.testing.assert_allclose(np.unique(latents[:, 0]), [-1, -1 / 3, 1 / 3, 1], 1e-6)
    ends = call(quantizer, [[-1e6] * 3, [1e6] * 3]).codes[:, 0]
    assert ends.tolist() == [0, 39]


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 1000, 1003])
def test_every_level_is_reachable_and_none_beyond(levels):
    """Straight through the inverse of the bound, and then far outside of it."""
    quantizer = FSQ((levels,))
    z = np.concatenate([np.linspace(-9, 9, 40 * levels), [-1e6, 1e6]])
    codes = call(quantizer, z[:, None]).codes
    assert np.unique(codes).tolist() == list(range(levels))
    assert codes[-2] == 0 and codes[-1] == levels - 1


@pytest.mark.parametrize("levels", [(3, 5), (4, 2, 3), (8, 5, 5)])
def test_all_codes_are_reachable_and_come_back(levels):
    """Code -> latents -> the z that is bounded to them -> code."""
    quantizer = FSQ(levels)
    codes = np.arange(quantizer.num_codes)[:, None]
    latents = np.asarray(decode(quantizer, codes), np.float64)
    assert len(np.unique(latents, axis=0)) == np.prod(levels)
    count = np.array(levels)
    half, offset = (count - 1) * 1.001 / 2, np.where(count % 2 == 0, 0.5, 0)
    inside = (latents * (count // 2) + offset) / half
    z = np.arctanh(inside) - np.where(count == 2, 0, np.arctanh(offset / half))
    quantized = call(quantizer, z)
    np.testing.assert_array_equal(quantized.codes, codes)
    np.testing.assert_array_equal(quantized.latents, latents.astype(np.float32))


def test_first_channel_is_the_fastest_digit():
    latents = decode(FSQ((3, 5)), [[0], [1], [3], [14]])
    expected = [[-1, -1], [0, -1], [-1, -0.5], [1, 1]]
    np.testing.assert_array_equal(latents, expected)


def test_codes_rise_with_z():
    codes = call(FSQ((7,)), np.linspace(-3, 3, 50)[:, None]).codes[:, 0]
    assert (np.diff(codes) >= 0).all()


def test_gradient_is_that_of_the_bound():
    """d/dz of tanh(z) 2.002 / 2 for five levels, whatever was rounded."""
    z = jnp.linspace(-2, 2, 9)[:, None]
    gradient = train(FSQ((5,)), z)[2]
    np.testing.assert_allclose(gradient, 1.001 * (1 - np.tanh(z) ** 2), rtol=1e-5)


@pytest.mark.parametrize("levels", [4, 8])
def test_bound_of_even_levels_is_centred(levels):
    """z = 0 is bounded to 0, where tanh has the value offset / half and this slope."""
    half = (levels - 1) * 1.001 / 2
    slope = half * (1 - (0.5 / half) ** 2) / (levels // 2)
    gradient = train(FSQ((levels,)), [[0.0]])[2]
    np.testing.assert_allclose(gradient, [[slope]], rtol=1e-2)


def test_usage_counts_codes_of_training():
    quantized, counts, _ = train(FSQ((2, 2), window=40), [[9.0, 9.0], [9.0, -9.0]])
    assert counts.tolist() == [0, 1, 0, 1]
    assert quantized.metrics["usage"] == 0.5
    np.testing.assert_allclose(quantized.metrics["perplexity"], 2, rtol=1e-6)


@pytest.mark.parametrize("levels", [(), (1,), (8, 1, 5), (0,)])
def test_fewer_than_two_levels_are_refused(levels):
    with pytest.raises(ValueError, match="one or more, .* each at least 2"):
        FSQ(levels)


@pytest.mark.parametrize("kind", [FSQ, lambda levels: ResidualFSQ(levels, 2)])
@pytest.mark.parametrize("levels", [(8,) * 9, (8,) * 11, (2,) * 40])
def test_more_codes_than_can_be_counted_are_refused(kind, levels):
    with pytest.raises(ValueError, match="of at most 4194304 codes in all"):
        kind(levels)


def test_two_levels_are_the_sign():
    """Of N(0, 1) both are used alike, and the slope is that of tanh / 2 at 0."""
    z = np.random.default_rng(0).normal(size=(4096, 6))
    codes = np.asarray(call(FSQ((2,) * 6), z).codes[:, 0])
    np.testing.assert_array_equal(codes, (z >= 0) @ 2 ** np.arange(6))
    _, _, slope = train(FSQ((2, 3)), [[0.0, 0.0]])
    np.testing.assert_allclose(slope, [[0.5005, 1.001]], rtol=1e-4)


def test_two_levels_of_old_files_stay_where_they_were():
    fields = {"levels": [2, 4], "window": 65_536, "estimator": "straight_through"}
    old = build({"class": "vqdit.quantizers.fsq.FSQ", "fields": fields})
    border = np.arctanh(0.5 / 0.5005)
    z = np.array([[-border - 0.01, 0.0], [0.01 - border, 0.0]])
    assert (call(old, z).codes[:, 0] % 2).tolist() == [0, 1]
    assert build(describe(old)) == old != FSQ((2, 4))
    assert build(describe(FSQ((2, 4)))) == FSQ((2, 4))  # one of now has its signs
    fields["levels"] = [4, 4]
    assert build({"class": "vqdit.FSQ", "fields": fields}) == FSQ((4, 4))


def test_it_knows_its_sizes():
    quantizer = FSQ((8, 5, 5, 5))
    assert quantizer.dim == 4 and quantizer.num_codes == 1000
    assert quantizer.code_counts == (1000,) and quantizer.levels == (8, 5, 5, 5)
