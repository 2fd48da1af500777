"""Joint examples by key and by class: who goes with whom, and who is missing."""

import contextlib
import dataclasses
import json
import types

import jax
import numpy as np
import pytest

import vqdit
from tests import toys
from tests.train.pipeline.test_streams import DIGITS, folder_of
from train.config import Run, StageTwo, Stream, replaced
from train.errors import BadInput
from train.modalities import Audio, ImageAugment, Images, SeriesAugment
from train.objectives import caches
from train.objectives.latents import encode_streams
from train.objectives.streams import prepare
from train.pipeline import JointExamples, LatentCache, joins, streams
from train.pipeline.joins import ByClass, ByKey
from train.sources.share import Portion
from vqdit.diffusion import Gaussian, Masking
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.signal import to_signal
from vqdit.tokenizer import Bytes, Labels

SMALL = Images(name="digits", size=4, channels=1, threads=0)


def part(**fields):
    """What a join asks of examples."""
    found = types.SimpleNamespace(data=object(), **fields)
    count = len(fields.get("keys") or fields["labels"])
    kind = type("Part", (types.SimpleNamespace,), {"__len__": lambda _: count})
    return kind(**vars(found))


def labelled(labels, names):
    return part(labels=np.array(labels), classes=len(names), class_names=tuple(names))


@pytest.fixture
def two(tmp_path):
    """Pictures a of w, x, y and pictures b of x, y, z."""
    a = folder_of(tmp_path / "a", ["w.png", "x.png", "y.png"], bad_share=0.0)
    b = folder_of(tmp_path / "b", ["x.bmp", "y.bmp", "z.bmp"], bad_share=0.0)
    return {"a": a, "b": b}


def test_files_of_one_name_go_together_and_others_are_alone(two):
    joined = JointExamples(two, {}, True, "key")
    assert len(joined) == 4  # w, x, y, z
    found = joined.take(np.arange(4))
    np.testing.assert_array_equal(found["known"]["a"], [1, 1, 1, 0])
    np.testing.assert_array_equal(found["known"]["b"], [0, 1, 1, 1])
    np.testing.assert_array_equal(found["streams"]["a"][:, 0, 0, 0], [0, 1, 2, 0])
    np.testing.assert_array_equal(found["streams"]["b"][:, 0, 0, 0], [0, 0, 1, 2])
    assert (found["label"] == -1).all()
    batch = next(joined.batches(4, 0))
    assert batch["known"]["a"].sum() == 3
    for pattern, rows in (("w", [0]), ("z", [3]), ("^[xy]$", [1, 2]), ("x|z", [1, 3])):
        assert joined.like(pattern).tolist() == rows
    with pytest.raises(BadInput, match="no name is like 'v' among the examples of a,"):
        joined.like("v")
    assert joined.has(np.arange(4), "a").tolist() == [True, True, True, False]
    assert joined.has(np.array([3, 0]), "b").tolist() == [True, False]


def test_what_an_example_lacks_is_not_known_whatever_is_read_in_its_place():
    x, here = np.ones((2, 3, 1)), np.array([True, False])
    for known, wanted in ((None, [1, 0]), (np.ones(2), [1, 0]), (np.eye(2, 3), None)):
        found = streams._without(here, x, known)
        np.testing.assert_array_equal(found[0], x * here[:, None, None])
        wanted = [[1, 0, 0], [0, 0, 0]] if wanted is None else wanted
        np.testing.assert_array_equal(found[1], wanted)


def test_labels_are_those_of_the_data_that_have_some():
    """An example without these data has none, so that none is no label apart."""
    numbered = {"class_names": ("cat", "dog", "cow"), "order": "old", "absent": (2, 3)}
    numbered = part(keys=["x", "y"], labels=np.array([0, 1]), classes=3, **numbered)
    bare = {"classes": 0, "class_names": (), "order": "", "absent": ()}
    for keys, labels, absent in (
        (["x", "y"], [0, 1], (2, 3)),
        (["x", "y", "z"], [0, 1, -1], (2,)),
    ):
        plain = part(keys=keys, labels=-np.ones(len(keys), int), **bare)
        parts = {"plain": plain, "numbered": numbered}
        joined = JointExamples({}, {}, True, "key", parts)
        every = np.arange(len(keys))
        assert joined.labels(every).tolist() == labels
        assert joined.labels(every, "plain").tolist() == [-1] * len(keys)
        assert joined.classes == 3 and joined.class_names == numbered.class_names
        assert (joined.order, joined.absent, joined.cached) == ("old", absent, True)


