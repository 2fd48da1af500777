"""train.score as a program: what is asked of whom, with nothing computed."""

import types

import numpy as np
import pytest

import vqdit
from tests import toys
from tests.train.experiments import of_values
from tests.train.named import DATA, VALUES, workdir_of
from train import score
from train.config.workdir import save_config
from train.errors import BadInput
from train.modalities import Images
from train.pipeline import JointExamples


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return workdir_of(tmp_path_factory.mktemp("asked"))


@pytest.fixture
def asked(workdir, monkeypatch):
    """Words of the command -> what is asked of a function of the program, which ends
    there."""

    def call(function, *words):
        found = []

        def stop(*args):
            found.extend(args)
            raise BadInput("enough")

        with monkeypatch.context() as patch:
            patch.setattr(score, function, stop)
            with pytest.raises(BadInput, match="enough"):
                score.main([f"--workdir={workdir}", *words])
        return found

    return call


ALL = {
    "of": ("image", "name", "digit"),
    "given": (),
    "shown": {},
    "draws": 32,
    "labelled": True,
    "seed": 0,
    "alike": False,
    "tried": (None, (), False, False),
}
LEARNT = (0, 1, 2, 4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    "words, wanted",
    [
        ((), {}),
        (("--of=name,image",), {"of": ("name", "image")}),
        (
            ("--of=name", "--given=digit,image"),
            {"of": ("name",), "given": ("digit", "image")},
        ),
        (("--shown.name=2", "--shown.image=1"), {"shown": {"name": 2, "image": 1}}),
        (("--label=False",), {"labelled": False}),
        (("--draws=5", "--seed=7"), {"draws": 5, "seed": 7}),
        (
            ("--of=name", "--classify=digit"),
            {"of": ("name",), "tried": ("digit", tuple(range(10)), False, False)},
        ),
        (("--classify=label",), {"tried": ("label", LEARNT, False, False)}),
        (("--anomaly=3",), {"alike": True, "tried": (None, (), True, False)}),
        (
            ("--of=name", "--given=digit", "--without"),
            {"of": ("name",), "given": ("digit",), "tried": (None, (), False, True)},
        ),
    ],
)
def test_what_is_asked_is_scored(asked, words, wanted):
    """And of what is not asked that which --help says."""
    bounds, _, *tried = asked("bounds_of", *words)
    named = {name: getattr(bounds, name, None) for name in ALL}
    of_scorer = {name: getattr(bounds.scorer, name) for name in ("of", "draws")}
    assert named | of_scorer | {"tried": tuple(tried)} == ALL | wanted
    assert bounds.scorer.generator is bounds.generator


@pytest.mark.parametrize(
    "words, streams",
    [
        ((), "image name digit"),
        (("--of=name",), "image name"),
        (("--of=name", "--given=digit"), "image name digit"),
        (("--of=name", "--classify=digit"), "image name digit"),
        (("--of=digit", "--train"), "image digit"),
    ],
)
def test_only_data_of_what_is_asked_are_opened(asked, words, streams):
    """And of signals, whose tokenizers say what their examples are."""
    found = asked("JointExamples", *words, "--config.join=class")
    sources, values, train, join = found
    assert " ".join(sources) == streams
    assert sources == dict.fromkeys(sources, DATA) and join == "class"
    assert values == {n: VALUES[n] for n in sources if n in VALUES}
    assert train == ("--train" in words)


def test_data_that_the_tokenizers_do_not_take_are_refused(workdir, monkeypatch):
    words = "--of=name --given=image --config.data.size=8"
    monkeypatch.setattr(score, "JointExamples", None)  # before they are joined
    with pytest.raises(
        BadInput, match=r"takes image \(4, 4, 1\), the data gives image"
    ):
        score.main([f"--workdir={workdir}", *words.split()])


def test_usual_and_anomalous_classes_alone_are_scored(asked, monkeypatch):
    """Where every tenth example is a three."""
    monkeypatch.setattr(
        JointExamples, "labels", lambda self, rows, name=None: rows % 10
    )
    both = [row for row in range(360) if row % 10 in (1, 2, 3)]
    found = asked("batches_of", "--anomaly=3", "--usual=2,1")
    assert found[1].tolist() == both
    assert asked("batches_of", "--anomaly=3")[1].tolist() == [*range(360)]


@pytest.mark.parametrize(
    "words, labels",
    [
        (("--anomaly=3",), lambda rows: np.full(len(rows), 3)),
        (("--anomaly=3",), lambda rows: rows % 3),
        # What has no label is no other class, and the first of the usual ones is none.
        (("--anomaly=3",), lambda rows: np.where(rows % 2, 3, -1)),
        (("--anomaly=3", "--usual=5"), lambda rows: rows % 5),
    ],
)
def test_anomalies_of_all_or_of_none_are_refused(workdir, words, labels, monkeypatch):
    of = lambda self, rows, name=None: labels(rows)
    monkeypatch.setattr(JointExamples, "labels", of)
    with pytest.raises(BadInput, match="--anomaly: write classes of which some"):
        score.main([f"--workdir={workdir}", *words])


def test_zeros_are_a_class_of_others(asked, monkeypatch):
    of = lambda self, rows, name=None: 3 * (rows % 2)
    monkeypatch.setattr(JointExamples, "labels", of)
    assert asked("bounds_of", "--anomaly=3")


