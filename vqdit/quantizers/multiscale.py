"""Multi-scale residual quantization (VAR, arXiv:2404.02905, algorithms 1 and 2)."""

import itertools
import math
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.fields import FILLED, Count, Natural, Positive
from vqdit.quantizers.codebook.estimators import estimate
from vqdit.quantizers.quantized import Quantized, mean_square
from vqdit.quantizers.residual import Composite, check_book, set_book
from vqdit.shapes import Array, Float, Int, Key


class MultiScaleQuantizer(Composite):
    """One book, asked at ever finer scales about what the coarser have left.

    scales: grids from coarse to fine, the last one the latents' own; a number is a
        square. z is (b, *grid, d) and codes are (b, n, 1), the scales one after the
        other. Codes up to the end of any scale decode; but training rebuilds from all
        scales, never from fewer, so a decoder has not learned what a prefix looks like.
    phis:   convolutions of width 3 after upsampling, each shared by neighbouring scales
        (section 3.2); 0 for none. They are x + conv(x), starting as the identity; the
        paper's code has half of each and a random start.
    shrink: codewords of scale i count shrink^i of what they are. Where they have one
        length (signs, cosine codes) 1 is too much for what little the last scales are
        asked: of smooth grids, four scales and cosine codes 39 % of the variance is
        left by it, 7 % by 0.7.
    book:   any quantizer of one book whose gradient is an estimator's; the submodule
        "book".

    Downsampling averages areas and upsampling is cubic (a = -0.75), as in the paper's
    code. "commit" and "codebook" are means over scales of the squares between the sum
    so far and the latents; the second also teaches the convolutions.
    """

    book: nn.Module
    scales: Annotated[tuple[Count | tuple[Count, ...], ...], FILLED]
    phis: Natural = 4
    shrink: Positive = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_book(self)
        advice = "has a gradient of its own; write one with an estimator"
        self.check("book", self.book.estimator, advice)
        grids = self.grids
        rises = len({len(grid) for grid in grids}) == 1 and all(
            a <= b
            for small, large in itertools.pairwise(grids)
            for a, b in zip(small, large, strict=True)
        )
        self.check(
            "scales",
            rises,
            "write grids of one number of axes, none smaller than the one before, such "
            "as (1, 2, 4, 8)",
        )

    @property
    def grids(self) -> tuple[tuple[int, ...], ...]:
        return tuple((s, s) if isinstance(s, int) else s for s in self.scales)

    @property
    def code_counts(self) -> tuple[int, ...]:
        """Codes in each codebook: there is one."""
        return self.book.code_counts

    @property
    def code_grid(self) -> tuple[int, ...]:
        """Shape of one example's codes, without the last axis."""
        return (sum(map(math.prod, self.grids)),)

    def setup(self):
        grid = self.grids[-1]
        self.phi = [
            nn.Conv(
                self.dim,
                (3,) * len(grid),
                kernel_init=nn.initializers.zeros,
                precision="highest",
            )
            for _ in range(self.phis)
        ]

    def _spread(self, q, number):
        """Codewords of one scale, of its size, on the finest grid."""
        q = resize(self.shrink**number * q, self.grids[-1], upsample_cubic)
        if not self.phis:
            return q
        # The convolution whose place in (0, 1) is nearest to the scale's, as in the
        # paper's code, where four lie further out than any other number.
        edge = 1 / (3 if self.phis == 4 else 2) / self.phis
        places = np.linspace(edge, 1 - edge, self.phis)
        at = number / max(len(self.grids) - 1, 1)
        return q + self.phi[int(np.abs(places - at).argmin())](q)

    def decode(self, codes: Int[Array, "b n 1"]) -> Float[Array, "b *grid d"]:
        """Codes of the first scales -> latents, float32.

        Raises ValueError where they do not end with a scale.
        """
        ends = list(itertools.accumulate(map(math.prod, self.grids)))
        if codes.shape[1] not in ends:
            raise ValueError(
                f"{codes.shape[1]} codes end within a scale; scales end after {ends}"
            )
        total = jnp.zeros(())
        for number in range(ends.index(codes.shape[1]) + 1):
            start = ends[number - 1] if number else 0
            index = codes[:, start : ends[number], 0]
            grid = (index.shape[0], *self.grids[number])
            total = total + self._spread(self.book.look_up(index.reshape(grid)), number)
        return total

    def quantized(self, z: Array, train: bool, key: Any) -> Quantized:
        if z.shape[1:] != (*self.grids[-1], self.dim):
            raise ValueError(
                f"z is {z.shape}; these scales and this book take (b, "
                f"{', '.join(map(str, self.grids[-1]))}, {self.dim})"
            )
        u = self.book.project(z)
        total, asked, index = jnp.zeros(()), [], []
        commit, codebook = [], []
        for number, grid in enumerate(self.grids):
            left = u - jax.lax.stop_gradient(total)
            v = resize(left, grid, downsample) / self.shrink**number
            rows = jax.lax.stop_gradient(v).reshape(-1, self.dim)
            found = self.book.search(rows).reshape(v.shape[:-1])
            asked.append(v)
            index.append(found)
            total = total + self._spread(self.book.look_up(found), number)
            commit.append(mean_square(u, jax.lax.stop_gradient(total)))
            codebook.append(mean_square(jax.lax.stop_gradient(u), total))
        codes = jnp.concatenate([i.reshape(z.shape[0], -1, 1) for i in index], 1)

        ready = self.book.ready()
        rows = jnp.concatenate([v.reshape(-1, self.dim) for v in asked])
        flat = jnp.concatenate([i.reshape(-1) for i in index])
        losses = {}
        if train:
            losses = {
                "commit": jnp.stack(commit).mean(),
                "codebook": jnp.stack(codebook).mean(),
                **self.book.penalties(rows, self.book.look_up(flat)),
            }
        metrics = self.book.observe(rows, flat, train=train, key=key)
        if train:
            latents = estimate(self.book.estimator, u, total)
        else:
            latents = self.decode(codes)
        return Quantized(
            latents=jnp.where(ready, latents, u),
            codes=codes,
            losses={name: value * ready for name, value in losses.items()},
            metrics=metrics,
        )

    def from_data(
        self, variables: dict, key: Key[Array, ""], z: Array, iterations: int = 25
    ) -> tuple[dict, dict[str, Array]]:
        """The book by k-means over what the scales ask.

        z (n, d) are whole grids of latents, one after the other; what is over is left
        out. The scales are those of latents that are quantized without error. Raises
        ValueError for less than a grid.
        """
        sites = math.prod(self.grids[-1])
        whole = len(z) // sites
        if not whole:
            raise ValueError(f"{len(z)} latents are less than one grid of {sites}")
        z = jnp.asarray(z, jnp.float32)[: whole * sites]
        z = z.reshape(whole, *self.grids[-1], self.dim)
        rows = _ideal(self, variables, z)
        return set_book(self.book, variables, "book", key, rows, iterations)

    def ideal(self, z: Float[Array, "b *grid d"]) -> Float[Array, "n d"]:
        """What every scale asks of a book without error."""
        left, rows = self.book.project(z), []
        for number, grid in enumerate(self.grids):
            v = resize(left, grid, downsample) / self.shrink**number
            rows.append(v.reshape(-1, self.dim))
            left = left - self._spread(v, number)
        return jnp.concatenate(rows)


