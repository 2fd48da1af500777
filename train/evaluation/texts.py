"""Texts and labels that were drawn, against those of the data."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from train.evaluation.evaluator import Evaluator, Several, evaluated, examples
from train.evaluation.likeness import NEIGHBOURS
from train.evaluation.means import Mean
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.runtime import hosts
from vqdit.shapes import Float, Int

PAIRS = 2**16  # bins of pairs of neighbouring characters
ENDS = "\x02", "\x03"  # before the first character, and after the last
# Texts whose nearest training text is looked for, and among how many of these.
EDITED, AGAINST = 100, 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Wording(Evaluator):
    """How texts, the entry `of`, are worded.

    pair_bits:      Jensen-Shannon divergence of their pairs of neighbouring characters
        from those of a reference, in bits: 0 for the same shares, 1 for nothing alike.
    copied_share:   of texts that are some training text, letter by letter.
    distinct_share: of different ones among as many as are `kept`.

    known: marks of the training texts, without which the last two are left out: labels
    are all of them copies.
    """

    of: str
    reference: Float[np.ndarray, "pairs"] | None = None
    known: Int[np.ndarray, "n"] | None = None
    kept: int = 0
    prefix: str = ""

    def start(self):
        sums = {"pairs": np.zeros(PAIRS, int), "marks": np.zeros(self.kept, int)}
        return sums | dict.fromkeys(("copied", "count"), np.zeros((), int))

    def sums(self, batch):
        texts, sums = [str(each) for each in batch[self.of]], self.start()
        found = [pair for text in texts for pair in _pairs(text)]
        sums["pairs"] = np.bincount(found, minlength=PAIRS)
        if self.known is not None:
            marks, stays = np.array(list(map(_mark, texts))), batch["index"] < self.kept
            sums["marks"][batch["index"][stays]] = marks[stays]
            sums["copied"] = np.isin(marks, self.known).sum()
        return sums | {"count": np.asarray(len(texts))}

    def finish(self, sums):
        shares = sums["pairs"] / max(1, sums["pairs"].sum())
        if self.reference is None:
            return {"pairs": shares}
        found = {"pair_bits": divergence(shares, self.reference)}
        if self.known is not None:
            found["copied_share"] = float(sums["copied"] / max(1, sums["count"]))
            n = min(self.kept, int(sums["count"]))
            found["distinct_share"] = len(np.unique(sums["marks"][:n])) / max(1, n)
        return {f"{self.prefix}{name}": value for name, value in found.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class TextReference:
    """What texts that were drawn are compared with: the pairs of the held-out ones.

    source: "caption" or "label", of the examples. copies: whether captions are looked
    for among those of the training part.

    Each part is read once, when something of it is first asked for.
    """

    data: Modality
    source: str
    copies: bool = True

    @functools.cached_property
    def pairs(self) -> Float[np.ndarray, "pairs"]:
        return evaluated(Wording("x"), _said(self.data, False, self.source))["pairs"]

    @functools.cached_property
    def known(self) -> Int[np.ndarray, "n"] | None:
        if not self._copies:
            return None
        with hosts.together():
            said = _said(self.data, True, self.source)
            marks = [_mark(str(text)) for batch in said for text in batch["x"]]
        return np.unique(marks)

    @functools.cached_property
    def _training(self) -> list[str]:
        """Texts of the training part, evenly spaced where they are many."""
        rows = open_examples(self.data, True).spaced(AGAINST)
        said = _said(self.data, True, self.source, rows)
        return [str(text) for batch in said for text in batch["x"]]

    def _edits(self, of: str, prefix: str, most: int | None = EDITED) -> Mean:
        """nearest_edits: characters to change until a text is one of training, over its
        own; of the first of the texts, or of all."""

        def changed(batch: Batch) -> list[float]:
            here = slice(None) if most is None else batch["index"] < most
            chosen = [str(text) for text in batch[of][here]]
            return [edits(x, self._training).min() / max(1, len(x)) for x in chosen]

        return Mean(f"{prefix}nearest_edits", changed)

    @property
    def _copies(self) -> bool:
        return self.copies and self.source == "caption"

    def names(self, prefix: str = "") -> list[str]:
        """The figures of `evaluator`, without reading anything."""
        apart = ("copied_share", "distinct_share", "nearest_edits")
        more = apart if self._copies else ()
        return [prefix + name for name in ("pair_bits", *more)]

    def evaluator(self, count: int, of: str = "x", prefix: str = "") -> Evaluator:
        kept = min(count, NEIGHBOURS)
        found = Wording(of, self.pairs, self.known, kept, prefix)
        return Several([found, self._edits(of, prefix)]) if self._copies else found

    def figures(self, count: int, prefix: str = "") -> dict[str, Any]:
        """floor_: of `count` training texts, what perfect samples of that number would
        have. heldout_copied_share, heldout_nearest_edits: of held-out texts."""
        rows = open_examples(self.data, True).spaced(count)
        floor = Wording("x", self.pairs, prefix=f"{prefix}floor_")
        figures = evaluated(floor, _said(self.data, True, self.source, rows))
        if self.known is not None:
            name = f"{prefix}heldout_copied_share"
            held = Wording("x", self.pairs, self.known, 1)
            found = evaluated(held, _said(self.data, False, self.source))
            figures[name] = found["copied_share"]
            # Of texts spaced evenly: a file may be in order of what it is about.
            rows = open_examples(self.data, False).spaced(EDITED)
            some = _said(self.data, False, self.source, rows)
            found = evaluated(self._edits("x", f"{prefix}heldout_", None), some)
            figures |= found
        return figures


def divergence(p: Float[np.ndarray, "n"], q: Float[np.ndarray, "n"]) -> float:
    """Jensen-Shannon, in bits."""

    def entropy(x):
        x = x[x > 0]
        return -(x * np.log2(x)).sum()

    return float(max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2))


def _said(data, train, source, rows=None) -> Iterator[Batch]:
    """Texts "x" of the examples that have one; every process reads all."""
    for batch in examples(data, train, rows, divided=False, doing="reading"):
        found = batch.get(source, [None] * len(batch["valid"]))
        there = [text not in (None, "", -1) for text in found] & batch["valid"]
        yield {"x": np.asarray(found)[there], "index": batch["index"][there]}


def _pairs(text: str) -> Iterator[int]:
    whole = f"{ENDS[0]}{text}{ENDS[1]}"
    for a, b in zip(whole, whole[1:], strict=False):
        yield (ord(a) * 257 + ord(b)) % PAIRS


def _mark(text: str) -> int:
    """The same for the same text, on every machine."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest())


def edits(text: str, others: Sequence[str]) -> Int[np.ndarray, "n"]:
    """Characters to insert, delete or replace between a text and each of the others
    (Levenshtein)."""
    lengths = np.array([len(other) for other in others], int)
    width = int(lengths.max(initial=0))
    letters = np.full((len(others), width), -1)
    for row, other in zip(letters, others, strict=True):
        row[: len(other)] = list(map(ord, other))
    places = np.arange(width + 1)
    # Row i: edits between the first i letters and each beginning of the others.
    row = np.tile(places, (len(others), 1))
    for letter in map(ord, text):
        replaced = row[:, :-1] + (letters != letter)
        row = row + 1
        row[:, 1:] = np.minimum(row[:, 1:], replaced)
        # Insertions: the least of what stands before, a step each.
        row = np.minimum.accumulate(row - places, axis=1) + places
    return row[np.arange(len(others)), lengths]
