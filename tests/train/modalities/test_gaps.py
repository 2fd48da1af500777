import tracemalloc

import numpy as np
import pytest

from train.errors import BadInput
from train.modalities.transforms import gaps
from train.modalities.transforms.gaps import (
    Cleaning,
    clean,
    constant,
    fill,
    outlying,
    robust_scale,
)

NAN = np.nan


def beyond(x, **how):
    """What cleaning takes for missing."""
    return ~clean(x, Cleaning(outliers="missing", **how)).known


@pytest.mark.parametrize(
    "rule,expected",
    [
        ("linear", [2, 2, 4, 6, 8, 8]),
        ("previous", [2, 2, 2, 2, 8, 8]),
        ("mean", [5, 2, 5, 5, 8, 5]),
        ("zero", [0, 2, 0, 0, 8, 0]),
    ],
)
def test_gaps_are_filled_by_the_rule_and_edges_held(rule, expected):
    x = np.array([NAN, 2, np.inf, NAN, 8, -np.inf])[:, None]
    known = np.isfinite(x)
    np.testing.assert_allclose(fill(x, known, rule)[:, 0], expected)
    done = clean(x, Cleaning(fill=rule, outliers="keep"))
    np.testing.assert_allclose(done.values[:, 0], expected)
    np.testing.assert_array_equal(done.known, known)
    assert done.missing == (4 / 6,)


def test_channels_are_filled_apart_and_an_empty_one_is_zero():
    x = np.array([[1.0, NAN, NAN], [NAN, NAN, 5.0], [3.0, NAN, NAN]])
    filled = fill(x, np.isfinite(x))
    np.testing.assert_allclose(filled, [[1, 0, 5], [2, 0, 5], [3, 0, 5]])
    np.testing.assert_array_equal(constant(x, np.isfinite(x)), [False, True, True])


def test_the_robust_spread_of_normal_noise_is_its_standard_deviation():
    """5 standard errors: that of 1.4826 MAD is about 1.17 / sqrt(n)."""
    n = 40_000
    x = 3 + 2 * np.random.default_rng(0).standard_normal((n, 1))
    center, spread = robust_scale(x, np.ones(x.shape, bool))
    assert abs(spread.item() / 2 - 1) < 5 * 1.17 / n**0.5
    assert abs(center.item() - 3) < 5 * 2 * 1.2533 / n**0.5
    x[::3] += 1000  # a third of it may be anything
    assert robust_scale(x, np.ones(x.shape, bool))[1].item() < 6


def test_an_outlier_is_clipped_to_the_limit_exactly_or_marked():
    x = np.array([1.0, 2, 3, 4, 5, 1000])[:, None]
    # Median 3.5, absolute deviations 2.5 1.5 .5 .5 1.5 996.5, so the MAD is 1.5.
    top = 3.5 + 4 * 1.482602218505602 * 1.5
    clipped = clean(x, Cleaning(limit=4.0))
    np.testing.assert_allclose(clipped.values[:, 0], [1, 2, 3, 4, 5, top], rtol=1e-6)
    assert clipped.known.all() and clipped.outliers == (1 / 6,)
    marked = clean(x, Cleaning(outliers="missing", limit=4.0))
    np.testing.assert_allclose(marked.values[:, 0], [1, 2, 3, 4, 5, 5])
    assert not marked.known[5, 0] and marked.known[:5].all()


def test_a_spike_on_a_channel_at_rest_is_found_though_its_mad_is_zero():
    x = np.zeros((50, 2))
    x[17, 0] = 3.0
    far = beyond(x)
    assert far[17, 0] and far.sum() == 1
    # 0.06, the mean absolute deviation, times sqrt(pi / 2).
    spread = robust_scale(x, np.ones(x.shape, bool))[1]
    np.testing.assert_allclose(spread, [[0.06 * np.sqrt(np.pi / 2), 0]])
    on_off = (np.arange(60) % 5 < 2).astype(float)[:, None]  # two values, MAD 0
    assert not beyond(on_off).any()


