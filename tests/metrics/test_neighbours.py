import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.metrics import nearest_neighbours, neighbourhoods, neighbours


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
    assert nearest_neighbours(x, reference)[0].shape == (10, 1)  # unless it is asked


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
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k is {k}, and there are 4 references"):
            nearest_neighbours(x, x, k)
    with pytest.raises(ValueError, match="k is 0, and there are 4: write more than k"):
        neighbourhoods(x, x, 0)


def test_neighbourhoods_of_points_on_a_line(monkeypatch):
    """Balls of 1 around 0, 1, ..., 9, and around pairs of samples that are 1 apart."""
    real, samples = np.arange(10.0)[:, None], np.array([[0.5], [1.5], [100], [101]])
    wanted = {"precision": 2 / 4, "recall": 3 / 10, "density": 4 / 4, "coverage": 0.3}
    assert neighbourhoods(real, samples, 1) == wanted
    monkeypatch.setattr(neighbours, "_BLOCK", 4 * 20)
    assert neighbourhoods(real, samples, 1) == wanted
    # A copy of one real point alone: precise, and of no diversity.
    found = neighbourhoods(real, np.full((4, 1), 5.0), 1)
    assert found["precision"] == 1 and found["recall"] == 0.1
    assert found["coverage"] == 0.3 and found["density"] == 3
    same = neighbourhoods(real, real, 2)
    assert {same[n] for n in ("precision", "recall", "coverage")} == {1.0}
    assert set(neighbourhoods(real, real + 50, 2).values()) == {0.0}
    # Balls that reach just as far as the other point, and five neighbours unless said.
    edge = neighbourhoods(np.array([[0.0], [1]]), np.array([[2.0], [4]]), 1)
    assert edge == {"precision": 0.5, "recall": 1.0, "density": 0.5, "coverage": 0.5}
    assert neighbourhoods(real, real + 0.2) == neighbourhoods(real, real + 0.2, 5)
    for few in (real[:2], np.zeros((0, 1))):
        with pytest.raises(ValueError, match="k is 2, and there are"):
            neighbourhoods(real, few, 2)


def test_samples_of_the_same_distribution_have_the_expected_figures():
    """Density 1, coverage as in arXiv:2002.09797, lemma 2, of any distribution."""
    rng, n, m, k = np.random.default_rng(0), 1500, 1000, 5
    real, samples = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    found = neighbourhoods(real, samples, k)
    none = np.prod([(n - i) / (n + m - i) for i in range(1, k + 1)])
    assert found["coverage"] == pytest.approx(1 - none, abs=0.02)
    assert found["density"] == pytest.approx(1, abs=0.06)
    narrow = neighbourhoods(real, 0.3 * samples, k)
    assert narrow["precision"] > found["precision"] and narrow["recall"] < 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_no_neighbours(value):
    """Without this they would be 0, as of samples far away."""
    x = np.random.default_rng(0).normal(size=(8, 2))
    broken = x.copy()
    broken[3, 1] = value
    for sets in ((x, broken), (broken, x)):
        with pytest.raises(ValueError, match="not all finite"):
            neighbourhoods(*sets, k=2)
