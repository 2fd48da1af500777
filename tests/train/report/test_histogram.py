import numpy as np
import pytest

from train.modalities.shown import Units
from train.report import histogram
from train.report.histogram import bin_edges, value_histogram


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


def test_heights_are_shares_of_each_channel(monkeypatch):
    """Of pixels three channels are colours."""
    seen = []
    said = "value, as trained on", "share"
    plot = lambda lines, *labels, colours: seen.append((lines, colours, labels))
    monkeypatch.setattr(histogram.pictures, "line_plot", plot)
    draw = np.random.default_rng(0)
    sample = [draw.integers(0, 256, n).astype(float) for n in (50, 500, 5000)]
    for pixels in (True, False):
        value_histogram(sample, pixels, Units())
    for lines, _, labels in seen:
        assert labels == said
        sums = [heights.sum() for _, heights in lines.values()]
        np.testing.assert_allclose(sums, 1)
    assert [*seen[0][0]] == ["red", "green", "blue"] and len(seen[0][1]) == 3
    assert [*seen[1][0]] == [f"channel {c}" for c in range(3)] and not seen[1][1]
    # Of a channel of which nothing is known there is none, and others keep their names.
    value_histogram([sample[0], np.zeros(0), sample[1]], False, Units(names=("hot",)))
    assert [*seen[2][0]] == ["hot", "channel 2"]
    value_histogram(
        [sample[0]] * 9, False, Units()
    )  # of more than six none could be told
    assert [*seen[3][0]] == [f"channel {c}" for c in range(6)]
