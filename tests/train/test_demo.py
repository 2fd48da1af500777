"""train.demo without its trainings."""

import dataclasses
import datetime
import json
import types

import jax
import numpy as np
import pytest

from tests import toys
from tests.train.caches import write_cache
from train import demo
from train.config import load_config
from train.config.override import replaced
from train.config.workdir import save_config
from train.errors import BadInput
from train.report.demo_pages import SAMPLES, SETTINGS
from vqdit.values import describe

RECORD = [{"codes": np.zeros((2, 2, 1), int), "label": 0}]


@pytest.mark.parametrize("name", ["tokenizer", *SETTINGS])
def test_every_model_has_the_seed_that_is_written(name):
    own = load_config(f"demo_{name}").run
    assert demo._experiment(name, 7).run == dataclasses.replace(own, seed=7)
    assert demo._experiment(name, 0).run == own


def test_a_cache_of_another_tokenizer_is_made_anew(tmp_path):
    codec = toys.codec()
    assert not demo._fits(tmp_path / "cache", codec)
    held = {"tokenizer": describe(codec.contract)}
    write_cache(tmp_path / "cache", RECORD, held, 1)
    assert demo._fits(tmp_path / "cache", codec)
    contract = dataclasses.replace(codec.contract, fingerprint="f" * 64)
    other = dataclasses.replace(codec, contract=contract)
    assert not demo._fits(tmp_path / "cache", other)
    write_cache(tmp_path / "bare", RECORD, {}, 1)
    assert not demo._fits(tmp_path / "bare", codec)


@pytest.mark.parametrize("more", [[], ["--fresh"]])
@pytest.mark.parametrize("theirs", ["flow/mine.txt", "cache/mine.txt", "tokenizer/x"])
def test_what_is_not_the_demos_own_stays(tmp_path, theirs, more, monkeypatch):
    """Though a run of another experiment has the tokenizer's name."""
    monkeypatch.setattr(demo.stage_one, "train", None)
    (tmp_path / theirs).parent.mkdir()
    (tmp_path / theirs).write_text("mine")
    with pytest.raises(BadInput, match=f"{theirs.split('/')[0]} is no.*another --out"):
        demo.main([f"--out={tmp_path}", *more])
    if not theirs.startswith("tokenizer"):
        (tmp_path / "tokenizer").mkdir()
        save_config(load_config("mnist_tokenizer"), tmp_path / "tokenizer/config.json")
        with pytest.raises(BadInput, match="is no run of demo_"):
            demo.main([f"--out={tmp_path}", *more])
    assert (tmp_path / theirs).read_text() == "mine"


class Parts(dict):
    """Name -> the calls of each part of the demo, none of which does anything, and what
    the clock says."""

    def __init__(self):
        super().__init__()
        self.now, self.fits, self.bars = 1000.0, True, {}


@pytest.fixture
def parts(monkeypatch) -> Parts:
    calls = Parts()
    split = {True: {"x": np.uint8([9])}, False: {"x": np.uint8([1, 2, 3])}}
    split[False]["label"] = "digits"
    image = lambda *of, guidance: {"image": np.full((SAMPLES, 1), guidance)}
    made = lambda name: lambda *of, **how: calls.setdefault(name, []).append(how or of)
    model = lambda name: types.SimpleNamespace(
        name=name, sampler=lambda **how: made("sampler")(name, **how) or f"draw {name}"
    )
    reference = types.SimpleNamespace(
        figures=lambda count: made("figures")(count) or {"train_distance": 2.0},
        evaluator=lambda count: count,
    )
    for name, takes, stand in (
        ("stage_one.train", 10, lambda experiment, folder: "codec"),
        ("stage_two.train", 20, lambda experiment, folder: model(folder.name)),
        ("_fits", 0, lambda cache, codec: calls.fits),
        ("encode_set", 1, lambda *of: None),
        ("whole", 0, lambda data, train: split[train]),
        ("train_judge", 4, lambda data: "judge"),
        ("Reference", 0, lambda judge, data: reference),
        ("evaluated", 0, lambda *of: {"accuracy": 0.5, "distance": 3.0}),
        ("evaluate_tokenizer", 7, lambda codec, data: {}),
        ("reconstruct", 0, lambda codec, x: (255 - x, "codes")),
        ("draw_all", 0, image),
        ("save_picture", 0, lambda path, pictures: None),
        ("drawings", 3, lambda *of: {}),
        ("bars", 0, lambda found: calls.bars),
        ("page", 0, lambda found, count: "# A page"),
    ):

        def called(*of, name=name, takes=takes, stand=stand, **how):
            calls.setdefault(name, []).append(of)
            calls.now += takes
            return stand(*of, **how)

        monkeypatch.setattr(f"train.demo.{name}", called)
    clock = types.SimpleNamespace(time=lambda: calls.now)
    monkeypatch.setattr(demo, "time", clock)
    monkeypatch.setattr(demo, "_IMPORTED", 5.0)
    return calls


