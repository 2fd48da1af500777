"""Streets: what three sensors agree on, and what each of them leaves open."""

import dataclasses

import numpy as np
import pytest

from tests.train.fresh import fresh
from train.errors import BadInput
from train.modalities import ImageAugment, Images, Ranges, Series
from train.modalities.range import projected
from train.pipeline import JointExamples
from train.sources.generated import driving
from train.sources.generated.driving import FAULTS, MOST, picture, street, sweep, way
from train.sources.generated.signals import TRAIN, rng
from vqdit.tokenizer import Boxes

MANY = {"examples": 112, "threads": 0}
BEAMS = Ranges(name="driving", rows=8, azimuth=128, noise=0.0)
PLACES = BEAMS.rows, BEAMS.azimuth, BEAMS.elevation
CLEAR = {"length": 9, "channels": 4, "missing": 0.0, "spikes": 0.0, "cleaning": None}


def of(name="driving"):
    return {
        "camera": Images(name=name, size=32, channels=3, **MANY),
        "range": Ranges(name=name, rows=8, azimuth=128, **MANY),
        "position": Series(name=name, **CLEAR, **MANY),
    }


def scenes(count, seed=0):
    return [street(rng(seed, i)) for i in range(count)]


def test_boxes_are_where_the_picture_has_the_colour_of_the_thing():
    seen = 0
    for i, scene in enumerate(scenes(60)):
        if scene.light < 1:
            continue
        x, boxes = picture(scene, 128, rng(1, i))
        assert boxes.shape == (MOST, 5) and (boxes[:, :4] >= 0).all()
        there = boxes[boxes[:, 4] >= 0]
        # The nearest is in front of all others, so its middle shows it.
        if len(there):
            x0, y0, x1, y1, kind = there[0]
            column, row = int((x0 + x1) / 2 * 127), int((y0 + y1) / 2 * 127)
            things = [t for t in scene.things if t.kind == kind]
            fade = [np.exp(-t.center[0] / 60) for t in things]
            colours = [
                t.colour * f + 0.6 * (1 - f) for t, f in zip(things, fade, strict=True)
            ]
            away = [np.abs(x[row, column] / 255 - c).max() for c in colours]
            assert min(away) < 0.12
            assert y1 - y0 > x1 - x0 if kind == 1 else True  # walkers are upright
            seen += 1
    assert seen > 15


def test_the_nearest_things_have_boxes(monkeypatch):
    found = [picture(scene, 64, rng(0))[1] for scene in scenes(60)]
    counts = [(boxes[:, 4] >= 0).sum() for boxes in found]
    assert {1, 2, 3} <= set(counts)
    monkeypatch.setattr(driving, "MOST", 1)
    for scene, boxes in zip(scenes(60), found, strict=True):
        np.testing.assert_array_equal(picture(scene, 64, rng(0))[1], boxes[:1])


def test_the_lidar_measures_what_the_camera_sees_ahead():
    """A beam that lies within a box of the camera hits the thing, and no further."""
    checked = 0
    for i, scene in enumerate(scenes(60)):
        _, boxes = picture(scene, 64, rng(1, i))
        ranges = sweep(scene, BEAMS, rng(2, i))
        assert ranges[-1].min() < 10, "the road is near below"
        for box in boxes[boxes[:, 4] >= 0][:1]:
            middle = np.arctan((1 - box[0] - box[2]) * np.tan(driving.VIEW / 2))
            column = int((0.5 - middle / (2 * np.pi)) * 128)
            ahead = ranges[1, column]  # of a row that meets no road within 40 m
            kinds = [t for t in scene.things if t.kind == box[4]]
            assert min(abs(ahead - np.hypot(*t.center[:2])) for t in kinds) < 2.6
            checked += 1
    assert checked > 40


