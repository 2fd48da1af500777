"""Baselines of text: probabilities that are some, and counts made by hand."""

import math

import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation.ngrams import END, START, NGrams, bits_per_byte

TEXTS = [b"abra", b"cadabra", b"abracadabra", b"bra"]


@pytest.mark.parametrize("order", [1, 2, 5, 9])
def test_the_probabilities_of_a_symbol_sum_to_one(order):
    model = NGrams(TEXTS, order)
    for before in ((), (START,), (START, *b"abr"), tuple(b"bra"), tuple(b"zz"), (0,)):
        found = model.probabilities(before)
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert found[START] == 0 and (np.delete(found, START) > 0).all()


def test_bigrams_are_those_counted_by_hand():
    """Of aab and ab. Bigrams: start a twice, ab twice, aa once, b end twice; symbols by
    what stands before them: a has two, b one, the end one."""
    model = NGrams([b"aab", b"ab"], 2)
    d1 = (2 + 0.5) / (2 + 0.5 + 2 * (1 + 0.5))  # two symbols of one, one of two
    d2 = (1 + 0.5) / (1 + 0.5 + 2 * (3 + 0.5))  # one bigram of one, three of two
    even = 1 / 257
    below = {s: (n - d1) / 4 + 3 * d1 / 4 * even for s, n in ((97, 2), (98, 1))}
    after_a = 2 * d2 / 3
    assert model.probabilities((97,))[97] == pytest.approx(
        (1 - d2) / 3 + after_a * below[97]
    )
    assert model.probabilities((97,))[98] == pytest.approx(
        (2 - d2) / 3 + after_a * below[98]
    )
    assert model.probabilities((97,))[99] == pytest.approx(after_a * 3 * d1 / 4 * even)
    first, second = model.probabilities((START,)), model.probabilities((97,))
    third = model.probabilities((98,))
    chain = first[97] * second[98] * third[END]
    assert model.nats(b"ab") == pytest.approx(-math.log(chain))


def test_the_law_of_a_source_is_found():
    """Letters of one bit each, then an end: no model does better than that, and one of
    many texts little worse."""
    draw = np.random.default_rng(0)
    texts = [bytes(draw.choice([97, 98], 20).tolist()) for _ in range(2000)]
    found = bits_per_byte(texts[:1500], [*texts[1500:], b""])
    assert set(found) == {"5-gram", "gzip", "xz"}
    assert found["5-gram"] == pytest.approx(1 + math.log2(21 / 20), abs=0.3)
    assert found["5-gram"] > 1 and found["gzip"] > found["5-gram"]


def test_what_is_the_same_again_costs_next_to_nothing():
    texts = [b"thumbs up sign", b"face with tears of joy"] * 20
    assert max(bits_per_byte(texts, texts[:2]).values()) < 1.2


def test_of_no_text_there_is_no_figure():
    assert bits_per_byte([b"a"], [b""]) == {}
    with pytest.raises(BadInput, match="the training part has no texts"):
        bits_per_byte([b""], [b"a"])
