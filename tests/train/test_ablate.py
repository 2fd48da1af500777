"""The table of an experiment and its variants."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from train import ablate
from train.config import Optimizer, Run, StageTwo, Stream
from train.config.override import replaced
from train.config.workdir import open_workdir
from train.errors import BadInput
from train.modalities import Images
from vqdit.diffusion import Gaussian, LogitNormal
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.sealed import opened, sealed
from vqdit.trained.bundle import read_json
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
        (["--workdir=x"], "there is no x/config.json"),
        ([DEMO, "--variant=fsq"], "--variant is no option"),
        (
            [DEMO, "--workdir=x", "--probe=0"],
            "--probe: write a whole number, at least 1",
        ),
        ([DEMO, "--workdir=x", "--config.run.steps=10"], "optimizer.warmup=50"),
        (
            [DEMO, "--workdir=x", "--config.model.quantizer.num_codes=32"],
            "row fsq: model.quantizer.num_codes does not exist",
        ),
        ([DEMO], "write --workdir=..., the folder of all rows"),
        ([DEMO, "--workdir=x", "--samples=5"], "--samples is of --probe; write it, t"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        ablate.main(words)
    assert not list(tmp_path.iterdir())


def test_a_runs_own_experiment_has_no_variants(tmp_path):
    open_workdir(tmp_path, rows_of(DEMO, "--only=base")["base"])
    with pytest.raises(BadInput, match="write --config=FILE, whose variants"):
        ablate.rows_of(ablate.command_of([f"--workdir={tmp_path}"]))


def test_a_row_that_has_begun_goes_on_without_what_it_started_from(tmp_path):
    experiment = replaced(rows_of(DEMO)["base"], {"init": str(tmp_path / "gone")})
    open_workdir(tmp_path / "all" / "base", experiment)
    words = [DEMO, "--only=base", f"--config.init={tmp_path / 'gone'}"]
    words += [f"--workdir={tmp_path / 'all'}"]
    with pytest.raises(BadInput, match="init"):
        ablate.rows_of(ablate.command_of(words))
    (tmp_path / "all" / "base" / "checkpoints" / "300").mkdir(parents=True)
    assert ablate.rows_of(ablate.command_of(words)) == {"base": experiment}


def test_a_row_of_another_experiment_is_refused_before_any_is_trained(tmp_path):
    fsq = rows_of(DEMO, "--only=fsq")["fsq"]
    open_workdir(tmp_path / "fsq", replaced(fsq, {"run.batch": 32}))
    before = (tmp_path / "fsq" / "config.json").read_bytes()
    words = [DEMO, f"--workdir={tmp_path}", "--only=base,fsq"]
    with pytest.raises(BadInput, match=r"row fsq: .*run.batch: 32 -> 64.*--force"):
        ablate.rows_of(ablate.command_of(words))
    assert list(ablate.rows_of(ablate.command_of([*words, "--force"]))) == [
        "base",
        "fsq",
    ]
    # Nothing is put aside until the row is trained.
    assert (tmp_path / "fsq" / "config.json").read_bytes() == before


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


def test_every_figure_has_its_title_and_decimals():
    names = "psnr_db ssim rmse_reconstruction rmse_m accuracy si_sdr_db log_mel_nat"
    names += " kbps usage perplexity bits_per_example step_ms probe_accuracy"
    names = [*names.split(), "probe_distance", "examples"]  # the last is no column
    text = ablate.table({"base": dict.fromkeys(names, 2.34567)}, {"base": "-"})
    first, _, row = text.splitlines()
    assert first == (
        "| row | changed | PSNR, dB | SSIM | RMSE | RMSE, m | accuracy | SI-SDR, dB "
        "| log-mel, nat | kbps | usage | perplexity | bits | step, ms "
        "| probe accuracy | probe Fréchet |"
    )
    assert row == (
        "| base | - | 2.35 | 2.346 | 2.3457 | 2.346 | 2.346 | 2.35 | 2.346 | 2.35 "
        "| 2.346 | 2.3 | 2.3 | 2.3 | 2.346 | 2.3 |"
    )


def test_a_tokenizer_trained_anew_is_probed_anew(tmp_path, monkeypatch):
    """Also where the old one's cache and probe are still there."""
    trained, asked = [], []

    def curve(generator, references, scales, samples, **how):
        asked.append((scales, samples))
        return [{"accuracy": 1.0}]

    monkeypatch.setattr(ablate, "encode_set", lambda *of: of[2].mkdir(parents=True))
    monkeypatch.setattr(ablate, "curve", curve)

    def train(experiment, workdir, force):
        assert Path(experiment.cache) == workdir / "cache" and force
        assert Path(experiment.cache).is_dir()
        trained.append(workdir)

    monkeypatch.setattr(ablate.stage_two, "train", train)
    for fingerprint in ("1" * 64, "2" * 64, "2" * 64):
        codec = SimpleNamespace(contract=SimpleNamespace(fingerprint=fingerprint))
        found = ablate.probe(codec, Images(), None, tmp_path, 5, 10, 2.5)
        assert found == {"probe_accuracy": 1.0}
    assert trained[0] != trained[1] == trained[2]
    assert set(asked) == {((2.5,), 10)}
    assert not list(tmp_path.rglob("cache"))


