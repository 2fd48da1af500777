import contextlib
import dataclasses
import io
import struct
import types
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.train.fresh import batches, fresh
from train.errors import BadInput, Unreadable
from train.modalities.files import ends
from train.modalities.files import index as indices
from train.modalities.files.clips import (
    even_times,
    pack_times,
    rate_of,
    read_clip,
    times_of,
)
from train.modalities.files.index import Index, Reel, open_clip
from train.modalities.image import Images
from train.modalities.record import Record
from train.modalities.transforms.augment import ImageAugment
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
    assert found["boxes"].shape == (3, 5, 2, 5)
    assert set(found["boxes"][..., 4].ravel()) <= set(range(10))
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


def test_a_folder_of_gifs_is_cut_into_clips_with_classes(folder, caplog):
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
    assert "has no index" not in caplog.text  # of which all is kept


def test_frame_rates_become_the_one_asked_for(folder, tmp_path):
    gif(tmp_path / "c" / "slow.gif", 4, duration=200)  # 5 a second
    gif(tmp_path / "c" / "fast.gif", 16, duration=50)  # 20 a second
    video = dataclasses.replace(
        folder, data_dir=str(tmp_path / "c"), rate=10.0, holdout=0, frames=8
    )
    found = numbers(fresh(video, True).take(np.arange(2))["x"])
    np.testing.assert_array_equal(found[0], np.arange(0, 16, 2))  # fast.gif
    np.testing.assert_array_equal(found[1], [0, 0, 1, 1, 2, 2, 3, 3])
    assert video.load(tmp_path / "c" / "slow.gif").rate == 10
    # Else they are told apart nowhere.
    stored = fresh(dataclasses.replace(video, rate=0.0, frames=4), True)
    assert stored.findings == {"rate": ["1 of 20", "1 of 5"]}
    (line,) = video.changes(stored.findings)
    assert line.startswith("clips are taken frame by frame, 1 of 20, 1 of 5 a second")
    assert fresh(video, True).findings == {} and not [*video.changes({})]


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


@pytest.mark.parametrize(
    "count, start, pace, place, rows",
    [
        (20, 3, 1.0, 0.5, [3, 4, 5, 6, 7]),
        (20, 18, 1.0, 0.5, [15, 16, 17, 18, 19]),  # moved back
        (20, 3, 2.0, 0.9, [3, 5, 7, 9, 11]),
        (20, 16, 2.0, 0.9, [11, 13, 15, 17, 19]),
        (5, 0, 2.0, 0.9, [0, 1, 2, 3, 4]),  # as fast as there are frames
        (20, 4, 0.5, 0.0, [4, 5, 5, 6, 6]),
        (20, 4, 0.5, 0.5, [5, 6, 6, 7, 7]),  # anywhere in what plays as recorded
        (20, 4, 0.5, 1.0, [6, 7, 7, 8, 8]),
        (20, 16, 0.5, 1.0, [17, 18, 18, 19, 19]),  # which ends with the file
        (20, 4, 1.0, 0.7, [4, 5, 6, 7, 8]),
    ],
)
def test_which_frames_a_pace_takes(count, start, pace, place, rows):
    video, at = Video("folder", frames=5), np.arange(5) * pace
    shown = 100 + np.arange(count)  # which of a file's frames are on the screen
    assert (video._moments(shown, start, at, place) - 100).tolist() == rows


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


