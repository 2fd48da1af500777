"""Codes come back from every coder, at the price that its model says."""

import hashlib
import math
import os

import numpy as np
import pytest

from train.codec import prior as priors
from train.codec.coder import (
    ADAPTIVE,
    FIXED,
    PLACED,
    POOLED,
    TUNED,
    Alphabet,
    Coder,
)
from train.codec.prior import TOTAL, Prior, count_codes, frequencies
from train.decompress import read_codes
from train.errors import BadInput
from vqdit.trained.contract import LatentContract

CODERS = [Coder(FIXED), Coder(POOLED), Coder(PLACED), Coder(ADAPTIVE, 3)]
CODERS += [Coder(ADAPTIVE, 15), Coder(TUNED, 9)]
FINGERPRINT = "0123456789abcdef" * 4


def drawn(tiles, places, code_counts, seed=0, spread=0.3):
    """(tiles, places, m) codes; each book by frequencies that differ from place to
    place, the same for every seed."""
    world, source = np.random.default_rng(0), np.random.default_rng(seed)
    codes = np.empty((tiles, places, len(code_counts)), np.int32)
    for book, k in enumerate(code_counts):
        shared = world.dirichlet(np.full(k, spread))
        for place in range(places):
            p = 0.5 * shared + 0.5 * world.dirichlet(np.full(k, spread))
            codes[:, place, book] = source.choice(k, tiles, p=p)
    return codes


@pytest.mark.parametrize("coder", CODERS, ids=lambda c: f"{c.name}{c.power}")
@pytest.mark.parametrize(
    "shape,code_counts",
    [
        ((1, 1), (2,)),
        ((1, 1), (1, 2)),
        ((3, 4), (5, 1024, 1)),
        ((40, 6), (64, 7)),
        ((2, 3), (2**18,)),
    ],
)
def test_codes_round_trip_at_their_cost(coder, shape, code_counts):
    codes = drawn(*shape, code_counts)
    prior = count_codes(
        [drawn(50, shape[1], code_counts, seed=1)], code_counts, FINGERPRINT
    )
    alphabet = Alphabet(code_counts, prior)
    payload = alphabet.encode(codes, coder)
    back = alphabet.decode(payload, *shape, coder)
    np.testing.assert_array_equal(back, codes)
    bits = alphabet.cost(codes, coder)
    # A byte or two to end in, and the coder's own rounding.
    assert bits - 8 <= 8 * len(payload) <= 1.001 * bits + 16


@pytest.mark.parametrize("code", [0, 6])
@pytest.mark.parametrize("coder", CODERS, ids=lambda c: f"{c.name}{c.power}")
def test_one_code_only(coder, code):
    codes = np.full((300, 4, 2), code, np.int32)
    alphabet = Alphabet((7, 7), count_codes([codes], (7, 7), FINGERPRINT))
    payload = alphabet.encode(codes, coder)
    np.testing.assert_array_equal(alphabet.decode(payload, 300, 4, coder), codes)
    if coder.model in (POOLED, PLACED):
        assert len(payload) < 4


def test_without_a_prior():
    codes, alphabet = drawn(30, 4, (16, 16)), Alphabet((16, 16))
    for coder in (Coder(FIXED), Coder(ADAPTIVE, 6)):
        payload = alphabet.encode(codes, coder)
        np.testing.assert_array_equal(alphabet.decode(payload, 30, 4, coder), codes)
    with pytest.raises(ValueError, match="pooled coder needs a prior"):
        alphabet.encode(codes, Coder(POOLED))


def test_a_long_payload():
    """Longer than what is cut to its shortest form."""
    codes, alphabet = drawn(4000, 8, (1024,)), Alphabet((1024,))
    coder = alphabet.best_coder(codes)
    payload = alphabet.encode(codes, coder)
    assert len(payload) > 4096 and coder.model == ADAPTIVE
    np.testing.assert_array_equal(alphabet.decode(payload, 4000, 8, coder), codes)
    # An adaptive model has learned the frequencies: the file's own entropy and the
    # half logarithm a code that any such model pays.
    learned = alphabet.order_0_bits(codes) + 0.5 * 1023 * math.log2(32_000)
    assert 8 * len(payload) < 1.005 * learned


@pytest.mark.parametrize("k", [16, 1024])
def test_a_prior_costs_little_more_than_knowing_the_distribution(k):
    """(k - 1) / (2 n ln 2) bits a code for one counted on n, here 0.005 at most."""
    p = np.random.default_rng(0).dirichlet(np.full(k, 0.5))
    source = np.random.default_rng(1)
    training = source.choice(k, (10_000, 16, 1), p=p)
    codes = source.choice(k, (2000, 16, 1), p=p).astype(np.int32)
    prior = count_codes([training], (k,), FINGERPRINT)
    known = -np.log2(p[codes]).sum()
    for coder in (Coder(POOLED), Coder(PLACED)):
        bits = Alphabet((k,), prior).cost(codes, coder)
        assert known < bits + 100 and bits < known + 0.01 * codes.size


