"""What a cache has to be, to be trained on in the place of its data."""

import dataclasses
import json
import types
from pathlib import Path

import numpy as np
import pytest

from tests import toys
from tests.train.experiments import of_values
from train.config.override import replaced
from train.errors import BadInput
from train.modalities import Audio, ImageAugment, Images, SeriesAugment
from train.objectives import caches
from train.objectives.caches import (
    augmenting,
    caption_sums,
    drawing,
    open_caches,
    refuse_moving,
)
from train.objectives.latents import encode_streams
from train.pipeline import JointExamples, whole
from vqdit.tokenizer import Category, Labels, Table
from vqdit.values import describe

DIGITS = Images(name="digits", size=4, channels=1, threads=0)
CODEC = toys.codec()
HELD = {"split": "train", "tokenizer": describe(CODEC.contract)}


def test_what_augments_is_told_from_what_does_not():
    assert augmenting(DIGITS) == drawing(DIGITS) == {}
    moved = ImageAugment(rotate=5.0, flip=True)
    data = replaced(DIGITS, {"flip": True, "crop": "random", "augment": moved})
    assert augmenting(data) == {"flip": False, "crop": "center", "augment": None}
    assert drawing(data) == {"flip": True, "crop": "random", "augment": moved}
    # Mirrors a cache may hold.
    beyond = {"crop": "center", "augment.rotate": 0.0}
    assert caches._beyond_mirrors(data) == beyond
    sounds = Audio(augment=SeriesAugment(shift=3))
    assert list(caches._beyond_mirrors(sounds)) == ["augment.shift"]
    assert not caches._beyond_mirrors(replaced(DIGITS, {"flip": True}))


@pytest.mark.parametrize(
    "changes, plain",
    [
        ({}, ""),
        ({"augment": ImageAugment(brightness=0.5)}, ""),
        ({"augment": ImageAugment(shift=0.1)}, "data.augment=None"),
        ({"augment": ImageAugment(brightness=0.5), "flip": True}, "data.flip=False"),
        ({"crop": "random", "flip": True}, "data.flip=False data.crop=center"),
    ],
)
def test_boxes_of_pictures_that_move_are_refused_and_no_others(changes, plain):
    data, boxes = replaced(DIGITS, changes), types.SimpleNamespace(source="boxes")
    refuse_moving(Labels(10), data, "here")
    refuse_moving(CODEC, data, "here")
    if not plain:
        return refuse_moving(boxes, data, "here")
    with pytest.raises(BadInput, match=f"^here: boxes move .* once: write {plain}, or"):
        refuse_moving(boxes, data, "here")


def opened(monkeypatch, contract, data=DIGITS, fields=("latents", "label"), of=CODEC):
    """(the words of mirrors, what `_open` makes) of a cache with this contract."""
    held, asked = types.SimpleNamespace(contract=contract, fields=fields), []
    read = lambda path, *words: asked.extend([path, *words]) or held
    monkeypatch.setattr(caches, "LatentCache", read)
    assert caches._open(Path("c"), of, data, "latents") is held
    return asked


def test_a_cache_says_of_what_it_is(monkeypatch, capsys):
    assert opened(monkeypatch, HELD) == [Path("c"), ()]
    assert "does not say of which data it is" in capsys.readouterr().err
    labels = describe(Labels(3))
    other = dataclasses.replace(CODEC.contract, fingerprint="another")
    for wrong, fields, message in (
        ({"split": "test"}, ("latents",), "c is not of the training split"),
        ({}, ("codes", "a"), r"c holds \['a', 'codes'\], its stream needs latents"),
        ({"tokenizer": labels}, ("latents",), "it states no latent contract"),
        ({"tokenizer": None}, ("latents",), "^cache: "),
        ({"tokenizer": describe(other)}, ("latents",), "the cache c was made under an"),
        ({"split": None}, ("latents",), "c is not of the training split"),
    ):
        with pytest.raises(BadInput, match=message):
            opened(monkeypatch, HELD | wrong, fields=fields)
    with pytest.raises(BadInput, match="^cache: 'tokenizer'"):
        opened(monkeypatch, {"split": "train"})
    with pytest.raises(BadInput, match="image .4, 4, 1., the data gives image .8, 8,"):
        opened(monkeypatch, HELD, replaced(DIGITS, {"size": 8}))
    assert opened(monkeypatch, HELD | {"tokenizer": labels}, of=Labels(3))
    with pytest.raises(BadInput, match="c is of another tokenizer; encode again"):
        opened(monkeypatch, HELD | {"tokenizer": labels}, of=Labels(4))


