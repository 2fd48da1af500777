import dataclasses
from typing import get_args

import numpy as np
import pytest

from tests.train.fresh import fresh_source
from train.modalities import Audio, Ranges, Series, Video, Volumes, video
from train.sources.generated.moving import (
    ACTIONS,
    EVENTS,
    FREE,
    SPEEDS,
    act,
    bounced,
    digit_pictures,
    moving_digits,
)
from train.sources.generated.signals import (
    TRAIN,
    bursts,
    hit,
    noisy_phantom,
    poorly,
    random_rotation,
    rng,
    scene,
    sensor_series,
    tone,
)


def test_a_bouncing_point_is_that_of_a_simulation():
    room, speed, at, way = 10.0, 3.0, 4.0, []
    for _ in range(30):
        way.append(at)
        at += speed
        if not 0 <= at <= room:
            at, speed = (2 * room - at if at > room else -at), -speed
    ways = np.stack([3.0 * np.arange(30)] * 2, -1)
    found = bounced(np.array([4.0, 0.0]), ways, np.array([room, 0.0]))
    np.testing.assert_allclose(found.T, [way, np.zeros(30)])


def ink(n: int = 5, side: int = 6) -> np.ndarray:
    pictures = np.zeros((n, side, side), np.uint8)
    pictures[:, 1:-1, 2:-1] = 40 + 40 * np.arange(n)[:, None, None]
    return pictures


def test_digits_move_within_the_frame_and_their_boxes_hold_their_ink():
    for i in range(20):
        frames, boxes = moving_digits(ink(), 32, np.arange(40.0), 1, rng(i))
        first = rng(i).integers(0, len(ink()), 1)[0]
        assert frames.shape == (40, 32, 32) and frames.dtype == np.uint8
        for frame, box in zip(frames, boxes[:, 0] * 32, strict=True):
            x0, y0, x1, y1 = np.round(box).astype(int)
            assert (frame[y0:y1, x0:x1] == 40 + 40 * first).all()
            assert (frame > 0).sum() == (y1 - y0) * (x1 - x0)
        steps = abs(np.diff(boxes[:, 0, :2], axis=0)) * 32
        assert steps.max() <= 0.08 * 32 + 1 and steps.max() > 0.5


@pytest.mark.parametrize("name", get_args(video.VideoName)[:4])
def test_clips_move_pictures_of_their_own_part(name, monkeypatch):
    asked = []

    def pictures(name, data_dir, train):
        asked.append(train)
        return ink(), np.zeros(5, int)

    monkeypatch.setattr("train.sources.generated.moving.digit_pictures", pictures)
    data = Video(name, size=16, frames=3, digits=1, examples=20)
    for train in (True, False):
        fresh_source(data, train).take([0])
    assert asked == [True, False]


def test_later_frames_need_no_earlier_ones_and_two_digits_keep_the_brighter():
    times = np.arange(30.0)
    whole, boxes = moving_digits(ink(), 24, times, 2, rng(7))
    part, *_ = moving_digits(ink(), 24, times[11:13], 2, rng(7))
    np.testing.assert_array_equal(part, whole[11:13])
    values = [np.unique(f[f > 0]).tolist() for f in whole]
    assert max(map(len, values)) <= 2
    assert whole.max() == max(max(v) for v in values if v)


