import numpy as np
import pytest
from scipy import ndimage

from train.errors import BadInput
from train.modalities import Series
from train.sources.generated import strokes as module
from train.sources.generated.strokes import gesture, strokes, thinned, walk

EIGHT = np.ones((3, 3), int)


def bar() -> np.ndarray:
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 13:16] = 255
    return picture


def ring() -> np.ndarray:
    y, x = np.indices((28, 28)) - 13.5
    far = np.hypot(y, x)
    return np.where((far > 6) & (far < 10), 255, 0).astype(np.uint8)


def holes(ink) -> int:
    return ndimage.label(~np.pad(ink, 1))[1]


@pytest.mark.parametrize("picture", [bar(), ring(), np.maximum(bar(), ring())])
def test_thinning_keeps_parts_and_holes_and_leaves_lines(picture):
    ink = picture > 0
    found = thinned(ink)
    assert found.any() and not (found & ~ink).any()
    assert ndimage.label(found, EIGHT)[1] == ndimage.label(ink, EIGHT)[1]
    assert holes(found) == holes(ink)
    # No square of four pixels is left, and nothing that lies along the edge.
    assert not ndimage.binary_erosion(found, np.ones((2, 2))).any()
    assert found.sum() < 0.45 * ink.sum()


def test_a_straight_stroke_is_drawn_at_one_pace_from_its_top():
    found = gesture(bar(), 16)
    across, down, pen = found.T
    np.testing.assert_allclose(across, 14 / 13.5 - 1, atol=1e-6)
    np.testing.assert_allclose(np.diff(down), np.diff(down)[0], rtol=1e-6)
    assert down[0] < -0.6 and down[-1] > 0.5
    assert (pen == 1).all()


def test_a_ring_is_one_stroke_around_the_middle():
    across, down, pen = gesture(ring(), 64).T
    np.testing.assert_allclose(np.hypot(across, down), 8 / 13.5, atol=0.08)
    assert (pen == 1).all()
    turned = np.unwrap(np.arctan2(down, across))
    assert 5.5 < abs(turned[-1] - turned[0]) < 6.5


def test_the_pen_is_up_from_one_stroke_to_the_next():
    lines = np.zeros((9, 9), bool)
    lines[1:8, 1] = lines[1:8, 6] = True
    way, pen = walk(lines)
    # Down the left one; the nearest end of the other is its lower one.
    assert way.tolist() == [[y, 1] for y in range(1, 8)] + [
        [y, 6] for y in range(7, 0, -1)
    ]
    assert np.flatnonzero(~pen).tolist() == [0, 7]
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 5] = picture[4:24, 20] = 255
    across, _, pen = gesture(picture, 200).T
    between = (across > 6 / 13.5 - 1) & (across < 19 / 13.5 - 1)
    assert between.sum() > 10 and (pen[between] == -1).all()
    assert (pen[~between] == 1).mean() > 0.94


def test_a_crossing_is_gone_straight_through():
    lines = np.zeros((9, 9), bool)
    lines[4, :] = lines[:, 4] = True
    way, _ = walk(lines)
    assert way[:9].tolist() == [[y, 4] for y in range(9)]


def test_a_picture_without_ink_is_a_pen_at_rest():
    found = gesture(np.zeros((28, 28), np.uint8), 5)
    assert found.tolist() == [[0.0, 0.0, -1.0]] * 5


def data(**fields) -> Series:
    own = {"name": "mnist_strokes", "length": 16, "examples": 16, "cleaning": None}
    return Series(**own | {"missing": 0.0, "spikes": 0.0} | fields)


@pytest.fixture
def pictures(monkeypatch):
    def found(name, data_dir, train):
        assert name == "mnist"
        each = np.stack([bar(), ring()] * (16 if train else 8))
        return each, np.array([1, 0] * (16 if train else 8))

    monkeypatch.setattr(module, "digit_pictures", found)


def test_gestures_have_the_labels_and_the_parts_of_their_pictures(pictures):
    train, test = strokes(data(), True), strokes(data(), False)
    assert (len(train), len(test)) == (16, 2)
    assert train.labels.tolist() == [1, 0] * 8 and train.classes == 10
    assert [record.label for record in train] == train.labels.tolist()
    assert len(strokes(data(examples=4096), True)) == 32


def test_noise_is_that_of_the_seed_and_of_this_size(pictures):
    one = strokes(data(noise=0.1, length=512), True)[0]
    other = strokes(data(noise=0.1, length=512, seed=1), True)[0]
    gone = one.values - one.more["truth"]
    np.testing.assert_allclose(gone.std(), 0.1, rtol=0.1)
    assert (one.values != other.values).any()
    np.testing.assert_array_equal(one.more["truth"], other.more["truth"])


def test_strokes_have_three_channels():
    with pytest.raises(BadInput, match="channels=2: strokes have 3"):
        data(channels=2)
