import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.metrics import nearest_neighbours, neighbours


def by_brute_force(x, reference, k):
    gap = x[:, None].astype(float) - reference[None].astype(float)
    distance = np.sqrt(np.square(gap).sum(tuple(range(2, gap.ndim))))
    index = np.argsort(distance, 1)[:, :k]
    return index, np.take_along_axis(distance, index, 1)


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_are_those_of_brute_force(k, monkeypatch):
    """In blocks of 3 rows, the last one short."""
    monkeypatch.setattr(neighbours, "_BLOCK", 3 * 23)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (10, 4, 4, 1)).astype(np.uint8)
    reference = rng.integers(0, 256, (23, 4, 4, 1)).astype(np.uint8)
    index, distance = nearest_neighbours(x, jnp.asarray(reference), k)
    expected_index, expected_distance = by_brute_force(x, reference, k)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-6)


def test_a_copy_is_at_zero_far_from_the_origin():
    """|x|^2 - 2 x.r + |r|^2 in float32 would lose these distances to cancellation."""
    rng = np.random.default_rng(1)
    reference = (1e4 + rng.normal(size=(50, 30))).astype(np.float32)
    index, distance = nearest_neighbours(reference[[7, 3]], reference, 2)
    np.testing.assert_array_equal(index[:, 0], [7, 3])
    np.testing.assert_array_equal(distance[:, 0], 0)
    _, expected = by_brute_force(reference[[7, 3]], reference, 2)
    np.testing.assert_allclose(distance[:, 1], expected[:, 1], rtol=1e-5)


def test_bad_requests_are_refused():
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="4 references"):
        nearest_neighbours(x, x, 5)
