"""Diffusion of discrete streams by replacing codes, each on its own.

sigma(t) of the schedule is the share of codes replaced at time t; what they are
replaced by is the process.
"""

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vqdit.diffusion.process import Kind, Process
from vqdit.diffusion.schedules import Cosine, Schedule
from vqdit.fields import Bound, Checked


@dataclasses.dataclass(frozen=True)
class Replacement(Checked, Process):
    """vocab: number of codes; None where the stream says it (see `fit`)."""

    vocab: Annotated[int, Bound(at_least=2)] | None = None
    schedule: Schedule = Cosine()

    kind: ClassVar[Kind] = "codes"
    # The weight of a replaced code grows like 1/t: below this time it is held.
    hold: ClassVar[float] = 1e-3

    def __post_init__(self):
        super().__post_init__()
        advice = "no share of codes; write Linear(), Cosine() or another within [0, 1]"
        self.check("schedule", self.schedule.spread == 1, advice)

    def fit(self, stream):
        """With the stream's vocabulary. Raises ValueError where it has another."""
        super().fit(stream)
        if self.vocab not in (None, stream.vocab):
            raise ValueError(
                f"stream {stream.name!r}: {type(self).__name__}.vocab {self.vocab} is "
                f"not the stream's vocab {stream.vocab}"
            )
        return dataclasses.replace(self, vocab=stream.vocab)

    @property
    def codes(self) -> int:
        """How many there are, and the mask's own. Raises ValueError before `fit`."""
        if self.vocab is None:
            raise ValueError(f"{type(self).__name__}.vocab is not known; write it")
        return self.vocab

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
