"""What stage two opens, and its streams as files of old have them."""

import dataclasses
import json
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vqdit
from tests import toys
from tests.train import toy
from tests.train.experiments import JOINT, of_values
from train.config import Mesh, Run, StageTwo, Stream
from train.config.network import network
from train.config.override import replaced
from train.errors import BadInput
from train.modalities import Images, Series, Tables
from train.objectives import latents, streams
from train.objectives.denoising import build_step, objective_of
from train.objectives.latents import encode_set, encode_streams
from train.objectives.streams import Streams, _bits, prepare
from train.objectives.transfer import Transfer
from train.pipeline import Examples, open_examples
from train.runtime.sharding import batch_sharding, make_mesh
from vqdit.diffusion import (
    Case,
    Gaussian,
    LogitNormal,
    Masking,
    Mixture,
    Scattered,
    Uniform,
)
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.nn.streams import Continuous, Discrete
from vqdit.tokenizer import (
    Boxes,
    Bytes,
    Category,
    ConvDecoder,
    ConvEncoder,
    Labels,
    Number,
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
    told = [
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
                for kind, fields in zip(kinds, told, strict=True)
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
    # Seven of a join lack the text.
    has = lambda _, rows, name: rows >= 7 * (name == "text")
    source = type("Source", (), {"__len__": lambda _: 1200, "has": has})()
    opened = Streams(JOINT, model, {}, tokenizers, source)
    bits = 6 * np.log2(Bytes(6).code_count)
    assert opened.told(state).startswith(
        f"10 tokens an example (image 4 of 13 bits, text 6 of {bits:.0f} bits); 1,200 "
        "examples, 7 without text;"
    )
    continuous = dataclasses.replace(image.contract, codes=())
    assert _bits(dataclasses.replace(image, contract=continuous)) == ""
    assert _bits(None) == ""


@pytest.mark.parametrize(
    "changes, absent, untrained",
    [
        ({"label_dropout": 0.1}, (1, 3), (1,)),
        ({"label_dropout": 0.0}, (1, 3), (1, 3)),  # nor without a class
        ({"label_dropout": 0.0}, (1,), (1,)),
        ({"label_dropout": 0.0, "model.classes": 0}, (0,), ()),
    ],
)
def test_what_was_never_trained_is_told_to_who_draws(changes, absent, untrained):
    mixture = Mixture((Case(parts={"text": Scattered()}),))
    how = {"model.classes": 3, "mixture": mixture}
    experiment = replaced(JOINT, how | changes)
    names = ("a", "b", "c") if experiment.model.classes else ()
    source = types.SimpleNamespace(absent=absent, class_names=names)
    opened = Streams(experiment, *network(experiment, {}), {}, source)
    found = opened.generator({"w": 3.0})
    assert found.untrained == untrained and found.class_names == names
    assert found.params == {"w": 3} and found.parts == mixture.parts != {}


def test_batches_are_those_of_the_run():
    experiment = replaced(JOINT, {"run.batch": 24, "run.seed": 7})
    source = types.SimpleNamespace(batches=lambda *of: of)
    opened = Streams(experiment, None, {}, {}, source)
    assert opened.batches(5, "rows") == (24, 7, 5, "rows")
    assert opened.batches(5) == (24, 7, 5, None)


@pytest.fixture
def labelled(tmp_path):
    """Nine pictures of the classes 0 and 2."""
    image, label = np.zeros((9, 4, 4, 1), np.uint8), np.repeat([0, 2], [4, 5])
    np.savez(tmp_path / "x.npz", image=image, label=label)
    path = str(tmp_path / "x.npz")
    return Images("npz", path, size=4, channels=1, holdout=0.0, threads=0)


def test_data_and_what_is_born_discrete_have_the_same_classes(
    labelled, tmp_path, capsys
):
    experiment = of_values("words", labelled, {"word": Labels(3)})
    experiment = replaced(experiment, {"model.classes": 3})
    for share in (0.1, 0.2):
        prepare(replaced(experiment, {"label_dropout": share}))
        said = capsys.readouterr().err
        assert "no training example of the classes 1\n" in said
        assert "label_dropout" not in said
    for changes, message in (
        ({"model.classes": 2}, "model.classes=2 but .* 3 classes; write model.classes"),
        ({"streams.word.tokenizer": Labels(4)}, "has 3 classes; write Labels.3."),
        ({"streams.word.tokenizer": Bytes(4)}, "has no caption; leave the stream out"),
    ):
        with pytest.raises(BadInput, match=message):
            prepare(replaced(experiment, changes))
    unlabelled = tmp_path / "y.npz"
    np.savez(unlabelled, image=np.zeros((9, 4, 4, 1), np.uint8))
    data = dataclasses.replace(labelled, data_dir=str(unlabelled))
    prepare(of_values("words", data, {"word": Labels(5)}))  # all are missing
    classless = replaced(experiment, {"model.classes": 0})
    capsys.readouterr()
    prepare(classless)
    prepare(replaced(classless, {"label_dropout": 0.0}))
    assert not capsys.readouterr().err


def folder_of(path):
    """Pictures of a text and a box each, which for the last are too much."""
    lines = []
    for i, text in enumerate(["a", "b", "c", "d", "long"]):
        Image.new("L", (4, 4)).save(path / f"{i}.png")
        box = [0, 0, 1, 1, int(text == "long")]
        lines.append({"file": f"{i}.png", "caption": text, "boxes": [box]})
    (path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return Images("folder", str(path), size=4, channels=1, holdout=0.0, threads=0)


def table_of(path):
    """Rows of a number and a text, the last's too much."""
    (path / "a.csv").write_text("n,t\n1,a\n2,b\n3,c\n4,d\nfive,long\n")
    return Tables(data_dir=str(path / "a.csv"), caption="t", holdout=0.0, threads=0)


@pytest.mark.parametrize("share", [1.0, 0.999])
@pytest.mark.parametrize(
    ("data_of", "wrong", "right", "message"),
    [
        (folder_of, Bytes(3), Bytes(4), "the text 'long' takes 4 codes"),
        (folder_of, Boxes(1, 4), Boxes(1, 4, 2), "class 1: write 0 to 0"),
        (table_of, Bytes(3), Bytes(4), "the text 'long' takes 4 codes"),
        (
            table_of,
            Table((Number("n", (2.5,), (1.0, 3.0)),)),
            Table((Category("n", ("1", "2", "3", "4", "five")),)),
            "n='five': write a number",
        ),
    ],
)
def test_a_value_without_codes_is_refused_wherever_it_lies(
    data_of, wrong, right, message, share, monkeypatch, tmp_path
):
    """Before training, which may come to it after hours, and before a cache; and no
    signal is read for it."""
    monkeypatch.setattr(Examples, "take", pytest.fail)
    data = dataclasses.replace(data_of(tmp_path), share=share)
    experiment = of_values("values", {"a": data}, {"a": wrong})
    message = f"streams.a.tokenizer: .*{message}"
    with pytest.raises(BadInput, match=message):
        prepare(experiment)
    monkeypatch.setattr(latents, "encode_values", pytest.fail)
    with pytest.raises(BadInput, match=message):
        encode_streams(experiment, tmp_path / "cache")
    prepare(of_values("values", {"a": data}, {"a": right}))


def test_what_is_held_out_is_looked_at_where_it_is_needed(monkeypatch):
    """Beside a cache, which is of the training part; and the run says what it starts
    from, and whether it has begun."""
    calls, source = [], types.SimpleNamespace(classes=0, absent=(), class_names="ab")
    noted = lambda answer: lambda *of, **how: calls.append((*of, how)) or answer
    model, codec = DiT((), width=16, depth=1, block=Block(2)), toys.codec()
    tokenizers = {"image": codec, "text": Bytes(6)}
    for name, answer in (
        ("open_tokenizers", tokenizers),
        ("network", (model, "processes")),
        ("open_caches", source),
        ("open_transfer", (None, "lost")),
        ("check_streams", None),
    ):
        monkeypatch.setattr(streams, name, noted(answer))
    experiment = replaced(JOINT, {"cache": "there", "init": "old"})
    looks = {"image": codec}, experiment.sources, False, {}
    for every, begun, looked in ((0, None, []), (4, 0, [looks])):
        chosen = replaced(experiment, {"run.heldout_every": every})
        made = prepare(chosen, begun)
        assert calls == [
            (chosen, True, {}),
            (chosen, tokenizers, {}),
            (chosen, "processes", tokenizers, {}),
            *looked,
            ("old", model, begun is not None, ("a", "b"), {}),
        ]
        assert (made.lost, made.source, made.transfer) == ("lost", source, None)
        assert made.codecs == {"image": codec} and made.values == {"text": Bytes(6)}
        calls.clear()


def test_a_start_over_another_tokenizer_is_spoken_of(monkeypatch, capsys):
    codec = toys.codec()
    contract = dataclasses.replace(codec.contract, fingerprint="another")
    other = dataclasses.replace(codec, contract=contract)
    model, _ = network(JOINT, {})
    checked = []
    for new, said in ((codec, False), (other, True), (Bytes(6), False), (None, False)):
        bundle = types.SimpleNamespace(codecs={"image": codec})
        transfer = types.SimpleNamespace(check=checked.append, bundle=bundle)
        streams._check_transfer(transfer, model, {"image": new} if new else {})
        err = capsys.readouterr().err
        assert ("stream 'image' was of another tokenizer's latents" in err) == said
    assert checked[0]["params"]["image_in"]["kernel"].shape[-1] == 32


@pytest.mark.parametrize(
    "held, absent, said",
    [
        (("image",), 0.0, True),
        (("image",), ("text",), False),
        (("image",), ("image",), True),
        (("image",), 0.5, False),
        (("image", "text"), 0.0, False),
        (("sound",), 0.0, False),
    ],
)
def test_a_new_stream_that_no_case_lacks_is_spoken_of(held, absent, said, capsys):
    """Those of before are drawn beside its noise, which their weights never saw."""
    old = types.SimpleNamespace(streams=[Discrete(name, (2,), 3) for name in held])
    transfer = types.SimpleNamespace(bundle=types.SimpleNamespace(module=old))
    mixture = Mixture((Case(), Case(absent=absent)))
    streams._say_of_news(transfer, replaced(JOINT, {"mixture": mixture}))
    told = "init: text: new, and in every case of mixture"
    assert (told in capsys.readouterr().err) is said


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


def test_signals_are_encoded_where_their_examples_are(gapped, monkeypatch):
    _, experiment = gapped
    opened, split = prepare(experiment), []
    seen = lambda _, batch, variables: split.append(toy.by_example()) or batch
    monkeypatch.setattr(type(opened), "encoded", seen)
    sharding = batch_sharding(make_mesh(Mesh()))
    out = opened.encoder(sharding)({"x": jnp.zeros((8, 2))})
    assert split == [True] and out["x"].sharding == sharding


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
    three = tuple(Discrete(name, (2,), 9, books=3) for name in names)
    model = experiment.model.clone(streams=three)
    parts = (experiment, model, dict.fromkeys(names, Masking(9)))
    words = np.random.default_rng(0).normal(size=(3, 9, 5)).astype(np.float32)
    plain = build_step(*parts)[0]().params
    started = build_step(*parts, codewords=dict.fromkeys(names, words))[0]().params
    before = np.asarray(plain["one_in"]["table"])
    one, other = (np.asarray(started[f"{name}_in"]["table"]) for name in names)
    assert one.std() == pytest.approx(before.std(), rel=0.15)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.2
