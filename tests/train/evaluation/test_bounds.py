"""Tables of bounds, by scorers whose nats are known."""

import types

import jax
import numpy as np
import pytest
from scipy.stats import norm

from train.errors import BadInput
from train.evaluation.crossings import bounds
from train.evaluation.crossings.bounds import (
    Bounds,
    batches_of,
    bounds_of,
    clues,
    rank_costs,
)
from train.evaluation.estimates import roc_auc
from train.modalities import Images
from train.pipeline import JointExamples
from vqdit.tokenizer import Bytes, Labels
from vqdit.trained.scorer import Score

NAMES = ("nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = Images(name="digits", size=8, channels=1, words=NAMES)


@pytest.fixture
def told():
    """(a model, its scorer, calls): one that pays 5 nats, less 2 for what is given."""
    calls = []

    def scorer(key, ids, **call):
        calls.append((key, ids.tolist(), sorted(call["given"])))
        nats = np.full(len(ids), 5.0 - 2 * len(call["given"]))
        return Score(nats, *[np.zeros(len(ids))] * 2)

    scorer.of = ("name",)
    model = types.SimpleNamespace(codecs={}, module=types.SimpleNamespace(classes=0))
    return model, scorer, calls


def some(rows):
    """Names and numbers of the first examples, these twice."""
    values = {"name": Bytes(5), "digit": Labels(10), "class": Labels(10)}
    return JointExamples(dict.fromkeys(values, DIGITS), values, True).take(rows)


ROWS = np.arange(3)


def test_times_and_noise_are_of_the_seed(told):
    *made, calls = told
    table = bounds_of(Bounds(*made, seed=5), [(ROWS, 3, some(ROWS))])
    assert calls == [(jax.random.key(5), [0, 1, 2], [])]
    assert table["example"].tolist() == [0, 1, 2] and "alone" not in table


def test_a_batch_says_which_examples_it_holds(monkeypatch):
    """The last is filled up with its own last."""
    monkeypatch.setattr(bounds, "BATCH", 2)
    data = types.SimpleNamespace(take=lambda rows: {"of": rows.tolist()})
    found = [(*each,) for each in batches_of(data, np.array([3, 8, 5]))]
    assert [rows.tolist() for rows, *_ in found] == [[3, 8], [5, 5]]
    assert [more for _, *more in found] == [[2, {"of": [3, 8]}], [1, {"of": [5, 5]}]]


def test_examples_without_what_is_scored_or_given_are_no_rows(told):
    """Of nothing the bound is 0, and of what is not given it is another question's."""
    *made, _ = told
    batch = some(ROWS)
    batch["known"] = {"digit": np.array([1.0, 0, 1]), "class": np.zeros(3)}
    given = Bounds(*made, given=("digit",))
    assert bounds_of(given, [(ROWS, 3, batch)])["example"].tolist() == [0, 2]
    assert bounds_of(given, [(ROWS, 2, batch)])["example"].tolist() == [0]
    table = bounds_of(Bounds(*made), [(ROWS, 3, batch), (ROWS + 3, 3, batch)])
    assert table["example"].tolist() == [0, 1, 2, 3, 4, 5]
    batch["known"]["name"] = np.array([[0, 0], [0, 1], [0, 0]])
    assert bounds_of(Bounds(*made), [(ROWS, 3, batch)])["nats"].tolist() == [5]
    with pytest.raises(BadInput, match="^none of the examples has .*of name, class$"):
        bounds_of(Bounds(*made, given=("class",)), [(ROWS, 3, batch)])


def test_an_anomaly_is_scored_alone_too_under_the_same_noise(told):
    *made, calls = told
    bounds = Bounds(*made, given=("digit",), alike=True)
    batches = [(ROWS, 2, some(ROWS))]  # the third is there to fill up
    table = bounds_of(bounds, batches, anomalies=True)
    assert table["nats"].tolist() == [3, 3] and table["alone"].tolist() == [5, 5]
    key = jax.random.key(0)
    assert calls == [(key, [0, 0, 0], ["digit"]), (key, [0, 0, 0], [])]
    assert "alone" not in bounds_of(bounds, batches)
    assert "alone" not in bounds_of(Bounds(*made), batches, anomalies=True)


def test_each_that_is_given_is_left_out_in_turn_under_the_same_noise(told):
    *made, calls = told
    bounds = Bounds(*made, given=("digit", "class"), alike=True)
    table = bounds_of(bounds, [(ROWS, 3, some(ROWS))], without=True)
    assert table["nats"].tolist() == [1] * 3
    assert table["without_digit"].tolist() == table["without_class"].tolist() == [3] * 3
    same = jax.random.key(0), [0, 0, 0]
    asked = (["class", "digit"], ["class"], ["digit"])
    assert calls == [(*same, names) for names in asked]
    assert "without_digit" not in bounds_of(bounds, [(ROWS, 3, some(ROWS))])


def test_without_the_one_that_is_given_an_example_is_alone_and_scored_once(told):
    *made, calls = told
    bounds = Bounds(*made, given=("digit",), alike=True)
    table = bounds_of(bounds, [(ROWS, 3, some(ROWS))], anomalies=True, without=True)
    assert table["alone"].tolist() == table["without_digit"].tolist() == [5] * 3
    assert [names for _, _, names in calls] == [["digit"], []]


def test_the_bound_of_the_signal_counts_what_its_latents_lose():
    """Those of a Gaussian density, value by value: of a signal of fewer values, too, of
    one that loses more than usual, and of one that is not there."""
    table = {"nats": np.array([10.0, 10, 4, 10]), "values": np.array([100, 50, 100, 0])}
    table["lost"] = np.array([0.2, 0.2, 0.26, np.nan])
    usual = np.array([True, True, False, False])
    whole = clues(table, usual)["the whole signal"]
    of = lambda error: -norm.logpdf(error**0.5, scale=0.2**0.5)
    expected = [10 + 100 * of(0.2), 10 + 50 * of(0.2), 4 + 100 * of(0.26), np.nan]
    assert whole.tolist() == pytest.approx(expected, nan_ok=True)
    assert whole[2] > whole[0]  # which the latents alone do not tell
    table["lost"][:] = np.nan
    assert "the whole signal" not in clues(table, usual)


def test_what_lies_is_told_by_what_is_given():
    """Two kinds of examples, one ten times as complex; the others save 4 nats of what
    is true, and cost 1 of what lies."""
    alone = np.tile([10.0, 100.0], 6)
    lies = np.arange(12) >= 8
    table = {"nats": alone + np.where(lies, 1.0, -4.0), "alone": alone}
    found = clues(table, ~lies)
    assert found["what is given"].tolist() == np.where(lies, 1.0, -4.0).tolist()
    assert roc_auc(lies, {1: found["what is given"]})["auc"] == 1
    assert roc_auc(lies, {1: found["the score"]})["auc"] < 0.8
    assert "what is given" not in clues({"nats": alone}, ~lies)


def test_without_its_label_an_example_is_scored_as_one_of_none():
    """And one whose label is not known as one of no class."""
    data = JointExamples({"name": DIGITS}, {"name": Bytes(5)}, True)
    batch = data.take(np.arange(3)) | {"label": np.array([4, -1, 2])}
    model = types.SimpleNamespace(codecs={}, module=types.SimpleNamespace(classes=10))
    scorer = types.SimpleNamespace(of=("name",))
    label = lambda **how: Bounds(model, scorer, **how).arguments(batch)["label"]
    assert label().tolist() == [4, 10, 2] and label(labelled=False) is None


def test_what_is_lost_is_a_mean_over_what_is_known(monkeypatch):
    """Of an example that has nothing it is not known."""
    signal = np.zeros((3, 4, 2), np.float32)
    back = np.tile(np.array([1, 2, 3, 9], np.float32)[:, None], (3, 1, 2))
    monkeypatch.setattr(bounds, "reconstruct", lambda codec, x: (x + back, None))
    model = types.SimpleNamespace(codecs={"way": None})
    known = {"way": np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)}
    found = bounds._lost(model, {"way": signal}, known)
    assert found["lost"].tolist() == pytest.approx([14 / 3, 1, np.nan], nan_ok=True)
    assert found["values"].tolist() == [6, 2, 0]
    assert bounds._lost(model, {"way": signal}, {})["lost"].tolist() == [95 / 4] * 3
    for other in ({"word": signal}, {"way": signal, "word": signal}):
        assert bounds._lost(model, other, known) == {}


