"""How much of each book the held-out codes use, and what they cost."""

import dataclasses
import math

import numpy as np

from train.evaluation.evaluator import Evaluator
from vqdit.metrics import code_counts, entropy_of, kbps, usage_of
from vqdit.trained.contract import LatentContract


@dataclasses.dataclass(frozen=True)
class CodebookUse(Evaluator):
    """Tokens and bits of an example; share of each book used, and its perplexity.

    named: figures of each book beside their mean.
    sound: (samples, their rate) of clips, whose figures are lists, a figure a book, and
        `kbps` at fixed length and `entropy_kbps` of the codes' order-0 entropy.
    """

    contract: LatentContract
    named: bool = False
    sound: tuple[int, float] | None = None

    def start(self):
        return [np.zeros(k, int) for k in self.contract.codes]

    def sums(self, batch):
        books = np.moveaxis(batch["codes"], -1, 0)
        return [
            code_counts(codes, k)
            for codes, k in zip(books, self.contract.codes, strict=True)
        ]

    def finish(self, sums):
        tokens, bits = math.prod(self.contract.code_grid), self.contract.bits
        entropies = [entropy_of(counts) for counts in sums]
        books = {
            "usage": [usage_of(counts) for counts in sums],
            "perplexity": [2.0**entropy for entropy in entropies],
        }
        if self.sound:
            return books | {
                "tokens": tokens * len(entropies),
                "bits_per_example": bits,
                "kbps": kbps(bits, *self.sound),
                "entropy_kbps": kbps(tokens * sum(entropies), *self.sound),
            }
        found = {"tokens": tokens, "bits_per_example": bits}
        if self.named:
            for name, each in books.items():
                found |= {f"{name}_{i}": value for i, value in enumerate(each)}
        return found | {name: float(np.mean(each)) for name, each in books.items()}
