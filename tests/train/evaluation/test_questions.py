"""Which examples a crossing asks, and what it says of each."""

import dataclasses
import types

import numpy as np
import pytest

from train.evaluation.crossings import questions
from train.evaluation.crossings.questions import Crossing, Crossings
from train.modalities import Images
from train.runtime import hosts

A, B, C = (Images(size=size, threads=0) for size in (4, 8, 16))
DATA = {"a": A, "b": B, "c": C}
MODEL = types.SimpleNamespace(values={"b": "bytes", "c": "labels"})


def test_examples_are_joined_as_in_training(monkeypatch):
    """Beginning with what has the fewest, and with nothing else of theirs."""
    count = {(A, True): 9, (B, True): 5, (A, False): 2, (B, False): 3}
    part = lambda data, train: range(count.get((data, train), 1))
    monkeypatch.setattr(questions, "open_examples", part)
    monkeypatch.setattr(questions, "JointExamples", lambda *of: of)
    of = Crossings(MODEL, DATA | {"d": A}, {}, "class")
    values = {"b": "bytes", "c": "labels"}
    for train, order in ((True, "bac"), (False, "abc")):
        data, known, part, join = of.joint(Crossing(("a", "b"), "c"), train)
        assert "".join(data) == order and data == {n: DATA[n] for n in order}
        assert (known, part, join) == (values, train, "class")
    assert of.joint(Crossing(("c",), "a"))[1] == {"c": "labels"}


def test_one_truth_is_that_of_the_same_data_or_of_the_same_example():
    same = Crossing(("a", "b"), "c")
    assert Crossings(MODEL, DATA, {}, "key").exact(same)
    assert not Crossings(MODEL, DATA, {}, "class").exact(same)
    alike = DATA | {"c": dataclasses.replace(B)}
    assert Crossings(MODEL, alike, {}, "class").exact(same)


class Joint:
    """Eleven examples, of which every third lacks b, and the last half is named."""

    data = {"a": A, "b": B}

    def __len__(self):
        return 11

    def like(self, among):
        assert among == "_x_"
        return np.arange(5, 11)

    def labels(self, rows, name):
        assert name == "c"
        return rows + 100

    def take(self, rows):
        known = {"b": np.stack([rows % 3 > 0] * 2, 1), "c": rows != 7}
        return {"label": rows, "streams": {"c": rows}, "known": known}


@pytest.mark.parametrize("process, processes", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("among", ["", "_x_"])
def test_a_batch_says_what_its_examples_are(process, processes, among, monkeypatch):
    """Evenly spaced among those that are asked, each of one process."""
    monkeypatch.setattr(questions, "BATCH", 2)
    monkeypatch.setattr(hosts, "share", lambda: (process, processes))
    truth = types.SimpleNamespace(truth=lambda batch: 2 * batch["streams"]["c"])
    of = Crossings(MODEL, DATA, {"c": truth}, among=among)
    monkeypatch.setattr(Crossings, "joint", lambda self, crossing: Joint())
    index = np.array([5, 6, 7, 8, 9] if among else [0, 2, 4, 6, 8])
    found = [*of.batches(Crossing(("a", "b"), "c"), 5, "asking")]
    mine = {rank for rank in range(5) if rank // 2 % processes == process}
    seen = {}
    for batch in found:
        assert len(batch["rank"]) == 2
        assert batch["index"].tolist() == index[batch["rank"]].tolist()
        assert batch["label"].tolist() == (batch["index"] + 100).tolist()
        assert batch["truth"].tolist() == (2 * batch["index"]).tolist()
        for rank, there, valid in zip(
            batch["rank"], batch["there"], batch["valid"], strict=True
        ):
            if valid:
                seen[int(rank)] = bool(there)
            assert valid or not there
    assert seen == {r: index[r] % 3 > 0 and index[r] != 7 for r in mine}


def test_each_class_is_scored_as_the_example_that_it_is_said_of():
    """Given what it has, and which places of that are known; what it has not at all
    is not asked."""
    calls = []

    def scorer(key, ids, x, given, known):
        calls.append((key, ids.tolist(), x["c"][..., 0].tolist(), [*given], [*known]))
        return types.SimpleNamespace(nats=ids + x["c"][:, 0, 0])

    def made(want, draws):
        assert (want, draws) == ("c", 5)
        return scorer

    model = types.SimpleNamespace(codecs={}, values={}, scorer=made)
    of = Crossings(model, DATA, {}, score_draws=5)
    places = np.ones((2, 3), bool)
    batch = {
        "streams": {"a": np.zeros((2, 3, 1)), "b": np.zeros((2, 1, 1))},
        "known": {"a": places, "b": np.array([True, False])},
        "index": np.array([40, 90]),
        "rank": np.arange(2),
    }
    batch["streams"]["c"] = np.zeros((2, 1, 1), int)
    classes = np.array([7, 3]).reshape(2, 1, 1)
    scores = of.likeliest(Crossing(("a", "b"), "c"), "key", classes)
    # Four nats apart: whatever both of an example cost says nothing of its class.
    posterior = np.exp(scores(batch))
    np.testing.assert_allclose(posterior[:, 1], 1 / (1 + np.exp(-4)), rtol=1e-6)
    np.testing.assert_allclose(posterior.sum(1), 1, rtol=1e-6)
    assert calls == [("key", [40, 90], [[y], [y]], ["a", "b"], ["a"]) for y in (7, 3)]
