"""Labels and boxes to codes and back."""

import numpy as np
import pytest

from vqdit.tokenizer import Boxes, Labels


def test_every_label_comes_back():
    labels = Labels(10)
    y = np.arange(-1, 10)
    codes = labels.encode(y)
    assert codes.shape == (11, 1) and codes.dtype == np.int32
    assert len(np.unique(codes)) == labels.code_count == 11
    np.testing.assert_array_equal(labels.decode(codes), y)
    for wrong in (-2, 10):
        with pytest.raises(ValueError, match="write 0 to 9, or -1"):
            labels.encode(np.array([wrong]))
    with pytest.raises(ValueError, match="code 11 is none of the 11"):
        labels.decode(np.array([[11]]))


@pytest.mark.parametrize("bins", [1, 7, 1000])
def test_a_box_comes_back_at_most_half_a_bin_off(bins):
    boxes = Boxes(count=50, bins=bins, classes=4)
    draw = np.random.default_rng(0)
    x = draw.uniform(0, 1, (3, 50, 4)).astype(np.float32)
    x[0, :2] = [[0, 1, 0, 1], [1, 1, 1, 1]]
    x[1, :4, 0] = np.arange(4) / 7  # on the seams
    labels = draw.integers(0, 4, (3, 50))
    codes = boxes.encode(x, labels)
    assert codes.shape == (3, boxes.length) == (3, 250) and codes.dtype == np.int32
    assert codes.min() >= 0 and codes.max() < boxes.padding
    again, known = boxes.decode(codes)
    np.testing.assert_array_equal(known, labels)
    assert np.abs(again - x).max() <= 0.5 / bins + 1e-6
    np.testing.assert_array_equal(boxes.encode(again, known), codes)


def test_absent_boxes_stay_absent():
    boxes = Boxes(count=3, bins=10, classes=2)
    x = np.array([[[0.1, 0.2, 0.3, 0.4], [np.nan, 7, -1, 0]]], np.float32)
    codes = boxes.encode(x, np.array([[1, -1]]))
    assert codes.tolist() == [[1, 2, 3, 4, 11, *[12] * 10]]
    again, labels = boxes.decode(codes)
    assert labels.tolist() == [[1, -1, -1]] and (again[0, 1:] == 0).all()
    np.testing.assert_allclose(again[0, 0], [0.15, 0.25, 0.35, 0.45], rtol=1e-6)


def test_codes_out_of_place_are_an_absent_box():
    boxes = Boxes(count=4, bins=10, classes=2)
    whole, edge, label = [1, 2, 3, 4, 10], [1, 2, 11, 4, 10], [1, 2, 3, 4, 5]
    half = [1, 2, 3, 4, boxes.padding]
    codes = np.array([whole + edge + label + half])
    assert boxes.decode(codes)[1].tolist() == [[0, -1, -1, -1]]


@pytest.mark.parametrize(
    "box,label,message",
    [
        ([0, 0, 1, 1.5], 0, "coordinate 1.5; write fractions"),
        ([0, 0, 1, np.nan], 0, "coordinate nan"),
        ([0, 0, 1, 1], 2, "label 2: write 0 to 1"),
    ],
)
def test_what_is_no_box_is_refused(box, label, message):
    with pytest.raises(ValueError, match=message):
        Boxes(2, 10, 2).encode(np.array([[box]], np.float32), np.array([[label]]))


def test_too_many_boxes_and_impossible_fields_are_refused():
    with pytest.raises(ValueError, match="3 boxes, and there is room for 2"):
        Boxes(2, 10).encode(np.zeros((1, 3, 4), np.float32), np.zeros((1, 3), int))
    for fields in ({"count": 0}, {"bins": 0}, {"classes": 0}):
        with pytest.raises(ValueError, match=f"Boxes.{[*fields][0]}=0"):
            Boxes(**({"count": 1, "bins": 1} | fields))
    with pytest.raises(ValueError, match="Labels.classes=0"):
        Labels(0)
