"""Masking (absorbing) diffusion of discrete streams.

A code is kept or replaced by the mask, whose index is `vocab`; sigma(t) of the schedule
is the share masked at time t.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vqdit.diffusion.process import against
from vqdit.diffusion.schedules import Cosine, Schedule

# The weight sigma'/sigma grows like 1/t: below this time it is held.
T_MIN = 1e-3


@dataclasses.dataclass(frozen=True)
class Masking:
    """vocab: number of codes, without the mask.

    weight: "elbo" for the time weighting sigma'(t) / sigma(t) that makes the loss, at
        uniform times, a bound on -log p per code in nats whatever the schedule
        (arXiv:2406.07524, eq. 10); "none" for MaskGIT's plain mean over the masked
        codes (arXiv:2202.04200, eq. 1).
    """

    vocab: int
    schedule: Schedule = Cosine()
    weight: Literal["elbo", "none"] = "elbo"

    def __post_init__(self):
        if self.vocab < 2:
            raise ValueError(f"Masking.vocab {self.vocab}: write at least 2 codes")
        if self.weight not in ("elbo", "none"):
            raise ValueError(f"Masking.weight {self.weight!r}: write 'elbo' or 'none'")

    @property
    def start(self) -> float:
        """Where sampling starts."""
        return 1.0

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Everything masked."""
        del key
        return jnp.full(shape, self.vocab, jnp.int32)

    def corrupt(
        self, x0: Int[Array, "b *d"], t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(codes with masks, the codes). Each code falls on its own."""
        masked = jax.random.uniform(key, x0.shape) < against(self.schedule.sigma(t), x0)
        return jnp.where(masked, self.vocab, x0), x0

    def loss(
        self,
        output: Float[Array, "b *d k"],
        target: Int[Array, "b *d"],
        x_t: Int[Array, "b *d"],
        t: Float[Array, "b"],
    ) -> Float[Array, "b"]:
        """Weighted cross-entropy over the masked codes, in nats a code."""
        log_p = jax.nn.log_softmax(output.astype(jnp.float32))
        picked = jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
        masked = x_t == self.vocab
        axes = tuple(range(1, target.ndim))
        total = -jnp.where(masked, picked, 0.0).sum(axes)
        if self.weight == "none":
            return total / jnp.maximum(masked.sum(axes), 1)
        t = jnp.maximum(t, T_MIN)
        sigma, d_sigma = jax.jvp(self.schedule.sigma, (t,), (jnp.ones_like(t),))
        codes = target[0].size
        return total * d_sigma / sigma / codes

    def step(self, output, x_t, t, s, key):
        """Ancestral: each masked code is revealed with the probability of its falling.

        (sigma(t) - sigma(s)) / sigma(t), its value drawn from the softmax
        (arXiv:2406.07524, eq. 6-7). Exact as steps grow. One example.
        """
        reveal_key, value_key = jax.random.split(key)
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        # At s = 0 all goes, whatever the schedule rounds to there.
        share = jnp.where(s == 0, 1.0, (sigma_t - sigma_s) / sigma_t)
        values = jax.random.categorical(value_key, output).astype(jnp.int32)
        reveal = jax.random.uniform(reveal_key, x_t.shape) < share
        return jnp.where(reveal & (x_t == self.vocab), values, x_t)

    def guide(self, given: Array, absent: Array, scale: Array) -> Array:
        """Guidance on logits: p ~ p(given)^scale p(absent)^(1 - scale)."""
        return absent + scale * (given - absent)
