"""Nearest-codeword quantizers (VQ-VAE, arXiv:1711.00937), learned in two ways.

Both take `cosine=True` for codes on the unit sphere (arXiv:2110.04627, section 3.2),
both revive dead codes from the current batch (after arXiv:2005.00341, section 3.1), and
both can wait for k-means: with start="kmeans" the latents pass through unquantized, at
no loss, until `from_data` has set the codebook.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from vqdit.quantizers.health import UsageWindow, replacements, usage_metrics
from vqdit.quantizers.kmeans import kmeans
from vqdit.quantizers.quantized import Quantized, nearest, straight_through, unit

Start = Literal["normal", "kmeans"]


class _Nearest(nn.Module):
    """Fields and the forward pass of both; a subclass owns the codebook.

    num_codes: k. dim: d of a codeword. cosine: compare directions, not points.
    start:  "normal", or "kmeans" to wait for `from_data`.
    revive: replace codes that `window` consecutive codes of training have not used.
    """

    num_codes: int
    dim: int
    cosine: bool = False
    start: Start = "normal"
    revive: bool = True
    window: int = 65_536

    def __post_init__(self):
        if self.num_codes < 2 or self.dim < 1:
            raise ValueError(
                f"{type(self).__name__}: write num_codes of at least 2 and dim of at "
                f"least 1, not {self.num_codes} and {self.dim}"
            )
        if self.window < 1:
            raise ValueError(f"{type(self).__name__}.window {self.window}: at least 1")
        super().__post_init__()

    @property
    def code_counts(self) -> tuple[int, ...]:
        """Codes in each codebook."""
        return (self.num_codes,)

    def setup(self):
        self.usage = UsageWindow(self.num_codes, self.window, name="usage")
        ready = self.start == "normal"
        self.ready = self.variable("codebook", "ready", jnp.array, ready)
        self._codebook()

    def decode(self, codes: Int[Array, "*b 1"]) -> Float[Array, "*b d"]:
        """Codes -> latents, float32."""
        return self.codewords()[codes[..., 0]]

    def codewords(self) -> Float[Array, "k d"]:
        """The codebook as it is compared and decoded."""
        raw = jnp.asarray(self._raw())  # variables may be NumPy's, codes traced
        return unit(raw) if self.cosine else raw

    def from_data(
        self, variables: dict, key: Key[Array, ""], z: Array, iterations: int = 25
    ) -> tuple[dict, dict[str, Array]]:
        """(variables with the codebook set by k-means over z (n, d), its metrics).

        A function of its own {"params": ..., "codebook": ...}, on the module unbound.
        usage, perplexity: of the clusters over z. Raises ValueError when n < k.
        """
        z = jnp.asarray(z).reshape(-1, self.dim)
        codewords, counts = kmeans(key, z, self.num_codes, iterations, self.cosine)
        return self.with_codewords(variables, codewords, counts), usage_metrics(counts)

    def __call__(
        self,
        z: Float[Array, "*b d"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> Quantized:
        """In training, updates the usage window and revives dead codes, for which it
        needs `key`. Raises ValueError without one.
        """
        if z.shape[-1] != self.dim:
            raise ValueError(f"z is {z.shape}; the codebook's dim is {self.dim}")
        # Distances, losses and statistics are float32 whatever the compute dtype.
        z32 = z.astype(jnp.float32).reshape(-1, self.dim)
        if self.cosine:
            z32 = unit(z32)
        e = self.codewords()
        index = nearest(jax.lax.stop_gradient(z32), jax.lax.stop_gradient(e))
        q = e[index]
        ready = self.ready.value
        losses = {"commit": _mean_square(z32, jax.lax.stop_gradient(q)) * ready}
        losses |= self._losses(z32, q, ready)

        if self.is_initializing():
            self.usage.metrics()  # a submodule's state exists once it is called
        if train and not self.is_initializing():
            if self.revive and key is None:
                raise ValueError("reviving codes draws vectors: pass key= in training")
            self.usage.update(index, ready)
            learn = jax.lax.stop_gradient(z32)
            self._learn(learn, index, ready)
            metrics = self.usage.metrics()
            if self.revive:
                dead = self.usage.dead()
                self._revive(dead, replacements(key, learn, self.num_codes))
                self.usage.revived(dead)
                metrics["revived"] = dead.sum()
            latents = straight_through(z32, q)
        else:
            counts = jnp.zeros(self.num_codes, jnp.int32).at[index].add(1)
            metrics = usage_metrics(counts)
            latents = q
        latents = jnp.where(ready, latents, z32)
        return Quantized(
            latents=latents.reshape(z.shape).astype(z.dtype),
            codes=index.reshape(*z.shape[:-1], 1),
            losses=losses,
            metrics=jax.tree.map(jax.lax.stop_gradient, metrics),
        )


class VectorQuantizer(_Nearest):
    """The codebook is a parameter, pulled to the vectors by the codebook loss (eq. 3).

    With revive, the collection "revival" tells the train step which rows to replace
    after the gradient update: a parameter is not changed inside the forward pass. Rows
    stay marked until the step clears them, so those of every microbatch are replaced.
    """

    def _codebook(self):
        # VQGAN's uniform(-1/k, 1/k) starts every code at the origin; a normal of the
        # latents' order spreads them. K-means, where asked for, replaces either.
        scale = nn.initializers.normal(self.dim**-0.5)
        self.table = self.param("codewords", scale, (self.num_codes, self.dim))
        # Training has the collection; a bundle does not, and does not need it.
        if self.revive and self.is_mutable_collection("revival"):
            self.dead = self.variable(
                "revival", "dead", jnp.zeros, self.num_codes, jnp.bool_
            )
            self.fresh = self.variable(
                "revival", "fresh", jnp.zeros, (self.num_codes, self.dim)
            )

    def _raw(self):
        return self.table

    def _losses(self, z, q, ready):
        return {"codebook": _mean_square(jax.lax.stop_gradient(z), q) * ready}

    def _learn(self, z, index, ready):
        pass  # by gradient

    def _revive(self, dead, fresh):
        self.fresh.value = jnp.where(dead[:, None], fresh, self.fresh.value)
        self.dead.value = self.dead.value | dead

    def with_codewords(
        self, variables: dict, codewords: Float[Array, "k d"], counts: Int[Array, "k"]
    ) -> dict:
        """This module's variables with the codebook set and `ready`."""
        del counts
        params = {**variables["params"], "codewords": codewords}
        codebook = {**variables["codebook"], "ready": jnp.array(True)}
        return {**variables, "params": params, "codebook": codebook}


