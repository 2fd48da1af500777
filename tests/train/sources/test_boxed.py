"""Boxes of pictures in a folder of one's own, from a manifest."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.train.fresh import forget, fresh
from train.config import Run, StageTwo, Stream
from train.errors import BadInput
from train.modalities import ImageAugment, Images, Video
from train.objectives.latents import encode_streams
from train.objectives.streams import prepare
from train.pipeline import JointExamples
from train.sources import open_source
from vqdit.diffusion import Masking
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Boxes

# Height, width, and the white rectangle on black: left, top, right, bottom.
PICTURES = {
    "square.png": (32, 32, (4, 8, 20, 16)),
    "wide.png": (32, 64, (28, 6, 44, 26)),
    "tall.png": (64, 32, (2, 24, 12, 40)),
}


def pictures(root, more=()):
    """A folder of these, the last line's picture without boxes that anyone knows."""
    lines = []
    for name, (height, width, (x0, y0, x1, y1)) in PICTURES.items():
        pixels = np.zeros((height, width), np.uint8)
        pixels[y0:y1, x0:x1] = 255
        Image.fromarray(pixels).save(root / name)
        edges = [x0 / width, y0 / height, x1 / width, y1 / height]
        lines.append({"file": name, "boxes": [[*edges, 1]]})
    for name, boxes in (("empty.png", []), ("unsaid.png", None)):
        Image.new("L", (32, 32)).save(root / name)
        lines.append({"file": name, "boxes": boxes})
    lines += more
    (root / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    how = {"size": 32, "channels": 1, "holdout": 0.0, "threads": 0}
    return Images(name="folder", data_dir=str(root), **how)


def white(picture):
    """Edges of what is brighter than half, in pixels."""
    rows, columns = np.nonzero(picture[..., 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"crop": "random"},
        {"crop": "random", "flip": True},
        {"augment": ImageAugment(shift=0.1, flip=True)},
    ],
    ids=str,
)
def test_a_box_goes_where_its_picture_goes(tmp_path, how):
    examples = fresh(dataclasses.replace(pictures(tmp_path), **how), True)
    rows, seen = np.arange(3), set()
    for epoch in range(8):
        batch = examples.augmented(rows, np.full(3, epoch), 0)
        for picture, (box,) in zip(batch["x"], batch["boxes"], strict=True):
            assert box[4] == 1
            assert abs(white(picture) - 32 * box[:4]).max() <= 1
            seen.add(tuple(box.round(3)))
    assert len(seen) > 3 or not how


def test_what_nobody_says_of_boxes_is_unknown_and_none_is_none(tmp_path):
    data = pictures(tmp_path)
    of = {"image": data, "boxes": data}
    joint = JointExamples(of, {"boxes": Boxes(2, 32, 2)}, True, "index")
    batch = joint.take(np.arange(5))
    assert batch["known"]["boxes"].tolist() == [1, 1, 1, 1, 0]
    found = Boxes(2, 32, 2).decode(batch["streams"]["boxes"][..., 0])
    assert (found[:, 0, 4] >= 0).tolist() == [True, True, True, False, False]


def test_a_box_that_is_cut_away_is_absent(tmp_path):
    """Also where it ends at the very cut, as far as its numbers can say."""
    edges = [[0.0, 0.0, 10 / 60, 1.0, 0], [0.1, 0.0, 0.5, 0.5, 0]]
    Image.new("L", (60, 40)).save(tmp_path / "a.png")
    data = pictures(tmp_path, [{"file": "a.png", "boxes": edges}])
    boxes = open_source(data, True)[5].more["boxes"]
    expected = [[0, 0, 0, 0, -1], [0, 0, 0.5, 0.5, 0]]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)


def test_a_box_that_is_moved_away_is_absent(tmp_path):
    data = dataclasses.replace(pictures(tmp_path), augment=ImageAugment(shift=0.6))
    examples, found = fresh(data, True), set()
    for epoch in range(40):
        batch = examples.augmented(np.arange(5), np.full(5, epoch), 0)
        for picture, (box,) in zip(batch["x"][:3], batch["boxes"][:3], strict=True):
            found.add(bool(box[4] == 1))
            if (picture > 127).any():
                assert box[4] == 1
            else:  # or so little is left of it that no pixel shows it
                assert box[4] == -1 or 0 < (box[2:4] - box[:2]).min() < 1 / 32
        assert batch["boxes"][3, 0, 4] == -1 and np.isnan(batch["boxes"][4]).all()
    assert found == {True, False}


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.1, 0.1, 0.5, 0.5]], r"box \[0.1.*write \[x0, y0, x1, y1, class\]"),
        ([[0.6, 0.1, 0.5, 0.5, 0]], "x0 below x1"),
        ([[10, 10, 50, 50, 0]], "in shares of the picture's sides"),
        ([[0.1, 0.1, 0.5, 0.5, "cat"]], "the class a number"),
        ([[0.1, 0.1, 0.5, 0.5, -1]], "a number from 0"),
        ({"x0": 1}, "write"),
    ],
)
def test_what_is_no_box_is_named_by_its_line(tmp_path, boxes, message):
    data = pictures(tmp_path, [{"file": "empty.png", "boxes": boxes}])
    with pytest.raises(BadInput, match=f"list.jsonl line 6: .*{message}"):
        open_source(data, True)


def test_a_cache_of_boxes_is_refused_where_the_list_says_otherwise(tmp_path):
    data, table = pictures(tmp_path), tmp_path / "list.jsonl"
    experiment = StageTwo(
        name="boxes",
        data=data,
        model=DiT(width=8, depth=1, block=Block(2)),
        streams=dict.fromkeys("ab", Stream(Masking(), Boxes(2, 32, 2))),
        run=Run(steps=1, batch=2),
    )
    encode_streams(experiment, tmp_path / "cache")
    cached = dataclasses.replace(experiment, cache=str(tmp_path / "cache"))
    prepare(cached)
    mirrored = dataclasses.replace(data, flip=True)
    for moved in (cached, experiment):
        moved = dataclasses.replace(moved, data=mirrored)
        with pytest.raises(BadInput, match="boxes move .* write data.flip=False"):
            if moved.cache:
                prepare(moved)
            encode_streams(moved, tmp_path / "other")
    clips = Video("moving_digits", "", size=16, channels=1, frames=3, boxes=True)
    clips = dataclasses.replace(clips, augment=ImageAugment(pace=0.5))
    streams = dict.fromkeys("ab", Stream(Masking(), Boxes(2, 8, 10, 3)))
    moved = dataclasses.replace(experiment, data=clips, streams=streams)
    with pytest.raises(BadInput, match="boxes move .* write data.augment=None"):
        encode_streams(moved, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    table.write_text(table.read_text().replace('"boxes": []', '"boxes": [[0,0,1,1,0]]'))
    forget()
    with pytest.raises(BadInput, match="made of other captions or boxes"):
        prepare(cached)