def test_its_files_hold_what_they_are_named_for(tmp_path, parts):
    """Of the held-out digits what they are and what is rebuilt of them, and of each
    model the samples under its own scale."""
    demo.main([f"--out={tmp_path}"])
    with np.load(tmp_path / "reconstructions.npz") as found:
        assert found["image"].tolist() == [1, 2, 3]
        assert found["reconstruction"].tolist() == [254, 253, 252]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["tokenizer"] == {"judge_accuracy": 0.5, "distance_ratio": 1.5}
    for name, setting in SETTINGS.items():
        with np.load(tmp_path / f"samples_{name}.npz") as found:
            assert (found["image"] == setting["scale"]).all()
            np.testing.assert_array_equal(found["label"], np.arange(SAMPLES) % 10)
        rows = report["curves"][name]
        assert [row["guidance"] for row in rows] == list(demo.SCALES)
        assert all(row["distance_ratio"] == 1.5 for row in rows)
    # Digits are judged by their own labels, samples by those that were asked for.
    heard, *drawn = [batch for _, (batch,) in parts["evaluated"]]
    assert heard["x"].tolist() == [254, 253, 252] and heard["label"] == "digits"
    assert [count for count, _ in parts["evaluated"]] == [3] + [SAMPLES] * 10
    for batch, scale in zip(drawn, demo.SCALES * 2, strict=True):
        assert (batch["x"] == scale).all()
        np.testing.assert_array_equal(batch["label"], np.arange(SAMPLES) % 10)
        np.testing.assert_array_equal(batch["index"], np.arange(SAMPLES))
    data = load_config("demo_tokenizer").data
    assert parts["figures"] == [(SAMPLES,)]
    assert parts["Reference"] == [("judge", data)] and parts["train_judge"] == [(data,)]
    assert parts["evaluate_tokenizer"] == [("codec", data)]
    ((path, pictures),) = parts["save_picture"]
    assert path == tmp_path / "samples.png" and [*pictures] == [*SETTINGS]
    ((folder, found, train, test, rebuilt, codes, drawn, models),) = parts["drawings"]
    assert (folder, codes, drawn) == (tmp_path, "codes", pictures)
    assert train["x"].tolist() == [9] and test["x"].tolist() == [1, 2, 3]
    assert rebuilt is heard["x"]
    assert {name: model.name for name, model in models.items()} == {
        name: name for name in SETTINGS
    }
    assert parts["page"] == [(found, 1)]
    assert "<h1>A page</h1>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("option", ["--out", "--workdir"])
