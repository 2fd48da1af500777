"""README's commands for files of one's own, as they stand there, on a few files."""

import glob
import pathlib
import re
import shlex

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.train.devices import only_one
from train.__main__ import main
from train.modalities import Audio, Images, Modality, Ranges, Series, Video, Volumes

README = pathlib.Path(__file__).parents[2] / "README.md"
SMALL = (
    *("--config.run.steps=2", "--config.run.batch=2", "--config.optimizer.warmup=1"),
)


one_device = pytest.fixture(only_one)


def commands(word):
    """The block of commands on the folder or file of this name."""
    text = README.read_text().split("\n## Your own files\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    vqdit .*\n)+", text, re.MULTILINE)
    (block,) = [block for block in blocks if word in block]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def expanded(words):
    """As a shell does it."""
    for word in words:
        yield from sorted(glob.glob(word)) if "*" in word else [word]


def pictures(rng):
    for i in range(10):
        folder = pathlib.Path("photos", "ab"[i % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(
            folder / f"{i}.jpg"
        )


def recordings(rng):
    pathlib.Path("recordings").mkdir()
    for i in range(10):
        soundfile.write(f"recordings/{i}.flac", rng.normal(0, 0.1, 9000), 8000)


def readings(rng):
    rows = rng.normal(size=(4000, 3)) + [0, 5, 100]
    np.savetxt("readings.csv", rows, "%.4f", ",", header="a,b,c", comments="")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "make, word, suffix, count",
    [
        (pictures, "photos", ".png", 17),
        (recordings, "recordings", ".wav", 8),
        (readings, "readings.csv", ".csv", 8),
    ],
)
def test_the_commands_run(make, word, suffix, count, tmp_path, monkeypatch, one_device):
    monkeypatch.chdir(tmp_path)
    make(np.random.default_rng(0))
    lines = commands(word)
    assert [words[0] for words in lines] == (
        ["inspect", "stage-one", "stage-two", "sample", "compress"]
    )
    for words in lines:
        main([*expanded(words), *(SMALL if words[0].startswith("stage") else ())])
    (drawn,) = tmp_path.glob("new_*")
    assert len(list(drawn.glob(f"*{suffix}"))) == count
    assert (drawn / "sheet.png").exists() and list(tmp_path.glob("coded*/**/*.vqd"))


@pytest.mark.parametrize(
    "data, shape",
    [
        (Images(), (6, 5, 3)),
        (Audio(), (300, 1)),
        (Video(), (3, 16, 18, 1)),
        (Series(), (20, 3)),
        (Series(channels=2, columns=("hot", "cold"), name="folder"), (20, 2)),
        (Volumes(), (4, 5, 6, 1)),
        (Ranges(), (4, 8, 1)),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Modality) else "",
)
def test_a_drawn_signal_becomes_a_file_that_reads_the_same(data, shape, tmp_path):
    x = np.random.default_rng(0).uniform(-0.9, 0.9, shape).astype(np.float32)
    if data.pixels:
        x = (255 * abs(x)).astype(np.uint8)
    rate = 8000.0 if data.kind == "audio" else 0.0
    record = data.new(x, rate)
    assert record.suffix == data.suffixes[0]
    path = tmp_path / f"a{record.suffix}"
    path.write_bytes(data.write(record))
    columns = getattr(data, "columns", ())
    named = {"columns": columns} if columns else {}
    back = type(data)(name="folder", **named).read(path)
    np.testing.assert_allclose(back.values[..., : shape[-1]], x, atol=4e-5)
    if columns:
        assert path.read_text().startswith("hot,cold\n")
