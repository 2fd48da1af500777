"""train.page: how it draws, and which examples it shows."""

import json
import types

import jax
import numpy as np
import pytest

from train import page
from train.errors import BadInput
from train.evaluation import evaluator
from train.evaluation.crossings import sections
from train.evaluation.crossings.bound_figures import keep
from train.evaluation.crossings.questions import Crossing
from train.modalities import Images
from train.pipeline import whole
from vqdit.diffusion import Heun
from vqdit.sealed import sealed

DATA = Images("digits", size=8, channels=1, threads=0)


def test_it_draws_at_the_scale_that_was_best():
    """The largest of shares, the least of errors; what is no scale is not asked."""
    shares = {"guidance_1": {"accuracy": 0.5, "text": 0.9}, "real": {"accuracy": 1.0}}
    shares |= {"guidance_2.5": {"accuracy": 0.75, "text": 0.1}}
    assert page._scale(shares) == 2.5
    errors = {"guidance_1": {"age_rmse": 3.0}, "guidance_2": {"age_rmse": 5.0}}
    assert page._scale(errors | {"mean": {"age_rmse": 1.0}}) == 1.0
    assert page._scale({"guidance_1": {}, "guidance_2": {"iou": None}}) is None
    assert page._scale({"model": {"accuracy": 0.5}, "examples": 7}) is None


def test_it_draws_as_the_figures_were_made():
    said = {"steps": "7", "solver": "Heun()", "interval": "(0.0, 1.0)", "seed": "3"}
    said |= {"shift": "None"}
    found = page._sampler({"protocol": {"sampler": said}})
    assert found == {"steps": 7, "solver": Heun()}
    said["interval"] = "(0.2, 1.0)"
    assert page._sampler({"protocol": {"sampler": said}})["interval"] == (0.2, 1.0)
    assert page._sampler({}) == {}


def test_samples_are_those_of_the_seed_and_sampler_that_are_written(monkeypatch):
    seen = []
    monkeypatch.setattr(page, "_samples", lambda *of: seen.append(of[2:]))
    module = types.SimpleNamespace(classes=3)
    model = types.SimpleNamespace(streams={"image": None}, module=module)
    evaluation = {"protocol": {"sampler": {"steps": "9", "solver": "Heun()"}}}
    page._drawn(model, None, evaluation, {"seed": 5, "steps": 7})
    ((key, sampler),) = seen
    assert key == jax.random.key(5) and sampler == {"steps": 7, "solver": Heun()}


def test_a_crossing_is_drawn_as_it_was_asked(monkeypatch):
    """By the file's word of it, else as its samples, and as the command says."""
    made, streams = [], dict.fromkeys("ab")
    model = types.SimpleNamespace(
        streams=streams,
        module=types.SimpleNamespace(classes=0),
        sampler=lambda **how: made.append(how),
    )
    monkeypatch.setattr(page, "references_of", lambda *_: {})
    monkeypatch.setattr(page, "answers_of", lambda *_: streams)
    monkeypatch.setattr(page, "Crossings", lambda *_: None)
    monkeypatch.setattr(page, "sections_of", lambda *_: [])
    monkeypatch.setattr(page, "_samples", lambda *_: None)
    experiment = types.SimpleNamespace(sources={}, join="index")
    evaluation = {
        "protocol": {"sampler": {"steps": "9"}},
        "crossings": {"a_to_b": {}, "b_to_a": {}},
        "asked": {"a_to_b": {"num": 7, "sampler": {"steps": "5", "solver": "None"}}},
    }
    page._drawn(model, experiment, evaluation, {})
    page._drawn(model, experiment, evaluation, {"steps": 3})
    assert [how["steps"] for how in made] == [5, 9, 3, 3]
    assert [how["want"] for how in made] == ["b", "a"] * 2


