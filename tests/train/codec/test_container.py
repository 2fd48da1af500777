"""The .vqd file: there and back, small, and never taken when a bit is not its own."""

import dataclasses

import numpy as np
import pytest

from train.codec import container
from train.codec.coder import NAMES, Alphabet, Coder
from train.codec.container import (
    KINDS,
    SUFFIXES,
    Header,
    bundle_name,
    checksum_of_codes,
    pack,
    unpack,
)
from train.codec.prior import count_codes
from train.errors import BadInput

FINGERPRINT = "0123456789abcdef" * 4
HEADER = Header(
    kind="audio",
    suffix=".flac",
    bundle=bundle_name(FINGERPRINT),
    shape=(2**20, 2),
    books=32,
    coder=Coder(4, 15),
    prior=b"abcd",
    rate=44_100.5,
    length=127,
    overlap=128,
    extra=b"\x00names",
    codes=2**32 - 1,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", range(len(NAMES)))
def test_a_header_comes_back(kind, model):
    coder = Coder(model, 3)
    header = Header(
        kind=kind,
        suffix=SUFFIXES[KINDS.index(kind)],
        bundle=bundle_name(FINGERPRINT),
        shape=(1, 300, 700, 3),
        books=1,
        coder=coder,
        prior=b"\x00\xff\x80\x01" if coder.needs_prior else b"",
    )
    assert unpack(pack(header, b"payload")) == (header, b"payload")
    assert unpack(pack(HEADER, b"")) == (HEADER, b"")
    assert HEADER.coded_shape == (127, 2) and header.coded_shape == header.shape


def test_every_flipped_bit_is_seen():
    data = pack(HEADER, bytes(range(20)))
    for at in range(8 * len(data)):
        altered = bytearray(data)
        altered[at // 8] ^= 1 << at % 8
        with pytest.raises(BadInput, match="no .vqd file|cut short or altered"):
            unpack(bytes(altered))


def test_every_cut_is_seen():
    data = pack(HEADER, bytes(range(20)))
    for end in range(len(data)):
        with pytest.raises(BadInput, match="no .vqd file|cut short or altered"):
            unpack(data[:end])
    for more in (b"\x00", b"more"):
        with pytest.raises(BadInput, match="cut short or altered"):
            unpack(data + more)


def test_another_version_and_a_senseless_header_are_named(monkeypatch):
    monkeypatch.setattr(container, "VERSION", 9)
    other = pack(HEADER, b"")
    monkeypatch.undo()
    with pytest.raises(BadInput, match="has version 9; this program reads 1"):
        unpack(other)
    body = pack(HEADER, b"")[:-8]
    for broken in (
        body[:-25],  # ends inside the header
        body[:5] + b"\xee" + body[6:],  # no such kind
        body[:15] + b"\x02\x00\x02" + body[16:],  # an axis of no length
        body[:15] + b"\xff" * 20 + body[16:],  # a number without end
    ):
        with pytest.raises(BadInput, match="header makes no sense"):
            unpack(broken + container._digest(broken))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": ()},
        {"shape": (4, 0, 1)},
        {"books": 0},
        {"rate": np.inf},
        {"rate": np.nan},
        {"rate": -1.0},
        {"rate": -1.0, "length": 0},
        {"rate": 0.0},  # and a length at another
        {"suffix": "/../a"},
        {"suffix": ".a.b.c.d"},
        {"suffix": ".seventeenletters9"},
        {"suffix": ".a_b"},
        {"coder": Coder(5), "prior": b""},
    ],
)
def test_a_header_that_cannot_be_makes_no_sense(change):
    with pytest.raises(BadInput) as refusal:
        unpack(pack(dataclasses.replace(HEADER, **change), b""))
    assert str(refusal.value) == "the file's header makes no sense; compress again"


