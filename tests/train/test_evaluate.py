"""train.evaluate as a program: what is asked of whom, with nothing computed."""

import json
import types

import numpy as np
import pytest

import vqdit
from tests import toys
from tests.train.experiments import of_values
from tests.train.processes import noting
from train import evaluate
from train.config import Run, StageOne
from train.config.options.expression import parse_value
from train.config.workdir import save_config
from train.errors import BadInput
from train.evaluation import scores, texts
from train.evaluation.crossings import crossings
from train.evaluation.drawing import SAMPLER
from train.evaluation.estimates import Estimate
from train.evaluation.samples import prefixed
from train.evaluation.scores import references_of
from train.modalities import Audio, Images
from train.objectives import contract
from train.objectives.bundles import seal_of
from vqdit import Discrete, Labels, Masking

DATA = Images(name="digits", size=8, channels=1, threads=0)
TWO = types.SimpleNamespace(streams={"a": None, "b": None})
ANSWER = types.SimpleNamespace(evaluators=lambda **_: [1])
NO_MODEL = types.SimpleNamespace(data=DATA, model=types.SimpleNamespace(latent_dim=2))
OF_ONE = types.SimpleNamespace(one_data=DATA)
BARS = "--config.bars=('a_to_b accuracy >= 0.5',)"


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """The word of a workdir of two streams of labels."""
    folder = tmp_path_factory.mktemp("joint")
    streams = [Discrete(name, (1,), 11) for name in "ab"]
    values = {name: Labels(10) for name in "ab"}
    made = toys.generator(streams, dict.fromkeys(values, Masking()), values)
    vqdit.save(folder / "bundle", made)
    save_config(of_values("joint", DATA, values), folder / "config.json")
    return folder


@pytest.fixture
def asked(monkeypatch):
    """Name of what is called -> what it was called with, but for the first two."""
    found = {}

    def stands(name, gives):
        def call(*of, **how):
            found[name] = (of[2:], how)
            return gives

        monkeypatch.setattr(evaluate, name, call)

    stands("foreseen", {})
    stands("references_of", {})
    stands("crossings", {"a_to_b": {"model": {"accuracy": 0.75}, "examples": 3}})
    stands("forecasts", {"a_after_1": {"model": {"psnr_db": 20.0}}})
    stands("evaluate_generator", {"curve": [], "protocol": {}})
    return found


def test_crossings_and_forecasts_stand_in_one_file(joint, asked, capsys):
    """And bars are checked on all of it."""
    words = ["--crossings", "--shown.a=1", "--num=7", "--seed=3", "--steps=2"]
    evaluate.main([f"--workdir={joint}", *words, "--guidance=(1.0,2.0)", BARS])
    found = json.loads((joint / "evaluation.json").read_text())
    assert found["crossings"].keys() == {"a_to_b", "a_after_1"}
    asked_so, seal = found.pop("asked"), found.pop("seal")
    assert seal == seal_of(joint) and asked_so.keys() == found["crossings"].keys()
    scales, by = [1.0, 2.0], {"a_to_b": "{'b': Plain()}", "a_after_1": "{'a': Plain()}"}
    for name, how in asked_so.items():
        assert how["guidance"] == (scales if name == "a_to_b" else None)
        assert how["sampler"]["solver"] == by[name] and how["sampler"]["steps"] == "2"
        assert how["seed"] == 3 and "before" not in how["sampler"]
    assert found["experiment"] == "joint" and found["curve"] == []
    drawn = {"num": 7, "seed": 3, "steps": 2}
    each = {"scales": (1.0, 2.0), "join": "index"}
    assert asked["crossings"] == (({}, True), drawn | each)
    assert asked["forecasts"] == (({"a": 1},), drawn)
    assert drawn.items() <= asked["evaluate_generator"][1].items()
    said = capsys.readouterr()
    assert said.out == json.dumps(found, indent=1) + "\n"
    assert "a_to_b accuracy >= 0.5: met, 0.75" in said.err


def measured(folder, monkeypatch, crossing, *words, accuracy=0.75):
    """The file, after a crossing was measured."""
    found = {crossing: {"model": {"accuracy": accuracy}, "examples": 3}}
    monkeypatch.setattr(evaluate, "crossings", lambda *_, **__: found)
    evaluate.main([f"--workdir={folder}", f"--crossings={crossing}", *words])
    return json.loads((folder / "evaluation.json").read_text())


