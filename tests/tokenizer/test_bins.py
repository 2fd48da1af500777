"""Labels and boxes to codes and back."""

import numpy as np
import pytest

from vqdit.tokenizer import Boxes, Bytes, Labels


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
    for wrong in (["1"], [None, "a"], [[1]]):
        with pytest.raises(ValueError, match="labels are .*; write numbers, one an"):
            labels.encode(wrong)
    for code in (11, -1):
        with pytest.raises(ValueError, match=f"code {code} is none of the 11"):
            labels.decode(np.array([[code]]))
    assert labels.known([3, 0, -1, None]).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(labels.encode([None, 2]), labels.encode([-1, 2]))
    assert Labels(200).encode(np.array([-1, 5], np.int8)).tolist() == [[200], [5]]
    assert labels.said([3, -1]) == ["3", "-1"]
    assert (labels.source, labels.length, Boxes(1, 2).source) == ("label", 1, "boxes")
    assert labels.stream("codes") == {"grid": (1,), "vocab": 11, "books": 1}
    assert Boxes(1, 2).wide and not labels.wide


@pytest.mark.parametrize("bins", [1, 7, 1000])
@pytest.mark.parametrize("frames", [0, 2])
def test_a_box_comes_back_at_most_half_a_bin_off(bins, frames):
    boxes = Boxes(count=50, bins=bins, classes=4, frames=frames)
    draw, lead = np.random.default_rng(0), (3, 2) if frames else (3,)
    x = draw.uniform(0, 1, (*lead, 50, 4)).astype(np.float32)
    x[0].reshape(-1, 4)[:2] = [[0, 1, 0, 1], [1, 1, 1, 1]]
    x[1].reshape(-1, 4)[:4, 0] = np.arange(4) / 7  # on the seams
    x = np.concatenate([x, draw.integers(0, 4, (*lead, 50, 1))], -1, dtype=np.float32)
    codes = boxes.encode(x)
    grid = (*lead[1:], 250)
    assert codes.shape == (3, *grid) and codes.dtype == np.int32
    assert boxes.stream("codes")["grid"] == grid and boxes.length == np.prod(grid)
    assert codes.min() >= 0 and codes.max() < boxes.padding
    again = boxes.decode(codes)
    np.testing.assert_array_equal(again[..., 4], x[..., 4])
    assert np.abs(again - x).max() <= 0.5 / bins + 1e-6
    np.testing.assert_array_equal(boxes.encode(again), codes)
    assert boxes.known(x).all()


def test_absent_boxes_stay_absent_and_what_nobody_looked_at_is_not_known():
    boxes = Boxes(count=3, bins=10, classes=2)
    x = np.array([[[0.1, 0.2, 0.3, 0.4, 1], [np.nan, 7, -1, 0, -1]]], np.float32)
    codes = boxes.encode(x)
    assert codes.tolist() == [[1, 2, 3, 4, 11, *[12] * 10]]
    again = boxes.decode(codes)
    assert again[0, :, 4].tolist() == [1, -1, -1] and (again[0, 1:, :4] == 0).all()
    np.testing.assert_allclose(again[0, 0, :4], [0.15, 0.25, 0.35, 0.45], rtol=1e-6)
    empty, nan = np.zeros((0, 5)), np.full((1, 5), np.nan)
    several = [x[0], None, empty, nan]  # of each example as many as it has
    assert boxes.known(several).tolist() == [True, False, True, False]
    codes = boxes.encode(several)
    assert codes[0].tolist() == boxes.encode(x)[0].tolist()
    assert (codes[2] == boxes.padding).all()
    assert boxes.said(boxes.decode(codes[:1])) == ["1: 0.150 0.250 0.350 0.450"]
    clip = Boxes(1, 10, 2, frames=2)
    where = clip.decode(clip.encode([[x[0, :1], x[0, 1:]]]))
    assert clip.said(where) == ["1: 0.150 0.250 0.350 0.450 | "]