def mp4(path, levels, times, side=(16, 24), turned=0):
    """Frames of grey levels, the left half of each white, at these milliseconds."""
    base = Fraction(1, 1000)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.height, stream.width = side
        stream.pix_fmt, stream.time_base = "yuv444p", base
        stream.codec_context.time_base = base
        if turned:
            stream.set_display_rotation(turned)
        for level, time in zip(levels, times, strict=True):
            pixels = np.full((*side, 3), level, np.uint8)
            pixels[:, : side[1] // 2] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_video_files_are_read_with_their_rate(tmp_path):
    times = np.round(np.arange(10) * 1000 / 30).astype(int)
    mp4(tmp_path / "a.mp4", range(0, 200, 20), times.tolist(), (16, 16))
    clip = read_clip(tmp_path / "a.mp4")
    assert rate_of(clip.times) == pytest.approx(30, rel=1e-3)
    assert pack_times(clip.times) == b""
    (tmp_path / "b.m4v").write_bytes((tmp_path / "a.mp4").read_bytes())
    video = Video(name="folder", data_dir=str(tmp_path), frames=5, size=16, holdout=0)
    found = fresh(dataclasses.replace(video, rate=15.0), True).take(np.arange(2))
    level = found["x"][0, :, 8, 12, 0].astype(int)
    np.testing.assert_allclose(level, 40 * np.arange(5), atol=4)
    assert video.load(tmp_path / "b.m4v").rate == pytest.approx(30, rel=1e-3)
    (tmp_path / "b.m4v").write_text("no video")
    with pytest.raises(BadInput, match="b.m4v: not a whole video"):
        fresh(video, True)


def test_a_clip_is_upright(tmp_path):
    mp4(tmp_path / "a.mp4", [0] * 4, range(0, 400, 100), turned=-90)
    frames = read_clip(tmp_path / "a.mp4").frames
    assert frames[0].shape == (24, 16, 3)  # turned to the right: left is above
    assert frames[0][4, 8, 0] > 250 and frames[0][20, 8, 0] < 5


@pytest.mark.parametrize(
    "matrix,corners",
    [
        ((1, 0, 0, 1), "abcd"),
        ((-1, 0, 0, 1), "badc"),  # a mirror, as of a camera on the user's side
        ((1, 0, 0, -1), "cdab"),
        ((-1, 0, 0, -1), "dcba"),
        ((0, 1, -1, 0), "cadb"),  # to the right
        ((0, -1, 1, 0), "bdac"),
        ((0, 1, 1, 0), "acbd"),
        ((0, -1, -1, 0), "dbca"),
    ],
)
def test_a_clip_is_turned_and_mirrored_as_its_file_says(tmp_path, matrix, corners):
    """x' = m0 x + m2 y and y' = m1 x + m3 y, x to the right and y down."""
    levels = dict(zip("abcd", (250, 170, 90, 10), strict=True))
    a, b, c, d = (each * 2**16 for each in matrix)
    picture = np.array(list(levels.values())).reshape(2, 2).repeat(8, 0).repeat(12, 1)
    pixels = np.repeat(picture[..., None], 3, -1).astype(np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuv444p"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 2**30])
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    sides = (16, 24) if matrix[0] else (24, 16)
    for frame in (
        read_clip(tmp_path / "a.mp4").frames[0],
        open_clip(tmp_path / "a.mp4").pick([1])[0],
    ):
        assert frame.shape == (*sides, 3)
        found = frame[sides[0] // 4 :: sides[0] // 2, sides[1] // 4 :: sides[1] // 2, 0]
        wanted = [levels[name] for name in corners]
        np.testing.assert_allclose(found.ravel().astype(int), wanted, atol=4)


TIMES = [*range(0, 1000, 100), 1000, 3000, *range(3100, 4000, 100)]


def test_each_frame_of_a_file_has_its_own_time(tmp_path):
    mp4(tmp_path / "a.mp4", [time // 20 for time in TIMES], TIMES, (32, 32))
    video = Video(
        name="folder", data_dir=str(tmp_path), frames=8, size=32, holdout=0, rate=2.0
    )
    seen = fresh(video, True).take(np.arange(1))["x"][0, :, 16, 24, 0]
    np.testing.assert_allclose(
        seen.astype(int), [0, 25, 50, 50, 50, 50, 150, 175], atol=2
    )
    record = video.read(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(video.write(record))
    back = read_clip(tmp_path / "b.mp4")
    np.testing.assert_allclose(back.times[:-1], np.array(TIMES) / 1000, atol=1e-5)


def test_times_are_those_of_the_frames_from_the_first_on():
    """Even ones to what the file rounds to; others with the time of the last."""
    at = 5 + np.arange(4) / 25
    told = np.arange(5) / 25
    for average in (25.0, 0.0, 30.0):  # what the file says of it, if anything
        np.testing.assert_allclose(even_times(at, 0.04, average, 1e-6), told)
    rounded = np.array([0, 0.033, 0.067, 0.1])
    for start, average in ((0, 30.0), (7, 30.0), (7, 0.0)):
        exact = even_times(start + rounded, 0.033, average, 1e-3)
        np.testing.assert_allclose(exact, np.arange(5) / 30, atol=1e-9)
    uneven = np.array([1, 1.1, 1.4])
    for last, end in ((0.5, 0.9), (0.0, 0.6)):  # where nothing says it, their median
        found = even_times(uneven, last, 7.0, 1e-6)
        np.testing.assert_allclose(found, [0, 0.1, 0.4, end])
    # Up to a quarter of a step is taken for rounding, where the file's ticks are so
    # long; more than that is not.
    for much, even in ((0.24, True), (0.26, False)):
        found = even_times(np.array([0, 1 + much, 2, 3]), 1.0, 0.0, 10.0)
        assert (found == np.arange(5)).all() == even


@pytest.mark.parametrize("starts", [[np.nan] * 3, [0, 2, 1], [0, 1, 1], [7.0], []])
def test_frames_without_times_are_even_where_the_file_says_how_many(starts):
    starts = np.array(starts, float)
    assert even_times(starts, 0.0, 0.0, 1e-3) is None
    found = even_times(starts, 0.0, 4.0, 1e-3)
    if len(starts):
        np.testing.assert_array_equal(found, np.arange(len(starts) + 1) / 4)
    else:
        assert found is None


def test_a_gifs_frame_of_next_to_no_time_lasts_a_tenth_of_a_second(tmp_path):
    """As browsers have it; a file that says nothing has no times."""
    path, starts = tmp_path / "a.gif", [np.nan] * 4
    found = times_of(path, starts, [0.01, 0.05, 0.0, 0.02])
    np.testing.assert_allclose(found, [0, 0.1, 0.15, 0.25, 0.27])
    assert times_of(path, starts, [0.0] * 4) is None


def test_each_frame_of_a_gif_has_its_own_time(tmp_path):
    head, *rest = frames(5)
    lasting = [100, 100, 100, 100, 3600]
    head.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=lasting)
    video = Video(
        name="folder", data_dir=str(tmp_path), frames=4, size=16, holdout=0, rate=1.0
    )
    found = numbers(fresh(video, True).take(np.arange(1))["x"])
    np.testing.assert_array_equal(found, [[0, 4, 4, 4]])
    record = video.read(tmp_path / "a.gif")
    (tmp_path / "b.gif").write_bytes(video.write(record))
    steps = np.diff(read_clip(tmp_path / "b.gif").times)
    np.testing.assert_allclose(steps, np.array(lasting) / 1000)
    # A frame that is equal to the one before is a part of its time.
    twice = dataclasses.replace(record, values=record.values[[0, 0, 1, 1, 2]])
    (tmp_path / "c.gif").write_bytes(video.write(twice))
    assert len(read_clip(tmp_path / "c.gif").frames) == 3
    np.testing.assert_array_equal(video.reread(tmp_path / "c.gif", twice), twice.values)
    # At a codec's even rate, and from it to its own times again.
    even = video.regrid(record, 10.0)
    assert len(even.values) == 40
    np.testing.assert_array_equal(
        video.regridded(even.values, 10.0, record), record.values
    )


def test_a_frame_of_years_is_refused_before_there_is_room_for_it():
    times = np.array([0.0, 1.0, 4e9])  # as an MP4's times may say
    blank = np.zeros((2, 4, 4, 3), np.uint8)
    record = Record(blank, 1.0, suffix=".mp4", extra=b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.modalities.video.unpack_times", lambda *_: times)
        with pytest.raises(Unreadable, match="lasts 4e.09 s, which would make 4e.11"):
            Video(frames=4, size=16).regrid(record, 100.0)


def recorded(path, codec, times=range(30), **how):
    """A picture that moves on by two pixels a frame, at 25 a second."""
    draw = np.random.default_rng(0)
    picture = draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"g": "8"} | how)
        stream.height, stream.width = 32, 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i, time in enumerate(times):
            turned = np.roll(picture, 2 * i, 1)
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    "name,codec,bf,kind",
    [
        ("a.mp4", "libx264", "2", Index),
        ("a.webm", "libvpx-vp9", "0", Index),
        ("a.avi", "mpeg4", "0", Index),
        ("a.avi", "mjpeg", "0", Index),
        ("a.avi", "mpeg4", "2", Reel),
        ("a.avi", "libx264", "2", Reel),
        ("a.mpg", "mpeg1video", "2", Reel),
        ("a.mpg", "mpeg2video", "0", Reel),
    ],
)
def test_what_a_clip_picks_is_what_is_read_whole(
    tmp_path, monkeypatch, caplog, name, codec, bf, kind
):
    """Across frames that need no others, with some that need later ones; where there is
    no index also beyond what is kept of a file."""
    path = tmp_path / name
    recorded(path, codec, bf=bf)
    monkeypatch.setattr(indices, "KEPT", 10 * 32 * 32 * 3)
    whole, clip = read_clip(path), open_clip(path)
    assert type(clip) is kind and len(clip) == len(whole.frames) == 30
    assert clip.kept is None
    assert ("has no index" in caplog.text) == (kind is Reel)
    np.testing.assert_array_equal(clip.times, whole.times)
    for rows in ([0], [29], [3, 4, 5], [1, 9, 10, 28], list(range(30))):
        for row, frame in zip(rows, clip.pick(rows), strict=True):
            np.testing.assert_array_equal(frame, whole.frames[row])


def test_a_clip_without_an_index_takes_no_more_memory_than_an_example(
    tmp_path, monkeypatch
):
    """Nor do GIFs and folders of pictures; where frames are few they are kept, and
    examples are the same."""
    gif(tmp_path / "gif" / "a.gif", 20)
    for i, frame in enumerate(frames(20)):
        (tmp_path / "still" / "a").mkdir(parents=True, exist_ok=True)
        frame.save(tmp_path / "still" / "a" / f"{i}.png")
    (tmp_path / "mpg").mkdir()
    recorded(tmp_path / "mpg" / "a.mpg", "mpeg1video", range(20))
    for name in ("gif", "still", "mpg"):
        data = Video(
            "folder", str(tmp_path / name), frames=4, size=16, holdout=0, threads=0
        )
        found = []
        for most in (2**26, 5 * 16 * 16):
            monkeypatch.setattr(indices, "KEPT", most)
            examples = fresh(data, True)
            found.append(examples.take(np.arange(len(examples)))["x"])
            assert (examples.source[0].nbytes < 2000) == (most < 2000)
        assert len(found[0]) == 5
        np.testing.assert_array_equal(*found)


def test_frames_that_an_avi_leaves_out_stay_on_the_screen(tmp_path):
    recorded(tmp_path / "a.avi", "mjpeg", times := [0, 1, 5, 6, 7, 20])
    clip = open_clip(tmp_path / "a.avi")
    np.testing.assert_allclose(clip.times[:-1], np.array(times) / 25, atol=1e-6)
    content = (tmp_path / "a.avi").read_bytes()
    # Past the first frame, whose length is the encoder's, and so that of the cores.
    (tmp_path / "a.avi").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(Unreadable, match="is cut short"):
        open_clip(tmp_path / "a.avi")


def test_a_clip_that_its_file_trims_is_what_players_show(tmp_path):
    """Without encoding anew: the frames before and after stay in the file."""
    whole, path = tmp_path / "whole.mp4", tmp_path / "a.mp4"
    recorded(whole, "libx264", range(50), bf="2")
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        packets, stream = list(old.demux(video=0)), old.streams.video[0]
        out = new.add_stream_from_template(stream)
        for packet in packets[:-1]:  # the last one is empty
            by = round(5 / 25 / packet.time_base)
            packet.pts, packet.dts, packet.stream = (
                packet.pts - by,
                packet.dts - by,
                out,
            )
            new.mux(packet)
    content = path.read_bytes()
    at = content.index(b"elst") + 12
    lasts = struct.unpack(">I", content[at : at + 4])[0]
    for share, count in ((1, 45), (0.5, 23)):
        cut = struct.pack(">I", int(lasts * share))
        path.write_bytes(content[:at] + cut + content[at + 4 :])
        clip, shown = open_clip(path), read_clip(path)
        assert type(clip) is Index and len(clip) == len(shown.frames) == count
        np.testing.assert_array_equal(clip.times, shown.times)
        for rows in ([0], [1, 2], [2, 9, 20], range(count)):
            for row, frame in zip(rows, clip.pick(rows), strict=True):
                np.testing.assert_array_equal(frame, shown.frames[row])


@pytest.mark.parametrize("more", [0, 1, 2, 8])
def test_the_size_that_an_avi_says_it_has_may_be_wrong(tmp_path, more):
    recorded(path := tmp_path / "a.avi", "mjpeg", range(9))
    content = path.read_bytes()
    size = struct.pack("<I", len(content) - 8 + more)
    path.write_bytes(content[:4] + size + content[8:])
    assert len(open_clip(path)) == 9
    # Frames count, and no index after them.
    movi = content.index(b"movi") - 4
    end = movi + 4 + struct.unpack("<I", content[movi : movi + 4])[0]
    path.write_bytes(path.read_bytes()[:end])
    assert len(open_clip(path)) == 9
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Unreadable, match=f"is cut short: {end - 1} bytes of {end}"):
        open_clip(path)


@pytest.mark.parametrize(
    "name,options",
    [
        ("a.mkv", {}),
        ("a.webm", {}),
        ("a.avi", {}),
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mpg", {}),
        ("a.ts", {}),
        ("a.m2ts", {}),
        ("a.ogv", {}),
    ],
)
def test_a_film_of_any_form_that_is_cut_short_is_refused(tmp_path, name, options):
    """By what reads it whole, too, as train.compress does."""
    pictures = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    path = tmp_path / name
    codec = {".webm": "libvpx-vp9", ".avi": "mjpeg", ".ogv": "libvpx"}
    codec = (codec | {".mpg": "mpeg1video"}).get(path.suffix, "libx264")
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=25)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = 10
        for pixels in pictures:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    whole = path.read_bytes()
    assert len(read_clip(path).frames) == len(open_clip(path)) == 60
    for share in (0.95, 0.6):
        path.write_bytes(whole[: int(share * len(whole))])
        for read in (read_clip, open_clip):
            with pytest.raises(Unreadable, match="is cut short"):
                read(path)


def test_films_whose_end_nothing_says_are_told_once_a_form(tmp_path, caplog):
    """Those written into a pipe among them, for which sizes were never filled in."""
    ends.tell_open.cache_clear()
    recorded(path := tmp_path / "a.avi", "mjpeg", range(9))
    recorded(tmp_path / "a.mkv", "libx264", range(9))
    recorded(tmp_path / "a.mpg", "mpeg1video", range(9))
    read_clip(path), read_clip(tmp_path / "a.mkv")
    assert not caplog.messages
    content = path.read_bytes()
    movi = content.index(b"movi") - 4
    path.write_bytes(content[:movi] + bytes(4) + content[movi + 4 :])
    for _ in range(2):
        assert len(read_clip(path).frames) == len(read_clip(tmp_path / "a.mpg").frames)
    assert [line.split()[0] for line in caplog.messages] == ["avi", "mpeg"]
    assert all("do not say where they end" in line for line in caplog.messages)
    # A code may say it of MPEG.
    ends.tell_open.cache_clear()
    with open(tmp_path / "a.mpg", "ab") as file:
        file.write(ends.MPEG_END)
    read_clip(tmp_path / "a.mpg")
    assert len(caplog.messages) == 2


def test_a_box_that_says_it_ends_beyond_all_files_says_nothing():
    film = struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1) + bytes(99)
    assert ends.FILMS["mov"](io.BytesIO(film), len(film), 10) == 0