def test_a_probe_is_one_small_transformer_on_data_that_nothing_augments(
    tmp_path, monkeypatch
):
    """Of as many steps as are asked for; it is drawn from in 16."""
    encoded, asked, trained = [], [], []

    def encode(codec, data, cache):
        cache.mkdir(parents=True)
        encoded.append((codec, data))

    def train(experiment, workdir, force):
        trained.append(experiment)
        return "generator"

    def curve(*of, **how):
        asked.append((of, how))
        return [{"distance": 4.0}]

    monkeypatch.setattr(ablate, "encode_set", encode)
    monkeypatch.setattr(ablate.stage_two, "train", train)
    monkeypatch.setattr(ablate, "curve", curve)
    codec = SimpleNamespace(contract=SimpleNamespace(fingerprint="f" * 64))
    data = Images("digits", size=8, channels=1, threads=0, flip=True)
    for steps in (50, 1000):
        ablate.probe(codec, data, "real", tmp_path, steps, 10, 2.5)
        cache = tmp_path / "probe_ffffffff" / "cache"
        cache.mkdir()  # of a run that was cut short while it removed what was in it
    still = replaced(data, {"flip": False})
    assert encoded == [(codec, still)] * 2
    assert asked == [(("generator", {"image": "real"}, (2.5,), 10), {"steps": 16})] * 2
    short, long = trained
    assert long == StageTwo(
        name="probe",
        data=still,
        model=DiT(width=96, depth=4, classes=10, block=Block(4, qk_norm="rms")),
        streams={"image": Stream(Gaussian(), str(tmp_path), LogitNormal())},
        cache=str(cache),
        optimizer=Optimizer(2e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.995),
        run=Run(steps=1000, batch=64, save_every=1000),
    )
    assert short == replaced(
        long, {"run.steps": 50, "run.save_every": 50, "optimizer.warmup": 10}
    )


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


@pytest.fixture
def trained(monkeypatch) -> list:
    """Of every training its experiment, folder and force; nothing is trained."""
    asked = []
    codec = SimpleNamespace(variables={"params": {}})
    train = lambda *of: asked.append(of) or codec
    monkeypatch.setattr(ablate.stage_one, "train", train)
    monkeypatch.setattr(ablate, "evaluate_tokenizer", lambda *of: {"examples": of[2]})
    monkeypatch.setattr(ablate, "read_metrics", lambda _: [{"step_seconds": 0.5}])
    return asked


def test_a_row_is_trained_anew_where_it_is_asked_for_otherwise(tmp_path, trained):
    """Not where others are asked for beside it. What is written is what is returned."""
    experiment = rows_of(DEMO, "--only=base")["base"]
    row = lambda flags, force=False: ablate.row(
        experiment, tmp_path, flags, None, force
    )
    first = row({"most": 40, "only": ("base",)})
    assert first == {"examples": 40, "step_ms": 500.0, "parameters": 0}
    assert trained == [(experiment, tmp_path, False)]
    assert opened(read_json(tmp_path / "row.json")) == {
        "of": {"experiment": describe(experiment), "flags": {"most": 40}},
        "figures": first,
    }
    assert row({"most": 40}) == first and len(trained) == 1
    assert row({"most": 50}, force=True)["examples"] == 50
    assert trained[1:] == [(experiment, tmp_path, True)]
    whole = (tmp_path / "row.json").read_text()
    spoiled = whole.replace('"examples": 50', '"examples": 51')
    for text in ('{"of": {}}', '{"figures": {}}', spoiled):
        (tmp_path / "row.json").write_text(text)
        with pytest.raises(BadInput, match="row.json: .*; remove it to score"):
            row({"most": 50})


