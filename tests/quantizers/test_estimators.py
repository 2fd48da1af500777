import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import rotation, straight_through


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pulled_back(estimator, z, q, g):
    """(value, the gradient g as it arrives at z)."""
    value, back = jax.vjp(lambda z: estimator(z, q), z)
    return value, back(g)[0]


def test_rotation_is_the_codeword_forward_and_the_scaled_rotation_backward():
    """R from its definition: I - 2 r r^T + 2 q^ z^T, r the unit of q^ + z^."""
    z, q, g = draw(20, 5), draw(20, 5, seed=1), draw(20, 5, seed=2)
    value, back = jax.jit(lambda *x: pulled_back(rotation, *x))(z, q, g)
    np.testing.assert_array_equal(value, q)
    rows = list(zip(*map(np.asarray, (z, q, g, back)), strict=True))
    for z, q, g, found in rows:
        a, b = z / np.linalg.norm(z), q / np.linalg.norm(q)
        r = (a + b) / np.linalg.norm(a + b)
        matrix = np.eye(5) - 2 * np.outer(r, r) + 2 * np.outer(b, a)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(5), atol=1e-5)
        scale = np.linalg.norm(q) / np.linalg.norm(z)
        np.testing.assert_allclose(scale * matrix @ z, q, atol=1e-5)
        np.testing.assert_allclose(found, scale * matrix.T @ g, rtol=1e-3, atol=1e-4)
        # The angle between gradient and codeword is that between gradient and vector.
        angle = (g @ q) / np.linalg.norm(q)
        np.testing.assert_allclose(found @ a / scale, angle, atol=1e-4)


def test_rotation_of_a_vector_onto_itself_is_the_identity():
    z, g = draw(4, 3), draw(4, 3, seed=1)
    _, back = jax.jit(lambda *x: pulled_back(rotation, *x))(z, z, g)
    np.testing.assert_allclose(back, g, atol=1e-5)


@pytest.mark.parametrize("case", ["no vector", "no codeword", "opposite"])
def test_rotation_is_straight_through_where_there_is_none(case):
    z, g = draw(4, 3), draw(4, 3, seed=1)
    pairs = {"no vector": (0 * z, z), "no codeword": (z, 0 * z), "opposite": (z, -z)}
    value, back = pulled_back(rotation, *pairs[case], g)
    np.testing.assert_array_equal(value, pairs[case][1])
    np.testing.assert_array_equal(back, g)


def test_straight_through_is_the_codeword_forward_and_the_identity_backward():
    z, q, g = draw(4, 3), draw(4, 3, seed=1), draw(4, 3, seed=2)
    value, back = pulled_back(straight_through, z, q, g)
    np.testing.assert_allclose(value, q, rtol=1e-6)
    np.testing.assert_array_equal(back, g)


@pytest.mark.parametrize("estimator", [rotation, straight_through])
def test_a_codeword_learns_nothing_from_what_is_decoded(estimator):
    z, q, g = draw(4, 3), draw(4, 3, seed=1), draw(4, 3, seed=2)
    _, back = jax.vjp(lambda q: estimator(z, q), q)
    assert not back(g)[0].any()
