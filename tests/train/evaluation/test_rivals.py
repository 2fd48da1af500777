"""Rivals of a crossing, on examples whose classes are planted."""

import types

import numpy as np

from train.evaluation.crossings import rivals as module
from train.evaluation.crossings.rivals import Rivals, flat, learned
from train.modalities import Audio, Images
from vqdit.trained.judge import Judge


def test_a_class_that_training_lacks_is_never_said():
    """And the others keep their numbers."""
    draw, labels = np.random.default_rng(0), np.repeat([0, 2, 3], 20)
    features = lambda x: np.eye(4)[x] + draw.normal(0, 0.1, (len(x), 4))
    rivals = Rivals(None, ("a",), "b", 4, {}, {})
    scores = rivals._regression({"a": features}, {"a": labels}, labels)
    found = scores({"streams": {"a": labels}, "label": labels})
    assert found.shape == (60, 4) and not found[:, 1].any()
    np.testing.assert_array_equal(found.argmax(1), labels)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_what_is_born_discrete_has_a_column_for_each_code():
    found = flat(3)(np.array([[[0], [2]], [[1], [1]]]))
    np.testing.assert_array_equal(found, [[1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0]])


def test_no_more_are_fitted_than_have_room_in_columns(monkeypatch):
    """Texts of few numbers each are wide, and pictures that they go with are read."""
    streams = {"word": np.zeros((100, 5, 1), int), "photo": np.zeros((100, 4, 4, 1))}
    data = {name: types.SimpleNamespace(shape=(4, 4, 1)) for name in streams}
    take = lambda rows: {"streams": {n: x[rows] for n, x in streams.items()}}
    train = types.SimpleNamespace(data=data, take=take)
    monkeypatch.setattr(module, "VALUES", 1000)
    of = lambda *given: module.held_at_once(train, given, books, np.arange(100))
    for count, word, both in ((20, 10, 8), (2, 62, 31)):
        books = {"word": count}
        assert len(of("word")) == word and len(of("word", "photo")) == both
        assert len(of("photo")) == 62


class Told(Rivals):
    """A network for the stream "photo" alone."""

    def _judge(self, name):
        seen = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
        params = {"a": np.zeros((3, 4)), "b": np.zeros(2)}
        said = {"protocol": {"steps": 7, "trained_on": 80}, "seconds": 1.25}
        judge = types.SimpleNamespace(features=seen, params=params, **said)
        return judge if name == "photo" else None


def test_beside_what_a_network_sees_stand_the_components_of_what_has_none():
    """Each of two streams says one of the two bits of a class."""
    labels = np.arange(80) % 4
    photo = np.random.default_rng(0).uniform(-1, 1, (80, 2, 2, 1)).astype(np.float32)
    photo[:, 0, 0, 0] += 8 * (labels % 2)
    streams = {"photo": photo, "word": labels[:, None] // 2}
    data = {
        name: types.SimpleNamespace(shape=x.shape[1:]) for name, x in streams.items()
    }

    class Train(types.SimpleNamespace):
        __len__ = lambda self: 80

    take = lambda rows: {"streams": {n: x[rows] for n, x in streams.items()}}
    has, said = lambda rows, name: rows >= 0, lambda rows, name: labels[rows]
    train = Train(data=data, take=take, labels=said, has=has)
    rivals = Told(train, tuple(streams), "class", 4, {"word": 2}, {}).fit()
    assert {*rivals} == {"pca", "cnn"}
    for rival in rivals.values():
        found = rival.says({"streams": streams, "label": labels})
        np.testing.assert_array_equal(found.argmax(1), labels)
        assert rival.budget["examples"] == 80 and rival.budget["seconds"] >= 0
    assert "networks" not in rivals["pca"].budget
    network = {"examples": 80, "steps": 7, "batch": 128, "parameters": 14}
    assert rivals["cnn"].budget["networks"] == {"photo": network | {"seconds": 1.2}}
    # Of a network that was opened nobody knows how long it took.
    opened = Judge(
        None, {"a": np.zeros((7, 2))}, (2, 2, 1), {"steps": 7} | {"trained_on": 80}
    )
    assert learned(opened) == network


def test_a_network_alone_says_how_probable_each_class_is():
    """Its logits may have any number added, an example another one."""
    labels = np.arange(40) % 2
    photo = np.random.default_rng(0).uniform(-1, 1, (40, 2, 2, 1)).astype(np.float32)
    logits = 9 * photo[:, 0, 0] + [1, -1] * np.stack([labels, labels], 1)

    class Alone(Told):
        def _judge(self, name):
            judge = super()._judge(name)
            judge.logits = lambda x: logits[: len(x)]
            return judge

    class Train(types.SimpleNamespace):
        __len__ = lambda self: 40

    train = Train(
        data={"photo": types.SimpleNamespace(shape=(2, 2, 1))},
        take=lambda rows: {"streams": {"photo": photo[rows]}},
        labels=lambda rows, name: labels[rows],
        has=lambda rows, name: rows >= 0,
    )
    says = Alone(train, ("photo",), "class", 2, {}, {}).fit()["cnn"].says
    found = np.exp(says({"streams": {"photo": photo}, "label": labels}))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    wanted = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)


def test_a_network_learns_the_labelled_examples_of_a_stream_once(monkeypatch):
    """As long as its kind says, and hears a sound by its own front; of what no judge is
    there is none."""
    labels, asked = np.array([2, -1, 0, 1, 1]), []
    kinds = {"photo": Images(threads=3), "sound": Audio(rate=2000, length=1000)}
    x = {"photo": np.arange(5), "sound": np.zeros((5, 1000, 1), np.float32)}
    made = Judge(None, {}, (8, 8, 1), {})

    class Train(types.SimpleNamespace):
        __len__ = lambda self: 5

    train = Train(
        data=kinds | {"word": Images(), "other": types.SimpleNamespace(judged=0)},
        take=lambda rows: {"streams": {name: each[rows] for name, each in x.items()}},
        labels=lambda rows, want: labels[rows],
        has=lambda rows, name: rows != 3,
    )
    monkeypatch.setattr(module, "as_pictures", lambda front, x: (front, x))
    monkeypatch.setattr(
        module, "train_classifier", lambda *of: asked.append(of) or made
    )
    rivals = Rivals(train, tuple(train.data), "class", 3, {"word": 2}, {})
    assert rivals._judge("word") is None and rivals._judge("other") is None
    assert rivals._judge("photo").front is None and not asked[1:]
    ((take, *size),) = asked
    assert size == [3, 3, 0, kinds["photo"].judged, 3]  # rows 0, 2 and 4 are labelled
    batch = take(np.array([2, 0]))
    front, rows = batch["x"]
    assert front is None and rows.tolist() == [4, 0]
    assert batch["label"].tolist() == [1, 2]
    assert rivals._judge("photo") is rivals.judges["photo", "class"]
    assert rivals._judge("sound").front == kinds["sound"].front and len(asked) == 2
    assert asked[1][0](np.arange(1))["x"][0] == kinds["sound"].front
    assert {*rivals.judges} == {("photo", "class"), ("sound", "class")}
    Rivals(train, ("photo",), "class", 3, {}, {}, steps=7)._judge("photo")
    assert asked[2][1:] == (3, 3, 0, 7, 3)


def test_of_one_class_alone_there_is_no_rival():
    class Train:
        __len__ = lambda self: 4
        labels = lambda self, rows, want: np.array([1, 1, -1, 1])
        has = lambda self, rows, name: rows >= 0

    assert Rivals(Train(), ("a",), "class", 2, {}, {}).fit() == {}
