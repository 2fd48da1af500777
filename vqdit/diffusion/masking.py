"""Masking (absorbing) diffusion: a code is kept, or replaced by the mask, `vocab`."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.diffusion.process import against
from vqdit.diffusion.replacement import Replacement
from vqdit.shapes import Array, Float, Int, Key


@dataclasses.dataclass(frozen=True)
class Masking(Replacement):
    """vocab: number of codes, without the mask; None where the stream says it.

    weight: "elbo" for the time weighting sigma'(t) / sigma(t) that makes the loss, at
        uniform times, a bound on -log p per code in nats whatever the schedule
        (arXiv:2406.07524, eq. 10); "none" for MaskGIT's plain mean over the masked
        codes of an example (arXiv:2202.04200, eq. 1).
    """

    weight: Literal["elbo", "none"] = "elbo"

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Everything masked."""
        del key
        return jnp.full(shape, self.codes, jnp.int32)

    def corrupt(
        self, x0: Int[Array, "b *d"], t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(codes with masks, the codes). Each code falls on its own."""
        # The key whole, where Replacement splits it for values: runs go on bit for bit.
        masked = jax.random.uniform(key, x0.shape) < against(self.schedule.sigma(t), x0)
        return jnp.where(masked, self.codes, x0), x0

    def held(self, x0, t, key):
        """The codes themselves: what is seen is data at any time."""
        del t, key
        return x0

    def loss(
        self,
        output: Float[Array, "b *d k"],
        target: Int[Array, "b *d"],
        x_t: Int[Array, "b *d"],
        t: Float[Array, "b"],
    ) -> Float[Array, "b *grid"]:
        """Weighted cross-entropy of a place, 0 where it is not masked.

        In nats a code. With weight "none" it is divided by the share of the example's
        codes that are masked, so that the mean over places is that over masked codes.
        """
        log_p = jax.nn.log_softmax(output.astype(jnp.float32))
        picked = jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
        masked = x_t == self.codes
        missed = -jnp.where(masked, picked, 0.0)
        if self.weight == "none":
            count = jnp.maximum(masked.sum(tuple(range(1, x_t.ndim))), 1)
            weight = target[0].size / count
        else:
            sigma, d_sigma = self._rate(t, self.hold)
            weight = d_sigma / sigma
        return (missed * against(weight, missed)).mean(-1)

    def query(self, x0, u, key, known):
        """One example in which a count of codes is masked, 1 to all alike as u is.

        Any of them alike; the time is that at which so many are expected.
        """
        score = jax.random.uniform(key, x0.shape)
        score = jnp.where(known[..., None], score, jnp.inf).reshape(-1)
        rank = jnp.argsort(jnp.argsort(score)).reshape(x0.shape)
        codes = jnp.maximum(known.sum() * x0.shape[-1], 1)
        count = 1 + jnp.minimum(jnp.floor(u * codes), codes - 1)
        knots = jnp.linspace(0.0, 1.0, 4097)
        t = jnp.interp(count / codes, self.schedule.sigma(knots), knots)
        masked = (rank < count) & known[..., None]
        return jnp.where(masked, self.vocab, x0), t

    def bound(self, output, x0, x_t, t, known):
        """One draw of a bound on -log p(x0) in nats, of one example.

        That of a code at a time in a random order (arXiv:2110.02037;
        arXiv:2502.09992, eq. 14), which varies less than the integral over times of
        `loss` and has the same mean. One code alone has no order: then it is exact.
        """
        log_p = jax.nn.log_softmax(output.astype(jnp.float32))
        picked = jnp.take_along_axis(log_p, x0[..., None], axis=-1)[..., 0]
        masked = (x_t == self.vocab) & known[..., None]
        codes = known.sum() * x0.shape[-1]
        missed = -jnp.where(masked, picked, 0.0).sum()
        return missed * codes / jnp.maximum(masked.sum(), 1)

    def estimate(self, output, x_t, t):
        """Probabilities of each place's code: certain where it is seen."""
        del t
        masked = (x_t == self.codes)[..., None]
        seen = jax.nn.one_hot(x_t, self.codes)
        return jnp.where(masked, jax.nn.softmax(output), seen)

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
        return jnp.where(reveal & (x_t == self.codes), values, x_t)
