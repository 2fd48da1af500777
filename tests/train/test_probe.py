"""train.probe as a program: on a tokenizer and on a transformer of drawn weights."""

import json
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import vqdit
from tests import toys
from train import probe
from train.config import Run, StageOne, StageTwo, Stream
from train.config.workdir import save_config
from train.errors import BadInput
from train.modalities import Images
from vqdit import Continuous, Gaussian

DATA = Images(name="digits", size=4, channels=1, threads=0)
FEW = ("--train_most=120", "--most=40")


def workdir(folder, thing, experiment):
    folder.mkdir()
    save_config(experiment, folder / "config.json")
    vqdit.save(folder / "bundle", thing)
    return f"--workdir={folder}"


def read(folder, name):
    return json.loads((Path(folder) / name).read_text())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    codec = toys.codec()
    run = Run(steps=10, batch=4)
    experiment = StageOne(name="tok", data=DATA, model=codec.module, run=run)
    return workdir(tmp_path_factory.mktemp("a") / "tok", codec, experiment)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    codec, stream = toys.codec(), Continuous("image", (2, 2), 2)
    found = toys.generator(
        [stream], {"image": Gaussian()}, {"image": codec}, classes=10
    )
    experiment = StageTwo(
        name="dit",
        data=DATA,
        model=found.module.clone(streams=()),
        streams={"image": Stream(Gaussian(), tokenizer="tok")},
        run=Run(steps=10, batch=4),
    )
    return workdir(tmp_path_factory.mktemp("b") / "dit", found, experiment)


@pytest.mark.slow
def test_a_tokenizer_layer_by_layer(tokenizer, capsys, monkeypatch):
    """One table, whatever is held at once, beside components of as many dimensions."""
    folder = tokenizer.partition("=")[2]
    layers = "--layers=encoder/conv_in,latents,codes"
    probe.main([tokenizer, layers, "--pool=flat", *FEW])
    found = read(folder, "probe.json")
    rows = {row["layer"]: row for row in found["rows"]}
    assert [row["dim"] for row in found["rows"]] == [64, 8, 36]
    assert [row["pca_dim"] for row in found["rows"]] == [16, 8, 16]
    assert found["examples"] == [120, 40] and found["target"] == "label"
    # A convolution's outputs say what pixels say: far more than chance.
    assert rows["encoder/conv_in"]["linear"] > 0.5 > 2 * found["chance"]
    with Image.open(f"{folder}/probe.png") as picture:
        assert picture.size[0] > 300
    said = capsys.readouterr().out
    assert "label, 10 classes: 120 training and 40 held-out" in said and "codes" in said
    monkeypatch.setattr(probe, "BYTES", 4 * 160 * 65)
    probe.main([tokenizer, layers, "--pool=flat", *FEW, f"--out={folder}/b.json"])
    assert read(folder, "b.json") == found


@pytest.mark.slow
def test_a_transformer_time_by_time(transformer):
    folder, layers = transformer.partition("=")[2], ["--layers=embedded,block_00"]
    probe.main([transformer, "--times=(0.0, 1.0)", "--pool=flat", *layers, *FEW])
    rows = read(folder, "probe.json")["rows"]
    assert [(row["layer"], row["time"]) for row in rows] == [
        (layer, t) for t in (0.0, 1.0) for layer in ("embedded", "block_00")
    ]
    data, noise = rows[0], rows[2]
    assert data["linear"] > 0.3  # what latents of drawn weights say
    assert abs(noise["linear"] - 0.1) < 5 * np.sqrt(0.09 / 40)  # nothing but chance
    assert data["pca_linear"] == noise["pca_linear"]


def test_bad_words_are_one_line(tokenizer, transformer, tmp_path):
    for argv, words in (
        (
            [tokenizer, "--layers=middle"],
            "'middle': there are encoder/conv_in",
        ),
        ([tokenizer, "--times=0.5"], "--times is of a generator; drop it"),
        ([transformer, "--times=1.5"], "--times: 1.5 is none; write 0"),
        ([transformer, "--of=sound"], "of=sound: the streams are image"),
        ([transformer, "--target=speaker"], "examples of digits have no names"),
        ([transformer, "--out=table.csv"], "--out=table.csv: write a .json"),
        ([f"--workdir={tmp_path}"], "config.json|no bundle"),
    ):
        with pytest.raises(BadInput, match=words) as error:
            probe.main(argv)
        assert "\n" not in str(error.value)


def test_the_table_says_how_sure_it_is():
    """By the held-out examples, of which 25 tell a half to a tenth."""
    row = {"layer": "latents", "time": None, "dim": 8, "linear": 0.5}
    row |= {"pca_linear": 0.25, "neighbours": 0.75, "pca_neighbours": 1.0}
    figures = {"target": "label", "classes": ["a", "b"], "examples": (100, 25)}
    said = probe.text([row], figures | {"chance": 0.6, "left_out": 3}).splitlines()
    assert said[0].endswith(
        "60.0% by the commonest class; standard error at most 10.0%"
    )
    assert said[1] == "3 of no training class are left out"
    assert said[2].split() == "layer time dims linear pca nearest pca".split()
    assert said[3].split() == "latents 8 50.0% 25.0% 75.0% 100.0%".split()


def test_the_programs_seed_is_that_of_the_noise(transformer, monkeypatch):
    """And 0 where none is written."""
    keys = []

    def table(asked, train, held, key):
        keys.append(jax.random.key_data(key).tolist())
        raise ValueError("enough")

    monkeypatch.setattr(probe, "table", table)
    for words in ((), ("--seed=0",), ("--seed=7",)):
        with pytest.raises(BadInput, match="enough"):
            probe.main([transformer, *words, *FEW])
    assert keys[0] == keys[1] == jax.random.key_data(jax.random.key(0)).tolist()
    assert keys[2] == jax.random.key_data(jax.random.key(7)).tolist()


def test_noise_is_of_the_seed_and_of_the_part():
    """An example's number stands for another one in the other part, and noise that
    both had would make them alike."""
    batch, calls = {"index": np.array([3, 1])}, []

    def asked(seed, train, time):
        extract = lambda shown, *of, time: calls.append((*of, time))
        gathered = lambda ask, doing: ask(batch)
        part = types.SimpleNamespace(train=train, gathered=gathered)
        shown = types.SimpleNamespace(shown=lambda batch: None)
        probe._features(shown, extract, part, time, jax.random.key(seed), "")
        key, ids, t = calls.pop()
        assert ids.tolist() == [3, 1] and t == time
        return jax.random.key_data(key).tolist()

    keys = [asked(seed, train, 0.5) for seed in (0, 1) for train in (True, False)]
    assert all(a != b for i, a in enumerate(keys) for b in keys[:i])
    # One layer of a part is compared over times under one noise.
    assert asked(0, True, 0.25) == keys[0]
