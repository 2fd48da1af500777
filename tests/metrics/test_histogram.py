import numpy as np
import pytest

from vqdit.metrics import Histogram
from vqdit.metrics.histogram import DECIBELS, DISTANCES


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_medians_are_as_fine_as_the_bins(count):
    draw = np.random.default_rng(count)
    x = np.exp(3 * draw.normal(size=count))
    found = DISTANCES.median(DISTANCES.counts(x))
    assert found == pytest.approx(np.median(x), rel=1.001e-3)
    x = 30 * draw.normal(size=count)
    assert DECIBELS.median(DECIBELS.counts(x)) == pytest.approx(
        np.median(x), abs=2.501e-3
    )


def test_what_lies_beyond_counts_at_the_ends():
    assert DISTANCES.median(DISTANCES.counts(np.array([0.0, 0, 0, 5]))) == 0
    assert DISTANCES.counts(np.array([1e-9, 1e12]))[[0, -1]].tolist() == [1, 1]
    ends = DECIBELS.counts(np.array([-np.inf, np.inf, np.inf, np.nan]))
    assert ends[[0, -1]].tolist() == [1, 2] and ends.sum() == 3
    assert DECIBELS.median(ends) == pytest.approx(100)
    assert np.isnan(DECIBELS.median(0 * ends))


def test_the_share_below_a_value_leaves_that_value_out():
    counts = DISTANCES.counts(np.array([0.0, 1, 2, 2, 4]))
    for x, share in ((0.0, 0), (0.5, 0.2), (2.0, 0.4), (3.0, 0.8), (1e12, 1)):
        assert DISTANCES.below(counts, x) == share
    assert np.isnan(DISTANCES.below(0 * counts, 1.0))
    counts = DECIBELS.counts(np.array([-100.0, -3, 0, 0, 250]))
    for x, share in ((-500.0, 0), (-100.0, 0), (-3.0, 0.2), (0.1, 0.8), (300.0, 0.8)):
        assert DECIBELS.below(counts, x) == share


def test_bins_are_a_step_apart_from_end_to_end():
    even, wide = Histogram(-1.0, 1.0, 0.5), Histogram(1.0, 8.0, 1.0, logarithmic=True)
    assert (even.bins, wide.bins) == (5, 5)  # -1, -0.5, ... 1; 0, 1, 2, 4, 8
    x = np.array([-9, -1, -0.6, 0.2, 0.3, 1, 9])
    np.testing.assert_array_equal(even.counts(x), [2, 1, 1, 1, 2])
    x = np.array([0, 0.9, 1, 1.3, 2, 3, 7, 99])
    np.testing.assert_array_equal(wide.counts(x), [2, 2, 1, 1, 2])
    assert even.median(np.array([1, 0, 0, 0, 1])) == 0.0
    assert even.median(np.array([0, 0, 0, 1, 0])) == 0.5
    assert wide.median(np.array([0, 0, 0, 1, 1])) == 6.0
    assert wide.median(np.array([3, 0, 0, 1, 1])) == 0.0


def test_counts_of_two_sets_add_up():
    x = np.random.default_rng(0).exponential(size=50)
    parts = DISTANCES.counts(x[:20]) + DISTANCES.counts(x[20:])
    np.testing.assert_array_equal(parts, DISTANCES.counts(x))
