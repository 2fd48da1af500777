"""Patients: what scan, record and finding are, and which are held out."""

import itertools

import numpy as np
import pytest

from tests.train.fresh import fresh_source
from train.modalities import Volumes
from train.sources.generated import patients
from train.sources.generated.signals import anatomy, rng

PLAIN = Volumes("patients", size=(12, 12, 12), examples=320, noise=0.0)
PLANTED = Volumes("planted_patients", size=(12, 12, 12), examples=320, noise=0.0)


@pytest.fixture(scope="module")
def trained():
    return list(fresh_source(PLAIN, True))


def test_a_finding_shows_in_the_scan_and_in_the_record(trained):
    labels = np.array([record.label for record in trained])
    shares = np.bincount(labels, minlength=5) / len(labels)
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.3, 0, 0], atol=4 * 0.5 / 320**0.5)
    bright = [(record.values > 1.0).mean() for record in trained]
    rows = [record.more["row"] for record in trained]
    marker = np.array([row["marker"] for row in rows], float)
    ldh = np.array([row["ldh"] for row in rows], float)
    mean = lambda x, finding: np.nanmean(np.asarray(x)[labels == finding])
    assert mean(bright, 0) < mean(bright, 1) < mean(bright, 2)
    assert mean(ldh, 0) + 30 < mean(ldh, 1) and mean(marker, 1) + 1 < mean(marker, 2)


def test_entries_are_missing_at_random(trained):
    rows = [list(record.more["row"].values()) for record in trained]
    gone = np.array([[entry is None for entry in row] for row in rows])
    error = (patients.MISSING * (1 - patients.MISSING) / gone.size) ** 0.5
    assert abs(gone.mean() - patients.MISSING) < 4 * error
    assert not gone.all(1).all() and (gone.mean(0) > 0.05).all()


def test_anomalies_are_held_out_alone_and_their_label_says_so(trained):
    planted = list(fresh_source(PLANTED, True))
    for one, other in zip(trained, planted, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.more["row"] == other.more["row"] and one.label == other.label
    plain, held = (list(fresh_source(data, False)) for data in (PLAIN, PLANTED))
    labels = [record.label for record in held]
    assert labels[::4] == [3, 4] * 5 and max(labels[1::4] + labels[2::4]) < 3
    same = [
        np.array_equal(a.values, b.values) for a, b in zip(plain, held, strict=True)
    ]
    assert same == [i % 4 != 0 for i in range(len(held))]


def test_of_one_body_finding_and_sex_no_number_tells_of_another():
    _, body = anatomy((8, 8, 8), rng(0))
    rows = [patients._record(0, body, 0.0, rng(1, i)) for i in range(1000)]
    numbers = ("age", "weight", "haemoglobin", "ldh", "marker")
    women = [row for row in rows if row["sex"] == "f"]
    x = np.array([[row[name] for name in numbers] for row in women], float)
    for i, j in itertools.combinations(range(len(numbers)), 2):
        pair = x[~np.isnan(x[:, [i, j]]).any(1)][:, [i, j]]
        assert abs(np.corrcoef(*pair.T)[0, 1]) < 0.25  # 4 standard errors
