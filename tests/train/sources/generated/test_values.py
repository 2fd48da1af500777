"""Generated data are those that results were measured on: a constant, a draw or the
order of draws that changes makes other signals of a seed."""

import numpy as np
import pytest

from tests.train.fresh import fresh_source
from train.modalities import Audio, Images, Ranges, Series, Video, Volumes

SCAN = {"size": (8, 10, 12), "examples": 160}
CLIPS = {"size": 32, "frames": 9, "examples": 200}
SENSES = {
    "camera": lambda name: Images(name, size=32, channels=3, examples=160),
    "lidar": lambda name: Ranges(name, rows=8, azimuth=64, examples=160),
    "way": lambda name: Series(name, length=16, channels=4, examples=160),
}
DATA = {
    "tones": Audio(length=256),
    "series": Series(length=96, channels=2, examples=160, cleaning=None),
    "strokes": Series("digit_strokes", length=24, examples=160, cleaning=None),
    "phantoms": Volumes(**SCAN),
    "patients": Volumes("patients", **SCAN),
    "planted": Volumes("planted_patients", **SCAN),
    "streets": Ranges(rows=8, azimuth=64, examples=160),
    "moving": Video("moving_digits", **CLIPS),
    "actions": Video("moving_actions", digits=1, **CLIPS),
    "events": Video("moving_events", digits=1, **CLIPS),
    **{f"driving {name}": make("driving") for name, make in SENSES.items()},
    **{f"faults {name}": make("driving_faults") for name, make in SENSES.items()},
}


# Of the training part and of the held-out one: (values, what comes with them, labels).
FIGURES = {
    "tones": ((-0.0649, 0.0, 0.3446), (0.0135, 0.0, 0.3446)),
    "series": ((0.2047, -0.0188, -0.253), (0.8272, -0.0276, -0.253)),
    "strokes": ((-0.1371, 0.001, 1.0929), (0.3433, -0.052, 1.7914)),
    "phantoms": ((0.1487, 0.1362, -0.253), (-0.2081, -0.2399, -0.253)),
    "patients": ((0.0769, 2.3222, 1.0672), (-0.0191, -2.539, 0.8484)),
    "planted": ((0.0769, 2.3222, 1.0672), (0.2206, -8.0051, 0.6738)),
    "streets": ((-13.7943, 0.0, -0.253), (3.9407, 0.0, -0.253)),
    "moving": ((6.4293, -0.1999, -0.253), (63.2467, -0.3582, -0.253)),
    "actions": ((-18.0472, -0.3731, 2.7365), (-34.1914, -0.2924, 0.3222)),
    "events": ((-31.3943, -0.3724, -0.4679), (-2.2733, 0.0006, -0.4679)),
    "driving camera": ((-4.879, 0.0497, -0.253), (7.9162, 0.1995, -0.253)),
    "driving lidar": ((6.6231, 0.0, -0.253), (-4.9552, 0.0, -0.253)),
    "driving way": ((-0.0353, -0.0875, -0.253), (0.6266, 0.0829, -0.253)),
    "faults camera": ((-4.879, 0.0497, 0.0), (9.1386, 0.1346, 0.0928)),
    "faults lidar": ((6.6231, 0.0, 0.0), (-5.1602, 0.0, 0.0928)),
    "faults way": ((-0.0353, -0.0875, 0.0), (1.0703, 0.6672, 0.0928)),
}


def figure(arrays) -> float:
    """One number that any change of a value, or of its place, changes."""
    x = np.concatenate([np.ravel(np.nan_to_num(each, nan=-2.0)) for each in arrays])
    return float(x.astype(np.float64) @ np.cos(np.arange(x.size)) / x.size**0.5)


def told(source) -> list[float]:
    values, beside, labels = [], [], []
    for record in source.take(range(20)):
        labels.append(record.label)
        if "at" in record.more:
            clip, boxes = record.more["at"](np.arange(9.0))
            values.append(clip)
            beside.append(boxes)
        else:
            values.append(record.values)
        beside += [record.more[n] for n in ("truth", "boxes") if n in record.more]
        for entry in record.more.get("row", {}).values():
            words = isinstance(entry, str)
            beside.append(sum(map(ord, entry)) if words else entry or 0.0)
    return [figure(each) if each else 0.0 for each in (values, beside, labels)]


@pytest.mark.parametrize("name", DATA)
def test_records_of_a_seed_stay_the_same(name):
    for train, figures in zip((True, False), FIGURES[name], strict=True):
        found = told(fresh_source(DATA[name], train))
        np.testing.assert_allclose(found, figures, atol=2e-4)
