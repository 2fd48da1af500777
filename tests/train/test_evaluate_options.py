"""train.evaluate as a program: where each option arrives, and what is written."""

import json
from unittest.mock import Mock

import pytest

from tests.train.named import DATA, generator_of, tokenizer_of
from train import evaluate
from train.errors import BadInput
from train.evaluation.features import network_by
from train.objectives.bundles import seal_of
from vqdit import Heun
from vqdit.diffusion import Confidence


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return generator_of(tmp_path_factory.mktemp("labelled"), 10)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of(tmp_path_factory.mktemp("tok"))


@pytest.fixture
def called(monkeypatch):
    """Name of what is called -> (what it is called with, by name)."""
    found = {}

    def stands(name, gives):
        def call(*of, **how):
            found[name] = (of, how)
            return gives

        monkeypatch.setattr(evaluate, name, call)

    opened = evaluate.open_bundle
    judged = lambda path, kind, at: at.startswith("--judge") or opened(path, kind, at)
    monkeypatch.setattr(evaluate, "open_bundle", judged)
    stands("foreseen", {})
    stands("references_of", {"image": "real"})
    stands("crossings", {"image_to_word": {"model": {"accuracy": 0.75}}})
    stands("forecasts", {"image_after_1": {"model": {"psnr_db": 20.0}}})
    stands("evaluate_generator", {"curve": [{"accuracy": 0.5}]})
    stands("evaluate_tokenizer", {"psnr_db": 20.0})
    return found


NO_JUDGE = {"judge": None, "steps": None}
OTHERS = "--num=7 --seed=3 --steps=2 --shift=2.0"
DRAWN = {"num": 7, "seed": 3, "steps": 2, "shift": 2.0}
OF_CROSSINGS = "--baselines --baseline-steps=6 --draws=4 --score-draws=3"
CROSSED = {
    "baselines": True,
    "baseline_steps": 6,
    "draws": 4,
    "score_draws": 3,
    "join": "class",
}


@pytest.mark.parametrize(
    "words, drawn, crossed, judge, names",
    [
        ("", {}, None, NO_JUDGE, None),
        (OTHERS, DRAWN, None, NO_JUDGE, None),
        (
            "--guidance=(1.0,2.0) --interval=(0.2,0.8) --before=word",
            {"guidance": (1.0, 2.0), "interval": (0.2, 0.8), "before": ("word",)},
            None,
            NO_JUDGE,
            None,
        ),
        (
            "--want=image --before=word --judge=there --num=7",
            {"want": ("image",), "before": ("word",), "num": 7},
            None,
            {"judge": "there", "steps": None},
            ("image",),
        ),
        (
            "--want=word --solver={'image':Heun(),'word':Confidence()}",
            {"want": ("word",), "before": (), "solver": {"word": Confidence()}},
            None,
            NO_JUDGE,
            ("word",),
        ),
        # Of one of which no sample is compared what is drawn beside it is scored.
        (
            "--want=code,image",
            {"want": ("code", "image"), "before": ()},
            None,
            NO_JUDGE,
            ("code", "image"),
        ),
        (
            "--solver={'image':Heun()} --judge-steps=5",
            {"solver": {"image": Heun()}},
            None,
            {"judge": None, "steps": 5},
            None,
        ),
        (
            "--judge.photo=there --judge-steps=5",
            {},
            None,
            {"judge": {"photo": "there"}, "steps": 5},
            None,
        ),
        (
            f"--crossings {OTHERS} {OF_CROSSINGS} --guidance=(2.0,3.0)",
            DRAWN | {"guidance": (2.0, 3.0)},
            (True, DRAWN | CROSSED | {"scales": (2.0, 3.0)}),
            NO_JUDGE,
            None,
        ),
        (
            "--crossings=image_to_word,word_to_code --steps=2",
            {"steps": 2},
            (
                ("image_to_word", "word_to_code"),
                {"steps": 2, "join": "class", "scales": (None,)},
            ),
            NO_JUDGE,
            None,
        ),
    ],
)
def test_each_option_arrives_where_it_is_of(
    labelled, called, words, drawn, crossed, judge, names
):
    evaluate.main([f"--workdir={labelled}", "--config.join=class", *words.split()])
    of, how = called["references_of"]
    thing, sources, network = of
    assert how == {"names": names} and [*sources] == ["image", "photo", "word", "code"]
    assert network.func is network_by and network.keywords == judge
    assert called["evaluate_generator"] == ((thing, {"image": "real"}), drawn)
    fields = ("steps", "shift", "before", "solver")
    before = {n: x for n, x in drawn.items() if n in fields and names is None}
    assert names or called["foreseen"] == ((thing, sources, {}), before)
    assert "forecasts" not in called
    if crossed is None:
        assert "crossings" not in called
    else:
        asked, how = crossed
        of = (thing, sources, {"image": "real"}, asked)
        assert called["crossings"] == (of, how)