def test_a_crossing_says_what_it_was_drawn_by(joint, asked, monkeypatch):
    """Of its own streams: not what is drawn before of those that are given."""
    words = ("--before=a", "--solver={'b':Unmask(),'a':Confidence()}")
    (joint / "evaluation.json").unlink(missing_ok=True)
    for crossing, kind in (("a_to_b", "Unmask"), ("b_to_a", "Confidence")):
        found = measured(joint, monkeypatch, crossing, *words)
        sampler = found["asked"][crossing]["sampler"]
        solver = parse_value(sampler["solver"], SAMPLER["solver"][0], "it")
        assert {n: type(x).__name__ for n, x in solver.items()} == {crossing[-1]: kind}
        assert "before" not in sampler
    monkeypatch.setattr(evaluate, "crossings", lambda *_, **__: {"agree": {}})
    evaluate.main([f"--workdir={joint}", "--crossings", *words, "--guidance=(2.0,)"])
    agree = json.loads((joint / "evaluation.json").read_text())["asked"]["agree"]
    assert agree["sampler"]["before"] == "('a',)" and agree["guidance"] == [2.0]
    evaluate.main([f"--workdir={joint}", "--crossings", "--guidance=(2.0,)"])
    agree = json.loads((joint / "evaluation.json").read_text())["asked"]["agree"]
    assert agree["guidance"] is None, "nothing guides what is drawn of nothing"


def test_crossings_that_were_measured_before_stay(joint, asked, monkeypatch, capsys):
    (joint / "evaluation.json").unlink(missing_ok=True)
    measured(joint, monkeypatch, "a_to_b", "--num=7", "--draws=4", "--seed=2")
    capsys.readouterr()
    words = ("--steps=9", "--guidance=(2.0,)", BARS)
    found = measured(joint, monkeypatch, "b_to_a", *words)
    said = capsys.readouterr()
    assert found["crossings"].keys() == {"a_to_b", "b_to_a"}
    how = found["asked"]
    assert {"num": 7, "draws": 4, "seed": 2}.items() <= how["a_to_b"].items()
    assert how["a_to_b"]["sampler"]["steps"] == "50"
    assert how["b_to_a"]["guidance"] == [2.0] and how["b_to_a"]["num"] == 1000
    assert how["b_to_a"]["sampler"]["steps"] == "9"
    # What is printed is what was measured now; a bar takes what there is.
    assert json.loads(said.out)["crossings"].keys() == {"b_to_a"}
    assert "a_to_b accuracy >= 0.5: met, 0.75 (measured before)" in said.err
    # The newest replaces the one of its name.
    found = measured(joint, monkeypatch, "a_to_b", accuracy=0.25)
    assert found["crossings"]["a_to_b"]["model"]["accuracy"] == 0.25
    assert found["asked"]["a_to_b"]["num"] == 1000
    # And none is lost where samples alone are scored.
    evaluate.main([f"--workdir={joint}"])
    again = json.loads((joint / "evaluation.json").read_text())
    assert again["crossings"] == found["crossings"]


@pytest.mark.parametrize("spoiled", ["seal", "asked", "text"])
def test_crossings_of_another_bundle_are_none(joint, asked, monkeypatch, spoiled):
    measured(joint, monkeypatch, "a_to_b")
    path = joint / "evaluation.json"
    found = json.loads(path.read_text())
    if spoiled == "seal":
        found["seal"] = "another"
    else:  # as files of before have none
        del found["asked"]
    path.write_text("no file" if spoiled == "text" else json.dumps(found))
    found = measured(joint, monkeypatch, "b_to_a")
    assert found["crossings"].keys() == {"b_to_a"} == found["asked"].keys()


def test_figures_are_told_of_the_bundle_that_was_scored(joint, asked, monkeypatch):
    """Which another may have taken the place of when they are made."""
    opened, scored = seal_of(joint), evaluate._of_generator

    def replacing(*of):
        (generator, *_) = of
        generator.untrained = (3,)
        vqdit.save(joint / "bundle", generator)
        return scored(*of)

    monkeypatch.setattr(evaluate, "_of_generator", replacing)
    evaluate.main([f"--workdir={joint}", "--crossings"])
    found = json.loads((joint / "evaluation.json").read_text())
    assert found["seal"] == opened != seal_of(joint)


