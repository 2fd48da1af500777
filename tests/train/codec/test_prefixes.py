"""Which first books or scales a tokenizer decodes, and what a file keeps for them."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from train.codec.prefixes import Prefixes, decodes_prefixes, prefixes
from train.codec.prior import Prior
from vqdit import FSQ, Codec, ConvDecoder, ConvEncoder, Tokenizer, VectorQuantizer
from vqdit.quantizers import GroupedQuantizer, MultiScaleQuantizer
from vqdit.quantizers.residual_fsq import ResidualFSQ
from vqdit.trained.contract import contract_of


def codec(quantizer, places):
    """(4, 4, 1) pictures <-> 2x2 latents, or so many places in a row."""
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    ends = ConvEncoder(**small, out=4), ConvDecoder(**small, out=1)
    module = Tokenizer(*ends, quantizer)
    variables = toys.drawn(module, jnp.zeros((1, 4, 4, 1)))
    signal = {"kind": "image", "shape": (4, 4, 1)}
    signal |= {"code_grid": (places,)} if places else {}
    moments = ((0.0, 0.0), (1.0, 1.0))
    contract = contract_of(module, signal, (2, 2), *moments, variables)
    return Codec(module, variables, contract)


@pytest.mark.parametrize(
    "quantizer, places, expected, decodes",
    [
        (ResidualFSQ((3, 3), 3), 0, Prefixes((9, 9, 9), ()), True),
        (GroupedQuantizer(FSQ((3,)), 2), 0, Prefixes((3, 3), ()), False),
        (
            MultiScaleQuantizer(VectorQuantizer(7, 2), (1, 2), phis=1),
            5,
            Prefixes((7,), (1, 5)),
            True,
        ),
    ],
)
def test_residual_books_and_scales_decode_without_the_last(
    quantizer, places, expected, decodes
):
    one = codec(quantizer, places)
    assert prefixes(one) == expected and decodes_prefixes(one) is decodes


def test_what_is_kept_is_books_of_all_places_or_places_of_the_book():
    codes = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    books = Prefixes((9, 4, 2), ())
    assert (books.word, books.count, books.places(5, 2)) == ("books", 3, 5)
    np.testing.assert_array_equal(books.cut(codes, 2), codes[:, :, :2])
    assert books.alphabet(None, 2).code_counts == (9, 4)
    scales = Prefixes((7,), (1, 5))
    assert (scales.word, scales.count) == ("scales", 2)
    assert [scales.places(5, kept) for kept in (1, 2)] == [1, 5]
    np.testing.assert_array_equal(scales.cut(codes[..., :1], 1), codes[:, :1, :1])
    assert scales.alphabet(None, 1).code_counts == (7,)
    # And what was counted there: of what has one table for all places that.
    counts = np.arange(35).reshape(5, 7), np.ones((1, 7), int)
    prior = Prior("ab", counts, (4, 16))
    assert scales.alphabet(prior, 2).prior is prior is books.alphabet(prior, 2).prior
    found = Prefixes((7, 7), (1, 5)).alphabet(prior, 1)
    assert found.code_counts == (7, 7) and found.prior.strength == (4, 16)
    assert found.prior.counts[0].tolist() == [[*range(7)]]
    assert found.prior.counts[1].tolist() == [[1] * 7]
