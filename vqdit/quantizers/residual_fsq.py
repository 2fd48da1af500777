"""Residual FSQ: every book cuts the cell of the book before it (arXiv:2309.15505)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Count
from vqdit.quantizers.codebook.book import Quantizer
from vqdit.quantizers.codebook.estimators import Estimator, estimate
from vqdit.quantizers.codebook.health import UsageWindow, Window, over_books, window_of
from vqdit.quantizers.fsq import Levels, digits_of, radix_number
from vqdit.quantizers.quantized import Quantized
from vqdit.shapes import Array, Float, Int


class ResidualFSQ(Quantizer):
    """`count` books of the same levels; m of them are levels^m equal cells of [-1, 1].

    tanh(z) is cut into levels[i] cells in channel i, each of those into as many by the
    next book, and so on; a code says which cell, first channel fastest, and any prefix
    of the books decodes to the middle of the cells so far.

    Departs from FSQ, whose outermost levels lie on the bound: half of their cells is
    out of reach, and a next book would waste half of its codes there. Residuals scaled
    to the cell are vector-quantize-pytorch's; the paper has one book.

    levels: values of each channel in one book, such as (4, 4, 4).
    count: books.
    window: codes of training that usage is counted over; None for 65,536, or more
        where the codes are many.
    estimator: how the gradient passes the choice of a code, see `codebook.estimators`.
    """

    levels: Levels
    count: Count
    window: Window | None = None
    estimator: Estimator = "straight_through"

    def __post_init__(self):
        super().__post_init__()
        fine = max(self.levels) ** self.count
        advice = f"cells of 1 / {fine} are finer than float32; write fewer books"
        self.check("count", fine <= 2**22, advice)

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def code_counts(self) -> tuple[int, ...]:
        return (math.prod(self.levels),) * self.count

    def setup(self):
        self.usage = [
            UsageWindow(n, window_of(n, self.window)) for n in self.code_counts
        ]

    def decode(self, codes: Int[Array, "*b m"]) -> Float[Array, "*b d"]:
        """Codes of the first m books -> latents, float32; ValueError for no such m."""
        books = codes.shape[-1]
        if not 1 <= books <= self.count:
            raise ValueError(
                f"codes are {codes.shape}: the last axis has 1 to {self.count} books"
            )
        levels = np.array(self.levels)
        cell: Any = 0  # a whole number, so that no program rounds otherwise
        for i in range(books):
            cell = cell * levels + digits_of(codes[..., i], self.levels)
        cells = levels**books
        return (2 * cell + 1 - cells).astype(jnp.float32) / cells.astype(np.float32)

    def quantized(self, z: Array, train: bool, key: Any) -> Quantized:
        del key
        levels = np.array(self.levels)
        u = jnp.tanh(z)
        cells = levels**self.count
        cell = jnp.floor((jax.lax.stop_gradient(u) + 1) * (cells / 2))
        cell = jnp.clip(cell.astype(jnp.int32), 0, cells - 1)
        digits = [cell // levels**i % levels for i in reversed(range(self.count))]
        codes = jnp.stack([radix_number(digit, self.levels) for digit in digits], -1)
        latents = self.decode(codes)
        if train:
            latents = estimate(self.estimator, u, latents)
        metrics = [
            usage.observe(codes[..., i].reshape(-1), train)
            for i, usage in enumerate(self.usage)
        ]
        return Quantized(latents, codes, {}, over_books(metrics))