@pytest.mark.parametrize("name", ["check_data", "references_of", "open_examples"])
def test_what_one_of_several_refuses_alone_is_told_all(joint, asked, monkeypatch, name):
    """As a file that only it cannot read: the others would wait for its sums."""
    left = []
    monkeypatch.setattr(evaluate.hosts, "together", noting(left))
    monkeypatch.setattr(evaluate, "references_of", lambda *_, **__: {"a": None})
    monkeypatch.setattr(evaluate, name, gone)
    with pytest.raises(BadInput):
        evaluate.main([f"--workdir={joint}", "--crossings"])
    assert left == ["a file is gone"]


def gone(*_, **__):
    raise BadInput("a file is gone")


@pytest.mark.parametrize(
    "place, name, call",
    [
        (crossings, "answers_of", lambda: crossings.crossings(TWO, {}, {})),
        (crossings, "_judges", lambda: crossings.crossings(TWO, {}, {})),
        (ANSWER, "evaluators", lambda: crossings.crossings(TWO, {}, {})),
        (crossings, "_beside", lambda: crossings.crossings(TWO, {}, {})),
        (texts, "_said", lambda: texts.TextReference(DATA, "caption").known),
        (contract, "all_of", lambda: contract.finished(NO_MODEL, {})),
        (scores, "measures_of", lambda: scores.evaluate_tokenizer(None, DATA)),
        (evaluate, "check_data", lambda: evaluate._of_tokenizer(None, OF_ONE, {})),
    ],
)
def test_what_is_fitted_between_is_refused_by_all(place, name, call, monkeypatch):
    left = []
    monkeypatch.setattr(crossings.hosts, "together", noting(left))
    monkeypatch.setattr(crossings, "answers_of", lambda *_: {"a": ANSWER, "b": ANSWER})
    monkeypatch.setattr(crossings, "_judges", lambda *_: {})
    monkeypatch.setattr(crossings.Crossings, "exact", lambda *_: True)
    monkeypatch.setattr(crossings, "samplers_of", lambda *_: {})
    monkeypatch.setattr(place, name, gone)
    with pytest.raises(BadInput):
        call()
    assert left == ["a file is gone"]


def test_of_a_bar_between_two_figures_it_is_said_how_sure_that_is(
    joint, asked, monkeypatch, capsys
):
    sets = np.linspace(0.5, 0.7, 201)
    of = lambda by: {"model": {"accuracy": Estimate(0.6 + by, sets + by)}}
    found = {"a_to_b": of(0.02), "b_to_a": of(0.0)}
    monkeypatch.setattr(evaluate, "crossings", lambda *_, **__: found)
    bars = ("a_to_b accuracy > b_to_a accuracy + 0.05", "a_to_b accuracy > 0.5")
    evaluate.main([f"--workdir={joint}", "--crossings", f"--config.bars={bars!r}"])
    # Both have the same sets, and a number has the same value in each.
    said = capsys.readouterr().err.splitlines()
    missed, apart, met, above = said[-4:]
    assert missed.endswith("+ 0.05: MISSED, 0.62")
    assert apart.endswith("-0.03 between them, 95 % in -0.03 to -0.03")
    assert met.endswith("> 0.5: met, 0.62")
    assert above.endswith("+0.12 between them, 95 % in +0.025 to +0.215")
    # How sure a figure was that was measured before is not known.
    del found["b_to_a"]
    evaluate.main([f"--workdir={joint}", "--crossings", f"--config.bars={bars[:1]!r}"])
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{bars[0]}: MISSED, 0.62 (measured before)"]
    # Of an area that no set of the bootstrap has nothing is known.
    found["a_to_b"]["model"]["accuracy"] = Estimate(0.75, np.full(3, np.nan))
    evaluate.main([f"--workdir={joint}", "--crossings", BARS])
    assert capsys.readouterr().err == "a_to_b accuracy >= 0.5: met, 0.75\n"


def test_times_in_which_a_scale_applies_say_nothing_of_what_goes_on(joint, asked):
    """Of a clip whose beginning is shown nothing is guided."""
    words = ["--crossings", "--shown.a=1", "--guidance=(2.0,)"]
    evaluate.main([f"--workdir={joint}", *words, "--interval=(0.2,0.8)"])
    assert asked["crossings"][1]["interval"] == (0.2, 0.8)
    for name in ("foreseen", "forecasts"):
        assert not {"interval", "guidance"} & {*asked[name][1]}


