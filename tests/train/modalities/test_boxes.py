"""Boxes in a CSV, and back."""

import numpy as np
import pytest

from train.errors import Unreadable
from train.modalities.boxes import box_rows, boxes_of
from train.modalities.rows import csv_of

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
        [b.tolist() for b in f if b[4] >= 0] for f in x.reshape(-1, 2, 5)
    ]
    assert there(np.stack(again)) == there(boxes)
    assert np.stack(again).shape[:-2] == lead


def test_one_sample_needs_no_more_than_its_boxes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x0,y0,x1,y1,class\n0,0,0.5,1,2\n")
    assert boxes_of(path, 0)[0].tolist() == [[0, 0, 0.5, 1, 2]]


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
    ],
)
def test_what_is_no_table_of_boxes_is_refused(text, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(Unreadable, match=message):
        boxes_of(path, 2)
