"""train.page: how it draws, and which examples it shows."""

import dataclasses
import datetime
import json
import shutil
import types

import jax
import numpy as np
import pytest

from tests import toys
from tests.train.experiments import JOINT, TOKENIZER
from train import page
from train.config.override import replaced
from train.config.workdir import open_workdir
from train.errors import BadInput
from train.evaluation import evaluator
from train.evaluation.crossings import sections
from train.evaluation.crossings.bound_figures import keep_figures
from train.evaluation.crossings.questions import Crossing
from train.evaluation.drawing import SAMPLER
from train.modalities import Images
from train.pipeline import whole
from train.report import run_pages
from vqdit import Continuous, Discrete
from vqdit.diffusion import Gaussian, Heun, Masking
from vqdit.sealed import sealed
from vqdit.tokenizer import Labels
from vqdit.trained.bundle import save
from vqdit.trained.codec import Codec

DATA = Images("digits", size=8, channels=1, threads=0)
SMALL = dataclasses.replace(DATA, size=4)  # which the tokenizers of `toys` take
PICTURES = dataclasses.replace(TOKENIZER, data=SMALL)
BOTH = dataclasses.replace(JOINT, data=SMALL)


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
    assert key == jax.random.key(5) and sampler == {
        **{"steps": 7, "solver": Heun()},
        "guidance": None,
    }


@pytest.fixture
def written(monkeypatch) -> list:
    """What every page is written of: its title, intro and sections."""
    seen, of = [], run_pages.written
    monkeypatch.setattr(
        run_pages, "written", lambda *page: seen.append(page) or of(*page)
    )
    return seen


def folder_of(path, thing, experiment):
    """A run's folder with a bundle and two lines of a log."""
    workdir = open_workdir(path, experiment)
    save(workdir / "bundle", thing)
    rows = [{"step": n, "loss": 2.0, "evaluation_psnr_db": 9.0} for n in (1, 2)]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (workdir / "metrics.jsonl").write_text(lines)
    return workdir


def test_a_page_of_a_tokenizer_has_figures_and_reconstructions(
    tmp_path, written, monkeypatch, capsys
):
    """Or says what is to be run for figures. Nothing is logged of a finished one."""
    shown = lambda thing, experiment: page.Section(str(thing.contract.shape), "x")
    monkeypatch.setattr(page, "_reconstructions", shown)
    workdir = folder_of(tmp_path / "run", codec := toys.codec(), PICTURES)
    page.main([f"--workdir={workdir}"])
    size = sum(x.size for x in jax.tree.leaves(codec.variables["params"]))
    ((title, intro, sections),) = written
    assert title == "tokenizer" and [each.title for each in sections] == [
        *("Training", "Measured while it trained", "(4, 4, 1)", "Not evaluated")
    ]
    assert "2 of 1,000 steps" in sections[0].text
    assert intro == (
        f"A tokenizer of {size:,} parameters, 1,000 steps of 16 examples; `{workdir}`, "
        f"{datetime.date.today()}, jax {jax.__version__} on cpu."
    )
    html = (workdir / "report.html").read_text()
    assert "<h2>Not evaluated</h2>" in html and "data:image/png" in html
    said = f"the report is {workdir}/report.html"
    assert capsys.readouterr().err.splitlines() == [said]
    (workdir / "metrics.jsonl").unlink()
    said = {"n": 9, "psnr_db": 20.5, "codes": [1], "right": 0.5}
    said |= {"right_interval": [0.25, 0.75], "channels": [{"channel": "hot"}, {"x": 2}]}
    (workdir / "evaluation.json").write_text(json.dumps(said))
    page.main([f"--workdir={workdir}"])
    figures, own = written[1][2]
    assert (figures.title, own.title) == ("Figures", "(4, 4, 1)")
    assert figures.text.splitlines()[1:] == [
        *("| n | 9 |", "| psnr_db | 20.5 |"),
        *("| right | 0.500 (0.250\u00a0to\u00a00.750) |", ""),
        *("| channel | x |", "| hot | – |", "| – | 2 |"),
    ]
    (workdir / "evaluation.json").write_text('{"crossings": {"a_to_b": 3}}')
    with pytest.raises(BadInput, match="evaluation.json: .*; run train.evaluate again"):
        page.main([f"--workdir={workdir}"])
    with pytest.raises(BadInput, match="--num says nothing of a tokenizer; drop it"):
        page.main([f"--workdir={workdir}", "--num=3"])
    with pytest.raises(BadInput, match="the tokenizer takes image .4, 4, 1., the data"):
        page.main([f"--workdir={workdir}", "--config.data.size=8"])
    with pytest.raises(BadInput, match="write --workdir=..., a run's folder"):
        page.main(["--config=demo_tokenizer"])
    shutil.rmtree(workdir / "bundle")
    with pytest.raises(BadInput, match="^--workdir: "):
        page.main([f"--workdir={workdir}"])


