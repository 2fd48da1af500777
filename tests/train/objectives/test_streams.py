"""What stage two opens, and its streams as files of old have them."""

import dataclasses
import json
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import toys
from tests.train.experiments import JOINT
from train.config import Run, StageTwo, Stream
from train.config.network import network
from train.config.override import replaced
from train.errors import BadInput
from train.modalities import Images, Series
from train.objectives.denoising import build_step, objective_of
from train.objectives.latents import encode_set
from train.objectives.streams import Streams, _bits, prepare
from train.objectives.transfer import Transfer
from train.pipeline import open_examples
from vqdit.diffusion import Case, Gaussian, LogitNormal, Masking, Mixture, Uniform
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.nn.streams import Continuous, Discrete
from vqdit.tokenizer import (
    Bytes,
    ConvDecoder,
    ConvEncoder,
    Labels,
    Table,
    Tokenizer,
)
from vqdit.trained.contract import contract_of
from vqdit.values import build, describe


def test_an_experiment_of_old_becomes_this_one():
    """Its four dictionaries by stream, as 0.1.0 wrote them."""
    now = describe(JOINT)
    old = {"class": "train.config.StageTwo", "fields": dict(now["fields"])}
    del old["fields"]["streams"]
    process = describe(Masking(32))
    streams = [
        {"name": "image", "grid": [4, 4], "channels": 4, "patch": 2, "outputs": 1},
        {"name": "text", "grid": [6], "vocab": 32, "books": 1},
    ]
    kinds = ("vqdit.dit.Continuous", "vqdit.dit.Discrete")
    old["fields"]["model"] = {
        "class": "vqdit.dit.DiT",
        "fields": now["fields"]["model"]["fields"]
        | {
            "streams": [
                {"class": kind, "fields": fields}
                for kind, fields in zip(kinds, streams, strict=True)
            ]
        },
    }
    uniform = describe(Uniform())
    old["fields"] |= {
        "processes": {"dict": {"image": describe(Gaussian()), "text": process}},
        "times": {"dict": {"image": uniform, "text": uniform}},
        "tokenizers": {"dict": {"image": "runs/image", "text": "runs/text"}},
    }
    assert build(old, ("vqdit", "train")) == JOINT


def test_what_is_minimised_is_what_the_experiment_says():
    times = LogitNormal(0.5)
    said = {"label_dropout": 0.3, "streams.text.weight": 0.25}
    experiment = replaced(JOINT, said | {"streams.image.times": times})
    mixture = Mixture((Case(given=0.5),))
    experiment = dataclasses.replace(experiment, mixture=mixture)
    processes = {name: each.process for name, each in experiment.streams.items()}
    found = objective_of(experiment, experiment.model, processes)
    assert found.weights == {"image": 1.0, "text": 0.25} and found.label_dropout == 0.3
    assert found.times == {"image": times, "text": JOINT.streams["text"].times}
    assert found.mixture == mixture and found.model is experiment.model
    assert found.processes == processes


def test_a_process_is_fit_for_what_the_stream_says():
    model, processes = network(JOINT, {})
    assert [stream.name for stream in model.streams] == ["image", "text"]
    assert processes["text"].vocab == 32 and model.streams[0].patch == 2
    learned = replaced(
        JOINT, {"streams.image.process": Gaussian(learned_variance=True)}
    )
    assert network(learned, {})[0].streams[0].outputs == 2


def test_what_is_written_of_a_stream_is_what_its_tokenizer_says():
    """Or, while the data have yet to say what that is, what is written."""
    said = {"grid": (6,), "books": 1, "vocab": 33}
    words = types.SimpleNamespace(stream=lambda kind: said)
    with pytest.raises(BadInput, match="streams.text: .* is 33, and 32 is written"):
        network(JOINT, {"text": words})
    said["vocab"] = 32
    for tokenizers in ({"text": words}, {"text": Table(bins=4)}, {}):
        assert network(JOINT, tokenizers)[0].streams[1] == Discrete("text", **said)