def test_the_way_says_how_the_car_stands_and_what_is_ahead_of_it():
    behind = {True: [], False: []}
    for scene in scenes(200):
        track = way(scene, 9)
        assert track.shape == (9, 4)
        np.testing.assert_allclose(
            track[-1], [0, scene.aside, scene.heading, scene.hour]
        )
        assert (track[-1, 1] - track[0, 1]) * scene.heading >= 0, "left goes left"
        steps = np.hypot(*np.diff(track[:, :2], axis=0).T)
        np.testing.assert_allclose(steps, scene.speed * 2 / 8, atol=1e-9)
        # Walls: the lidar has the way's place on the road, and its heading.
        ranges = sweep(scene, BEAMS, rng(0))[0]
        left = scene.things[-1].center[1] * np.cos(scene.heading)
        assert np.nanmin(ranges[16:48]) == pytest.approx(left - 0.2, abs=1.5)
        straight = [
            t
            for t in scene.things
            if t.kind == 0 and abs(t.center[1] + scene.heading * t.center[0]) < 1
        ]
        behind[bool(straight)].append(scene.speed)
    assert min(map(len, behind.values())) > 30
    assert np.mean(behind[True]) < np.mean(behind[False]) - 2


def test_camera_and_lidar_see_where_the_car_stands_and_whither_it_turns():
    """Standing left of the middle its left edge is nearer; turned to the left, the end
    of the road lies to the right."""
    edges, asides, ends, headings, middles = [], [], [], [], []
    for i, scene in enumerate(scenes(300)):
        if scene.light == 1:
            x, _ = picture(scene, 128, rng(1, i))
            white = (x[74:80].min(-1) > 205).any(0)  # a strip 10 to 17 m ahead
            left, right = np.flatnonzero(white[:64]), np.flatnonzero(white[64:])
            if len(left) and len(right) and abs(scene.heading) < 0.1:
                edges.append((63 - left.max()) - right.min())
                asides.append(scene.aside)
            if len(left) and len(right) and abs(scene.aside) < 1:
                middles.append((left.max() + 64 + right.min(), scene.heading))
        ahead = sweep(scene, BEAMS, rng(0))[0, 40:88]  # to 67 degrees either way
        far = np.flatnonzero(np.isnan(ahead))
        if len(far):
            ends.append(far.mean() - 24)
            headings.append(scene.heading)
    assert len(edges) > 20 and np.corrcoef(edges, asides)[0, 1] < -0.7
    assert len(middles) > 20 and np.corrcoef(*np.transpose(middles))[0, 1] > 0.7
    assert len(ends) > 150 and np.corrcoef(ends, headings)[0, 1] > 0.8


def test_one_row_is_one_scene_for_all_sensors_and_boxes_are_a_stream():
    data = of()
    joint = JointExamples(
        data | {"boxes": data["camera"]}, {"boxes": Boxes(MOST, 64, 2)}, True, "index"
    )
    rows = np.array([5, 2])
    batch = joint.take(rows)["streams"]
    truth = fresh(data["camera"], True).take(rows)["boxes"]
    found = Boxes(MOST, 64, 2).decode(batch["boxes"][..., 0])
    np.testing.assert_allclose(found, truth, atol=0.5 / 64 + 1e-6)
    again = JointExamples(of(), {}, True, "index").take(rows[::-1])["streams"]
    for name in data:
        np.testing.assert_array_equal(again[name][::-1], batch[name])
    other = JointExamples(of(), {}, False, "index").take(rows)["streams"]
    assert all((other[name] != batch[name]).any() for name in data)
    assert fresh(data["camera"], True).classes == 0  # nothing to be judged by
    dark = [scene.light == driving.DARK for scene in scenes(300)]
    assert 0.3 < np.mean(dark) < 0.6


