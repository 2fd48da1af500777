"""Residual FSQ: every book cuts the cell of the book before it (arXiv:2309.15505)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vqdit.quantizers.book import check_choice, check_width
from vqdit.quantizers.estimators import Estimator, estimate
from vqdit.quantizers.fsq import bound, check_levels, digits_of, number
from vqdit.quantizers.health import UsageWindow, over_books, usage_metrics
from vqdit.quantizers.quantized import Quantized


class ResidualFSQ(nn.Module):
    """`count` books of the same levels; the first is FSQ, to the bit.

    Book i > 0 cuts every channel's cell, of width w, into levels[i] equal cells of
    width w / levels[i] around the value so far, and its code says which. z is bounded
    once, at the start: a residual lies in a cell already. With odd levels m books are
    one FSQ of levels^m; even levels, whose first book is off its middle (see FSQ), are
    refined around where it put them. Any prefix of the books decodes.

    The paper has one book; that residuals are scaled to the cell is
    vector-quantize-pytorch's, whose books reuse the range of the first one.
    """

    levels: tuple[int, ...]
    count: int
    window: int = 65_536
    estimator: Estimator = "straight_through"

    def __post_init__(self):
        object.__setattr__(self, "levels", tuple(self.levels))
        check_levels(self)
        check_choice(self, "estimator", Estimator)
        if self.count < 1 or self.window < 1:
            raise ValueError(
                f"ResidualFSQ: write count and window of at least 1, not {self.count} "
                f"and {self.window}"
            )
        super().__post_init__()

    @property
    def dim(self) -> int:
        """Channels of z."""
        return len(self.levels)

    @property
    def code_counts(self) -> tuple[int, ...]:
        """Codes in each book."""
        return (math.prod(self.levels),) * self.count

    def setup(self):
        self.usage = [UsageWindow(n, self.window) for n in self.code_counts]

    def decode(self, codes: Int[Array, "*b m"]) -> Float[Array, "*b d"]:
        """Codes of the first m books -> latents, float32."""
        if not 1 <= codes.shape[-1] <= self.count:
            raise ValueError(
                f"codes are {codes.shape}: the last axis has 1 to {self.count} books"
            )
        # Steps of the finest book are whole numbers, and so is every sum of them.
        total = 0
        for i in range(codes.shape[-1]):
            total = total + self._steps(codes[..., i], i, codes.shape[-1])
        return total.astype(jnp.float32) / self._finest(codes.shape[-1])

    def __call__(
        self,
        z: Float[Array, "*b d"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> Quantized:
        """`key` is not used; nothing is drawn."""
        del key
        check_width(self, z)
        levels = np.array(self.levels)
        half = levels // 2
        u = bound(z.astype(jnp.float32), self.levels)
        # In units of the first book's steps; what is left is within half a step.
        left = jax.lax.stop_gradient(u) * half.astype(np.float32)
        codes = []
        for i in range(self.count):
            middle = half if i == 0 else (levels - 1) / 2
            digits = jnp.round(left + middle).astype(jnp.int32)
            digits = jnp.clip(digits, 0, levels - 1)
            left = (left + middle - digits) * levels.astype(np.float32)
            codes.append(number(digits, self.levels))
        codes = jnp.stack(codes, -1)
        latents = self.decode(codes)
        if train:
            latents = estimate(self.estimator, u, latents)
        metrics = [
            self._metrics(i, codes[..., i].reshape(-1), train)
            for i in range(self.count)
        ]
        return Quantized(latents.astype(z.dtype), codes, {}, over_books(metrics))

    def _finest(self, books):
        """Steps of which book `books - 1` takes one or two, from 0 to 1."""
        levels = np.array(self.levels)
        return (2.0 * (levels // 2) * levels ** (books - 1)).astype(np.float32)

    def _steps(self, index, i, books):
        levels = np.array(self.levels)
        digits = digits_of(index, self.levels)
        twice = 2 * digits - (2 * (levels // 2) if i == 0 else levels - 1)
        return twice * levels ** (books - 1 - i)

    def _metrics(self, i, index, train):
        if self.is_initializing():
            self.usage[i].metrics()  # a submodule's state exists once it is called
        if train and not self.is_initializing():
            self.usage[i].update(index)
            return self.usage[i].metrics()
        counts = jnp.zeros(self.code_counts[i], jnp.int32)
        return usage_metrics(counts.at[index].add(1))