def test_an_action_is_read_off_its_first_frames_whatever_it_bounces_off_later():
    """Of every clip the direction and speed, by the boxes of the first FREE steps."""
    times, bounces = np.arange(9.0), 0
    for i in range(160):
        action = i % len(ACTIONS)
        acting = act(ink()[0], 64, len(times), action, rng(i))
        frames, boxes = acting.at(times, 64)
        way = np.diff(boxes[:, 0, :2], axis=0)  # to the right and down
        right, down = way[:FREE].sum(0)
        sector = np.arctan2(down, right) / (np.pi / 4)
        assert (sector - action // 2 + 4) % 8 == pytest.approx(4, abs=0.5)
        low, high = tuple(SPEEDS.values())[action % 2]
        assert low - 0.006 < np.hypot(right, down) / FREE < high + 0.006
        bounces += (np.sign(way[0] * way[-1]) < 0).any()
        x0, y0, x1, y1 = np.round(boxes[5, 0] * 64).astype(int)
        assert (frames[5, y0:y1, x0:x1] > 0).all()
        assert (frames[5] > 0).sum() == (y1 - y0) * (x1 - x0)
    assert 40 < bounces < 130  # many do, many do not


def test_planted_events_break_a_motion_that_is_else_the_same():
    times = np.arange(9.0)
    for i in range(30):
        clips, boxes = {}, {}
        for event in EVENTS:
            acting = act(ink()[0], 32, len(times), i % len(ACTIONS), rng(i), event)
            clips[event], found = acting.at(times, 32)
            boxes[event], when = found[:, 0, :2] * 32, acting.when
            if event == "none":
                continue
            assert when in (5, 6)
            before = slice(0, int(when))
            np.testing.assert_array_equal(clips[event][before], clips["none"][before])
        whole = boxes["none"]
        at = int(when)
        leap = boxes["jump"][at] - whole[at]
        assert np.hypot(*leap) > 32 / 4 - 1
        assert not clips["vanish"][at:].any() and np.isnan(boxes["vanish"][at:]).all()
        back = boxes["reverse"][at:]
        np.testing.assert_array_equal(back, whole[at : at - len(back) : -1])


def test_a_clip_of_an_event_says_which_and_an_action_says_itself():
    clips = Video(
        "moving_events", frames=9, size=32, digits=1, examples=120, boxes=True
    )
    source, names = fresh_source(clips, False), []
    for record in source.take(range(12)):
        event = EVENTS[record.label]
        names.append(event)
        _, boxes = record.more["at"](np.arange(9.0))
        assert boxes[0, 0, 4] >= 0
        assert (boxes[-1, 0, 4] == -1) == (event == "vanish")
        assert int(record.more["caption"][0]) == boxes[0, 0, 4]
        assert record.more["caption"][2:] in ACTIONS
    assert names[1::2] == [*EVENTS[1:]] * 2 and set(names[::2]) == {"none"}
    acting = dataclasses.replace(clips, name="moving_actions")
    source = fresh_source(acting, True)
    assert source.class_names == ACTIONS and len(source) == 120
    for record in source.take(range(20)):
        assert record.more["caption"][2:] == ACTIONS[record.label]


def test_gaps_have_their_share_and_their_length():
    gone = bursts(20_000, 20, 0.1, 12.0, rng(0))
    starts = (gone[1:] & ~gone[:-1]).sum()
    runs = gone.sum() / starts
    # Geometric runs: the deviation of the mean of n is about 12 / sqrt(n).
    assert abs(runs - 12) < 5 * 12 / starts**0.5
    assert abs(gone.mean() - 0.1) < 5 * 0.1 * (12 / starts**0.5) / 12 * 2**0.5 + 0.005
    # From the first sample on.
    assert abs(bursts(2, 4000, 0.1, 12.0, rng(1))[0].mean() - 0.1) < 4 * 0.3 / 4000**0.5
    assert not bursts(100, 2, 0.0, 12.0, rng(0)).any()


def test_measured_series_are_the_truth_plus_what_was_said():
    truth = np.stack([sensor_series(256, 3, rng(1, i)) for i in range(200)])
    measured = np.stack([poorly(x, rng(2, i), Series()) for i, x in enumerate(truth)])
    error = measured - truth
    known = np.isfinite(error)
    assert abs((~known).mean() - 0.1) < 0.01
    wild = known & (abs(error) > 3)
    assert abs(wild.sum() / known.sum() - 0.01) < 0.001
    quiet = error[known & ~wild]
    np.testing.assert_allclose(quiet.std(), 0.1, rtol=0.01)
    # Smooth: linear interpolation from every fourth sample would be nearly right.
    assert abs(truth[:, 2:-2] - (truth[:, :-4] + truth[:, 4:]) / 2).max() < 0.5
    faultless = Series(missing=0.0, spikes=0.0, noise=0.0)
    np.testing.assert_array_equal(poorly(truth[0], rng(1), faultless), truth[0])


@pytest.mark.parametrize("shape", [(16, 16, 16), (8, 20, 12)])
def test_phantoms_are_nested_bodies_in_empty_space(shape):
    for i in range(5):
        record = noisy_phantom(Volumes(size=shape, noise=0.05), TRAIN, i)
        measured, truth = record.values[..., 0], record.more["truth"][..., 0]
        assert truth.shape == shape and truth.min() == 0 and 0.8 <= truth.max() <= 1
        assert truth[0, 0, 0] == truth[-1, -1, -1] == 0
        assert 0.1 < (truth > 0).mean() < 0.6
        assert len(np.unique(truth)) >= 3
        np.testing.assert_allclose((measured - truth).std(), 0.05, rtol=0.1)
    again = noisy_phantom(Volumes(size=shape), TRAIN, 4).more["truth"]
    np.testing.assert_array_equal(again[..., 0], truth)


def test_a_street_without_boxes_in_the_way_has_the_ground_of_geometry():
    up = np.radians(np.linspace(3, -25, 32))
    ground = -1.73 / np.sin(up[6:])  # the first rows look above the horizon
    for i in range(5):
        found = scene(32, 128, rng(i), noise=0.0)
        assert found[~np.isnan(found)].max() <= 80
        rows = found[6:]
        open_road = np.isclose(rows, ground[:, None], rtol=1e-9)
        nearer = rows < ground[:, None]
        unseen = np.isnan(rows) & (ground[:, None] > 80)
        assert (open_road | nearer | unseen).all()
        assert open_road.mean() > 0.3 and nearer.mean() > 0.01
        assert np.isnan(found[0]).mean() > 0.2  # mostly sky


def test_each_beam_is_measured_with_a_noise_of_its_own():
    """Four standard errors, of the spread and of what neighbours have in common. The
    lower rows meet the ground, so that every beam of them returns."""
    true, found = (scene(32, 600, rng(8), noise=noise) for noise in (0.0, 0.05))
    error = (found - true)[12:] / 0.05
    assert abs(error.std() - 1) < 4 * (2 * error.size) ** -0.5
    for both in (error[1:] * error[:-1], error[:, 1:] * error[:, :-1]):
        assert abs(both.mean()) < 4 * both.size**-0.5


def test_a_drift_spreads_as_much_at_its_end_as_at_its_start():
    """Four standard errors of the ratio of two variances, of 20,000 channels each."""
    truth = sensor_series(64, 20_000, rng(3))
    assert abs(truth[-1].var() / truth[0].var() - 1) < 4 * (2 * 2 / 20_000) ** 0.5


def test_turns_in_space_favour_no_direction():
    turns = np.stack([random_rotation(rng(5, i)) for i in range(600)])
    np.testing.assert_allclose(
        turns @ turns.swapaxes(1, 2), [np.eye(3)] * 600, atol=1e-9
    )
    assert abs(turns.mean(0)).max() < 4 / (3 * 600) ** 0.5


@pytest.mark.parametrize("yaw", [0.0, 0.5, -1.1])
def test_beams_meet_a_box_where_walking_along_them_does(yaw):
    """And none that lies behind them."""
    size, center = np.array([6.0, 1.0, 2.0]), np.array([9.0, 2.0, 0.3])
    angles = np.linspace(-3.1, 3.1, 180)
    beams = np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
    with np.errstate(divide="ignore"):
        found = hit(beams, center, size, yaw)
    away = np.arange(0, 20, 0.01)
    gap = beams[:, None] * away[None, :, None] - center
    along = gap[..., 0] * np.cos(yaw) + gap[..., 1] * np.sin(yaw)
    across = gap[..., 1] * np.cos(yaw) - gap[..., 0] * np.sin(yaw)
    own = np.stack([along, across, gap[..., 2]], -1)
    inside = (abs(own) <= size / 2 + 1e-9).all(-1)
    first = np.where(inside.any(1), away[inside.argmax(1)], np.inf)
    both = np.isfinite(first)
    assert 5 < both.sum() < 60 and (np.isfinite(found) >= both).all()
    assert (np.isfinite(found) & ~both).sum() <= 2  # a corner between two steps
    np.testing.assert_allclose(found[both], first[both], atol=0.02)


@pytest.mark.parametrize("reach", [20.0, 80.0])
def test_no_beam_returns_from_past_its_reach(reach):
    found = np.stack([scene(16, 64, rng(i), reach, noise=0.0) for i in range(8)])
    assert 0.7 * reach < np.nanmax(found) <= reach


@pytest.mark.parametrize(
    "data",
    [
        Series(length=16, examples=8),
        Volumes(size=(4, 4, 4), examples=8),
        Ranges(rows=4, azimuth=8, examples=8),
        Video(frames=2, size=16, examples=10),
    ],
    ids=lambda data: data.name,
)
def test_another_seed_makes_other_signals(data):
    one, two = (
        fresh_source(dataclasses.replace(data, seed=seed), True) for seed in (0, 1)
    )
    a, b = (data.cut([source[3]], [0], None)["x"] for source in (one, two))
    assert (np.nan_to_num(a) != np.nan_to_num(b)).any()


def test_a_moving_digit_has_its_own_label():
    """Its picture, found by its ink, is one of its class."""
    data = Video(frames=1, size=32, examples=20, digits=1)
    pictures, labels = digit_pictures("digits", "", True)
    source = fresh_source(data, True)
    for row in range(20):
        frame = data.cut([source[row]], [0], None)["x"][0, 0, ..., 0]
        seen = []
        for picture in pictures:
            rows, columns = (np.flatnonzero(picture.any(1 - i)) for i in (0, 1))
            seen.append(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        rows, columns = (np.flatnonzero(frame.any(1 - i)) for i in (0, 1))
        ink = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        alike = [labels[i] for i, each in enumerate(seen) if _same(each, ink)]
        assert alike and source[row].label in alike


def _same(picture, ink):
    factor = ink.shape[0] // picture.shape[0]
    large = picture.repeat(factor, 0).repeat(factor, 1) if factor else picture
    return large.shape == ink.shape and (large == ink).all()


@pytest.mark.parametrize("row", [0, 7])
def test_a_tone_fades_over_its_clip_however_long(row):
    """Sixteenths of a short clip are as loud as those of one four times as long."""

    def loud(length):
        x = tone(Audio(length=length, rate=8000), 0, row).values
        return np.sqrt(np.square(x).reshape(16, -1).mean(1))

    short, long = loud(4096), loud(16384)
    assert short.max() > 10 * short[-1]
    np.testing.assert_allclose(short, long, rtol=0.1, atol=0.003)
