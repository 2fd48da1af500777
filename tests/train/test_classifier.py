import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import vqdit
from tests import toys
from tests.train.processes import noting
from train import classifier, config
from train.errors import BadInput
from train.evaluation import judge as judging
from train.evaluation.judge import train_classifier
from train.modalities import Audio, Images, Ranges
from train.modalities.audio import ear
from train.objectives.bundles import open_judge, source
from train.pipeline import whole
from train.pipeline.statistics import probe
from vqdit.features.classifier import Classifier
from vqdit.trained import judge as judge_module
from vqdit.trained.judge import Judge

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    images = np.round(found.images * 255 / 16).astype(np.uint8)[..., None]
    return train_test_split(
        images, found.target, test_size=360, stratify=found.target, random_state=0
    )


def trained(images, labels, classes=10, **how):
    take = lambda rows: {"x": images[rows], "label": labels[rows]}
    return train_classifier(take, len(images), classes, **how)


@pytest.fixture(scope="module")
def judge(digits):
    images, _, labels, _ = digits
    return trained(images, labels, steps=400)


def test_it_reads_digits_that_it_has_not_seen(judge, digits):
    """Four tenths of the usual steps. 0.97 of 360 has a standard error of 0.009."""
    _, images, _, labels = digits
    assert judge.accuracy(images, labels) >= 0.97
    assert judge.accuracy(images, (labels + 1) % 10) < 0.03
    assert judge.predict(images).dtype == np.int32


def test_what_is_no_picture_becomes_one_and_keeps_its_places():
    """Frames and slices are channels, and a series is one wide; nothing is mixed."""
    clip = np.arange(2 * 3 * 4 * 5 * 2, dtype=np.uint8).reshape(2, 3, 4, 5, 2)
    seen = judge_module.as_pictures(None, clip)
    assert seen.shape == (2, 4, 5, 6)
    for frame, channel in np.ndindex(3, 2):
        np.testing.assert_array_equal(
            seen[..., 2 * frame + channel], clip[:, frame, ..., channel]
        )
    series = np.linspace(-1, 1, 2 * 7 * 3).reshape(2, 7, 3)
    seen = judge_module.as_pictures(None, series)
    assert seen.shape == (2, 7, 1, 3) and seen[0, 0, 0, 0] == 0 and seen.max() == 255
    assert judge_module.picture_shape((7, 3)) == (7, 1, 3)
    assert judge_module.picture_shape((3, 4, 5, 2)) == (4, 5, 6)


