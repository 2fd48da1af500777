import dataclasses

import numpy as np
import pytest

from tests.train.fresh import batches, fresh
from train.errors import BadInput, Unreadable
from train.modalities.range import Ranges, projected, split_sweep
from train.modalities.record import Record
from train.modalities.transforms.augment import RangeAugment

SMALL = Ranges(rows=16, azimuth=64, examples=16, threads=0)


def test_sweeps_come_normalised_with_a_mask_of_what_returned():
    train, test = fresh(SMALL, True), fresh(SMALL, False)
    assert (len(train), len(test)) == (16, 2)
    found = train.take(np.arange(16))
    assert found["x"].shape == (16, *SMALL.shape) == found["known"].shape
    hit = found["known"] > 0
    assert 0.5 < hit.mean() < 1
    metres = found["x"] * train.scale[0] + train.offset[0]
    np.testing.assert_allclose(metres[~hit], 80, rtol=1e-5)
    assert 1 < metres[hit].min() < 5 and metres[hit].max() <= 80.2
    np.testing.assert_allclose(
        [found["x"][hit].min(), found["x"][hit].max()], [-1, 1], rtol=1e-5
    )


def test_files_of_several_channels_keep_what_did_not_return_out(tmp_path):
    x = np.random.default_rng(0).uniform(2, 50, (3, 4, 8, 2)).astype(np.float32)
    x[0, 0, 0] = [np.nan, 3]
    x[1, 1, 1] = [0, 3]
    x[2, 2, 2] = [7, np.nan]
    for i, sweep in enumerate(x):
        np.save(tmp_path / f"{i}.npy", sweep)
    ranges = Ranges(
        name="folder", data_dir=str(tmp_path), rows=4, azimuth=8, channels=2,
        holdout=0.0, threads=0,
    )  # fmt: skip
    examples = fresh(ranges, True)
    found = examples.take(np.arange(3))
    for i in range(3):
        assert not found["known"][i, i, i].any() and found["known"][i].sum() == 62
    values = found["x"] * examples.scale + examples.offset
    np.testing.assert_allclose(values[1, 1, 1], [80, 0], atol=1e-4)
    hit = found["known"] > 0
    np.testing.assert_allclose(values[hit], x[hit], rtol=1e-4)
    assert examples.offset[1] == pytest.approx(
        (x[hit[..., 1], 1].max() + x[hit[..., 1], 1].min()) / 2
    )


def test_beams_that_do_not_count_are_said(tmp_path, caplog):
    """At training, by findings, and where a file is coded."""
    x = np.random.default_rng(0).uniform(2, 50, (4, 8, 2)).astype(np.float32)
    x[:2, :, 1], x[2, :4, 0], x[3, :4] = np.nan, 0, np.nan
    np.save(tmp_path / "0.npy", x)
    fields = {"rows": 4, "azimuth": 8, "channels": 2, "holdout": 0.0, "threads": 0}
    data = Ranges("folder", str(tmp_path), **fields)
    found = fresh(data, True).findings
    assert found == {"not_returned_share": [0.25], "incomplete_share": [0.5]}
    incomplete = "50.00% of the beams have a distance, and another value that is not"
    assert "25.00% of the beams did not return, and are 80 m" in caplog.text
    assert incomplete in caplog.text
    path = tmp_path / "0.npy"
    (line,) = data.dropped(path, data.read(path))
    assert line.startswith(incomplete)
    # Nor is there anything to say where all values are measured.
    np.save(path, np.nan_to_num(x))
    assert fresh(dataclasses.replace(data, far=None), True).findings == {
        "not_returned_share": [0],
        "incomplete_share": [0],
    }
    # A street that is made says nothing of its sky.
    fresh(SMALL, True)
    assert caplog.text.count("did not return,") == 1
    assert fresh(SMALL, True).findings["not_returned_share"][0] > 0.1


def test_what_is_lost_costs_no_second_look_at_a_sweep(monkeypatch):
    seen = []
    split = lambda *of: seen.append(of) or split_sweep(*of)
    monkeypatch.setattr("train.modalities.range.split_sweep", split)
    sweep = np.float32([[[5, 1], [0, 1], [5, np.inf], [np.nan, 1]]])
    found = Ranges("folder", rows=1, azimuth=4, channels=2).adapt(Record(sweep))
    assert found.known[0, :, 0].tolist() == [True, False, False, False]
    assert (found.more["not_returned"], found.more["incomplete"]) == (0.5, 0.25)
    assert len(seen) == 1


def test_a_street_ends_somewhere():
    with pytest.raises(BadInput, match="data.far=None: write the metres at which a"):
        Ranges(name="scenes", far=None)
    assert Ranges("folder", far=None).far is None


def directions(rows, azimuth, low, high):
    """(elevation, azimuth to the left) of the middles of the cells, in radians."""
    up = high - (np.arange(rows) + 0.5) * (high - low) / rows
    left = np.pi - (np.arange(azimuth) + 0.5) * 2 * np.pi / azimuth
    return np.meshgrid(np.radians(up), left, indexing="ij")