def test_a_row_without_some_figure_is_read_again(tmp_path, trained, monkeypatch):
    """JSON has no number for what is not finite: of gaps that there are not, say."""
    experiment = rows_of(DEMO, "--only=base")["base"]
    scored = {"rmse_gaps": float("nan"), "psnr_db": np.inf, "rows": [{"x": -np.inf}]}
    monkeypatch.setattr(ablate, "evaluate_tokenizer", lambda *of: dict(scored))
    row = lambda: ablate.row(experiment, tmp_path, {}, None, False)
    first = row()
    assert (first["rmse_gaps"], first["psnr_db"], first["rows"]) == (
        *(None, None),
        [{"x": None}],
    )
    assert row() == first and len(trained) == 1


@pytest.mark.parametrize(
    "flags, steps",
    [
        ({"probe": 7}, (7, 500, 1.5)),
        ({"probe": 7, "samples": 20, "probe_guidance": 3.0}, (7, 20, 3.0)),
    ],
)
def test_a_row_is_probed_as_it_is_asked_for(
    flags, steps, tmp_path, trained, monkeypatch
):
    asked = []
    probe = lambda *of: asked.append(of) or {"probe_distance": 2.0}
    monkeypatch.setattr(ablate, "probe", probe)
    experiment = rows_of(DEMO, "--only=base")["base"]
    found = ablate.row(experiment, tmp_path, flags, "real", False)
    assert found["probe_distance"] == 2.0
    ((codec, *rest),) = asked
    assert codec.variables == {"params": {}}
    assert rest == [experiment.data, "real", tmp_path, *steps]
    assert ablate.row(experiment, tmp_path, flags, "real", False) == found
    assert len(asked) == 1


def test_a_row_of_sound_is_heard_by_a_judge_of_its_own(tmp_path, trained, monkeypatch):
    judged = []
    monkeypatch.setattr(Images, "front", "a front end")
    monkeypatch.setattr(ablate, "judge_of", lambda *of: of)
    scored = lambda *of: judged.append(of[4]) or {}
    monkeypatch.setattr(ablate, "evaluate_tokenizer", scored)
    experiment = rows_of(DEMO, "--only=base")["base"]
    ablate.row(experiment, tmp_path, {}, None, False)
    assert judged == [(experiment.data, 10)]


def test_the_table_is_written_after_every_row(tmp_path, monkeypatch, capsys):
    """With what real images have, where rows are probed; the command goes on with the
    rest."""
    asked, counted, judged = [], [], []
    ends = {"fsq"}

    def row(experiment, folder, flags, reference, force):
        asked.append((folder, dict(flags), force))
        if folder.name in ends:
            raise KeyboardInterrupt
        rows[folder.name] = experiment
        assert reference.network == "judge" and reference.data == experiment.data
        return {"psnr_db": 20.0 + len(folder.name)}

    def figures(reference, count):
        counted.append(count)
        return {"floor_distance": 2.0}

    rows = {}
    monkeypatch.setattr(ablate, "row", row)
    monkeypatch.setattr(
        ablate, "train_judge", lambda data: judged.append(data) or "judge"
    )
    monkeypatch.setattr(ablate.Reference, "figures", figures)
    folder = tmp_path / "new" / "rows"
    words = [DEMO, f"--workdir={folder}", "--only=base,fsq", "--probe=5"]
    with pytest.raises(KeyboardInterrupt):
        ablate.main(words)
    found = json.loads((folder / "table.json").read_text())
    changed = {"base": "-", "fsq": "model.quantizer"}
    real = {"floor_distance": 2.0}
    assert found == {
        "rows": {"base": {"psnr_db": 24.0}},
        "changed": changed,
        "real": real,
    }
    ends.clear()
    capsys.readouterr()
    ablate.main([*words, "--force", "--samples=30"])
    found = json.loads((folder / "table.json").read_text())
    both = {"base": {"psnr_db": 24.0}, "fsq": {"psnr_db": 23.0}}
    assert found == {"rows": both, "changed": changed, "real": real}
    out, err = capsys.readouterr()
    text = (folder / "table.md").read_text()
    assert text == ablate.table(both, changed) and out == text + "\n"
    assert err.splitlines() == ["row base", "row fsq"]
    flags = {"only": ("base", "fsq"), "probe": 5}
    assert asked == [
        *((folder / name, flags, False) for name in ("base", "fsq")),
        *((folder / name, flags | {"samples": 30}, True) for name in ("base", "fsq")),
    ]
    assert counted == [500, 30, 30] and judged == [rows["base"].data] * 2


