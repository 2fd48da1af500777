"""Ranks of true companions, by scores that are known."""

import types

import numpy as np
import pytest

from train.evaluation.crossings import retrieval
from train.evaluation.crossings.retrieval import (
    Nearest,
    nearest_costs,
    ranks,
    retrieved,
    with_all,
)
from train.evaluation.texts import edits


def test_the_rank_counts_what_is_cheaper_and_half_of_what_is_as_cheap():
    costs = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5], [2, 2, 2, 9]])
    found = ranks(costs, np.array([0, 1, 2, 3]))
    np.testing.assert_array_equal(found, [1, 3, 2.5, 4])
    figures = retrieved(found)
    assert figures["first_share"] == 0.25 and figures["first_10_share"] == 1
    assert figures["median_rank"] == 2.75 and figures["mean_rank"] == 2.625


def test_by_chance_the_rank_is_the_middle():
    costs = np.random.default_rng(0).normal(size=(4000, 100))
    figures = retrieved(ranks(costs, np.arange(4000) % 100))
    assert figures["mean_rank"] == pytest.approx(50.5, abs=4 * 28.9 / 4000**0.5)
    assert figures["first_10_share"] == pytest.approx(0.1, abs=4 * 0.3 / 4000**0.5)


def test_edits_are_the_fewest():
    others = ["", "kitten", "sitting", "kitchen", "茶 kitten", "kit"]
    assert edits("kitten", others).tolist() == [6, 0, 3, 2, 2, 3]
    assert edits("", others).tolist() == [len(text) for text in others]
    assert edits("a", [""]).tolist() == [1] and edits("", [""]).tolist() == [0]
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("ab"), draw.integers(0, 7))) for _ in range(30)]
    for word in words:
        assert edits(word, words).tolist() == [_slow(word, other) for other in words]


def _slow(a, b):
    if not a or not b:
        return len(a) + len(b)
    moved = _slow(a[1:], b[1:]) + (a[0] != b[0])
    return min(moved, _slow(a[1:], b) + 1, _slow(a, b[1:]) + 1)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_nearest_by_several_streams_knows_no_unit(unit):
    """The second is as near as can be by b, and next to it by a."""
    near = object.__new__(Nearest)
    near.streams = {"a": np.array([0.0, 1, 10]), "b": unit * np.array([2.0, 1, 3])}
    near.apart = dict.fromkeys("ab", lambda x, y: np.abs(x[:, None] - y))
    one = {"a": np.array([0.0]), "b": np.array([0.0])}
    assert near.places(one, ("a", "b")).tolist() == [1]
    assert near.places(one, ("a",)).tolist() == [0]


def test_the_nearest_of_several_streams_is_the_same_whatever_the_batch():
    """Of each alone, and beside others that are far away by one stream."""
    draw = np.random.default_rng(0)
    near = object.__new__(Nearest)
    near.streams = {name: draw.standard_normal(50) for name in "ab"}
    near.apart = dict.fromkeys("ab", lambda x, y: np.abs(x[:, None] - y))
    some = {"a": draw.standard_normal(40) * 9, "b": draw.standard_normal(40)}
    alone = [
        near.places({name: x[[i]] for name, x in some.items()}, "ab")[0]
        for i in range(40)
    ]
    assert near.places(some, "ab").tolist() == alone


def test_examples_without_something_of_every_stream_are_left_out():
    """One lacks the word, one all places of the way; a part of these is something."""
    known = {
        "word": np.array([True, False, True, True]),
        "way": np.array([[1, 1], [1, 1], [0, 0], [0, 1]], bool),
    }
    batch = {"known": known, "streams": {"word": np.arange(4)}}
    data = types.SimpleNamespace(take=lambda rows: batch)
    rows = np.array([10, 11, 12, 13])
    for names, left in ((("word", "way", "image"), [10, 13]), (("way",), [10, 11, 13])):
        found, some = with_all(data, rows, names)
        assert found.tolist() == left
        assert some["streams"]["word"].tolist() == [row - 10 for row in left]


@pytest.mark.parametrize("values, count", [(2**28, 50), (16 * 20, 20), (3, 1)])
def test_the_nearest_is_among_as_many_as_are_affordable(values, count, monkeypatch):
    """Of a hundred training examples, evenly spaced, that have every stream of theirs,
    of which the largest has sixteen values."""
    monkeypatch.setattr(retrieval, "TRAINING", 50)
    monkeypatch.setattr(retrieval, "VALUES", values)
    asked = []

    def with_all(train, rows, names):
        asked.append((rows.tolist(), [*names]))
        return rows, {"streams": {"a": rows, "b": 2 * rows}}

    monkeypatch.setattr(retrieval, "with_all", with_all)
    monkeypatch.setattr(retrieval, "_measure", lambda tokenizer, x: (tokenizer, x))

    class Train:
        data = {
            "a": types.SimpleNamespace(shape=(4, 4, 1)),
            "b": types.SimpleNamespace(shape=(2,)),
        }
        values = {"b": "bytes"}
        __len__ = lambda self: 100

    near = Nearest(Train(), ("b",))
    rows = [100 * i // count for i in range(count)]
    assert asked == [(rows, ["a", "b"])] and [*near.apart] == ["b"]
    tokenizer, x = near.apart["b"]
    assert tokenizer == "bytes" and x.tolist() == [2 * row for row in rows]


def test_a_candidate_costs_how_far_it_is_from_what_the_nearest_has():
    """Points in the plane, which components only turn, and codes, of which those count
    that differ."""
    points = np.array([[0.0, 0], [0, 4], [6, 0]], np.float32)[:, None]
    codes = np.array([[1, 2, 3], [1, 2, 4], [5, 6, 7]])[..., None]

    class Train:
        data = {
            "point": types.SimpleNamespace(shape=(1, 2)),
            "code": types.SimpleNamespace(shape=(3,)),
        }
        values = {"code": types.SimpleNamespace()}
        __len__ = lambda self: 3
        streams = {"point": points, "code": codes}
        take = lambda self, rows: {
            "streams": {n: x[rows] for n, x in self.streams.items()},
            "known": {},
        }

    at = np.array([[[1.0, 3]], [[5, -1]]], np.float32)  # beside the second, the third
    others = np.array([[1, 2, 4], [5, 2, 4], [0, 0, 7], [7, 6, 5]])[..., None]
    scored, candidates = {"streams": {"point": at}}, {"streams": {"code": others}}
    costs = nearest_costs(Train(), scored, candidates, "point", "code")
    assert costs.tolist() == [[0, 1, 3, 3], [3, 2, 2, 2]]
    assert costs.dtype == np.float64
    back = {"streams": {"code": codes[1:]}}, {"streams": {"point": at}}
    costs = nearest_costs(Train(), *back, "code", "point")
    wanted = np.sqrt([[1 + 1, 25 + 25], [25 + 9, 1 + 1]])
    np.testing.assert_allclose(costs, wanted, rtol=1e-5)
