"""Both stages end to end on real digits, at a size that trains in seconds."""

import dataclasses
import json
import re
import shutil
import types
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vqdit
from tests import toys
from tests.train.devices import only_one
from train import (
    classifier,
    encode,
    evaluate,
    page,
    sample,
    score,
    stage_one,
    stage_two,
)
from train.config import (
    AdamW,
    Adversarial,
    KMeansInit,
    Mesh,
    Optimizer,
    Reconstructions,
    Run,
    Samples,
    StageOne,
    StageTwo,
    Stream,
    Weights,
)
from train.config.override import replaced
from train.config.workdir import read_config
from train.errors import BadInput, run
from train.evaluation.judge import train_judge
from train.evaluation.scores import evaluate_tokenizer
from train.modalities import Images
from train.modalities.transforms.augment import ImageAugment
from train.objectives import streams
from train.pipeline import JointExamples, LatentCache, open_examples, whole
from train.runtime.log import read_metrics
from vqdit import sealed
from vqdit.diffusion import Gaussian, Masking
from vqdit.dit import DiT
from vqdit.losses import PatchDiscriminator
from vqdit.nn import Block
from vqdit.quantizers import EMAVectorQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Labels, Tokenizer
from vqdit.trained.bundle import save
from vqdit.trained.codec import Codec

DEMO = Path(__file__).parents[2] / "configs" / "demo_tokenizer.py"
CODES = 16
DATA = Images(name="digits", size=8, channels=1, threads=0)
ONE = Mesh(data=1)


def tokenizer(quantizer, **changes):
    part = {"channels": 8, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    return StageOne(
        name="tiny_tokenizer",
        data=DATA,
        model=Tokenizer(
            ConvEncoder(**part, out=8), ConvDecoder(**part, out=1), quantizer
        ),
        kmeans=KMeansInit(step=3, samples=256, iterations=5),
        optimizer=Optimizer(peak_lr=1e-3, ema=0.9),
        run=Run(**{"steps": 10, "batch": 16, "log_every": 5, "save_every": 5}),
        **changes,
    )


# The window is so short that codes die and are revived within the run.
EMA = EMAVectorQuantizer(CODES, 2, start="kmeans", window=512)
GRADIENT = VectorQuantizer(CODES, 2, start="kmeans", window=512)
STILL = GRADIENT.clone(revive="none")  # may be at a rate of 0


def dit(kind, tokenizer_dir, **changes):
    process = Gaussian() if kind == "flow" else Masking()
    return StageTwo(
        name=f"tiny_{kind}",
        data=DATA,
        model=DiT(width=16, depth=1, block=Block(2), classes=10),
        streams={"image": Stream(process, str(tokenizer_dir))},
        optimizer=Optimizer(peak_lr=1e-3, ema=0.9),
        run=Run(**{"steps": 6, "batch": 16, "log_every": 3, "save_every": 3}),
        **changes,
    )


def shorter(experiment, steps):
    return dataclasses.replace(
        experiment, run=dataclasses.replace(experiment.run, steps=steps)
    )


one_device = pytest.fixture(scope="module")(only_one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_device):
    """(workdir of a tokenizer, of a masked generator, a latent cache)."""
    folder = tmp_path_factory.mktemp("stages")
    experiment = tokenizer(EMA)
    work = folder / "tok"
    codec = stage_one.train(experiment, work)
    encode.encode_set(codec, DATA, folder / "cache")
    masked = dit("masked", work)
    stage_two.train(masked, folder / "masked")
    return work, folder / "masked", folder / "cache"


def test_what_a_run_shows_went_through_the_codes():
    """A tokenizer's pictures are what its codes decode to, as `Codec` does it."""
    codec = toys.codec()
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1)).astype(np.uint8)
    shown, made = stage_one._reconstruct(codec.module, codec.variables, x)
    np.testing.assert_allclose(shown, x / 127.5 - 1, atol=1e-6)
    codes = codec.encode(shown).codes
    np.testing.assert_allclose(made, codec.decode(codes), atol=1e-5)


