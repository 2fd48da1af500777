"""train.encode as a program: which part goes where, and how often."""

import dataclasses

import pytest

from configs import demo_tokenizer, digits_joint
from tests import toys
from train import encode
from train.errors import BadInput
from train.modalities import ImageAugment

MOVED = "--config.data.augment=ImageAugment(shift=0.1)"


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_part_that_is_named_is_encoded(split, tmp_path, monkeypatch):
    """By the bundle that is named, else each stream by its own tokenizer."""
    asked = []
    monkeypatch.setattr(encode, "encode_streams", lambda *of: asked.append(of) or 9)
    out, codec = tmp_path / "cache", toys.codec()
    encode.main(["--config=digits_joint", f"--out={out}", f"--split={split}"])
    (found,) = asked
    assert found == (digits_joint.CONFIG, out, split == "train", 0)

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


def test_what_cannot_be_encoded_is_one_line(tmp_path):
    words = ["--config=demo_tokenizer", f"--out={tmp_path / 'cache'}"]
    for more, message in (
        ([], "write --bundle=DIR, the workdir or bundle of a tokenizer"),
        (["--bundle=x", "--split=test", "--epochs=2"], "of what training augments"),
    ):
        with pytest.raises(BadInput, match=message):
            encode.main([*words, *more])
