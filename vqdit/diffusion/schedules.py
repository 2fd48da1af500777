"""Schedules alpha(t), sigma(t) on [0, 1]; t = 0 is data and t = 1 is noise.

Gaussian processes read x_t = alpha x + sigma eps; processes of codes read sigma as the
share of codes that are replaced. Derivatives come from autodiff, and log-SNR from the
two, so a schedule is these two functions.
"""

import dataclasses
import functools
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Ascending, Checked, Positive
from vqdit.shapes import Array

BISECTIONS = 80  # halve [0, 1] until float32 has no number in between


@runtime_checkable
class Schedule(Protocol):
    """A frozen dataclass that inherits from this and writes alpha and sigma.

    alpha falls or stays, sigma rises; where sigma is a share it runs from 0 to 1.
    last: the last time at which x_t and its noise still say what the data is; where
        alpha(1) is 0 that is just below 1.
    spread: standard deviation of x at t = 1.
    """

    last: ClassVar[float] = 0.999

    @property
    def spread(self) -> float:
        return 1.0

    def alpha(self, t: Array) -> Array: ...

    def sigma(self, t: Array) -> Array: ...

    def log_snr(self, t: Array) -> Array:
        """log(alpha^2 / sigma^2), which falls from inf or so to -inf or so."""
        # A cosine's alpha(1) rounds to below 0.
        alpha = jnp.maximum(self.alpha(t), 0.0)
        return 2 * (jnp.log(alpha) - jnp.log(self.sigma(t)))

    def time(self, log_snr: Array) -> Array:
        """The inverse of `log_snr`, within [0, 1]; by bisection unless overridden."""
        log_snr = jnp.asarray(log_snr, jnp.float32)

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            early = self.log_snr(middle) > log_snr
            return jnp.where(early, middle, low), jnp.where(early, high, middle)

        ends = jnp.zeros_like(log_snr), jnp.ones_like(log_snr)
        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, ends)
        # An end that was never left is the answer itself, or what is nearest to it.
        return jnp.where(high == 1, 1.0, low)

    def variable(self, t: Array) -> Array:
        """What the steps of an ODE solver are measured in."""
        return t

    def clock(self, t: Array) -> Array:
        """The time as a network is told it, which it multiplies by 1000."""
        return t


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """Rectified flow (arXiv:2209.03003); as a mask rate, MDLM's (arXiv:2406.07524)."""

    def alpha(self, t):
        return 1.0 - t

    def sigma(self, t):
        return t


# Its name as a mask rate (arXiv:2310.16834): the total noise is -log(1 - t).
LogLinear = Linear


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """alpha^2 + sigma^2 = 1 (arXiv:2202.00512); as a mask rate, MaskGIT's cosine."""

    def alpha(self, t):
        return jnp.cos(0.5 * jnp.pi * t)

    def sigma(self, t):
        return jnp.sin(0.5 * jnp.pi * t)


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, of log alpha^2 as `_log_alpha2` has it."""

    def alpha(self, t):
        return jnp.exp(0.5 * self._log_alpha2(t))

    def sigma(self, t):
        """sqrt(1 - alpha^2), without cancellation near t = 0."""
        return jnp.sqrt(-jnp.expm1(self._log_alpha2(t)))


@dataclasses.dataclass(frozen=True)
class DDPMLinear(Checked, VariancePreserving):
    """DDPM's linear betas in continuous time (arXiv:2011.13456, eq. 32-33).

    beta runs from 0.1 to 20 over [0, 1], the limit of the thousand steps of
    arXiv:2006.11239 (1e-4 to 0.02): alpha^2 = exp(-t^2 (20 - 0.1) / 2 - 0.1 t). For a
    model that was trained on the steps themselves see LinearBetas.

    beta_min, beta_max: beta at t = 0 and t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha2(self, t):
        """The integral of -beta."""
        return -0.5 * t**2 * (self.beta_max - self.beta_min) - t * self.beta_min