@pytest.mark.parametrize("classify", ["label", "digit"])
def test_what_is_tried_is_scored_under_each_value(told, classify):
    """Beside what is given; the columns are those of the likeliest. What is lost is
    not asked for, nor how likely the example is alone."""
    model, _, _ = told
    model.module.classes = 10 * (classify == "label")
    nats = {7: np.array([5.0, 1, 4]), 3: np.array([2.0, 6, 3])}

    def scorer(key, ids, x, given, known, label, shown):
        tried = label if classify == "label" else given.pop("digit")
        assert [*given] == ["other"] and len({*tried.tolist()}) == 1
        cost = nats[int(tried[0])]
        return Score(cost, cost / 10, cost / 2)

    scorer.of = ("name",)
    batch = some(ROWS)
    batch["streams"]["other"] = np.zeros((3, 1, 1), int)
    asked = Bounds(model, scorer, ("other",), labelled=classify == "label")
    batches = [(ROWS, 3, batch)]
    table = bounds_of(asked, batches, classify, (7, 3), anomalies=True)
    found = {name: column.tolist() for name, column in table.items()}
    assert found == {
        "example": [0, 1, 2],
        "label": batch["label"].tolist(),
        "nats": [2, 1, 3],
        "error": [0.2, 0.1, 0.3],
        "bits": [1, 0.5, 1.5],
        "likeliest": [3, 7, 3],
        "nats_7": [5, 1, 4],
        "nats_3": [2, 6, 3],
    }


