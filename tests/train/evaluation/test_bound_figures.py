"""Figures of tables whose nats are written down."""

import json

import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation.crossings import bound_figures
from train.evaluation.crossings.bound_figures import (
    figures_of,
    keep_figures,
    kept,
    lines,
    rank_figures,
    text_figures,
)


def table_of(label, nats):
    nats = np.asarray(nats, float)
    return {"label": label, "nats": nats, "bits": 3 * nats, "error": 0 * nats}


def areas(found, clue):
    return {name: each[clue]["auc"] for name, each in found["anomalies"].items()}


def test_each_anomaly_is_told_from_what_is_usual_alone():
    """One class is less likely than all usual ones, another than the first, too."""
    label = np.repeat([0, 1, 2], 20)
    table = table_of(label, np.repeat([1.0, 2.0, 3.0], 20))
    found = figures_of(table, ("name",), anomalies={"one": 1, "two": 2})
    assert areas(found, "the score") == {"all": 1, "one": 1, "two": 1}
    said = [line for line in lines(found) if "the score, two" in line]
    assert said == ["ROC-AUC of the score, two: 1.0000, 95 % in 1.0000 to 1.0000"]
    one = figures_of(table, ("name",), anomalies={"one": 1})
    assert areas(one, "the score") == {"all": 0.5}  # two is usual, then


def test_an_anomaly_that_is_likelier_than_usual_is_told_by_its_distance():
    """And one between the usual scores by neither."""
    label = np.repeat([0, 1, 2], [20, 60, 20])  # most are out
    nats = np.concatenate([np.linspace(9, 11, 20), np.full(60, 2), np.full(20, 10)])
    both = {"out": 1, "hidden": 2}
    found = figures_of(table_of(label, nats), ("name",), anomalies=both)
    score, distance = areas(found, "the score"), areas(found, "its distance")
    assert score["out"] == 0 and distance["out"] == 1
    assert score["hidden"] == 0.5 and distance["hidden"] < 0.1


