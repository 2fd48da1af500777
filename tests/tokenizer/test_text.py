"""Text to codes and back: nothing is lost."""

import functools
import importlib
import json

import jaxtyping
import numpy as np
import pytest

from vqdit.tokenizer import BPE, Bytes
from vqdit.values import build, describe

CORPUS = ["the cat sat on the mat, the dog sat on the log"] * 4 + ["naïve café — 茶"]
TEXTS = [
    "",
    " ",
    "the cat sat on the mat",
    "  two  spaces,\ttabs\r\nand\nlines \x00 \x7f ",
    "naïve 茶 🍵 \u200d e\u0301",
    "<pad><unk>[MASK]",
    "\ud800 half a pair \udfff",
    "\ud83d\ude00",  # two halves, which are not the one character they would make
]


@functools.cache
def trained(specials=()):
    return BPE.train(CORPUS, words=300, length=80, specials=specials)


def tokenizers():
    return [Bytes(80), Bytes(80, ("<caption>", "<speech>")), trained(("<caption>",))]


@pytest.mark.parametrize("index", range(3))
def test_every_text_comes_back(index):
    tokenizer = tokenizers()[index]
    draw = np.random.default_rng(0)
    texts = TEXTS + [
        "".join(map(chr, draw.integers(0, 0x110000, draw.integers(0, 20))))
        for _ in range(50)
    ]
    codes = tokenizer.encode(texts)
    assert codes.shape == (len(texts), 80) and codes.dtype == np.int32
    assert codes.min() >= 0 and codes.max() == tokenizer.padding
    assert tokenizer.padding < tokenizer.code_count
    assert tokenizer.decode(codes) == texts
    assert (codes[0] == tokenizer.padding).all()
    counts, most = (codes != tokenizer.padding).sum(1), tokenizer.most_codes(texts)
    assert (counts <= most).all() and (
        isinstance(tokenizer, BPE) or (counts == most).all()
    )


def every_text():
    """Each number of Unicode once, a thousand a text; halves of a pair among them."""
    numbers = np.arange(0x110000).reshape(-1, 1024)
    return ["".join(map(chr, row)) for row in numbers.tolist()]


def test_every_character_comes_back_from_its_bytes():
    """NUL and surrogates as any other; padding is behind a text, never in it."""
    tokenizer, texts = Bytes(4 * 1024), every_text()
    codes = tokenizer.encode(texts)
    for row, text in zip(codes, texts, strict=True):
        data = text.encode("utf-8", "surrogatepass")
        assert row[: len(data)].astype(np.uint8).tobytes() == data
        assert (row[: len(data)] < tokenizer.padding).all()
        assert (row[len(data) :] == tokenizer.padding).all()
    assert tokenizer.decode(codes) == texts


@pytest.mark.slow
def test_every_character_comes_back_from_its_pieces():
    tokenizer, texts = BPE(trained().model, 4 * 1024), every_text()
    codes = tokenizer.encode(texts)
    assert tokenizer.decode(codes) == texts


def test_bytes_are_utf_8():
    codes = Bytes(6).encode(["né"])
    assert codes.tolist() == [[110, 0xC3, 0xA9, 256, 256, 256]]
    assert Bytes(6).code_count == 257


def test_what_follows_the_first_padding_is_no_text():
    """A model may write on behind it."""
    codes = np.array([[110, 256, 111, 256, 112, 256], [256, 110, 111, 112, 113, 114]])
    assert Bytes(6).decode(codes) == ["n", ""]


def test_bpe_learns_what_is_frequent_and_knows_every_byte():
    tokenizer = trained()
    assert {tokenizer.pieces.index(bytes([i])) for i in range(256)} == set(range(256))
    assert 256 < len(tokenizer.pieces) <= 300
    assert b" the" in tokenizer.pieces and b" sat" in tokenizer.pieces
    assert not any(piece.count(b" ") > 1 for piece in tokenizer.pieces)
    text = "the cat sat on the mat"
    assert len(tokenizer.split(text)) < len(text) / 2
    # The same corpus, the same codes.
    assert BPE.train(iter(CORPUS), words=300, length=80) == tokenizer


def test_words_end_at_no_byte_of_a_character():
    """The bytes 85 and A0, at which à and х end, are spaces to a regex of characters:
    neither was ever learned whole, and "à " was, over the end of a word."""
    texts = ["voilà, déjà là à Рим", "хор их всех"] * 20
    tokenizer = BPE.train(texts, words=320, length=80)
    assert "à".encode() in tokenizer.pieces and " à".encode() in tokenizer.pieces
    assert " Рим".encode() in tokenizer.pieces and " их".encode() in tokenizer.pieces
    for piece in tokenizer.pieces[256:]:
        assert b" " not in piece[1:]
    # White space alone is a word.
    spaces = BPE.train(["a\t\n\v\f\r  b"] * 9, words=300, length=80)
    assert b"\t\n\v\f\r  " in spaces.pieces and b"b" in spaces.pieces
    assert not any(b"a\t" in piece or b" b" in piece for piece in spaces.pieces)


