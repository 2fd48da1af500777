"""SimVQ (arXiv:2411.02038): a frozen codebook in a basis that is learned."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vqdit.quantizers.estimators import Estimator
from vqdit.quantizers.health import Revive
from vqdit.quantizers.nearest import Initial, NearestBook
from vqdit.quantizers.quantized import mean_square


class SimVQ(NearestBook):
    """Codewords are C W (eq. 5): C, (k, d) normal and never changed, W (d, d) learned.

    Every code moves with every update of W, and the paper revives none. C lives in the
    collection "codebook" as `frozen`, W in the parameter "basis", which starts as the
    identity: the first codewords are those of a plain codebook, where the paper's
    linear layer starts at random. It has no bias.

    revive: where latents leave the place that C lay in, W, which moves all codes alike,
        cannot follow with each; "batch" and "split" give a dead code another row of C.
    num_codes, dim, start, start_scale, window, estimator, entropy,
    entropy_temperature: as for `VectorQuantizer`; start="kmeans" sets C, and W to I.
    """

    num_codes: int
    dim: int
    start: Initial = "normal"
    window: int = 65_536
    estimator: Estimator = "straight_through"
    entropy: bool = False
    entropy_temperature: float = 1.0
    start_scale: float = 1.0
    revive: Revive = "none"

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

    def with_codewords(
        self, variables: dict, codewords: Float[Array, "k d"], counts: Int[Array, "k"]
    ) -> dict:
        """This module's variables with the codebook set and `ready`."""
        del counts
        params = {**variables["params"], "basis": jnp.eye(self.dim)}
        ready = {"frozen": codewords, "ready": jnp.array(True)}
        codebook = {**variables["codebook"], **ready}
        return {**variables, "params": params, "codebook": codebook}
