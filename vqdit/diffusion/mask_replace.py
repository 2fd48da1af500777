"""Mask and replace: a code is kept, masked, or replaced by one drawn at random."""

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vqdit.diffusion.process import against
from vqdit.diffusion.replacement import Replacement, divergence
from vqdit.fields import Bound


@dataclasses.dataclass(frozen=True)
class MaskAndReplace(Replacement):
    """Between Masking and UniformState (arXiv:2111.14822; arXiv:2503.04482).

    A share sigma(t) of the codes has fallen, each of them to the mask, `vocab`, or with
    probability `share` to one of the k codes, each alike: so a sampler sees most of
    what is left to say, and can still mend what it has said. The softmax p of the
    output is what the other codes say of this one, as in UniformState.
    """

    share: Annotated[float, Bound(above=0, below=1)] = 0.1

    # Codes in their place pay too, as in UniformState.
    hold: ClassVar[float] = 1e-4

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Masks, and a share of codes at random."""
        drawn_key, value_key = jax.random.split(key)
        drawn = jax.random.uniform(drawn_key, shape) < self.share
        values = jax.random.randint(value_key, shape, 0, self.codes)
        return jnp.where(drawn, values, self.codes)

    def share_of_bound(
        self,
        output: Float[Array, "b *d k"],
        target: Int[Array, "b *d"],
        x_t: Int[Array, "b *d"],
        sigma: Float[Array, "b"],
        d_sigma: Float[Array, "b"],
    ) -> Float[Array, "b *grid"]:
        """See `loss`; sigma and its slope are those of the time.

        As in UniformState, over the k codes and the mask: with pi what a fallen code
        is, q = (1 - sigma) x + sigma pi, and the rate of the jumps back from i
        sigma' / (1 - sigma) pi_i.
        """
        kept = jnp.maximum(1 - sigma, 1e-6)  # at t = 1 the sum is 0
        sigma, kept, d_sigma = (
            against(v, x_t)[..., None] for v in (sigma, kept, d_sigma)
        )
        p = _with_mask(jax.nn.softmax(output.astype(jnp.float32)))
        true = jax.nn.one_hot(target, self.codes + 1)
        log_p, log_q = (jnp.log(kept * v + sigma * self._fallen()) for v in (p, true))
        weight = d_sigma / kept * self._fallen()[x_t][..., None]
        return (weight * divergence(log_p, log_q, x_t)).sum(-1).mean(-1)

    def estimate(self, output, x_t, t):
        """Probabilities of each place's code, the one that is seen weighed in."""
        sigma = against(self.schedule.sigma(t), x_t)[..., None]
        fallen = sigma * self._fallen()[x_t][..., None]
        likely = (1 - sigma) * jax.nn.one_hot(x_t, self.codes) + fallen
        # Nothing is likely of a mask that cannot be there, at t = 0.
        weighed = jax.nn.softmax(output) * jnp.maximum(likely, 1e-30)
        return weighed / weighed.sum(-1, keepdims=True)

    def step(self, output, x_t, t, s, key):
        """Ancestral: a draw of p(x_s | x_t), exact for each code by itself.

        Proportional to q(x_t | x_s) times the sum over x of q(x_s | x) p(x). One
        example.
        """
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        # At s = 0 no code has fallen, whatever the schedule rounds to there.
        sigma_s = jnp.where(s == 0, 0.0, sigma_s)
        between = (1 - sigma_t) / (1 - sigma_s)
        fallen = (1 - between) * self._fallen()[x_t][..., None]
        forward = between * jax.nn.one_hot(x_t, self.codes + 1) + fallen
        p = _with_mask(jax.nn.softmax(output.astype(jnp.float32)))
        before = (1 - sigma_s) * p + sigma_s * self._fallen()
        drawn = jax.random.categorical(key, jnp.log(forward) + jnp.log(before))
        return drawn.astype(jnp.int32)

    def _fallen(self):
        """(k + 1,) probabilities of what a fallen code is."""
        codes = jnp.full(self.codes, self.share / self.codes)
        return jnp.append(codes, 1 - self.share)


def _with_mask(p):
    """Probabilities of codes as those of codes and mask, which data never is."""
    return jnp.concatenate([p, jnp.zeros_like(p[..., :1])], axis=-1)