@pytest.mark.slow
def test_a_series_is_told_by_its_shape():
    """Rises and falls, which a series moved across its one side would lose."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 200)
    slope = np.linspace(-1, 1, 16) * np.where(labels, 1, -1)[:, None]
    x = np.clip(slope[..., None] + draw.normal(0, 0.3, (200, 16, 1)), -1, 1)
    seen = judge_module.as_pictures(None, x.astype(np.float32))
    judge = trained(seen[:150], labels[:150], classes=2, steps=40)
    assert judge.accuracy(x[150:].astype(np.float32), labels[150:]) > 0.95


def test_the_same_seed_gives_the_same_judge(judge, digits):
    images, heldout, labels, _ = digits
    again = trained(images, labels, steps=400, threads=2)
    assert again.protocol == judge.protocol
    np.testing.assert_array_equal(again.features(heldout), judge.features(heldout))


def test_another_seed_starts_and_shuffles_differently():
    network = Classifier(10, (32,))
    kernels = [
        judging._initial(network, (1, 4, 4, 1), seed)["logits"]["kernel"]
        for seed in (0, 1)
    ]
    assert not np.array_equal(*kernels)
    assert not np.array_equal(*(judging._order(300, s, 1) for s in (0, 1)))


def test_every_feature_varies_and_their_covariance_has_full_rank(judge, digits):
    features = judge.features(digits[1])
    assert features.shape == (360, 64)
    spectrum = np.linalg.eigvalsh(np.cov(features.T.astype(np.float64)))
    assert spectrum[0] > 1e-6 * spectrum[-1]


def test_scores_do_not_depend_on_what_is_scored_together(judge, digits, monkeypatch):
    images = digits[1][:11]
    whole = judge.features(images)
    monkeypatch.setattr(judge_module, "SCORED", 4)
    np.testing.assert_allclose(judge.features(images), whole, atol=1e-4)
    assert judge.features(images[:0]).shape == (0, 64)


def test_crops_shift_by_at_most_the_padding():
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1) + 1
    corners = np.array([[1, 0, 2], [1, 1, 0]])
    shifted = judging._shifted(images[[1, 0, 1]], corners, 1)
    still, down, up_right = shifted[..., 0]
    np.testing.assert_array_equal(still, images[1, ..., 0])
    np.testing.assert_array_equal(down[1:], images[0, :3, :, 0])
    np.testing.assert_array_equal(up_right[:3, 1:], images[1, 1:, :3, 0])
    assert not down[0].any() and not up_right[3].any() and not up_right[:, 0].any()


def test_an_epoch_shows_every_example_at_most_once():
    first, second, third = judging._order(300, seed=0, steps=3).reshape(3, 128)
    assert len({*first, *second}) == 256
    assert not np.array_equal(first, third)
    assert len(set(judging._order(5, seed=0, steps=1))) == 5


def test_images_of_any_size_are_halved_to_two_to_four_pixels():
    for side, left in ((4, 2), (8, 2), (28, 4), (32, 2), (50, 4), (63, 4)):
        widths = judging.widths(side)
        for _ in widths:
            side = -(-side // 2)
        assert side == left


def test_kernels_start_at_the_scale_of_their_inputs():
    network = Classifier(10, (32, 64))
    params = judging._initial(network, (1, 8, 8, 1), seed=0)
    kernel = np.asarray(params["features"]["kernel"])  # (256, 64): 0.6% standard error
    assert kernel.shape == (256, 64)
    assert kernel.std() == pytest.approx(256**-0.5, rel=0.03)
    assert not params["features"]["bias"].any()


def test_what_cannot_be_judged_is_refused(judge, digits):
    images, _, labels, _ = digits
    with pytest.raises(ValueError, match="uint8 images"):
        judge.predict(images / 127.5 - 1)
    with pytest.raises(ValueError, match="8, 8, 1"):
        judge.features(images[:, :4])
    with pytest.raises(ValueError, match="one label for every image"):
        judge.accuracy(images, labels[:3])
    with pytest.raises(BadInput, match="labels run from -1"):
        trained(images, labels * 0 - 1)
    with pytest.raises(BadInput, match="from 0 to 8"):
        trained(images, labels, 9)
    with pytest.raises(BadInput, match="0 steps"):
        trained(images, labels, steps=0)


DEMO = Path(__file__).parents[2] / "configs" / "demo_tokenizer.py"


@pytest.mark.parametrize(
    "front,x,message",
    [
        (None, np.full((2, 8, 3), np.nan, "f4"), "not all finite"),
        (None, np.full((2, 3, 8, 8, 1), np.inf, "f4"), "not all finite"),
        (None, np.full((2, 3, 8, 8, 1), 200.0, "f4"), r"in \[-1, 1\].*200 to 200"),
        (None, np.ones((2, 3, 8, 8, 1), np.int32), "uint8 or floats.*int32"),
        (None, np.ones((2, 8), "f4"), r"\(2, 8\)"),
        (ear(2000), np.full((2, 1000, 1), np.nan, "f4"), "not all finite"),
        (ear(2000), np.full((2, 1000, 1), 9000.0, "f4"), r"\[-1, 1\].*9000 to 9000"),
        (ear(2000), np.ones((2, 1000), "f4"), r"clips \(n, l, 1\).*\(2, 1000\)"),
        (ear(2000), np.ones((2, 1000, 1), np.int16), "floats.*int16"),
    ],
)
def test_signals_that_are_none_are_refused(front, x, message):
    """They are judged as 8 bits, which have no NaN and no values beyond [-1, 1]."""
    network, shape = Classifier(2, (4,)), (8, 8, 3)
    params = toys.drawn(network, np.zeros((1, *shape), "f4"))["params"]
    judge = Judge(network, params, shape, {}, front)
    for made in (judge.predict, judge.features, judge.logits):
        with pytest.raises(ValueError, match=message) as refusal:
            made(x)
        assert "\n" not in str(refusal.value)
    if front is not None:
        with pytest.raises(ValueError, match=message):
            judge.extractor("features")(x)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of a judge that the program has made."""
    out = tmp_path_factory.mktemp("kept") / "judge"
    classifier.main([f"--config={DEMO}", f"--out={out}", "--steps=60"])
    return out


def test_a_kept_judge_is_the_one_that_was_trained(kept, capsys):
    data = config.load_config(DEMO).data
    # Of another seed than the one that is trained where none is named.
    again, loaded = judging.train_judge(data, 60, seed=1), vqdit.load(kept)
    assert isinstance(loaded, Judge) and loaded.shape == (8, 8, 1)
    assert (loaded.network, loaded.protocol) == (again.network, again.protocol)
    assert loaded.held_out == probe(data, train=False) and loaded.held_out["some"]
    images = whole(data, train=False)["x"]
    np.testing.assert_array_equal(loaded.features(images), again.features(images))
    classifier.main(
        [f"--config={DEMO}", f"--out={kept}", "--steps=2", "--seed=2", "--force"]
    )
    other = vqdit.load(kept)
    assert (other.protocol["steps"], other.protocol["seed"]) == (2, 2)
    vqdit.save(kept, loaded)
    score = other.accuracy(images, whole(data, train=False)["label"])
    told = f"{score:.4f} of {len(images)} held-out pictures that have a label"
    assert told in capsys.readouterr().err