def test_of_a_key_there_are_as_many_or_one_for_all():
    clips, words = part(keys=["x", "x", "y"]), part(keys=["y", "x"])
    found = ByKey({"a": clips, "b": words}, False)
    assert (found.missing, found.shared, found.count) == (frozenset(), {"b"}, 3)
    rows = found.rows(np.arange(3), 0, 0)
    assert rows["a"].tolist() == [0, 1, 2] and rows["b"].tolist() == [1, 1, 0]
    three = part(keys=["x"] * 3)
    with pytest.raises(
        BadInput, match="data.c has 3 .* 'x' where .* have|data.a has 2"
    ):
        ByKey({"a": clips, "c": three}, False)
    with pytest.raises(BadInput, match="data.b has no keys; write"):
        ByKey({"a": clips, "b": part(keys=None, labels=[0])}, False)


def test_a_stream_of_whose_keys_no_other_has_one_is_refused():
    """Pictures in folders of classes, beside a table that names them without: each was
    an example without the other, and a training as any to the eye."""
    parts = {"a": part(keys=["cat/x"]), "b": part(keys=["x", "y"])}
    with pytest.raises(
        BadInput, match="a has no key .*: 'cat/x' where .* 'x' of data.b"
    ):
        ByKey(parts, True)
    parts["c"] = part(keys=["cat/x", "z"])
    with pytest.raises(
        BadInput, match="data.b has .*: 'x' where .* 'cat/x' of data.a, "
    ):
        ByKey(parts, True)
    ByKey(parts | {"b": part(keys=["y", "z"])}, True)
    ByKey({"a": parts["a"]}, True)
    ByKey(parts, False)  # few are held out, and these may have none


def test_what_one_stream_holds_out_no_other_trains_on(tmp_path):
    names = [f"{i}.png" for i in range(12)]
    a = folder_of(tmp_path / "a", names, bad_share=0.0, holdout=0.3)
    b = folder_of(
        *(tmp_path / "b", [n.replace("png", "bmp") for n in names]),
        **{"bad_share": 0.0, "holdout": 0.3},
    )
    with pytest.raises(BadInput, match=r"holds out '\d+', which .*holdout='name:0.1'"):
        JointExamples({"a": a, "b": b}, {}, True, "key")
    both = {
        name: Images("folder", each.data_dir, holdout="name:0.3", **SHAPE)
        for name, each in (("a", a), ("b", b))
    }
    sizes = [len(JointExamples(both, {}, t, "key")) for t in (True, False)]
    assert sum(sizes) == 12 and 0 < sizes[1] < 8
    wrong = Images("folder", a.data_dir, holdout="name:x", **SHAPE)
    with pytest.raises(BadInput, match="write a share, such as name:0.1"):
        JointExamples({"a": wrong}, {}, True, "key")
    loose = Images("folder", a.data_dir, **SHAPE | {"bad_share": 0.1})
    with pytest.raises(BadInput, match="data.b.bad_share=0.1"):
        JointExamples({"a": both["a"], "b": loose}, {}, True, "key")


SHAPE = {"size": 4, "channels": 1, "threads": 0, "bad_share": 0.0}


def test_keys_may_be_numbers_of_an_npz(tmp_path):
    data = {}
    for name, keys in (("a", [7, 5, 3]), ("b", [3, 5])):
        x = np.array(keys, np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), "u1")
        np.savez(tmp_path / f"{name}.npz", image=x, key=np.array(keys))
        path = str(tmp_path / f"{name}.npz")
        data[name] = Images("npz", path, holdout=0.0, **SHAPE)
    found = JointExamples(data, {}, True, "key").take(np.arange(3))
    np.testing.assert_array_equal(found["streams"]["a"][:, 0, 0, 0], [3, 5, 7])
    np.testing.assert_array_equal(found["streams"]["b"][:, 0, 0, 0], [3, 5, 0])


