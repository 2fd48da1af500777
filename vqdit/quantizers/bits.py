"""Codes whose digits are signs, shared by LFQ and BSQ."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Bound, Count, NonNegative, Positive
from vqdit.quantizers.codebook.book import Book
from vqdit.quantizers.codebook.entropy import bit_entropy
from vqdit.quantizers.codebook.estimators import Estimator
from vqdit.quantizers.codebook.health import MOST_CODES, Window
from vqdit.quantizers.quantized import mean_square
from vqdit.shapes import Array, Float, Int

MOST = MOST_CODES.bit_length() - 1  # bits of a code: usage is counted for each


class Bits(Book):
    """A subclass has the property `size`, of a codeword in every channel.

    bits: channels, a sign each.
    sample_entropy, codebook_entropy: factors, in the loss "entropy", of the mean of the
        entropies and of the entropy of the mean. Published weights differ: gamma of
        BSQ's eq. 9, and the diversity weight of LFQ's code.
    """

    bits: Count
    entropy: bool = True
    temperature: Positive = 1.0
    group: Annotated[int, Bound(at_least=1, at_most=16)] = 9
    window: Window | None = None
    estimator: Estimator = "straight_through"
    sample_entropy: NonNegative = 1.0
    codebook_entropy: NonNegative = 1.0

    def __post_init__(self):
        super().__post_init__()
        more = f"GroupedQuantizer({type(self).__name__}(bits), count)"
        advice = f"write at most {MOST}; more are several books, {more}"
        self.check("bits", self.bits <= MOST, advice)

    @property
    def dim(self) -> int:
        return self.bits

    @property
    def num_codes(self) -> int:
        return 2**self.bits

    @property
    def grouped(self) -> bool:
        """Whether the entropy of the mean is a sum over groups of bits."""
        return self.entropy and self.bits > self.group

    @property
    def shrink(self) -> float:
        """Of halves, as binary digits: a residual's signs say less and less."""
        return 0.5

    def search(self, u: Float[Array, "n d"]) -> Int[Array, "n"]:
        """Bit i of the code is whether channel i is at least 0."""
        return ((u >= 0) * self._basis()).sum(-1).astype(jnp.int32)

    def look_up(self, index: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        """Signs, of the codewords' size."""
        signs = 2.0 * (index[..., None] // self._basis() % 2) - 1.0
        return signs.astype(jnp.float32) * np.float32(self.size)

    def pull(self, u: Array, q: Array) -> dict[str, Array]:
        return {"commit": mean_square(u, jax.lax.stop_gradient(q))}

    def penalties(self, u: Array, q: Array) -> dict[str, Array]:
        if not self.entropy:
            return {}
        how = self.temperature, self.group, self.sample_entropy, self.codebook_entropy
        return {"entropy": bit_entropy(u / self.size, *how)}

    def _basis(self):
        return 2 ** np.arange(self.bits, dtype=np.int32)