def test_a_run_says_of_how_many_bits_its_streams_are():
    image, state = toys.codec(), types.SimpleNamespace(params={})
    model = DiT(
        (Continuous("image", (2, 2), 2), Discrete("text", (6,), 256)),
        width=16,
        depth=1,
        block=Block(2),
    )
    tokenizers = {"image": image, "text": Bytes(6)}
    opened = Streams(JOINT, model, {}, tokenizers, range(1200))
    bits = 6 * np.log2(Bytes(6).code_count)
    assert opened.told(state).startswith(
        f"10 tokens an example (image 4 of 13 bits, text 6 of {bits:.0f} bits); 1,200 "
    )
    continuous = dataclasses.replace(image.contract, codes=())
    assert _bits(dataclasses.replace(image, contract=continuous)) == ""
    assert _bits(None) == ""


@pytest.mark.slow
def test_an_embedding_may_start_as_the_codebook(tmp_path):
    codec = toys.codec()
    vqdit.save(tmp_path / "tok", codec)
    experiment = StageTwo(
        name="codes",
        data=Images(name="digits", size=4),
        model=DiT(width=64, depth=1, block=Block(2)),
        streams={"image": Stream(Masking(), str(tmp_path / "tok"), start="codebook")},
        run=Run(steps=2, batch=8),
    )
    opened = prepare(experiment)
    parts = (experiment, opened.model, opened.processes)
    plain = build_step(*parts)[0]().params
    started = build_step(*parts, codewords=opened.codewords)[0]().params
    # What is taken from a trained one stays as it was trained.
    trained = jax.tree.map(lambda leaf: leaf + 1, started)
    vqdit.save(tmp_path / "dit", opened.generator(trained))
    transfer = Transfer(str(tmp_path / "dit"), opened.model)
    again = build_step(*parts, transfer, opened.codewords)[0]().params
    chex.assert_trees_all_equal(again, trained)
    other, table = (x.pop("image_in")["table"] for x in (plain, started))
    chex.assert_trees_all_equal(plain, started)
    np.testing.assert_array_equal(table[-1], other[-1])  # of the mask
    # Rows are the codewords, turned and scaled: as far apart as these, about.
    apart = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)[
        np.triu_indices(9, 1)
    ]
    words, rows = apart(codec.codewords()[0]), apart(np.asarray(table[:-1]))
    assert np.linalg.matrix_rank(table[:-1], tol=1e-4) == 2
    assert (
        np.corrcoef(words, rows)[0, 1]
        > 0.97
        > np.corrcoef(words, apart(other[:-1]))[0, 1]
    )
    assert abs(np.sqrt((table[:-1] ** 2).mean()) / np.std(other) - 1) < 0.2
    for wrong in ({"process": Gaussian()}, {"tokenizer": Labels(10)}):
        fields = {f"streams.image.{name}": value for name, value in wrong.items()}
        with pytest.raises(BadInput, match=r"streams.image.start=codebook.* normal"):
            prepare(replaced(experiment, fields))


PULSE = Series(length=16, channels=2, examples=40, threads=0)


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """A tokenizer of series with gaps, by weights drawn, and a stage two over it."""
    folder = tmp_path_factory.mktemp("gapped") / "tok"
    fields = {"dims": 1, "blocks": 1, "mid_attention": False}
    halves = (ConvEncoder(4, (1, 1), **fields), ConvDecoder(4, (1, 1), **fields, out=2))
    module = Tokenizer(halves[0].clone(out=2), halves[1], None, dim=2)
    variables = toys.drawn(module, jnp.zeros((1, 16, 2)))
    held = open_examples(PULSE, True)
    signal = {"kind": "series", "shape": (16, 2), "preparation": PULSE.preparation}
    signal |= {"offset": held.offset, "scale": held.scale, "rate": PULSE.rate}
    grid = module.grid((16,))
    contract = contract_of(module, signal, grid, (0.0, 0.0), (1.0, 1.0), variables)
    codec = vqdit.Codec(module, variables, contract)
    vqdit.save(folder, codec)
    experiment = StageTwo(
        name="gapped",
        data=PULSE,
        model=DiT(width=8, depth=1, block=Block(2)),
        streams={"pulse": Stream(Gaussian(), str(folder))},
        run=Run(steps=2, batch=8),
    )
    return codec, experiment