@dataclasses.dataclass(frozen=True)
class VarianceExploding(Ascending, Schedule):
    """alpha = 1, sigma from low to high, even in log sigma (arXiv:2011.13456, eq. 30).

    Between them lies what arXiv:2206.00364 walks, 0.002 to 80. A little noise is left
    at t = 0; a solver's last step removes it.

    low, high: sigma at t = 0 and t = 1.
    """

    low: Positive = 0.001
    high: float = 80.0

    last: ClassVar[float] = 1.0

    @property
    def spread(self) -> float:
        """That of the noise; the data's beside it is small."""
        return self.high

    def alpha(self, t):
        return jnp.ones_like(t)

    def sigma(self, t):
        return self.low * jnp.exp(t * np.log(self.high / self.low))

    def variable(self, t):
        """sigma, in which the paths of arXiv:2206.00364 bend least."""
        return self.sigma(t)

    def time(self, log_snr):
        """Closed: log sigma is linear in t."""
        log_sigma = -0.5 * jnp.asarray(log_snr, jnp.float32)
        t = (log_sigma - np.log(self.low)) / np.log(self.high / self.low)
        return jnp.clip(t, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Betas(Checked, VariancePreserving):
    """A chain of noising steps (arXiv:2006.11239), beta by beta.

    Step i of n, i from 0, ends at t = (i + 1) / n with alpha^2 = prod (1 - beta_j),
    j <= i; log alpha^2 is linear in between. The clock shows i, as published networks
    embed it, so both their noise level and their embedding fit.

    betas: from the data on.
    """

    betas: tuple[float, ...]

    last: ClassVar[float] = 1.0

    def __post_init__(self):
        super().__post_init__()
        betas = np.asarray(self.table())
        if not betas.size or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"{self.called}: write one beta or more, each in (0, 1)")

    def table(self) -> np.ndarray:
        """(n,) betas."""
        return np.asarray(self.betas, np.float64)

    def clock(self, t):
        """i / 1000; data, which stands before step 0, is shown as step 0."""
        return jnp.maximum((t * len(self.table()) - 1) / 1000, 0.0)

    def _log_alpha2(self, t):
        knots = _chain(self)
        # Not clipped to the knots: a clip halves the derivative at t = 1, where walks
        # begin.
        place = jnp.asarray(t) * (len(knots) - 1)
        before = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, len(knots) - 2)
        start = jnp.asarray(knots[:-1], jnp.float32)[before]
        slope = jnp.asarray(np.diff(knots), jnp.float32)[before]
        return start + (place - before) * slope


@functools.lru_cache(maxsize=64)
def _chain(schedule: Betas) -> np.ndarray:
    """(n + 1,) log alpha^2 at t = 0, 1/n, ..., 1."""
    return np.concatenate([[0.0], np.cumsum(np.log1p(-schedule.table()))])


@dataclasses.dataclass(frozen=True)
class LinearBetas(Betas):
    """Betas from low to high (arXiv:2006.11239, section 4), even in beta^(1 / power).

    DiT's and guided diffusion's are the default; latent diffusion (arXiv:2112.10752)
    has LinearBetas(low=0.00085, high=0.012, power=2).

    steps: of the chain.
    low, high: the first beta and the last.
    power: 1 for even betas, 2 for even roots of them.
    """

    betas: tuple[float, ...] = dataclasses.field(default=(), init=False, repr=False)
    steps: int = 1000
    low: float = 1e-4
    high: float = 0.02
    power: Positive = 1.0

    def table(self):
        root = 1 / self.power
        return np.linspace(self.low**root, self.high**root, self.steps) ** self.power


@dataclasses.dataclass(frozen=True)
class CosineBetas(Betas):
    """Those of a squared cosine (arXiv:2102.09672, eq. 17), none above `most`.

    steps: of the chain.
    offset: of the cosine, so that the first steps are not too small.
    most: that a beta is.
    """

    betas: tuple[float, ...] = dataclasses.field(default=(), init=False, repr=False)
    steps: int = 1000
    offset: float = 0.008
    most: float = 0.999

    def table(self):
        t = np.arange(self.steps + 1) / self.steps
        level = np.cos((t + self.offset) / (1 + self.offset) * np.pi / 2) ** 2
        return np.minimum(1 - level[1:] / level[:-1], self.most)