@pytest.mark.parametrize(
    "change", [{"suffix": ".sixteenletters16.nii.gz"}, {"suffix": ""}, {"rate": 1}]
)
def test_a_header_that_can_be_comes_back(change):
    """Whole, under the greatest power, of a kind and a suffix that are spelled."""
    more = {"whole": True, "coder": Coder(1, 15), "prior": b"", "kind": "smell"}
    header = dataclasses.replace(HEADER, **more, **change)
    assert unpack(pack(header, b"payload")) == (header, b"payload")


def test_a_file_of_next_to_nothing_is_as_long_as_what_it_holds_asks_for(monkeypatch):
    """A byte for every 2**15 values beyond 2**25, as they are or as they are coded."""
    short = dataclasses.replace(HEADER, shape=(2**25, 1), length=2**25)
    assert len(pack(short, b"")) < 100
    for long in ({"shape": (2**26, 1)}, {"length": 2**26}):
        header = dataclasses.replace(short, **long)
        data = pack(header, b"payload")
        assert len(data) == 1024
        assert unpack(data) == (header, b"payload".ljust(len(unpack(data)[1]), b"\0"))
        monkeypatch.setattr(container, "FREE", 2**30)
        data = pack(header, b"")
        monkeypatch.undo()
        size = len(data)
        with pytest.raises(BadInput) as refusal:
            unpack(data)
        assert str(refusal.value) == (
            f"it says that its {size} bytes are 67,108,864 values, more than such a "
            "file should be: write --large if you know it"
        )
        assert unpack(data, large=True) == (header, b"")
    assert container.room(10) == 2**25 + 10 * 2**15


def test_a_number_has_seven_bits_a_byte():
    found = {0: "00", 127: "7f", 128: "8001", 300: "ac02", 2**14: "808001"}
    assert {n: container._varint(n).hex() for n in found} == found


def test_the_checksum_of_codes_sees_every_code():
    codes = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    seen = {checksum_of_codes(codes), checksum_of_codes(codes.astype(np.int64) + 1)}
    for place in np.ndindex(codes.shape):
        other = codes.copy()
        other[place] += 1
        seen.add(checksum_of_codes(other))
    assert len(seen) == 26
    assert checksum_of_codes(codes) == checksum_of_codes(codes.astype(np.int64))


def files(world, k, lengths, seed):
    """Codes (tiles, 16, 1) of files, all drawn from one order-0 distribution."""
    p = np.random.default_rng(world).dirichlet(np.full(k, 0.5))
    source = np.random.default_rng(seed)
    return [source.choice(k, (n, 16, 1), p=p).astype(np.int32) for n in lengths]


@pytest.mark.parametrize("k", [16, 1024, 4096])
@pytest.mark.parametrize("lengths", [(1,) * 40, (4,) * 40, (64,) * 10, (2000,)])
def test_files_are_within_two_percent_of_order_0_entropy_and_64_bytes(k, lengths):
    """Whole files, header and checksum included, and 64 bytes for each of them.

    Under a model counted on other files of the same kind, against the entropy of what
    they are drawn from. Against the empirical entropy of one file's own codes it holds
    for long files; a short one shows fewer codes than there are, and looks simpler
    than anyone can know it to be.
    """
    training = files(0, k, (10_000,), seed=1)
    prior = count_codes(training, (k,), FINGERPRINT)
    alphabet = Alphabet((k,), prior)
    p = np.random.default_rng(0).dirichlet(np.full(k, 0.5))
    entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
    bits = codes_in_all = own = 0
    for codes in files(0, k, lengths, seed=2):
        coder = alphabet.best_coder(codes)
        header = Header(
            kind="image",
            suffix=".png",
            bundle=bundle_name(FINGERPRINT),
            shape=(700, 700, 3),
            books=1,
            coder=coder,
            prior=prior.name if coder.needs_prior else b"",
        )
        bits += 8 * len(pack(header, alphabet.encode(codes, coder)))
        codes_in_all += codes.size
        own += alphabet.order_0_bits(codes)
    assert bits <= 1.02 * codes_in_all * entropy + 512 * len(lengths)
    if codes_in_all == 32_000:
        assert bits <= 1.02 * own + 512
