import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation.crossings.crossings import _together, crossings, own
from train.evaluation.crossings.questions import Crossing, asked
from train.evaluation.features import Latents
from train.evaluation.samples import Reference
from train.evaluation.texts import TextReference
from train.modalities import Images
from train.pipeline import open_examples, whole
from vqdit.tokenizer import Bytes, Labels

WORDS = ("nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DATA = Images("digits", size=8, channels=1, threads=0, words=WORDS)
HELD = whole(DATA, False)
LABEL = HELD["label"]
SIGNAL = HELD["x"] / np.float32(127.5) - 1


class Judge:
    """Knows every held-out picture."""

    params, protocol, seconds = {"a": np.zeros(3)}, {"steps": 5, "trained_on": 9}, 2.0

    def predict(self, x):
        flat = lambda v: np.asarray(v, np.float32).reshape(len(v), -1)
        gap = np.square(flat(x)[:, None] - flat(HELD["x"])[None]).sum(-1)
        return LABEL[gap.argmin(1)]

    def logits(self, x):
        return np.eye(10)[self.predict(x)]


def pictures(labels):
    """One of each of these classes, in [-1, 1]."""
    return jnp.stack([SIGNAL[np.flatnonzero(LABEL == y)[0]] for y in labels])


TEXT = Bytes(5)
SOLVERS = {"photo": "Heun", "word": "Confidence"}


class Draws:
    """Draws what is given, but of seven the word "one" and a picture of an eight."""

    def __init__(self, want, calls, word, guidance=None, solver=None, before=()):
        assert want is None or not before  # which is given, or drawn itself
        self.want, self.calls, self.word = want, calls, word
        if solver is not None:
            assert solver == (SOLVERS if want is None else {want: SOLVERS[want]})

    def __call__(self, key, ids, label=None, given=None, known=None):
        assert not known
        self.calls.add((self.want, *(given or {})))
        if not given:
            labels = np.asarray(ids) % 10
        elif "word" in given:
            said = self.word.decode(given["word"][..., 0])
            named = isinstance(said[0], str)
            number = lambda x: WORDS.index(x or "nil") if named else int(x)
            labels = np.array([*map(number, said)])
        else:
            labels = Judge().predict(np.asarray(given["photo"] + 1) * 127.5)
        said = np.where(labels == 7, 1, labels)
        named = isinstance(self.word, Bytes)
        word = [WORDS[y] for y in said] if named else said
        return {"word": word, "photo": pictures(np.where(labels == 7, 8, labels))}


def setting(word=TEXT, data=DATA):
    """Arguments of `crossings` but the last, and what the samplers were asked."""
    calls = set()
    contract = types.SimpleNamespace(kind="image", scale=())
    codec = types.SimpleNamespace(contract=contract, to_raw=lambda x: x)

    def bound(key, ids, x, given, known):
        true = Judge().predict(127.5 * (given["photo"] + 1))
        said = word.decode(x["word"][..., 0])
        number = [
            WORDS.index(x or "nil") if isinstance(x, str) else int(x) for x in said
        ]
        return types.SimpleNamespace(nats=np.where(number == true, 0, 1))

    generator = types.SimpleNamespace(
        codecs={"photo": codec},
        values={"word": word},
        tokenizers={"photo": codec, "word": word},
        streams={"photo": None, "word": None},
        sampler=lambda want=None, **how: Draws(want, calls, word, **how),
        scorer=lambda of, draws: bound,
    )
    references = {
        "photo": Reference(Judge(), DATA),
        "word": TextReference(data, word.source),
    }
    return (generator, {"photo": DATA, "word": data}, references), calls


RIGHT = pytest.approx(np.mean(LABEL != 7))


def test_what_goes_before_is_drawn_between_what_is_given_and_wanted():
    all_of = {"before": ("word",), "solver": SOLVERS | {"audio": "Plain"}, "steps": 3}
    between = own(all_of, "photo", ("audio",))
    assert between == {"before": ("word",), "solver": SOLVERS, "steps": 3}
    for want, given in (("photo", ("word", "audio")), ("word", ("audio",))):
        alone = {"before": (), "solver": {want: SOLVERS[want]}, "steps": 3}
        assert own(all_of, want, given) == alone


@pytest.mark.parametrize("word", [Bytes(5), Labels(10)], ids=["text", "label"])
def test_what_is_drawn_is_read_beside_what_is_true(word):
    arguments, calls = setting(word)
    how = {"solver": SOLVERS, "before": ("word",)}
    found = crossings(*arguments, scales=(1.0, 2.0), num=1000, **how)
    assert calls == {("photo", "word"), ("word", "photo"), (None,)}
    assert [*found] == ["word_to_photo", "photo_to_word", "agree"]
    assert found["agree"].keys() == {"guidance_1", "examples", "guidance_2"}
    assert found["agree"]["guidance_2"]["share"] == pytest.approx(0.9)
    for name in ("word_to_photo", "photo_to_word"):
        crossing = found[name]
        assert crossing["examples"] == len(LABEL) == 360
        assert crossing["guidance_1"] == crossing["guidance_2"]
        assert crossing["guidance_1"]["accuracy"] == RIGHT
        low, high = crossing["guidance_1"]["accuracy_interval"]
        assert low < np.mean(LABEL != 7) < high < low + 0.08
        assert crossing["real"]["accuracy"] == 1
        assert crossing["mean"]["accuracy"] < 0.15  # of ten classes
    if isinstance(word, Bytes):
        texts = found["photo_to_word"]["guidance_1"]
        assert texts["text"] == RIGHT
        # "one" for "seven" has no letter in its place, and "ne" of "nine" two of five.
        assert texts["tokens"] == RIGHT
    # The bound knows a seven, which no draw says.
    assert found["photo_to_word"]["likeliest"]["accuracy"] == 1
    # A picture of its class is nearer than the mean of all, in spite of the sevens.
    pictures = found["word_to_photo"]
    gap = pictures["guidance_1"]["psnr_db"] - pictures["mean"]["psnr_db"]
    assert abs(gap) < 3


def test_the_true_one_is_that_of_the_same_example():
    """Of what draws the very example the error is none, on every example."""
    (generator, data, references), _ = setting()
    generator.sampler = lambda want=None, **how: (
        lambda key, ids, **call: {
            "photo": jnp.asarray(SIGNAL[np.asarray(ids)]),
            "word": [WORDS[y] for y in LABEL[np.asarray(ids)]],
        }
    )
    found = crossings(generator, data, references, num=100)
    for name, figure, best in (
        ("word_to_photo", "psnr_db", 100.0),
        ("photo_to_word", "text", 1.0),
        ("photo_to_word", "tokens", 1.0),
        ("photo_to_word", "accuracy", 1.0),
    ):
        assert found[name]["model"][figure] == best
    assert found["photo_to_word"]["examples"] == 100


def test_of_a_class_there_is_no_one_truth():
    other = dataclasses.replace(DATA, threads=1)  # of the same classes
    found = crossings(*setting(data=other)[0], join="class", num=50)
    assert {*found["word_to_photo"]["model"]} == {"accuracy", "accuracy_interval"}
    assert "mean" not in found["word_to_photo"]
    assert found["photo_to_word"]["model"]["accuracy"] > 0.8


def test_an_example_without_a_text_does_not_count():
    data = dataclasses.replace(DATA, words=("", *WORDS[1:]))
    found = crossings(*setting(data=data)[0], num=1000)
    for name in ("word_to_photo", "photo_to_word"):
        assert found[name]["examples"] == (LABEL > 0).sum()
        right = np.mean(LABEL[LABEL > 0] != 7)
        assert found[name]["model"]["accuracy"] == pytest.approx(right)
        assert found[name]["real"]["accuracy"] == 1


def test_baselines_learn_the_task_on_the_training_part(monkeypatch):
    found = crossings(*setting(Labels(10))[0], ["photo_to_word"], baselines=True)
    crossing = found["photo_to_word"]
    assert crossing["pca"]["accuracy"] > 0.9 and crossing["pca"]["auc"] > 0.99
    assert crossing["cnn"]["accuracy"] == 1  # the judge itself, which knows the task
    budget = {"examples": 9, "steps": 5, "batch": 128, "parameters": 3, "seconds": 2.0}
    assert crossing["cnn"]["budget"] == {"networks": {"photo": budget}}
    assert crossing["pca"]["budget"].keys() == {"examples", "seconds"}
    assert "agree" not in found


def test_the_nearest_training_example_answers_too():
    """A picture by its components: most digits are like one of their class. A word
    is that of a digit of its class."""
    found = crossings(*setting()[0], True, baselines=True, num=100)
    near = found["photo_to_word"]["nearest"]
    assert near["accuracy"] == near["text"] > 0.9 and near["tokens"] > near["text"]
    assert found["word_to_photo"]["nearest"]["accuracy"] > 0.8
    assert found["word_to_photo"]["nearest"]["psnr_db"] > 8


def test_crossings_are_asked_for_by_their_names():
    streams = ("a", "b_to_c", "c")
    every = [each.name for each in asked(streams, True)]
    assert every == [
        *("b_to_c_to_a", "c_to_a", "b_to_c+c_to_a", "a_to_b_to_c", "c_to_b_to_c"),
        *("a+c_to_b_to_c", "a_to_c", "b_to_c_to_c", "a+b_to_c_to_c"),
    ]
    found = asked(streams, ["c+a_to_b_to_c", "b_to_c_to_c"])
    assert found == [Crossing(("c", "a"), "b_to_c"), Crossing(("b_to_c",), "c")]
    for wrong in ("a_to_a", "a", "d_to_a", "a+a_to_c", "_to_a"):
        with pytest.raises(BadInput, match="of the streams a, b_to_c, c"):
            asked(streams, [wrong])
    with pytest.raises(BadInput, match="of a generator of several streams"):
        asked(("a",), True)


def test_examples_are_chosen_by_their_names(monkeypatch):
    keys = [f"take_{i}" for i in range(len(LABEL))]
    source = functools.partial(setattr, open_examples(DATA, False).source, "keys")
    source(keys)
    try:
        found = crossings(*setting()[0], ["word_to_photo"], among="_1.$")
        assert found["word_to_photo"]["examples"] == 10
        right = np.mean(LABEL[10:20] != 7)
        assert found["word_to_photo"]["model"]["accuracy"] == pytest.approx(right)
        with pytest.raises(BadInput, match="no name is like 'theo' among"):
            crossings(*setting()[0], among="theo")
    finally:
        source(None)
    with pytest.raises(BadInput, match="the data have no names among"):
        crossings(*setting()[0], among="theo")


def test_what_a_sampler_refuses_is_one_line():
    def refuses(want=None, **how):
        raise ValueError("guidance: nothing was left out in training")

    generator, *more = setting()[0]
    generator.sampler = refuses
    with pytest.raises(BadInput, match="guidance: nothing was left out"):
        crossings(generator, *more, num=10)


def test_of_what_cannot_be_read_there_is_the_truth_alone():
    generator, data, references = setting()[0]
    photo = dataclasses.replace(references["photo"], network=Latents(None))
    found = crossings(generator, data, references | {"photo": photo}, num=10)
    assert {*found["word_to_photo"]["model"]} == {"psnr_db", "psnr_db_interval"}
    assert "agree" not in found and "real" not in found["word_to_photo"]


def test_streams_that_say_no_class_do_not_agree():
    said = {"a": jnp.array([1, -1, 2]), "b": jnp.array([1, -1, 3])}
    generator, draw = types.SimpleNamespace(codecs={}), lambda *_, **__: said
    read = dict.fromkeys(said, np.asarray)
    (batch,) = _together(generator, draw, jax.random.key(0), 3, read)
    assert batch["same"].tolist() == [True, False, False]


def test_of_several_draws_the_most_frequent_is_said():
    """Each of another key; one of three is always wrong."""
    (generator, data, references), _ = setting(Labels(10))
    keys = []

    def draw(key, ids, **call):
        keys.append(key)
        true = LABEL[np.asarray(ids)]
        return {"word": true if len(keys) != 2 else (true + 1) % 10}

    generator.sampler = lambda **how: draw
    how = {"names": ["photo_to_word"], "num": 50, "seed": 4}
    found = crossings(generator, data, references, draws=3, **how)
    assert found["photo_to_word"]["model"]["accuracy"] == 1
    assert keys[0] == jax.random.key(4) and len({*map(str, keys)}) == len(keys) == 3


def test_each_class_is_scored_under_as_many_draws_as_are_asked():
    (generator, data, references), _ = setting(Labels(10))
    bound, draws = generator.scorer("word", 1), []
    generator.scorer = lambda of, of_score: draws.append(of_score) or bound
    for more in ({}, {"score_draws": 32}):
        crossings(generator, data, references, ["photo_to_word"], num=50, **more)
    assert draws == [8, 32]