def test_a_page_of_a_generator_begins_with_its_streams(tmp_path, written, monkeypatch):
    """And ends with what it draws, as the options say."""
    streams = [Continuous("image", (2, 2), 2), Discrete("text", (1,), 11)]
    processes = {"image": Gaussian(), "text": Masking(11)}
    tokenizers = {"image": toys.codec(), "text": Labels(10)}
    asked, model = [], toys.generator(streams, processes, tokenizers)
    plain = lambda rows, steps, moments: page.Section(
        "Training", f"{len(rows)} of {steps}"
    )
    monkeypatch.setattr(run_pages, "training", plain)
    drawn = lambda thing, *of: asked.append(of) or [page.Section("Drawn")]
    monkeypatch.setattr(page, "_drawn", drawn)
    workdir = folder_of(tmp_path / "run", model, BOTH)
    seal = json.loads((workdir / "bundle/config.json").read_text())["seal"]
    keep_figures(workdir / "scores.json", seal, "q", {"bits_per_byte": {"model": 0.5}})
    evaluation = {"curve": [{"distance": 2.0}]}
    (workdir / "evaluation.json").write_text(json.dumps(evaluation))
    judged = f"--judge={folder_of(tmp_path / 'here', toys.codec(), TOKENIZER)}"
    with pytest.raises(BadInput, match="--judge: nowhere: no bundle here"):
        page.main([f"--workdir={workdir}", "--judge=nowhere"])
    with pytest.raises(BadInput, match="--judge-steps is of a judge trained here"):
        page.main([f"--workdir={workdir}", judged, "--judge-steps=3"])
    lost = ["--config.run.steps=7", "--config.run.batch=3"]  # it has been trained
    page.main([f"--workdir={workdir}", "--seed=3", "--num=5", judged, *lost])
    ((_, intro, sections),) = written
    assert f"{BOTH.run.steps:,} steps of {BOTH.run.batch} examples" in intro
    size = sum(x.size for x in jax.tree.leaves(model.params))
    assert size > 1000 and intro.startswith(f"A transformer of {size:,} parameters, ")
    titles = [each.title for each in sections]
    assert titles == [
        *("Streams", "Training", "Measured while it trained", "Samples, scored"),
        *("Scored by the bound", "Drawn"),
    ]
    assert sections[0].text.splitlines()[1:] == [
        "| image | image | (2, 2, 2) | Gaussian() |",
        "| text | Labels | (1, 1) | Masking(vocab=11) |",
    ]
    assert sections[1].text == "2 of 1000"
    assert asked == [(BOTH, evaluation, {"seed": 3, "num": 5, "judge": judged[8:]})]
    with pytest.raises(BadInput, match="the tokenizer takes image .4, 4, 1., the data"):
        page.main([f"--workdir={workdir}", "--config.data.size=8"])
    save(workdir / "bundle", toys.labelled())
    with pytest.raises(BadInput, match="--judge says nothing of a generator of one"):
        page.main([f"--workdir={workdir}", "--judge=here"])
    other = folder_of(tmp_path / "other", model, TOKENIZER)
    with pytest.raises(BadInput, match="other: config.json is not a generator's"):
        page.main([f"--workdir={other}"])


OF_CROSSINGS = ("crossings", "num", "judge", "judge_steps")


@pytest.mark.parametrize(
    "streams, unused, kind",
    [
        (0, (*OF_CROSSINGS, *SAMPLER, "seed"), "tokenizer"),
        (1, (*OF_CROSSINGS, "interval"), "generator of one stream"),
        (2, (), ""),
    ],
)
def test_an_option_that_changes_nothing_is_refused(streams, unused, kind):
    thing = types.SimpleNamespace(streams=range(streams))
    thing = thing if streams else Codec(None, {}, None)
    for name in sorted({*page.FLAGS} - {"workdir"}):
        if name in unused:
            said = f"--{name.replace('_', '-')} says nothing of a {kind}; drop it"
            with pytest.raises(BadInput, match=f"^{said}$"):
                page._refuse_unused(thing, {name: 1})
        else:
            page._refuse_unused(thing, {name: 1})