def test_rain_counts_and_events_are_no_outliers_of_the_rest():
    """Most of such a channel is one value, by which each drop of rain was one."""
    draw = np.random.default_rng(0)
    rain, counts = np.zeros(5000), draw.poisson(0.3, 5000)
    at = draw.choice(5000, 150, replace=False)
    rain[at] = draw.exponential(10, 150)
    rain[0], counts[9] = 1e4, 500  # faults
    x = np.stack([rain, counts, counts > 1], 1)
    far = beyond(x)
    assert far[0, 0] and far[9, 1] and far.sum() <= 4
    assert not beyond(x[:, 2:], limit=4.5).any()  # events
    coded = np.flatnonzero(rain == 0)[:20]  # an eighth of what differs
    rain[coded] = -9999
    assert beyond(rain[:, None])[coded].all() and outlying(rain)[coded].all()
    rain[coded] = 0
    assert outlying(rain)[0] and outlying(rain).sum() <= 2
    far = beyond(x[:1000], window=401)
    assert far[0, 0] and far[9, 1] and far.sum() <= 5


def test_what_is_scanned_is_no_outlier_of_the_air_around_it():
    """Of a scan two thirds may be air: by median and MAD of these the other third
    was one outlier. Metal in it is, and a sensor's code for a fault."""
    draw = np.random.default_rng(0)
    air, tissue = draw.normal(-1000, 8, 6000), draw.normal(40, 60, 2990)
    scan = np.concatenate([air, tissue, [20_000] * 10])
    assert outlying(scan).tolist() == (scan > 10_000).tolist()
    faults = np.concatenate([draw.normal(20, 3, 970), [-9999] * 30])
    assert outlying(faults).tolist() == (faults < -1000).tolist()
    ends = np.array([*np.linspace(0, 1, 101), 2.14, -1.13])  # fences: 2.142, -1.142
    assert not outlying(ends).any()
    assert outlying(ends + [*[0.0] * 101, 0.01, -0.02]).sum() == 2
    assert not outlying(np.full(9, 3.0)).any() and not outlying(ends[:0]).any()


def test_a_rolling_window_finds_what_the_whole_series_hides():
    t = np.arange(400.0)
    x = np.where(t < 200, 0.1 * np.sin(t), 100 + 0.1 * np.sin(t))[:, None]
    x[50] = 3.0
    assert not beyond(x).any()
    far = beyond(x, window=21)
    assert far[50] and far.sum() <= 3  # and, if any, the two beside the step
    # Of the limits the widest: below the least median, and above the greatest.
    ((low, high),) = clean(x, Cleaning(window=21)).limits
    assert low < -0.1 and high > 100.1


def test_windows_are_judged_a_few_at_a_time(monkeypatch):
    """A million samples, each in a window of a thousand, are eight gigabytes."""
    source = np.random.default_rng(0)
    x, known = source.normal(size=(700, 2)), source.random((700, 2)) > 0.2
    whole = robust_scale(x, known, 101)
    monkeypatch.setattr(gaps, "WINDOWED", 2000)
    tracemalloc.start()
    found = robust_scale(x, known, 101)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, whole)
    assert peak < 8 * 700 * 101 / 2


def test_a_window_is_judged_by_what_is_known_in_it():
    x = np.full((30, 1), NAN)
    x[::10] = 5.0
    done = clean(x, Cleaning(window=5))
    np.testing.assert_array_equal(done.values, 5.0)
    assert done.outliers == (0.0,) and done.constant == (True,)


@pytest.mark.parametrize(
    "field,value",
    [("fill", "cubic"), ("outliers", "drop"), ("limit", 0), ("window", 3)],
)
def test_a_rule_that_does_not_exist_is_named(field, value):
    with pytest.raises(BadInput, match=rf"cleaning\.{field}=.*write"):
        Cleaning(**{field: value})
