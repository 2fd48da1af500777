"""A tokenizer and data that belong together."""

import dataclasses
import types
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import vqdit
from tests import toys
from tests.train.experiments import TOKENIZER
from tests.train.processes import noting
from train.config.override import replaced
from train.errors import BadInput
from train.modalities import Audio, Images, Ranges, Series
from train.objectives import bundles
from train.objectives.bundles import check_streams, examples_for, open_judge, source
from train.objectives.contract import summary
from train.pipeline import open_examples
from vqdit.features.classifier import Classifier
from vqdit.quantizers import LFQ
from vqdit.tokenizer import LogMel
from vqdit.trained.codec import Codec
from vqdit.trained.judge import Judge


def trained_on(data):
    """What of a tokenizer says what it was trained on."""
    examples = open_examples(data, True)
    return SimpleNamespace(
        contract=SimpleNamespace(
            kind=data.kind,
            shape=tuple(data.shape),
            rate=data.rate,
            offset=examples.offset,
            scale=examples.scale,
            preparation=data.preparation,
        )
    )


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    """As that of data may; nobody's home is a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    vqdit.save(tmp_path / "tok", toys.codec())
    assert isinstance(bundles.open_bundle("~/tok", Codec, "init"), Codec)
    assert bundles.bundle_folder("~/tok") == tmp_path / "tok"
    with pytest.raises(BadInput, match="init: ~nobody-here/tok: no bundle here"):
        bundles.open_bundle("~nobody-here/tok", Codec, "init")
    with pytest.raises(BadInput, match="~nobody-here"):
        open_examples(Images(name="folder", data_dir="~nobody-here"), True)


def test_data_prepared_otherwise_are_refused():
    """Statistics are of beams that returned, so they don't tell what lost ones were."""
    data = Ranges(name="scenes", rows=8, azimuth=16, examples=16, threads=1)
    codec = trained_on(data)
    assert len(examples_for(codec, data, True)) == 16
    codec.contract.preparation = (("far", 2 * data.far),)
    with pytest.raises(BadInput, match=f"prepared with far {data.far}, the"):
        examples_for(codec, data, True)
    codec.contract.preparation = ()  # of before bundles said so
    assert len(examples_for(codec, data, True)) == 16


def test_other_files_are_scored_in_the_held_out_part_of_those_of_training(tmp_path):
    """As the refusal of their own normalisation says."""
    draw = np.random.default_rng(0).normal
    for name, spread in (("usual", 1.0), ("fault", 5.0)):
        (tmp_path / name).mkdir()
        for i in range(6):
            values = draw(size=(16, 2)) * spread
            np.savetxt(tmp_path / name / f"{i}.csv", values, delimiter=",")
    usual = Series("folder", str(tmp_path / "usual"), length=16, channels=2, threads=0)
    usual = dataclasses.replace(usual, holdout="match:^[45]")
    codec = trained_on(usual)
    fault = dataclasses.replace(usual, data_dir=str(tmp_path / "fault"))
    with pytest.raises(BadInput, match="normalisation .*Other files.*'match:REGEX'"):
        examples_for(codec, fault, False)
    both = {"data_dir": str(tmp_path), "holdout": "match:^fault|/[45]"}
    found = examples_for(codec, dataclasses.replace(usual, **both), False)
    assert found.class_names == ("fault", "usual")
    assert found.labels.tolist() == [0] * 6 + [1] * 2


def test_sounds_of_another_level_are_refused():
    data = Audio(rate=2000, length=1000, threads=0)
    louder = dataclasses.replace(data, clean=dataclasses.replace(data.clean, peak=0.5))
    with pytest.raises(BadInput, match=r"prepared with peak 0\.5"):
        examples_for(trained_on(data), louder, False)
    slower = dataclasses.replace(data, rate=1000)
    with pytest.raises(
        BadInput, match=r"data.rate=1000: .* takes 2000 a second; write"
    ):
        examples_for(trained_on(data), slower, False)
    with pytest.raises(
        BadInput, match=r"^data\.b\.rate=1000: .* write data\.b\.rate=2000"
    ):
        check_streams({"b": trained_on(data)}, {"a": data, "b": slower}, False)
    shorter = dataclasses.replace(data, length=500)
    with pytest.raises(BadInput, match=r"takes audio \(1000, 1\), .* audio \(500, 1\)"):
        examples_for(trained_on(data), shorter, False)


def test_a_judge_hears_a_last_part_of_a_hop(monkeypatch):
    """Filled up with silence, it is a frame of its own."""
    data = Audio(rate=2000, length=1000, threads=0)
    front = LogMel(2000, 64, 32, bands=8)
    judge = Judge(Classifier(4, (8,)), {}, (32, 8, 1), {"data": source(data)}, front)
    asked = []

    def opened(path, kind, at):
        asked.append(at)
        return judge

    monkeypatch.setattr(bundles, "open_bundle", opened)
    for length in (993, 1000, 1024):
        assert open_judge("it", dataclasses.replace(data, length=length), 4) is judge
    for length, frames in ((992, 31), (1025, 33)):
        other = dataclasses.replace(data, length=length)
        with pytest.raises(BadInput, match=rf"the data's are \({frames}, 8, 1\)"):
            open_judge("it", other, 4)
    open_judge("it", data, 4, "losses.features")
    assert asked == ["--judge"] * 5 + ["losses.features"]


@pytest.mark.parametrize("error", [ValueError("not finite"), OSError(28, "full")])
def test_a_bundle_that_the_first_cannot_write_all_refuse(error, monkeypatch, tmp_path):
    """The others wait for it, and would for minutes."""
    left, folder = [], tmp_path / "folder"

    def save(fresh, folder, thing):
        raise error

    monkeypatch.setattr(bundles.hosts, "together", noting(left))
    monkeypatch.setattr(bundles, "save_by", save)
    with pytest.raises(BadInput) as caught:
        bundles.keep(folder, "thing")
    assert left == [str(caught.value)] and str(error) in left[0]
    assert ("folder cannot be written" in left[0]) == isinstance(error, OSError)
    monkeypatch.setattr(bundles.hosts, "first", lambda: False)
    assert bundles.keep(folder, "thing") == "thing" and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("quantizer, said", [(LFQ(10), True), (LFQ(8), False)])
def test_a_run_says_that_its_entropy_is_by_groups_of_bits(quantizer, said):
    experiment = replaced(TOKENIZER, {"model.quantizer": quantizer})
    x = jax.ShapeDtypeStruct((1, *experiment.data.shape), "float32")
    stats = dict(jax.eval_shape(experiment.model.init, jax.random.key(0), x))
    state = types.SimpleNamespace(params=stats.pop("params"), stats=stats)
    line = summary(experiment, state)
    assert f"{quantizer.bits} an example, " in line
    assert ("whose entropy is that of groups of 9 bits" in line) == said
