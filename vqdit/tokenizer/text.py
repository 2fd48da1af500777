"""Text as codes: bytes, or byte pairs learned from a corpus. No network.

Both are lossless for every str, lone surrogates too, and fill what is left of `length`
with a padding code, which no text contains.
"""

import dataclasses
import functools
import importlib
import json
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from vqdit.fields import Count, Natural
from vqdit.shapes import AnyArray, Bool, Int
from vqdit.tokenizer.value import Value, known_codes


class Text(Value):
    """What both have: `length` and `specials`, and how codes and pieces are matched.

    Codes: those of `pieces`, then padding, then one for each special.
    """

    source: ClassVar[str] = "caption"

    length: int
    specials: tuple[str, ...]

    def __post_init__(self):
        super().__post_init__()
        once = len(set(self.specials)) == len(self.specials)
        self.check("specials", once, "write each name once")

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every code that stands for text."""
        raise NotImplementedError

    def split(self, text: str) -> list[int]:
        """The codes of one text, of any length."""
        raise NotImplementedError

    @property
    def padding(self) -> int:
        """The code that follows a text's last."""
        return len(self.pieces)

    @property
    def code_count(self) -> int:
        """Codes in all."""
        return len(self.pieces) + 1 + len(self.specials)

    def code(self, special: str) -> int:
        """The code of a special. Raises ValueError where none has the name."""
        if special not in self.specials:
            names = ", ".join(self.specials) or "none"
            raise ValueError(f"there is no special {special!r}; there are: {names}")
        return self.padding + 1 + self.specials.index(special)

    def encode(
        self,
        texts: Sequence[str | None],
        *,
        first: Sequence[str] = (),
        truncate: bool = False,
    ) -> Int[np.ndarray, "b length"]:
        """Texts -> codes (b, length) int32, each behind the specials named in `first`.

        truncate: drops the codes for which there is no room; otherwise a text that is
        too long raises ValueError.
        """
        if isinstance(texts, str):
            raise ValueError(f"encode takes a list of texts; write [{texts[:20]!r}]")
        start = [self.code(name) for name in first]
        every = [start + self.split("" if t is None else t) for t in texts]
        counts = list(map(len, every))
        # Of several the longest, so that what is advised does for all of them.
        if max(counts, default=0) > self.length and not truncate:
            text = texts[counts.index(max(counts))] or ""
            shown = text if len(text) <= 20 else text[:20] + "..."
            raise ValueError(
                f"the text {shown!r} takes {max(counts)} codes, and there is room for "
                f"{self.length}; write length={max(counts)} or more, or a shorter text"
            )
        out = np.full((len(texts), self.length), self.padding, np.int32)
        for row, codes in zip(out, every, strict=True):
            row[: len(codes)] = codes[: self.length]
        return out

    def cut(self, text: str) -> str:
        """Its beginning, of whole characters, for which there is room."""
        room = sum(len(self.pieces[code]) for code in self.split(text)[: self.length])
        ends = np.cumsum([len(_bytes(character)) for character in text])
        return text[: np.searchsorted(ends, room, side="right")]

    def most_codes(self, values: Sequence[str | None]) -> Int[np.ndarray, "b"]:
        """Its bytes: each is of one code."""
        return np.array([len(_bytes(text or "")) for text in values], int)

    def known(self, values: Sequence[str | None]) -> Bool[np.ndarray, "b"]:
        """An empty text is none."""
        return np.array([bool(text) for text in values], bool)

    def said(self, values: Sequence[str]) -> list[str]:
        return [" ".join(text.splitlines()) for text in values]

    def decode(self, codes: Int[AnyArray, "b n"]) -> list[str]:
        """Codes -> texts: up to the first padding, specials left out.

        Bytes that are no UTF-8, as in a character cut in two or in what a model has
        made up, become U+FFFD. Raises ValueError for a code that there is not.
        """
        return [self._text(row) for row in known_codes(codes, self.code_count)]

    def _text(self, row):
        pieces, padding = self.pieces, self.padding
        end = np.flatnonzero(row == padding)
        row = row[: end[0]] if len(end) else row
        data = b"".join(pieces[code] for code in row[row < padding].tolist())
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return data.decode("utf-8", "replace")


