"""Holes of signals in time, and of clips."""

import dataclasses
import types

import numpy as np
import pytest

from tests import toys
from train.codec.holes import pasted, with_holes
from train.errors import BadInput
from vqdit import Discrete, Gaussian
from vqdit.tokenizer import (
    CausalDecoder,
    CausalEncoder,
    ConvDecoder,
    ConvEncoder,
    Tokenizer,
)
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract

PARTS = {"channels": 4, "multipliers": (1, 1), "blocks": 1}


def holed(kind, shape, grid, word, rate=0.0, parts=("x",)):
    """(its codec, what stays of two examples) by a tokenizer of that kind."""
    causal = kind == "video"
    more = PARTS if causal else PARTS | {"dims": len(grid), "mid_attention": False}
    coders = (CausalEncoder, CausalDecoder) if causal else (ConvEncoder, ConvDecoder)
    module = Tokenizer(coders[0](**more, out=2), coders[1](**more, out=1), None, dim=2)
    fields = {"codes": (), "fingerprint": "x", "mean": (0.0,) * 2, "std": (1.0,) * 2}
    contract = LatentContract(kind, shape, grid, 2, rate=rate, **fields)
    codec = Codec(module, {}, contract)
    generator = types.SimpleNamespace(
        codecs={"x": codec}, values={}, parts=parts, processes={"x": Gaussian()}
    )
    given = {"x": np.zeros((2, *shape), np.float32)}
    return codec, with_holes(generator, given, {"x": word})[1]["x"]


@pytest.mark.parametrize("word, rate", [("1.5,3", 2.0), ("3,6", 0.0)])
def test_a_hole_of_a_series_is_from_a_time_to_another(word, rate, capsys):
    """Samples 3 to 5 of eight, which two of four latents stand for."""
    codec, stays = holed("series", (8, 3), (4,), word, rate, parts=())
    assert stays.tolist() == [[True, False, False, True]] * 2
    assert "no parts of it were given in training" in capsys.readouterr().err
    given, drawn = np.ones((2, 8, 3)), np.zeros((2, 8, 3))
    kept = pasted(codec, codec.contract, given, drawn, stays)[0, :, 0].tolist()
    assert kept == [1, 1, 0, 0, 0, 0, 1, 1]


def test_a_hole_of_a_clip_is_in_every_frame():
    shape, grid = (5, 4, 4, 1), (3, 2, 2)
    codec, stays = holed("video", shape, grid, "0,0.5,0.5,1")  # below, left
    assert np.argwhere(~stays[0]).tolist() == [[t, 1, 0] for t in range(3)]
    # Latents that stay by their time alone, as --shown has them.
    first = np.array([[True, False, False]])
    given, drawn = np.ones((1, *shape)), np.zeros((1, *shape))
    kept = pasted(codec, codec.contract, given, drawn, first)
    assert kept.all((0, 2, 3, 4)).tolist() == [True, False, False, False, False]


def test_samples_of_latents_that_stand_for_no_blocks_are_as_they_are_drawn():
    drawn = np.zeros((1, 4, 4, 1))
    for fields in ({"grid": (2,), "code_grid": ()}, {"code_grid": (7,)}):  # of scales
        codec = toys.codec()
        contract = dataclasses.replace(codec.contract, **fields)
        stream = Discrete("x", contract.code_grid, 9)
        stays = np.arange(contract.code_grid[0])[None] < 2
        codec = dataclasses.replace(codec, contract=contract)
        assert pasted(codec, stream, drawn + 1, drawn, stays) is drawn


@pytest.mark.parametrize(
    "word, message",
    [
        ("1,5", "--hole.x=1,5: write from 0 to 4, the lower first"),
        ("2,1", "the lower first"),
        ("a.png", "write start,end$"),
        ("0,4", "all of what is given is in it"),
        ("nan,2", "the lower first"),
    ],
)
def test_what_is_no_hole_is_one_line(word, message):
    with pytest.raises(BadInput, match=message):
        holed("series", (8, 3), (4,), word, 2.0)


def test_volumes_have_no_holes():
    with pytest.raises(BadInput, match="holes are of pictures, clips, sounds, series"):
        holed("volume", (8, 8, 8, 1), (4, 4, 4), "0,1")
