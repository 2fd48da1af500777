"""train.score as a program: what it writes and says of scores that are known."""

import json
import math
import types

import numpy as np
import pytest

from tests.train.named import DATA, NAMES, VALUES, workdir_of
from train import score
from train.errors import BadInput
from train.evaluation.crossings.bounds import Bounds
from train.objectives.bundles import seal_of
from train.pipeline import JointExamples
from vqdit.trained.scorer import Score


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return workdir_of(tmp_path_factory.mktemp("asked"))


@pytest.fixture
def known(monkeypatch):
    """Each example costs as many nats as its number is, and an eighth as many bits."""

    def of(bounds, batches, *tried):
        held = [(rows[:n], batch["label"][:n]) for rows, n, batch in batches]
        rows, label = map(np.concatenate, zip(*held, strict=True))
        table = {"example": rows, "label": label, "nats": 1.0 * rows}
        return table | {"error": 0.5 + 0 * rows, "bits": rows / 8}

    monkeypatch.setattr(score, "bounds_of", of)


def test_all_that_is_found_is_written_and_said(workdir, known, tmp_path, capsys):
    """Its own file beside the table, wherever that is."""
    out = tmp_path / "new" / "t.csv"
    (workdir / "scores.csv").unlink(missing_ok=True)
    words = ["--of=image,digit", "--given=name", "--most=4", f"--out={out}"]
    score.main([f"--workdir={workdir}", *words, "--config.join=class"])
    assert out.read_bytes() == (
        b"example,label,nats,error,bits\n"
        b"0,1,0.0,0.5,0.0\n90,6,90.0,0.5,11.25\n"
        b"180,3,180.0,0.5,22.5\n270,7,270.0,0.5,33.75\n"
    )
    # The deviation of four evenly spaced ones, over the root of four.
    error = 90 * math.sqrt(5 / 3) / 2
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [
        "image, digit: 135 nats an example, +- 58; 16.88 bits a code or channel",
        f"4 scores are in {out}, and what is said of them in {out.parent}/scores.json",
    ]
    kept = json.loads((out.parent / "scores.json").read_text())["scores"]
    question = "image, digit given name most=4 config.join=class"
    figures = {"of": "image, digit", "examples": 4, "nats": 135, "bits": 16.875}
    figures["nats_error"] = pytest.approx(error)
    assert kept == {seal_of(workdir): {question: figures}}
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "scores.json",
        "t.csv",
    ]
    assert not (workdir / "scores.csv").exists()


def test_a_question_is_all_that_makes_another_answer():
    command = types.SimpleNamespace(
        flags={
            "of": ("a",),
            "given": ("b", "c"),
            "out": "x.csv",
            "draws": 2,
            "seed": 5,
        },
        config="some.py",
        changes={"data.size": "4"},
    )
    asked = score._question(("a", "d"), ("b", "c"), command)
    assert asked == "a, d given b, c config=some.py draws=2 seed=5 config.data.size=4"
    command.config = None
    assert score._question(("a",), (), command) == "a draws=2 seed=5 config.data.size=4"


