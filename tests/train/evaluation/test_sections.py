"""What a report shows of a crossing: words over pictures, and the worst of all."""

import types

import numpy as np
import pytest

from train.evaluation.crossings import sections
from train.evaluation.crossings.questions import Crossing

NAMES = ("nil", "one", "two")


def answer(source="", read=None, evaluators=()):
    contract = types.SimpleNamespace(contract=f"of {source or 'photo'}")
    return types.SimpleNamespace(
        source=source,
        read=read,
        tokenizer=contract,
        data="data",
        word=lambda x: f"<{x}>",
        truth=lambda batch: batch["photo"],
        evaluators=lambda exact: list(evaluators) if exact else [],
    )


@pytest.fixture
def shown(monkeypatch):
    """Sheets are what they are made of."""
    seen = lambda caption, contract, x, names=(): [(caption, contract, x, [*names])]
    monkeypatch.setattr(sections, "seen", seen)
    part = types.SimpleNamespace(class_names=NAMES)
    monkeypatch.setattr(sections, "open_examples", lambda data, train: part)
    outlined = lambda x, true, said: x + 10 * true.sum() + said.sum()
    monkeypatch.setattr(sections.run_pages, "outlined", outlined)


def section(answers, crossing, exact=True, **found):
    of = types.SimpleNamespace(answers=answers, exact=lambda crossing: exact)
    return sections._section(of, crossing, "title", found)


def test_words_that_are_drawn_stand_with_what_is_true_where_it_is_another(shown):
    """Behind the words that are given, over the pictures that are."""
    answers = {"photo": answer(), "word": answer("caption"), "text": answer("caption")}
    crossing = Crossing(("photo", "text"), "word")
    photos = [np.zeros(2), np.ones(2)]
    words = {"said": ["a", "b"], "truth": ["a", "c"], "text": ["t", "u"]}
    found = section(answers, crossing, photo=photos, label=[0, 1], **words)
    ((caption, contract, x, names),) = found.shown
    assert (caption, contract) == ("given photo", "of photo")
    assert x.tolist() == [[0, 0], [1, 1]] and not found.text
    assert names == ["<t> → <a>", "<u> → <b> (true: <c>)"]
    # Without a picture they stand in a table.
    words.pop("text")
    found = section(answers, Crossing((), "word"), label=[0, 1], **words)
    assert not found.shown and "| <a> |" in found.text
    assert "| <b> (true: <c>) |" in found.text


def test_a_picture_that_is_read_says_what_it_should_be_and_is_taken_for(shown):
    """By its class, or by the words that it was drawn from."""
    read = lambda x: x[:, 0].astype(int)
    said = [np.array([1.0]), np.array([2.0]), np.array([7.0])]
    answers = {"photo": answer(read=read), "word": answer("caption")}
    found = {"said": said, "truth": said, "label": [1, 1, 9]}
    of = section(answers, Crossing((), "photo"), **found)
    drawn, true = of.shown
    assert (drawn[0], true[0]) == ("drawn photo", "true photo")
    assert drawn[3] == ["one", "one, reads two", "9, reads 7"] and not of.text
    words = {"word": ["a", "b", "c"]}
    of = section(answers, Crossing(("word",), "photo"), False, **found, **words)
    ((_, _, _, names),) = of.shown
    assert names == ["<a>", "<b>, reads two", "<c>, reads 7"]


def test_boxes_are_outlined_in_the_picture_that_is_given(shown):
    """The true ones before those that are drawn; of a signal that is no picture they
    are words."""
    boxes = [np.ones((1, 3, 5))] * 2
    found = {"said": [0 * b for b in boxes], "truth": boxes, "label": [0, 0]}
    answers = {"photo": answer(), "boxes": answer("boxes")}
    crossing = Crossing(("photo",), "boxes")
    clips = [np.zeros((1, 4, 4, 1), np.uint8)] * 2
    ((caption, _, x, names),) = section(answers, crossing, photo=clips, **found).shown
    assert caption == "photo with boxes, true and drawn" and names == []
    assert (x == 300).all()
    ways = [np.zeros((4, 4, 1), np.float32)] * 2
    ((caption, _, _, names),) = section(answers, crossing, photo=ways, **found).shown
    assert caption == "given photo" and len(names) == 2


@pytest.mark.parametrize(
    "name, source, worst",
    [
        # A share is right where it is 1, decibels never, and what is not known last.
        ("accuracy", "label", [*range(0, 30, 2)][:12]),
        ("psnr_db", "", [*range(0, 24, 2)]),
        ("x_rmse", "row", [*range(1, 24, 2)]),
    ],
)
def test_the_worst_are_shown_by_what_is_measured_first(
    name, source, worst, monkeypatch
):
    """Twelve of those that are there, in their order, and as many of all."""
    values = lambda batch: np.where(batch["said"] < 29, batch["said"] % 2, np.nan)
    rows = np.arange(40)
    each = types.SimpleNamespace(name=name, values=values)
    answers = {"photo": answer(), "way": answer(source)}
    # What is explained is of all examples together, and of a row stands first.
    whole = types.SimpleNamespace(name="explained", values=lambda batch: -rows)
    answers["way"].evaluators = lambda exact: [whole, each]
    batch = dict.fromkeys(("said", "truth", "label", "photo"), rows)
    of = types.SimpleNamespace(
        answers=answers,
        exact=lambda crossing: True,
        batches=lambda *asked: asked,
        said=lambda crossing, batches, key, draw: [batch | {"there": rows < 30}],
    )
    made = lambda of, crossing, title, found: (title, [*map(int, found["said"])])
    monkeypatch.setattr(sections, "_section", made)
    crossing = Crossing(("photo",), "way")
    some, fails = sections.sections_of(of, crossing, "key", "draw", 40, 1.5)
    assert some == ("photo → way, guidance 1.5", [*range(12)])
    title = f"photo → way: where it fails, by {name}, the worst of 30"
    assert fails == (title, worst)
    ((title, _), _) = sections.sections_of(of, crossing, "key", "draw", 40, None)
    assert title == "photo → way"
    # What is right is no failure, but decibels have no end that is.
    right = {"accuracy": 1.0, "psnr_db": np.nan, "x_rmse": 0.0}[name]
    each.values = lambda batch: np.full(40, right)
    found = sections.sections_of(of, crossing, "key", "draw", 40, None)
    assert len(found) == (2 if name == "psnr_db" else 1)