def test_a_table_without_probes_says_nothing_of_real_images(tmp_path, monkeypatch):
    row = lambda *of: {"psnr_db": 20.0} if of[3] is None else None
    monkeypatch.setattr(ablate, "row", row)
    ablate.main([DEMO, f"--workdir={tmp_path}", "--only=fsq"])
    found = json.loads((tmp_path / "table.json").read_text())
    changed = {"fsq": "model.quantizer"}  # though nothing of `base` is trained
    assert found == {"rows": {"fsq": {"psnr_db": 20.0}}, "changed": changed}


def test_a_table_keeps_the_rows_that_are_not_asked_for(tmp_path, monkeypatch):
    """Those of the same experiment and flags, in the file's order."""
    trained = []

    def train(experiment, workdir, force):
        trained.append(workdir.name)
        workdir.mkdir(exist_ok=True)
        return SimpleNamespace(variables={"params": {}})

    monkeypatch.setattr(ablate.stage_one, "train", train)
    monkeypatch.setattr(ablate, "read_metrics", lambda folder: [{"step_seconds": 1}])
    scores = lambda *of: {"psnr_db": float(len(trained))}
    monkeypatch.setattr(ablate, "evaluate_tokenizer", scores)

    def rows(*words):
        ablate.main([DEMO, f"--workdir={tmp_path}", *words])
        found = json.loads((tmp_path / "table.json").read_text())
        lines = (tmp_path / "table.md").read_text().splitlines()[2:]
        assert [line.split(" | ")[0] for line in lines] == [
            f"| {name}" for name in found["rows"]
        ]
        assert [*found["changed"]] == [*found["rows"]]
        return {name: figures["psnr_db"] for name, figures in found["rows"].items()}

    assert rows("--only=gradient,base") == {"base": 2, "gradient": 1}
    assert rows("--only=fsq") == {"base": 2, "fsq": 3, "gradient": 1}
    assert rows("--only=fsq", "--most=5") == {"fsq": 4}
    assert rows("--only=base", "--config.model.quantizer.num_codes=32") == {"base": 5}
    assert trained == ["gradient", "base", "fsq", "fsq", "base"]


@pytest.mark.parametrize("lacks", ["judge", "pictures", "classes"])
def test_what_no_judge_tells_apart_is_not_probed(lacks, tmp_path, monkeypatch):
    if lacks == "judge":
        monkeypatch.setattr(Images, "judged", 0)
    elif lacks == "pictures":
        monkeypatch.setattr(Images, "front", "of sound")
    else:
        none = SimpleNamespace(classes=0)
        monkeypatch.setattr(ablate, "open_examples", lambda data, train: none)
    monkeypatch.setattr(ablate, "row", None)
    monkeypatch.setattr(ablate, "train_judge", None)
    if lacks != "classes":  # no data are opened for it
        monkeypatch.setattr(ablate, "open_examples", None)
    with pytest.raises(BadInput, match="--probe scores samples of labelled images"):
        ablate.main([DEMO, f"--workdir={tmp_path}", "--only=base", "--probe=5"])


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


def test_a_row_that_was_scored_otherwise_is_not_the_same(tmp_path):
    experiment = rows_of(DEMO, '--only=("fsq",)')["fsq"]
    held = {"experiment": describe(experiment), "flags": {"most": 40}}

    def same(of, experiment, flags):
        content = sealed({"of": of, "figures": {"psnr_db": 20.0}})
        (tmp_path / "row.json").write_text(json.dumps(content))
        return bool(ablate.scored(experiment, tmp_path, flags))

    assert same(held, experiment, {"most": 40, "only": ("fsq",)})
    assert not same(held, experiment, {"most": 50})
    # A file without them is of nothing that is known.
    for lacking in (3, {}, {"flags": {}}, {"experiment": held["experiment"]}):
        assert not same(lacking, experiment, {})
    other = replaced(experiment, {"run.steps": experiment.run.steps + 1})
    assert not same(held, other, {"most": 40})