def test_the_mean_has_its_standard_error():
    """Of 16 scores, 0 or 2, a quarter of their deviation of sqrt(16 / 15); where all
    have one draw of times and noise, its error too; and of one example that alone."""
    table = table_of(np.arange(16) // 15, np.tile([0.0, 2.0], 8))
    found = figures_of(table, ("name", "word"))
    said = "name, word: 1 nats an example, +- 0.26; 3 bits a code or channel"
    assert [*lines(found)] == [said] and found["examples"] == 16
    table["error"] = np.full(16, 0.6)
    shared = figures_of(table, ("name",), anomalies={"one": 1})
    assert shared["nats_error"] == pytest.approx((0.36 + 1 / 15) ** 0.5)
    one = {name: column[:1] for name, column in table.items()}
    assert figures_of(one, ("name",))["nats_error"] == pytest.approx(0.6)


def test_what_has_no_number_tells_no_anomaly():
    """Nothing is lost of a signal that is not there: of a clue the others count."""
    table = table_of(np.array([0, 0, 1, 1]), np.arange(4.0))
    table["lost"] = np.array([1.0, 2.0, np.nan, 3.0])
    table["values"] = np.full(4, 2.0)
    found = figures_of(table, ("x",), anomalies={"one": 1})
    assert areas(found, "what is lost") == {"all": 1}
    table["lost"][2:] = np.nan
    found = figures_of(table, ("x",), anomalies={"one": 1})
    assert not any("what is lost" in line for line in lines(found))


def test_what_a_given_stream_saves_is_told_a_pair_at_a_time():
    """Nats that differ by hundreds, of which it saves 1 or 3: 2, and 1.96 times
    sqrt(16 / 15) / 4 on either side."""
    nats = 100.0 * np.arange(16)
    table = table_of(np.zeros(16, int), nats)
    table["without_lidar"] = nats + np.tile([1.0, 3.0], 8)
    found = figures_of(table, ("camera",))
    low, high = found["saved"]["lidar"]["interval"]
    assert (low + high) / 2 == found["saved"]["lidar"]["nats"] == 2
    assert high - 2 == pytest.approx(1.96 * (16 / 15) ** 0.5 / 4, rel=1e-4)
    said = "lidar saves 2 nats beside what else is given, 95 % in 1.494 to 2.506"
    assert said in lines(found)
    one, two = ({name: x[:n] for name, x in table.items()} for n in (1, 2))
    assert figures_of(one, ("camera",))["saved"] == {"lidar": {"nats": 1}}
    low, high = figures_of(two, ("camera",))["saved"]["lidar"]["interval"]
    assert high - low == pytest.approx(2 * 1.96, rel=1e-4)
    assert "saved" not in figures_of(table_of(np.zeros(16, int), nats), ("camera",))


def test_the_likeliest_class_is_compared_with_the_true_one():
    """Two of three that are known are right, and the third has no label."""
    table = table_of(np.array([0, 1, 0, -1]), np.ones(4))
    table |= {"nats_0": np.array([1.0, 3.0, 9.0, 0.0]), "nats_1": np.full(4, 2.0)}
    table["likeliest"] = np.array([0, 1, 1, 0])
    found = figures_of(table, ("x",), "digit", table["label"])["classified"]
    assert found["of"] == "digit" and found["accuracy"] == pytest.approx(2 / 3)
    said = [*lines({"classified": found})]
    assert said[0] == "the likeliest digit is the true one of 66.67%"
    assert said[1].startswith("ROC-AUC of the posterior of digit: 0.5000, 95 % in ")
    # Of the pairs (0, 1) and (2, 1) the posterior has the first in order.
    assert found["auc"] == 0.5
    # And of two that are sure of what is true in order.
    sure = table_of(np.array([0, 1]), np.ones(2))
    sure |= {"nats_0": np.array([1.0, 3.0]), "nats_1": np.full(2, 2.0)}
    sure["likeliest"] = sure["label"]
    found = figures_of(sure, ("x",), "digit", sure["label"])
    assert found["classified"]["auc"] == 1
    assert "classified" not in figures_of(sure, ("x",), "digit", np.full(2, -1))


def test_bits_a_byte_stand_beside_what_learns_the_training_texts(monkeypatch):
    learnt = lambda *of: {"5-gram": 2.5} if of == (["train"], ["held"]) else {}
    monkeypatch.setattr(bound_figures, "bits_per_byte", learnt)
    table = {"nats": np.log(2) * np.array([8.0, 4.0]), "bytes": np.array([5, 3])}
    found = text_figures(table, ["held"], ["train"])
    assert found["bits_per_byte"] == {"model": pytest.approx(1.5), "5-gram": 2.5}
    said = ["1.5 bits a byte of text", "2.5 bits a byte of text, 5-gram"]
    assert [*lines(found)] == said
    # Of texts without a byte there is a figure too.
    table["bytes"][:] = 0
    assert text_figures(table, []) == {"bits_per_byte": {"model": pytest.approx(12)}}


def test_the_file_keeps_other_questions_and_other_bundles(tmp_path):
    path = tmp_path / "scores.json"
    nan = {"ranks": {"x": {"mean": 1.0, "median": np.nan}}, "auc": np.float64(0.5)}
    keep_figures(path, "a", "first", {"nats": 1})
    keep_figures(path, "b", "first", nan)
    keep_figures(path, "a", "second", {"nats": 2})
    keep_figures(path, "a", "first", {"nats": 3})
    assert kept(path) == {
        "a": {"first": {"nats": 3}, "second": {"nats": 2}},
        "b": {"first": {"ranks": {"x": {"mean": 1.0}}, "auc": 0.5}},
    }
    path.write_text(json.dumps({"scores": {}}))
    with pytest.raises(BadInput, match="it has no seal"):
        kept(path)
    assert kept(tmp_path / "none.json") == {}


def test_ranks_are_of_the_true_one_among_candidates_and_back():
    """Two are chosen of three candidates, the last and the first: the first of them
    has its own cheapest, the other dearest; and the other way about by what is near."""
    costs = np.array([[3.0, 2, 1], [3, 2, 1]])
    back = np.array([[1.0, 2], [1, 2]])
    near = np.array([[1.0, 3, 2], [1, 3, 2]]), np.array([[2.0, 1], [1, 2]])
    whose, chosen = ("word", "image"), np.array([2, 0])
    found = rank_figures(whose, costs, back, chosen, near)["ranks"]
    ranks = {what: (x["mean_rank"], x["first_share"]) for what, x in found.items()}
    there, again = "the true image of word among 3", "the true word of image among 2"
    by = ", by the nearest training example"
    assert ranks == {
        there: (2, 0.5),  # 1 and 3
        again: (1.5, 0.5),
        there + by: (1.5, 0.5),  # 2 and 1
        again + by: (2, 0),
    }
    alone = rank_figures(whose, costs, back, chosen)["ranks"]
    assert alone == {what: found[what] for what in (there, again)}