def test_a_cache_holds_mirrors_of_all_that_mirrors(monkeypatch):
    both = {"flip": True, "augment": ImageAugment(flip=True)}
    data = replaced(DIGITS, both)
    words = sum(data.mirrors.values(), ())
    held = HELD | {"mirrors": ["flip", "augment.flip"]}
    assert opened(monkeypatch, held, data) == [Path("c"), words] and len(words) == 2
    opened(monkeypatch, held)  # what is not mirrored any more is one of its versions
    for wrong in ({"mirrors": ["flip"]}, {"mirrors": []}, {}):
        said = "not hold what data.flip and data.augment.flip mirrors: .*write "
        said += "data.flip=False data.augment.flip=False, or"
        with pytest.raises(BadInput, match=said):
            opened(monkeypatch, HELD | wrong, data)


def test_pieces_that_a_cache_has_cut_for_good_are_spoken_of(monkeypatch, capsys):
    """A cache of epochs holds what they cut, and how they augment it."""
    fields = {"kind": "image", "shape": (4, 4, 1), "augment": None, "mirrors": {}}
    cut = types.SimpleNamespace(**fields, drawn=True)
    said = "holds examples that are cut as they are evaluated"
    for more, data, spoken in (
        ({}, cut, True),
        ({}, DIGITS, False),
        ({"epochs": 2, "augment": {}}, cut, False),
    ):
        opened(monkeypatch, HELD | more, data)
        assert (said in capsys.readouterr().err) == spoken
    how = {"flip": True, "augment": ImageAugment(rotate=5.0, flip=True)}
    drawn = {name: json.dumps(describe(value)) for name, value in how.items()}
    epochs = HELD | {"epochs": 2, "augment": drawn}
    opened(monkeypatch, epochs, replaced(DIGITS, how))
    cut.augment = ImageAugment(brightness=0.5)
    with pytest.raises(BadInput, match="holds examples augmented otherwise than data"):
        opened(monkeypatch, HELD | {"epochs": 2, "augment": {}}, cut)


def test_what_is_born_discrete_is_as_the_cache_has_settled_it(monkeypatch):
    table = Table((Category("pet", ("cat", "dog")),), bins=4)
    values = {"row": Table(bins=4), "word": Labels(10)}
    both = replaced(of_values("both", DIGITS, values), {"cache": "there"})
    held, asked = {}, []

    def read(path):
        asked.append(path)
        return types.SimpleNamespace(contract={"tokenizer": describe(held["row"])})

    monkeypatch.setattr(caches, "LatentCache", read)
    held["row"] = table
    found = caches.settled_by_cache(both)
    assert found == {"row": table, "word": Labels(10)}
    assert asked == [Path("there/row")]
    for wrong in (Labels(10), Table(bins=4)):  # another kind, and one not settled
        held["row"] = wrong
        with pytest.raises(BadInput, match="there/row is of another tokenizer; enc"):
            caches.settled_by_cache(both)


def test_captions_and_boxes_are_told_apart_on_sixteen_examples(monkeypatch):
    """To a thousandth of a picture's side."""
    data = replaced(DIGITS, {"words": tuple("abcdefghij")})
    found = caption_sums(data)
    assert len(found) == 16
    taken = whole(data, True, 16)["label"]
    same = lambda x: np.asarray(x)[:, None] == np.asarray(x)[None]
    np.testing.assert_array_equal(same(found), same(taken))
    assert caption_sums(data) == found != caption_sums(DIGITS)
    boxes = np.zeros((16, 1, 5))
    take = lambda rows: {"x": boxes, "boxes": boxes}
    examples = types.SimpleNamespace(spaced=lambda most: range(most), take=take)
    monkeypatch.setattr(caches, "open_examples", lambda *of: examples)
    told = []
    for shift in (0.0, 0.0004, 0.0006):
        boxes = boxes * 0 + shift
        told.append(caption_sums(data))
    assert told[0] == told[1] != told[2]


def test_what_is_cached_is_joined_as_what_is_not(tmp_path):
    """Streams in another order than their data: the first of these has the examples."""
    values = {"all": Labels(10), "some": Labels(10)}
    data = {"some": replaced(DIGITS, {"share": 0.1}), "all": DIGITS}
    how = {"join": "class", "cache": str(tmp_path / "cache")}
    experiment = replaced(of_values("joint", data, values), how)
    count = encode_streams(experiment, tmp_path / "cache")
    codes = dict.fromkeys(values, types.SimpleNamespace(kind="codes"))
    cached = open_caches(experiment, codes, values)
    fresh = JointExamples(data, values, True, "class")
    assert len(cached) == len(fresh) == count
    rows, epochs = np.arange(count), np.full(count, 3)
    for each in (cached, fresh):
        found = each.augmented(rows, epochs, 0)["streams"]
        np.testing.assert_array_equal(found["all"], found["some"])
    np.testing.assert_array_equal(
        cached.augmented(rows, epochs, 0)["label"],
        fresh.augmented(rows, epochs, 0)["label"],
    )
