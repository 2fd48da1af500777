import dataclasses

import numpy as np
import pytest

from tests.train.fresh import batches, fresh
from train.errors import BadInput
from train.modalities.augment import RangeAugment
from train.modalities.range import Ranges

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
        ({"name": "kitti"}, "data.name='kitti': write one of scenes, folder"),
        ({"rows": 0}, "data.rows=0"),
        ({"far": 0.0}, "data.far=0.0"),
        ({"channels": 2}, "data.channels=2: scenes have 1"),
    ):
        with pytest.raises(BadInput, match=message):
            dataclasses.replace(SMALL, **fields)
