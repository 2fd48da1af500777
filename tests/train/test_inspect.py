import json
import types

import av
import numpy as np
import pytest
from PIL import Image

from train.errors import BadInput
from train.inspect import _worries, inspect, lines, main, survey
from train.modalities import Audio, ImageAugment, Images, Ranges, Series, Video, Volumes
from train.report.examples import (
    augmented_picture,
    example_picture,
    show_augmented,
)

EVERY = [
    Images(name="digits", size=8, threads=0, augment=ImageAugment(rotate=20)),
    Audio(name="tones", length=512, threads=0),
    Video(frames=3, size=16, examples=40, threads=0),
    Series(length=64, examples=40, threads=0),
    Volumes(size=(8, 8, 8), examples=16, threads=0),
    Ranges(rows=8, azimuth=32, examples=16, threads=0),
]


@pytest.mark.parametrize("data", EVERY, ids=lambda data: data.kind)
def test_every_kind_has_a_report_and_pictures(data):
    report, plots = inspect(data, most=10)
    json.dumps(report, allow_nan=False)
    assert report["kind"] == data.kind and report["shape"] == list(data.shape)
    assert report["train"]["looked_at"] == 10
    assert {"examples", "augmented", "values"} <= set(plots)
    assert all(png[:8] == b"\x89PNG\r\n\x1a\n" for png in plots.values())
    assert all("\n" not in line for line in lines(report))
    for picture in (example_picture(data), augmented_picture(data)):
        assert picture.dtype == np.uint8 and picture.shape[-1] == 3
        assert picture.std() > 0


def test_a_run_shows_what_its_seed_makes_of_the_data():
    data, seen = EVERY[0], []
    logger = types.SimpleNamespace(image=lambda *of: seen.append(of))
    show_augmented(logger, data, 3)
    ((step, name, picture),) = seen
    assert (step, name) == (0, "augmented")
    np.testing.assert_array_equal(picture, augmented_picture(data, 3))
    assert (picture != augmented_picture(data, 0)).any()