def test_every_option_of_the_program_arrives(tmp_path, monkeypatch, capsys):
    calls = []
    judge = SimpleNamespace(front=ear(2000), predict=lambda x: x)
    held = {"x": np.array([1, 2]), "label": np.array([2, 2]), "valid": np.ones(2, bool)}
    last = {name: x[:1] for name, x in held.items()} | {"label": np.array([1])}
    # The last batch is filled up, and no more than one is held.
    batches = [held, {name: np.repeat(x, 2) for name, x in last.items()}]
    batches[1]["valid"] = np.array([True, False])

    def put(name, answer):
        noted = lambda *of, **how: calls.append((name, *of, how)) or answer
        monkeypatch.setattr(classifier, name, noted)

    monkeypatch.setattr(
        classifier.hosts, "start", lambda asked: calls.append(("start", asked))
    )
    put("train_judge", judge)
    put("keep", judge)
    put("examples", batches)
    data, out = config.load_config(DEMO).data, tmp_path / "judge"
    words = [f"--config={DEMO}", f"--out={out}"]
    classifier.main(words)
    among = ["--coordinator=here:1", "--processes=2", "--process=1"]
    out.mkdir()  # nothing is in it
    monkeypatch.setattr(classifier, "open_bundle", lambda *of: calls.append(of))
    with pytest.raises(BadInput, match=f"--out={out} is there; write --force to rep"):
        classifier.main(words)
    assert calls.pop() == ("start", {})
    classifier.main([*words, "--force", "--steps=3", "--seed=7", *among])
    how = {"divided": False, "doing": "trying the judge"}  # each tells of all
    rest = [("keep", out, judge, {}), ("examples", data, False, how)]
    assert calls == [
        ("start", {}),
        ("train_judge", data, {"seed": 1}),
        *rest,
        ("start", {"coordinator": "here:1", "processes": 2, "process": 1}),
        (out, Judge, "--out"),
        ("train_judge", data, {"seed": 7, "steps": 3}),
        *rest,
    ]
    end = "held-out clips that have a label\n"
    said = f"the judge is in {out}, right about 0.6667 of 3 {end}"
    assert capsys.readouterr().err == 2 * said
    # Sets such as ImageNet's test part have labels of some, or of none.
    none = "no held-out clips have a label to try it by\n"
    for label, told in (
        ([-1, 2], f"right about 0.5000 of 2 {end}"),
        ([-1, -1], none),
    ):
        held["label"] = np.array(label)
        batches[1]["label"] = np.full(2, min(label[1], 0))
        classifier.main([*words, "--force"])
        assert capsys.readouterr().err == f"the judge is in {out}, {told}"


@pytest.mark.parametrize("name", ["train_judge", "examples"])
def test_a_process_that_fails_does_not_leave_alone(tmp_path, monkeypatch, name):
    """The others would wait for it where the judge is kept, or at the end."""
    left, judge = [], SimpleNamespace(front=None)
    monkeypatch.setattr(classifier.hosts, "together", noting(left))

    def missing(*_, **__):
        raise BadInput("a file is gone")

    monkeypatch.setattr(classifier, "train_judge", lambda *_, **__: judge)
    monkeypatch.setattr(classifier, "keep", lambda *_: None)
    monkeypatch.setattr(classifier, name, missing)
    with pytest.raises(BadInput):
        classifier.main([f"--config={DEMO}", f"--out={tmp_path / 'judge'}"])
    assert left == ["a file is gone"]


def test_an_altered_judge_is_refused(kept, tmp_path):
    shutil.copytree(kept, tmp_path / "judge")
    weights = tmp_path / "judge" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="SHA-256 differs"):
        vqdit.load(tmp_path / "judge")


@pytest.mark.slow
def test_a_judge_of_clips_hears_the_same_when_it_is_loaded(tmp_path):
    data = Audio(rate=2000, length=1000, threads=0)
    judge = judging.train_judge(data, 20)
    vqdit.save(tmp_path / "judge", judge)
    loaded, batch = vqdit.load(tmp_path / "judge"), whole(data, train=False)
    assert loaded.front == judge.front == ear(2000)
    clips, labels = batch["x"], batch["label"]
    np.testing.assert_array_equal(loaded.features(clips), judge.features(clips))
    assert loaded.accuracy(clips, labels) == judge.accuracy(clips, labels)
    assert open_judge(tmp_path / "judge", data, 4).shape == judge.shape
    for other, message in (
        (dataclasses.replace(data, rate=1000), "clips of rate 2000, the data's is"),
        (dataclasses.replace(data, length=2000), r"pictures \(32,.*\), the data's are"),
        (Images(), "judges clips, the data is image"),
        # It has heard some of what is held out here.
        (dataclasses.replace(data, holdout=0.3), "'holdout': '0.3'"),
    ):
        with pytest.raises(BadInput, match=message):
            open_judge(tmp_path / "judge", other, 4)


