"""train.score: bits a byte and ranks, of generators whose scores are known."""

import csv
import json
import math
import re
import types

import jax
import numpy as np
import pytest

import vqdit
from tests.toys import generator
from tests.train.experiments import of_values
from train import score
from train.config.workdir import save_config
from train.errors import BadInput
from train.evaluation.crossings.bounds import Bounds
from train.evaluation.crossings.retrieval import nearest_costs
from train.modalities import Images
from train.pipeline import JointExamples
from vqdit.diffusion import Masking
from vqdit.nn.streams import Discrete
from vqdit.tokenizer import Bytes, Labels
from vqdit.trained.scorer import Score

NAMES = ("nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DATA = Images(name="digits", size=8, channels=1, words=NAMES)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a model to which all codes are alike, whatever it sees."""
    return kept(tmp_path_factory.mktemp("even"), 0.0)


def kept(folder, scale):
    """A workdir of a generator, whose parameters are drawn and scaled."""
    values = {"name": Bytes(5), "digit": Labels(10)}
    streams = [Discrete("name", (5,), 257), Discrete("digit", (1,), 11)]
    made = generator(streams, dict.fromkeys(values, Masking()), values)
    made.params = jax.tree.map(lambda leaf: scale * leaf, made.params)
    vqdit.save(folder / "bundle", made)
    save_config(of_values("even", DATA, values), folder / "config.json")
    return folder


def rows(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def alike(monkeypatch):
    """Bounds by which all is alike, and the first class the likeliest; not computed."""

    def of(bounds, batches, classify, values, *more):
        ((rows, _, batch),) = batches
        same = np.ones(len(rows))
        columns = dict.fromkeys(("nats", "error", "bits"), same)
        if classify is not None:
            columns |= {"likeliest": 0 * rows} | {f"nats_{v}": same for v in values}
        return {"example": rows, "label": batch["label"]} | columns

    monkeypatch.setattr(score, "bounds_of", of)


def test_anomalies_are_scored_under_the_noise_of_all_others(tmp_path, capsys):
    """Digits of a class have one name, so luck alone could tell their scores apart."""
    folder = kept(tmp_path, 1.0)
    ask = [f"--workdir={folder}", "--of=name", "--most=40", "--draws=4"]
    said = []
    for more in ([], ["--anomaly=3"]):
        score.main([*ask, *more])
        of_class = {}
        for row in rows(folder):
            of_class.setdefault(row["label"], []).append(float(row["nats"]))
        spread = np.mean([np.std(each) for each in of_class.values()])
        said.append((spread, capsys.readouterr().err))
    assert said[0][0] > 0.1 and said[1][0] < 1e-4
    # All share one draw, whose error is no smaller for many of them.
    plain, shared = (
        float(re.search(r"\+- ([\d.e-]+);", text).group(1)) for _, text in said
    )
    assert shared > 2 * plain


def test_a_text_of_even_codes_costs_all_of_them_over_its_bytes(workdir, capsys):
    score.main([f"--workdir={workdir}", "--of=name", "--most=6", "--draws=2"])
    table = rows(workdir)
    for row in table:
        assert float(row["nats"]) == pytest.approx(5 * math.log(257), rel=1e-5)
        assert int(row["bytes"]) == len(NAMES[int(row["label"])])
    size = sum(int(row["bytes"]) for row in table)
    said = capsys.readouterr().err
    assert f"{6 * 5 * math.log2(257) / size:.4g} bits a byte of text" in said
    assert "5-gram" not in said
    (asked,) = json.loads((workdir / "scores.json").read_text())["scores"].values()
    figures = asked["name draws=2 most=6"]
    assert figures["bits_per_byte"]["model"] == pytest.approx(
        6 * 5 * 8.0056 / size, 1e-3
    )
    some = [f"--workdir={workdir}", "--of=name", "--most=40", "--draws=2"]
    score.main([*some, "--baselines=True"])
    said = capsys.readouterr().err.splitlines()
    (found,) = [line for line in said if line.endswith("5-gram")]
    # Ten names alike: log2(10) bits each, of 3.9 bytes.
    size = sum(int(row["bytes"]) for row in rows(workdir)) / 40
    bits = float(found.split()[0])
    assert bits == pytest.approx(math.log2(10) / size, rel=0.05)


def test_what_says_nothing_ranks_all_alike(workdir, capsys):
    ranked = [f"--workdir={workdir}", "--of=name", "--given=digit", "--rank=10"]
    score.main([*ranked, "--draws=2", "--most=3", "--baselines=True"])
    table = rows(workdir)
    assert [float(row["rank"]) for row in table] == [5.5] * 3
    candidates = [name for name in table[0] if name.startswith("nats_")]
    assert len(candidates) == 10 and f"nats_{table[2]['example']}" in candidates
    said = capsys.readouterr().err.splitlines()[-5:-1]
    assert "the true digit of name among 10: median_rank 5.5" in said[0]
    assert "the true name of digit among 3: median_rank 2" in said[1]
    # Names tell digits apart, up to examples of one digit.
    assert "digit of name among 10, by the nearest training example: m" in said[2]
    assert "median_rank 1" in said[2] and "first_share 1" in said[3]
    for row in table:
        assert float(row["alone"]) == pytest.approx(float(row["nats"]))
        assert float(row["rank_back"]) == 2


def test_what_a_candidate_saves_ranks_it_the_other_way(monkeypatch):
    """Of three names, of which the second is dear whatever is given, each is cheapest
    under its own number; but the third number suits the first name better."""
    bare = np.array([5.0, 50.0, 6.0])
    costs = bare[:, None] - np.array([[3, 1, 4], [0, 2, 1], [1, 0, 2]])
    monkeypatch.setattr(score, "rank_costs", lambda *_: costs)
    alone = Bounds(
        types.SimpleNamespace(codecs={}, module=types.SimpleNamespace(classes=0)),
        lambda key, ids, **call: Score(bare, bare, bare),
        ("digit",),
    )
    alone.scorer.of = ("name",)
    values = {"name": Bytes(5), "digit": Labels(10)}
    data = JointExamples(dict.fromkeys(values, DATA), values, True)
    table, figures = score._ranked(alone, data, 3)
    assert table["rank"].tolist() == [2, 1, 1]
    assert table["rank_back"].tolist() == [1, 1, 2]
    ranked = figures["ranks"]["the true name of digit among 3"]
    assert ranked["median_rank"] == 1 and ranked["mean_rank"] == pytest.approx(4 / 3)


def test_what_cannot_be_ranked_is_refused(workdir):
    few = [f"--workdir={workdir}", "--rank=4"]
    with pytest.raises(BadInput, match="--rank: write --given"):
        score.main([*few, "--of=name"])
    for more in (["--of=digit"], ["--of=name", "--classify=digit"]):
        with pytest.raises(BadInput, match="--baselines is of one text"):
            score.main([f"--workdir={workdir}", "--baselines=True", *more])
    with pytest.raises(BadInput, match="--shown.name: .* gave in parts: none"):
        score.main([f"--workdir={workdir}", "--of=name", "--shown.name=2"])
    with pytest.raises(BadInput, match="fitted to the training part; drop --train"):
        both = ["--baselines=True", "--train=True"]
        score.main([f"--workdir={workdir}", "--of=name", *both])


def test_of_the_best_of_several_labels_there_are_no_bits_a_byte(workdir, alike, capsys):
    ask = [f"--workdir={workdir}", "--of=name", "--classify=digit"]
    score.main([*ask, "--most=4", "--draws=2"])
    assert "bytes" not in rows(workdir)[0]
    assert "bits a byte" not in capsys.readouterr().err


def test_the_nearest_of_pictures_are_found_by_their_components():
    train = JointExamples({"image": DATA, "name": DATA}, {"name": Bytes(5)}, True)
    at = np.array([3, 40, 500])
    batch = train.take(at)
    costs = nearest_costs(train, batch, batch, "image", "name")
    # A training picture is nearest to itself: the edits are those between the names.
    names = [NAMES[label] for label in batch["label"]]
    assert (np.diag(costs) == 0).all() and (costs > 0).sum() == sum(
        a != b for a in names for b in names
    )
    back = nearest_costs(train, batch, batch, "name", "image")
    assert back.shape == (3, 3) and (back > 0).any()


def test_what_is_classified_is_right_by_labels_of_its_own_data(
    workdir, alike, capsys, monkeypatch
):
    """Under which all examples are of the first class, the one that is said of all."""
    of_batch = JointExamples.labels

    def labels(self, rows, name=None):
        return np.zeros(len(rows), int) if name == "digit" else of_batch(self, rows)

    monkeypatch.setattr(JointExamples, "labels", labels)
    ask = [f"--workdir={workdir}", "--of=name", "--classify=digit"]
    score.main([*ask, "--most=20", "--draws=2"])
    assert "digit is the true one of 100.00%" in capsys.readouterr().err


@pytest.mark.parametrize("train, of", [(False, 360), (True, 1437)])
def test_the_part_that_is_asked_is_scored_evenly(workdir, train, of, monkeypatch):
    def stop(data, rows):
        raise BadInput(f"{rows.tolist()} of {len(data)}")

    monkeypatch.setattr(score, "batches_of", stop)
    ask = [f"--workdir={workdir}", "--of=name", "--most=4", f"--train={train}"]
    with pytest.raises(BadInput) as seen:
        score.main(ask)
    assert str(seen.value) == f"{[of * i // 4 for i in range(4)]} of {of}"


def test_figures_stand_beside_those_of_other_questions(tmp_path, alike):
    """Whatever makes another question: what is given, a seed, other data, weights."""
    folder = kept(tmp_path, 1.0)
    ask = [f"--workdir={folder}", "--of=name", "--most=4", "--draws=2"]
    read = lambda: json.loads((folder / "scores.json").read_text())["scores"]
    score.main(ask)
    ((first, plain),) = read().items()
    assert [*plain] == ["name draws=2 most=4"]
    for more in (
        "--given=digit",
        "--seed=5",
        "--config.data.words=('a','b','c','d','e','f','g','h','i','j')",
    ):
        score.main([*ask, more])
    asked = read()[first]
    assert len(asked) == 4 and asked["name draws=2 most=4"] == [*plain.values()][0]
    assert "name given digit draws=2 most=4" in asked
    kept(tmp_path, 0.5)
    score.main(ask)
    assert read()[first] == asked and len(read()) == 2


@pytest.mark.parametrize(
    "text", ["{", "[1]", '"x"', "{}", '{"scores": null}', '{"scores": {"a": [1]}}']
)
def test_what_is_no_file_of_scores_is_refused_before_anything_is_scored(
    workdir, tmp_path, text, monkeypatch
):
    monkeypatch.setattr(score, "bounds_of", None)
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(BadInput, match="scores.json is not what train.score has") as x:
        score.main([f"--workdir={workdir}", "--of=name", f"--out={tmp_path / 'a.csv'}"])
    assert "\n" not in str(x.value)
