"""The table of an experiment and its variants."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from train import ablate
from train.config.override import replaced
from train.config.workdir import open_workdir
from train.errors import BadInput
from train.modalities import Images
from vqdit.values import describe

pytestmark = pytest.mark.optimized

DEMO = f"--config={Path(__file__).parents[2] / 'configs' / 'demo_tokenizer.py'}"
SHORT = [
    "--config.run.steps=4",
    "--config.run.batch=16",
    "--config.kmeans.step=2",
    "--config.kmeans.samples=512",
    "--config.optimizer.warmup=1",
]


def rows_of(*words):
    return ablate.rows_of(ablate.command_of([*words, "--workdir=x"]))


def test_rows_are_the_file_and_its_variants_with_overrides_on_each():
    rows = rows_of(DEMO, "--config.run.steps=321")
    assert list(rows)[0] == "base" and {"fsq", "gradient"} < set(rows)
    assert {row.run.steps for row in rows.values()} == {321}
    assert type(rows["fsq"].model.quantizer).__name__ == "FSQ"
    only = rows_of(DEMO, '--only=("fsq","base")')
    assert list(only) == ["fsq", "base"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([DEMO, "--workdir=x", '--only=("fsk",)'], "did you mean fsq"),
        (["--workdir=x"], "--config"),
        ([DEMO, "--variant=fsq"], "--variant is no option"),
        (
            [DEMO, "--workdir=x", "--probe=0"],
            "--probe: write a whole number, at least 1",
        ),
        ([DEMO, "--workdir=x", "--config.run.steps=10"], "optimizer.warmup=50"),
        ([DEMO], "write --workdir=..., the folder of all rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        ablate.main(words)
    assert not list(tmp_path.iterdir())


def test_a_row_that_has_begun_goes_on_without_what_it_started_from(tmp_path):
    experiment = replaced(rows_of(DEMO)["base"], {"init": str(tmp_path / "gone")})
    open_workdir(tmp_path / "all" / "base", experiment)
    words = [DEMO, "--only=base", f"--config.init={tmp_path / 'gone'}"]
    words += [f"--workdir={tmp_path / 'all'}"]
    with pytest.raises(BadInput, match="init"):
        ablate.rows_of(ablate.command_of(words))
    (tmp_path / "all" / "base" / "checkpoints" / "300").mkdir(parents=True)
    assert ablate.rows_of(ablate.command_of(words)) == {"base": experiment}


def test_the_table_has_the_columns_that_any_row_has():
    rows = {
        "base": {"psnr_db": 20.126, "step_ms": 3.0},
        "fsq": {"psnr_db": 21.0, "usage": [0.5, 1.0]},  # a value a book
    }
    text = ablate.table(rows, {"base": "-", "fsq": "model.quantizer"})
    assert text.splitlines() == [
        "| row | changed | PSNR, dB | usage | step, ms |",
        "|---|---|---|---|---|",
        "| base | - | 20.13 |  | 3.0 |",
        "| fsq | model.quantizer | 21.00 | 0.750 |  |",
    ]


def test_a_tokenizer_trained_anew_is_probed_anew(tmp_path, monkeypatch):
    """Also where the old one's cache and probe are still there."""
    trained, asked = [], []

    def curve(generator, references, scales, samples, **how):
        asked.append((scales, samples))
        return [{"accuracy": 1.0}]

    monkeypatch.setattr(ablate, "encode_set", lambda *of: of[2].mkdir(parents=True))
    monkeypatch.setattr(ablate, "curve", curve)

    def train(experiment, workdir, force):
        assert Path(experiment.cache).is_dir() and force
        trained.append(workdir)

    monkeypatch.setattr(ablate.stage_two, "train", train)
    for fingerprint in ("1" * 64, "2" * 64, "2" * 64):
        codec = SimpleNamespace(contract=SimpleNamespace(fingerprint=fingerprint))
        found = ablate.probe(codec, Images(), None, tmp_path, 5, 10, 2.5)
        assert found == {"probe_accuracy": 1.0}
    assert trained[0] != trained[1] == trained[2]
    assert set(asked) == {((2.5,), 10)}


def test_a_row_has_the_milliseconds_of_the_step_in_the_middle(tmp_path, monkeypatch):
    """And its parameters, without codebooks."""
    params = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    codec = SimpleNamespace(variables={"params": params, "codebook": np.zeros(99)})
    log = [{"step_seconds": x} for x in (0.5, 0.002, 0.003)] + [{"heldout_loss": 1.0}]
    asked = []

    def scored(*of):
        asked.append(of)
        return {"psnr_db": 20.0}

    monkeypatch.setattr(ablate.stage_one, "train", lambda *_: codec)
    monkeypatch.setattr(ablate, "evaluate_tokenizer", scored)
    monkeypatch.setattr(ablate, "read_metrics", lambda _: log)
    experiment = rows_of(DEMO, "--only=base")["base"]
    found = ablate.row(experiment, tmp_path, {"most": 40}, None, False)
    assert found == {"psnr_db": 20.0, "step_ms": 3.0, "parameters": 10}
    assert asked == [(codec, experiment.data, 40, False, None)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_are_trained_scored_probed_and_not_trained_again(tmp_path, monkeypatch):
    words = [
        DEMO,
        f"--workdir={tmp_path}",
        "--probe=5",
        "--samples=50",
        '--only=("base","fsq")',
        *SHORT,
    ]
    ablate.main(words)
    found = json.loads((tmp_path / "table.json").read_text())
    assert set(found["rows"]) == {"base", "fsq"}
    assert found["changed"] == {"base": "-", "fsq": "model.quantizer"}
    for figures in found["rows"].values():
        assert figures["psnr_db"] > 0 and 0 < figures["usage"] <= 1
        assert figures["probe_distance"] > found["real"]["floor_distance"]
        assert figures["step_ms"] > 0
    monkeypatch.setattr(ablate.stage_one, "train", None)
    ablate.main(words)
    assert json.loads((tmp_path / "table.json").read_text()) == found


def test_a_row_that_was_scored_otherwise_is_not_the_same():
    experiment = rows_of(DEMO, '--only=("fsq",)')["fsq"]
    held = {"experiment": describe(experiment), "flags": {"most": 40}}
    assert ablate._same(held, experiment, {"most": 40})
    assert not ablate._same(held, experiment, {"most": 50})
    other = replaced(experiment, {"run.steps": experiment.run.steps + 1})
    assert not ablate._same(held, other, {"most": 40})