def test_a_resumed_tokenizer_equals_one_never_stopped(tmp_path, trained, monkeypatch):
    """Bit for bit, with the k-means between the two starts' checkpoints. A codebook
    that learns by its gradient: objectives/test_adversarial.py."""
    shown, real = [], stage_one._reconstruct
    set_at, kmeans = [], stage_one.codebook_from_data

    def reconstruct(model, variables, x):
        shown.append(variables["params"])
        return real(model, variables, x)

    def codebook_from_data(experiment, step, state):
        set_at.append(step)
        return kmeans(experiment, step, state)

    monkeypatch.setattr(stage_one, "_reconstruct", reconstruct)
    monkeypatch.setattr(stage_one, "codebook_from_data", codebook_from_data)
    experiment = tokenizer(EMA)
    stage_one.train(shorter(experiment, 5), tmp_path / "b")
    resumed = stage_one.train(experiment, tmp_path / "b")
    assert set_at == [experiment.kmeans.step]
    # A hash of every weight is in it.
    assert resumed.contract == vqdit.load(trained[0]).contract
    loaded = vqdit.load(tmp_path / "b")
    q = loaded.encode(jnp.zeros((2, 8, 8, 1)))
    np.testing.assert_array_equal(loaded.decode(q.codes), loaded.decode(q.latents))
    assert (tmp_path / "b" / "samples" / "reconstruction_000010.png").exists()
    # The picture is of what is kept, the averaged weights.
    chex.assert_trees_all_equal(shown[-1], resumed.variables["params"])


def test_kmeans_sets_the_codebook_and_quantizing_begins(trained):
    work, _, _ = trained
    codec = vqdit.load(work)
    image = whole(DATA, train=False)["x"][:32]
    x = image / np.float32(127.5) - 1
    q = codec.encode(x)
    assert bool(codec.variables["codebook"]["quantizer"]["ready"])
    assert len(np.unique(q.codes)) > 2
    np.testing.assert_array_equal(codec.decode(q.codes), codec.decode(q.latents))


def test_kmeans_makes_a_codebook_of_a_network_that_stays_as_it_is(one_device, tmp_path):
    """Such as one that `init` brings: at a rate of 0 for all there is that to learn."""
    still = {"optimizer.rates": ((".", 0.0),), "run.steps": 4}
    codec = stage_one.train(replaced(tokenizer(STILL), still), tmp_path / "made")
    assert bool(codec.variables["codebook"]["quantizer"]["ready"])
    x = whole(DATA, train=False)["x"] / np.float32(127.5) - 1
    assert len(np.unique(codec.encode(x).codes)) > 2


def test_contract_statistics_are_those_of_the_training_set(trained):
    work, _, _ = trained
    codec = vqdit.load(work)
    x = whole(DATA, train=True)["x"] / np.float32(127.5) - 1
    z = np.asarray(codec.latents(jnp.asarray(x))).reshape(-1, 2)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-4)


def test_a_cache_holds_what_is_encoded_on_the_fly(trained):
    """The same batches in the same order, so a run may drop its cache midway."""
    work, _, cache = trained
    for kind in ("flow", "masked"):
        direct = dit(kind, work)
        cached = dataclasses.replace(direct, cache=str(cache))
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        opened = streams.prepare(direct)
        a = opened.encoder(place)(next(opened.batches(2)))
        b = next(streams.prepare(cached).batches(2))
        assert not a["known"] and not b["known"]
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_allclose(
            a["streams"]["image"], b["streams"]["image"], atol=1e-5
        )


BARS = "('image_to_word accuracy >= 0', 'word_to_image accuracy >= 0')"