def test_several_draws_are_of_what_goes_on_too(joint, asked):
    evaluate.main([f"--workdir={joint}", "--shown.a=1", "--draws=4"])
    assert asked["forecasts"][1]["draws"] == 4
    evaluate.main([f"--workdir={joint}", "--crossings", "--shown.a=1", "--draws=3"])
    assert asked["forecasts"][1]["draws"] == asked["crossings"][1]["draws"] == 3
    with pytest.raises(BadInput, match="--among is of crossings"):
        words = ["--shown.a=1", "--draws=4", "--among=x"]
        evaluate.main([f"--workdir={joint}", *words])


def test_what_is_of_crossings_goes_to_them_alone(joint, asked):
    words = ["--crossings=a_to_b", "--baselines", "--draws=4", "--guidance=(2.0,)"]
    evaluate.main([f"--workdir={joint}", *words, "--interval=(0.1,0.9)"])
    figures, how = asked["crossings"]
    assert figures == ({}, ("a_to_b",)) and how["scales"] == (2.0,)
    assert how["baselines"] is True and how["draws"] == 4
    assert how["interval"] == (0.1, 0.9)
    # Nothing is guided where nothing is given: there is no interval either.
    both = {"baselines", "draws", "guidance", "interval"}
    assert not both & asked["evaluate_generator"][1].keys() and "forecasts" not in asked


def test_a_listener_is_trained_for_as_many_steps_as_are_asked(tmp_path, monkeypatch):
    """Or is that of a folder; and examples and baselines are those that are asked."""
    sound, codec, found = Audio(rate=1000, length=500), toys.codec(), []
    experiment = StageOne(name="sound", data=sound, model=codec.module, run=Run(2, 2))
    save_config(experiment, tmp_path / "config.json")
    monkeypatch.setattr(evaluate, "open_bundle", lambda *_: codec)
    monkeypatch.setattr(evaluate, "check_data", lambda *_: None)
    parts = {True: types.SimpleNamespace(classes=4)}  # who trains knows that part alone
    monkeypatch.setattr(evaluate, "open_examples", lambda data, part: parts[part])
    monkeypatch.setattr(evaluate, "judge_of", lambda *of: found.append(of) or "ear")
    score = lambda *of, **how: found.append((of, how)) or {}
    monkeypatch.setattr(evaluate, "evaluate_tokenizer", score)
    words = [f"--workdir={tmp_path}"]
    evaluate.main([*words, "--judge_steps=7", "--most=5"])
    evaluate.main([*words, "--judge=there"])
    assert found[0] == (sound, 4, None, 7) and found[2] == (sound, 4, "there", None)
    assert found[1] == ((codec, sound), {"most": 5, "judge": "ear"})
    assert found[3] == ((codec, sound), {"judge": "ear"})
    with pytest.raises(BadInput, match="--judge-steps is of a judge trained here"):
        evaluate.main([*words, "--judge_steps=7", "--judge=there"])


def test_a_judge_tells_classes_where_a_label_is_drawn_beside():
    """A picture without the stream of labels has no class that it should be of. What
    its figures are called does not follow from what else is drawn."""
    label = types.SimpleNamespace(source="label")
    model = types.SimpleNamespace(
        codecs={"image": None},
        values={"digit": label},
        streams=dict.fromkeys(("image", "digit")),
        module=types.SimpleNamespace(classes=0),
        tokenizers=("image", "digit"),
    )
    of = (model, dict.fromkeys(model.streams, DATA), lambda name, data, codec: None)
    every, alone = references_of(*of), references_of(*of, names=("image",))
    assert [*every] == ["image", "digit"] and every["image"].judges
    assert [*alone] == ["image"] and not alone["image"].judges
    assert [*prefixed(alone, model)] == ["image_"]


def test_what_nothing_is_compared_of_is_refused_by_its_flag(joint, monkeypatch):
    monkeypatch.setattr(evaluate, "compared", lambda generator: ("a",))
    with pytest.raises(BadInput, match="--want=b: samples are scored of a"):
        evaluate.main([f"--workdir={joint}", "--want=b"])
    with pytest.raises(BadInput, match="--judge-steps is of signals, and none is"):
        evaluate.main([f"--workdir={joint}", "--judge-steps=3"])
