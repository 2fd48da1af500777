"""Index backpropagation quantization (arXiv:2412.02692): all codes get a gradient."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vqdit.quantizers.codebook.assignment import assign
from vqdit.quantizers.codebook.book import Lookup
from vqdit.quantizers.codebook.entropy import plogp
from vqdit.quantizers.codebook.search import best, by_distance
from vqdit.quantizers.quantized import mean_square
from vqdit.quantizers.vq import ParameterBook, orthogonality
from vqdit.shapes import Array, Float, Int
from vqdit.sums import take

By = Literal["product", "distance"]


class IBQ(ParameterBook):
    """The codeword of the largest product z . e, with the softmax's gradient (eq. 4).

    Forward a one-hot choice, backward p = softmax(z . e) over all codes, so the task's
    gradient reaches z and the whole codebook; there is no estimator. p is never whole:
    see `assign`.

    The loss "codebook" is the first of the paper's three (eq. 6), the square of z - q
    with both ends free; its third, beta |sg[z] - q|^2, pulls where the first does and
    is left out. "commit" is the second.

    by: "product", the paper's; or "distance", z . e - |e|^2 / 2 in the place of z . e,
        which orders codes by their distance. In few dimensions products choose none but
        the outermost codes, and of a k-means codebook a handful: start="kmeans" goes
        with distances.
    entropy: the loss "entropy" (eq. 7): the mean of the entropies of softmax(z . e /
        entropy_temperature) minus the entropy of its mean.
    revive: the paper revives no code, since the softmax reaches all; a code that is far
        off has next to no share in it, and "batch" or "split" bring it back.
    orthogonal: as for `VectorQuantizer`. The other fields are those of `NearestBook`.
    """

    entropy: bool = True
    orthogonal: bool = False
    by: By = "product"

    def __post_init__(self):
        super().__post_init__()
        longest = self.start == "kmeans" and self.by == "product"
        advice = 'chooses the few longest by product: write by="distance", or "normal"'
        self.check("start", not longest, advice)

    def search(self, u: Float[Array, "n d"]) -> Int[Array, "n"]:
        """Indices of the largest products, or of the smallest distances."""
        e = jax.lax.stop_gradient(self.codewords())
        return best(*self._scored(u, e), self.scores)

    def _scored(self, u: Array, e: Array) -> tuple[Array, Array, Array]:
        if self.by == "product":
            return u, e, jnp.zeros(self.num_codes)
        return by_distance(u, e)

    def quantize(self, u: Float[Array, "n d"], *, train: bool, key: Any) -> Lookup:
        """Projected vectors to their codes; while not ready, at no loss."""
        index = self.search(jax.lax.stop_gradient(u))
        e = self.codewords()
        q = take(e, index, self.adding, self.scores)
        if not train:
            metrics = self.observe(u, index, train=train, key=key)
            return self.answer(q, q, index, {}, metrics)

        soft = functools.partial(
            assign, *self._scored(u, e), jax.lax.stop_gradient(e), scores=self.scores
        )
        p = soft()
        # q, with the gradient of p.
        out = q + (p.mixture - jax.lax.stop_gradient(p.mixture))
        losses = {
            "commit": mean_square(u, jax.lax.stop_gradient(q)),
            "codebook": mean_square(out, u),
        }
        if self.entropy:
            n, temperature = u.shape[0], self.entropy_temperature
            sharp = p if temperature == 1 else soft(sharpness=1 / temperature)
            losses["entropy"] = sharp.entropy / n + plogp(sharp.total / n)
        if self.orthogonal:
            losses["orthogonal"] = orthogonality(e)
        metrics = self.observe(u, index, train=train, key=key)
        return self.answer(q, out, index, losses, metrics)
