"""What a model of text has to beat: n-grams with back-off, and compressors."""

import collections
import functools
import gzip
import lzma
import math
from collections.abc import Iterable, Sequence

import numpy as np

from train.errors import BadInput
from train.pipeline import JointExamples
from vqdit.shapes import Float, Int

ORDER = 5  # bytes of a gram, the one that is predicted included
CHUNK = 256  # examples read at a time
START, END = 256, 257  # before the first byte, which is never predicted, and behind all


class NGrams:
    """Interpolated Kneser-Ney over bytes and the end of a text.

    Chen and Goodman 1999, section 2.8, with one discount a length of gram, n1 / (n1 +
    2 n2) of the numbers of grams seen once and twice, each of these with a half more so
    that none is 0 or 1. Below grams of one byte stand all 257 symbols alike.

    texts: what it is fitted to. order: of the longest gram; of the first bytes of a
    text a gram begins with its start.
    """

    def __init__(self, texts: Iterable[bytes], order: int = ORDER):
        self.order = order
        grams: list[collections.Counter] = [collections.Counter() for _ in range(order)]
        for text in texts:
            for gram in self._grams(text):
                grams[len(gram) - 1][gram] += 1
        for longer in range(order - 1, 0, -1):
            # A shorter one counts by how many different symbols stand before it.
            grams[longer - 1].update(gram[1:] for gram in grams[longer])
        self._discounts = [_discount(counts.values()) for counts in grams]
        self._after: dict[tuple[int, ...], dict[int, int]] = {}
        for counts in grams:
            for gram, count in counts.items():
                self._after.setdefault(gram[:-1], {})[gram[-1]] = count

    def probabilities(self, before: tuple[int, ...]) -> Float[np.ndarray, "258"]:
        """Of the symbol that follows these; START, which never does, has 0."""
        found = np.full(END + 1, 1 / END)
        found[START] = 0
        for length in range(min(len(before), self.order - 1) + 1):
            after = self._after.get(before[len(before) - length :])
            if after is None:
                continue
            symbols, counts = map(np.array, (list(after), list(after.values())))
            discount, total = self._discounts[length], counts.sum()
            found = found * (discount * len(counts) / total)
            found[symbols] += (counts - discount) / total
        return found

    def nats(self, text: bytes) -> float:
        """-log p of the text and of its end."""
        return -sum(
            math.log(self.probabilities(gram[:-1])[gram[-1]])
            for gram in self._grams(text)
        )

    def _grams(self, text: bytes) -> Iterable[tuple[int, ...]]:
        symbols = (START, *text, END)
        for end in range(2, len(symbols) + 1):
            yield symbols[max(0, end - self.order) : end]


def _discount(counts: Iterable[int]) -> float:
    found = collections.Counter(counts)
    once, twice = found[1] + 0.5, found[2] + 0.5
    return once / (once + 2 * twice)


def texts_of(
    data: JointExamples, stream: str, rows: Int[np.ndarray, "n"] | None = None
) -> list[bytes]:
    """The texts of a stream born discrete, as UTF-8; of all rows where none are named.
    Nothing, where an example has none."""
    tokenizer, found = data.values[stream], []
    rows = np.arange(len(data)) if rows is None else rows
    for start in range(0, len(rows), CHUNK):
        codes = data.take(rows[start : start + CHUNK])["streams"][stream]
        texts = tokenizer.decode(codes[..., 0])
        found += [text.encode("utf-8", "surrogatepass") for text in texts]
    return found


COMPRESSORS = {
    "gzip": functools.partial(gzip.compress, compresslevel=9, mtime=0),
    "xz": functools.partial(lzma.compress, preset=9 | lzma.PRESET_EXTREME),
}


def bits_per_byte(train: Sequence[bytes], held: Sequence[bytes]) -> dict[str, float]:
    """What held-out texts cost in bits, ends included, over their own bytes. Those that
    are empty are left out, as examples without a text.

    "5-gram": fitted to the training texts. "gzip", "xz": what the held-out texts, a
    line each, add to the compressed training ones; gzip sees the last 32 KiB of them.
    """
    train, held = ([text for text in part if text] for part in (train, held))
    size = sum(map(len, held))
    if not held:
        return {}
    if not train:
        raise BadInput("--baselines: the training part has no texts; drop it")
    model = NGrams(train)
    found = {f"{ORDER}-gram": sum(map(model.nats, held)) / math.log(2) / size}
    lines = [b"".join(text + b"\n" for text in part) for part in (train, held)]
    for name, compress in COMPRESSORS.items():
        added = len(compress(lines[0] + lines[1])) - len(compress(lines[0]))
        found[name] = 8 * added / size
    return found