def test_a_sweep_of_points_is_seen_from_its_sensor(tmp_path):
    """Points in the middles of all cells but one, in any order, come back exactly."""
    rows, azimuth, low, high = 6, 16, -20.0, 10.0
    random = np.random.default_rng(0)
    far, shine = random.uniform(2, 60, (2, rows, azimuth)).astype(np.float32)
    up, left = directions(rows, azimuth, low, high)
    x, y = far * np.cos(up) * np.cos(left), far * np.cos(up) * np.sin(left)
    points = np.stack([x, y, far * np.sin(up), shine], -1).reshape(-1, 4)[1:]
    behind = points[40] * [1.5, 1.5, 1.5, 1]
    beyond = [[1, 0, 5, 1], [1, 0, -5, 1], [0, 0, 0, 1], [np.nan, 0, 0, 1]]
    points = np.concatenate([points, [behind], beyond]).astype("<f4")
    random.shuffle(points)
    points.tofile(tmp_path / "0.bin")
    ranges = Ranges(
        "folder", str(tmp_path), rows=rows, azimuth=azimuth, channels=2, holdout=0.0,
        elevation=(low, high), threads=0,
    )  # fmt: skip
    record = ranges.read(tmp_path / "0.bin")
    far[0, 0] = shine[0, 0] = 0
    np.testing.assert_allclose(record.values[..., 0], far, rtol=1e-5)
    np.testing.assert_array_equal(record.values[..., 1], shine)
    n = len(points)
    assert record.more["beyond"] == pytest.approx(4 / n)
    assert record.more["hidden"] == pytest.approx(1 / n)
    # What lies ahead is in the middle, what lies to the left on the left.
    ahead, beam = np.zeros((2, 4), "<f4")
    ahead[0], beam[1] = 5, 7
    image, _ = projected(np.stack([ahead, beam]), 1, 8, (-10.0, 10.0))
    assert image[0, :, 0].tolist() == [0, 0, 7, 0, 5, 0, 0, 0]


def test_nothing_is_said_of_sweeps_of_which_all_is_seen(tmp_path, caplog):
    turn = np.radians(np.arange(0, 360, 36))
    points = np.stack([np.cos(turn), np.sin(turn), 0 * turn, turn], 1).astype("<f4")
    points[:7, 2] = 100  # beyond; 1 - 0.7 - 0.3 is not 0 in floats
    points.tofile(tmp_path / "0.bin")
    data = Ranges("folder", str(tmp_path), rows=2, azimuth=40, holdout=0.0, threads=0)
    found = fresh(data, True).findings
    assert (found["beyond_share"], found["hidden_share"]) == ([0.7], [0])
    assert "behind another" not in caplog.text


def test_what_of_a_sweep_is_not_seen_is_said(tmp_path, caplog):
    for i in range(2):
        points = np.zeros((10, 4), "<f4")
        points[:, 0], points[:2, 2] = np.arange(1, 11), 100
        points.tofile(tmp_path / f"{i}.bin")
    (tmp_path / "3.bin").write_bytes(bytes(20))
    data = Ranges("folder", str(tmp_path), rows=2, azimuth=8, holdout=0.0, threads=0)
    with pytest.raises(BadInput, match="3.bin: is 20 bytes, and no points of four"):
        fresh(data, True)
    found = fresh(dataclasses.replace(data, bad_share=0.5), True).findings
    assert found["beyond_share"] == [0.2]
    assert found["hidden_share"] == [pytest.approx(0.7)]
    assert found["not_returned_share"] == [15 / 16] and found["incomplete_share"] == [0]
    assert "20.00% of the points lie beyond data.elevation" in caplog.text
    bundle = dict(data.preparation)
    assert Ranges.of(1, **bundle).read(tmp_path / "0.bin").values.shape == (2, 8, 1)
    with pytest.raises(Unreadable, match="the bundle does not say of which rows"):
        Ranges.of(1, far=80.0).read(tmp_path / "0.bin")
    for up in ((3.0,), (3.0, -25.0), (-100.0, 0.0)):
        with pytest.raises(BadInput, match=r"data\.elevation=.*write \(low, high\)"):
            Ranges(elevation=up)


def test_rolling_is_a_turn_of_the_sensor():
    ranges = dataclasses.replace(SMALL, augment=RangeAugment(roll=True))
    plain = fresh(ranges, True).take(np.arange(4))
    one = next(batches(ranges, True, 16, seed=0))
    rows = {np.sort(x.ravel()).tobytes() for x in one["x"]}
    assert {np.sort(x.ravel()).tobytes() for x in plain["x"]} <= rows


def test_bad_sweeps_and_fields_are_named(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 8)))
    np.save(tmp_path / "b.npy", np.zeros((16, 64)))
    np.savez(tmp_path / "c.npz", x=np.ones((16, 64)), y=np.ones(3))
    ranges = dataclasses.replace(
        SMALL, name="folder", data_dir=str(tmp_path), holdout=0.0
    )
    with pytest.raises(BadInput, match="3 of 3 files unreadable") as caught:
        fresh(ranges, True)
    text = str(caught.value)
    assert "a.npy: is [4, 8, 1], where data.rows" in text
    assert "b.npy: no beam returned" in text and "no array 'range'" in text
    for fields, message in (
        ({"name": "kitti"}, "data.name='kitti': write one of scenes, driving"),
        ({"rows": 0}, "data.rows=0"),
        ({"far": 0.0}, "data.far=0.0"),
        ({"channels": 2}, "data.channels=2: scenes has 1"),
    ):
        with pytest.raises(BadInput, match=message):
            dataclasses.replace(SMALL, **fields)
