"""SimVQ (arXiv:2411.02038): a frozen codebook in a basis that is learned."""

import jax
import jax.numpy as jnp

from vqdit.quantizers.codebook.estimators import Estimator
from vqdit.quantizers.codebook.nearest_book import NearestBook
from vqdit.quantizers.quantized import mean_square
from vqdit.shapes import Array


class SimVQ(NearestBook):
    """Codewords are C W (eq. 5): C, (k, d) normal and never changed, W (d, d) learned.

    Every code moves with every update of W, and the paper revives none. C lives in the
    collection "codebook" as `frozen`, W in the parameter "basis", which starts as the
    identity: the first codewords are those of a plain codebook, where the paper's
    linear layer starts at random. It has no bias.

    revive: where latents leave the place that C lay in, W, which moves all codes alike,
        cannot follow with each; "batch" and "split" give a dead code another row of C.
    start:  "kmeans" sets C, and W to I. The other fields are those of `NearestBook`.
    """

    estimator: Estimator = "straight_through"

    def _codebook(self):
        start = lambda: self.first(self.make_rng("params"))
        self.frozen = self.variable("codebook", "frozen", start)
        self.basis = self.param("basis", lambda key: jnp.eye(self.dim))

    def _raw(self):
        frozen = jax.lax.stop_gradient(jnp.asarray(self.frozen.value))
        return jnp.matmul(frozen, self.basis, precision="highest")

    def pull(self, u: Array, q: Array) -> dict[str, Array]:
        """The two terms of eq. 3, both through W where they reach the codebook."""
        return super().pull(u, q) | {
            "codebook": mean_square(jax.lax.stop_gradient(u), q)
        }

    def _replace(self, dead, fresh, source=None):
        del source  # its row stays where it is
        frozen, basis = self.frozen.value, jax.lax.stop_gradient(self.basis)

        def replaced():
            # The rows of C that W takes there.
            rows = jnp.linalg.solve(basis.T, fresh.T).T
            solved = dead & jnp.isfinite(rows).all(-1)
            return jnp.where(solved[:, None], rows, frozen)

        self.frozen.value = jax.lax.cond(dead.any(), replaced, lambda: frozen)

    def _as(self, codewords, counts):
        basis = jnp.eye(self.dim)
        return {"params": {"basis": basis}, "codebook": {"frozen": codewords}}
