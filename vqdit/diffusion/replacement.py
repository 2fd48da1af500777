"""Diffusion of discrete streams by replacing codes, each on its own.

sigma(t) of the schedule is the share of codes replaced at time t; what they are
replaced by is the process.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vqdit.diffusion.process import Kind, Process
from vqdit.diffusion.schedules import Cosine, Schedule


@dataclasses.dataclass(frozen=True)
class Replacement(Process):
    """vocab: number of codes; None where the stream says it (see `fit`)."""

    vocab: int | None = None
    schedule: Schedule = Cosine()

    kind: ClassVar[Kind] = "codes"
    # The weight of a replaced code grows like 1/t: below this time it is held.
    hold: ClassVar[float] = 1e-3

    def __post_init__(self):
        name = type(self).__name__
        if self.vocab is not None and self.vocab < 2:
            raise ValueError(f"{name}.vocab {self.vocab}: write at least 2 codes")
        if self.schedule.spread != 1:
            raise ValueError(
                f"{name}.schedule: {type(self.schedule).__name__} is no share of "
                f"codes; write Linear(), Cosine() or another within [0, 1]"
            )

    def fit(self, stream):
        """With the stream's vocabulary. Raises ValueError where it has another."""
        super().fit(stream)
        if self.vocab not in (None, stream.vocab):
            raise ValueError(
                f"stream {stream.name!r}: {type(self).__name__}.vocab {self.vocab} is "
                f"not the stream's vocab {stream.vocab}"
            )
        return dataclasses.replace(self, vocab=stream.vocab)

    def _rate(self, t: Array) -> tuple[Array, Array]:
        """(sigma(t), sigma'(t)), with sigma' such that a bound keeps its value.

        Below `hold` both are those at `hold`, while codes fall with the smaller
        sigma(t): of sigma ~ t^p that would leave p / (p + 1) of what is due, so sigma'
        is larger by (p + 1) / p there.
        """
        held = jnp.maximum(t, self.hold)
        sigma, slope = jax.jvp(self.schedule.sigma, (held,), (jnp.ones_like(held),))
        power = held * slope / sigma
        return sigma, jnp.where(t < self.hold, slope * (power + 1) / power, slope)
