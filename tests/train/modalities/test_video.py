import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.train.fresh import batches, fresh
from train.errors import BadInput
from train.modalities.augment import ImageAugment
from train.modalities.video import Video


def frames(n: int, side: int = 16, first: int = 0) -> list[Image.Image]:
    """Grey pictures that tell their own number, ten grey levels apart."""
    return [Image.new("L", (side, side), 10 * (first + i)) for i in range(n)]


def gif(path, n: int, duration: int = 100, first: int = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    head, *rest = frames(n, first=first)
    head.save(path, save_all=True, append_images=rest, duration=duration)


def numbers(clips: np.ndarray) -> np.ndarray:
    """The frames' numbers, of clips of one grey level a frame."""
    assert (clips == clips[:, :, :1, :1]).all()
    return np.round(clips[:, :, 0, 0, 0] / 10).astype(int)


@pytest.fixture
def folder(tmp_path):
    for part, n in (("train", 4), ("test", 2)):
        for i in range(n):
            gif(tmp_path / part / "ab"[i % 2] / f"{i}.gif", 9 + i)
    return Video(
        name="folder", data_dir=str(tmp_path), frames=4, size=16, threads=2, holdout=0.3
    )


def test_generated_clips_are_functions_of_the_index():
    video = Video(frames=5, size=16, examples=40, boxes=True)
    train, test = fresh(video, True), fresh(video, False)
    assert (len(train), len(test)) == (40, 4)
    found = train.take(np.array([3, 17, 3]))
    assert found["x"].shape == (3, *video.shape) and found["x"].dtype == np.uint8
    assert found["boxes"].shape == (3, 5, 2, 4)
    np.testing.assert_array_equal(found["x"][0], found["x"][2])
    np.testing.assert_array_equal(
        found["x"][1], fresh(video, True).take(np.array([17]))["x"][0]
    )
    assert (found["x"][0] != test.take(np.array([3]))["x"][0]).any()
    other = fresh(dataclasses.replace(video, seed=1), True)
    assert (found["x"][0] != other.take(np.array([3]))["x"][0]).any()
    one = fresh(Video(frames=2, size=16, digits=1, examples=300), True)
    label = one.take(np.arange(300))["label"]
    assert one.classes == 10 and set(label) == set(range(10))


def test_pace_moves_digits_further_and_boxes_go_with_their_frames():
    video = Video(
        frames=6, size=32, boxes=True, examples=20, digits=1,
        augment=ImageAugment(pace=1.0, flip=True),
    )  # fmt: skip
    part = fresh(video, True)
    rows = np.arange(20)
    plain, fast = part.take(rows), part.augmented(rows, np.zeros(20, int), 0)
    way = [
        abs(np.diff(b["boxes"][:, :, 0, :2], axis=1)).sum((1, 2)) for b in (plain, fast)
    ]
    ratio = way[1] / way[0]
    assert ratio.min() < 0.8 and ratio.max() > 1.3
    for clip, boxes in zip(fast["x"], fast["boxes"], strict=True):
        columns = np.flatnonzero(clip[2, ..., 0].any(0))
        ink = np.array([columns[0], columns[-1] + 1]) / 32
        np.testing.assert_allclose(ink, boxes[2, 0, [0, 2]], atol=1e-6)


def test_a_folder_of_gifs_is_cut_into_clips_with_classes(folder):
    train, test = fresh(folder, True), fresh(folder, False)
    assert train.class_names == ("a", "b")
    found = train.take(np.arange(len(train)))
    # 9, 10, 11 and 12 frames hold 2, 2, 2 and 3 clips of 4; a: 0 and 2, b: 1 and 3.
    assert found["label"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(
        numbers(found["x"]) % 4, np.tile(np.arange(4), (9, 1))
    )
    assert len(test) == 4
    dense = fresh(dataclasses.replace(folder, stride=1), True)
    assert len(dense) == 6 + 7 + 8 + 9


def test_frame_rates_become_the_one_asked_for(folder, tmp_path):
    gif(tmp_path / "c" / "slow.gif", 4, duration=200)  # 5 a second
    gif(tmp_path / "c" / "fast.gif", 16, duration=50)  # 20 a second
    video = dataclasses.replace(
        folder, data_dir=str(tmp_path / "c"), rate=10.0, holdout=0, frames=8
    )
    found = numbers(fresh(video, True).take(np.arange(2))["x"])
    np.testing.assert_array_equal(found[0], np.arange(0, 16, 2))  # fast.gif
    np.testing.assert_array_equal(found[1], [0, 1, 1, 2, 2, 3, 3, 3])


def test_pace_takes_other_frames_of_a_file_in_their_order(folder):
    video = dataclasses.replace(folder, augment=ImageAugment(pace=1.0))
    part = fresh(video, True)
    n = len(part)
    seen = set()
    for epoch in range(12):
        rows = numbers(part.augmented(np.arange(n), np.full(n, epoch), 0)["x"])
        steps = np.diff(rows, axis=1)
        assert steps.min() >= 0 and steps.max() <= 2 and rows.max() <= 11
        seen |= set(np.unique(steps))
        again = part.augmented(np.array([4]), np.array([epoch]), 0)["x"]
        np.testing.assert_array_equal(numbers(again)[0], rows[4])
    assert seen == {0, 1, 2}


def test_folders_of_frames_are_clips_too(tmp_path):
    for clip in ("x/one", "y/two"):
        (tmp_path / clip).mkdir(parents=True)
        for i, frame in enumerate(frames(5, first=len(clip) - 5)):
            frame.save(tmp_path / clip / f"{i:03}.png")
    video = Video(
        name="folder", data_dir=str(tmp_path), frames=5, size=16, holdout=0, channels=3
    )
    found = fresh(video, True).take(np.arange(2))
    assert found["label"].tolist() == [0, 1] and found["x"].shape[-1] == 3
    np.testing.assert_array_equal(numbers(found["x"])[0], np.arange(5))
    with pytest.raises(BadInput, match="states no frame rate"):
        fresh(dataclasses.replace(video, rate=5.0), True)


def test_video_files_are_read_with_their_rate(tmp_path):
    iio = pytest.importorskip("imageio.v3")
    pytest.importorskip("av")
    stack = np.stack([np.full((16, 16, 3), 20 * i, np.uint8) for i in range(10)])
    path = tmp_path / "a.mp4"
    iio.imwrite(path, stack, fps=10, plugin="pyav", codec="libx264")
    (tmp_path / "b.mp4").write_bytes(path.read_bytes())
    video = Video(name="folder", data_dir=str(tmp_path), frames=5, size=16, holdout=0)
    found = fresh(dataclasses.replace(video, rate=5.0), True).take(np.arange(2))
    level = found["x"][0, :, 8, 8, 0].astype(int)
    np.testing.assert_allclose(level, 40 * np.arange(5), atol=4)
    (tmp_path / "b.mp4").write_text("no video")
    with pytest.raises(BadInput, match="b.mp4: not a whole video"):
        fresh(video, True)


def test_files_that_cannot_be_used_are_named_skipped_counted_and_refused(
    folder, tmp_path, caplog
):
    part = tmp_path / "train" / "a"
    gif(part / "short.gif", 2)
    (part / "text.gif").write_text("no picture")
    with pytest.raises(BadInput, match="2 of 6 files unreadable.*2 frames, fewer"):
        fresh(folder, True)
    spared = dataclasses.replace(folder, bad_share=0.5)
    part = fresh(spared, True)
    assert len(part.source) == 4
    assert [file for file, _ in part.refused] == ["a/short.gif", "a/text.gif"]
    assert "skipped 2 of 6" in caplog.text and "a/text.gif" in caplog.text


def test_video_goes_through_the_pipeline():
    video = Video(frames=3, size=16, examples=20, threads=0)
    one = next(batches(video, True, 4, seed=0, start=3))
    assert one["x"].shape == (4, *video.shape) and one["label"].dtype == np.int32


@pytest.mark.parametrize(
    "fields,message",
    [
        (
            {"name": "mnist"},
            "data.name='mnist': write one of moving_digits",
        ),
        ({"frames": 0}, "data.frames=0: write at least 1"),
        ({"channels": 2}, "data.channels=2"),
        ({"name": "folder", "boxes": True}, "data.boxes=True"),
        ({"holdout": 1.0}, "data.holdout=1.0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(BadInput, match=message):
        Video(**fields)


def test_folders_without_clips_are_refused(tmp_path):
    video = Video(name="folder", data_dir=str(tmp_path))
    with pytest.raises(BadInput, match="holds nothing to read"):
        fresh(video, True)
    for folder, message in (("", "data_dir is empty"), ("/none", "no such folder")):
        with pytest.raises(BadInput, match=message):
            fresh(dataclasses.replace(video, data_dir=folder), True)
    gif(tmp_path / "a" / "1.gif", 20)
    gif(tmp_path / "2.gif", 20)
    with pytest.raises(BadInput, match="2.gif lies beside class folders"):
        fresh(video, True)
    with pytest.raises(BadInput, match="is a file; write its folder"):
        fresh(dataclasses.replace(video, data_dir=str(tmp_path / "2.gif")), True)


def test_the_two_parts_differ_in_more_than_their_digits(monkeypatch):
    same = (np.full((5, 6, 6), 200, np.uint8), np.zeros(5, int))
    monkeypatch.setattr("train.sources.moving.digit_pictures", lambda *_: same)
    video = Video(frames=4, size=16, examples=40)
    rows = np.arange(4)
    train, test = (fresh(video, part).take(rows)["x"] for part in (True, False))
    assert (train != test).any((1, 2, 3, 4)).all()
