"""What a stage hands to the parts that it is made of. Nothing is trained here."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import demo_flow, demo_tokenizer
from tests import toys
from tests.train.experiments import JOINT, TOKENIZER
from tests.train.processes import noting
from train import stage_one, stage_two
from train.config import Adversarial, Samples, Stream
from train.config.override import replaced
from train.errors import BadInput
from train.modalities import Images
from train.modalities.shown import Units
from train.objectives.start import Start
from train.pipeline import open_examples, whole
from train.pipeline.batching import permutation
from train.runtime import hosts
from train.runtime.sharding import DIT_RULES, TOKENIZER_RULES
from vqdit.diffusion import Masking
from vqdit.losses.discriminators import PatchDiscriminator
from vqdit.quantizers import VectorQuantizer
from vqdit.tokenizer import Category, Labels, Table

DIGITS = Images(name="digits", size=8, channels=1, threads=0, flip=True)


class Calls(list):
    """Calls of functions that others are put in the place of, in their order."""

    def put(self, monkeypatch, module, **answers):
        """Functions of these names give these answers; a function makes its own."""
        for name, answer in answers.items():
            monkeypatch.setattr(module, name, self._noted(name, answer))

    def _noted(self, name, answer):
        def call(*of, **how):
            self.append((name, *of, how) if how else (name, *of))
            return answer(*of, **how) if callable(answer) else answer

        return call

    def of(self, name):
        return [call[1:] for call in self if call[0] == name]


class Pictures(list):
    """In the place of a logger."""

    def image(self, step, name, pixels):
        self.append((step, name, pixels))


@contextlib.contextmanager
def as_the_second_process(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hosts, "first", lambda: False)
        yield


@pytest.mark.parametrize(
    "stage, config, said",
    [
        (
            stage_one,
            demo_tokenizer.CONFIG,
            "the tokenizer is in a run/bundle; score it with python -m train.evaluate "
            "--workdir='a run'\n",
        ),
        (
            stage_two,
            demo_flow.CONFIG,
            "the generator is in a run/bundle; draw from it with python -m "
            "train.sample --workdir='a run' --out=drawn\n",
        ),
    ],
    ids=["one", "two"],
)
def test_every_option_of_a_stage_arrives(stage, config, said, monkeypatch, capsys):
    calls = Calls()
    calls.put(monkeypatch, hosts, start=None)
    calls.put(monkeypatch, stage, train=None)
    name = "demo_tokenizer" if stage is stage_one else "demo_flow"
    words, plain = (
        [f"--config={name}", "--workdir=a run"],
        (config, Path("a run"), False),
    )
    stage.main(words)
    stage.main([*words, "--force", "--config.run.seed=9"])
    among = ["--coordinator=here:1", "--processes=2", "--process=1"]
    stage.main([*words, "--reschedule", *among])
    assert calls == [
        ("start", {}),  # before anything asks for a device
        ("train", *plain),
        ("start", {}),
        ("train", replaced(config, {"run.seed": 9}), Path("a run"), True),
        ("start", {"coordinator": "here:1", "processes": 2, "process": 1}),
        ("train", *plain, {"reschedule": True}),
    ]
    assert capsys.readouterr().err == 3 * said


KMEANS = replaced(
    TOKENIZER,
    {
        "data": DIGITS,
        "kmeans.step": 3,
        "run.batch": 8,
        "run.seed": 5,
        "run.sample_every": 4,
        "run.best": "heldout_loss",
    },
)
STATE = SimpleNamespace(
    step=jnp.zeros(()),
    ema="averaged",
    params="raw",
    stats={"codebook": "codes", "usage": "counts"},
)


def put_stage_one(monkeypatch, waits=True):
    """What is costly of stage one is noted, and not done."""

    def launch(experiment, folder, *_, **__):
        (folder / "best").mkdir(parents=True)
        return STATE

    calls = Calls()
    calls.put(
        monkeypatch,
        stage_one,
        validate=None,
        begun=7,
        open_start=Start(None, {}, {"lpips": "distance"}, waits, "lost"),
        recall_statistics=None,
        share_statistics=None,
        build_step=(lambda: {"w": jnp.zeros(3)}, "step"),
        reconstruction_figures="figures",
        fits=None,
        claimed=lambda folder, *_: contextlib.nullcontext(folder),
        keep_statistics=None,
        launch=launch,
        load=SimpleNamespace(variables="best's"),
        finished=lambda _, variables, most=None: (variables, most),
        keep=lambda folder, thing: thing,
    )
    return calls


@pytest.mark.parametrize("name", ["whole", "load", "open_examples"])
def test_what_a_process_of_stage_one_cannot_read_all_refuse(
    monkeypatch, tmp_path, name
):
    left = []
    put_stage_one(monkeypatch)
    monkeypatch.setattr(stage_one.hosts, "together", noting(left))

    def gone(*_, **__):
        raise BadInput("it is gone")

    monkeypatch.setattr(stage_one, name, gone)
    best = dataclasses.replace(KMEANS.run, best="loss")
    with pytest.raises(BadInput):
        stage_one.train(dataclasses.replace(KMEANS, run=best), tmp_path / "run")
    assert left == ["it is gone"]


def test_stage_one_hands_on_what_it_opens(monkeypatch, tmp_path):
    """Nothing is written before all is known to fit, and the folder to be ours."""
    calls, folder = put_stage_one(monkeypatch), tmp_path / "run"
    made = stage_one.train(KMEANS, folder, "force", "reschedule")
    *told, how = calls.of("launch")[0]
    heldout, averaged = how["heldout"], {"params": "averaged", "codebook": "codes"}
    ((_, start),), ((_, shapes),) = (
        calls.of(name) for name in ("build_step", "reconstruction_figures")
    )
    assert made == (averaged, None)
    assert calls == [
        ("validate", KMEANS, 8),
        ("begun", folder, KMEANS, "reschedule"),
        ("open_start", KMEANS, 7),
        ("recall_statistics", DIGITS, folder),
        ("share_statistics", DIGITS),
        ("build_step", KMEANS, start),
        ("reconstruction_figures", KMEANS, shapes),
        ("fits", KMEANS, told[2], TOKENIZER_RULES, heldout, start.waits),
        ("claimed", folder, KMEANS, "force", "reschedule"),
        ("keep_statistics", DIGITS, folder, {"write": True}),
        ("launch", *told, how),
        ("finished", KMEANS, averaged),
        ("keep", folder / "bundle", (averaged, None)),  # best/ may be damaged
        ("load", folder / "best", ()),
        ("finished", KMEANS, "best's"),
        ("keep", folder / "best", ("best's", None)),
    ]
    assert start.lost == "lost" and shapes["w"].shape == (3,)
    assert (*told[:2], *told[3:5]) == (KMEANS, folder, "step", TOKENIZER_RULES)
    assert (told[7].func, told[7].args) == (stage_one.summary, (KMEANS,))
    (made_of,) = how.pop("made_of")().values()
    assert made_of["records"] == 1437 and len(made_of["some"]) == 16
    assert how == {"reschedule": "reschedule", "heldout": heldout, "lost": "lost"}
    calls.clear()
    heldout.keep(STATE, "there")  # in the middle of training: of some examples
    some = averaged, 1024
    assert calls == [("finished", KMEANS, *some), ("keep", "there", some)]

    assert heldout.objective.experiment is KMEANS
    assert heldout.objective.distances == {"lpips": "distance"}
    assert (heldout.since, heldout.loss, heldout.figures) == (3, "loss", "figures")
    rows = np.array([1, 6])
    found = [batch["streams"]["x"] for batch in heldout.batches(rows)]
    held = whole(DIGITS, train=False)["x"]
    at = (np.arange(16)[:, None] * 8 + rows) * len(held) // (16 * 8)
    np.testing.assert_array_equal(found, held[at])
    examples = open_examples(DIGITS, True)
    third = permutation(len(examples), 5, 0)[2 * 8 + rows]
    found = next(told[5](2, rows))["streams"]["x"]
    drawn = examples.augmented(third, np.zeros(2, int), 5)["x"]
    np.testing.assert_array_equal(found, drawn)


def test_stage_one_without_a_best_and_without_kmeans(monkeypatch, tmp_path):
    """A best bundle of an earlier run.best stays, whatever it is."""
    game = Adversarial(discriminator=PatchDiscriminator())
    experiment = replaced(KMEANS, {"run.best": "", "adversarial": game})
    calls = put_stage_one(monkeypatch, waits=False)
    with as_the_second_process(monkeypatch):
        stage_one.train(experiment, tmp_path / "run")
    assert [folder.name for folder, _ in calls.of("keep")] == ["bundle"]
    assert calls.of("claimed")[0][2:] == (False, False)
    assert calls.of("keep_statistics")[0][-1] == {"write": False}
    *told, how = calls.of("launch")[0]
    assert not how["reschedule"]
    assert (how["heldout"].since, how["heldout"].loss) == (0, "nonadversarial_loss")
    calls.put(monkeypatch, stage_one, show_augmented=None)
    (draw,) = told[6]("logger")
    assert (draw.every, draw.at, draw.changes) == (4, (), False)


def test_kmeans_needs_as_many_latents_as_codes(monkeypatch, tmp_path):
    """Digits are 1437 pictures to train on, and 16 latents each."""
    for codes, refused in ((1437 * 16, False), (1437 * 16 + 1, True)):
        model = KMEANS.model.clone(quantizer=VectorQuantizer(codes, 4, start="kmeans"))
        calls = put_stage_one(monkeypatch)
        experiment = dataclasses.replace(KMEANS, model=model)
        said = f"model.quantizer has {codes} codes: .* the data has 22992; write fewer"
        none = contextlib.nullcontext()
        with pytest.raises(BadInput, match=said) if refused else none:
            stage_one.train(experiment, tmp_path / f"{codes}")
        assert bool(calls.of("claimed")) != refused


def test_stage_one_draws_what_is_held_out_and_what_comes_back(monkeypatch, tmp_path):
    calls, pictures = put_stage_one(monkeypatch), Pictures()
    stage_one.train(KMEANS, tmp_path / "run")
    hooks = calls.of("launch")[0][6]
    calls.clear()
    calls.put(
        monkeypatch,
        stage_one,
        show_augmented=None,
        _reconstruct=lambda model, variables, x: (x, x + 1),
        sheet="a sheet",
        play=None,
        codebook_from_data="with codes",
    )
    draw, kmeans = hooks(pictures)
    assert (draw.every, draw.at, draw.changes) == (4, (), False)
    assert (kmeans.every, kmeans.at, kmeans.changes) == (0, (3,), True)
    assert kmeans.run(3, STATE) == "with codes"
    assert calls == [
        ("show_augmented", pictures, DIGITS, 5),
        ("codebook_from_data", KMEANS, 3, STATE),
    ]
    calls.clear()
    with as_the_second_process(monkeypatch):
        draw.run(8, STATE)
    assert not calls and not pictures
    draw.run(8, STATE)
    assert pictures == [(8, "reconstruction", "a sheet")]
    ((model, variables, shown),) = calls.of("_reconstruct")
    assert model is KMEANS.model
    assert variables == {"params": "averaged"} | STATE.stats
    np.testing.assert_array_equal(shown, whole(DIGITS, False)["x"][np.arange(8) * 45])
    ((kind, pair, units, columns, names),) = calls.of("sheet")
    np.testing.assert_array_equal(pair, np.concatenate([shown, shown + 1]))
    assert (kind, units, columns) == ("image", Units(), 8)
    assert names == ["original"] * 8 + ["reconstruction"] * 8
    (*one, original, _), (*two, reconstruction, _) = calls.of("play")
    assert one == [pictures, 8, "original", DIGITS]
    assert two == [pictures, 8, "reconstruction", DIGITS]
    np.testing.assert_array_equal(original, shown)
    np.testing.assert_array_equal(reconstruction, shown + 1)


SETTLED = Table((Category("pet", ("cat", "dog")),), bins=4)
ROWS = dataclasses.replace(DIGITS, size=4)
OVER_DIGITS = replaced(
    JOINT,
    {
        "data": {"image": DIGITS, "word": DIGITS, "row": ROWS},
        "streams": {
            "image": JOINT.streams["image"],
            "word": Stream(Masking(), Labels(10)),
            "row": Stream(Masking(), Table(bins=4)),
        },
        "run.seed": 5,
        "run.sample_every": 4,
    },
)


class Drawn:
    """In the place of a generator; `asked` are its samplers and what they drew."""

    class_names = ("zero", "one")

    def __init__(self, params, labels=(0, 2), asked=None):
        self.params, self.trained_labels = params, np.array(labels, int)
        self.asked = [] if asked is None else asked

    def sampler(self, **how):
        self.asked.append(how)

        def draw(key, ids, **how):
            self.asked.append((key, ids, how))
            return {"image": "drawn", "word": "words"}

        return draw


CODEC = functools.cache(toys.codec)


def put_stage_two(monkeypatch, **changes):
    """What is costly of stage two is noted, and not done."""
    calls = Calls()
    parts = {
        "model": SimpleNamespace(classes=3),
        "processes": "processes",
        "transfer": "transfer",
        "codewords": "codewords",
        "codecs": {"image": CODEC()},
        "values": {"word": Labels(10), "row": SETTLED},
        "source": SimpleNamespace(cached=False, made_of="of these"),
        "order": "",
        "lost": "lost",
        "generator": Drawn,
        "encoder": lambda sharding: [sharding],
    }
    named = ("objective", "heldout", "encoded", "batches", "told")
    streams = SimpleNamespace(**{n: n for n in named} | parts | changes)
    calls.put(
        monkeypatch,
        stage_two,
        validate=None,
        share_statistics=None,
        begun=7,
        prepare=streams,
        build_step=("init", "step"),
        sample_figures="figures",
        fits=None,
        claimed=lambda folder, *_: contextlib.nullcontext(folder),
        launch=STATE,
        keep=lambda folder, thing: thing,
        show_augmented=None,
        show_samples=None,
    )
    return calls, streams


def test_stage_two_hands_on_what_it_opens(monkeypatch, tmp_path):
    calls, streams = put_stage_two(monkeypatch)
    folder = tmp_path / "run"
    made = stage_two.train(OVER_DIGITS, folder, "force", "reschedule")
    (told,) = calls.of("launch")
    hooks, depends, encoder, heldout = told[6], told[8], told[9], told[11]
    parts = ("processes", "transfer", "codewords")
    assert calls == [
        ("validate", OVER_DIGITS, 8),
        ("share_statistics", DIGITS),  # once for two streams
        ("share_statistics", ROWS),
        ("begun", folder, OVER_DIGITS, "reschedule"),
        ("prepare", OVER_DIGITS, 7),
        ("build_step", OVER_DIGITS, streams.model, *parts),
        ("sample_figures", streams),
        ("fits", OVER_DIGITS, "init", DIT_RULES, heldout),
        ("claimed", folder, OVER_DIGITS, "force", "reschedule"),
        ("launch", *told),
        ("keep", folder / "bundle", made),
    ]
    assert told == (
        *(OVER_DIGITS, folder, "init", "step", DIT_RULES, "batches", hooks, "told"),
        *(depends, encoder, "reschedule", heldout, "lost", "of these"),
    )
    assert made.params == "averaged"
    # The names, and the hash, that checkpoints have had from the first.
    row = "3b30362289e9f490e34c65c71f72ba041ba7f28d908c5f47d45bd4fc458b00e1"
    image = streams.codecs["image"].contract.fingerprint
    assert depends == {"tokenizers.image": image, "tokenizers.row": row}
    assert (heldout.objective, heldout.batches) == ("objective", "heldout")
    assert (heldout.encode, heldout.figures) == ("encoded", "figures")
    assert (heldout.since, heldout.loss) == (0, "loss")
    assert heldout.keep(STATE, "there").params == "averaged"
    assert calls[-1][:2] == ("keep", "there")
    # One program encodes both parts.
    assert encoder("here") == ["here"]
    assert heldout.encoder("here") is encoder("here") is not encoder("there")


def test_a_cache_is_trained_on_without_an_encoder(monkeypatch, tmp_path):
    source = SimpleNamespace(cached=True, made_of="of the cache")
    calls, _ = put_stage_two(monkeypatch, source=source, order="as of old")
    stage_two.train(replaced(OVER_DIGITS, {"cache": "there"}), tmp_path / "run")
    (told,) = calls.of("launch")
    assert told[9] is None and told[10] is False and told[11].encoder is not None
    assert told[8]["order of classes"] == "as of old"
    assert calls.of("claimed")[0][2:] == (False, False)
    told[6](Pictures())
    assert not calls.of("show_augmented")  # the cache has been augmented, or is not


@pytest.mark.parametrize(
    "changes, shared",
    [
        ({}, True),
        ({"cache": "there"}, False),
        ({"cache": "there", "run.heldout_every": 4}, True),
        ({"cache": "there", "run.evaluate": Samples(4)}, True),
    ],
)
def test_statistics_are_of_data_that_are_read(changes, shared, monkeypatch, tmp_path):
    calls, _ = put_stage_two(monkeypatch)
    stage_two.train(replaced(OVER_DIGITS, changes), tmp_path / "run")
    assert calls.of("share_statistics") == [(DIGITS,), (ROWS,)] * shared


@pytest.mark.parametrize(
    "classes, labels, rows, names",
    [
        (3, [0, 2], [0, 2], ["zero", "2"]),  # of 1 there is no example
        (12, range(12), range(10), ["zero", "one", *map(str, range(2, 10))]),
        (0, [], [None], []),
    ],
)
def test_stage_two_draws_a_row_of_every_class(
    classes, labels, rows, names, monkeypatch, tmp_path
):
    asked, pictures = [], Pictures()
    calls, streams = put_stage_two(
        monkeypatch,
        model=SimpleNamespace(classes=classes),
        generator=lambda params: Drawn(params, labels, asked),
    )
    stage_two.train(OVER_DIGITS, tmp_path / "run")
    (draw,) = calls.of("launch")[0][6](pictures)
    assert (draw.every, draw.at, draw.changes) == (4, (), False)
    assert calls.of("show_augmented") == [(pictures, DIGITS, 5)]
    with as_the_second_process(monkeypatch):
        draw.run(4, STATE)
    assert not asked and not pictures
    draw.run(4, STATE)
    draw.run(8, SimpleNamespace(ema="later"))
    how, (key, ids, first), (*_, second) = asked  # one sampler for all pictures
    assert how == {"steps": 25} and key == jax.random.key(5)
    assert ids.tolist() == list(range(8 * len(rows)))
    assert (first["params"], second["params"]) == ("averaged", "later")
    if classes:
        assert first["label"].tolist() == [row for row in rows for _ in range(8)]
    else:
        assert first["label"] is None
    said = [name for name in names for _ in range(8)] if classes else ()
    x = {"image": "drawn", "word": "words"}
    one, two = calls.of("show_samples")
    assert (one[:2], two[:2]) == ((pictures, 4), (pictures, 8))
    assert [each[2].params for each in (one, two)] == ["averaged", "later"]
    assert one[3:] == two[3:] == (x, 8, said)
