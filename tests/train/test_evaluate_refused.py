"""train.evaluate as a program: what is refused, and in which words."""

import re

import pytest

import vqdit
from tests import toys
from tests.train.experiments import of_values
from tests.train.named import DATA, VALUES, generator_of, tokenizer_of
from train import evaluate
from train.config.workdir import save_config
from train.errors import BadInput
from train.modalities import Images
from vqdit import Discrete, Masking
from vqdit.tokenizer import Boxes


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return generator_of(tmp_path_factory.mktemp("labelled"), 10)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return generator_of(tmp_path_factory.mktemp("plain"), 0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of(tmp_path_factory.mktemp("tok"))


@pytest.fixture
def called(monkeypatch):
    """Names of what takes long, once it is called."""
    found = set()
    for name in ("references_of", "evaluate_generator", "evaluate_tokenizer"):
        call = lambda *_, name=name, **__: found.add(name)
        monkeypatch.setattr(evaluate, name, call)
    return found


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
        ("labelled", "--crossings --baseline-steps=3", "--baseline-steps is of baseli"),
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
        ("labelled", "--judge.image=x", "--judge.image: x: no bundle here; write a"),
        ("labelled", "--judge.word=x", "--judge.word: signals are drawn of image, pho"),
        (
            "labelled",
            "--judge.image=x --judge.photo=x --judge-steps=3",
            "--judge-steps is of a judge trained here; drop it, or a judge",
        ),
        ("tokenizer", "--judge.image=x", "--judge.NAME is of a generator's streams"),
        (
            "labelled",
            "--want=word --judge-steps=3",
            "--judge-steps is of signals, and none is drawn; drop it",
        ),
        ("labelled", "--want=code", "--want=code: samples are scored of image, photo,"),
        (
            "labelled",
            "--want=sound",
            "want=sound: the streams are image, photo, word, code; write",
        ),
        (
            "labelled",
            "--crossings=image_to_words",
            "--crossings=image_to_words: write such as",
        ),
        ("labelled", "--crossings=image_to_image", "--crossings=image_to_image: wri"),
        (
            "labelled",
            "--want=image --before=sound",
            "before=sound: write some of image, photo, word, code, ",
        ),
        ("labelled", "--interval=(0.9,0.1)", "interval=(0.9, 0.1): write (low, high)"),
        ("labelled", "--guidance=()", "--guidance: write "),
        ("labelled", "--want=image --judge=x", "--judge: x: no bundle here; write a"),
        ("labelled", "--crossings --interval=(0.2,0.8)", "interval=(0.2, 0.8) is gui"),
        ("labelled", "--crossings --among=(", "--among=(: missing ), unterminated sub"),
        ("labelled", "--crossings --score-draws=1", "--score-draws: write a whole num"),
    ],
)
def test_what_is_refused_is_said_before_all_that_is_long(
    request, called, folder, words, said, monkeypatch
):
    folder = request.getfixturevalue(folder)
    monkeypatch.setattr(evaluate, "Crossings", None)  # nor are data opened
    with pytest.raises(BadInput) as seen:
        evaluate.main([f"--workdir={folder}", *words.split()])
    assert str(seen.value).startswith(said) and "\n" not in str(seen.value)
    assert not re.search(r"[(\[]'|None|\w=(,| |$)", str(seen.value))  # but in Python
    assert not called


@pytest.mark.parametrize("folder", ["labelled", "tokenizer"])
def test_data_of_another_kind_than_its_tokenizer_takes_are_refused(
    request, called, folder
):
    """Of which a tokenizer that takes any size made figures, beside bits of its own."""
    folder = request.getfixturevalue(folder)
    with pytest.raises(
        BadInput, match=r"takes image \(4, 4, 1\), the data gives image"
    ):
        evaluate.main([f"--workdir={folder}", "--config.data.size=8"])
    assert not called


def test_a_stream_that_no_sample_is_compared_of_is_wanted_by_none(
    labelled, monkeypatch
):
    monkeypatch.setattr(evaluate, "compared", lambda generator: ())
    with pytest.raises(BadInput, match="--want=code: samples are scored of none"):
        evaluate.main([f"--workdir={labelled}", "--want=code"])


def test_samples_that_nothing_is_compared_with_are_not_drawn(called, tmp_path):
    """As of rows and boxes, which crossings tell."""
    boxes = Boxes(1, bins=4, classes=2)
    streams = [Discrete("boxes", boxes.grid, boxes.code_count)]
    made = toys.generator(streams, {"boxes": Masking()}, {"boxes": boxes})
    vqdit.save(tmp_path / "bundle", made)
    save_config(of_values("boxes", DATA, {"boxes": boxes}), tmp_path / "config.json")
    with pytest.raises(BadInput, match="^--workdir: samples are scored of signals, "):
        evaluate.main([f"--workdir={tmp_path}"])
    assert not called


def test_a_kind_without_a_baseline_has_none_to_leave_out(
    tokenizer, called, monkeypatch
):
    monkeypatch.setattr(Images, "measures", "")
    with pytest.raises(BadInput, match="--baseline says nothing of a tokenizer of im"):
        evaluate.main([f"--workdir={tokenizer}", "--baseline=False"])


def test_a_generator_has_the_config_of_one(tokenizer, labelled, called, tmp_path):
    (tmp_path / "config.json").write_bytes((tokenizer / "config.json").read_bytes())
    (tmp_path / "bundle").symlink_to(labelled / "bundle")
    with pytest.raises(BadInput, match=f"{tmp_path}: config.json is not a generator's"):
        evaluate.main([f"--workdir={tmp_path}"])
    save_config(of_values("two", {"name": DATA, "digit": DATA}, VALUES), tmp_path / "c")
    (tmp_path / "c").replace(tmp_path / "config.json")
    (tmp_path / "bundle").unlink()
    (tmp_path / "bundle").symlink_to(tokenizer / "bundle")
    with pytest.raises(BadInput, match="data is one a stream, of name, digit"):
        evaluate.main([f"--workdir={tmp_path}"])
    with pytest.raises(BadInput, match="write --workdir=..., a run's folder"):
        evaluate.main(["--config=configs/digits_joint.py"])