def test_what_is_known_reaches_the_latents_with_and_without_a_cache(gapped, tmp_path):
    codec, experiment = gapped
    opened = prepare(experiment)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    raw = next(opened.batches(1))
    direct = opened.encoder(place)(raw)
    known = np.asarray(direct["known"]["pulse"])
    seen = raw["known"]["pulse"].any(-1)
    assert known.shape == (8, *codec.contract.grid)
    np.testing.assert_array_equal(known, seen.reshape(8, -1, 2).any(-1))
    encode_set(codec, PULSE, tmp_path / "cache")
    kept = prepare(replaced(experiment, {"cache": str(tmp_path / "cache")}))
    stored = next(kept.batches(1))
    np.testing.assert_array_equal(stored["known"]["pulse"], known)
    for name, value in direct["streams"].items():
        np.testing.assert_allclose(stored["streams"][name], value, atol=1e-5)


def test_a_cache_of_other_data_is_refused(gapped, tmp_path, capsys, monkeypatch):
    codec, experiment = gapped
    encode_set(codec, PULSE, tmp_path / "cache")
    cached = replaced(experiment, {"cache": str(tmp_path / "cache")})
    for change, said in (
        ({"data.examples": 48}, "made of 40 records and the data has 48"),
        ({"data.seed": 1}, "made of other records"),
        ({"data.length": 32}, r"takes series \(16, 2\), the data gives"),
    ):
        with pytest.raises(BadInput, match=said):
            prepare(replaced(cached, change))
    # On a machine that was given the cache alone it is believed.
    away = {"data.name": "folder", "data.data_dir": str(tmp_path / "none")}
    prepare(replaced(cached, away))
    assert "is not compared with the data" in capsys.readouterr().err
    # One of before does not say.
    described = json.loads((tmp_path / "cache" / "cache.json").read_text())
    del described["contract"]["data"], described["seal"]
    (tmp_path / "cache" / "cache.json").write_text(json.dumps(described))
    prepare(replaced(cached, {"data.seed": 1}))
    assert "does not say of which data it is" in capsys.readouterr().err


def test_a_share_of_labels_where_there_are_none_is_spoken_of(gapped, capsys):
    prepare(gapped[1])
    assert "label_dropout" not in capsys.readouterr().err
    prepare(replaced(gapped[1], {"label_dropout": 0.2}))
    assert "label_dropout=0.2 drops nothing: model.classes=0" in capsys.readouterr().err


@pytest.mark.slow
def test_books_start_no_longer_than_one_and_streams_not_alike():
    """Whatever the books, rows are as long as those that they stand in for, and each
    stream has a projection of its own."""
    experiment = StageTwo(
        name="codes",
        data=Images(name="digits", size=4),
        model=DiT(width=64, depth=1, block=Block(2)),
        streams={name: Stream(Masking(), Labels(9)) for name in ("one", "other")},
        run=Run(steps=2, batch=8),
    )
    names = tuple(experiment.streams)
    streams = tuple(Discrete(name, (2,), 9, books=3) for name in names)
    model = experiment.model.clone(streams=streams)
    parts = (experiment, model, dict.fromkeys(names, Masking(9)))
    words = np.random.default_rng(0).normal(size=(3, 9, 5)).astype(np.float32)
    plain = build_step(*parts)[0]().params
    started = build_step(*parts, codewords=dict.fromkeys(names, words))[0]().params
    before = np.asarray(plain["one_in"]["table"])
    one, other = (np.asarray(started[f"{name}_in"]["table"]) for name in names)
    assert one.std() == pytest.approx(before.std(), rel=0.15)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.2
