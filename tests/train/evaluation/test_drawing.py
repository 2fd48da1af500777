"""Many samples, in chunks, of several processes; and what samplers are given."""

import types

import jax
import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation import drawing
from train.evaluation.drawing import drawn, first_shown, presented, restored, several
from train.runtime import hosts

KEY = jax.random.key(3)


@pytest.mark.parametrize(
    "process, processes, places, asked",
    [
        (0, 1, [[0, 1, 2], [3, 4, 5], [6]], [[0, 1, 2], [3, 4, 5], [6, 6, 6]]),
        (0, 2, [[0, 1, 2], [6]], [[0, 1, 2], [6, 6, 6]]),
        # As many chunks as the others have, of which this one's last is empty.
        (1, 2, [[3, 4, 5], []], [[3, 4, 5], [6, 6, 6]]),
    ],
)
def test_each_sample_is_drawn_once_with_what_is_its_own(
    process, processes, places, asked, monkeypatch
):
    monkeypatch.setattr(drawing, "BATCH", 3)
    monkeypatch.setattr(hosts, "share", lambda: (process, processes))
    calls = []

    def draw(key, ids, **call):
        assert key is KEY
        calls.append((np.asarray(ids).tolist(), call))
        return {"word": 2 * np.asarray(ids)}

    ids = np.arange(7) + 10
    own = {"given": {"a": ids + 0.5}, "known": {"a": ids % 2 == 0}}
    generator = types.SimpleNamespace(codecs={})
    found = [*drawn(generator, draw, KEY, ids, ids % 5, **own, guidance=2.0)]
    assert [rows.tolist() for rows, _ in found] == places
    assert [x["word"].tolist() for _, x in found] == [
        [2 * (10 + row) for row in rows] for rows in places
    ]
    for (these, call), rows in zip(calls, asked, strict=True):
        assert these == [10 + row for row in rows]
        assert call["label"].tolist() == [i % 5 for i in these]
        assert call["given"]["a"].tolist() == [i + 0.5 for i in these]
        assert call["known"]["a"].tolist() == [i % 2 == 0 for i in these]
        assert call["guidance"] == 2.0
    calls.clear()
    [*drawn(generator, draw, KEY, ids, None)]
    assert calls[0][1] == {"label": None, "given": {}}


def test_the_first_of_several_draws_is_that_of_one():
    one, *more = several(KEY, 3)
    assert one is KEY and several(KEY, 1) == [KEY]
    assert more == [jax.random.fold_in(KEY, i) for i in (1, 2)]


class Scaled:
    """A tokenizer of signals whose raw unit is half as large."""

    def __init__(self, kind, scale=()):
        self.contract = types.SimpleNamespace(kind=kind, scale=scale)

    def to_raw(self, x):
        return 2 * x

    def known_latents(self, known):
        return known[:, ::2]


def test_samples_come_in_the_unit_of_what_they_are():
    """Pictures as bytes, unless they have a unit of their own."""
    x = np.array([[-1.0, 1.0]], np.float32)
    assert restored(None, x, True) is x
    assert restored(Scaled("image"), x, True).tolist() == [[0, 255]]
    assert restored(Scaled("image"), x, False).dtype == np.uint8
    for codec in (Scaled("image", (3.0,)), Scaled("series")):
        assert restored(codec, x, True).tolist() == [[-2, 2]]
        assert restored(codec, x, False).tolist() == [[-1, 1]]
    # In their raw unit where nothing is said.
    draw = lambda key, ids, **call: {"way": x[ids]}
    generator = types.SimpleNamespace(codecs={"way": Scaled("series")})
    for how, wanted in (({}, [[-2, 2]]), ({"raw": False}, [[-1, 1]])):
        ((_, found),) = drawn(generator, draw, KEY, np.arange(1), None, **how)
        assert found["way"].tolist() == wanted


def test_a_sampler_is_given_latents_that_are_known():
    """Of a signal by its tokenizer; of an example as a whole, and of codes, as said."""
    whole, places = np.array([True, False]), np.array([[1, 1, 0, 0], [1, 1, 1, 1]]) > 0
    batch = {
        "streams": {
            "picture": np.array([[0, 255]], np.uint8),
            "way": np.zeros((2, 4), np.float32),
            "row": np.zeros((2, 4, 1), np.int32),
            "other": None,
        },
        "known": {"picture": whole, "way": places, "row": places},
    }
    codecs = {"picture": Scaled("image"), "way": Scaled("series")}
    generator = types.SimpleNamespace(codecs=codecs)
    streams, known = presented(generator, batch, ("picture", "way", "row"))
    assert streams["picture"].tolist() == [[-1, 1]]
    assert streams["row"] is batch["streams"]["row"] and "other" not in streams
    assert known["picture"] is whole and known["row"] is places
    assert known["way"].tolist() == [[True, False], [True, True]]
    assert presented(generator, batch | {"known": {}}, ("row",))[1] == {}


def test_so_many_first_places_are_shown():
    grid = lambda *sides: types.SimpleNamespace(grid=sides)
    streams = {"clip": grid(4, 2), "word": grid(1)}
    generator = types.SimpleNamespace(streams=streams)
    found = first_shown(generator, {"clip": 3}, 2)
    assert found["clip"].tolist() == [[True, True, True, False]] * 2
    for counts, said in (
        ({"clip": 4}, "--shown.clip=4 leaves nothing: write at most 3"),
        ({"word": 1}, "--shown.word: this stream has one place; drop it"),
        ({"clap": 1}, "--shown.clap=1: the streams are clip, word"),
    ):
        with pytest.raises(BadInput, match=said):
            first_shown(generator, counts, 2)
