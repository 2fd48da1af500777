"""train.evaluate as a program: where each option arrives, and what is refused."""

import json

import pytest

import vqdit
from tests import toys
from tests.train.experiments import of_values
from train import evaluate
from train.config import Run, StageOne, Weights
from train.config.workdir import save_config
from train.errors import BadInput
from train.evaluation.features import network_of
from train.modalities import Images
from train.objectives.bundles import seal_of
from vqdit import Continuous, Discrete, Gaussian, Heun, Labels, Masking
from vqdit.diffusion import Confidence

DATA = Images(name="digits", size=4, channels=1, threads=0)


def generator(folder, classes):
    """Of two pictures by tokenizers, a word, and codes that have no tokenizer."""
    pictures = ("image", "photo")
    streams = [Continuous(name, (2, 2), 2) for name in pictures]
    streams += [Discrete("word", (1,), 11), Discrete("code", (3,), 5)]
    processes = dict.fromkeys(pictures, Gaussian())
    processes |= {"word": Masking(), "code": Masking(5)}
    tokenizers = dict.fromkeys(pictures, toys.codec()) | {"word": Labels(10)}
    made = toys.generator(streams, processes, tokenizers, classes=classes)
    vqdit.save(folder / "bundle", made)
    values = dict.fromkeys(pictures, "tok") | {"word": Labels(10), "code": None}
    save_config(of_values("drawn", DATA, values), folder / "config.json")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return generator(tmp_path_factory.mktemp("labelled"), 10)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return generator(tmp_path_factory.mktemp("plain"), 0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder, codec = tmp_path_factory.mktemp("tok"), toys.codec()
    fields = {"run": Run(2, 2), "losses": Weights(features="runs/judge")}
    experiment = StageOne(name="tok", data=DATA, model=codec.module, **fields)
    vqdit.save(folder / "bundle", codec)
    save_config(experiment, folder / "config.json")
    return folder


@pytest.fixture
def called(monkeypatch):
    """Name of what is called -> (what it is called with, by name)."""
    found = {}

    def stands(name, gives):
        def call(*of, **how):
            found[name] = (of, how)
            return gives

        monkeypatch.setattr(evaluate, name, call)

    stands("foreseen", {})
    stands("references_of", {"image": "real"})
    stands("crossings", {"image_to_word": {"model": {"accuracy": 0.75}}})
    stands("forecasts", {"image_after_1": {"model": {"psnr_db": 20.0}}})
    stands("evaluate_generator", {"curve": [{"accuracy": 0.5}]})
    stands("evaluate_tokenizer", {"psnr_db": 20.0})
    return found


NO_JUDGE = {"folder": None, "steps": None}
OTHERS = "--num=7 --seed=3 --steps=2 --shift=2.0"
DRAWN = {"num": 7, "seed": 3, "steps": 2, "shift": 2.0}
OF_CROSSINGS = "--baselines --draws=4 --score-draws=3"
CROSSED = {"baselines": True, "draws": 4, "score_draws": 3, "join": "class"}


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
            {"folder": "there", "steps": None},
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
            {"folder": None, "steps": 5},
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
    assert network.func is network_of and network.keywords == judge
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


@pytest.mark.parametrize(
    "folder, words, said",
    [
        ("labelled", "--most=5", "--most says nothing of a generator; drop it"),
        ("labelled", "--baseline=False", "--baseline says nothing of a generator"),
        ("tokenizer", "--num=5", "--num says nothing of a tokenizer of image; drop"),
        ("tokenizer", "--score-draws=5", "--score-draws says nothing of a tokenizer"),
        ("tokenizer", "--judge=x", "--judge says nothing of a tokenizer of image"),
        (
            "tokenizer",
            "--judge=./runs/judge",
            "--judge=./runs/judge: the tokenizer was trained to please it; write",
        ),
        (
            "labelled",
            "--judge=x --judge-steps=3",
            "--judge-steps is of a judge trained here; drop it, or --judge",
        ),
        ("labelled", "--baselines", "--baselines is of crossings; write --crossings"),
        ("labelled", "--score-draws=3", "--score-draws is of crossings; write"),
        ("labelled", "--draws=3", "--draws is of crossings; write --crossings too"),
        ("labelled", "--shown.image=1 --among=x", "--among is of crossings; write"),
        ("plain", "--guidance=2.0", "--guidance is of a generator with classes; drop"),
        ("plain", "--interval=(0.2,0.8)", "--interval is that of a scale; write --gu"),
        (
            "plain",
            "--interval=(0.2,0.8) --crossings",
            "--interval is that of a scale; write --guidance, or drop it",
        ),
        (
            "labelled",
            "--want=image --crossings",
            "--want is of samples; drop it, or --crossings and --shown",
        ),
        ("labelled", "--want=image --shown.image=1", "--want is of samples; drop it"),
        ("labelled", "--judge=x", "--judge is of one kind of signal, and several are"),
        ("labelled", "--want=word --judge=x", "--judge is of signals, and none is d"),
        (
            "labelled",
            "--want=word --judge-steps=3",
            "--judge-steps is of signals, and none is drawn; drop it",
        ),
        ("labelled", "--want=code", "--want=code: samples are scored of image, photo,"),
        ("labelled", "--want=sound", "want=('sound',): the streams are"),
        ("labelled", "--want=image --before=sound", "before=('sound',): write some"),
    ],
)
def test_what_is_refused_is_said_before_all_that_is_long(
    request, called, folder, words, said
):
    folder = request.getfixturevalue(folder)
    with pytest.raises(BadInput) as seen:
        evaluate.main([f"--workdir={folder}", *words.split()])
    assert str(seen.value).startswith(said) and "\n" not in str(seen.value)
    assert not {"references_of", "evaluate_generator", "evaluate_tokenizer"} & {*called}


def test_a_stream_that_no_sample_is_compared_of_is_wanted_by_none(
    labelled, monkeypatch
):
    monkeypatch.setattr(evaluate, "compared", lambda generator: ())
    with pytest.raises(BadInput, match="--want=code: samples are scored of none"):
        evaluate.main([f"--workdir={labelled}", "--want=code"])


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


def test_a_kind_without_a_baseline_has_none_to_leave_out(
    tokenizer, called, monkeypatch
):
    monkeypatch.setattr(Images, "measures", "")
    with pytest.raises(BadInput, match="--baseline says nothing of a tokenizer of im"):
        evaluate.main([f"--workdir={tokenizer}", "--baseline=False"])


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


def test_a_generator_has_the_config_of_one(tokenizer, labelled, called, tmp_path):
    (tmp_path / "config.json").write_bytes((tokenizer / "config.json").read_bytes())
    (tmp_path / "bundle").symlink_to(labelled / "bundle")
    with pytest.raises(BadInput, match=f"{tmp_path}: config.json is not a generator's"):
        evaluate.main([f"--workdir={tmp_path}"])
    with pytest.raises(BadInput, match="write --workdir=..., a run's folder"):
        evaluate.main(["--config=configs/digits_joint.py"])


def test_a_bar_is_of_figures_of_all_examples(labelled, called, capsys):
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
    # What changes the data is said of what was asked.
    evaluate.main([f"--workdir={labelled}", "--crossings", "--config.join=class"])
    found = json.loads((labelled / "evaluation.json").read_text())
    assert found["asked"]["image_to_word"]["config"] == {"join": "class"}
