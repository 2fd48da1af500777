"""train.probe, part by part: which features are compared, and with which."""

import dataclasses
import types
from typing import Any

import jax
import numpy as np
import pytest

from train import probe
from train.evaluation.probing import Probed
from train.evaluation.targets import Labelled
from train.modalities import Images
from train.pipeline import open_examples

DATA = Images(name="digits", size=4, channels=1, threads=0)


@dataclasses.dataclass(frozen=True)
class Features:
    """An extractor of layers whose features are known: of example i at time t all are
    100 i + 10 t and the layer's number."""

    layers: tuple[str, ...] = ("one", "two", "three")
    pool: str = "mean"
    calls: Any = dataclasses.field(default_factory=list)
    known = {"one": (2, 1), "two": (1, 3), "three": (1, 9)}

    def __call__(self, shown, key, ids, time):
        self.calls.append((self.layers, time, jax.random.key_data(key).tolist()))
        names, x = [*self.known], 100 * shown + 10 * time
        return {
            name: np.tile(x[:, None] + names.index(name), self.known[name][1])
            for name in self.layers
        }


def part(train, rows):
    """Examples of these numbers, whose batch is their numbers."""
    rows = np.array(rows)

    def gathered(made, doing):
        said.append((train, doing))
        return made({"index": rows})

    said = []
    classes = rows % 2
    return types.SimpleNamespace(
        train=train, rows=rows, classes=classes, gathered=gathered, said=said
    )


@pytest.mark.parametrize("held", [2**30, 4 * 5 * 4, 4 * 5 * 4 - 1])
def test_features_go_beside_as_many_components(held, monkeypatch):
    """Layer by layer and time by time, however many layers are held at once."""
    monkeypatch.setattr(probe, "BYTES", held)
    monkeypatch.setattr(probe, "progress", lambda it, *_, **__: it)
    extractor, asked_for = Features(), []
    asked = probe.Asked(DATA, extractor, (0.0, 0.5), lambda x: x["index"], None)
    train, other = part(True, [1, 2, 3]), part(False, [6, 7])
    low = [np.arange(15.0).reshape(3, 5), -np.arange(10.0).reshape(2, 5)]

    def rivals(of, parts, most):
        assert (of, parts, most) == (asked, (train, other), 9)
        return low

    def probed(a, y, b, truth):
        assert y.tolist() == [1, 0, 1] and truth.tolist() == [0, 1]
        asked_for.append((a[0, 0], b[0, 0], a.shape, b.shape))
        number = len(asked_for)
        return Probed(a.shape[1], number, 0.1, number + 0.5, 5, True)

    monkeypatch.setattr(probe, "_rivals", rivals)
    monkeypatch.setattr(probe, "probed", probed)
    rows = probe.table(asked, train, other, jax.random.key(7))
    # Each once with its features, and components once for as many of them as there are.
    of = lambda first, second, d: (first, second, (3, d), (2, d))
    assert asked_for == [
        of(100, 600, 1),
        of(0, 0, 1),
        of(101, 601, 3),
        of(0, 0, 3),
        of(102, 602, 9),
        of(0, 0, 5),
        of(105, 605, 1),
        of(106, 606, 3),
        of(107, 607, 9),
    ]
    names = ("layer", "time", "dim", "linear", "pca_dim", "pca_linear")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("one", 0.0, 1, 1, 1, 2),
        ("two", 0.0, 3, 3, 3, 4),
        ("three", 0.0, 9, 5, 5, 6),
        ("one", 0.5, 1, 7, 1, 2),
        ("two", 0.5, 3, 8, 3, 4),
        ("three", 0.5, 9, 9, 5, 6),
    ]
    own = ("linear", "strength", "neighbours", "nearest", "scaled")
    wanted = {"layer", "time", "dim", "pca_dim", *own, *(f"pca_{n}" for n in own)}
    assert rows[0].keys() == wanted
    assert {doing for _, doing in train.said} == {"features at 0", "features at 0.5"}
    together = {layers for layers, *_ in extractor.calls}
    every = ("one", "two", "three")
    alone = {("one",), ("two",), ("three",)}
    pairs = {80: {("one", "two"), ("three",)}, 79: alone}
    assert together == pairs.get(held, {every})


def test_a_tokenizers_features_have_no_time_and_no_noise(monkeypatch):
    of_batch = []
    extract = lambda shown: of_batch.append(shown) or {"one": shown[:, None]}
    asked = types.SimpleNamespace(shown=lambda batch: 2 * batch["index"])
    some = part(False, [4, 5])
    found = probe._features(asked, extract, some, None, None, "encoding")
    assert found["one"].tolist() == [[8], [10]] and some.said == [(False, "encoding")]
    monkeypatch.setattr(probe, "_rivals", lambda *_: [np.zeros((2, 3))] * 2)
    monkeypatch.setattr(probe, "_features", lambda *of: said.append(of[-1]) or {})
    said, model = [], probe.Asked(DATA, Features(("one",)), (None,), None, None)
    with pytest.raises(KeyError):
        probe.table(model, some, some, None)
    assert said == ["encoding", "encoding"]


def test_features_of_all_tokens_in_a_row_are_as_many_times_as_many():
    asked = lambda pool: probe.Asked(None, Features(pool=pool), (), None, None)
    assert [asked("mean").dim(name) for name in Features.known] == [1, 3, 9]
    assert [asked("flat").dim(name) for name in Features.known] == [2, 3, 9]


@pytest.mark.parametrize("held, wanted", [(52, [3]), (51, [2, 1]), (3, [1, 1, 1])])
def test_layers_are_held_together_as_long_as_they_fit(held, wanted, monkeypatch):
    """Of one example one, three and nine numbers of four bytes."""
    monkeypatch.setattr(probe, "BYTES", held)
    asked = probe.Asked(None, Features(), (), None, None)
    found = [*probe.groups(asked, Features().layers, 1)]
    assert [len(some) for some in found] == wanted
    assert sum(found, ()) == Features().layers


@pytest.mark.parametrize("wide", [1, 3])
@pytest.mark.parametrize("held, step", [(640, 1), (320, 2), (319, 3)])
def test_components_are_those_of_training_signals(held, step, wide, monkeypatch):
    """Of as many of these as are held at once, ten of 64 bytes, or of as many columns
    as their numbers are; and both parts have their projection."""
    monkeypatch.setattr(probe, "BYTES", held * wide)
    signal = lambda batch: np.tile(batch["x"].reshape(-1, 16) / 255.0, wide)
    train = Labelled(DATA, True, np.arange(5, 15), np.arange(10))
    other = Labelled(DATA, False, np.arange(3), np.arange(3))
    x = {p: signal(open_examples(DATA, p.train).take(p.rows)) for p in (train, other)}
    fitted = []

    def components(some, most):
        fitted.append((some, most))
        return lambda x: x[:, :most] + 1

    monkeypatch.setattr(probe, "components", components)
    asked = probe.Asked(DATA, None, (), None, signal)
    found = probe._rivals(asked, (train, other), 7)
    ((some, most),) = fitted
    np.testing.assert_allclose(some, x[train][::step], rtol=1e-6)
    assert most == 7
    for of, low in zip((train, other), found, strict=True):
        np.testing.assert_allclose(low, x[of][:, :7] + 1, rtol=1e-6)