def test_the_cheapest_coder_is_chosen():
    code_counts = (64,)
    prior = count_codes([drawn(2000, 6, code_counts, seed=1)], code_counts, FINGERPRINT)
    alphabet = Alphabet(code_counts, prior)
    alike, source = drawn(20, 6, code_counts, seed=2), np.random.default_rng(3)
    assert alphabet.best_coder(alike).model == PLACED
    assert alphabet.best_coder(alike[:, ::-1]).model != PLACED
    # A file names its prior, in 32 bits: of six codes it does not save as many.
    saved = [alphabet.cost(alike[:1], Coder(model)) for model in (FIXED, PLACED)]
    assert 0 < saved[0] - saved[1] < 32
    assert alphabet.best_coder(alike[:1]).model == FIXED
    sure = Prior(FINGERPRINT, (np.array([[2**35, *[0] * 1023]]),), (4,))
    for count, model in ((3, FIXED), (4, POOLED)):  # 30 and 40 bits at fixed length
        one = np.zeros((1, count, 1), np.int32)
        assert Alphabet((1024,), sure).best_coder(one).model == model
    even = source.integers(0, 64, (3, 6, 1)).astype(np.int32)
    assert alphabet.best_coder(even).model == FIXED
    other = np.where(drawn(2000, 6, code_counts, seed=4) < 32, 3, 63)
    chosen = alphabet.best_coder(other)
    assert chosen.model in (ADAPTIVE, TUNED)
    costs = [alphabet.cost(other, coder) for coder in CODERS]
    assert alphabet.cost(other, chosen) <= min(costs)


def test_places_share_a_table_where_they_are_alike():
    source = np.random.default_rng(0)
    p = source.dirichlet(np.ones(16))
    codes = source.choice(16, (400, 9, 1), p=p)
    prior = count_codes(np.split(codes, 4), (16,), FINGERPRINT)
    assert prior.counts[0].shape == (1, 16)
    np.testing.assert_array_equal(
        prior.counts[0][0], np.bincount(codes.reshape(-1), minlength=16)
    )
    differing = drawn(400, 9, (16,))
    prior = count_codes([differing.reshape(400, 3, 3, 1)], (16,), FINGERPRINT)
    assert prior.counts[0].shape == (9, 16)
    for place in range(9):
        np.testing.assert_array_equal(
            prior.counts[0][place], np.bincount(differing[:, place, 0], minlength=16)
        )


@pytest.mark.parametrize("k", [1, 2, 3, 1000, 2**20])
def test_frequencies_are_whole_and_sum_to_their_total(k):
    source = np.random.default_rng(0)
    for high in (2, 1000, 2**40):
        weights = source.integers(0, high, (3, k))
        weights[:, 0] += 1
        found = frequencies(weights)
        assert found.dtype == np.int64 and found.min() >= 1
        np.testing.assert_array_equal(found.sum(-1), TOTAL)
    if k <= 1000:
        np.testing.assert_allclose(
            found / TOTAL, weights / weights.sum(-1, keepdims=True), atol=k / TOTAL
        )


def test_a_known_payload():
    """Files stay readable: these bytes are version 1's, whatever coder is installed."""
    codes = (np.arange(24).reshape(4, 6, 1) ** 2 % 7).astype(np.int32)
    prior = Prior(FINGERPRINT, (np.arange(42).reshape(6, 7) % 5,), (4,))
    found = {
        coder.name: Alphabet((7,), prior).encode(codes, coder).hex()
        for coder in (
            Coder(FIXED),
            Coder(POOLED),
            Coder(PLACED),
            Coder(ADAPTIVE, 6),
            Coder(TUNED, 6),
        )
    }
    assert found == KNOWN
    assert prior.name.hex() == "d7765572"
    # Of codes enough for an adaptive model to be renewed at an eighth of them.
    payload = Alphabet((7,)).encode(np.tile(codes, (16, 1, 1)), Coder(ADAPTIVE, 6))
    digest = hashlib.sha256(payload).hexdigest()
    assert digest == "8b0d42baff65d0b2fcaf93563d4c48523082bd20a9976e6426fdefc0af789ddd"


KNOWN = {
    "fixed": "08766fdb008a660f91",
    "pooled": "06a4c597edab39a342",
    "placed": "00ce6db6c16f89e8bd86",
    "adaptive": "08766fdb008ad8c0",
    "tuned": "06a4c5919df7352e",
}


def contract(**fields):
    given = {
        "kind": "image",
        "shape": (4, 4, 1),
        "grid": (2, 2),
        "channels": 2,
        "codes": (9, 3),
        "mean": (0.0, 0.0),
        "std": (1.0, 1.0),
        "fingerprint": FINGERPRINT,
    }
    return LatentContract(**{**given, **fields})