def test_a_sensor_at_fault_alone_is_changed():
    usual = JointExamples(of(), {}, False, "index")
    planted = JointExamples(of("driving_faults"), {}, False, "index")
    rows = np.arange(len(planted))
    labels = planted.labels(rows)
    assert tuple(planted.class_names) == FAULTS and (labels[::2] == 0).all()
    assert set(labels[1::2]) == set(range(1, len(FAULTS)))
    plain, wrong = usual.take(rows)["streams"], planted.take(rows)["streams"]
    for name in plain:
        changed = (plain[name] != wrong[name]).reshape(len(rows), -1).any(1)
        at_fault = [FAULTS[y].removeprefix("no ") == name for y in labels]
        np.testing.assert_array_equal(changed, at_fault)
    out = {name: labels == FAULTS.index(f"no {name}") for name in plain}
    assert not wrong["camera"][out["camera"]].any()
    assert np.ptp(wrong["position"][out["position"]], axis=1).max() == 0
    known = planted.take(rows)["known"]["range"].reshape(len(rows), -1).mean(1)
    assert (known[out["range"]] < 0.01).all() and (known[~out["range"]] > 0.5).all()
    trained = JointExamples(of("driving_faults"), {}, True, "index")
    assert not trained.labels(np.arange(len(trained))).any()


def test_boxes_are_mirrored_with_their_picture():
    plain = Images(name="driving", size=32, channels=3, **MANY)
    rows, epochs = np.arange(60), np.zeros(60, int)
    x, boxes = (fresh(plain, True).take(rows)[n] for n in ("x", "boxes"))
    for mirrors in ({"flip": True}, {"augment": ImageAugment(flip=True)}):
        data = fresh(dataclasses.replace(plain, **mirrors), True)
        batch = data.augmented(rows, epochs, 0)
        mirrored = (batch["x"] == x[:, :, ::-1]).all((1, 2, 3))
        assert 15 < mirrored.sum() < 45
        turned = boxes[..., [2, 1, 0, 3, 4]] * (-1, 1, -1, 1, 1) + (1, 0, 1, 0, 0)
        expected = np.where(mirrored[:, None, None], turned, boxes)
        there = boxes[..., 4] >= 0
        np.testing.assert_allclose(batch["boxes"][there], expected[there], atol=1e-5)
        assert (batch["boxes"][..., 4] == boxes[..., 4]).all()


def test_a_sweep_is_what_its_points_are_projected_to():
    for i, scene in enumerate(scenes(5)):
        ranges = sweep(scene, BEAMS, rng(0, i))
        beams = driving._beams(*PLACES)
        points = (beams * np.nan_to_num(ranges)[..., None]).reshape(-1, 3)
        image, _ = projected(np.pad(points, [(0, 0), (0, 1)]), *PLACES)
        np.testing.assert_allclose(image[..., 0], np.nan_to_num(ranges), rtol=1e-5)


def test_channels_that_a_sensor_does_not_have_are_refused():
    with pytest.raises(BadInput, match="a way has 4: along, aside, heading, hour"):
        Series(name="driving", channels=3)
    with pytest.raises(BadInput, match="driving has 1"):
        Ranges(name="driving", channels=2)


def test_at_night_the_camera_sees_little_but_the_edges_of_the_road():
    edges, rest = [], []
    for i, scene in enumerate(scenes(20)):
        day, night = (
            picture(dataclasses.replace(scene, hour=hour), 64, rng(1, i))[0]
            for hour in (12.0, 0.0)
        )
        white = (day[34:].min(-1) > 205) & (day[34:].max(-1) < 255)
        share = night[34:].sum(-1) / day[34:].sum(-1)
        edges.append(share[white])
        rest.append(share[~white])
    edges, rest = map(np.concatenate, (edges, rest))
    assert len(edges) > 100 and np.median(edges) > 3 * np.median(rest)


def test_each_sensor_has_noise_of_its_own(monkeypatch):
    """Of one scene, and so whatever one of them draws."""
    asked = []
    monkeypatch.setattr(driving, "rng", lambda *of: asked.append(of) or rng(*of))
    for data in of().values():
        driving._sensed(driving.SENSORS[type(data)], data, TRAIN, 3)
    scene, noise = asked[::2], asked[1::2]
    assert len({*scene}) == 1 and len({*noise}) == 3
