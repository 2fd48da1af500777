import io

import numpy as np
import pytest
from PIL import Image

from train.sample import files_of
from vqdit.trained.contract import LatentContract


@pytest.mark.parametrize(
    "kind, shape, rate, names",
    [
        ("audio", (512, 1), 2000.0, ["0.png", "0.wav", "1.png", "1.wav"]),
        ("series", (32, 2), 10.0, ["0.csv", "1.csv"]),
        ("image", (8, 8, 1), 0.0, ["0.png", "1.png"]),
    ],
)
def test_a_file_each_and_beside_a_sound_its_spectrogram(kind, shape, rate, names):
    part = ((4,) * (len(shape) - 1), 1, (), (0.0,), (1.0,), "")
    contract = LatentContract(kind, shape, *part, rate=rate)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    signal = np.uint8(127 + 100 * x) if kind == "image" else x
    files = files_of(contract, signal, x)
    assert sorted(files) == names
    if kind == "audio":
        picture = Image.open(io.BytesIO(files["0.png"]))
        assert picture.width > 160 and picture.height > 128  # a curve over its rows