def test_what_is_shown_and_known_is_asked_with(told, monkeypatch):
    """And nothing is said to be lost of a part."""
    model, _, _ = told
    model.streams = {"name": types.SimpleNamespace(grid=(5,))}
    scorer = lambda key, ids, **call: Score(ids, ids, ids)
    scorer.of = ("name",)
    monkeypatch.setattr(bounds, "_lost", lambda *_: {"lost": np.zeros(3)})
    batch, there = some(ROWS), np.array([True, False, True])
    batch["known"] = dict.fromkeys(("name", "digit", "other"), there)
    asked = Bounds(model, scorer, ("digit",), shown={"name": 2})
    found = asked.arguments(batch)
    assert [*found["x"]] == ["name"] and [*found["given"]] == ["digit"]
    assert found["shown"]["name"].tolist() == [[True] * 2 + [False] * 3] * 3
    assert [*found["known"]] == ["name", "digit"] and found["label"] is None
    table = bounds_of(asked, [(ROWS, 3, batch)], anomalies=True)
    assert "lost" not in table
    whole = Bounds(model, scorer, ("digit",))
    assert "lost" in bounds_of(whole, [(ROWS, 3, batch)], anomalies=True)


def test_the_distance_is_from_the_median_of_what_is_usual():
    nats = np.array([1.0, 2, 9, 30, 40])
    found = clues({"nats": nats}, np.arange(5) < 3)["its distance"]
    assert found.tolist() == [1, 0, 7, 28, 38]


def test_a_pair_is_scored_under_the_noise_of_the_row_that_is_scored(told):
    model, _, _ = told
    calls = []

    def scorer(key, ids, x, given, **call):
        calls.append((ids.tolist(), x["name"][:, 0, 0] - given["digit"][:, 0, 0]))
        return Score(np.arange(len(ids)), ids, ids)

    scorer.of = ("name",)
    batch = {
        "streams": {
            "name": np.array([100, 200, 300]).reshape(3, 1, 1),
            "digit": np.array([1, 2, 3]).reshape(3, 1, 1),
        },
        "known": {},
        "label": ROWS,
    }
    rows = np.array([40, 50, 60])
    costs = rank_costs(Bounds(model, scorer, ("digit",)), batch, rows, np.array([2, 0]))
    ((ids, pairs),) = calls
    assert ids == [60] * 3 + [40] * 3
    assert pairs.tolist() == [299, 298, 297, 99, 98, 97]
    assert costs.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("size", [3, 100])
def test_an_example_keeps_what_is_scored_and_meets_all_that_is_given(size, monkeypatch):
    """A scorer of known scores: how far what is given is from what is scored."""
    a, b = np.array([3.0, 1, 4, 1.5]), np.array([1.0, 1.4, 3.2, 9])
    known = np.array([1.0, 1, 0, 1])
    batch = {
        "streams": {"a": a, "b": b},
        "known": {"b": known},
        "label": np.array([5, 6, 7, 8]),
    }
    chosen, sizes = np.array([1, 3]), set()

    def score(places, pair):
        sizes.add(len(places))
        np.testing.assert_array_equal(pair["label"], batch["label"][places])
        np.testing.assert_array_equal(pair["streams"]["a"], a[places])
        apart = np.abs(pair["streams"]["a"] - pair["streams"]["b"])
        return types.SimpleNamespace(nats=apart * (2 - pair["known"]["b"]))

    scorer = types.SimpleNamespace(of=("a",))
    made = types.SimpleNamespace(scorer=scorer, score=score)
    made.arguments = lambda pair: {"pair": pair}
    monkeypatch.setattr("train.evaluation.crossings.bounds.BATCH", size)
    found = rank_costs(made, batch, np.arange(4), chosen)
    wanted = np.abs(a[chosen][:, None] - b) * (2 - known)
    np.testing.assert_array_equal(found, wanted)
    assert sizes == {min(size, 8)}
