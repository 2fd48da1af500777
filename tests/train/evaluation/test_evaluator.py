import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.evaluation.test_contract import Network
from train import page
from train.config import Samples
from train.evaluation import evaluator as streaming
from train.evaluation import features, samples, texts, training
from train.evaluation.evaluator import evaluated, examples, grouped
from train.evaluation.features import Latents, network_of
from train.evaluation.likeness import Likeness, Memorisation
from train.evaluation.samples import Reference, balanced_rows, curve
from train.evaluation.texts import TextReference
from train.modalities import Images
from train.pipeline import open_examples, whole
from train.runtime import hosts
from vqdit.metrics import frechet_distance, neighbourhoods, statistics
from vqdit.signal import to_uint8
from vqdit.tokenizer import Bytes, Labels
from vqdit.trained.contract import LatentContract

DATA = Images(threads=0)
FINGERPRINT = "0123456789abcdef and more"


@pytest.mark.parametrize("processes", [1, 3])
def test_every_example_is_read_once_by_one_process(processes, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 50)
    wanted, seen, sizes = whole(DATA, False), [], set()
    for process in range(processes):
        monkeypatch.setattr(
            hosts, "share", lambda process=process: (process, processes)
        )
        for batch in examples(DATA, False, doing="reading"):
            sizes.add(len(batch["x"]))
            index = batch["index"][batch["valid"]]
            np.testing.assert_array_equal(batch["x"], wanted["x"][batch["index"]])
            seen += index.tolist()
    assert sorted(seen) == list(range(360)) and sizes == {50}


def test_some_examples_are_evenly_spaced():
    held = open_examples(DATA, False)
    assert held.spaced(4).tolist() == [0, 90, 180, 270]
    assert held.spaced(1000).tolist() == list(range(360))
    found = np.concatenate(
        [b["index"] for b in examples(DATA, False, held.spaced(7), doing="some")]
    )
    np.testing.assert_array_equal(found, held.spaced(7))


def test_whoever_reads_a_part_says_what_for(monkeypatch):
    seen = []
    keep = lambda found, *of: seen.append(of) or found
    monkeypatch.setattr(streaming, "progress", keep)
    some = whole(DATA, False, 3)["x"]
    Memorisation(DATA).sums({"x": some})
    assert page._nearest(DATA, some).shape == some.shape
    (first, *count), second = seen
    assert first == "nearest in training" and second == ("comparing", *count)
    with pytest.raises(TypeError, match="doing"):
        examples(DATA, False)


def test_groups_hold_as_much_as_is_affordable(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 50)
    monkeypatch.setattr(streaming, "GROUP", 120 * 64)
    groups = list(grouped(examples(DATA, False, doing="reading")))
    assert [len(group["x"]) for group in groups] == [100, 100, 100, 60]
    index = np.concatenate([group["index"] for group in groups])
    np.testing.assert_array_equal(index, np.arange(360))
    assert not [*grouped(iter(()))]


class Judge(Network):
    protocol = 7

    def features(self, x):
        return x.reshape(len(x), -1)[:, 18:46:7].astype(np.float32)


