"""Mask and replace: a code is kept, masked, or replaced by one drawn at random."""

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from vqdit.diffusion.replacement import Replacement
from vqdit.fields import Bound
from vqdit.shapes import Array, Key


@dataclasses.dataclass(frozen=True)
class MaskAndReplace(Replacement):
    """Between Masking and UniformState (arXiv:2111.14822; arXiv:2503.04482).

    A share sigma(t) of the codes has fallen, each of them to the mask, `vocab`, or with
    probability `share` to one of the k codes, each alike: so a sampler sees most of
    what is left to say, and can still mend what it has said. The softmax p of the
    output is what the other codes say of this one, as in UniformState.

    share: probability of a code, not the mask, in the place of one that has fallen.
    """

    share: Annotated[float, Bound(above=0, below=1)] = 0.1

    # Codes in their place pay too, as in UniformState.
    hold: ClassVar[float] = 1e-4

    @property
    def fallen(self):
        codes = jnp.full(self.codes, self.share / self.codes)
        return jnp.append(codes, 1 - self.share)

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Masks, and a share of codes at random."""
        drawn_key, value_key = jax.random.split(key)
        drawn = jax.random.uniform(drawn_key, shape) < self.share
        values = jax.random.randint(value_key, shape, 0, self.codes)
        return jnp.where(drawn, values, self.codes)