def test_any_of_the_class_is_drawn_by_seed_epoch_and_index():
    data = {"large": DIGITS, "small": SMALL, "word": SMALL, "again": DIGITS}
    joined = JointExamples(data, {"word": Labels(10)}, True, "class")
    index = np.arange(len(joined))
    rows = joined._join.rows(index, np.zeros_like(index), 3)
    np.testing.assert_array_equal(rows["large"], index)
    np.testing.assert_array_equal(rows["again"], index)
    np.testing.assert_array_equal(rows["word"], rows["small"])
    labels = joined.parts["large"].labels
    np.testing.assert_array_equal(labels[rows["small"]], labels)
    assert (rows["small"] != index).mean() > 0.95
    # A function of three numbers, whoever else is asked for.
    some = joined._join.rows(index[5:9], np.zeros(4, int), 3)
    np.testing.assert_array_equal(some["small"], rows["small"][5:9])
    for epoch, seed in ((1, 3), (0, 4)):
        other = joined._join.rows(index, np.full_like(index, epoch), seed)
        assert (other["small"] != rows["small"]).mean() > 0.9
    # Evenly: of 200 epochs each of a class's examples is met about as often.
    mine = np.flatnonzero(labels == labels[0])
    met = [
        joined._join.rows(index[:1], np.array([e]), 3)["small"][0] for e in range(900)
    ]
    counts = np.array([met.count(row) for row in mine])
    expected = 900 / len(mine)
    assert counts.sum() == 900
    chi = ((counts - expected) ** 2 / expected).sum()
    assert chi < len(mine) + 4 * np.sqrt(2 * len(mine))
    found = joined.take(index[:4])
    np.testing.assert_array_equal(found["label"], labels[:4])
    # As it is evaluated each has one companion for good, that of the first epoch.
    first = joined._join.rows(index[:4], 0, 0)["small"]
    x = joined.parts["small"].take(first)["x"]
    np.testing.assert_array_equal(found["streams"]["small"], x)
    np.testing.assert_array_equal(joined.labels(index[:4], "small"), labels[:4])
    np.testing.assert_array_equal(found["streams"]["word"][:, 0, 0], labels[:4])
    assert not {"small", "large"} & set(found["known"])


def test_classes_are_matched_by_name_where_these_are_equal():
    one = labelled([0, 1, 1, -1], ("cat", "dog"))
    other = labelled([0, 1, 0], ("dog", "cat"))
    found = ByClass({"a": one, "b": other})
    rows = found.rows(np.arange(4), 0, 0)["b"]
    assert rows[0] == 1 and set(rows[1:3]) <= {0, 2} and rows[3] == -1
    assert found.missing == {"b"}
    turned = labelled([0, 1, 2], ("dog", "cow", "cat"))  # no swap is its own inverse
    three = ByClass({"a": labelled([0, 1, 2], ("cat", "dog", "cow")), "b": turned})
    assert three.rows(np.arange(3), 0, 0)["b"].tolist() == [2, 0, 1]
    number = ByClass({"a": one, "b": labelled([0, 1], ("hund", "katze"))})
    assert number.rows(np.arange(2), 0, 0)["b"].tolist() == [0, 1]


def test_companions_of_several_data_are_drawn_apart():
    parts = {name: labelled([0] * 50, ("cat",)) for name in ("a", "b", "c")}
    rows = ByClass(parts).rows(np.arange(50), 0, 0)
    assert (rows["b"] == rows["c"]).sum() < 10  # one is expected


def test_a_class_that_is_empty_and_other_classes_are_refused():
    one = labelled([0, 1], ("cat", "dog"))
    with pytest.raises(BadInput, match="data.b has no example of the class dog, which"):
        ByClass({"a": one, "b": labelled([0, 0], ("cat", "dog"))})
    with pytest.raises(BadInput, match="data.b has 3 classes and data.a has 2"):
        ByClass({"a": one, "b": labelled([0, 1, 2], ("cat", "dog", "cow"))})
    with pytest.raises(BadInput, match="data.b has 0 classes"):
        ByClass({"a": one, "b": labelled([-1, -1], ())})