@pytest.mark.parametrize("frames", [0, 3])
def test_boxes_that_are_given_whole_stay_as_they_were_given(frames):
    boxes = Boxes(2, bins=8, classes=3, frames=frames)
    lead = (frames,) if frames else ()
    given = np.tile(np.float32([0.1, 0.2, 0.3, 0.9, 1]), (2, *lead, 2, 1))
    given[1] = (0, 0, 0, 0, -1)  # an example without boxes
    drawn = boxes.decode(boxes.encode(given))
    assert np.abs(drawn - given)[0].max() > 0.01
    known = np.ones((2, *boxes.grid), bool)
    known[0].reshape(-1)[3] = False  # one edge of the first box was not given
    kept = boxes.kept(drawn, given, known).reshape(2, -1, 5)
    np.testing.assert_array_equal(kept[0, 1:], given[0].reshape(-1, 5)[1:])
    np.testing.assert_array_equal(kept[0, 0], drawn[0].reshape(-1, 5)[0])
    np.testing.assert_array_equal(kept[1], given[1].reshape(-1, 5))
    half = boxes.kept(drawn, given, np.array([False, True]))
    np.testing.assert_array_equal(half, np.stack([drawn[0], given[1]]))
    if frames:
        first = boxes.kept(drawn, given, np.array([[1, 0, 0], [0, 0, 0]]) > 0)
        np.testing.assert_array_equal(first[0, 0], given[0, 0])
        np.testing.assert_array_equal(first[:, 1:], drawn[:, 1:])


def test_codewords_of_edges_are_in_their_order():
    boxes = Boxes(1, bins=6, classes=3)
    (words,) = boxes.codewords()
    apart = np.linalg.norm(words[:, None] - words[None], axis=-1)
    assert words.shape[0] == boxes.code_count == 10
    assert (np.diff(apart[0, :6]) > 0).all() and (np.diff(apart[5, 5::-1]) > 0).all()
    assert np.ptp(apart[6:9, 6:9][~np.eye(3, dtype=bool)]) < 1e-6  # classes alike
    for symbols in (Labels(4), Bytes(3)):
        with pytest.raises(ValueError, match="are symbols, none nearer than others"):
            symbols.codewords()


def test_codes_out_of_place_are_an_absent_box():
    boxes = Boxes(count=4, bins=10, classes=2)
    whole, edge, label = [1, 2, 3, 4, 10], [1, 2, 11, 4, 10], [1, 2, 3, 4, 5]
    half = [1, 2, 3, 4, boxes.padding]
    codes = np.array([whole + edge + label + half])
    assert boxes.decode(codes)[0, :, 4].tolist() == [0, -1, -1, -1]


@pytest.mark.parametrize(
    "box,message",
    [
        ([0, 0, 1, 1.5, 0], "coordinate 1.5; write fractions"),
        ([0, 0, 1, np.nan, 0], "coordinate nan"),
        ([0, 0, 1, 1, 2], "class 2: write 0 to 1"),
        ([0, 0, 1, 1, 0.5], "class 0.5: write 0 to 1"),
        ([0, 0, 1, 1], r"are \(1, 4\); write \(k, 5\): x0, y0, x1, y1, class"),
    ],
)
def test_what_is_no_box_is_refused(box, message):
    with pytest.raises(ValueError, match=message):
        Boxes(2, 10, 2).encode([np.array([box], np.float32)])


def test_too_many_boxes_and_impossible_fields_are_refused():
    with pytest.raises(ValueError, match="3 boxes, and there is room for 2"):
        Boxes(2, 10).encode(np.zeros((1, 3, 5), np.float32))
    with pytest.raises(ValueError, match=r"are \(2, 1, 5\); write \(3, k, 5\)"):
        Boxes(2, 10, frames=3).encode(np.zeros((1, 2, 1, 5), np.float32))
    for fields in ({"count": 0}, {"bins": 0}, {"classes": 0}):
        with pytest.raises(ValueError, match=f"Boxes.{[*fields][0]}=0"):
            Boxes(**({"count": 1, "bins": 1} | fields))
    with pytest.raises(ValueError, match="Labels.classes=0"):
        Labels(0)