def test_of_a_bundle_without_a_seal_the_table_alone_is_kept(
    workdir, known, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(score, "seal_of", lambda _: None)
    out = tmp_path / "t.csv"
    score.main([f"--workdir={workdir}", "--most=2", f"--out={out}"])
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert capsys.readouterr().err.endswith(f"\n2 scores are in {out}\n")


def test_the_table_is_there_before_its_figures(workdir, known, tmp_path, monkeypatch):
    """Which may take long; and what they refuse is one line."""

    def refuse(table, of, classify, true, anomalies):
        assert of == ("name",) and (classify, anomalies) == (None, {"3": 3, "1": 1})
        assert true is table["label"] and len(true) == 4
        assert table["bytes"].tolist() == [3, 3, 5, 5]  # one, six, três, seven
        raise ValueError("no interval")

    monkeypatch.setattr(score, "figures_of", refuse)
    words = ["--of=name", "--most=4", "--anomaly=3,1"]
    with pytest.raises(BadInput, match="^no interval$"):
        score.main([f"--workdir={workdir}", *words, f"--out={tmp_path / 't.csv'}"])
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "example,label,nats,error,bits,bytes" and len(lines) == 5


def test_bits_a_byte_are_of_the_examples_that_were_scored(
    workdir, known, tmp_path, monkeypatch, capsys
):
    """Where the second and the third have no name."""
    every = score.bounds_of
    some = lambda *of: {name: x[[0, 3]] for name, x in every(*of).items()}
    monkeypatch.setattr(score, "bounds_of", some)
    words = ["--of=name", "--most=4", f"--out={tmp_path / 't.csv'}"]
    score.main([f"--workdir={workdir}", *words])
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[1:] == ["0,1,0.0,0.5,0.0,3", "270,7,270.0,0.5,33.75,5"]
    said = capsys.readouterr().err
    assert "left out: 2 of 4 examples lack some of name\n" in said
    assert f"\n{270 / math.log(2) / 8:.4g} bits a byte of text\n" in said


@pytest.mark.parametrize("classify", ["label", "digit"])
def test_the_likeliest_is_right_by_labels_of_the_same_examples(
    workdir, known, tmp_path, classify, monkeypatch
):
    """Those of the batch, or as the stream's own data number them."""
    rows, found = [0, 90, 180, 270], []
    own = lambda self, rows, name=None: rows + 1000 if name else rows
    monkeypatch.setattr(JointExamples, "labels", own)
    figures = lambda *args: found.append(args) or {}
    monkeypatch.setattr(score, "figures_of", figures)
    words = ["--of=image", f"--classify={classify}", "--most=4"]
    score.main([f"--workdir={workdir}", *words, f"--out={tmp_path / 't.csv'}"])
    ((table, of, asked, true, anomalies),) = found
    assert (of, asked, anomalies) == (("image",), classify, {})
    own_numbers = [row + 1000 for row in rows]
    wanted = {"label": table["label"].tolist(), "digit": own_numbers}
    assert true.tolist() == wanted[classify]


def test_what_needs_no_network_learns_texts_of_the_training_part(
    workdir, known, tmp_path, monkeypatch
):
    found = []
    figures = lambda *args: found.append(args) or {}
    monkeypatch.setattr(score, "text_figures", figures)
    words = [f"--workdir={workdir}", "--of=name", "--most=4"]
    for more in ([], ["--baselines"]):
        score.main([*words, *more, f"--out={tmp_path / 't.csv'}"])
    held = [name.encode() for name in ("one", "six", "três", "seven")]
    (_, plain, nothing), (table, beside, train) = found
    assert plain == beside == held and nothing is None
    assert table["bytes"].tolist() == [3, 3, 5, 5]
    assert len(train) == 1437 and {*train} == {name.encode() for name in NAMES}


def test_ranks_are_asked_of_as_many_and_written(workdir, tmp_path, monkeypatch, capsys):
    found, figures = [], {"ranks": {"a of b": {"median_rank": 2.0}}}
    table = {"nats": np.array([1.5, 2.0, 0.5]), "rank": np.array([1, 2, 3])}
    ranked = lambda *args: found.append(args) or (table, figures)
    monkeypatch.setattr(score, "_ranked", ranked)
    words = ["--of=name", "--given=digit", "--rank=9", f"--out={tmp_path / 't.csv'}"]
    for more in (["--most=2", "--train"], ["--most=2", "--baselines"], []):
        score.main([f"--workdir={workdir}", *words, *more])
    asked = [(len(data), *args) for _, data, *args in found]
    assert asked[::2] == [(1437, 9, 2, None), (360, 9, None, None)]
    assert asked[1][:3] == (360, 9, 2) and len(asked[1][3]) == 1437
    assert (tmp_path / "t.csv").read_text() == "nats,rank\n1.5,1\n2.0,2\n0.5,3\n"
    said = capsys.readouterr().err.splitlines()
    assert said[-2] == "a of b: median_rank 2" and said[-1].startswith(
        "3 scores are in"
    )


class Known:
    """A scorer whose examples cost ten nats more than their number."""

    of = ("name",)

    def __call__(self, key, ids, **call):
        assert not call["given"]  # how they cost alone
        return Score(ids + 10.0, ids, ids)


@pytest.fixture
def four(monkeypatch):
    """Of the training part examples 0, 359, 718 and 1077, of which the first and the
    third are ranked: the costs of these given each of all, and by their nearest."""
    costs = np.array([[8.0, 7, 9, 6], [725.0, 720, 724, 730]])
    near = {"name": np.array([[0.0, 1, 2, 3], [4, 3, 1, 2]]), "digit": np.eye(2)}
    asked = []

    def rank_costs(bounds, batch, rows, chosen):
        asked.append((batch["label"].tolist(), rows.tolist(), chosen.tolist()))
        return costs

    def nearest(train, scored, candidates, of, given):
        labels = (x["label"].tolist() for x in (scored, candidates))
        asked.append((train, *labels, of, given))
        return near[of]

    monkeypatch.setattr(score, "rank_costs", rank_costs)
    monkeypatch.setattr(score, "nearest_costs", nearest)
    model = types.SimpleNamespace(codecs={}, module=types.SimpleNamespace(classes=0))
    data = JointExamples(dict.fromkeys(VALUES, DATA), VALUES, True)
    return Bounds(model, Known(), ("digit",)), data, asked


def test_ranks_are_of_the_chosen_among_all(four):
    bounds, data, asked = four
    rows = [0, 359, 718, 1077]
    labels = data.labels(np.array(rows)).tolist()
    own = [labels[0], labels[2]]
    table, figures = score._ranked(bounds, data, 4, 2, "training")
    assert asked == [
        (labels, rows, [0, 2]),
        ("training", own, labels, "name", "digit"),
        ("training", own, own, "digit", "name"),
    ]
    found = {name: column.tolist() for name, column in table.items()}
    assert found == {
        "example": [0, 718],
        "label": own,
        "nats": [8, 724],
        "alone": [10, 728],
        "rank": [3, 2],
        # By the digit of the first it saves 2 of 10, and the other one 3 of 728.
        "rank_back": [2, 1],
        "likeliest": [1077, 359],
        "nats_0": [8, 725],
        "nats_359": [7, 720],
        "nats_718": [9, 724],
        "nats_1077": [6, 730],
    }
    means = {what: each["mean_rank"] for what, each in figures["ranks"].items()}
    there, again = "the true digit of name among 4", "the true name of digit among 2"
    by = "by the nearest training example"
    assert means == {
        there: 2.5,
        again: 1.5,
        f"{there}, {by}": 1,
        f"{again}, {by}": 2,
    }


def test_without_most_all_are_ranked_and_two_have_to_be(four, monkeypatch):
    bounds, data, asked = four
    with pytest.raises(BadInput, match="--rank: fewer than two of these examples"):
        score._ranked(bounds, data, 1)
    monkeypatch.setattr(score, "rank_costs", lambda *_: np.array([[1.0, 2], [3, 0]]))
    table, figures = score._ranked(bounds, data, 2)
    assert table["example"].tolist() == [0, 718] and len(figures["ranks"]) == 2
    assert table["rank"].tolist() == [1, 1]


def test_what_lacks_a_stream_is_not_ranked(four, monkeypatch):
    """Neither where it is what is scored nor where it is what is given."""
    bounds, data, _ = four
    seen = []
    stop = lambda data, rows, names: seen.append((rows.tolist(), names)) or ([], {})
    monkeypatch.setattr(score, "with_all", stop)
    with pytest.raises(BadInput, match="fewer than two"):
        score._ranked(bounds, data, 3, 2)
    assert seen == [([0, 479, 958], ("name", "digit"))]
