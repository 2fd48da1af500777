import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation.crossings import crossings
from train.evaluation.features import Latents
from train.evaluation.samples import Reference
from train.evaluation.texts import TextReference
from train.modalities import Images
from train.pipeline import whole
from vqdit.tokenizer import Bytes, Labels

WORDS = ("nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DATA = Images("digits", size=8, channels=1, threads=0, words=WORDS)
HELD = whole(DATA, False)
LABEL = HELD["label"]
SIGNAL = HELD["x"] / np.float32(127.5) - 1


class Judge:
    """Knows every held-out picture."""

    def predict(self, x):
        x, real = (v.reshape(len(v), -1).astype(np.float32) for v in (x, HELD["x"]))
        return LABEL[np.square(x[:, None] - real[None]).sum(-1).argmin(1)]


def pictures(labels):
    """One of each of these classes, in [-1, 1]."""
    return jnp.stack([SIGNAL[np.flatnonzero(LABEL == y)[0]] for y in labels])


SOLVERS = {"photo": "Heun", "word": "Confidence"}


class Draws:
    """Draws what is given, but of seven the word "one" and a picture of an eight."""

    def __init__(self, want, asked, guidance=None, solver=None):
        self.want, self.asked = want, asked
        if solver is not None:  # of several streams, or of the one that is drawn
            assert solver == (SOLVERS if want is None else SOLVERS[want])

    def __call__(self, key, ids, label=None, given=None):
        self.asked.add((self.want, *(given or {})))
        if not given:
            labels = np.asarray(ids) % 10
        elif "word" in given:
            words = given["word"]
            named = isinstance(words[0], str)
            labels = np.array([WORDS.index(x) if named else int(x) for x in words])
        else:
            labels = Judge().predict(np.asarray(given["photo"] + 1) * 127.5)
        said = [WORDS[y] for y in np.where(labels == 7, 1, labels)]
        return {"word": said, "photo": pictures(np.where(labels == 7, 8, labels))}


TEXT = Bytes(5)


def setting(word=TEXT, data=DATA):
    """Arguments of `crossings` but the last, and what the samplers were asked."""
    asked = set()
    contract = types.SimpleNamespace(kind="image", scale=())
    from_raw = lambda x: x / np.float32(127.5) - 1
    generator = types.SimpleNamespace(
        codecs={"photo": types.SimpleNamespace(contract=contract, from_raw=from_raw)},
        values={"word": word},
        streams={"photo": None, "word": None},
        sampler=lambda want=None, **how: Draws(want, asked, **how),
    )
    references = {
        "photo": Reference(Judge(), DATA),
        "word": TextReference(data, word.source),
    }
    return (generator, {"photo": DATA, "word": data}, references), asked


@pytest.mark.parametrize("word", [Bytes(5), Labels(10)], ids=["text", "label"])
def test_what_is_drawn_is_read_beside_what_was_given(word):
    arguments, asked = setting(word)
    rows = crossings(*arguments, (1.0, 2.0), num=1000)
    assert [row.pop("guidance") for row in rows] == [1.0, 2.0]
    right = pytest.approx(np.mean(LABEL != 7))
    for row in rows:
        assert row.pop("agree") == pytest.approx(0.9)
        assert row == {
            "photo_read": 1,
            "word_read": 1,
            "word_to_photo": right,
            "photo_to_word": right,
        }
    assert asked == {("photo", "word"), ("word", "photo"), (None,)}


def test_an_example_without_a_text_does_not_count():
    data = dataclasses.replace(DATA, words=("", *WORDS[1:]))
    (row,) = crossings(*setting(data=data)[0], num=1000)
    assert row["word_to_photo"] == pytest.approx(np.mean(LABEL[LABEL > 0] != 7))
    assert row["word_read"] == 1
    # A picture of nil is given all the same, and its word is none of this data's.
    assert row["photo_to_word"] == pytest.approx(np.mean((LABEL > 0) & (LABEL != 7)))


def test_what_a_sampler_refuses_is_one_line():
    def refuses(want=None, **how):
        raise ValueError("guidance: nothing was left out in training")

    generator, *more = setting()[0]
    generator.sampler = refuses
    with pytest.raises(BadInput, match="guidance: nothing was left out"):
        crossings(generator, *more, num=10)


def test_of_one_stream_that_is_read_there_is_no_crossing():
    generator, data, references = setting()[0]
    photo = dataclasses.replace(references["photo"], network=Latents(None))
    with pytest.raises(BadInput, match="photo, word they can be told of word$"):
        crossings(generator, data, references | {"photo": photo})