def test_the_reference_is_that_of_the_whole_sets(monkeypatch):
    """Also where the training set is read in parts, again and again."""
    judge, (train, held) = Judge(), (whole(DATA, part) for part in (True, False))
    of = lambda x: statistics(judge.features(x))
    gap = held["x"].reshape(360, 1, 64).astype(np.float32)
    gap = np.sqrt(np.square(gap - train["x"].reshape(1, -1, 64)).sum(-1).min(1))
    floor = np.sort(balanced_rows(train["label"], 100))
    near = [judge.features(held["x"][np.arange(100) * 360 // 100])]
    near.append(judge.features(train["x"][floor]))
    wanted = {
        "judge": judge.protocol,
        "judge_accuracy": np.mean(judge.predict(held["x"]) == held["label"]),
        "train_distance": frechet_distance(of(train["x"]), of(held["x"])),
        "floor_distance": frechet_distance(of(train["x"][floor]), of(held["x"])),
        **{f"floor_{n}": x for n, x in neighbourhoods(*near).items()},
        "floor_count": 100,
        "heldout_count": 360,
        "heldout_copied_share": np.mean(gap < np.median(gap) / 3),
    }
    found = Reference(judge, DATA)
    assert found.figures(100) == pytest.approx(wanted, rel=1e-9)
    assert found.heldout["apart"] == pytest.approx(np.median(gap), rel=1.001e-3)
    monkeypatch.setattr(streaming, "GROUP", 500 * 64)
    again = Reference(judge, DATA)
    assert again.figures(100) == pytest.approx(wanted, rel=1e-9)
    assert again.heldout["apart"] == found.heldout["apart"]


def test_real_signals_that_are_compared_are_of_all_classes(monkeypatch):
    """Also of a training part in the order of its classes, as sub-folders are, of which
    more are counted than there are held-out ones to compare with them."""
    judge, train, held = Judge(), whole(DATA, True), whole(DATA, False)
    order = np.argsort(train["label"], kind="stable")
    x, label = train["x"][order], train["label"][order]

    def in_order(data, train, index=None, **how):
        if not train:
            return examples(data, train, index, **how)
        index = np.arange(len(x)) if index is None else index
        return iter([{"x": x[index], "label": label[index], "index": index}])

    monkeypatch.setattr(samples, "examples", in_order)
    rows = np.sort(balanced_rows(label, 1000)[:360])
    assert np.bincount(label[rows]).tolist() == [36] * 10
    wanted = neighbourhoods(*map(judge.features, (held["x"], x[rows])))
    found = Reference(judge, DATA, copies=False).figures(1000)
    assert {name: found[f"floor_{name}"] for name in wanted} == pytest.approx(wanted)


def test_a_floor_has_the_balance_of_the_samples(monkeypatch):
    """Those of a generator without classes are as the data are, of which here four in
    five are zeros."""
    judge, train, seen = Judge(), whole(DATA, True), []
    zeros, others = (np.flatnonzero((train["label"] == 0) == is_0) for is_0 in (1, 0))
    rows = np.concatenate([np.resize(zeros, 800), others[:200]])
    x, label = train["x"][rows], train["label"][rows]

    class Uneven:
        __len__ = lambda self: len(x)
        spaced = lambda self, most: np.arange(len(x))

    def uneven(data, train, index=None, **how):
        index = np.arange(len(x)) if index is None else index
        seen.append(label[index])
        return iter([{"x": x[index], "label": label[index], "index": index}])

    monkeypatch.setattr(samples, "examples", uneven)
    monkeypatch.setattr(samples, "open_examples", lambda *_: Uneven())
    for balanced, least, most in ((True, 10, 10), (False, 68, 92)):
        how = {"copies": False, "balanced": balanced}
        assert Reference(judge, DATA, **how).figures(100)["floor_count"] == 100
        assert least <= (seen[-1] == 0).sum() <= most


def drawing(x, classes=10):
    """A generator that draws these, in [-1, 1], and words beside them."""
    contract = LatentContract("image", (8, 8, 1), (8, 8), 1, (), (0.0,), (1.0,), "")
    return types.SimpleNamespace(
        codecs={"photo": types.SimpleNamespace(contract=contract)},
        values={"word": Bytes(4)},
        module=types.SimpleNamespace(classes=classes),
        trained_labels=np.arange(classes),
        sampler=lambda **how: (
            lambda key, ids, **how: {
                "word": [WORDS[i] for i in ids],
                "photo": x[ids],
            }
        ),
    )


def test_a_run_draws_its_samples_as_it_is_told(monkeypatch):
    """In as many steps, under that guidance, as many and of that seed."""
    how, asked = Samples(4, num=20, steps=3, guidance=2.5, seed=7), []
    run = types.SimpleNamespace(evaluate=how)
    sampler = lambda **how: asked.append(how) or "draw"
    made = types.SimpleNamespace(sampler=sampler, codecs={"photo": "codec"}, values={})
    opened = types.SimpleNamespace(
        experiment=types.SimpleNamespace(run=run, sources={}),
        generator=lambda params: made,
    )
    monkeypatch.setattr(training, "references_of", lambda *of: {})
    monkeypatch.setattr(training, "prefixed", lambda *of: {})
    monkeypatch.setattr(training, "scored", lambda *of, params: of[1:])
    figures = training.sample_figures(opened)
    assert asked == [{"steps": 3, "guidance": 2.5}] and figures.every == 4
    state = types.SimpleNamespace(ema={}, step=jnp.zeros(()))
    assert figures.of(state) == ("draw", {}, 20, 7)


def test_samples_are_scored_by_their_streams():
    """Each of several by its own reference, and named so."""
    x = jax.random.uniform(jax.random.key(0), (20, 8, 8, 1), minval=-1)
    photo = Reference(Judge(), DATA)
    (row,) = curve(drawing(x), {"photo": photo}, (1.0,), 20)
    wanted = statistics(Judge().features(np.asarray(to_uint8(x))))
    wanted = frechet_distance(wanted, photo.heldout["features"].statistics)
    assert row["photo_distance"] == pytest.approx(wanted, rel=1e-6)
    assert row["guidance"] == 1.0 and row["photo_memorisation"] > 1.5
    word = TextReference(DATA, "label")
    photo = Reference(Judge(), DATA, labelled=False)
    both = {"photo": photo, "word": word}
    (row,) = curve(drawing(x, classes=0), both, (1.0,), 20)
    assert row["photo_distance"] == pytest.approx(wanted, rel=1e-6)
    # Shares 0.5 of two digits against 0.1 of ten, before and behind which an end is.
    mean = -2 * 0.3 * np.log2(0.3) - 8 * 0.05 * np.log2(0.05)
    alike = mean - (1 + np.log2(10)) / 2
    assert row["word_pair_bits"] == pytest.approx(alike, abs=0.01)
    assert "word_copied_share" not in row
    assert "guidance" not in row and "photo_accuracy" not in row
    floor = word.figures(1000, "word_")["word_floor_pair_bits"]
    assert 0 <= floor < 0.01
    # Who names figures before there are any names these.
    named = [*photo.names("photo_"), *word.names("word_")]
    assert sorted(named) == sorted(row)


def test_figures_are_named_before_anything_is_read():
    likeness = ["distance", "precision", "recall", "density", "coverage"]
    copies = ["memorisation", "copied_share"]
    assert Reference(Judge(), DATA).names() == [*likeness, "accuracy", *copies]
    found = Reference(Judge(), DATA, labelled=False, copies=False).names("a_")
    assert found == [f"a_{name}" for name in likeness]
    found = Reference(object.__new__(Latents), DATA).names("a_")
    found, seen = found[:5], found[5:]
    assert found == [f"a_tokenizer_{name}" for name in likeness]
    assert seen == [f"a_{name}" for name in copies]
    words = ["pair_bits", "copied_share", "distinct_share", "nearest_edits"]
    assert TextReference(DATA, "caption").names("b_") == [f"b_{x}" for x in words]
    for bare in (TextReference(DATA, "caption", False), TextReference(DATA, "label")):
        assert bare.names() == ["pair_bits"]


def test_a_sample_has_the_label_that_is_drawn_beside_it():
    """Of a model without classes: of eight of ten it is what the judge sees."""
    x = jax.random.uniform(jax.random.key(0), (10, 8, 8, 1), minval=-1)
    seen = Judge().predict(np.asarray(to_uint8(x)))
    said = np.where(np.arange(10) < 8, seen, 9)
    made = drawing(x, classes=0)
    made.values = {"word": Bytes(4), "digit": Labels(10)}
    made.sampler = lambda **how: (
        lambda key, ids, **how: {"photo": x[ids], "digit": said[ids]}
    )
    photo = Reference(Judge(), DATA, copies=False)
    (row,) = curve(made, {"photo": photo}, (1.0,), 10)
    assert row["photo_accuracy"] == 0.8
    made.values = {"word": Bytes(4)}  # nothing says one
    photo = Reference(Judge(), DATA, labelled=False, copies=False)
    (row,) = curve(made, {"photo": photo}, (1.0,), 10)
    assert sorted(row) == sorted(photo.names("photo_"))


WORDS = ["1", "7"] * 10


@pytest.mark.parametrize("classes", [0, 10])
def test_samples_are_those_of_their_seed(classes):
    """At every scale."""
    x, keys = np.zeros((20, 8, 8, 1), np.float32), []
    made = drawing(x, classes)
    one = made.sampler()

    def draw(key, ids, **how):
        keys.append(key)
        return one(key, ids, **how)

    made.sampler = lambda **how: draw
    rows = curve(made, {"word": TextReference(DATA, "label")}, (1.0, 2.0), 20, seed=5)
    assert len(rows) == len(keys) == (2 if classes else 1)
    assert all(key == jax.random.key(5) for key in keys)


def test_a_judge_is_trained_for_as_many_steps_as_are_asked(monkeypatch):
    monkeypatch.setattr(features, "train_judge", lambda *of: of)
    assert network_of(DATA, None, steps=7) == (DATA, 7)
    assert network_of(DATA, None) == (DATA, None)


def test_copies_are_found_memorised():
    """A third of them, which the median does not see, and all."""
    train, held = (whole(DATA, part)["x"][:30] for part in (True, False))
    reference = Reference(Judge(), DATA)
    score = lambda x: curve(drawing(x), {"photo": reference}, (1.0,), 20)[0]
    some = np.where(np.arange(30)[:, None, None, None] % 3 == 0, train, held)
    some, every = (x / np.float32(127.5) - 1 for x in (some, train))
    some, every = score(some), score(every)
    assert some["photo_copied_share"] == pytest.approx(7 / 20)
    assert some["photo_memorisation"] > 0.5
    assert every["photo_copied_share"] == 1 and every["photo_memorisation"] == 0


def test_captions_that_training_has_are_copies(monkeypatch):
    said = {True: ["a cat", "a dog", None, ""], False: ["a dog", "two cats", None]}

    def examples(data, train, rows, divided, doing):
        found = np.array(said[train], object)
        index = np.arange(len(found)) if rows is None else rows
        yield {"caption": found[index], "index": index, "valid": index < 9}

    monkeypatch.setattr(texts, "examples", examples)
    first = lambda train: lambda count: np.arange(min(count, len(said[train])))
    part = lambda data, train: types.SimpleNamespace(spaced=first(train))
    monkeypatch.setattr(texts, "open_examples", part)
    reference = TextReference(DATA, "caption")
    words = np.array(["a cat", "a cat", "a bird", "two cats"])
    drawn = {"x": words, "index": np.arange(4)}
    found = evaluated(reference.evaluator(4), [drawn])
    assert found["copied_share"] == 0.5 and found["distinct_share"] == 0.75
    assert 0 < found["pair_bits"] < 1
    assert found["nearest_edits"] == pytest.approx((4 / 6 + 4 / 8) / 4)
    # Of the first alone, in whichever batches they come.
    halves = [{n: x[i : i + 2] for n, x in drawn.items()} for i in (2, 0)]
    three = evaluated(reference._edits("x", "", 3), halves)
    assert three["nearest_edits"] == pytest.approx(4 / 6 / 3)
    held = {"x": np.array(["two cats", "a dog"] * 2), "index": np.arange(4)}
    assert evaluated(reference.evaluator(4), [held])["pair_bits"] == 0.0
    figures = reference.figures(2)
    assert figures["heldout_copied_share"] == 0.5 and figures["floor_pair_bits"] > 0
    # "two cats" is "a cat" with four letters more or other ones.
    assert figures["heldout_nearest_edits"] == 4 / 8 / 2


def test_latents_are_averaged_over_cells_of_their_grid():
    contract = LatentContract(
        "image", (8, 8, 1), (6, 5), 8, (), (0.0,) * 8, (1.0,) * 8, FINGERPRINT
    )
    z = jax.random.normal(jax.random.key(0), (3, 6, 5, 8))
    codec = types.SimpleNamespace(
        contract=contract, latents=lambda x: z[: len(x)], from_raw=lambda x: x
    )
    network = Latents(codec)
    assert network.cells == (3, 5) and network.dim == 120
    said = "latents of the tokenizer, means over (3, 5) cells of its grid (6, 5)"
    said = {"network": said, "fingerprint": "0123456789abcdef", "features": 120}
    assert network.protocol == said
    found = network.features(np.zeros((3, 8, 8, 1), np.uint8))
    wanted = np.asarray(z).reshape(3, 3, 2, 5, 8).mean(2).reshape(3, 120)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    wide = dataclasses.replace(
        contract, channels=500, mean=(0.0,) * 500, std=(1.0,) * 500
    )
    assert Latents(types.SimpleNamespace(contract=wide)).cells == (1, 1)


def test_processes_add_up(monkeypatch):
    parts = Likeness(Judge(), np.arange(0, 360, 7))

    def score():
        found = evaluated(parts, grouped(examples(DATA, False, doing="reading")))[
            "features"
        ]
        return vars(found.statistics), found.some

    alone, sums = score(), []
    monkeypatch.setattr(hosts, "total", lambda x: sums.append(x) or np.asarray(x))
    for process in range(2):
        monkeypatch.setattr(hosts, "share", lambda process=process: (process, 2))
        score()
    first, second = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    both = iter([a + b for a, b in zip(first, second, strict=True)])
    monkeypatch.setattr(hosts, "total", lambda x: next(both))
    jax.tree.map(np.testing.assert_allclose, score(), alone)


def test_a_few_examples_without_captions_join_those_that_have_them():
    x = np.zeros((2, 4, 4, 1), np.uint8)
    batches = [{"x": x, "caption": np.array(["a", None], object)}, {"x": x}]
    for order in (batches, batches[::-1]):
        (found,) = grouped(order)
        assert len(found["x"]) == 4 and "caption" not in found