def test_shares_of_two_sets_are_of_the_same_rows():
    """Joined by index, a share of one and all of the other are not of one example."""

    class Part(list):
        source = None

    def held(rows):
        part = Part("of")  # two examples
        if rows is not None:
            part.source = Portion.__new__(Portion)
            part.source.rows = np.array(rows)
        return part

    for one, other, fits in (
        ([0, 2], [0, 2], True),
        (None, None, True),
        ([0, 2], [0, 1], False),
        ([0, 2], None, False),
    ):
        said = "data.b has other examples of its training part than data.a"
        with contextlib.nullcontext() if fits else pytest.raises(BadInput, match=said):
            joins.ByIndex({"a": held(one), "b": held(other)})


@pytest.mark.slow
def test_a_stream_that_is_missing_is_unknown_to_the_step(two, tmp_path):
    """From files to the loss: what stands in its place moves nothing."""
    vqdit.save(tmp_path / "tok", toys.codec())
    experiment = StageTwo(
        name="two",
        data=two,
        join="key",
        model=DiT(width=8, depth=1, block=Block(2)),
        streams={name: Stream(Gaussian(), str(tmp_path / "tok")) for name in two},
        run=Run(steps=2, batch=4),
    )
    opened = prepare(experiment)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batch = opened.encoder(place)(next(opened.batches(0)))
    known = np.asarray(batch["known"]["a"])
    assert known.shape == (4,) and known.sum() == 3
    # The same from caches, of which the experiment makes one a stream.
    encode_streams(experiment, tmp_path / "cache")
    cached = prepare(dataclasses.replace(experiment, cache=str(tmp_path / "cache")))
    assert cached.source.cached
    stored = next(cached.batches(0))
    for name in two:
        np.testing.assert_array_equal(stored["known"][name], batch["known"][name])
        here = stored["known"][name] > 0
        expected = np.asarray(batch["streams"][name])
        np.testing.assert_allclose(
            stored["streams"][name][here], expected[here], atol=1e-5
        )
    params = toys.drawn(opened.model, *_example(opened.model))["params"]
    objective = jax.jit(lambda b: opened.objective(params, {}, b, jax.random.key(0), 0))
    first = objective(batch)
    a = batch["streams"]["a"]
    other = batch | {
        "streams": batch["streams"]
        | {"a": jax.numpy.where(known[:, None, None, None] > 0, a, 9)}
    }
    jax.tree.map(np.testing.assert_array_equal, first, objective(other))
    assert np.isfinite(first[0])


def _example(model):
    streams = {s.name: np.zeros((1, *s.shape), s.dtype) for s in model.streams}
    return streams, {name: np.zeros(1, np.float32) for name in streams}


@pytest.mark.slow
def test_a_cache_holds_words_too_and_is_joined_by_class(tmp_path):
    """In place of the data: the same companions, and the word of each."""
    vqdit.save(tmp_path / "tok", toys.codec())
    experiment = StageTwo(
        name="two",
        data={"image": SMALL, "word": SMALL, "other": SMALL_TOO},
        join="class",
        model=DiT(width=8, depth=1, block=Block(2), classes=10),
        streams={
            "image": Stream(Gaussian(), str(tmp_path / "tok")),
            "word": Stream(Masking(), Labels(10)),
            "other": Stream(Gaussian(), str(tmp_path / "tok")),
        },
        run=Run(steps=2, batch=8),
    )
    path = tmp_path / "cache"
    assert encode_streams(experiment, path) == 1437
    cached = dataclasses.replace(experiment, cache=str(path))
    a, b = next(prepare(experiment).batches(0)), next(prepare(cached).batches(0))
    np.testing.assert_array_equal(a["label"], b["label"])
    np.testing.assert_array_equal(a["streams"]["word"], b["streams"]["word"])
    np.testing.assert_array_equal(b["streams"]["word"][:, 0, 0], b["label"])
    opened = prepare(experiment)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    direct = opened.encoder(place)(a)["streams"]
    for name in ("image", "other"):
        np.testing.assert_allclose(b["streams"][name], direct[name], atol=1e-5)
    words = dataclasses.replace(experiment.streams["word"], tokenizer=Labels(11))
    with pytest.raises(BadInput, match="word is of another tokenizer; encode again"):
        streams = {**experiment.streams, "word": words}
        prepare(dataclasses.replace(cached, streams=streams))


