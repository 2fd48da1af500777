import numpy as np
import pytest

from vqdit.metrics import (
    FeatureStatistics,
    feature_sums,
    frechet_distance,
    statistics,
)


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_gaussians_of_common_axes_are_known_in_closed_form():
    """|m|^2 + sum (sqrt(a) - sqrt(b))^2, for A and B that commute."""
    turn = rotation(6)
    a, b = np.array([4.0, 1, 9, 0, 2, 0.25]), np.array([1.0, 1, 0, 0, 8, 0.01])
    shift = np.arange(6.0)
    distance = frechet_distance(
        FeatureStatistics(np.zeros(6), turn * a @ turn.T, 10),
        FeatureStatistics(shift, turn * b @ turn.T, 10),
    )
    expected = np.square(shift).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert distance == pytest.approx(expected, rel=1e-7)


def test_covariances_that_do_not_commute():
    """Against the trace of the square root by the eigenvalues of A B itself, which are
    real and positive where A and B are definite."""
    rng = np.random.default_rng(1)
    a, b = (w @ w.T for w in rng.normal(size=(2, 5, 9)))
    expected = np.trace(a + b) - 2 * np.sqrt(np.linalg.eigvals(a @ b).real).sum()
    zero = np.zeros(5)
    distance = frechet_distance(
        FeatureStatistics(zero, a, 9), FeatureStatistics(zero, b, 9)
    )
    assert distance == pytest.approx(expected, rel=1e-10)


def test_equal_sets_are_at_zero_with_fewer_samples_than_features():
    """Singular covariances, which is where an iterative square root goes wrong."""
    features = np.random.default_rng(2).normal(size=(20, 64)).astype(np.float32)
    features[:, 40:] = 3.0  # units that never change
    found = statistics(features)
    assert frechet_distance(found, found) == pytest.approx(0, abs=1e-5)
    moved = statistics(features + 0.5)
    assert frechet_distance(found, moved) == pytest.approx(64 * 0.25, rel=1e-6)


def test_distance_is_symmetric_and_does_not_turn_with_the_axes():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 8)) * np.arange(1, 9)
    y = rng.normal(size=(150, 8)) + 0.3
    turn = rotation(8, seed=4)
    distance = frechet_distance(statistics(x), statistics(y))
    assert distance > 1
    assert frechet_distance(statistics(y), statistics(x)) == pytest.approx(distance)
    turned = frechet_distance(statistics(x @ turn), statistics(y @ turn))
    assert turned == pytest.approx(distance)


def test_statistics_are_the_unbiased_ones_in_float64():
    """A large mean: in float32 the covariance would be rounding."""
    x = np.random.default_rng(5).normal(size=(50, 3)) + 1e6
    found = statistics(x)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-8)
    np.testing.assert_allclose(found.mean, x.mean(0))
    assert found.count == 50


def test_sums_of_parts_have_the_statistics_of_the_whole():
    x = np.random.default_rng(6).normal(size=(90, 5)) * np.arange(1, 6) + 3
    parts = [feature_sums(part) for part in np.split(x.astype(np.float32), [1, 40])]
    sums = {name: sum(part[name] for part in parts) for name in parts[0]}
    found, whole = FeatureStatistics.of(sums), statistics(x.astype(np.float32))
    assert found.count == whole.count
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-11)
    with pytest.raises(ValueError, match="at least 2"):
        FeatureStatistics.of(feature_sums(x[:1]))
    with pytest.raises(ValueError, match="at least 2 features, not 0"):
        FeatureStatistics.of(feature_sums(x[:0]))
    with pytest.raises(ValueError, match="not all finite"):
        FeatureStatistics.of(feature_sums(np.full((3, 2), np.inf)))


def test_what_has_no_distance_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        statistics(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="not all finite"):
        statistics(np.array([[0.0, np.nan], [1.0, 2.0]]))
    two, three = statistics(np.eye(2)), statistics(np.eye(3))
    with pytest.raises(ValueError, match="different layers"):
        frechet_distance(two, three)
