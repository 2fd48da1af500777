import numpy as np
import pytest

from train.errors import Unreadable
from train.modalities.files.clocks import in_order, one_clock

NAN = np.nan


def test_samples_are_put_into_the_order_of_their_times_each_once():
    times = np.array([0.0, 2.0, 1.0, 1.0, 1.0, 3.0])
    values = np.array([[0, 9], [2, 9], [1, np.nan], [5, 4], [6, 8], [3, 9.0]])
    own, first = in_order(times, values)
    assert own.tolist() == [0, 1, 2, 3]
    assert first.tolist() == [[0, 9], [1, 4], [2, 9], [3, 9]]
    assert in_order(times, values, "mean")[1][1].tolist() == [4, 6]
    # Of many at one time the first in the file, too.
    times = np.repeat(np.arange(50.0), 9)[::-1]
    found = in_order(times, np.arange(450.0)[:, None])[1][:, 0]
    assert found.tolist() == [*range(441, -1, -9)]
    with pytest.raises(Unreadable, match="1 of its 2 times are missing"):
        in_order(np.array([0, NAN]), np.zeros((2, 1)))


def test_a_clock_that_would_fill_the_memory_is_refused():
    times = np.array([0, 1, 1.7e9])
    with pytest.raises(Unreadable, match="its times span 1.7e.09 s at data.rate=1"):
        one_clock([(times, np.zeros((3, 1)))], 1.0)


def test_a_ramp_on_three_clocks_is_the_same_ramp_on_one():
    """Linear interpolation and its means are exact on a line, edges included."""
    line = lambda t: 2 * t - 3
    clocks = [np.arange(0, 10.01, 0.5), np.arange(1, 9.001, 0.01), np.arange(0.2, 12)]
    streams = [(t, line(t)[:, None]) for t in clocks]
    values, start = one_clock(streams, rate=10)
    assert start == 1.0 and values.shape == (81, 3)
    grid = 1 + np.arange(81) / 10
    np.testing.assert_allclose(values, np.repeat(line(grid)[:, None], 3, 1), atol=1e-9)


def test_what_the_grid_cannot_hold_is_averaged_away():
    t = np.arange(0, 10, 0.001)
    fast = np.sin(2 * np.pi * 50 * t)  # 50 Hz on a grid of 10: whole periods a step
    values, _ = one_clock([(t, (1 + fast)[:, None])], rate=10)
    np.testing.assert_allclose(values[1:-1], 1, atol=1e-3)


@pytest.mark.parametrize(
    "rate, first, digits",
    [(30, 0, 3), (30, 0, 6), (256, 0, 6), (30, 1.7e9, 9), (1000, 1.7e9, 9)],
    ids="milliseconds microseconds powers epoch epoch_fast".split(),
)
def test_samples_of_the_grid_are_taken_as_they_are_though_times_are_rounded(
    rate, first, digits
):
    """To the clock's unit, or to what a float holds; a mean would halve these, and a
    step that is longer by as much would be a gap."""
    t = np.round(first + np.arange(300) / rate, digits)
    values = (-1.0) ** np.arange(300)
    values[100] = NAN
    gap = round(1 / rate + 5e-4, 3) if digits == 3 else 1 / rate
    found, _ = one_clock([(t, values[:, None])], rate, longest_gap=gap)
    np.testing.assert_allclose(found[:, 0], values, atol=0.03)


@pytest.mark.parametrize("rate", [30, 60, 90, 120])
@pytest.mark.parametrize("first", [0.0, 12.3456, 1.7e9])
def test_no_last_sample_is_lost_to_times_in_milliseconds(rate, first):
    for count in range(20, 60):
        t = np.round(first + np.arange(count) / rate, 3)
        found, _ = one_clock([(t, np.ones((count, 1)))], rate)
        np.testing.assert_array_equal(found, np.ones((count, 1)))


def test_long_gaps_stay_missing_and_short_ones_are_bridged():
    t = np.array([0.0, 1, 2, 4, 5, 9, 10])
    values, _ = one_clock([(t, t[:, None])], rate=1)
    np.testing.assert_allclose(values[:, 0], [0, 1, 2, 3, 4, 5, NAN, NAN, NAN, 9, 10])
    values, _ = one_clock([(t, t[:, None])], rate=1, longest_gap=4.0)
    np.testing.assert_allclose(values[:, 0], np.arange(11))
    holed = np.where(t == 4, NAN, t)  # a missing sample makes its gap longer
    values, _ = one_clock([(t, holed[:, None])], rate=1)
    np.testing.assert_allclose(values[:6, 0], [0, 1, 2, NAN, NAN, 5])
    # Nothing is known before the first value and after the last.
    t = np.arange(6.0)
    ends = np.where((t < 1) | (t > 3), NAN, t)
    values, _ = one_clock([(t, ends[:, None])], rate=2)
    inner = np.arange(1, 3.5, 0.5)
    np.testing.assert_allclose(values[:, 0], [NAN] * 2 + [*inner] + [NAN] * 4)


@pytest.mark.parametrize(
    "streams,message",
    [
        ([([0, 1], 2), ([5, 6], 2)], "no overlap in time: a ends at 1 s and b starts"),
        ([([0, 1], 2), ([1, 0], 2)], "b: its times do not increase"),
        ([([0, 1], 2), ([0, 1, 2], 2)], "b: 3 times for 2 samples"),
        ([([0], 1)], "a: 1 times for 1 samples; .* at least 2"),
    ],
)
def test_clocks_that_cannot_be_one_are_refused_in_a_line(streams, message):
    streams = [(np.array(t, float), np.zeros((n, 1))) for t, n in streams]
    with pytest.raises(Unreadable, match=message) as caught:
        one_clock(streams, 1.0, names=["a", "b"][: len(streams)])
    assert "\n" not in str(caught.value)
