"""Grids of times that a sampler walks, from noise to data.

A grid is a value; called with a process it gives steps + 1 times, which fall from where
sampling starts to 0; those of Reversed rise.
"""

import dataclasses
import math
from typing import Annotated, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from vqdit.fields import Ascending, Bound, Checked, Count, Positive
from vqdit.shapes import Array, Float


@runtime_checkable
class Grid(Protocol):
    """start: where to begin instead of at the process's own, for streams that are drawn
    together."""

    def __call__(
        self, process, start: float | None = None
    ) -> Float[Array, "steps"]: ...


@dataclasses.dataclass(frozen=True)
class Steps(Checked):
    """Even in t, or with shift > 1 denser near noise.

    t -> shift t / (1 + (shift - 1) t) (arXiv:2403.03206, eq. 23).

    steps: of the sampler.
    shift: 1 for even ones.
    """

    steps: Count = 50
    shift: Positive = 1.0

    def __call__(self, process, start: float | None = None) -> Float[Array, "steps"]:
        start = process.start if start is None else start
        t = jnp.linspace(1.0, 0.0, self.steps + 1)
        return start * self.shift * t / (1 + (self.shift - 1) * t)


@dataclasses.dataclass(frozen=True)
class Karras(Ascending):
    """Even in sigma^(1/rho) from high to low, then 0 (arXiv:2206.00364, eq. 5).

    sigma is sigma / alpha of the process's schedule. rho = inf is even in log-SNR, as
    DPM-Solver++ walks (arXiv:2211.01095); rho = 1 even in sigma. Where the process
    starts above `high`, the first step is longer.

    steps: of the sampler.
    low, high: ends of sigma.
    rho: how much denser the steps are near the data.
    """

    steps: Count = 18
    low: Positive = 0.002
    high: float = 80.0
    rho: Annotated[float, Bound(above=0, at_most=math.inf)] = 7.0

    def __call__(self, process, start: float | None = None) -> Float[Array, "steps"]:
        first = jnp.asarray(process.start if start is None else start, jnp.float32)
        log_high = jnp.minimum(
            -0.5 * process.schedule.log_snr(first), np.float32(np.log(self.high))
        )
        share = jnp.linspace(0.0, 1.0, self.steps)
        low = np.log(self.low)
        if self.rho == float("inf"):
            log_sigma = log_high + share * (low - log_high)
        else:
            ends = jnp.exp(log_high / self.rho), np.exp(low / self.rho)
            log_sigma = self.rho * jnp.log(ends[0] + share * (ends[1] - ends[0]))
        times = process.schedule.time(-2 * log_sigma)
        return jnp.concatenate([first[None], times[1:], jnp.zeros(1)])


@dataclasses.dataclass(frozen=True)
class Times:
    """Those that are written down, such as (1.0, 0.6, 0.3, 0.0).

    times: from 1 to 0, falling.
    """

    times: tuple[float, ...]

    def __post_init__(self):
        times = np.asarray(self.times)
        falls = times.ndim == 1 and times.size > 1 and (np.diff(times) < 0).all()
        if not falls or times[0] > 1 or times[-1] != 0:
            raise ValueError("Times: write two or more, falling from at most 1 to 0")

    def __call__(self, process, start: float | None = None) -> Float[Array, "steps"]:
        """The times. Raises ValueError where the first is past `start`."""
        start = process.start if start is None else start
        if self.times[0] > start:
            raise ValueError(
                f"Times: {self.times[0]} is past {start}, where sampling starts; begin "
                f"there"
            )
        return jnp.asarray(self.times, jnp.float32)


@dataclasses.dataclass(frozen=True)
class Reversed:
    """The times of a grid from 0 upward: from data to noise, as an inverter walks.

    grid: the one that leads back.
    """

    grid: Grid

    def __post_init__(self):
        if not isinstance(self.grid, Grid) or isinstance(self.grid, Reversed):
            raise ValueError(f"Reversed.grid={self.grid!r}: write a grid that falls")

    def __call__(self, process, start: float | None = None) -> Float[Array, "steps"]:
        return self.grid(process, start)[::-1]