def test_frames_that_are_shown_are_those_that_are_foreseen(labelled, called):
    """Nothing else of theirs is drawn or guided, and no crossing is measured."""
    (labelled / "evaluation.json").unlink(missing_ok=True)
    words = f"--shown.image=1 {OTHERS} --draws=4 --guidance=(2.0,)"
    evaluate.main([f"--workdir={labelled}", *words.split()])
    of, how = called["forecasts"]
    assert of[2:] == ({"image": 1},) and how == DRAWN | {"draws": 4}
    of, how = called["foreseen"]
    assert of[2:] == ({"image": 1},) and how == {"steps": 2, "shift": 2.0}
    guided = DRAWN | {"guidance": (2.0,)}
    assert called["evaluate_generator"][1] == guided and "crossings" not in called
    found = json.loads((labelled / "evaluation.json").read_text())["crossings"]
    assert found == {"image_after_1": {"model": {"psnr_db": 20.0}}}


def test_of_some_examples_names_are_looked_for_before_all_that_is_long(
    labelled, called, monkeypatch
):
    """Of each crossing of what has a tokenizer, joined as in training."""
    asked = []

    class Crossings:
        def __init__(self, thing, sources, answers, join):
            asked.append(([*sources], answers, join))

        def joint(self, crossing):
            asked.append(crossing.name)
            return self

        def like(self, among):
            asked.append(among)

    monkeypatch.setattr(evaluate, "Crossings", Crossings)
    words = ["--crossings=image_to_word,word_to_code,word+code_to_photo", "--among=_7_"]
    evaluate.main([f"--workdir={labelled}", *words, "--config.join=class"])
    streams = ["image", "photo", "word", "code"]
    named = ["image_to_word", "_7_", "word+code_to_photo", "_7_"]
    assert asked == [(streams, {}, "class"), *named]
    assert called["crossings"][1]["among"] == "_7_"
    monkeypatch.undo()
    monkeypatch.setattr(evaluate, "references_of", None)
    with pytest.raises(BadInput, match="the data have no names among the examples"):
        evaluate.main([f"--workdir={labelled}", "--crossings", "--among=_7_"])


def test_figures_of_a_tokenizer_are_written_and_said(tokenizer, called, capsys):
    words = ["--most=5", "--baseline=False", "--judge=other"]
    evaluate.main([f"--workdir={tokenizer}", *words[:2]])
    (_, data), how = called["evaluate_tokenizer"]
    assert data == DATA and how == {"most": 5, "baseline": False}
    said = capsys.readouterr()
    figures = {"experiment": "tok", "psnr_db": 20.0}
    text = json.dumps(figures, indent=1) + "\n"
    assert (tokenizer / "evaluation.json").read_text() == said.out == text
    assert not said.err
    with pytest.raises(BadInput, match="--judge says nothing of a tokenizer"):
        evaluate.main([f"--workdir={tokenizer}", *words])


def test_the_first_of_several_processes_writes(labelled, called, monkeypatch, capsys):
    """All of them join by what the command says."""
    started = []
    monkeypatch.setattr(evaluate.hosts, "start", started.append)
    monkeypatch.setattr(evaluate.hosts, "first", lambda: False)
    asked = ["--coordinator=host:1", "--processes=2", "--process=1"]
    (labelled / "evaluation.json").unlink(missing_ok=True)
    evaluate.main([f"--workdir={labelled}", *asked])
    assert started == [{"coordinator": "host:1", "processes": 2, "process": 1}]
    assert not (labelled / "evaluation.json").exists()
    assert not capsys.readouterr().out


def test_a_bar_is_of_figures_of_all_examples(labelled, called, capsys, monkeypatch):
    """Now or before; and of two of which one is there, that one is said."""
    (labelled / "evaluation.json").unlink(missing_ok=True)
    bars = (
        "image_to_word accuracy > word_to_image accuracy",
        "accuracy < 1",
        "accuracy > 0.6",
    )
    bars = f"--config.bars={bars!r}"
    evaluate.main([f"--workdir={labelled}", "--crossings", "--num=9"])
    found = json.loads((labelled / "evaluation.json").read_text())
    assert found["seal"] == seal_of(labelled)
    asked = found["asked"]["image_to_word"]
    assert asked["num"] == 9 and "config" not in asked
    capsys.readouterr()
    evaluate.main([f"--workdir={labelled}", bars])
    assert capsys.readouterr().err.splitlines() == [
        "image_to_word accuracy > word_to_image accuracy: not measured, 0.75",
        "accuracy < 1: met, 0.5",
        "accuracy > 0.6: MISSED, 0.5",
    ]
    found["asked"]["image_to_word"]["among"] = "_7_"
    (labelled / "evaluation.json").write_text(json.dumps(found))
    evaluate.main([f"--workdir={labelled}", bars])
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("accuracy: not measured")
    # Nor at once of those that are of some alone.
    bars = "--config.bars=('image_to_word accuracy > 0.5', 'accuracy > 0.4')"
    words = ["--crossings", "--num=9", "--among=_7_", bars]
    monkeypatch.setattr(evaluate, "Crossings", lambda *of: Mock())
    evaluate.main([f"--workdir={labelled}", *words])
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("0.5: not measured") and said[1].endswith("met, 0.5")
    # What changes the data is said of what was asked, and no bar is of it.
    words = ["--crossings", "--config.join=class", "--config.mesh.fsdp=1", bars]
    evaluate.main([f"--workdir={labelled}", *words])
    unread, *said = capsys.readouterr().err.splitlines()
    assert unread.startswith("--config.mesh.fsdp: of training")
    assert said[0].endswith("0.5: not measured") and said[1].endswith("met, 0.5")
    found = json.loads((labelled / "evaluation.json").read_text())
    assert found["asked"]["image_to_word"]["config"] == {"join": "class"}