def test_a_kept_judge_of_others_is_refused(kept):
    assert open_judge(kept, Images(size=8), 10).shape == (8, 8, 1)
    for data, classes, message in (
        (Images(size=16), 10, r"pictures \(8, 8, 1\), the data's are \(16, 16, 1\)"),
        (Images(size=8), 9, "10 classes, the data has 9"),
        (Audio(rate=2000, length=1000), 10, "judges images, the data is audio"),
    ):
        with pytest.raises(BadInput, match=f"--judge: .*{message}; train one"):
            open_judge(kept, data, classes)


def test_a_judge_of_another_folder_is_refused(tmp_path, capsys):
    """It may have learned from what is held out there, though names are the same."""
    for seed, folder in enumerate("abc"):
        draw = np.random.default_rng(seed % 2)
        for i in range(40 - seed // 2):
            (tmp_path / folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8))
            picture.save(tmp_path / folder / str(i % 2) / f"{i}.png")
    a, b, c = (
        Images("folder", str(tmp_path / name), size=8, channels=1, threads=0)
        for name in "abc"
    )
    classifier = Classifier(2, (8,))
    params, protocol = (
        judging._initial(classifier, (1, 8, 8, 1), 0),
        {"data": source(a)},
    )
    judge = Judge(classifier, params, (8, 8, 1), protocol, None, probe(a, False))
    vqdit.save(tmp_path / "judge", judge)
    opened = open_judge(tmp_path / "judge", a, 2)
    assert opened.held_out == judge.held_out
    assert "does not say" not in capsys.readouterr().err
    # Where it lies, and how much is trained on, decides nothing.
    moved = shutil.copytree(tmp_path / "a", tmp_path / "moved")
    for data in (
        dataclasses.replace(a, data_dir=str(moved)),
        dataclasses.replace(a, share=0.5),
    ):
        open_judge(tmp_path / "judge", data, 2)
    for data, message in (
        (b, "held-out part of other records than the data has there"),
        (c, r"held-out part of \d+ records and the data has \d+ there"),
    ):
        with pytest.raises(BadInput, match=f"--judge: .*{message}; train one with"):
            open_judge(tmp_path / "judge", data, 2)
    vqdit.save(tmp_path / "bare", dataclasses.replace(judge, protocol={}))
    with pytest.raises(BadInput, match="judges by data that it does not name, the dat"):
        open_judge(tmp_path / "bare", a, 2)
    vqdit.save(tmp_path / "old", dataclasses.replace(judge, held_out=None))
    open_judge(tmp_path / "old", b, 2)
    assert "old does not say which records were held out" in capsys.readouterr().err
    with pytest.raises(BadInput, match="2 classes, the data has 3"):
        open_judge(tmp_path / "old", b, 3)
    assert "does not say" not in capsys.readouterr().err  # refused, and no more said
    vqdit.save(tmp_path / "odd", dataclasses.replace(judge, held_out={}))
    with pytest.raises(BadInput, match="odd: held_out: damaged.*; train it anew"):
        open_judge(tmp_path / "odd", a, 2)


def test_a_judge_that_cannot_be_trained_or_kept_is_refused(kept, tmp_path):
    def refused(*words, message):
        with pytest.raises(BadInput, match=message):
            classifier.main([f"--config={DEMO}", *words])

    refused(message="write --out=..., the folder")
    refused(f"--out={kept}", message="--force to replace it")
    refused(f"--out={tmp_path}", "--force", message="--out: .* no bundle here")
    vqdit.save(tmp_path / "tok", toys.codec())
    refused(f"--out={tmp_path / 'tok'}", "--force", message="tok is a tokenizer")
    (kept / "notes.txt").write_text("mine")
    refused(f"--out={kept}", "--force", message="holds more than a judge")
    (kept / "notes.txt").unlink()
    refused(
        f"--out={tmp_path / 'new'}",
        "--steps=0",
        message="--steps: write a whole number, at least 1",
    )
    with pytest.raises(BadInput, match="data is range; no judge is of such"):
        judging.train_judge(Ranges())
    files = tmp_path / "files"
    files.mkdir()
    for i in range(8):
        Image.new("L", (8, 8), 20 * i).save(files / f"{i}.png")
    unlabelled = Images(name="folder", data_dir=str(files))
    assert judging.judge_of(unlabelled, 0) is None
    for judge in (judging.train_judge, lambda data: judging.judge_of(data, 0, steps=9)):
        with pytest.raises(BadInput, match="data has 0 classes; a judge learns from"):
            judge(unlabelled)
    assert not (tmp_path / "new").exists()
