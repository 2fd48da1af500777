import contextlib
import io
import json
import math
import os
import resource
import struct
import sys
import types
from time import time

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from train.errors import BadInput
from train.modalities import Audio, Images, Ranges, Series, Video, Volumes
from train.modalities.files.writing import write_bytes
from train.modalities.shown import Units
from train.progress import progress, say
from train.report.examples import play, show_samples
from train.runtime.log import Logger, _rewind, read_metrics
from vqdit.tokenizer import Bytes, Category, Labels, Number, Table
from vqdit.trained.contract import LatentContract


def events(workdir):
    """Record by record, as TensorBoard reads them."""
    paths = sorted((workdir / "tensorboard").glob("events*"))
    data = b"".join(path.read_bytes() for path in paths)
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def steps(workdir):
    return [row["step"] for row in read_metrics(workdir)]


def test_metrics_are_one_json_object_a_line(tmp_path):
    with Logger(tmp_path) as logger:
        logger.scalars(1, {"loss": np.float32(0.5), "spread": math.nan})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # on disk at once
        logger.scalars(2, {"loss": math.inf})
    row = json.loads(lines[0], parse_constant=pytest.fail)
    assert row["step"] == 1 and row["loss"] == 0.5 and row["spread"] is None
    assert read_metrics(tmp_path)[1]["loss"] is None
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_tensorboard_has_sections_pictures_and_the_experiment(tmp_path):
    with Logger(tmp_path) as logger:
        logger.scalars(7, {"loss": 0.5, "heldout_loss": 0.25, "grad_norm": 2.0})
        logger.scalars(7, {"step_seconds": 0.125, "discriminator_grad_norm": 3.0})
        logger.image(7, "reconstruction", np.zeros((4, 4, 3), np.uint8))
        logger.text(0, "experiment", "    run.steps=3")
    values = {v.tag: v for event in events(tmp_path) for v in event.summary.value}
    scalars = {tag: value.simple_value for tag, value in values.items()}
    assert scalars["train/loss"] == 0.5 and scalars["heldout/loss"] == 0.25
    assert (
        scalars["optimizer/grad_norm"] == 2 and scalars["speed/step_seconds"] == 0.125
    )
    assert scalars["optimizer/discriminator_grad_norm"] == 3
    assert values["samples/reconstruction"].image.height == 4
    (text,) = [value for tag, value in values.items() if tag.startswith("experiment")]
    assert text.tensor.string_val == [b"    run.steps=3"]


def test_samples_have_the_form_of_their_signal(tmp_path):
    """Series are tables, of volumes one sees several slices."""
    with Logger(tmp_path) as logger:
        for data, shape in (
            (Series(length=40, channels=2, columns=("a", "b"), name="folder"), (40, 2)),
            (Volumes(size=(12, 5, 6)), (12, 5, 6, 1)),
            (Ranges(rows=4, azimuth=16), (4, 16, 1)),
        ):
            x = np.random.default_rng(0).uniform(-1, 1, (6, *shape)).astype(np.float32)
            units = Units(10.0, (1.0,), (2.0,))
            play(logger, 2, data.kind, data, x, units)
            if data.kind == "series":
                series = x
    names = [f"series_{i}_000002.csv" for i in range(4)] + ["volume_slices_000002.png"]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == names
    lines = (tmp_path / "samples" / names[3]).read_text().splitlines()
    assert lines[0].split(",")[-2:] == ["a", "b"] and len(lines) == 41
    found = [float(cell) for cell in lines[1].split(",")[-2:]]
    np.testing.assert_allclose(found, 1 + 2 * series[4, 0], rtol=1e-5)  # of 0, 1, 3, 4
    pixels = np.asarray(Image.open(tmp_path / "samples" / names[-1]))
    assert pixels.shape == (4 * 6 - 1, 8 * 7 - 1)
    (event,) = (event for event in events(tmp_path) if event.summary.value)
    assert event.summary.value[0].tag == "samples/volume_slices"