@pytest.mark.parametrize(
    "fields, found",
    [
        ({}, {"k-means": 0}),
        ({"init": "runs/a"}, {}),
        ({"model.quantizer.start": "normal"}, {}),
        ({"kmeans": None}, {}),
    ],
)
def test_a_loss_that_jumps_says_why(fields, found):
    found = dict.fromkeys(found, TOKENIZER.kmeans.step)
    assert run_pages.jumps_of(replaced(TOKENIZER, fields)) == found
    assert run_pages.jumps_of(JOINT) == {}


def test_reconstructions_are_of_held_out_examples(monkeypatch):
    """Twelve, evenly spaced, above what the codec makes of them."""
    codec, seen = types.SimpleNamespace(contract="a contract"), []
    monkeypatch.setattr(page, "reconstruct", lambda of, x: (255 - x, of))
    monkeypatch.setattr(page, "seen", lambda *of: seen.append(of) or [of[0]])
    section = page._reconstructions(codec, types.SimpleNamespace(one_data=DATA))
    assert section.shown == ["held-out originals", "what comes back"]
    held = whole(DATA, False)["x"]
    labels = whole(DATA, False)["label"]
    for (_, contract, x, names), back in zip(seen, (False, True), strict=True):
        assert contract is codec.contract and len(x) == 12
        x = 255 - x if back else x
        rows = [np.flatnonzero((held == each).all((1, 2, 3)))[0] for each in x]
        assert names == [str(y) for y in labels[rows]]
        assert rows[0] == 0 and (np.diff(rows) >= len(held) // 12 - 1).all()


def test_bars_crossings_and_samples_are_shown_where_there_are_some():
    figures = {"crossings": {"a_to_b": {"examples": 9, "model": {"accuracy": 0.5}}}}
    experiment = dataclasses.replace(JOINT, bars=("a_to_b accuracy >= 0.4",))
    bars, crossed, samples = page._scored(experiment, figures)
    assert bars.text.endswith("| a_to_b accuracy >= 0.4 | 0.5 | 0.4 | met |")
    assert "a → b | accuracy | 0.500 | 9" in crossed.text
    assert samples.title == "Samples, scored"
    titles = lambda *of: [each.title for each in page._scored(*of)]
    assert titles(JOINT, figures) == ["Crossings", "Samples, scored"]
    assert titles(experiment, {"curve": []}) == ["Bars", "Samples, scored"]
    assert titles(experiment, {}) == []
    # As train.evaluate, a bar takes no crossing of some of the examples.
    some = figures | {"asked": {"a_to_b": {"among": "_7_"}}}
    bars, crossed, _ = page._scored(experiment, some)
    assert bars.text.endswith("| not measured |") and "0.500" in crossed.text
    # Of version 0.1.0 crossings were a list.
    assert titles(JOINT, {"crossings": [1]}) == ["Samples, scored"]
    assert titles(experiment, {"crossings": [1]}) == ["Bars", "Samples, scored"]


@pytest.mark.parametrize(
    "found",
    [
        {"protocol": {"sampler": {"steps": "many"}}},
        {"asked": {"a_to_b": {"sampler": {"steps": "many"}}}},
        {"crossings": {"a_to_b": {"guidance_x": {"accuracy": 1.0}}}},
    ],
)
def test_figures_that_say_no_sampler_are_refused_before_anything_is_drawn(
    found, tmp_path
):
    path = tmp_path / "evaluation.json"
    assert page._evaluation(path, JOINT) == ({}, [])
    path.write_text(json.dumps(found))
    for experiment in (JOINT, TOKENIZER):
        with pytest.raises(BadInput, match="evaluation.json: .*run train.evaluate"):
            page._evaluation(path, experiment)


@pytest.fixture
def crossed(monkeypatch):
    """(model, experiment, evaluation of streams a, b and c, calls by name)."""
    calls = {}
    called = lambda name, *of: calls.setdefault(name, []).append(of)
    model = types.SimpleNamespace(
        streams=dict.fromkeys("abc"),
        tokenizers=dict.fromkeys("ab"),  # of c nothing can be told
        module=types.SimpleNamespace(classes=0),
        sampler=lambda **how: called("sampler", how) or "draw",
    )
    made = lambda name, found: lambda *of: called(name, *of) or found
    for name, found in {
        "references_of": "references",
        "answers_of": dict.fromkeys("ab"),
        "Crossings": "of",
        "sections_of": ["section"],
        "_samples": "samples",
    }.items():
        monkeypatch.setattr(page, name, made(name, found))
    experiment = types.SimpleNamespace(sources="sources", join="class")
    guided = {"guidance_1": {"x": 0.5}, "guidance_2": {"x": 0.75}}
    measured = {"b_to_a": {}, "c_to_a": {}, "a_to_b": guided}
    measured["agree"] = {"guidance_4": {"share": 1.0}}
    return model, experiment, {"crossings": measured}, calls


def test_the_evaluated_crossings_are_shown_at_their_best_scale(crossed):
    """Then samples, which no scale guides where none is drawn before."""
    model, experiment, evaluation, calls = crossed
    found = page._drawn(model, experiment, evaluation, {})
    assert found == ["section", "section", "samples"]
    ((_, sources, network),) = calls["references_of"]
    assert sources == "sources" and network.func is page.network_by
    assert network.keywords == {"judge": None, "steps": None}
    assert calls["answers_of"] == [(model, "sources", "references")]
    assert calls["Crossings"] == [(model, "sources", dict.fromkeys("ab"), "class")]
    key, first, second = jax.random.key(0), Crossing(("a",), "b"), Crossing(("b",), "a")
    assert calls["sections_of"] == [
        ("of", second, key, "draw", 250, None),
        ("of", first, key, "draw", 250, 2.0),
    ]
    assert [how for (how,) in calls["sampler"]] == [
        {"want": "a", "guidance": None, "before": ()},
        {"want": "b", "guidance": 2.0, "before": ()},
    ]
    assert calls["_samples"] == [(model, experiment, key, {"guidance": None})]


def test_a_page_draws_as_its_options_say(crossed):
    """What is drawn first is guided by the scale at which streams agreed."""
    model, experiment, evaluation, calls = crossed
    flags = {"crossings": ("a_to_b",), "num": 7, "seed": 3, "steps": 4}
    flags |= {"judge": "here", "judge_steps": 9, "before": ("a",)}
    flags["interval"] = (0.2, 0.8)
    assert page._drawn(model, experiment, evaluation, flags) == ["section", "samples"]
    ((_, _, network),) = calls["references_of"]
    assert network.keywords == {"judge": "here", "steps": 9}
    key = jax.random.key(3)
    assert calls["sections_of"] == [("of", Crossing(("a",), "b"), key, "draw", 7, 2.0)]
    how = {"steps": 4, "before": ("a",), "interval": (0.2, 0.8), "guidance": 4.0}
    assert calls["_samples"] == [(model, experiment, key, how)]
    page._drawn(model, experiment, {}, {"interval": (0.2, 0.8)})
    assert calls["_samples"][1][3] == {"guidance": None}  # an interval of no scale
    names = [crossing.name for _, crossing, *_ in calls["sections_of"][1:]]
    assert names == ["b_to_a", "a_to_b"]  # all that can be told
    model.sampler = lambda **how: (_ for _ in ()).throw(ValueError("no such solver"))
    calls.clear()
    with pytest.raises(BadInput, match="^no such solver$"):
        page._drawn(model, experiment, evaluation, flags)
    assert not calls, "nothing is opened, and no judge trained, before"


def test_an_interval_that_was_evaluated_is_of_scales_and_of_no_sample(crossed):
    """Nor of a crossing without one; also of a generator with classes, whose samples no
    scale guides."""
    model, experiment, evaluation, calls = crossed
    said = {"protocol": {"sampler": {"steps": "7", "interval": "(0.2, 0.8)"}}}
    page._drawn(model, experiment, evaluation | said, {})
    how = {
        (n, how["guidance"]): how.get("interval")
        for (how,) in calls["sampler"]
        for n in how["want"]
    }
    assert how == {("a", None): None, ("b", 2.0): (0.2, 0.8)}
    model.module.classes, model.streams = 3, {"a": None}
    page._drawn(model, experiment, said, {})
    assert calls["_samples"][1][3] == {"steps": 7, "guidance": None}


@pytest.mark.parametrize("first", [(), ("name", "image")])
@pytest.mark.parametrize("labels", [False, True])
def test_samples_stand_over_what_they_are_nearest_to(first, labels, monkeypatch):
    """Named by the streams beside them that are words; of labels each in turn."""
    codec, shown, asked = types.SimpleNamespace(contract="a contract"), [], []
    model = types.SimpleNamespace(
        module=types.SimpleNamespace(classes=3 * labels),
        trained_labels=np.array([0, 2]),
        class_names=("cat", "cow", "dog") * labels,
        codecs={"image": codec},
        values={"name": Labels(10)},
        sampler=lambda **how: asked.append(how) or "draw",
    )
    pictures, numbers = np.zeros((12, 4, 4, 1)), np.arange(12) % 10

    def draw_all(*of, **how):
        asked.append((of, how))
        return {"image": pictures, "name": numbers}

    monkeypatch.setattr(page, "draw_all", draw_all)
    monkeypatch.setattr(page, "_nearest", lambda data, x: (data, len(x)))
    monkeypatch.setattr(page, "seen", lambda *of: shown.append(of) or [of[0]])
    experiment = types.SimpleNamespace(sources={"image": "photos", "name": DATA})
    sampler = {"steps": 4} | ({"before": first} if first else {})
    section = page._samples(model, experiment, "key", sampler)
    how, ((drawer, draw, key, ids, given), raw) = asked
    assert how == sampler and (drawer, draw, key) == (model, "draw", "key")
    assert ids.tolist() == [*range(12)] and raw == {"raw": False}
    assert given.tolist() == [0, 2] * 6 if labels else given is None
    words = [("cat", "dog")[i % 2] for i in range(12)] if labels else []
    names = [f"{word}, {i % 10}" for i, word in enumerate(words)]
    names = names or [str(i % 10) for i in range(12)]
    assert shown == [
        ("drawn image", codec.contract, pictures, names),
        ("nearest in training to each image", codec.contract, ("photos", 12), names),
    ]
    how = (
        "name and image first, and given to the others"
        if first
        else ("all streams together")
    )
    of = "each class in turn, guidance 1" if labels else "nothing given"
    text = f"Drawn of {of}, {how}; not picked."
    assert section.text == text and section.shown == [shown[0][0], shown[1][0]]
    assert section.title == "Samples, and what they are nearest to"
    model.codecs = {}  # words alone are a table
    section = page._samples(model, experiment, "key", sampler)
    assert section.title == "Samples" and not section.shown
    assert section.text.splitlines()[:4] == [text, "", "|  |", f"| {names[0]} |"]
    model.codecs, model.values = {"image": codec}, {}
    page._samples(model, experiment, "key", sampler)
    assert [[*names] for *_, names in shown[2:]] == [words, words]
    none = page._samples(model, experiment, "key", sampler | {"guidance": 0.0})
    assert ("guidance 0," in none.text) == labels


def test_a_crossing_is_drawn_as_it_was_asked(monkeypatch):
    """By the file's word of it, else as its samples, and as the command says."""
    made, streams = [], dict.fromkeys("ab")
    model = types.SimpleNamespace(
        streams=streams,
        tokenizers=streams,
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
    keep_figures(
        tmp_path / "scores.json", "a", "text draws=64", {"bits_per_byte": bits}
    )
    keep_figures(
        tmp_path / "scores.json", None, "text of 0.1.0", {"bits_per_byte": bits}
    )
    assert "0.1.0" not in (tmp_path / "scores.json").read_text()
    auc = {"auc": 0.75, "auc_interval": [0.5, 1.0]}
    odd = {"jump": {"the score": auc}, "all": {"the score": {}, "its distance": auc}}
    keep_figures(tmp_path / "scores.json", "a", "video", {"anomalies": odd})
    (found,) = page._bounds(tmp_path)
    assert "**text draws=64**\n\n|  |\n| 0.5 bits a byte of text |" in found.text
    assert "| 0.75 bits a byte of text, gzip |" in found.text
    assert found.text.endswith(
        "**video**\n\n| ROC-AUC of | the score | its distance |\n"
        "| jump | 0.750 (0.500 to 1.000) | – |\n"
        "| all | – | 0.750 (0.500 to 1.000) |"
    )
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
