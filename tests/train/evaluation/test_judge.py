"""Which judge is trained, on what and for how long."""

import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation import judge
from train.modalities import Audio, Images
from train.objectives.bundles import source
from train.pipeline import open_examples
from vqdit.trained.judge import Judge

DATA = Images(size=4, threads=0)


def test_a_judge_is_of_a_folder_or_trained_where_there_are_classes(monkeypatch):
    opened = lambda *of: ("opened", *of)
    monkeypatch.setattr(judge, "open_judge", opened)
    monkeypatch.setattr(judge, "train_judge", lambda *of: ("trained", *of))
    assert judge.judge_of(DATA, 7, "there") == ("opened", "there", DATA, 7)
    assert judge.judge_of(DATA, 2) == ("trained", DATA, None)
    assert judge.judge_of(DATA, 1, steps=5) == ("trained", DATA, 5)
    assert judge.judge_of(DATA, 1) is None


def test_a_judge_is_trained_on_the_training_part(monkeypatch, capsys):
    """As long as its kind says where nothing else is asked."""
    found, kept = [], Judge(None, {}, (4, 4, 1), {"steps": 3})
    train = lambda *of: found.append(of) or kept
    monkeypatch.setattr(judge, "train_classifier", train)
    made = judge.train_judge(DATA, seed=5)
    judge.train_judge(Images(size=4, threads=2), 7)
    (take, *of), (_, *other) = found
    assert of == [1437, 10, 5, DATA.judged, 0] and other == [1437, 10, 0, 7, 2]
    rows = np.array([3, 40])
    batch, wanted = take(rows), open_examples(DATA, True).take(rows)
    for name in ("x", "label"):
        np.testing.assert_array_equal(batch[name], wanted[name])
    assert made.protocol == {"steps": 3, "data": source(DATA)}
    said = capsys.readouterr().err
    assert "training the judge on the real image of the training part" in said


def test_each_epoch_of_a_judge_is_a_shuffle_without_a_short_batch(monkeypatch):
    monkeypatch.setattr(judge, "BATCH", 4)
    rows = judge._order(10, 3, 5)
    assert len(rows) == 20  # two batches an epoch, of which there are two and a half
    epochs = np.split(rows, [8, 16])
    assert [len(np.unique(each)) for each in epochs] == [8, 8, 4]
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(rows, judge._order(10, 3, 5))
    assert not np.array_equal(rows, judge._order(10, 4, 5))
    assert sorted(judge._order(3, 0, 2)[:3]) == [0, 1, 2]


@pytest.mark.parametrize("labels, low, high", [([-1, 2], -1, 2), ([0, 3], 0, 3)])
def test_labels_beyond_the_classes_of_a_judge_are_refused(labels, low, high):
    with pytest.raises(BadInput, match=f"from {low} to {high}, and .* 3 .*from 0 to 2"):
        judge._checked(np.array(labels), 3)
    assert judge._checked(np.array([0, 2]), 3).dtype == np.int32


def test_a_judge_of_sound_keeps_its_ear(monkeypatch):
    """And learns what that hears; of one class there is nothing to learn."""
    sound, found = Audio(rate=2000, length=1000, threads=0), []

    class Clips:
        classes = 4
        __len__ = lambda self: 9
        take = lambda self, rows: {"x": np.zeros((len(rows), 1000, 1), np.float32)}

    monkeypatch.setattr(judge, "open_examples", lambda data, train: Clips())
    made = Judge(None, {}, (32, 40, 1), {})
    monkeypatch.setattr(judge, "train_classifier", lambda *of: found.append(of) or made)
    assert judge.train_judge(sound).front == sound.front
    ((take, count, classes, *_),) = found
    assert (count, classes) == (9, 4)
    frames = -(-1000 // sound.front.hop)
    assert take(np.arange(2))["x"].shape == (2, frames, sound.front.bands, 1)
    Clips.classes = 1
    with pytest.raises(BadInput, match="data has 1 classes; a judge learns from"):
        judge.train_judge(sound)


@pytest.mark.parametrize(
    "shape, side, reach", [((36, 1, 2), 36, 3), ((24, 30, 1), 24, 2), ((8, 8, 1), 8, 1)]
)
def test_pictures_are_shifted_by_a_twelfth_of_their_side(
    shape, side, reach, monkeypatch
):
    """Series along their time alone."""
    seen, widths = [], judge.widths
    monkeypatch.setattr(judge, "widths", lambda side: seen.append(side) or widths(8))

    def stop(x, corners, reach):
        seen.append((corners, reach))
        raise InterruptedError

    monkeypatch.setattr(judge, "_shifted", stop)
    take = lambda rows: {"x": np.zeros((len(rows), *shape), "u1"), "label": rows % 2}
    with pytest.raises(InterruptedError):
        judge.train_classifier(take, 100, 2, steps=1)
    of_side, (corners, far) = seen
    assert (of_side, far) == (side, reach) and corners.shape == (2, 100)
    assert {*corners[0]} == {*range(2 * reach + 1)}
    still = {reach} if shape[1] == 1 else {*range(2 * reach + 1)}
    assert {*corners[1]} == still
