"""Boxes in a CSV, and back."""

import numpy as np
import pytest

from train.errors import Unreadable
from train.modalities.boxes import box_rows, boxes_of
from train.modalities.rows import csv_of
from vqdit.tokenizer import Boxes

A, B, NONE = [0.1, 0.2, 0.5, 0.75, 3], [0, 0, 1, 1, 0], [0, 0, 0, 0, -1]


@pytest.mark.parametrize("frames", [0, 2])
def test_boxes_come_back_from_a_table(frames, tmp_path):
    """Of samples and frames without any, too, be they the last."""
    boxes = np.array([[A, B], [NONE, NONE], [NONE, A], [NONE, NONE]], np.float32)
    lead = (2, 2) if frames else (4,)
    boxes = boxes.reshape(*lead, 2, 5)
    path = tmp_path / "a.csv"
    path.write_bytes(csv_of(box_rows(boxes)))
    again = boxes_of(path, frames)
    there = lambda x: [
        [b.tolist() for b in f if b[4] >= 0] for f in x.reshape(-1, *x.shape[-2:])
    ]
    assert list(map(there, again)) == list(map(there, boxes))
    assert (len(again), *again[0].shape[:-2]) == lead
    tokenizer = Boxes(3, 8, 4, frames)
    codes = tokenizer.encode(np.fromiter(again, object, len(again)))
    there = tokenizer.decode(codes)[..., 4] >= 0
    np.testing.assert_array_equal(there.sum(-1), (boxes[..., 4] >= 0).sum(-1))


def test_one_sample_needs_no_more_than_its_boxes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x0,y0,x1,y1,class\n0,0,0.5,1,2\n")
    assert boxes_of(path, 0)[0].tolist() == [[0, 0, 0.5, 1, 2]]


def test_a_sample_of_many_boxes_makes_no_room_in_the_others(tmp_path):
    path = tmp_path / "a.csv"
    rows = [(0, 0)] * 300 + [(i, 0) for i in range(300)] + [(5, 1)]
    lines = (f"{sample},{frame},0,0,1,1,0" for sample, frame in rows)
    path.write_text("\n".join(["sample,frame,x0,y0,x1,y1,class", *lines, ""]))
    found = boxes_of(path, 2)
    assert [len(x[0]) for x in found] == [301] + [1] * 299
    assert sum(x.size for x in found) == 2 * 5 * 600
    assert sum((x[..., 4] == 0).sum() for x in found) == 601


@pytest.mark.parametrize(
    "text, message",
    [
        ("x0,y0,x1,class\n0,0,1,1\n", "no column 'y1'; write sample, frame, class"),
        ("x0,y0,x1,y1,class\n0,a,1,1,0\n", "is no box; write numbers"),
        ("frame,x0,y0,x1,y1,class\n2,0,0,1,1,0\n", "frame 2 of 2"),
        ("sample,x0,y0,x1,y1,class\n90000000,0,0,1,1,0\n", "90000000 of 1 rows"),
        ("sample,x0,y0,x1,y1,class\n-1,0,0,1,1,0\n", "number both from 0"),
        ("x0,y0,x1,y1,class\n0,0,1,1,\n", "is no box; write numbers"),
        ("sample,x0,y0,x1,y1,class\n1e400,0,0,1,1,0\n", "no whole sample and frame"),
        ("sample,x0,y0,x1,y1,class\n0.5,0,0,1,1,0\n", "no whole sample and frame"),
        ("frame,x0,y0,x1,y1,class\n0.5,0,0,1,1,0\n", "no whole sample and frame"),
        ("x0,y0,x1,y1,class\n0.6,0.5,0.2,0.2,0\n", "is no box; write edges in sha"),
        ("x0,y0,x1,y1,class\n0.5,0,0.5,1,0\n", "is no box; write edges"),
        ("x0,y0,x1,y1,class\n10,10,50,50,0\n", "is no box; write edges"),
        ("x0,y0,x1,y1,class\n0,0,1,1,-1\n", "is no box; write .*number from 0"),
        ("x0,y0,x1,y1,class\n0,0,1,1,1.5\n", "is no box; write .*number from 0"),
        ("x0,y0,x1,y1,class\n0,0,1,1,1000000\n", "is no box; write .*from 0 to 999999"),
        ("x0,y0,x1,y1,class\n0,0,1,1,1e300\n", "is no box; write .*from 0 to 999999"),
    ],
)
def test_what_is_no_table_of_boxes_is_refused(text, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(Unreadable, match=message):
        boxes_of(path, 2)