def test_a_block_of_a_matroska_film_counts_where_its_cluster_says_no_size(tmp_path):
    recorded(path := tmp_path / "a.mkv", "libx264", range(9))
    content = path.read_bytes()
    at = content.index(ends.CLUSTER) + 4
    wide = 9 - content[at].bit_length()  # bytes of its size, open where all are ones
    said = int.from_bytes(content[at : at + wide]) % 2 ** (7 * wide)
    size = bytes([2 ** (9 - wide) - 1]) + b"\xff" * (wide - 1)
    blocks = content[:at] + size + content[at + wide :]
    path.write_bytes(blocks)
    assert len(read_clip(path).frames) == 9
    end = at + wide + said
    path.write_bytes(blocks[: end - 1])
    with pytest.raises(Unreadable, match=f"is cut short: {end - 1} bytes of {end}"):
        read_clip(path)


def test_frames_of_an_avi_are_not_looked_for_without_end(tmp_path, monkeypatch):
    """A chunk of no name and no size takes 8 bytes."""
    (path := tmp_path / "a.avi").write_bytes(b"RIFF\0\0\0\0AVI " + bytes(1 << 20))
    reads, opened = [], ends.opened_file

    @contextlib.contextmanager
    def counted(path):
        with opened(path) as file:
            read = lambda size: reads.append(size) or file.read(size)
            yield types.SimpleNamespace(read=read, seek=file.seek)

    monkeypatch.setattr(ends, "opened_file", counted)
    ends.check_film(path, "avi")
    assert len(reads) <= 1000


