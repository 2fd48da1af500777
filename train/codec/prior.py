"""How often a tokenizer's codes occur: the order-0 model that lies beside its bundle.

All that a decoder depends on is integers: counts are stored, and frequencies made from
them by integer arithmetic, so that every machine has the same model bit for bit.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from train.errors import BadInput, briefly
from train.modalities.files.arrays import arrays_in, npz
from train.modalities.files.writing import write_bytes
from vqdit.shapes import Int
from vqdit.trained.contract import LatentContract

FILE = "prior.npz"
# Frequencies are of 2**24, the precision of the coder's own models.
BITS = 24
TOTAL = 1 << BITS
# More codes than this leave too little of TOTAL to the ones that matter.
MOST_CODES = 1 << 20
# Places times codes of a book beyond which only one table for all places is kept.
MOST_CELLS = 1 << 22
# How many observations the table of all places is worth at one place.
STRENGTHS = tuple(1 << power for power in range(2, 17, 2))
# Codes that are counted, which a table's sums hold with BITS more.
MOST_BITS = 36
SLACK = 2**16  # bytes of a file beside the counts
# A table a place has to save this share of the bits; less is chance.
LEAST_GAIN = 1e-3


def frequencies(weights: Int[np.ndarray, "*rows k"]) -> Int[np.ndarray, "*rows k"]:
    """Whole numbers of at least 1 that sum to TOTAL, in proportion to the weights.

    weights: at least 0, not all 0 in a row, rows summing to less than 2**62.
    """
    k = weights.shape[-1]
    total = weights.sum(-1, keepdims=True)
    # The product with TOTAL has to fit 63 bits.
    shift = max(0, int(total.max()).bit_length() - (62 - BITS))
    weights = weights >> shift
    total = weights.sum(-1, keepdims=True)
    found = 1 + weights * (TOTAL - k) // total
    spare = TOTAL - found.sum(-1, keepdims=True)
    largest = found.argmax(-1)[..., None]
    rest = np.take_along_axis(found, largest, -1) + spare
    np.put_along_axis(found, largest, rest, -1)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """Counts of codes over a training set.

    fingerprint: of the tokenizer, as in its contract.
    counts:      per book, (places, k) int64; places is the number of sites of the code
        grid, or 1 where one table serves all.
    strength:    per book, how many observations its table of all places counts for at
        one place.
    """

    fingerprint: str
    counts: tuple[np.ndarray, ...]
    strength: tuple[int, ...]

    @functools.cached_property
    def pooled(self) -> tuple[Int[np.ndarray, "k"], ...]:
        """Per book, frequencies over all places; every count has a half added."""
        return tuple(frequencies(2 * c.sum(0) + 1) for c in self.counts)

    @functools.cached_property
    def placed(self) -> tuple[Int[np.ndarray, "places k"], ...]:
        """Per book, frequencies at every place."""
        return tuple(
            frequencies((c << BITS) + strength * pooled)
            for c, strength, pooled in zip(
                self.counts, self.strength, self.pooled, strict=True
            )
        )

    @functools.cached_property
    def name(self) -> bytes:
        """Four bytes that a file coded under this prior carries."""
        digest = hashlib.blake2b(self.fingerprint.encode(), digest_size=4)
        for counts, strength in zip(self.counts, self.strength, strict=True):
            digest.update(np.array([*counts.shape, strength], "<i8").tobytes())
            digest.update(counts.astype("<i8").tobytes())
        return digest.digest()


def count_codes(
    parts: Iterable[Int[np.ndarray, "n *grid m"]],
    code_counts: tuple[int, ...],
    fingerprint: str,
) -> Prior:
    """Counts the codes of a training set, handed in part by part.

    How far a place's own counts are trusted is chosen per book by coding each half of
    the examples (every second one) under the other's counts; where no such table codes
    them shorter than the one for all places, that one alone is kept.
    """
    halves, seen = None, 0
    for codes in parts:
        codes = np.asarray(codes)
        codes = codes.reshape(len(codes), -1, codes.shape[-1])
        sites = codes.shape[1]
        if halves is None:
            halves = [
                np.zeros((2, sites if sites * k <= MOST_CELLS else 1, k), np.int64)
                for k in code_counts
            ]
        half = (seen + np.arange(len(codes)))[:, None] % 2
        for book, counts in enumerate(halves):
            place = np.arange(sites if counts.shape[1] > 1 else 1)[None]
            np.add.at(counts, (half, place, codes[..., book]), 1)
        seen += len(codes)
    if halves is None:
        raise ValueError("there are no codes to count")
    kept, strengths = [], []
    for counts in halves:
        strength = _best_strength(counts)
        counts = counts.sum(0)
        kept.append(counts if strength else counts.sum(0, keepdims=True))
        strengths.append(strength or STRENGTHS[-1])
    return Prior(fingerprint, tuple(kept), tuple(strengths))


def _best_strength(halves: np.ndarray) -> int:
    """Of STRENGTHS, or 0 where the places share one table better."""
    if halves.shape[1] == 1:
        return 0
    costs = dict.fromkeys((0, *STRENGTHS), 0.0)
    for mine, other in (halves, halves[::-1]):
        pooled = 2.0 * mine.sum(0) + 1
        pooled /= pooled.sum()
        place, code = np.nonzero(other)
        times, seen = other[place, code], mine.sum(1)[place]
        for strength in costs:
            p = pooled[code]
            if strength:
                p = (mine[place, code] + strength * p) / (seen + strength)
            costs[strength] -= float((times * np.log2(p)).sum())
    best = min(costs, key=lambda strength: costs[strength])
    return best if costs[best] < (1 - LEAST_GAIN) * costs[0] else 0


def write_prior(folder: str | os.PathLike, prior: Prior) -> None:
    """Writes FILE into a bundle's folder, whole or not at all."""
    arrays = {f"book_{i}": counts for i, counts in enumerate(prior.counts)}
    mark = np.frombuffer(prior.fingerprint.encode(), np.uint8)
    file = npz(fingerprint=mark, strength=np.array(prior.strength), **arrays)
    write_bytes(Path(folder) / FILE, file)