@dataclasses.dataclass(frozen=True)
class Bytes(Text):
    """Every str as its UTF-8 bytes, codes 0 to 255.

    length:   of a text in codes; shorter ones are padded.
    specials: names of extra codes, such as a task's, for `encode(..., first=)`.
    """

    length: Count
    specials: tuple[str, ...] = ()

    @property
    def pieces(self) -> tuple[bytes, ...]:
        return BYTES

    def split(self, text: str) -> list[int]:
        return list(_bytes(text))


@dataclasses.dataclass(frozen=True)
class BPE(Text):
    """Byte-pair encoding (arXiv:1508.07909) over UTF-8 bytes, as GPT-2 has it.

    model:    JSON of the `tokenizers` library, made by `BPE.train`; a value like any
        other field, so that a bundle's config.json holds it. "" leaves it to the texts
        of the training part (see `settle`).
    length, specials: as in Bytes.
    words:    pieces that are learned there, 256 or more.

    The library is shown a byte as the character of that number: an alphabet of 256
    letters, all of them known from the start. A merge stays inside a word, with the
    space before it; words end at ASCII's white space, and at no other.
    """

    left: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    length: Count
    specials: tuple[str, ...] = ()
    words: Natural = 0

    def __post_init__(self):
        super().__post_init__()
        known = self.model or self.words >= len(BYTES)
        advice = "write words=512, of which 256 are the bytes, or a model"
        self.check("words", known, advice)

    @property
    def settled(self) -> bool:
        return bool(self.model)

    def settle(self, values: Sequence[str | None]) -> "BPE":
        """With the pieces that the texts give."""
        if self.settled:
            return self
        texts = (text for text in values if text)
        learned = BPE.train(texts, self.words, self.length)
        return dataclasses.replace(self, model=learned.model)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        words: int,
        length: int,
        specials: tuple[str, ...] = (),
    ) -> "BPE":
        """Learns `words` pieces, or as many as the corpus gives. Raises ValueError for
        fewer than the 256 bytes."""
        if words < 256:
            raise ValueError(f"BPE.train: words={words}; write at least 256, the bytes")
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.Split(
            # Not by \s: it has the bytes 85 and A0, which end characters such as à.
            library.Regex(r" ?[^\t-\r ]+|[\t-\r ]+"),
            "isolated",
        )
        trainer = library.trainers.BpeTrainer(
            vocab_size=words,
            initial_alphabet=list(map(_letters, BYTES)),
            special_tokens=[],
            show_progress=False,
        )
        letters = (_letters(_bytes(text)) for text in texts)
        tokenizer.train_from_iterator(letters, trainer)
        return cls(tokenizer.to_str(), length, specials)

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every code; the first 256 are single ones."""
        return _pieces(self._learned)

    @property
    def _learned(self) -> str:
        if not self.settled:
            raise ValueError("BPE.model is not known before `settle` or `BPE.train`")
        return self.model

    @property
    def code_count(self) -> int:
        """Codes in all; before they are known, as many as there are at most."""
        if self.settled:
            return super().code_count
        return self.words + 1 + len(self.specials)

    def split(self, text: str) -> list[int]:
        """Merges applied in the order in which they were learned."""
        return _model(self._learned).encode(_letters(_bytes(text))).ids


BYTES = tuple(bytes([number]) for number in range(256))


def _bytes(text):
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text; write a str")
    # Half of a surrogate pair is a str to Python, though it is not to UTF-8.
    return text.encode("utf-8", "surrogatepass")


def _letters(data):
    return data.decode("latin-1")


def _library():
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise ValueError(
            "BPE needs the tokenizers library; pip install tokenizers"
        ) from error


@functools.lru_cache(maxsize=8)
def _model(text):
    try:
        return _library().Tokenizer.from_str(text)
    except Exception as error:  # the library has no narrower kind
        raise ValueError(f"BPE.model is no JSON of tokenizers: {error}") from error


@functools.lru_cache(maxsize=8)
def _pieces(text):
    vocabulary = json.loads(text)["model"]["vocab"]
    return tuple(
        piece.encode("latin-1") for piece in sorted(vocabulary, key=vocabulary.get)
    )
