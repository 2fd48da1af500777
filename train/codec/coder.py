"""Codes to bytes and back, by a range coder under order-0 models.

The coder is `constriction`'s. Its models are made from whole numbers (see
`train.codec.prior.frequencies`) that double precision holds exactly, so nothing that
encoder and decoder must agree on depends on how a machine rounds.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import constriction
import numpy as np

from train.codec.prior import BITS, TOTAL, Prior, frequencies
from vqdit.metrics import entropy_bits
from vqdit.shapes import Int

# The models a payload may be coded under.
FIXED, ADAPTIVE, POOLED, PLACED, TUNED = range(5)
NAMES = ("fixed", "adaptive", "pooled", "placed", "tuned")
# Powers of two that an adaptive model's start may count for, in codes seen.
POWERS = (3, 6, 9, 12, 15)
# An adaptive model is renewed after this many codes, and later after an eighth of those
# seen: a few hundred models for any length, at a cost of well under a percent.
RENEW = 16
# Payloads up to this many bytes are cut to the shortest that decodes the same.
SHORT = 4096


@dataclasses.dataclass(frozen=True)
class Coder:
    """The model of a file's codes.

    FIXED: every code at log2(k) bits. ADAPTIVE: frequencies of the codes before,
    starting from equal ones as if 2**power codes had been seen. Under a prior: POOLED,
    its frequencies over all places; PLACED, those at each place; TUNED, adaptive from
    the pooled ones.
    """

    model: int = FIXED
    power: int = 0

    @property
    def needs_prior(self) -> bool:
        """Whether a payload can only be read with a prior."""
        return self.model in (POOLED, PLACED, TUNED)

    @property
    def name(self) -> str:
        return NAMES[self.model]


@dataclasses.dataclass(frozen=True, eq=False)
class Alphabet:
    """What codes a payload may have, and how often they occur.

    code_counts: of each book. prior: may know more books; None where nothing is known.
    """

    code_counts: tuple[int, ...]
    prior: Prior | None = None

    def encode(self, codes: Int[np.ndarray, "tiles places m"], coder: Coder) -> bytes:
        """The payload; `decode` by the same coder gives the codes back."""
        encoder = constriction.stream.queue.RangeEncoder()
        for table, part in self._parts(self._books(codes), coder):
            encoder.encode(np.ascontiguousarray(part), _model(table))
        payload = encoder.get_compressed().astype(">u4").tobytes()
        if len(payload) > SHORT:
            return payload
        return self._shortest(payload, codes, coder)

    def decode(
        self, payload: bytes, tiles: int, places: int, coder: Coder
    ) -> Int[np.ndarray, "tiles places m"]:
        """The codes of a payload. Raises ValueError where it cannot be one.

        Most damage only gives other codes: a file needs a checksum beside its payload.
        """
        whole = payload + bytes(-len(payload) % 4)
        words = np.frombuffer(whole, ">u4").astype(np.uint32)
        decoder = constriction.stream.queue.RangeDecoder(words)
        books = np.zeros((len(self.code_counts), tiles, places), np.int32)
        try:
            for table, part in self._parts(books, coder):
                part[...] = decoder.decode(_model(table), part.size)
        except AssertionError as error:  # constriction's word for impossible data
            raise ValueError("the payload is damaged") from error
        return np.moveaxis(books, 0, -1)

    def best_coder(self, codes: Int[np.ndarray, "tiles places m"]) -> Coder:
        """The coder under which a file of these codes is shortest."""
        coders = [Coder(FIXED), *(Coder(ADAPTIVE, power) for power in POWERS)]
        if self.prior is not None:
            coders += [Coder(POOLED), *(Coder(TUNED, power) for power in POWERS)]
            counts = self.prior.counts[: len(self.code_counts)]
            if {len(each) for each in counts} <= {1, codes.shape[1]}:
                coders.append(Coder(PLACED))
        # A file also names the prior that it needs.
        bits = lambda coder: self.cost(codes, coder) + 32 * coder.needs_prior
        return min(coders, key=bits)

    def cost(self, codes: Int[np.ndarray, "tiles places m"], coder: Coder) -> float:
        """Bits of the codes under the coder's model; a payload is this and at most a
        word.

        Under the prior's models this is their cross-entropy with it.
        """
        bits = 0.0
        for table, part in self._parts(self._books(codes), coder):
            if isinstance(table, int):
                bits += part.size * math.log2(table)
            else:
                bits += part.size * BITS - float(np.log2(table[part]).sum())
        return bits

    def order_0_bits(self, codes: Int[np.ndarray, "*window m"]) -> float:
        """Empirical order-0 entropy of the codes themselves, in bits in all.

        Each book by its own frequencies, which a decoder does not know: a bound that no
        coder reaches when there are few codes for a book's size.
        """
        return sum(
            codes[..., book].size * entropy_bits(codes[..., book], k)
            for book, k in enumerate(self.code_counts)
        )

    def _parts(
        self, books: Int[np.ndarray, "m tiles places"], coder: Coder
    ) -> Iterator[tuple[np.ndarray | int, np.ndarray]]:
        """(frequencies (k,), or k where all are equal; codes under them), in the order
        of the payload.

        A part is a view of the books: who decodes fills it in before the next is asked
        for, whose frequencies may depend on it.
        """
        tables: Any = self.prior
        if coder.needs_prior and tables is None:
            raise ValueError(f"the {coder.name} coder needs a prior")
        for book, (codes, k) in enumerate(zip(books, self.code_counts, strict=True)):
            if k < 2 or not codes.size:
                continue  # nothing to tell
            flat = codes.reshape(-1)
            if coder.model == FIXED:
                yield k, flat
            elif coder.model == POOLED:
                yield tables.pooled[book], flat
            elif coder.model == PLACED:
                placed = tables.placed[book]
                columns = codes.T if len(placed) > 1 else [flat]
                yield from zip(placed, columns, strict=True)
            else:
                equal = np.full(k, TOTAL // k, np.int64)
                start = tables.pooled[book] if coder.model == TUNED else equal
                yield from _adapting(flat, start << coder.power)

    def _books(self, codes: np.ndarray) -> Int[np.ndarray, "m tiles places"]:
        """Codes that are known to be of this alphabet, each book contiguous."""
        if codes.ndim != 3 or codes.shape[-1] != len(self.code_counts):
            raise ValueError(
                f"codes are (tiles, places, {len(self.code_counts)}); got {codes.shape}"
            )
        books = np.ascontiguousarray(np.moveaxis(codes, -1, 0), np.int32)
        for book, k in zip(books, self.code_counts, strict=True):
            if book.size and (book.min() < 0 or book.max() >= k):
                raise ValueError(f"codes outside [0, {k})")
        return books

    def _shortest(self, payload: bytes, codes: np.ndarray, coder: Coder) -> bytes:
        """The payload without the last bytes that it does not need.

        The coder ends on a whole word, and any number inside its last interval decodes
        the same: the one with the most zero bytes at the end, which are then left out.
        """
        number, (tiles, places) = int.from_bytes(payload), codes.shape[:2]
        for cut in range(min(7, len(payload)), 0, -1):
            low = number >> (8 * cut)
            for short in (low, low + 1):
                if short.bit_length() > 8 * (len(payload) - cut):
                    continue
                found = short.to_bytes(len(payload) - cut)
                try:
                    back = self.decode(found, tiles, places, coder)
                except ValueError:
                    continue
                if np.array_equal(back, codes):
                    return found
        return payload


def _adapting(codes: np.ndarray, start: np.ndarray):
    """Parts of a book, each under the frequencies of those before."""
    counts = np.zeros_like(start)
    done = 0
    while done < len(codes):
        part = codes[done : done + max(RENEW, done // 8)]
        yield frequencies(start + (counts << BITS)), part
        counts += np.bincount(part, minlength=len(counts))
        done += len(part)


def _model(table: np.ndarray | int):
    models = constriction.stream.model
    if isinstance(table, int):
        return models.Uniform(table)
    return models.Categorical(table.astype(np.float64), perfect=False)
