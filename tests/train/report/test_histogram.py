import numpy as np
import pytest

from train.report.histogram import bin_edges


@pytest.mark.parametrize(
    "values",
    [np.arange(256.0), np.arange(17) / 16, np.arange(100) * 3.0, np.arange(3) - 1.0],
    ids=["8-bit", "digits", "thirds", "three"],
)
def test_even_levels_make_an_even_histogram(values):
    (edges,) = bin_edges([np.tile(values, 5)])
    heights, _ = np.histogram(np.tile(values, 5), edges)
    assert heights.sum() == 5 * len(values) and len(heights) <= 82
    assert heights[:-1].min() == heights[:-1].max()  # the last may be filled in part


def test_values_without_levels_have_even_bins():
    x = np.random.default_rng(0).standard_normal(5000)
    (edges,) = bin_edges([x])
    assert len(edges) == 81 and (edges[0], edges[-1]) == (x.min(), x.max())
    (flat,) = bin_edges([np.full(9, 0.5)])
    assert np.histogram(np.full(9, 0.5), flat)[0].sum() == 9
