"""A kind of signal that is written here passes through the whole house."""

import dataclasses

import numpy as np
import pytest

from tests.train.experiments import SMALL
from train import compress, decompress, modalities, stage_one
from train.config.experiment import Optimizer, Run, StageOne
from train.evaluation.scores import evaluate_tokenizer
from train.inspect import inspect, lines
from train.modalities import Modality, Record
from vqdit.quantizers import FSQ
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer


@dataclasses.dataclass(frozen=True)
class Ramps(Modality):
    """Numbers in text files, a line each."""

    kind, suffixes, normalise = "ramp", (".ramp",), "range"
    shape = (16, 1)

    def read(self, path):
        values = np.loadtxt(path, dtype=np.float32, ndmin=2)
        return Record(values, suffix=".ramp")

    def write(self, record):
        return "\n".join(map(str, record.values[:, 0])).encode()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of slopes; and its line among the modalities' public names."""
    monkeypatch.setattr(modalities, "Ramps", Ramps, raising=False)
    folder = tmp_path / "ramps"
    folder.mkdir()
    for i in range(24):
        np.savetxt(folder / f"{i}.ramp", 3 + np.arange(16) * (i - 11.5))
    return Ramps(data_dir=str(folder), threads=0)


@pytest.mark.slow
def test_a_toy_modality_is_inspected_trained_scored_and_coded(data, tmp_path):
    report, plots = inspect(data)
    assert "Ramps: ramp of 16 x 1" in list(lines(report))[0] and "augmented" in plots
    small = SMALL | {"channels": 8, "dims": 1, "blocks": 0}
    experiment = StageOne(
        name="toy",
        data=data,
        run=Run(steps=4, batch=8),
        optimizer=Optimizer(peak_lr=1e-2),
        model=Tokenizer(
            ConvEncoder(**small, out=2), ConvDecoder(**small, out=1), FSQ((5, 5))
        ),
    )
    codec = stage_one.train(experiment, tmp_path / "run")
    assert codec.contract.kind == "ramp" and codec.contract.shape == (16, 1)
    figures = evaluate_tokenizer(codec, data)
    assert np.isfinite(figures["score_db"]) and figures["bits_per_example"] > 0
    # Of any length, through the files of its own.
    np.savetxt(tmp_path / "long.ramp", np.linspace(-50, 50, 40))
    bundle, coded = f"--bundle={tmp_path / 'run'}", tmp_path / "coded"
    compress.main([str(tmp_path / "long.ramp"), bundle, f"--out={coded}"])
    decompress.main([str(coded), bundle, f"--out={tmp_path / 'out'}"])
    back = data.read(tmp_path / "out" / "long.ramp").values
    assert back.shape == (40, 1) and np.isfinite(back).all()
    assert (coded / "long.vqd").stat().st_size < (tmp_path / "long.ramp").stat().st_size
