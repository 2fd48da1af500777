"""Uniform-state diffusion: a code is kept, or replaced by one drawn at random."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vqdit.diffusion.process import against
from vqdit.diffusion.replacement import Replacement, divergence


@dataclasses.dataclass(frozen=True)
class UniformState(Replacement):
    """D3PM's uniform transitions (arXiv:2107.03006) in continuous time.

    A share sigma(t) of the codes is drawn anew, each of the k values alike. Unlike a
    mask it may be drawn again, so a sampler can mend what it said before. The softmax p
    of the output is read as what the *other* codes say of this one, and the code in its
    place is evidence beside that: then the reverse rates are those of the data
    (arXiv:2310.16834), and the bound below is tight.
    """

    # Codes in their place pay too, and too much by sigma(hold) below it.
    hold: ClassVar[float] = 1e-4

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Every code at random."""
        return jax.random.randint(key, shape, 0, self.codes)

    def share_of_bound(
        self,
        output: Float[Array, "b *d k"],
        target: Int[Array, "b *d"],
        x_t: Int[Array, "b *d"],
        sigma: Float[Array, "b"],
        d_sigma: Float[Array, "b"],
    ) -> Float[Array, "b *grid"]:
        """See `loss`; sigma and its slope are those of the time.

        The divergence of two jump processes, with q = (1 - sigma) k x + sigma of the
        true code and the same of p, times sigma' / (1 - sigma) / k.
        """
        # At t = 1 nothing is known, the sum is 0 and its weight infinite.
        kept = jnp.maximum(1 - sigma, 1e-6)
        sigma, kept, d_sigma = (
            against(v, x_t)[..., None] for v in (sigma, kept, d_sigma)
        )
        p = jax.nn.softmax(output.astype(jnp.float32))
        true = jax.nn.one_hot(target, self.codes)
        log_p, log_q = (jnp.log(kept * self.codes * v + sigma) for v in (p, true))
        weight = d_sigma / (kept * self.codes)
        return (weight * divergence(log_p, log_q, x_t)).sum(-1).mean(-1)

    def estimate(self, output, x_t, t):
        """Probabilities of each place's code, the one that is seen weighed in."""
        sigma = against(self.schedule.sigma(t), x_t)[..., None]
        likely = (1 - sigma) * self.codes * jax.nn.one_hot(x_t, self.codes) + sigma
        weighed = jax.nn.softmax(output) * likely
        return weighed / weighed.sum(-1, keepdims=True)

    def step(self, output, x_t, t, s, key):
        """Ancestral: a draw of p(x_s | x_t), exact for each code by itself.

        Proportional to q(x_t | x_s) times the sum over x of q(x_s | x) p(x). One
        example.
        """
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        # At s = 0 no code is left drawn anew, whatever the schedule rounds to there.
        sigma_s = jnp.where(s == 0, 0.0, sigma_s)
        between = (1 - sigma_t) / (1 - sigma_s)
        seen = jax.nn.one_hot(x_t, self.codes)
        forward = jnp.log(between * self.codes * seen + (1 - between))
        p = jax.nn.softmax(output.astype(jnp.float32))
        before = jnp.log((1 - sigma_s) * self.codes * p + sigma_s)
        return jax.random.categorical(key, forward + before).astype(jnp.int32)