@partial(jax.jit, static_argnums=0)
def _ideal(quantizer, variables, z):
    return quantizer.apply(variables, z, method="ideal")


def resize(x: Float[Array, "b *grid d"], grid: tuple[int, ...], weights) -> Array:
    """x on another grid, axis by axis, by the matrices of `weights(size, new)`."""
    for axis, (size, new) in enumerate(zip(x.shape[1:-1], grid, strict=True), start=1):
        if size != new:
            matrix = weights(size, new)
            x = jnp.tensordot(matrix, x, (1, axis), precision="highest")
            x = jnp.moveaxis(x, 0, axis)
    return x


def downsample(size: int, new: int) -> np.ndarray:
    """(new, size): means over floor(i size / new) to ceil((i + 1) size / new)."""
    out = np.zeros((new, size), np.float32)
    for i in range(new):
        start, end = i * size // new, -(-(i + 1) * size // new)
        out[i, start:end] = 1 / (end - start)
    return out


def upsample_cubic(size: int, new: int) -> np.ndarray:
    """(new, size): cubic convolution with a = -0.75, the borders repeated."""
    out = np.zeros((new, size))
    for i in range(new):
        at = (i + 0.5) * size / new - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            out[i, min(max(j, 0), size - 1)] += _cubic(abs(at - j))
    return out.astype(np.float32)


def _cubic(t):
    a = -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0
