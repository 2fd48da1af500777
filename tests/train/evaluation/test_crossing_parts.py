"""What crossings are measured beside, and how what is drawn for them is guided."""

import dataclasses
import types

import numpy as np
import pytest

from tests.train.evaluation.test_crossings import DATA, Judge, setting
from train.errors import BadInput
from train.evaluation.crossings import crossings as module
from train.evaluation.crossings.answers import Answer
from train.evaluation.crossings.crossings import crossings
from train.evaluation.crossings.questions import Crossing
from train.evaluation.crossings.rivals import Rival
from train.evaluation.evaluator import evaluated
from train.evaluation.features import Latents
from train.evaluation.samples import Reference
from train.evaluation.texts import TextReference
from train.modalities import Images
from vqdit.tokenizer import Boxes, Labels


def test_what_nothing_is_drawn_before_agrees_unguided():
    """Whatever the scales of what is drawn from others are."""
    found = crossings(*setting()[0], scales=(1.0, 2.0), num=20)
    assert found["agree"].keys() == {"model", "examples"}
    assert found["agree"]["examples"] == 20
    assert found["word_to_photo"].keys() >= {"guidance_1", "guidance_2"}


def test_where_nothing_can_be_told_it_is_said():
    """A picture that no judge reads, of which any of its class is as right."""
    generator, data, references = setting(data=dataclasses.replace(DATA, threads=1))[0]
    photo = dataclasses.replace(references["photo"], network=Latents(None))
    of = (generator, data, references | {"photo": photo}, ["word_to_photo"])
    with pytest.raises(BadInput, match="can be told of what is drawn of photo, word"):
        crossings(*of, join="class", num=10)


def test_captions_say_classes_where_some_labelled_one_does(monkeypatch):
    part = types.SimpleNamespace(class_names=("nil", "one"), spaced=lambda count: 0)
    monkeypatch.setattr(module, "open_examples", lambda data, train: part)
    for captions, labels, words in (
        (["a cat", "one"], [0, 1], part.class_names),
        (["one", "nil"], [0, 1], ()),
        # A text that is no class's does not say that there is none.
        (["a cat", "one"], [-1, 0], ()),
    ):
        batch = {"caption": captions, "label": np.array(labels)}
        part.take = lambda rows, batch=batch: batch
        assert module._words(types.SimpleNamespace(words=())) == words
    part.take = lambda rows: {"caption": ["zwei", "eins"], "label": np.array([1, 0])}
    own = ("eins", "zwei")  # of the data, before the names of classes
    assert module._words(types.SimpleNamespace(words=own)) == own


def test_the_times_of_a_scale_go_with_it():
    (generator, *more), _ = setting()
    asked, sampler = [], generator.sampler

    def noted(want=None, interval=None, **how):
        asked.append((want, how["guidance"], interval))
        return sampler(want, **how)

    generator.sampler = noted
    ends = (0.2, 0.8)
    crossings(generator, *more, scales=(2.0,), num=10, interval=ends)
    both = {("photo", 2.0, ends), ("word", 2.0, ends)}
    assert {*asked} == both | {(None, None, None)}
    asked.clear()
    how = {"interval": ends, "before": ("word",)}
    crossings(generator, *more, scales=(2.0,), num=10, **how)
    assert {*asked} == both | {(None, 2.0, ends)}


def test_a_judge_tells_what_a_stream_shares_with_another():
    """Its data, or the class by which examples are joined; a tokenizer tells none."""
    other, small = (Images(size=side, threads=0) for side in (8, 4))
    data = {"photo": DATA, "word": DATA, "way": other, "text": small}
    answer = lambda name: types.SimpleNamespace(data=data[name])
    judge = Judge()
    references = {
        "photo": Reference(judge, DATA),
        "way": Reference(Latents(None), other),
        "word": TextReference(DATA, "label"),
    }
    for join, wanted in (("index", "photo word"), ("class", "photo word way text")):
        answers = {name: answer(name) for name in data}
        of = types.SimpleNamespace(data=data, answers=answers, join=join)
        found = module._judges(of, references)
        assert found == {("photo", name): judge for name in wanted.split()}


def test_baselines_are_fitted_to_the_training_part(monkeypatch):
    """What is nearest has no truth where any of the class is as right."""
    asked = []

    def rivals(train, given, want, classes, books, judges, steps):
        asked.append((len(train), given, want, classes, books, [*judges], steps))
        return types.SimpleNamespace(fit=lambda: {})

    monkeypatch.setattr(module, "Rivals", rivals)
    none = np.zeros(12, int)
    nearest = lambda train, given: asked.append((len(train), given))
    monkeypatch.setattr(module, "Nearest", nearest)
    monkeypatch.setattr(module, "_nearest", lambda near, crossing, answer, batch: none)
    other = dataclasses.replace(DATA, threads=1)
    names, how = ["photo_to_word", "word_to_photo"], {"baselines": True, "num": 12}
    of_word = (
        1437,
        ("photo",),
        "word",
        10,
        {},
        [("photo", "photo"), ("photo", "word")],
        None,
    )
    crossings(*setting(Labels(10))[0], names[:1], **how)
    assert asked == [(1437, ("photo",)), of_word]
    asked.clear()
    crossings(*setting(Labels(10), other)[0], names[:1], join="class", **how)
    assert asked == [of_word]
    asked.clear()
    how["baseline_steps"] = 5  # of networks that are trained anew
    crossings(*setting(Labels(10), other)[0], names[:1], join="class", **how)
    assert asked == [(*of_word[:5], [], 5)]


def test_beside_boxes_stand_detectors_with_what_they_were_given(monkeypatch):
    """Where examples have one truth, and baselines are asked for."""
    asked, budget = [], {"networks": {"photo+word": {"steps": 7}}}

    def detectors(*of):
        asked.append(of)
        return types.SimpleNamespace(
            fit=lambda: {"cnn": Rival(lambda b: b["x"], budget)}
        )

    monkeypatch.setattr(module, "Detectors", detectors)
    monkeypatch.setattr(module, "Nearest", lambda *of: None)
    monkeypatch.setattr(module, "_nearest", lambda *of: None)
    boxes = Boxes(1, bins=4)
    generator = types.SimpleNamespace(values={"word": Labels(6), "boxes": boxes})
    answer = Answer("boxes", DATA, boxes)
    answer.__dict__["usual"] = None
    joint = lambda crossing, train: (crossing.want, train)
    of = types.SimpleNamespace(
        answers={"boxes": answer}, generator=generator, joint=joint
    )
    crossing = Crossing(("photo", "word"), "boxes")
    parts, more, budgets = module._beside(of, crossing, True, True, ({}, 3), 9, None)
    given = ("photo", "word"), "boxes", boxes, {"word": 7}
    assert asked == [(("boxes", True), *given, 3)]
    assert budgets == {"cnn": budget} and "cnn" in parts
    whole = np.array([[[0.0, 0, 1, 1, 0]]])
    batch = {"x": whole, "truth": whole, "there": np.ones(1, bool)}
    batch |= {"index": np.zeros(1, int)}
    batch |= more(batch)
    assert evaluated(parts["cnn"], [batch])["iou"] == 1
    for exact, baselines in ((False, True), (True, False)):
        how = (crossing, exact, baselines, ({}, None), 9, None)
        parts, _, budgets = module._beside(of, *how)
        assert not budgets and "cnn" not in parts
    assert len(asked) == 1