class EMAVectorQuantizer(_Nearest):
    """The codebook is a moving average of the vectors (appendix A.1).

    Not a parameter: it lives in the collection "codebook" as `sums` (k, d) and `counts`
    (k,), plain sums over the batch, so under jit they span every device. A codeword is
    sums / counts, counts Laplace-smoothed so that an unused code keeps a finite mean.
    """

    decay: float = 0.99

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"EMAVectorQuantizer.decay {self.decay}: write 0 to 1")
        super().__post_init__()

    def _codebook(self):
        def start():
            shape = (self.num_codes, self.dim)
            return jax.random.normal(self.make_rng("params"), shape) * self.dim**-0.5

        self.sums = self.variable("codebook", "sums", start)
        self.counts = self.variable("codebook", "counts", jnp.ones, self.num_codes)

    def _raw(self):
        counts = self.counts.value
        total = counts.sum()
        smooth = (counts + 1e-5) / (total + self.num_codes * 1e-5) * total
        return self.sums.value / smooth[:, None]

    def _losses(self, z, q, ready):
        return {}

    def _learn(self, z, index, ready):
        keep = jnp.where(ready, self.decay, 1.0)
        hits = jnp.zeros(self.num_codes).at[index].add(1.0)
        sums = jnp.zeros((self.num_codes, self.dim)).at[index].add(z)
        self.counts.value = keep * self.counts.value + (1 - keep) * hits
        self.sums.value = keep * self.sums.value + (1 - keep) * sums

    def _revive(self, dead: Bool[Array, "k"], fresh: Float[Array, "k d"]):
        # A revived code starts with an average code's weight, or it would jump to the
        # first vector that it wins.
        weight = self.counts.value.mean()
        self.counts.value = jnp.where(dead, weight, self.counts.value)
        self.sums.value = jnp.where(dead[:, None], fresh * weight, self.sums.value)

    def with_codewords(
        self, variables: dict, codewords: Float[Array, "k d"], counts: Int[Array, "k"]
    ) -> dict:
        """This module's variables with the codebook set and `ready`.

        counts: how many vectors each codeword stands for; only ratios matter.
        """
        weights = jnp.maximum(counts / counts.mean(), 0.1)
        codebook = {
            **variables["codebook"],
            # _raw divides by the smoothed counts; 1e-5 of a mean of 1 is not felt.
            "sums": codewords * weights[:, None],
            "counts": weights,
            "ready": jnp.array(True),
        }
        return {**variables, "codebook": codebook}


def _mean_square(a, b):
    return jnp.square(a - b).mean()
