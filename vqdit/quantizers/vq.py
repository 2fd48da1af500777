"""Nearest-codeword quantizers (VQ-VAE, arXiv:1711.00937), learned in two ways.

cosine: compare directions, not points: codes are on the unit sphere (arXiv:2110.04627,
    section 3.2). The other fields are those of `NearestBook`.
"""

import jax
import jax.numpy as jnp

from vqdit.fields import Decay
from vqdit.quantizers.codebook.estimators import Estimator
from vqdit.quantizers.codebook.health import Revive
from vqdit.quantizers.codebook.nearest_book import NearestBook
from vqdit.quantizers.quantized import mean_square, unit
from vqdit.shapes import Array, Bool, Float
from vqdit.sums import sums_by_code

HELD = 0.01  # count below which no average decays


class ParameterBook(NearestBook):
    """A codebook that is the parameter "codewords", trained by gradient.

    With revive, the collection "revival" tells the train step which rows to replace
    after the gradient update: a parameter is not changed inside the forward pass. Rows
    stay marked until the step clears them.
    """

    def _codebook(self):
        shape = (self.num_codes, self.dim)
        self.table = self.param("codewords", lambda key, shape: self.first(key), shape)
        # Training has the collection; a bundle does not, and does not need it.
        if self.revive != "none" and self.is_mutable_collection("revival"):
            self.dead = self.variable(
                "revival", "dead", jnp.zeros, self.num_codes, jnp.bool_
            )
            self.fresh = self.variable("revival", "fresh", jnp.zeros, shape)

    def _raw(self):
        return self.table

    def _replace(self, dead, fresh, source=None):
        del source  # its row stays where it is
        self.fresh.value = jnp.where(dead[:, None], fresh, self.fresh.value)
        self.dead.value = self.dead.value | dead

    def _as(self, codewords, counts):
        return {"params": {"codewords": codewords}}


class VectorQuantizer(ParameterBook):
    """The codebook is a parameter, pulled to the vectors by the codebook loss (eq. 3).

    orthogonal: the loss "orthogonal", |E E^T - I|^2 / k^2 of the unit codewords
        (arXiv:2112.00384, section 3), by |E E^T|^2 = |E^T E|^2, which is d by d.
    """

    cosine: bool = False
    revive: Revive = "batch"
    estimator: Estimator = "straight_through"
    orthogonal: bool = False

    def pull(self, u: Array, q: Array) -> dict[str, Array]:
        """The second and the third term of eq. 3."""
        return super().pull(u, q) | {
            "codebook": mean_square(jax.lax.stop_gradient(u), q)
        }

    def penalties(self, u: Array, q: Array) -> dict[str, Array]:
        losses = super().penalties(u, q)
        if self.orthogonal:
            losses["orthogonal"] = orthogonality(self.codewords())
        return losses


class EMAVectorQuantizer(NearestBook):
    """The codebook is a moving average of the vectors (appendix A.1).

    Not a parameter: it lives in the collection "codebook" as `sums` (k, d) and `counts`
    (k,), plain sums over the batch, so under jit they span every device. A codeword is
    sums / counts, counts Laplace-smoothed so that an unused code keeps a finite mean.
    One whose count would fall below 0.01, which smoothing does not move, holds its
    place: it would go to the origin otherwise.

    decay: how much of the averages a step keeps.
    """

    cosine: bool = False
    revive: Revive = "batch"
    decay: Decay = 0.99
    estimator: Estimator = "straight_through"

    def _codebook(self):
        start = lambda: self.first(self.make_rng("params"))
        self.sums = self.variable("codebook", "sums", start)
        self.counts = self.variable("codebook", "counts", jnp.ones, self.num_codes)

    def _raw(self):
        counts = self.counts.value
        total = counts.sum()
        smooth = (counts + 1e-5) / (total + self.num_codes * 1e-5) * total
        return self.sums.value / smooth[:, None]

    def _average(self, u, index):
        hits = jnp.zeros(self.num_codes).at[index].add(1.0)
        sums = sums_by_code(index, u, self.num_codes, self.adding, self.scores)
        old = self.counts.value
        faint = self.decay * old < HELD
        holds = ~jnp.asarray(self.ready()) | ((hits == 0) & faint)
        keep = jnp.where(holds, 1.0, self.decay)
        self.counts.value = keep * old + (1 - keep) * hits
        keep = keep[:, None]
        self.sums.value = keep * self.sums.value + (1 - keep) * sums

    def _replace(self, dead: Bool[Array, "k"], fresh: Float[Array, "k d"], source=None):
        counts, sums = self.counts.value, self.sums.value
        if source is None:
            # A revived code starts with an average code's weight, or it would jump to
            # the first vector that it wins.
            weight = jnp.broadcast_to(counts.mean(), counts.shape)
        else:
            # The split code and its new halves share its weight.
            parts = jnp.ones(self.num_codes).at[source].add(dead)
            counts, sums = counts / parts, sums / parts[:, None]
            weight = counts[source]
        self.counts.value = jnp.where(dead, weight, counts)
        self.sums.value = jnp.where(dead[:, None], fresh * weight[:, None], sums)

    def _as(self, codewords, counts):
        weights = jnp.maximum(counts / counts.mean(), 0.1)
        # _raw divides by the smoothed counts; 1e-5 of a mean of 1 is not felt.
        sums = codewords * weights[:, None]
        return {"codebook": {"sums": sums, "counts": weights}}


def orthogonality(codewords: Float[Array, "k d"]) -> Float[Array, ""]:
    """|E E^T - I|^2 / k^2 of the unit codewords: 0 when they are orthonormal."""
    e = unit(codewords)
    k = float(e.shape[0])  # whose square may be no int32
    gram = jnp.matmul(e.T, e, precision="highest")
    return (jnp.square(gram).sum() - k) / k**2