@pytest.mark.parametrize(
    "words, said",
    [
        ("--of=word", "--of=word: the streams are image, name, digit"),
        ("--given=word", "--given=word: the streams are image, name, digit"),
        (
            "--of=name,digit --given=image,digit",
            "--given=digit: it is scored; leave it out of one",
        ),
        ("--usual=1", "--usual: write --anomaly, too"),
        ("--label=False --classify=label", "--label: --classify=label tries every one"),
        ("--usual=no --anomaly=3", "--usual: no class is called 'no'; there are 0, 1"),
        ("--anomaly=no", "--anomaly: no class is called 'no'; there are 0, 1"),
        ("--anomaly=3,1 --usual=0,3", "--usual: 3 is an anomaly, too; write others"),
        (
            "--of=name --given=digit --classify=label --rank=5",
            "--rank: write --given, and no --classify or --anomaly",
        ),
        (
            "--of=name --given=digit --anomaly=3 --rank=5",
            "--rank: write --given, and no --classify or --anomaly",
        ),
        ("--of=name --rank=5", "--rank: write --given, and no --cl"),
        (
            "--of=name --without",
            "--without: write --given, and no --classify or --rank",
        ),
        ("--of=name --given=digit --classify=label --without", "--without: write --g"),
        ("--of=name --given=digit --rank=5 --without", "--without: write --given, and"),
        ("--of=name,image --baselines", "--baselines is of one text"),
        ("--of=image --baselines", "--baselines is of one text"),
        (
            "--of=name,image --given=digit --rank=5 --baselines",
            "--baselines is of one text, or of --rank of one stream by one",
        ),
        (
            "--of=name --given=digit,image --rank=5 --baselines",
            "--baselines is of one text, or of --rank of one stream by one",
        ),
        (
            "--classify=name",
            "--classify=name is no stream of labels; there are digit, label",
        ),
        (
            "--classify=digit",
            "--classify=digit: leave it out of --of and --given",
        ),
        (
            "--of=name --given=digit --classify=digit",
            "--classify=digit: leave it out of --of and --given",
        ),
        ("--out=scores.json", "--out=scores.json: write a .csv"),
        (
            "--of=image --shown.digit=1",
            "--shown.digit: of what is scored, training gave in parts:",
        ),
    ],
)
def test_what_is_refused_is_said_before_anything_is_scored(
    workdir, words, said, monkeypatch
):
    monkeypatch.setattr(score, "batches_of", lambda *_: iter(()))
    (workdir / "scores.csv").unlink(missing_ok=True)
    with pytest.raises(BadInput) as seen:
        score.main([f"--workdir={workdir}", *words.split()])
    assert str(seen.value).startswith(said) and "\n" not in str(seen.value)
    assert not (workdir / "scores.csv").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        ("--of=name --shown.name=9", "--shown.name=9 leaves nothing: write at most 4"),
        ("--shown.image=2", "--shown.image=2 leaves nothing: write at most 1"),
        ("--draws=1", "--draws: write a whole number, at least 2, not 1"),
        ("--label=False", "it was always told a class"),
    ],
)
def test_what_needs_no_data_is_refused_before_any_is_opened(
    workdir, words, said, monkeypatch
):
    def opened(*_):
        raise AssertionError("it was opened")

    def told(self, label, ids):
        raise ValueError("it was always told a class")

    monkeypatch.setattr(score, "JointExamples", opened)
    line = "the generator has a stream 'name', the experiment has image; write the con"
    with pytest.raises(BadInput, match=line):
        score.main([f"--workdir={workdir}", "--config=demo_flow"])
    monkeypatch.setattr(score, "check_label", told)
    with pytest.raises(BadInput) as seen:
        score.main([f"--workdir={workdir}", *words.split()])
    assert str(seen.value).startswith(said)


def test_a_model_without_classes_tries_no_label():
    model = types.SimpleNamespace(
        module=types.SimpleNamespace(classes=0), values=VALUES, streams=VALUES
    )
    with pytest.raises(BadInput, match="label: the model has no classes; write a str"):
        score._values(model, "label", ("name",), ())
    with pytest.raises(BadInput, match="there are digit$"):
        score._values(model, "name", ("digit",), ())
    model.values = {}
    with pytest.raises(BadInput, match="there are none$"):
        score._values(model, "digit", ("name",), ())


def test_a_class_is_named_once_by_name_or_number():
    data = types.SimpleNamespace(class_names=("cat", "dog"))
    found = score._classes(data, ("dog", "0", "7"), "usual")
    assert found == {"dog": 1, "0": 0, "7": 7}
    with pytest.raises(BadInput) as refusal:
        score._classes(data, ("dog", "1"), "anomaly")
    line = "--anomaly=dog,1: two are one class; write it once"
    assert str(refusal.value) == line
    with pytest.raises(BadInput, match="^--usual: no class is called 'cow'"):
        score._classes(data, ("cow",), "usual")


def test_how_many_frames_are_shown_is_asked_of_clips_alone(asked, monkeypatch):
    monkeypatch.setattr(Images, "sides", ("frames", "size", "size"))
    generator, sources, *of = asked("frame_count", "--shown.name=2", "--shown.image=1")
    assert of == ["image", 1] and sources["image"] == DATA
    assert [*generator.codecs] == ["image"]


def test_one_process_scores(workdir, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(BadInput, match="this program is for one process"):
        score.main([f"--workdir={workdir}"])


def test_the_workdir_has_to_be_that_of_a_generator(tmp_path):
    with pytest.raises(BadInput, match="write --workdir=..., a run's folder"):
        score.main(["--config=configs/digits_joint.py"])
    codec = toys.codec()
    vqdit.save(tmp_path / "bundle", codec)
    save_config(of_values("none", DATA, VALUES), tmp_path / "config.json")
    with pytest.raises(
        BadInput, match="--workdir: .* is a tokenizer; write the folder"
    ):
        score.main([f"--workdir={tmp_path}"])
