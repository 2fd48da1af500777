"""Stage one on sound, end to end, at a size that trains in seconds."""

import json

import numpy as np
import pytest

import vqdit
from tests.train.devices import only_one
from train import evaluate, stage_one
from train.config import KMeansInit, Mesh, Optimizer, Run, StageOne, Weights
from train.modalities import Audio
from train.pipeline import whole
from vqdit.quantizers import FSQ, EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import (
    ConvDecoder,
    ConvEncoder,
    LogMel,
    Tokenizer,
    WaveDecoder,
    WaveEncoder,
)

pytestmark = pytest.mark.optimized

PICTURE = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
WAVE = {"channels": 2, "strides": (4, 4), "dilations": (1,), "kernel": 3}
BOOK = EMAVectorQuantizer(8, 2, start="kmeans", window=512)
MODELS = {
    "log-mel": Tokenizer(
        ConvEncoder(**PICTURE, out=4),
        ConvDecoder(**PICTURE, out=1),
        FSQ((4, 4), window=512),
        front=LogMel(2000, 64, 32, bands=16, iterations=4),
    ),
    "wave": Tokenizer(
        WaveEncoder(**WAVE, out=4),
        WaveDecoder(**WAVE, out=1),
        ResidualQuantizer(BOOK, count=2, dropout=0.5),
    ),
}
# (grid, bits of an example)
SIZES = {"log-mel": ((8, 8), 256), "wave": ((32,), 192)}


one_device = pytest.fixture(autouse=True)(only_one)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MODELS)
def test_it_trains_and_its_bundle_is_heard(name, tmp_path):
    weights = Weights(pixel="l1", stft=1.0, windows=(64,))
    experiment = StageOne(
        name="tiny_sound",
        data=Audio(rate=2000, length=512, threads=0),
        model=MODELS[name],
        losses=weights if name == "wave" else Weights(pixel="l1"),
        kmeans=KMeansInit(step=3, samples=256, iterations=3),
        optimizer=Optimizer(peak_lr=3e-3, ema=0.9),
        run=Run(steps=12, batch=8, log_every=6, save_every=12),
        mesh=Mesh(data=1),
    )
    workdir = tmp_path / "run"
    stage_one.train(experiment, workdir)
    codec = vqdit.load(workdir)
    assert (codec.contract.kind, codec.contract.rate) == ("audio", 2000)
    assert codec.contract.preparation == experiment.data.preparation != ()
    assert (codec.contract.grid, codec.contract.bits) == SIZES[name]
    x = whole(experiment.data, train=False)["x"]
    found = np.asarray(codec.decode(codec.encode(x).codes))
    assert found.shape == x.shape and np.isfinite(found).all()
    if name == "wave":  # the first book alone is a coarser one, and not an error
        coarse = codec.decode(codec.encode(x).codes[..., :1])
        assert np.abs(coarse - found).max() > 0
    evaluate.main([f"--workdir={workdir}", "--most=8", "--judge-steps=2"])
    figures = json.loads((workdir / "evaluation.json").read_text())
    assert figures["kbps"] == pytest.approx(SIZES[name][1] / 0.256 / 1000)
    assert ("books" in figures) == (name == "wave")
    assert ("accuracy_front_only" in figures) == (name == "log-mel")