def read_prior(folder: str | os.PathLike, contract: LatentContract) -> Prior | None:
    """The prior in a bundle's folder; None where there is none.

    Raises BadInput for a file that is no prior, or another tokenizer's.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return None
    sites = int(np.prod(contract.code_grid))
    most = SLACK + 8 * sum(max(k, min(sites * k, MOST_CELLS)) for k in contract.codes)
    try:
        with arrays_in(path) as found:
            if sum(each.size() for each in found.values()) > most:
                raise ValueError("it is too large for the bundle's codes")
            arrays = {name: each.read() for name, each in found.items()}
        fingerprint = arrays["fingerprint"].tobytes().decode()
        strength = tuple(arrays["strength"].ravel().tolist())
        books = [arrays[f"book_{i}"] for i in range(len(strength))]
        kinds = {each.dtype.kind for each in (arrays["strength"], *books)}
        if not kinds <= {"i", "u"}:
            raise ValueError("its counts are not whole numbers")
        counts = tuple(each.astype(np.int64) for each in books)
    except Exception as error:  # zip, zlib and NumPy each have their own
        line = briefly(error)
        raise BadInput(f"{path} is no model of codes: {line}; fit it again") from error
    if fingerprint != contract.fingerprint:
        raise BadInput(
            f"{path} was fitted for another tokenizer ({fingerprint[:8]}, the bundle's "
            f"is {contract.fingerprint[:8]}); fit it again with --fit --force"
        )
    fits = len(counts) == len(contract.codes) and all(
        c.ndim == 2
        and c.shape[0] in (1, sites)
        and c.shape[1] == k
        and c.min() >= 0
        and c.sum(dtype=float) < 2**MOST_BITS
        for c, k in zip(counts, contract.codes, strict=True)
    )
    if not fits or not set(strength) <= set(STRENGTHS):
        raise BadInput(
            f"{path} does not fit the bundle's codes; fit it again with --fit --force"
        )
    return Prior(fingerprint, counts, strength)
