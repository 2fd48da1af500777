"""A stream of what its process and its tokenizer say, and where they do not fit."""

import dataclasses

import pytest

from tests import toys
from vqdit import Bytes, Codec, Continuous, Discrete, Gaussian, Masking
from vqdit.trained.streams import check_stream, stream_of


def test_a_stream_is_as_its_tokenizer_has_it():
    codec, learned = toys.codec(), Gaussian(learned_variance=True)
    found = stream_of("image", Gaussian(), codec)
    assert found == Continuous("image", (2, 2), 2)
    found = stream_of("image", learned, codec, patch=2)
    assert found == Continuous("image", (2, 2), 2, patch=2, outputs=2)
    assert stream_of("image", Masking(), codec) == Discrete("image", (2, 2), 9)
    assert stream_of("text", Masking(), Bytes(3)) == Discrete("text", (3,), 257)
    # What is written beside it may say the same.
    again = stream_of("image", Masking(), codec, 1, (2, 2, 1), 9)
    assert again == Discrete("image", (2, 2), 9)
    assert stream_of("image", Gaussian(), codec, 1, (2, 2, 2)).channels == 2


def test_without_one_a_stream_is_as_it_is_written():
    found = stream_of("x", Gaussian(), None, 2, (4, 6, 3))
    assert found == Continuous("x", (4, 6), 3, patch=2)
    assert stream_of("x", Masking(), None, 1, (5, 2), 7) == Discrete("x", (5,), 7, 2)


@pytest.mark.parametrize(
    "process, more, message",
    [
        (Gaussian(), {}, "without a tokenizer, write shape=(*grid, channels)"),
        (Masking(), {}, "without a tokenizer, write shape=(*grid, books), codes"),
        (
            Masking(),
            {"shape": (3, 1)},
            "without a tokenizer, write shape=(*grid, books), codes",
        ),
        (
            Masking(),
            {"codes": 4},
            "without a tokenizer, write shape=(*grid, books), codes",
        ),
        (
            Gaussian(),
            {"shape": (3,)},
            "shape=(3,): write the grid, and last channels or books; all at least 1",
        ),
        (
            Gaussian(),
            {"shape": (0, 3)},
            "shape=(0, 3): write the grid, and last channels or books; all at least 1",
        ),
        (
            Gaussian(),
            {"shape": (4, 3), "codes": 5},
            "codes=5, but Gaussian is a process of latents; write one of codes such as "
            "Masking(), or leave codes out",
        ),
        (
            Masking(),
            {"shape": (4, 1), "codes": 5, "patch": 2},
            "patch=2: every place of codes is a token; write 1",
        ),
        (
            Masking(),
            {"tokenizer": toys.codec(), "codes": 8},
            "the tokenizer does not fit stream 'x': its vocab is 9, and 8 is written; "
            "leave shape and codes out",
        ),
        (
            Gaussian(),
            {"tokenizer": toys.codec(), "shape": (2, 2, 3)},
            "the tokenizer does not fit stream 'x': its channels is 2, and 3 is "
            "written; leave shape and codes out",
        ),
        (
            Masking(),
            {"tokenizer": toys.codec(), "shape": (4, 1)},
            "the tokenizer does not fit stream 'x': its grid is (2, 2), and (4,) is "
            "written; leave shape and codes out",
        ),
    ],
)
def test_what_says_too_little_or_otherwise_is_refused(process, more, message):
    with pytest.raises(ValueError) as refusal:
        stream_of("x", process, **more)
    assert str(refusal.value) == message


def test_a_process_is_fit_for_its_stream():
    """Masking takes the stream's vocabulary, with a tokenizer and without."""
    stream = Discrete("image", (2, 2), 9)
    for tokenizers in ({}, {"image": toys.codec()}):
        assert check_stream(stream, {"image": Masking()}, tokenizers) == Masking(9)
    with pytest.raises(ValueError) as refusal:
        check_stream(stream, {"word": Masking(), "a": Masking()}, {})
    assert str(refusal.value) == (
        "stream 'image' has no process; the processes are ['a', 'word']"
    )


def test_codes_of_books_of_two_sizes_are_no_stream():
    codec = toys.codec()
    for codes in ((9, 4), ()):
        other = dataclasses.replace(codec.contract, codes=codes)
        with pytest.raises(ValueError, match=r"the tokenizer's books have .* codes: a"):
            stream_of("x", Masking(), Codec(codec.module, codec.variables, other))