def test_samples_of_every_stream_are_written_and_shown(tmp_path):
    table = Table((Number("age", (40.0,), (30.5, 60.0)), Category("sex", ("f", "m"))))
    part = ((2, 2), 1, (), (0.0,), (1.0,), "")
    contract = LatentContract("image", (8, 8, 1), *part)
    generator = types.SimpleNamespace(
        codecs={"image": types.SimpleNamespace(contract=contract)},
        values={"text": Bytes(4), "word": Labels(2), "record": table},
        class_names=("cat", "dog"),
    )
    x = {
        "image": np.zeros((2, 8, 8, 1), np.float32),
        "text": ["ab", "c"],
        "word": np.array([1, 0]),
        "record": [{"age": 50.0, "sex": "f"}, {"age": 70.0, "sex": "m"}],
        "beat": np.zeros((2, 2, 1), int),  # which nothing says the meaning of
    }
    with Logger(tmp_path) as logger:
        show_samples(logger, 5, generator, x, 2, ())
    folder = tmp_path / "samples"
    assert sorted(path.name for path in folder.iterdir()) == [
        "samples_image_000005.png", "samples_record_000005.csv",
        "samples_text_000005.txt", "samples_word_000005.txt",
    ]  # fmt: skip
    assert (folder / "samples_text_000005.txt").read_text() == "ab\nc\n"
    assert (folder / "samples_word_000005.txt").read_text() == "dog\ncat\n"
    rows = (folder / "samples_record_000005.csv").read_text().splitlines()
    assert rows[0] == "age,sex" and rows[2].endswith(",m")
    tags = {v.tag: v for event in events(tmp_path) for v in event.summary.value}
    assert {tag.split("/")[1] for tag in tags} == {
        f"samples_{name}" for name in x.keys() - {"beat"}
    }
    (said,) = (v for tag, v in tags.items() if tag.startswith("samples/samples_text"))
    assert said.tensor.string_val == [b"    ab\n    c\n"]


def test_events_are_those_that_tensorboard_reads(tmp_path):
    """Each with its step; a record's length and text have their checksums."""
    with Logger(tmp_path) as logger:
        logger.scalars(7, {"learning_rate": 0.5})
        logger.scalars(8, {"evaluation_psnr_db": 2.0})
        logger.scalars(9, {"examples_per_second": 4.0, "heldout_heldout_a": 8.0})
        logger.image(10, "a", np.zeros((4, 6), np.uint8))
        logger.text(3, "experiment", "x")
    (path,) = (tmp_path / "tensorboard").glob("events*")
    data, first = path.read_bytes(), next(events(tmp_path))
    assert first.file_version == "brain.Event:2" and abs(first.wall_time - time()) < 600
    while data:
        length = struct.unpack("<Q", data[:8])[0]
        record, marks = data[12 : 12 + length], data[8:12] + data[12 + length :][:4]
        wanted = [masked_crc32c(data[:8]), masked_crc32c(record)]
        assert list(struct.unpack("<II", marks)) == wanted
        data = data[16 + length :]
    found = [(e.step, v.tag) for e in events(tmp_path) for v in e.summary.value]
    assert found == [
        (7, "optimizer/learning_rate"),
        (8, "evaluation/psnr_db"),
        (9, "speed/examples_per_second"),
        (9, "heldout/heldout_a"),
        (10, "samples/a"),
        (3, "experiment/text_summary"),
    ]


class Project:
    """In the place of the package wandb, and of a run of it."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*of, **how):
            self.calls.append((name, *of, how))
            shown = f"{name} of {np.shape(of[0]) or of[0]}" if of else None
            return self if name == "init" else shown

        return call


def test_weights_and_biases_gets_the_same(tmp_path, monkeypatch):
    """A folder's run has one name, by which it goes on."""
    wandb = Project()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(4), 8000, format="WAV")
    clip = io.BytesIO()
    Image.new("L", (2, 2)).save(clip, "GIF")
    run = tmp_path / "my run"
    with Logger(run, wandb="project") as logger:
        logger.scalars(1, {"loss": np.float32(0.5), "spread": math.nan})
        logger.image(2, "x", np.zeros((4, 6, 3), np.uint8))
        logger.file(3, "y", ".wav", sound.getvalue())
        logger.file(4, "z", ".gif", clip.getvalue())
        with a_full_disk(10):  # it is sent what is in the file
            logger.file(5, "y", ".wav", sound.getvalue())
    samples = run / "samples"
    (_, begun), (_, values, one), *rest = wandb.calls
    identity = begun.pop("id")
    assert begun == (
        {"project": "project", "name": "my run", "resume": "allow", "dir": run}
    )
    assert values["loss"] == 0.5 and math.isnan(values["spread"])
    assert one == {"step": 1}
    names = ("x_000002.png", "y_000003.wav", "z_000004.gif")
    png, wav, gif = (str(samples / name) for name in names)
    assert rest == [
        ("Image", png, {}),
        ("log", {"x": f"Image of {png}"}, {"step": 2}),
        ("Audio", wav, {}),
        ("log", {"y": f"Audio of {wav}"}, {"step": 3}),
        ("Video", gif, {}),
        ("log", {"z": f"Video of {gif}"}, {"step": 4}),
        ("finish", {}),
    ]
    names = []
    for folder in (run, tmp_path / "b" / ".." / "my run", tmp_path / "other"):
        wandb.calls.clear()
        Logger(folder, wandb="project").close()
        names.append(wandb.calls[0][1]["id"])
    assert names[0] == names[1] == identity != names[2] and len(identity) == 16
    monkeypatch.setitem(sys.modules, "wandb", None)
    said = "run.wandb='project' needs a package: pip install wandb, or write"
    with pytest.raises(BadInput, match=said):
        Logger(tmp_path / "none", wandb="project")
    assert not (tmp_path / "none").exists()


