"""What the quantizers that look for the nearest codeword share."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from vqdit.fields import Count, Positive
from vqdit.quantizers.codebook.book import Book
from vqdit.quantizers.codebook.centroids import kmeans
from vqdit.quantizers.codebook.entropy import usage_entropy
from vqdit.quantizers.codebook.health import (
    Revive,
    Window,
    replacements,
    split_sources,
    usage_metrics,
)
from vqdit.quantizers.codebook.search import Codes, nearest
from vqdit.quantizers.quantized import mean_square, unit
from vqdit.shapes import Array, Float, Int, Key
from vqdit.sums import Adding, take

Initial = Literal["normal", "uniform", "kmeans"]


class NearestBook(Book):
    """Search, losses and start; a subclass owns the codebook.

    It writes `_codebook`, `_raw`, `_replace` and `_as`, and has `estimator`.

    num_codes: k, of codewords.
    dim:       d, channels of a codeword.
    start:     "normal", "uniform", or "kmeans" to wait for `from_data`: until it has
        set the codebook the latents pass through unquantized, at no loss.
    start_scale: of the first codewords, in units of what `start` says.
    window:    codes of training that usage is counted over, at least 10 for each of
        the book's; None for 65,536, or 16 for each where that is too short.
    revive:    what becomes of codes that `window` consecutive codes of training have
        not used: "none", "batch" (a vector of the batch), "split" (of a much used
        code).
    entropy:   the loss "entropy", sum p log p of the batch's soft assignments at
        `entropy_temperature`, in units of the mean squared quantization error.
    entropy_temperature: of these assignments.
    cosine:    whether vectors and codewords are compared by their directions alone.
    scores: how many scores of codes are held at once; None for what suits the backend.
    adding: how rows are added up by code, in averages and gradients: `sums_by_code`.
    """

    num_codes: Codes
    dim: Count
    start: Initial = "normal"
    start_scale: Positive = 1.0
    revive: Revive = "none"
    window: Window | None = None
    entropy: bool = False
    entropy_temperature: Positive = 1.0
    scores: Count | None = None
    adding: Adding | None = None

    cosine = False  # a field of those that may compare directions

    @property
    def shrink(self) -> float:
        """On a sphere every codeword has length 1, also those of a residual."""
        return 0.5 if self.cosine else 1.0

    def setup(self):
        ready = self.start != "kmeans"
        self.is_ready = self.variable("codebook", "ready", jnp.array, ready)
        super().setup()

    def ready(self) -> Any:
        """False until `from_data` has set the codebook."""
        return self.is_ready.value

    def first(self, key: Key[Array, ""]) -> Float[Array, "k d"]:
        """The codewords to start from.

        VQGAN's uniform(-1/k, 1/k) starts every code at the origin; a normal of the
        latents' order spreads them. K-means, where asked for, replaces either.
        """
        shape = (self.num_codes, self.dim)
        if self.start == "uniform":
            bound = self.start_scale / self.num_codes
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        return jax.random.normal(key, shape) * (self.start_scale * self.dim**-0.5)

    def codewords(self) -> Float[Array, "k d"]:
        """The codebook as it is compared and decoded."""
        raw = jnp.asarray(self._raw())  # variables may be NumPy's, codes traced
        return unit(raw) if self.cosine else raw

    def project(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return unit(z) if self.cosine else z

    def search(self, u: Float[Array, "n d"]) -> Int[Array, "n"]:
        return nearest(u, jax.lax.stop_gradient(self.codewords()), self.scores)

    def look_up(self, index: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        return take(self.codewords(), index, self.adding, self.scores)

    def pull(self, u: Array, q: Array) -> dict[str, Array]:
        """Of arXiv:1711.00937, eq. 3, the third term."""
        return {"commit": mean_square(u, jax.lax.stop_gradient(q))}

    def penalties(self, u: Array, q: Array) -> dict[str, Array]:
        if not self.entropy:
            return {}
        # A unit of temperature is what separates a vector from its codeword.
        scale = jnp.square(u - q).sum(-1).mean()
        e = self.codewords()
        loss = usage_entropy(u, e, scale, self.entropy_temperature, self.scores)
        return {"entropy": loss}

    def learn(self, u: Array, index: Array, key: Any) -> dict[str, Array]:
        """Moving averages where there are any, then revival."""
        self._average(u, index)
        if self.revive == "none":
            return {}
        if key is None:
            raise ValueError("reviving codes draws vectors: pass key= in training")
        dead, e = self.usage.dead(), self.codewords()
        counts = self.usage.counts.value

        # By a third of what vectors are from their codes: of a code split in two the
        # plane between the halves then cuts its cell not far from the middle.
        apart = lambda: 0.3 * jnp.sqrt(mean_square(u, e[index]))

        def split():
            source = split_sources(counts, dead)
            return e[source] + apart() * jax.random.normal(key, e.shape), source

        def batch():
            return replacements(key, u, dead, apart()), nobody

        # Sorting the codes or the batch costs as much as the search: only when needed.
        nobody = jnp.zeros(self.num_codes, jnp.int32)
        fresh, source = jax.lax.cond(
            dead.any(), split if self.revive == "split" else batch, lambda: (e, nobody)
        )
        self._replace(dead, fresh, source if self.revive == "split" else None)
        self.usage.revived(dead)
        return {"revived": dead.sum()}

    def _average(self, u, index):
        pass  # by gradient

    def from_data(
        self, variables: dict, key: Key[Array, ""], z: Array, iterations: int = 25
    ) -> tuple[dict, dict[str, Array]]:
        """The codebook by k-means over z (n, d); usage and perplexity of its clusters.

        Raises ValueError when n < k.
        """
        z = jnp.asarray(z).reshape(-1, self.dim)
        codewords, counts = kmeans(key, z, self.num_codes, iterations, self.cosine)
        return self.with_codewords(variables, codewords, counts), usage_metrics(counts)

    def with_codewords(
        self, variables: dict, codewords: Float[Array, "k d"], counts: Int[Array, "k"]
    ) -> dict:
        """This module's variables with the codebook set and `ready`.

        counts: how many vectors each codeword stands for; only ratios matter.
        """
        new = self._as(codewords, counts)
        new["codebook"] = {**new.get("codebook", {}), "ready": jnp.array(True)}
        return {c: {**tree, **new.get(c, {})} for c, tree in variables.items()}