@pytest.mark.parametrize(
    "name, worst",
    [("accuracy", [3, 0]), ("age_rmse", [1, 2, 4, 0])],
)
def test_where_it_fails_is_the_worst_first(name, worst, monkeypatch):
    """Of shares what is below 1, of errors what is above 0, and never what is there
    only to fill a batch up."""
    figures = np.array([0.5, 7.0, 2.0, 0.0, 1.0, 0.25])
    if name == "accuracy":
        figures = np.minimum(figures, 1)
    values = lambda batch: figures[batch["said"]]
    of = types.SimpleNamespace(
        answers={
            "photo": types.SimpleNamespace(truth=lambda batch: batch["said"]),
            "word": types.SimpleNamespace(
                evaluators=lambda exact: [
                    types.SimpleNamespace(name=name, values=values)
                ],
                read=None,
                source="row",
            ),
        },
        exact=lambda crossing: True,
        batches=lambda *_: [np.arange(3), np.arange(3, 6)],
        said=lambda crossing, batches, key, draw: (
            dict.fromkeys(("said", "truth", "label"), rows) | {"there": rows < 5}
            for rows in batches
        ),
    )
    monkeypatch.setattr(sections, "_section", lambda of, crossing, title, found: found)
    crossing = Crossing(("photo",), "word")
    first, fails = sections.sections_of(of, crossing, None, None, 5, None)
    assert first["said"] == [0, 1, 2, 3, 4] and fails["said"] == worst


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_drawn_stands_over_what_is_true(exact, monkeypatch):
    """Where there is one truth, named by what was given."""
    shown = lambda caption, contract, x, names=(): [(caption, contract, x, names)]
    monkeypatch.setattr(sections, "seen", shown)
    contract = types.SimpleNamespace(contract="of photo")
    photo = types.SimpleNamespace(source="", read=None, tokenizer=contract)
    word = types.SimpleNamespace(source="caption", word=lambda text: text)
    of = types.SimpleNamespace(
        answers={"word": word, "photo": photo}, exact=lambda crossing: exact
    )
    drawn, true = [np.zeros(3)] * 2, [np.ones(3)] * 2
    found = {"word": ["a", "b"], "said": drawn, "truth": true, "label": [0, 1]}
    section = sections._section(of, Crossing(("word",), "photo"), "title", found)
    said = [(caption, x.mean(), names) for caption, _, x, names in section.shown]
    both = [("drawn photo", 0.0, ["a", "b"]), ("true photo", 1.0, ["a", "b"])]
    assert said == (both if exact else both[:1]) and not section.text


def test_the_nearest_is_that_of_the_whole_training_part(monkeypatch):
    """Also where it is read in parts, each of which has a nearest of its own."""
    train = whole(DATA, True)["x"]
    monkeypatch.setattr(evaluator, "CHUNK", 500)
    monkeypatch.setattr(evaluator, "GROUP", 500 * 64)
    rows = np.array([3, 700, 1436])
    np.testing.assert_array_equal(page._nearest(DATA, train[rows]), train[rows])


def test_what_was_scored_is_shown_of_the_same_bundle_alone(tmp_path):
    (tmp_path / "bundle").mkdir()
    config = tmp_path / "bundle" / "config.json"
    config.write_text('{"seal": "a"}')
    assert page._bounds(tmp_path) == []
    bits = {"model": 0.5, "gzip": 0.75, "xz": np.nan}
    keep(tmp_path / "scores.json", "a", "text draws=64", {"bits_per_byte": bits})
    keep(tmp_path / "scores.json", None, "text of 0.1.0", {"bits_per_byte": bits})
    assert "0.1.0" not in (tmp_path / "scores.json").read_text()
    (found,) = page._bounds(tmp_path)
    assert "| text draws=64 | 0.5 bits a byte of text |" in found.text
    assert "| text draws=64 | 0.75 bits a byte of text, gzip |" in found.text
    assert "xz" not in found.text and "0.1.0" not in found.text
    for other in ('{"seal": "b"}', "{}"):
        config.write_text(other)
        assert page._bounds(tmp_path) == []
    for content in (
        {"scores": {"b": {"q": {"ranks": 1}}}},
        {"scores": {"b": {"q": 1}}},
    ):
        (tmp_path / "scores.json").write_text(json.dumps(sealed(content)))
        with pytest.raises(BadInput, match="scores.json is not what train.score has"):
            page._bounds(tmp_path)