def test_sounds_are_heard_and_clips_move_in_tensorboard(tmp_path):
    with Logger(tmp_path) as logger:
        for data, shape in (
            (Audio(name="folder", data_dir="x", rate=8000, length=40), (40, 1)),
            (Video(name="moving_mnist", size=16, frames=5), (5, 16, 8, 1)),
            (Images(name="digits", size=8), (8, 8, 1)),
        ):
            x = np.zeros((6, *shape), np.float32)
            play(logger, 2, data.kind, data, x, Units(data.rate))
    names = [f"audio_{i}_000002.wav" for i in range(4)]
    names += [f"video_{i}_000002.gif" for i in range(4)]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == names
    assert soundfile.info(tmp_path / "samples" / names[0]).frames == 40
    found = {v.tag: v for event in events(tmp_path) for v in event.summary.value}
    assert len(found) == 8
    heard = found["samples/audio_3"].audio
    assert (heard.sample_rate, heard.num_channels, heard.length_frames) == (8000, 1, 40)
    assert heard.encoded_audio_string[:4] == b"RIFF"
    assert heard.content_type == "audio/wav"
    seen = found["samples/video_0"].image
    assert (seen.width, seen.height) == (8, 16)
    assert seen.encoded_image_string[:3] == b"GIF"


def test_lines_past_the_resumed_step_are_written_again_not_twice(tmp_path):
    with Logger(tmp_path) as logger:
        for step in (10, 20, 30, 40):
            logger.scalars(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')  # the process was killed here
    assert steps(tmp_path) == [10, 20, 30, 40]
    with Logger(tmp_path, step=25) as logger:
        assert steps(tmp_path) == [10, 20]
        logger.scalars(30, {"loss": 3})
    assert [row["loss"] for row in read_metrics(tmp_path)] == [10, 20, 3]
    replaced = (tmp_path / "metrics.replaced.jsonl").read_text().splitlines()
    assert [line[:11] for line in replaced] == [f'{{"step": {n}' for n in (30, 40, 50)]
    Logger(tmp_path, step=20).close()  # again: what lies there stays
    again = (tmp_path / "metrics.replaced.jsonl").read_text().splitlines()
    assert again[:-1] == replaced and json.loads(again[-1])["loss"] == 3


def test_what_is_measured_again_at_the_resumed_step_has_one_line(tmp_path):
    for _ in range(2):
        with Logger(tmp_path, step=4) as logger:
            logger.scalars(4, {"heldout_loss": 0.5})
            logger.scalars(4, {"loss": 0.25})
    with Logger(tmp_path, step=4) as logger:
        logger.scalars(4, {"other": 1.0})
        logger.scalars(8, {"heldout_loss": 0.5})
    with Logger(tmp_path, step=8) as logger:
        logger.scalars(8, {"loss": 0.25})  # of which an earlier step has one
    assert steps(tmp_path) == [4, 4, 4, 8, 8]
    found = [set(row) - {"step", "time"} for row in read_metrics(tmp_path)]
    assert found == [{"heldout_loss"}, {"loss"}, {"other"}, {"heldout_loss"}, {"loss"}]


@pytest.mark.parametrize(
    "line",
    [b'{"step": "x"}', b'{"step": null}', b'{"step": 1, "a": "\xff', b"[" * 10**5],
)
def test_a_line_that_is_no_row_is_left_out(tmp_path, line):
    """And figures that are no numbers, as of a run that diverges, stay."""
    own = b'{"step": 1, "loss": NaN}\n'
    (tmp_path / "metrics.jsonl").write_bytes(own + line + b"\n" + own)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 1]
    _rewind(tmp_path / "metrics.jsonl", 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == own + own


def test_a_pipe_is_no_log(tmp_path):
    """It was waited for, and all of /dev/zero was read."""
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(BadInput, match="metrics.jsonl is a device or a pipe; move it"):
        read_metrics(tmp_path)


def test_a_line_cut_short_never_joins_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    with Logger(tmp_path, step=2) as logger:
        logger.scalars(3, {})
    assert steps(tmp_path) == [1, 3]


@contextlib.contextmanager
def a_full_disk(room):
    """No file may grow past this: a write fails as on a full disk, or is cut short."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_run_outlives_a_full_disk_and_writes_what_waits(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with Logger(tmp_path) as logger:
        logger.scalars(1, {"loss": 1.0})
        with a_full_disk(100):
            for step in range(2, 40):  # more than any queue holds
                logger.scalars(step, {"loss": 1.0})
                logger.image(step, "x", noise)
            assert steps(tmp_path) == [1, 2]
            assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
        logger.scalars(40, {"loss": 1.0})
        assert steps(tmp_path) == list(range(1, 41))
        logger.image(40, "x", noise)
        with a_full_disk(100):
            logger.scalars(41, {"loss": 1.0})
            logger.close()
        logger._writes = False  # closed
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if "not written" in line]
    assert "Traceback" not in err and all("large" in line for line in lines)
    said = [
        line.split(" not written")[0].removeprefix(f"{tmp_path}/") for line in lines
    ]
    once = {"metrics.jsonl", "tensorboard/", "the last lines of metrics.jsonl"}
    assert once < set(said) and all(said.count(each) == 1 for each in said)
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["x_000040.png"]
    assert steps(tmp_path) == list(range(1, 41))


def test_a_full_disk_is_told_with_the_file(tmp_path):
    with a_full_disk(10), pytest.raises(OSError, match="large: '.*/config.json'"):
        write_bytes(tmp_path / "config.json", b"longer than that")
    assert not any(tmp_path.iterdir())


def a_bar(steps, step=0):
    """As the loop has it."""
    return progress(None, "training", steps, "step", step, silent=0.0)


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        self.write("")


def test_a_run_outlives_the_disk_of_its_own_output(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", Full())
    with Logger(tmp_path), a_bar(3) as bar:
        say("nobody hears it")
        bar.update()
        bar.refresh()
    assert bar.n == 1
    monkeypatch.undo()


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_pictures_come_back_from_disk(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Logger(tmp_path) as logger:
        logger.image(7, "flow", pixels)
    path = tmp_path / "samples" / "flow_000007.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels.squeeze())
    shown = [v.image for e in events(tmp_path) for v in e.summary.value]
    assert [(each.width, each.height) for each in shown] == [(6, 4)]
    assert shown[0].encoded_image_string == path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_only_the_first_process_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Logger(tmp_path / "run") as logger, a_bar(3) as bar:
        logger.scalars(1, {"loss": 1.0})
        logger.image(1, "x", np.zeros((2, 2), np.uint8))
        bar.update()
        say("not heard")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""


def test_progress_shows_count_rate_and_time_left_on_stderr(capsys):
    with a_bar(10, 4) as bar:
        assert "4/10" in capsys.readouterr().err  # before the first step is done
        bar.update(3)
        bar.refresh()
        say("a message")
    out, err = capsys.readouterr()
    assert out == "" and "a message" in err
    assert "training" in err and "7/10" in err and "step" in err and "<" in err


@pytest.mark.parametrize("step, purged", [(0, []), (4, [5])])
def test_tensorboard_keeps_what_the_resumed_step_has_left(tmp_path, step, purged):
    """Its lines are not written a second time; of later steps all comes again."""
    with Logger(tmp_path, step=step) as logger:
        logger.scalars(step + 1, {"loss": 0.5})
    starts = [each for each in events(tmp_path) if each.HasField("session_log")]
    assert [each.step for each in starts] == purged


def test_tensorboard_forgets_a_run_that_was_killed_before_its_first_checkpoint(
    tmp_path,
):
    for _ in range(2):
        with Logger(tmp_path) as logger:
            logger.scalars(1, {"loss": 0.5})
    starts = [each for each in events(tmp_path) if each.HasField("session_log")]
    assert [each.step for each in starts] == [1]