@pytest.mark.slow
def test_a_picture_and_what_it_shows_are_two_streams(
    trained, tmp_path, one_device, monkeypatch, capsys
):
    """Latents of a tokenizer beside labels, which are born discrete; each its own loss,
    and any of them drawn from the other, from the bundle alone."""
    work, _, _ = trained
    alone = dit("flow", work)
    word = Stream(Masking(), Labels(10), weight=0.5)
    joint = dataclasses.replace(
        alone,
        name="joint",
        model=alone.model.clone(classes=0),
        streams={**alone.streams, "word": word},
    )
    opened = streams.prepare(joint)
    batch = next(opened.batches(0))
    np.testing.assert_array_equal(batch["streams"]["word"][:, 0, 0], batch["label"])
    assert batch["known"]["word"].all() and "image" not in batch["known"]
    stage_two.train(joint, tmp_path / "run")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert list((tmp_path / "run" / "samples").glob("samples_word_*.txt"))
    halves = row["loss_image"] + 0.5 * row["loss_word"]
    assert row["loss"] == pytest.approx(halves, rel=1e-5)

    monkeypatch.setattr(sample, "draw_all", None)  # refused before anything is drawn
    with pytest.raises(BadInput, match="'image' is no text; write a .png"):
        sample.main([f"--workdir={tmp_path / 'run'}", "--out=x.txt"])
    # Without classes: digits by the tokenizer's latents, words by what they say.
    sees = [f"--judge={work}", "--num=12", "--steps=1"]
    evaluate.main([f"--workdir={tmp_path / 'run'}", *sees])
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    (row,) = scores["curve"]
    assert {"image_tokenizer_distance", "image_memorisation", "word_pair_bits"} <= {
        *row
    }
    assert "image_floor_tokenizer_coverage" in scores["real"]
    evaluate.main([f"--workdir={tmp_path / 'run'}", *sees, "--want=image"])
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    (alone,) = scores["curve"]  # of pictures, which nothing is drawn beside
    assert scores["protocol"]["sampler"]["want"] == "('image',)"
    assert "image_tokenizer_distance" in alone
    assert not any("word" in name for name in alone)
    for words, message in (
        (["--want=sound"], "want=.*sound.*: the streams are"),
        (["--want=image", "--crossings"], "--want is of samples; drop it"),
    ):
        with pytest.raises(BadInput, match=message):
            evaluate.main([f"--workdir={tmp_path / 'run'}", *words])
    with pytest.raises(BadInput, match="--guidance is of a generator with classes"):
        evaluate.main([f"--workdir={tmp_path / 'run'}", "--guidance=2.0"])
    few = [f"--workdir={tmp_path / 'run'}", "--of=image", "--draws=2", "--most=5"]
    with monkeypatch.context() as patch:  # refused without an example read
        patch.setattr(JointExamples, "take", None)
        with pytest.raises(BadInput, match="--anomaly: write classes of which some"):
            score.main([*few, "--anomaly=9"])
    with pytest.raises(BadInput, match="--anomaly: .*'jump'"):
        score.main([*few, "--anomaly=jump"])
    score.main([*few, "--classify=word", "--anomaly=1,2"])
    said = capsys.readouterr().err
    for what in ("the posterior of word", "the score, all", "the score, 1"):
        assert re.search(rf"ROC-AUC of {what}: [01]\.\d+, 95 % in [01]\.\d+ to", said)
    table = (tmp_path / "run" / "scores.csv").read_text().splitlines()
    assert table[0].startswith("example,label,nats,error,bits,likeliest,nats_0,nats_1")
    rows = np.array([line.split(",") for line in table[1:]], float)
    assert rows.shape == (5, 18) and (rows[:, 2] == rows[:, 6:16].min(1)).all()
    held = open_examples(joint.data, False).take(rows[:, 0].astype(int))["x"]
    held, codec = (held / 127.5 - 1).astype(np.float32), vqdit.load(work)
    back = np.asarray(codec.decode(codec.encode(held).codes))
    lost = np.square(back - held).mean((1, 2, 3))
    np.testing.assert_allclose(rows[:, 16], lost, rtol=1e-3)
    shared = "--anomaly=1,2"  # and so the same noise
    score.main([*few, "--given=word", shared, f"--out={tmp_path / 'given.csv'}"])
    given = (tmp_path / "given.csv").read_text().splitlines()[1:]
    for line, row in zip(given, rows, strict=True):  # that of its own label
        assert float(line.split(",")[2]) == pytest.approx(row[6 + int(row[1])], 1e-4)
    names = ["--crossings=image_to_word", "--baselines", f"--config.bars={BARS}"]
    monkeypatch.setattr(Images, "judged", 5)
    evaluate.main([f"--workdir={tmp_path / 'run'}", *sees, *names])
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    (crossing,) = scores["crossings"].values()
    assert {*crossing} == {
        "examples",
        *"model real mean likeliest pca cnn nearest".split(),
    }
    assert crossing["pca"]["accuracy"] > 0.6 and crossing["examples"] == 12
    said = capsys.readouterr().err
    assert "image_to_word accuracy >= 0: met" in said and "not measured" in said
    page.main([f"--workdir={tmp_path / 'run'}", *names[:1], *sees[:1], "--num=6"])
    html = (tmp_path / "run" / "report.html").read_text()
    for said in ("image → word", "cnn", "given image", "nearest in training"):
        assert said in html
    page.main([f"--workdir={work}"])
    assert "what comes back" in (work / "report.html").read_text()
    with pytest.raises(BadInput, match="--among is of crossings"):
        evaluate.main([f"--workdir={tmp_path / 'run'}", "--among=x"])
    with pytest.raises(BadInput, match="--interval is that of a scale"):
        evaluate.main([f"--workdir={tmp_path / 'run'}", "--interval=(0.2, 0.8)"])
    monkeypatch.setattr(evaluate, "references_of", None)  # refused before all that
    with pytest.raises(BadInput, match="solvers for .*wrod.*streams drawn are"):
        evaluate.main(
            [f"--workdir={tmp_path / 'run'}", "--solver={'wrod': Confidence()}"]
        )
    generator = vqdit.load(tmp_path / "run")
    assert generator.tokenizers["word"] == Labels(10)
    image = whole(DATA, train=False)["x"][:3] / np.float32(127.5) - 1
    key, ids = jax.random.key(0), jnp.arange(3)
    found = generator.sampler(want=("word",), steps=2)(key, ids, given={"image": image})
    assert found["word"].shape == (3,) and found["word"].dtype == np.int32
    # Latents: a decoder sees only the codes that they are nearest to.
    draw = generator.sampler(want=("image",), steps=2, decode=False)
    by_label = draw(key, ids, given={"word": [3, 1, 4]})["image"]
    codes = np.array([3, 1, 4])[:, None, None]
    np.testing.assert_array_equal(
        by_label, draw(key, ids, given={"word": codes})["image"]
    )
    by_array = draw(key, ids, given={"word": np.array([3, 1, 4])})["image"]
    np.testing.assert_array_equal(by_label, by_array)
    for wrong in (3, [3, 1]):
        with pytest.raises(ValueError, match="given 'word' is"):
            draw(key, ids, given={"word": wrong})
    few = replaced(joint, {"streams.word.tokenizer": Labels(5)})
    with pytest.raises(BadInput, match="has 10 classes; write Labels.10."):
        streams.prepare(few)
    # Hardly trained, its blocks are still nearly the identity.
    moved = jax.tree.map(lambda leaf: leaf + 0.1, generator.params)
    one, two = (
        draw(key, ids, given={"word": words}, params=moved)["image"]
        for words in ([3, 1, 4], [3, 1, 5])
    )
    np.testing.assert_array_equal(one[:2], two[:2])
    assert (one[2] != two[2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flow", "masked"])
def test_a_resumed_generator_equals_one_never_stopped(
    kind, trained, tmp_path, monkeypatch
):
    """And its picture of samples has a row for each class, and shows the weights of
    its own step, whether or not it is the first of its start."""
    shown, real = [], stage_two.show_samples
    monkeypatch.setattr(
        stage_two, "show_samples", lambda *how: shown.append(how) or real(*how)
    )
    work, _, cache = trained
    experiment = dit(kind, work, cache=str(cache))
    often = replaced(experiment, {"run.sample_every": 3})
    a = stage_two.train(often, tmp_path / "a")
    half = shorter(experiment, 3)
    stage_two.train(half, tmp_path / "b")
    b = stage_two.train(experiment, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    half_a, whole_a, half_b, whole_b = (how[3]["image"] for how in shown)
    np.testing.assert_array_equal(half_a, half_b)
    np.testing.assert_array_equal(whole_a, whole_b)
    assert (half_a != whole_a).any()
    columns, said = shown[-1][4:]
    rows = [said[i : i + columns] for i in range(0, len(said), columns)]
    assert rows == [[str(label)] * 8 for label in range(10)]


FIGURES = {
    "one": Reconstructions(4, most=40),
    "two": Samples(4, num=20, steps=2, copies=True),
}


def measured(stage, work, best):
    """(the program of a stage, a run that measures all it can)."""
    program, experiment = {
        "one": (stage_one, tokenizer(EMA)),
        "two": (stage_two, dit("flow", work)),
    }[stage]
    changes = {"heldout_every": 4, "steps": 6, "best": best, "evaluate": FIGURES[stage]}
    changes = {f"run.{name}": value for name, value in changes.items()}
    return program, replaced(experiment, changes)


def test_what_is_held_out_is_encoded_beside_a_cache_of_the_training_part(trained):
    """Beside a cache the same held-out streams as without one."""
    work, _, cache = trained
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    rows, found = np.arange(4), []
    for changes in ({}, {"cache": str(cache), "run.heldout_every": 4}):
        opened = streams.prepare(replaced(dit("flow", work), changes))
        found.append(opened.encoder(place)(next(opened.heldout(rows))))
    chex.assert_trees_all_equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("stage", FIGURES)
def test_both_stages_log_what_is_held_out(stage, trained, tmp_path):
    """Of stage two beside a cache, whose batches are encoded already. Of stage one the
    largest is taken for the best, which is not the last."""
    figure, most = {"one": ("-heldout_loss", max), "two": ("heldout_loss", min)}[stage]
    program, experiment = measured(stage, trained[0], figure)
    if stage == "two":
        experiment = dataclasses.replace(experiment, cache=str(trained[2]))
    folder = tmp_path / "run"
    program.train(experiment, folder)
    lines = [r for r in read_metrics(folder) if "heldout_loss" in r]
    assert [line["step"] for line in lines] == [0, 4, 6]
    found = {line["step"]: line["heldout_loss"] for line in lines}
    assert np.isfinite(list(found.values())).all()
    if stage == "one":
        del found[0]  # not whole before k-means
    best = json.loads((folder / "best.json").read_text())
    assert best["value"] == most(found.values()) == found[best["step"]]
    final, kept = vqdit.load(folder / "bundle"), vqdit.load(folder / "best")
    assert repr(kept) == repr(final), "a bundle of the same model"
    scores = _scores(folder)
    assert scores.keys() == {0, 4, 6}
    if stage == "one":
        # Kept with the statistics of a few examples, and of all since training is over.
        x = whole(DATA, train=True)["x"] / np.float32(127.5) - 1
        z = np.asarray(kept.latents(jnp.asarray(x))).reshape(-1, 2)
        np.testing.assert_allclose(z.std(0), 1, atol=1e-4)
        found = evaluate_tokenizer(final, DATA, 40, baseline=False)
        assert scores[6]["evaluation_psnr_db"] == pytest.approx(found["psnr_db"])
        assert scores[6]["evaluation_usage_0"] == found["usage_0"]
        assert best["step"] == 4
        found = evaluate_tokenizer(kept, DATA, 40, baseline=False)
        assert scores[4]["evaluation_psnr_db"] == pytest.approx(found["psnr_db"])
    else:
        names = ("tokenizer_distance", "tokenizer_coverage", "memorisation")
        assert all(np.isfinite(scores[6][f"evaluation_{name}"]) for name in names)
        assert "evaluation_accuracy" not in scores[6]


def test_what_cannot_be_measured_is_refused_first(trained, tmp_path):
    work, _, cache = trained
    for stage, changes, message in (
        ("one", {"heldout_every": 0}, "write run.heldout_every=STEPS too"),
        ("one", {"best": "loss"}, "write a figure of held-out"),
        (
            "two",
            {"best": "evaluation_x", "evaluate": None},
            "write run.evaluate='Samples.STEPS.' too",
        ),
        ("one", {"evaluate": FIGURES["two"]}, "other stage; write Reconstructions.4."),
        ("one", {"best": "evaluation_usag"}, "no figure of this run; did you mean"),
        ("two", {"best": "evaluation_usage"}, "no figure of this run; "),
        ("two", {"best": "heldout_los"}, "did you mean heldout_loss"),
        ("two", {"evaluate": Samples(4, judge=str(work.parent))}, "evaluate.judge: "),
    ):
        program, experiment = measured(stage, work, "heldout_loss")
        changes = {f"run.{name}": value for name, value in changes.items()}
        with pytest.raises(BadInput, match=message):
            program.train(replaced(experiment, changes), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", FIGURES)
def test_a_run_that_goes_on_measures_the_same(stage, trained, tmp_path):
    """Stopped at a step at which nothing is measured, but at the end."""
    best = {"one": "-evaluation_psnr_db", "two": "evaluation_memorisation"}[stage]
    program, experiment = measured(stage, trained[0], best)
    program.train(experiment, tmp_path / "a")
    program.train(shorter(experiment, 5), tmp_path / "b")
    program.train(experiment, tmp_path / "b")
    whole_run, rows = _scores(tmp_path / "a"), _scores(tmp_path / "b")
    assert rows.keys() == {0, 4, 5, 6}
    assert {step: rows[step] for step in whole_run} == whole_run
    note = json.loads((tmp_path / "b" / "best.json").read_text())
    assert note["value"] == rows[note["step"]][best.removeprefix("-")]


def _scores(folder):
    rows = [row for row in read_metrics(folder) if any("evaluation" in n for n in row)]
    return {row["step"]: row | {"time": None} for row in rows}


def test_a_generator_draws_from_its_bundle_alone(trained, tmp_path):
    _, masked, _ = trained
    moved = tmp_path / "moved"
    (masked / "bundle").rename(moved)
    try:
        out = tmp_path / "threes.npz"
        sample.main(
            [f"--workdir={moved}", "--label=3", "--num=5", "--steps=2", f"--out={out}"]
        )
        with np.load(out) as arrays:
            assert arrays["image"].shape == (5, 8, 8, 1)
            assert arrays["image"].dtype == np.uint8
            assert (arrays["label"] == 3).all()
    finally:
        moved.rename(masked / "bundle")


@pytest.mark.slow
def test_a_sample_is_its_seed_and_number_in_arrays_and_files(trained, tmp_path):
    _, masked, _ = trained

    def draw(*words, out="x.npz"):
        where = [f"--workdir={masked}", f"--out={tmp_path / out}"]
        sample.main([*where, "--num=5", "--steps=2", *words])
        if out == "x.npz":
            with np.load(tmp_path / out) as arrays:
                return arrays["label"], arrays["image"][..., 0].astype(int)

    label, image = draw()
    later, same = draw("--first=2")
    assert label.tolist() == [0, 1, 2, 3, 4] and later.tolist() == [2, 3, 4, 5, 6]
    np.testing.assert_allclose(same[:3], image[2:], atol=1)
    assert (np.abs(image - draw("--seed=1")[1]).max((1, 2)) > 3).any()
    draw(out="drawn")
    names = [*(f"{i}.png" for i in range(5)), "sheet.png"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == names
    for name, pixels in zip(names, image, strict=False):
        with Image.open(tmp_path / "drawn" / name) as file:
            np.testing.assert_allclose(np.asarray(file).astype(int), pixels, atol=1)


@pytest.mark.slow
def test_evaluate_scores_both_kinds(trained, capsys):
    work, masked, _ = trained
    evaluate.main([f"--workdir={work}", "--baseline=False", "--most=60"])
    found = json.loads((work / "evaluation.json").read_text())
    assert found["psnr_db"] > 5 and 0 < found["usage_0"] <= 1
    assert found["tokens"] == 16 and found["bits_per_example"] == 64
    assert found["examples"] == 60 and "kmeans_psnr_db" not in found
    evaluate.main(
        [
            f"--workdir={masked}",
            "--num=50",
            "--steps=2",
            "--guidance=(1.0,2.0)",
            "--judge_steps=20",
        ]
    )
    found = json.loads((masked / "evaluation.json").read_text())
    assert [row["guidance"] for row in found["curve"]] == [1.0, 2.0]
    assert found["real"]["floor_count"] == 50
    assert found["real"]["judge"]["steps"] == 20
    # What is printed is what is written.
    assert capsys.readouterr().out.endswith(json.dumps(found, indent=1) + "\n")


@pytest.mark.slow
def test_runs_are_scored_by_the_judge_that_is_named(trained, tmp_path, capsys):
    work, masked, _ = trained
    classifier.main([f"--workdir={work}", f"--out={tmp_path / 'judge'}", "--steps=7"])
    ask = [f"--workdir={masked}", "--num=20", "--steps=1", "--guidance=(1.0,)"]
    evaluate.main([*ask, f"--judge={tmp_path / 'judge'}"])
    found = json.loads((masked / "evaluation.json").read_text())
    assert found["real"]["judge"] == vqdit.load(tmp_path / "judge").protocol
    assert found["real"]["judge"]["steps"] == 7
    for words, message in (
        ([*ask, f"--judge={masked}"], "is a generator; write the folder of a classif"),
        ([*ask, "--judge=x", "--judge-steps=3"], "drop it, or --judge"),
        ([f"--workdir={work}", "--judge=x"], "--judge says nothing of a tokenizer"),
        ([*ask, "--baseline=False"], "--baseline says nothing of a generator"),
        ([f"--workdir={masked}", "--num=1"], "--num: write a whole number, at least 2"),
        ([f"--workdir={tmp_path / 'judge'}", f"--config={DEMO}"], "is a classifier"),
    ):
        assert message in refused(evaluate.main, words, capsys)


def test_bundles_have_the_averaged_weights(trained, tmp_path, monkeypatch):
    work, masked, _ = trained
    for program, folder, experiment in (
        (stage_one, work, tokenizer(EMA)),
        (stage_two, masked, dit("masked", work)),
    ):
        shutil.copytree(folder, tmp_path / folder.name)
        variables = getattr(vqdit.load(folder), "variables", None)
        variables = variables or {"params": vqdit.load(folder).params}
        raw, stats = variables["params"], {**variables}
        del stats["params"]
        average = jax.tree.map(lambda x: x + 0.25, raw)
        state = types.SimpleNamespace(params=raw, ema=average, stats=stats)
        monkeypatch.setattr(program, "launch", lambda *_, s=state, **__: s)
        program.train(experiment, tmp_path / folder.name)
        found = vqdit.load(tmp_path / folder.name)
        found = getattr(found, "params", None) or found.variables["params"]
        jax.tree.map(np.testing.assert_array_equal, found, average)


@pytest.mark.slow
def test_a_tokenizer_that_learns_from_a_judge_resumes(tmp_path, one_device):
    save(tmp_path / "judge", train_judge(DATA, 5))
    plain = tokenizer(EMA, losses=Weights(features=str(tmp_path / "judge")))
    model = plain.model.clone(quantizer=None, dim=2)
    experiment = dataclasses.replace(plain, model=model, kmeans=None)
    whole_run = stage_one.train(experiment, tmp_path / "a")
    stage_one.train(shorter(experiment, 5), tmp_path / "b")
    resumed = stage_one.train(experiment, tmp_path / "b")
    assert resumed.contract == whole_run.contract  # a hash of every weight is in it
    assert set(resumed.variables) == {"params"}  # the judge's are not kept
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line).get("features", 1) > 0 for line in lines)
    assert any("features" in line for line in lines)


def refused(main, argv, capsys):
    """The one line a program says before it ends with status 2."""
    with pytest.raises(SystemExit) as stopped:
        run(main, [str(word) for word in argv])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and said.endswith(lines[0] + "\n")
    return lines[0]


def test_a_label_outside_the_classes_is_refused(trained, capsys):
    _, masked, _ = trained
    line = refused(sample.main, [f"--workdir={masked}", "--label=10"], capsys)
    assert "--label=10" in line and "0 to 9" in line
    line = refused(sample.main, [f"--workdir={masked}", "--label=-1"], capsys)
    assert "--label=-1" in line and "or one of 0, 1" in line


def test_a_class_goes_by_its_name_before_its_number():
    names = ("hat", "10", "cat")
    chosen = [sample.label_number(text, 3, names) for text in ("hat", "10", "2", "cat")]
    assert chosen == [0, 1, 2, 2]
    assert sample.label_number("11", 12, ()) == 11
    for text, classes, said in (
        ("hut", 3, "0 to 2, or one of hat, 10, cat"),
        ("3", 3, "0 to 2"),
        ("0", 0, "--label=0: the model has no classes; leave it out"),
    ):
        with pytest.raises(BadInput, match=said):
            sample.label_number(text, classes, names if classes else ())


def test_a_tokenizer_is_no_generator(trained, capsys):
    work, _, _ = trained
    assert "generator" in refused(sample.main, [f"--workdir={work}"], capsys)


def test_a_tokenizer_that_does_not_fit_the_dit_is_refused(trained):
    work, _, _ = trained
    experiment = dit("masked", work)
    with pytest.raises(BadInput, match="streams.image: .* vocab is 16, and 32 is writ"):
        streams.prepare(replaced(experiment, {"streams.image.codes": 32}))


def fingerprinted_anew(workdir):
    """Its bundle, with weights that are all but the same."""
    codec = vqdit.load(workdir)
    nudged = jax.tree.map(lambda x: x * 1.001, codec.variables["params"])
    variables = {**codec.variables, "params": nudged}
    vqdit.save(workdir / "bundle", Codec(codec.module, variables, codec.contract))


def test_a_cache_of_another_tokenizer_is_refused(trained, tmp_path):
    work, _, cache = trained
    shutil.copytree(work, tmp_path / "other")
    fingerprinted_anew(tmp_path / "other")
    experiment = dit("flow", tmp_path / "other", cache=str(cache))
    with pytest.raises(BadInput, match="made under another tokenizer: its fingerprint"):
        streams.prepare(experiment)


@pytest.mark.slow
def test_a_generator_is_not_resumed_on_another_tokenizer(trained, tmp_path):
    """Other weights: its latents would mean something else. The same ones may lie
    elsewhere, and the cache, of the very same records."""
    work, _, cache = trained
    for name, path in (("tok", work), ("cache", cache)):
        shutil.copytree(path, tmp_path / name)
    experiment = dit("masked", work, cache=str(cache))
    stage_two.train(shorter(experiment, 3), tmp_path / "d")
    moved = dit("masked", tmp_path / "tok", cache=str(tmp_path / "cache"))
    stage_two.train(shorter(moved, 4), tmp_path / "d")
    assert read_config(tmp_path / "d" / "config.json") == shorter(moved, 4)
    other = shutil.copytree(cache, tmp_path / "other") / "cache.json"
    said = sealed.opened(json.loads(other.read_text()))
    other.write_text(json.dumps(sealed.sealed({**said, "more": "of it"})))
    moved = dataclasses.replace(moved, cache=str(other.parent))
    with pytest.raises(BadInput, match="another experiment.*cache.*leave a link"):
        stage_two.train(moved, tmp_path / "d")
    fingerprinted_anew(tmp_path / "tok")
    stage_two.train(shorter(dit("masked", work), 3), tmp_path / "e")
    with pytest.raises(BadInput, match="another tokenizers.image"):
        stage_two.train(dit("masked", tmp_path / "tok"), tmp_path / "e")


def test_a_cache_of_held_out_data_is_not_trained_on(trained, tmp_path):
    work, _, _ = trained
    encode.encode_set(vqdit.load(work), DATA, tmp_path / "test", train=False)
    experiment = dit("flow", work, cache=str(tmp_path / "test"))
    with pytest.raises(BadInput, match="--split=train"):
        streams.prepare(experiment)


def test_a_generator_knows_which_labels_it_was_not_trained_on(trained):
    work, _, cache = trained
    for more in ({}, {"cache": str(cache)}):
        opened = streams.prepare(dit("masked", work, label_dropout=0.0, **more))
        assert opened.generator({}).untrained == (10,)
        opened = dataclasses.replace(opened, experiment=dit("masked", work))
        assert opened.generator({}).untrained == ()


def test_a_cache_does_not_ignore_augmentation(trained):
    work, _, cache = trained
    experiment = dit("flow", work, cache=str(cache))
    turned = ImageAugment(rotate=5, flip=True)
    for change, said in (
        ({"data.flip": True}, r"not hold what data\.flip mirrors: encode again"),
        ({"data.flip": True, "data.crop": "random"}, r"write data\.crop=center,"),
        ({"data.augment": turned}, r"at most: write data\.augment\.rotate=0\.0,"),
        ({"data.augment": ImageAugment(flip=True)}, r"data\.augment\.flip=False"),
    ):
        with pytest.raises(BadInput, match=said):
            streams.prepare(replaced(experiment, change))


def test_a_cache_mirrors_what_is_mirrored_on_the_fly(trained, tmp_path):
    """The same examples in every epoch; without flip those that are not mirrored."""
    work, _, plain = trained
    flipped = dataclasses.replace(DATA, flip=True)
    count = encode.encode_set(vqdit.load(work), flipped, tmp_path / "cache")
    kept = LatentCache(tmp_path / "cache")
    assert len(kept) == count == len(LatentCache(plain))
    direct = replaced(dit("masked", work), {"data.flip": True})
    cached = dataclasses.replace(direct, cache=str(tmp_path / "cache"))
    direct = streams.prepare(direct)
    encoder = direct.encoder(jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    opened = streams.prepare(cached)
    for k in (0, count // 16 + 1):  # in two epochs
        a = encoder(next(direct.batches(k)))["streams"]["image"]
        b = next(opened.batches(k))
        np.testing.assert_array_equal(a, b["streams"]["image"])
    unflipped = streams.prepare(replaced(cached, {"data.flip": False}))
    a = next(unflipped.batches(0))["streams"]["image"]
    mirrored = (a != next(opened.batches(0))["streams"]["image"]).any((1, 2, 3))
    assert 0 < mirrored.sum() < len(mirrored)
    rows = np.arange(0, count, 100)
    for name, value in LatentCache(plain).take(rows).items():
        np.testing.assert_array_equal(kept.take(rows)[name], value)


def test_rates_of_no_parameter_are_refused_before_the_folder_is_taken(
    trained, tmp_path
):
    """A factor of none, or one that another has taken all of; and 0 for all of them,
    which trained and learned nothing."""
    none = (("decodr", 0.0),), "^optimizer.rates: 'decodr' is in the path of no param"
    twice = (("bias", 0.5), ("bias", 0.1)), "'bias' is in the path of no parameter that"
    frozen = ((".", 0.0),), "optimizer.rates: 0 is the factor of every parameter"
    critic, still = (
        PatchDiscriminator(channels=8, layers=1),
        STILL.clone(start="normal"),
    )
    judged = Adversarial(discriminator=critic, optimizer=AdamW(rates=none[0]))
    cases = [
        (stage_one, tokenizer(EMA), none),
        (stage_one, tokenizer(EMA), twice),
        (stage_one, tokenizer(still), frozen),
        (
            stage_one,
            tokenizer(EMA, adversarial=judged),
            ((), "^adversarial.optimizer.ra"),
        ),
        (stage_two, dit("flow", trained[0]), none),
        (stage_two, dit("flow", trained[0]), frozen),
    ]
    for stage, experiment, (rates, said) in cases:
        changed = replaced(experiment, {"optimizer.rates": rates})
        with pytest.raises(BadInput, match=said):
            stage.train(changed, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_classes_are_those_of_the_data(trained):
    work, _, _ = trained
    for classes in (7, 11):
        experiment = replaced(dit("masked", work), {"model.classes": classes})
        said = rf"model\.classes={classes} .* write model\.classes=10"
        with pytest.raises(BadInput, match=said):
            streams.prepare(experiment)


def test_an_encoded_set_is_whole_and_in_order(trained):
    work, _, cache = trained
    stored = LatentCache(cache)
    labels = whole(DATA, train=True)["label"]
    assert len(stored) == len(labels)
    some = np.array([0, 1, 700, len(labels) - 1])
    np.testing.assert_array_equal(stored.take(some)["label"], labels[some])


def test_encode_refuses_data_of_another_shape(trained, tmp_path):
    work, _, _ = trained
    larger = dataclasses.replace(DATA, size=16)
    with pytest.raises(BadInput, match=r"write data of its kind and shape"):
        encode.encode_set(vqdit.load(work), larger, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    with pytest.raises(BadInput, match="is there; remove it"):
        encode.main([f"--workdir={work}", f"--bundle={work}", f"--out={tmp_path}"])
