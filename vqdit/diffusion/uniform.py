"""Uniform-state diffusion: a code is kept, or replaced by one drawn at random."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from vqdit.diffusion.replacement import Replacement
from vqdit.shapes import Array, Key


@dataclasses.dataclass(frozen=True)
class UniformState(Replacement):
    """D3PM's uniform transitions (arXiv:2107.03006) in continuous time.

    A share sigma(t) of the codes is drawn anew, each of the k values alike. Unlike a
    mask it may be drawn again, so a sampler can mend what it said before.
    """

    # Codes in their place pay too, and too much by sigma(hold) below it.
    hold: ClassVar[float] = 1e-4

    @property
    def scale(self):
        return self.codes

    @property
    def fallen(self):
        return jnp.ones(self.codes)

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Every code at random."""
        return jax.random.randint(key, shape, 0, self.codes)