SMALL_TOO = dataclasses.replace(SMALL, threads=1)  # other data, to whoever compares


@pytest.mark.slow
def test_a_cache_of_epochs_holds_what_they_draw(tmp_path, capsys):
    """A companion is augmented anew for every example that it goes with."""
    vqdit.save(tmp_path / "tok", toys.codec())
    moved = dataclasses.replace(SMALL_TOO, augment=ImageAugment(brightness=0.5))
    experiment = StageTwo(
        name="two",
        data={"image": SMALL, "other": moved},
        join="class",
        model=DiT(width=8, depth=1, block=Block(2)),
        streams={
            name: Stream(Gaussian(), str(tmp_path / "tok"))
            for name in ("image", "other")
        },
        run=Run(steps=2, batch=8),
    )
    path = tmp_path / "cache"
    cached = dataclasses.replace(experiment, cache=str(path))
    assert encode_streams(experiment, path, epochs=3) == 1437
    image, other = (LatentCache(path / name) for name in ("image", "other"))
    assert (image.versions, other.versions) == (1, 3)  # of nothing drawn, one
    assert capsys.readouterr().err.count("no epoch draws it anew") == 1
    opened, codec = prepare(experiment), vqdit.load(tmp_path / "tok")
    rows = np.arange(5)
    for epoch in range(3):
        drawn = opened.source.parts["other"].augmented(rows, np.full(5, epoch), 0)
        direct = codec.apply("latents", codec.variables, to_signal(drawn["x"]))
        stored = other.take(rows, epoch)["latents"]
        np.testing.assert_allclose(stored, direct, atol=1e-5)
    source = prepare(cached).source
    index, epochs = np.arange(len(source)), np.zeros(len(source), int)
    for joined in (source, opened.source):
        at = joined._join.rows(index, epochs, 0)["other"]
        row = np.bincount(at).argmax()
        mine = index[at == row]
        assert len(mine) > 3
        x = joined.augmented(mine, epochs[: len(mine)], 0)["streams"]["other"]
        assert len({each.tobytes() for each in x}) > 1
    plain = {"data.other.augment": ImageAugment(brightness=0.2)}
    with pytest.raises(BadInput, match="augmented otherwise than data says; encode"):
        prepare(replaced(cached, plain))
    encode_streams(experiment, tmp_path / "plain")
    with pytest.raises(BadInput, match=r"encode again with --epochs=N"):
        prepare(dataclasses.replace(experiment, cache=str(tmp_path / "plain")))


def test_a_cache_of_before_a_field_came_holds_what_it_held():
    """It says the fields that there were; the rest have their defaults."""
    sounds = Audio(rate=1000, length=64, augment=SeriesAugment(shift=5))
    fields = {"shift": 5, "gain": 0.0, "noise": 0.0}  # as version 0.1 wrote them
    text = json.dumps({"class": "train.SeriesAugment", "fields": fields})
    contract = {"augment": {"augment": text}}
    cache = types.SimpleNamespace(contract=contract)
    assert caches._drawn_of(cache) == caches.drawing(sounds)
    paced = dataclasses.replace(sounds, augment=SeriesAugment(shift=5, pace=0.1))
    assert caches._drawn_of(cache) != caches.drawing(paced)
    for wrong in ({}, {"augment": None}, {"augment": {"augment": "{"}}):
        cache = types.SimpleNamespace(contract=wrong)
        assert caches._drawn_of(cache) != caches.drawing(sounds)


def test_a_word_longer_than_its_stream_is_refused_before_training(tmp_path):
    """Also that of a class which no example has until the middle of a sorted set."""
    label = np.repeat([0, 1], [500, 100])
    image = np.zeros((600, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "x.npz", image=image, label=label)
    data = Images("npz", str(tmp_path / "x.npz"), words=("a", "seven"), **SHAPE)
    experiment = StageTwo(
        name="word",
        data=data,
        model=DiT(width=8, depth=1, block=Block(2)),
        streams={"word": Stream(Masking(), Bytes(4))},
        run=Run(steps=2, batch=8),
    )
    said = "streams.word.tokenizer.* 'seven' takes 5 codes, and there is room for 4"
    with pytest.raises(BadInput, match=said):
        prepare(experiment)
