"""Where what is asked of a score arrives, and what its protocol says."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.config import Reconstructions, Samples
from train.errors import BadInput
from train.evaluation import features, scores, training
from train.evaluation.means import Mean
from train.evaluation.samples import Reference
from train.evaluation.texts import TextReference
from train.modalities import Images
from vqdit.diffusion import Heun, Plain
from vqdit.tokenizer import Bytes, Labels, Table
from vqdit.trained.judge import Judge

DATA = Images(size=4, threads=0)


class Counted:
    """A reference that says what it is asked for."""

    def figures(self, count, prefix):
        return {f"{prefix}count": count}

    def names(self, prefix):
        return [f"{prefix}score"]


def model(classes=10, untrained=(), solvers=None, values=None):
    values = {"word": Bytes(4)} if values is None else values
    codecs = {"image": "codec"}
    return types.SimpleNamespace(
        codecs=codecs,
        values=values,
        tokenizers=codecs | values,
        streams=dict.fromkeys((*codecs, *values, "code")),
        module=types.SimpleNamespace(classes=classes, dtype="bfloat16"),
        untrained=untrained,
        solvers=solvers or {},
    )


BOTH = {"image": Counted(), "word": Counted()}


@pytest.fixture
def curves(monkeypatch):
    """What the curve is asked for."""
    found = []
    call = lambda *of, **how: found.append((of, how)) or [{"row": 1}]
    monkeypatch.setattr(scores, "curve", call)
    return found


def test_the_protocol_says_what_was_done(curves):
    """What is not asked, too, and of what is drawn alone by which solver."""
    solvers = {"image": Heun(), "word": Plain(), "code": Heun()}
    generator = model(solvers=solvers)
    how = {"steps": 5, "want": ("image",), "solver": {"image": Plain()}}
    found = scores.evaluate_generator(generator, BOTH, 7, seed=3, **how)
    default = {"shift": 1.0, "interval": (0.0, 1.0)}
    of = (generator, BOTH, (1.0, 1.5, 2.0, 3.0), 7, 3)
    assert curves == [(of, default | how)]
    sampler = {"steps": "5", "shift": "1.0", "interval": "(0.0, 1.0)"}
    sampler |= {"solver": "{'image': Plain()}", "want": "('image',)"}
    assert found == {
        "protocol": {
            "samples": 7,
            "labels": "balanced",
            "seed": 3,
            "sampler": sampler,
            "backend": "cpu",
            "dtype": "bfloat16",
        },
        "real": {"image_count": 7, "word_count": 7},
        "curve": [{"row": 1}],
    }
    found = scores.evaluate_generator(generator, BOTH, solver=Heun())
    assert found["protocol"]["sampler"] == {
        "steps": "50",
        "shift": "1.0",
        "interval": "(0.0, 1.0)",
        "solver": "Heun()",
    }
    assert found["protocol"]["samples"] == 1000 and found["protocol"]["seed"] == 0
    found = scores.evaluate_generator(generator, BOTH)
    said = "{'image': Heun(), 'word': Plain(), 'code': Heun()}"
    assert found["protocol"]["sampler"]["solver"] == said
    found = scores.evaluate_generator(model(classes=0), BOTH)["protocol"]
    assert found["labels"] == "none"
    said = "{'image': Plain(), 'word': Plain(), 'code': Plain()}"
    assert found["sampler"]["solver"] == said  # of nothing written, and none its own


def test_scales_are_those_that_are_asked_or_that_can_be(curves, monkeypatch):
    """Where none was never trained, one alone."""
    for generator, asked in (
        (model(), (2.0,)),
        (model(untrained=(3, 10)), None),
        (model(untrained=(3,)), None),
    ):
        scores.evaluate_generator(generator, BOTH, guidance=asked)
    assert [of[2] for of, _ in curves] == [(2.0,), (1.0,), scores.SCALES]

    def refuse(*of, **how):
        raise ValueError("no such grid")

    monkeypatch.setattr(scores, "curve", refuse)
    with pytest.raises(BadInput, match="^no such grid$"):
        scores.evaluate_generator(model(), BOTH)


@pytest.mark.parametrize(
    "classes, values, labelled",
    [(10, {}, True), (0, {"word": Bytes(4)}, False), (0, {"word": Labels(10)}, True)],
)
def test_what_is_compared_has_a_reference(classes, values, labelled):
    """A text or a label is compared as such; each with its own data."""
    other = Images(size=8, threads=0)
    data = {"image": DATA, "word": other, "code": other}
    seen = []
    network = lambda *of: seen.append(of) or "network"
    generator = model(classes, values=values)
    found = scores.references_of(generator, data, network, copies=False)
    assert seen == [("image", DATA, "codec")] and [*found] == ["image", *values]
    image = found["image"]
    assert isinstance(image, Reference) and image.data == DATA
    assert image.network == "network"
    assert (image.labelled, image.copies) == (labelled, False)
    assert image.balanced == bool(classes)
    for name, value in values.items():
        assert isinstance(found[name], TextReference) and found[name].data == other
        assert (found[name].source, found[name].copies) == (value.source, False)
    again = scores.references_of(generator, data, network, names=("image", "code"))
    assert [*again] == ["image"] and again["image"].copies
    assert [*scores.references_of(generator, data, network, names=("code",))] == []
    for name in ("codecs", "values", "tokenizers"):
        setattr(generator, name, {})
    with pytest.raises(BadInput, match="none of its streams has a tokenizer"):
        scores.references_of(generator, data, network)


def test_a_tokenizer_is_scored_as_it_is_asked(monkeypatch):
    """Of as many examples as its kind says, if that is others; it says of how many."""
    asked = []

    def measures(*of, **how):
        asked.append((of, how))
        each = [Mean("m", lambda batch: batch["x"]), Mean("k", None, lambda _: [1])]
        return types.SimpleNamespace(
            evaluators=each[: 1 + bool(how)], known={"n": 3}, most=40, beside=["beside"]
        )

    def batches(*of):
        asked.append(of)
        return [{"x": np.array([1.0, 2.0])}]

    monkeypatch.setattr(scores, "measures_of", measures)
    monkeypatch.setattr(scores, "reconstructions", batches)
    found = scores.evaluate_tokenizer("codec", DATA, 50, False, "judge")
    assert found == {"examples": 40, "m": 1.5, "n": 3}
    assert asked == [
        (("codec", DATA, 50, False, "judge"), {}),
        ("codec", DATA, 40, ["beside"]),
    ]
    # What is a list is no figure of a run, and what is known is not measured.
    assert scores.tokenizer_figures("codec", DATA) == ["m"]
    assert asked[2:] == [(("codec", DATA), {"baseline": False})]


def test_features_are_those_of_what_is_named(monkeypatch):
    """A tokenizer, of data that it has learnt, or a judge of these classes; or else
    what the data allow."""
    codec = object.__new__(features.Codec)
    asked = []
    gives = {"there": codec, "judge": object.__new__(Judge)}
    opened = lambda folder, kinds, at: asked.append((kinds, at)) or gives[folder]
    monkeypatch.setattr(features, "open_bundle", opened)
    fits = lambda *of, train: asked.append((*of, train))
    monkeypatch.setattr(features, "examples_for", fits)
    monkeypatch.setattr(features, "open_judge", lambda *of: of)
    monkeypatch.setattr(features, "train_judge", lambda *of: ("trained", *of))
    found = features.network_of(DATA, "own", "there", at="run.judge")
    assert isinstance(found, features.Latents) and found.codec is codec
    both = (Judge, features.Codec)
    assert asked == [(both, "run.judge"), (codec, DATA, False)]
    found = features.network_of(DATA, "own", "judge", at="run.judge")
    assert found == ("judge", DATA, 10, "run.judge")
    assert features.network_of(DATA, "own", steps=4) == ("trained", DATA, 4)
    of_stream = lambda name, judge: features.network_by(name, DATA, "own", judge, 4)
    named = of_stream("b", {"a": "there", "b": "judge"})
    assert named == ("judge", DATA, 10, "--judge.b")
    assert of_stream("c", {"a": "there"}) == ("trained", DATA, 4)
    assert of_stream("b", "judge") == ("judge", DATA, 10, "--judge")
    part = types.SimpleNamespace(classes=1)
    monkeypatch.setattr(features, "open_examples", lambda *of: part)
    assert features.network_of(DATA, "own").codec == "own"
    with pytest.raises(BadInput, match="image of 1 classes; drop it"):
        features.network_of(DATA, "own", steps=4)


def test_a_run_rebuilds_as_many_examples_as_it_is_told(monkeypatch):
    """By the averaged weights, and without what is slow."""
    monkeypatch.setattr(training, "averaged", lambda state: f"average of {state}")
    monkeypatch.setattr(training, "unfinished", lambda run, state: f"codec of {state}")
    names = lambda codec, data: ["psnr", codec]
    monkeypatch.setattr(training, "tokenizer_figures", names)
    asked = []

    def score(*of, **how):
        asked.append((of, how))
        return {"psnr": 20.0, "codec of average of shapes": 1.0, "list": []}

    monkeypatch.setattr(training, "evaluate_tokenizer", score)
    run = types.SimpleNamespace(evaluate=Reconstructions(every=4, most=9))
    experiment = types.SimpleNamespace(run=run, data=DATA)
    found = training.reconstruction_figures(experiment, "shapes")
    assert (found.names, found.every) == (["psnr", "codec of average of shapes"], 4)
    assert found.of("state") == {"psnr": 20.0, "codec of average of shapes": 1.0}
    of = ("codec of average of state", DATA, 9)
    assert asked == [(of, {"baseline": False})]
    run.evaluate = None
    assert training.reconstruction_figures(experiment, "shapes") is None


def test_a_run_compares_its_samples_as_it_is_told(monkeypatch):
    """With averaged weights, in the features of the judge that is named, or of the
    stream's own tokenizer, whose data are checked first."""
    how = Samples(4, num=20, judge="there", copies=True)
    generator = model()
    generator.sampler = lambda **how: "draw"
    asked = []
    run = types.SimpleNamespace(
        experiment=types.SimpleNamespace(
            run=types.SimpleNamespace(evaluate=how), sources={"image": DATA}
        ),
        generator=lambda params: generator,
    )

    def references(*of):
        asked.append(of)
        return BOTH

    monkeypatch.setattr(training, "references_of", references)
    monkeypatch.setattr(training, "network_of", lambda *of, at: (*of, at))
    fits = lambda *of, train: asked.append((*of, train))
    monkeypatch.setattr(training, "examples_for", fits)
    monkeypatch.setattr(training, "scored", lambda *of, params: params)
    found = training.sample_figures(run)
    of, sources, network, copies = asked.pop()
    assert of is generator and sources == {"image": DATA} and copies is True
    assert network("image", DATA, "own") == (DATA, "own", "there", "run.evaluate.judge")
    assert found.names == ["image_score", "word_score"] and not asked
    weights = {"ema": {"w": np.ones(1)}, "params": {"w": np.zeros(1)}}
    state = types.SimpleNamespace(**weights, step=jnp.zeros(()))
    assert jax.device_get(found.of(state)) == {"w": 1}
    run.experiment.run.evaluate = Samples(4)
    training.sample_figures(run)
    *_, network, copies = asked.pop()
    assert copies is False and network("image", DATA, "own").codec == "own"
    assert asked == [("own", DATA, False)]

    def refuse(**how):
        raise ValueError("no guidance")

    generator.sampler = refuse
    with pytest.raises(BadInput, match="run.evaluate: no guidance"):
        training.sample_figures(run)
    generator.codecs, generator.values = {}, {"record": Table()}
    with pytest.raises(BadInput, match="run.evaluate: samples are scored of signals"):
        training.sample_figures(run)
    run.experiment.run.evaluate = None
    assert training.sample_figures(run) is None


def test_nothing_is_drawn_that_is_compared_with_nothing(curves):
    """Beside crossings, which tell of rows and boxes."""
    generator = model(values={"record": Table()})
    found = scores.evaluate_generator(generator, {})
    assert (found["real"], found["curve"], curves) == ({}, [], [])
