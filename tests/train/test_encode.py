"""train.encode as a program: which part goes where, and how often."""

import dataclasses

import pytest

from configs import demo_tokenizer, digits_joint
from tests import toys
from tests.train.processes import noting
from train import encode
from train.config.override import replaced
from train.errors import BadInput
from train.modalities import ImageAugment
from train.objectives import latents
from vqdit.trained.codec import Codec

MOVED = "--config.data.augment=ImageAugment(shift=0.1)"


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_part_that_is_named_is_encoded(split, tmp_path, monkeypatch, capsys):
    """By the bundle that is named, else each stream by its own tokenizer; what is held
    out is for no training."""
    asked = []
    monkeypatch.setattr(encode, "encode_streams", lambda *of: asked.append(of) or 9)
    out, codec = tmp_path / "cache", toys.codec()
    encode.main(["--config=digits_joint", f"--out={out}", f"--split={split}"])
    (found,) = asked
    assert found == (digits_joint.CONFIG, out, split == "train", 0)
    train_on = f"; train on them with --config.cache={out}" * (split == "train")
    assert capsys.readouterr().err == f"9 examples are in {out}{train_on}\n"

    def encode_set(*of, **how):
        asked.append((of, how))
        return 9

    monkeypatch.setattr(encode, "encode_set", encode_set)
    monkeypatch.setattr(encode, "open_bundle", lambda *_: codec)
    words = ["--config=demo_tokenizer", "--bundle=tok", f"--out={out}"]
    encode.main([*words, f"--split={split}"])
    data = demo_tokenizer.CONFIG.data
    assert asked[1] == ((codec, data, out, split == "train"), {"epochs": 0})
    encode.main([*words, "--epochs=8", MOVED])
    data = dataclasses.replace(data, augment=ImageAugment(shift=0.1))
    assert asked[2] == ((codec, data, out, True), {"epochs": 8})
    with pytest.raises(BadInput, match="--epochs=8: nothing augments the data"):
        encode.main([*words, "--epochs=8"])
    monkeypatch.setattr(encode, "open_bundle", None)  # it is not opened for that
    with pytest.raises(BadInput, match="--epochs=8: nothing augments the data"):
        encode.main([*words, "--epochs=8"])


def test_every_option_arrives(tmp_path, monkeypatch, capsys):
    """A bundle encodes the data of stage two as well, and nothing of its streams."""
    calls, codec, out = [], toys.codec(), tmp_path / "cache"

    def noted(name, answer):
        return lambda *of, **how: calls.append((name, of, how)) or answer

    monkeypatch.setattr(encode.hosts, "start", noted("start", None))
    monkeypatch.setattr(encode, "encode_set", noted("set", 9))
    monkeypatch.setattr(encode, "encode_streams", noted("streams", 8))
    monkeypatch.setattr(encode, "open_bundle", noted("open", codec))
    words = ["--config=digits_joint", f"--out={out}", "--bundle=tok"]
    among = ["--coordinator=here:1", "--processes=2", "--process=1"]
    encode.main([*words, *among])
    encode.main([*words[:2], "--epochs=3", "--config.run.seed=4"])
    joint = digits_joint.CONFIG
    longer = replaced(joint, {"run.seed": 4})
    asked = {"coordinator": "here:1", "processes": 2, "process": 1}
    assert calls == [
        ("start", (asked,), {}),
        ("open", ("tok", Codec, "--bundle"), {}),
        ("set", (codec, joint.data, out, True), {"epochs": 0}),
        ("start", ({},), {}),
        ("streams", (longer, out, True, 3), {}),
    ]
    assert capsys.readouterr().err == "".join(
        f"{n} examples are in {out}; train on them with --config.cache={out}\n"
        for n in (9, 8)
    )
    with pytest.raises(BadInput, match="--out=.* is there; remove it"):
        encode.main([words[0], f"--out={tmp_path}"])
    assert len(calls) == 6  # nothing is opened for it
    for wrong, message in (
        (words[:1], "write --out=..., the cache, a new folder"),
        ([*words, "--split=valid"], "--split: write one of train, test, not"),
        ([*words, "--epochs=0"], "--epochs: write a whole number, at least 1"),
    ):
        with pytest.raises(BadInput, match=message):
            encode.main(wrong)


@pytest.mark.parametrize("born", ["latents", "values"])
def test_data_that_one_process_cannot_open_is_refused_by_all(born, monkeypatch):
    """Which would wait for it where they write."""
    left = []

    def unread(*_):
        raise BadInput("not there")

    monkeypatch.setattr(latents.hosts, "together", noting(left))
    for name in ("examples_for", "open_examples"):
        monkeypatch.setattr(latents, name, unread)
    with pytest.raises(BadInput, match="not there"):
        if born == "latents":
            latents.encode_set("codec", "data", "folder")
        else:
            latents.encode_values("labels", "name", "data", "folder", True)
    assert left == ["not there"]


def test_what_cannot_be_encoded_is_one_line(tmp_path):
    words = ["--config=demo_tokenizer", f"--out={tmp_path / 'cache'}"]
    for more, message in (
        ([], "write --bundle=DIR, the workdir or bundle of a tokenizer"),
        (["--bundle=x", "--split=test", "--epochs=2"], "of what training augments"),
    ):
        with pytest.raises(BadInput, match=message):
            encode.main([*words, *more])
