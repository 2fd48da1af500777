"""train.demo without its trainings."""

import dataclasses
import json
import types

import numpy as np
import pytest

from tests import toys
from train import demo
from train.config import load_config
from train.config.workdir import save_config
from train.errors import BadInput
from train.pipeline.cache import write_cache
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


def test_its_files_hold_what_they_are_named_for(tmp_path, monkeypatch):
    """Of the held-out digits what they are and what is rebuilt of them, and of each
    model the samples under its own scale."""
    model = types.SimpleNamespace(sampler=lambda **how: None)
    reference = types.SimpleNamespace(
        figures=lambda count: {"train_distance": 2.0}, evaluator=lambda count: None
    )
    parts = {True: {"x": np.uint8([9])}, False: {"x": np.uint8([1, 2, 3])}}
    parts[False]["label"] = None
    drawn = lambda *of, guidance: {"image": np.full((SAMPLES, 1), guidance)}
    for name, stand in {
        "stage_one.train": lambda experiment, folder: None,
        "stage_two.train": lambda experiment, folder: model,
        "_fits": lambda cache, codec: True,
        "whole": lambda data, train: parts[train],
        "train_judge": lambda data: None,
        "Reference": lambda judge, data: reference,
        "evaluated": lambda evaluator, batches: {"accuracy": 0.5, "distance": 3.0},
        "evaluate_tokenizer": lambda codec, data: {},
        "reconstruct": lambda codec, x: (255 - x, None),
        "draw_all": drawn,
        "save_picture": lambda path, pictures: None,
        "drawings": lambda *of: {},
        "bars": lambda found: {},
        "page": lambda found, count: "",
    }.items():
        monkeypatch.setattr(f"train.demo.{name}", stand)
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