def test_what_readers_of_clips_log_is_in_the_report(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "5"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(20):
            turned = np.roll(noise, i, 1)
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    middle, broken = len(content) // 2, len(content) // 4
    content[middle : middle + broken] = b"\xff" * broken
    (tmp_path / "a.mp4").write_bytes(content)
    (tmp_path / "b.mp4").write_bytes(content)
    data = Video("folder", str(tmp_path), frames=4, size=16, holdout=0.5, threads=0)
    report, _ = inspect(data)
    assert any("mp4 is broken" in said for said in report["log"])
    assert any("mp4 is broken" in line for line in lines(report))


def write(path, image, label):
    np.savez(path, image=image, label=label)


def test_what_is_wrong_with_the_data_is_said(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    image[5] = image[4]
    image[7] = 9
    image[..., 2] = 31
    test = image[:10].copy()
    test[3:] //= 2
    test[1] = test[0]  # each of the two counts
    write(tmp_path / "train.npz", image, np.arange(60) % 3 // 2)
    write(tmp_path / "test.npz", test, np.array([2] + 9 * [0]))
    data = Images(name="npz", data_dir=str(tmp_path), size=8, channels=3, threads=0)
    report, plots = inspect(data)
    assert report["train"]["examples"] == 60 and report["train"]["dtype"] == "uint8"
    assert report["train"]["classes"] == {"0": 40, "1": 20, "2": 0}
    assert report["test_examples_also_in_train"] == 3
    assert report["train"]["repeated_examples"] == 1
    assert report["train"]["blank_examples"] == 0  # its channels differ
    said = "\n".join(report["warnings"])
    for words in (
        "3 test examples are in the training part too",
        "train: 1 examples repeat another",
        "train: channel 2 never changes",
        "train: no example of 1 classes, such as 2",
        "train and test differ: mean",
    ):
        assert words in said
    flat = image.reshape(-1, 3)
    np.testing.assert_allclose(report["train"]["mean"], flat.mean(0))
    np.testing.assert_allclose(report["train"]["std"], flat.std(0))
    assert "classes" in plots


def test_files_refused_are_listed_with_the_reason(tmp_path):
    for i in range(30):
        x = np.random.default_rng(i).standard_normal((40, 2))
        np.savez(tmp_path / f"{i}.npz", values=x)
    (tmp_path / "text.npz").write_text("no arrays")
    data = Series(
        name="folder", data_dir=str(tmp_path), length=40, channels=2, holdout=0.3,
        bad_share=0.5, threads=0,
    )  # fmt: skip
    report, _ = inspect(data)
    refused = report["train"]["refused"] + report["test"]["refused"]
    assert len(refused) == 1 and refused[0][0] == "text.npz"
    assert "not a whole npz" in refused[0][1]
    text = "\n".join(lines(report))
    assert "refused     text.npz: not a whole npz" in text
    assert "1 of " in text and "files cannot be read" in text


def test_pictures_that_cannot_be_read_are_noted(tmp_path):
    for i in range(30):
        Image.new("L", (8, 8), 8 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "text.png").write_text("no picture")
    data = Images(name="folder", data_dir=str(tmp_path), bad_share=0.2, threads=0)
    report, _ = inspect(data)
    assert any("text.png" in said for said in report["log"])
    assert report["train"]["blank_examples"] == report["train"]["examples"]


def test_the_program_prints_and_writes(tmp_path, capsys):
    config = tmp_path / "c.py"
    config.write_text(
        "import dataclasses\n"
        "from tests.train.experiments import TOKENIZER\n"
        "CONFIG = TOKENIZER\n"
    )
    out = tmp_path / "looked"
    main([f"--config={config}", f"--out={out}", "--most=30"])
    printed = capsys.readouterr().out
    assert "image of" in printed and "train: " in printed and "classes" in printed
    names = {path.name for path in out.iterdir()}
    assert names == {
        "report.json", "examples.png", "augmented.png", "values.png", "classes.png",
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text())["train"]["looked_at"] == 30
    with pytest.raises(BadInput, match="--most: write a whole number, at least 1"):
        main([f"--config={config}", f"--out={out}", "--most=0"])
    with pytest.raises(BadInput, match="is a file; write a folder"):
        main([f"--config={config}", f"--out={config}"])


def test_each_stream_with_data_of_its_own_has_a_folder(tmp_path):
    config, out = tmp_path / "c.py", tmp_path / "looked"
    config.write_text(
        "import dataclasses\n"
        "from tests.train.experiments import JOINT\n"
        "from train.modalities import Images, Series\n"
        "two = {'image': Images(threads=0), 'text': Series(examples=40, threads=0)}\n"
        "CONFIG = dataclasses.replace(JOINT, data=two)\n"
    )
    main([f"--config={config}", f"--out={out}", "--most=10"])
    assert {path.name for path in out.iterdir()} == {"image", "text"}
    for stream, kind in (("image", "image"), ("text", "series")):
        found = {path.name for path in (out / stream).iterdir()}
        assert {"report.json", "examples.png", "augmented.png", "values.png"} <= found
        assert json.loads((out / stream / "report.json").read_text())["kind"] == kind


def test_of_an_example_that_is_there_thrice_two_repeat_another(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    image[[3, 7]] = image[0]
    image[9] = image[8]
    write(tmp_path / "a.npz", image, np.arange(12) % 2)
    where = {"name": "npz", "data_dir": str(tmp_path / "a.npz"), "holdout": 0.0}
    data = Images(**where, size=4, threads=0)
    assert survey(data, True, None).figures["repeated_examples"] == 3


def test_beams_without_a_return_are_not_outside_of_the_range(tmp_path):
    for i in range(12):
        x = np.random.default_rng(i).uniform(1, 50, (8, 32))
        np.save(tmp_path / f"{i}.npy", np.where(x < 10, np.nan, x))
    data = Ranges("folder", str(tmp_path), rows=8, azimuth=32, far=200.0, threads=0)
    report, _ = inspect(data)
    assert report["train"]["missing_share"][0] > 0.1
    assert report["train"]["share_outside_1"] == 0
    assert not any("outside" in line for line in report["warnings"])


def test_classes_that_were_not_looked_at_may_have_examples(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (120, 4, 4, 1)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", image=image, label=np.arange(120) % 60)
    data = Images(name="npz", data_dir=str(tmp_path / "a.npz"), size=4, threads=0)
    report, _ = inspect(data, most=5)
    assert not any("no example" in line for line in report["warnings"])


def test_files_of_other_kinds_are_counted(tmp_path):
    for i in range(20):
        Image.new("L", (8, 8), 8 * i).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.heic").write_text("not read")
    report, _ = inspect(Images(name="folder", data_dir=str(tmp_path), threads=0))
    assert "  left out    20 .heic" in list(lines(report))


def test_gaps_are_a_share_of_their_own_channel(tmp_path, caplog):
    x = np.random.default_rng(0).uniform(-2, 5, (1000, 2)) * [1, 20]
    x[::4, 1] = np.nan
    np.savez(tmp_path / "x.npz", values=x)
    where = {"name": "folder", "data_dir": str(tmp_path / "x.npz"), "holdout": 0.5}
    report, _ = inspect(Series(**where, length=100, channels=2, threads=0))
    assert report["train"]["missing_share"] == [0.0, 0.25]
    # Of each part once, and not logged beside.
    told = [line for line in [*lines(report), caplog.text] if "is missing" in line]
    assert [line.partition(" values")[0] for line in told] == [
        "look: train:",
        "look: test:",
    ]
    some, _ = inspect(Series(**where, length=100, channels=2, threads=0), most=2)
    assert some["train"]["missing_share"] == [0.0, 0.25]  # of what was looked at
    for name, of in (("raw_min", np.nanmin), ("raw_max", np.nanmax)):
        np.testing.assert_allclose(report["train"][name], of(x[:500], 0), rtol=1e-5)


@pytest.mark.parametrize("at", ["mean", "std"])
def test_one_channel_in_which_the_parts_differ_is_enough(at):
    """By more than half of its own spread in training, however wide the others are."""
    spread = [4.0, 100.0, 2.0]
    same = {"mean": [0.0, 50.0, -1.0], "std": spread, "constant_channels": []}
    same |= {"changes": [], "doubts": [], "repeated_examples": 0, "blank_examples": 0}

    def said(channel, share):
        moved = list(same[at])
        moved[channel] += share * spread[channel]
        parts = {"train": same, "test": same | {at: moved}}
        return list(_worries({"test_examples_also_in_train": 0} | parts))

    for channel in range(3):
        (line,) = said(channel, 0.51)
        assert line.startswith(f"train and test differ: {at} ")
        assert said(channel, 0.49) == []