def test_a_prior_comes_back_from_disk(tmp_path):
    assert priors.read_prior(tmp_path, contract()) is None
    prior = count_codes([drawn(60, 4, (9, 3))], (9, 3), FINGERPRINT)
    priors.write_prior(tmp_path, prior)
    back = priors.read_prior(tmp_path, contract())
    assert back.name == prior.name and back.strength == prior.strength
    for book in range(2):
        np.testing.assert_array_equal(back.placed[book], prior.placed[book])
        np.testing.assert_array_equal(back.pooled[book], prior.pooled[book])
    assert [p.name for p in tmp_path.iterdir()] == ["prior.npz"]
    other = count_codes([drawn(60, 4, (9, 3), seed=1)], (9, 3), FINGERPRINT)
    assert other.name != prior.name


def test_a_table_a_place_of_many_codes_comes_back(tmp_path):
    prior = Prior(FINGERPRINT, (np.ones((4, 4096), int),), (4,))
    priors.write_prior(tmp_path, prior)
    back = priors.read_prior(tmp_path, contract(codes=(4096,)))
    assert back.name == prior.name


def test_a_prior_of_another_tokenizer_or_none_is_refused(tmp_path):
    priors.write_prior(
        tmp_path, count_codes([drawn(60, 4, (9, 3))], (9, 3), FINGERPRINT)
    )
    for other, words in (
        ({"fingerprint": "f" * 64}, "another tokenizer"),
        ({"codes": (9,)}, "does not fit the bundle's codes"),
        ({"codes": (9, 4)}, "does not fit the bundle's codes"),
        ({"code_grid": (2, 3)}, "does not fit the bundle's codes"),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            priors.read_prior(tmp_path, contract(**other))
        assert "--fit --force" in str(caught.value)
    (tmp_path / "prior.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadInput, match="is no model of codes"):
        priors.read_prior(tmp_path, contract())
    (tmp_path / "prior.npz").unlink()
    os.mkfifo(tmp_path / "prior.npz")  # nobody may ever write to it
    with pytest.raises(BadInput, match="no model of codes: is a device or a pipe"):
        priors.read_prior(tmp_path, contract())
    with pytest.raises(BadInput, match="prior.npz: is a device or a pipe"):
        read_codes(None, tmp_path / "prior.npz")


@pytest.mark.parametrize("most, places", [(64, 4), (63, 1)])
def test_a_table_a_place_is_kept_up_to_a_size(monkeypatch, most, places):
    """Four places of 16 codes each, every one with codes of its own; as each half of
    the examples says of the other, also where every one is handed in alone."""
    monkeypatch.setattr(priors, "MOST_CELLS", most)
    codes = np.arange(4)[None, :, None].repeat(101, 0) * 5
    prior = count_codes(np.split(codes, 101), (16,), FINGERPRINT)
    (counts,) = prior.counts
    assert counts.shape == (places, 16) and counts.sum() == 404
    assert prior.strength == ((4,) if places == 4 else (2**16,))


@pytest.mark.parametrize(
    "change, why",
    [
        ({"counts": (-np.ones((4, 9), int), np.ones((4, 3), int))}, "not fit"),
        ({"counts": (np.ones((2, 9), int), np.ones((4, 3), int))}, "not fit"),
        ({"counts": (np.ones(9, int), np.ones((4, 3), int))}, "not fit"),
        ({"counts": (np.full((1, 9), 2**33), np.ones((4, 3), int))}, "not fit"),
        ({"strength": (4, 5)}, "not fit"),
        ({"counts": (np.ones((4, 9)), np.ones((4, 3), int))}, "not whole numbers"),
        ({"counts": (np.ones((4, 2500), int), np.ones((4, 3), int))}, "too large"),
    ],
)
def test_counts_that_cannot_be_are_refused(tmp_path, change, why):
    """Beside such that can: of 2**36 codes less one, and of both sizes of a table."""
    good = {"counts": (np.full((1, 9), 2**32), np.ones((4, 3), int))}
    good |= {"fingerprint": FINGERPRINT, "strength": (4, 2**16)}
    priors.write_prior(tmp_path, Prior(**good))
    found = priors.read_prior(tmp_path, contract())
    assert found.name == Prior(**good).name and found.counts[0].dtype == np.int64
    priors.write_prior(tmp_path, Prior(**good | change))
    with pytest.raises(BadInput, match=why):
        priors.read_prior(tmp_path, contract())


def test_what_cannot_be_codes_is_refused():
    two = Alphabet((4, 4))
    for shape in ((4, 2), (2, 4, 1), (1, 2, 4, 2)):
        with pytest.raises(ValueError) as refusal:
            two.encode(np.zeros(shape, int), Coder(FIXED))
        assert str(refusal.value) == f"codes are (tiles, places, 2); got {shape}"
    with pytest.raises(ValueError, match=r"outside \[0, 4\)"):
        two.encode(np.full((1, 1, 2), -1), Coder(FIXED))
    with pytest.raises(ValueError, match=r"outside \[0, 4\)"):
        Alphabet((4,)).encode(np.full((1, 1, 1), 4), Coder(FIXED))
    with pytest.raises(ValueError, match="there are no codes"):
        count_codes([], (4,), FINGERPRINT)