def test_a_video_is_decoded_where_an_example_is(tmp_path, monkeypatch):
    times = range(0, 20_000, 100)
    mp4(tmp_path / "a.mp4", [t // 100 for t in times], times, (16, 16))
    video = Video(name="folder", data_dir=str(tmp_path), frames=4, size=16, holdout=0)
    examples = fresh(video, True)
    assert len(examples) == 50 and examples.source[0].nbytes < 2000
    seen, pixels = [], indices.upright
    monkeypatch.setattr(indices, "upright", lambda *of: seen.append(of) or pixels(*of))
    found = examples.take(np.array([40]))["x"][0, :, 8, 12, 0]
    np.testing.assert_allclose(found.astype(int), [160, 161, 162, 163], atol=2)
    assert len(seen) == 4
    # What cannot be read at all any more is one line.
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[:200])
    with pytest.raises(BadInput, match="a.mp4: cannot be decoded"):
        examples.take(np.array([3]))
    with pytest.raises(BadInput, match="a.mp4: not a whole video"):
        fresh(video, True)


def test_where_a_video_is_broken_the_frame_before_stays(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(40):
            turned = np.roll(noise, i, 1)
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    middle, broken = len(content) // 2, len(content) // 4
    content[middle : middle + broken] = b"\xff" * broken
    (tmp_path / "a.mp4").write_bytes(content)
    index = open_clip(tmp_path / "a.mp4")
    found = index.pick(range(40))
    assert len(found) == 40 and (found[-1] != found[0]).any()
    assert any((a == b).all() for a, b in zip(found, found[1:], strict=False))
    assert caplog.text.count("a.mp4 is broken") == 1
    np.testing.assert_array_equal(index.pick([25])[0], found[25])
    with pytest.raises(Unreadable, match="not a whole video"):
        read_clip(tmp_path / "a.mp4")


def test_in_place_of_a_frame_that_does_not_come_stands_the_one_before(monkeypatch):
    """Decoders leave out, without a word, what they cannot make."""
    came = [types.SimpleNamespace(pts=pts) for pts in (0, 1, 4, 6)]
    video = types.SimpleNamespace(
        streams=types.SimpleNamespace(video=[None]),
        seek=lambda key, stream: None,
        decode=lambda stream: came,
    )
    monkeypatch.setattr(av, "open", lambda file, mode: contextlib.nullcontext(video))
    monkeypatch.setattr(indices, "for_libraries", lambda path: path)
    monkeypatch.setattr(indices, "upright", lambda frame, stream: frame.pts)
    clip = Index("a.mp4", np.arange(8), np.zeros(1, int), None)
    assert clip.pick(range(8)) == [0, 1, 1, 1, 4, 4, 6, 6]
    assert clip.pick([3, 5]) == [1, 4]


def test_times_that_would_fill_the_memory_are_refused(tmp_path):
    mp4(tmp_path / "a.mp4", [0] * 4, [0, 100, 200, 100_000_000], (16, 16))
    video = Video(name="folder", data_dir=str(tmp_path), frames=4, size=16, holdout=0)
    assert len(fresh(video, True)) == 1
    with pytest.raises(BadInput, match=r"states 100000 s of frames"):
        fresh(dataclasses.replace(video, rate=30.0), True)


def test_what_is_clear_is_white_in_clips_as_in_pictures(tmp_path):
    stickers = []
    for i in range(3):
        stickers.append(Image.new("RGBA", (16, 16), (0, 0, 0, 0)))
        stickers[-1].paste((255, 0, 0, 255), (4 + i, 4, 10 + i, 10))
    head, *rest = stickers
    more = {"append_images": rest, "duration": 100, "disposal": 2}
    head.save(tmp_path / "a.gif", save_all=True, **more)
    for frame in read_clip(tmp_path / "a.gif").frames:
        assert frame[0, 0].tolist() == [255, 255, 255]
        assert frame[6, 7].tolist() == [255, 0, 0]
    assert Images().read(tmp_path / "a.gif").values[0, 0].tolist() == [255] * 3


def test_frames_of_12_bits_in_16_are_told(tmp_path, caplog):
    for i in range(3):
        wide = np.full((4, 4), 4095 - i, np.uint16)
        Image.fromarray(wide).save(tmp_path / f"{i}.png")
    assert read_clip(tmp_path).frames[0].max() == 16
    (record,) = caplog.records  # once, and not for each
    assert "next to black" in record.getMessage()


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for i, frame in enumerate(frames(12)):
        frame.save(tmp_path / f"frame {i + 1}.png")
    found = [int(frame[0, 0, 0]) for frame in read_clip(tmp_path).frames]
    assert found == [10 * i for i in range(12)]


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
    monkeypatch.setattr(
        "train.sources.generated.moving.digit_pictures", lambda *_: same
    )
    video = Video(frames=4, size=16, examples=40)
    rows = np.arange(4)
    train, test = (fresh(video, part).take(rows)["x"] for part in (True, False))
    assert (train != test).any((1, 2, 3, 4)).all()