def test_all_models_have_the_seed_and_the_folder(option, tmp_path, parts):
    """And the generators the tokenizer beside them, through one cache."""
    parts.fits = False
    (tmp_path / "tokenizer").mkdir()
    save_config(load_config("demo_tokenizer"), tmp_path / "tokenizer" / "config.json")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "old").touch()
    (tmp_path / "flow").mkdir()  # of no run
    demo.main([f"{option}={tmp_path}", "--seed=7"])
    tokenizer = demo._experiment("tokenizer", 7)
    assert parts["stage_one.train"] == [(tokenizer, tmp_path / "tokenizer")]
    assert parts["_fits"] == [(tmp_path / "cache", "codec")]
    assert parts["encode_set"] == [("codec", tokenizer.data, tmp_path / "cache")]
    assert not (tmp_path / "cache").exists()  # of another tokenizer
    at = {"streams.image.tokenizer": str(tmp_path / "tokenizer")}
    at["cache"] = str(tmp_path / "cache")
    assert parts["stage_two.train"] == [
        (replaced(demo._experiment(name, 7), at), tmp_path / name) for name in SETTINGS
    ]
    assert parts["sampler"] == [
        {"guidance": 1.0, **setting["sampler"]} for setting in SETTINGS.values()
    ]
    for i, (model, draw, key, ids, labels) in enumerate(parts["draw_all"]):
        name = [*SETTINGS][i // len(demo.SCALES)]
        assert (model.name, draw) == (name, f"draw {name}")
        assert key == jax.random.key(7)
        np.testing.assert_array_equal(ids, np.arange(SAMPLES))
        np.testing.assert_array_equal(labels, np.arange(SAMPLES) % 10)


@pytest.mark.parametrize("fresh", [False, True])
def test_what_it_holds_stays_unless_it_is_to_start_anew(fresh, tmp_path, parts):
    """All but the report; a cache that fits is not encoded again."""
    for name in (*demo.STAGES, "cache", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "held").touch()
        if name in demo.STAGES:
            config = tmp_path / name / "config.json"
            save_config(load_config(f"demo_{name}"), config)
    demo.main([f"--out={tmp_path}", *["--fresh"] * fresh])
    for name in (*demo.STAGES, "cache"):
        assert (tmp_path / name).exists() != fresh
    assert (tmp_path / "mine" / "held").exists() and "encode_set" not in parts
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["cold_start"] == fresh


def test_its_report_says_how_it_was_made(tmp_path, parts, monkeypatch, capsys):
    """Seconds of each part, and of all with the import before; without options in
    runs/demo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    demo.main([])
    assert parts["stage_one.train"][0][0].run.seed == 0
    assert parts["draw_all"][0][2] == jax.random.key(0)
    report = json.loads((tmp_path / "runs/demo/report.json").read_text())
    assert report["seconds"] == {
        **{"tokenizer": 10, "flow": 20, "masked": 20, "judge": 4, "scoring": 7},
        **{"report": 3, "total": 64 + 5},
    }
    assert report["command"] == "python -m train.demo"
    assert report["hardware"] == "3 x abacus"
    assert report["jax"] == f"{jax.__version__} on cpu"
    assert report["date"] == datetime.date.today().isoformat()
    assert report["cold_start"] and report["bars"] == {}
    assert report["real"] == {"train_distance": 2.0}
    assert report["steps"] == {"tokenizer": 1500, "flow": 2500, "masked": 2500}
    assert {name: {*each} for name, each in report["settings"].items()} == {
        name: {"scale", "sampler"} for name in SETTINGS
    }
    assert report["settings"]["flow"]["scale"] == "1.25"
    out, err = capsys.readouterr()
    assert err.splitlines() == ["scoring", "69 s; all bars met"]
    assert out.splitlines() == [
        "The report is runs/demo/report.html. Draw more samples with",
        "  python -m train.sample --workdir=runs/demo/flow --label=3 --guidance=1.25",
    ]
    parts.bars = {
        "a": {"passed": True, "usual": True},
        "b": {"passed": False, "usual": True},
        "c": {"passed": True, "usual": False},
    }
    demo.main(["--out=other", "--seed=1"])
    assert (
        "s; missed: ['b']; outside the usual spread: ['c']" in capsys.readouterr().err
    )
    report = json.loads((tmp_path / "other/report.json").read_text())
    assert report["command"] == "python -m train.demo --out=other --seed=1"
    assert report["bars"] == parts.bars
    parts.bars["b"] = {"passed": True, "usual": False}
    demo.main(["--out=other"])
    said = " s; all bars met; outside the usual spread: ['b', 'c']\n"
    assert capsys.readouterr().err.endswith(said)
    with pytest.raises(BadInput, match="--workdir and --out are the same here"):
        demo.main(["--out=other", "--workdir=other"])