def test_pieces_are_left_to_the_training_part():
    """And are those that `train` learns of its texts."""
    left = BPE("", 80, words=300)
    assert not left.settled and left.code_count == 301 and trained().settled
    assert left.stream("codes")["vocab"] == 301
    with pytest.raises(ValueError, match="not known before `settle`"):
        left.decode(np.zeros((1, 80), int))
    found = left.settle([*CORPUS, None, ""])
    assert found.settled and found.model == trained().model and found.words == 300
    assert found.code_count == len(found.pieces) + 1
    assert found.settle(["other texts"]) is found
    assert left.contradiction(found) is None
    assert BPE("", 80, words=2048).contradiction(found) == ("words", 2048, 300)
    with pytest.raises(ValueError, match="BPE.words=0: write words=512"):
        BPE("", 80)


def test_bpe_is_a_value_that_a_bundle_can_hold():
    tokenizer = trained(("<caption>",))
    again = build(json.loads(json.dumps(describe(tokenizer))))
    assert again == tokenizer and hash(again) == hash(tokenizer)
    assert again.encode(["the cat"]).tolist() == tokenizer.encode(["the cat"]).tolist()


def test_specials_go_first_and_are_not_text():
    for tokenizer in tokenizers()[1:]:
        codes = tokenizer.encode(["the cat"], first=["<caption>"])
        assert codes[0, 0] == tokenizer.code("<caption>") > tokenizer.padding
        assert tokenizer.decode(codes) == ["the cat"]
    with pytest.raises(ValueError, match="no special '<mask>'; there are: <caption>"):
        Bytes(4, ("<caption>",)).encode(["a"], first=["<mask>"])


def test_a_text_that_is_too_long_is_refused_or_cut_on_request():
    with pytest.raises(ValueError, match="takes 5 codes, .* room for 4; .*length=5"):
        Bytes(4).encode(["ok", "hello"])
    with pytest.raises(ValueError, match="'longest' takes 7 codes, .*length=7 or more"):
        Bytes(4).encode(["hello", None, "longest", "longer"])  # which does for all
    assert Bytes(4).decode(Bytes(4).encode(["hello"], truncate=True)) == ["hell"]
    # A character cut in two.
    assert Bytes(4).decode(Bytes(4).encode(["abcé"], truncate=True)) == ["abc\ufffd"]
    # Cut between characters, and its own U+FFFD or lone surrogate is a character.
    kept = (("", ""), ("hello", "hell"), ("abcé", "abc"), ("a\ufffd", "a\ufffd"))
    cut = (("a\ufffdb", "a\ufffd"), ("ab\ufffd", "ab"), ("a\ud800b", "a\ud800"))
    for text, part in kept + cut:
        assert Bytes(4).cut(text) == part
        assert BPE.train(["xy"], 256, 4).cut(text) == part


def test_a_text_may_fill_its_codes():
    codes = Bytes(3).encode(["abc"])
    assert codes.tolist() == [[97, 98, 99]] and Bytes(3).decode(codes) == ["abc"]


def test_what_a_model_makes_up_can_be_read():
    made_up = np.array([[255, 104, 256, 105, 105], [104, 105, 257, 33, 256]])
    assert Bytes(5, ("<s>",)).decode(made_up) == ["\ufffdh", "hi!"]
    with pytest.raises(ValueError, match="code 257 is none of the 257"):
        Bytes(5).decode(made_up)


def test_texts_are_known_and_said_in_a_line():
    tokenizer = Bytes(8)
    assert tokenizer.known(["a", "", None]).tolist() == [True, False, False]
    assert tokenizer.said(["two\nlines\r\nmore", "one"]) == ["two lines more", "one"]
    assert tokenizer.settled and tokenizer.settle(["a"]) is tokenizer
    assert tokenizer.seen(["a"]) == (["a"], {}) and not tokenizer.closed
    assert tokenizer.kept(["drawn"], ["given"], np.array([[True] * 8])) == ["drawn"]
    assert tokenizer.stream("codes") == {"grid": (8,), "vocab": 257, "books": 1}
    assert tokenizer.source == "caption" and not tokenizer.wide
    with pytest.raises(ValueError, match="Bytes has codes and no latents; write a pro"):
        tokenizer.stream("latents")
    assert Bytes(8).contradiction(Bytes(9)) == ("length", 8, 9)


def test_without_its_library_bpe_says_what_to_install(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ValueError, match="tokenizers library; pip install tokenizers"):
        BPE.train(CORPUS, words=300, length=8)


@pytest.mark.parametrize("wrong", [0, 5, b"hello", ["hello"]])
def test_what_is_no_text_is_refused(wrong):
    jaxtyping.config.update("jaxtyping_disable", True)  # nobody checks for users
    try:
        with pytest.raises(ValueError, match="is no text; write a str"):
            Bytes(9).encode(["a", wrong])
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_impossible_fields_are_refused():
    with pytest.raises(ValueError, match="write .'hello'."):
        Bytes(9).encode("hello")
    with pytest.raises(ValueError, match="Bytes.length=0"):
        Bytes(0)
    with pytest.raises(ValueError, match="each name once"):
        Bytes(4, ("<a>", "<a>"))
    with pytest.raises(ValueError, match="at least 256"):
        BPE.train(CORPUS, words=100, length=8)
    with pytest.raises(ValueError, match="no JSON of tokenizers"):
        BPE("{}", 8).split("a")
