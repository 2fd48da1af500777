"""Schedules alpha(t), sigma(t) on [0, 1]; t = 0 is data and t = 1 is noise.

Gaussian processes read x_t = alpha x + sigma eps; masking reads sigma as the share of
masked tokens. Derivatives come from autodiff, so a schedule is these two functions.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array


@runtime_checkable
class Schedule(Protocol):
    """alpha falls from 1 to 0, sigma rises from 0 to 1."""

    def alpha(self, t: Array) -> Array: ...
    def sigma(self, t: Array) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Linear:
    """Rectified flow (arXiv:2209.03003); as a mask rate, MDLM's (arXiv:2406.07524)."""

    def alpha(self, t):
        """1 - t."""
        return 1.0 - t

    def sigma(self, t):
        """t."""
        return t


@dataclasses.dataclass(frozen=True)
class Cosine:
    """alpha^2 + sigma^2 = 1 (arXiv:2202.00512); as a mask rate, MaskGIT's cosine."""

    def alpha(self, t):
        """cos(pi t / 2)."""
        return jnp.cos(0.5 * jnp.pi * t)

    def sigma(self, t):
        """sin(pi t / 2)."""
        return jnp.sin(0.5 * jnp.pi * t)


@dataclasses.dataclass(frozen=True)
class DDPMLinear:
    """DDPM's linear betas in continuous time (arXiv:2011.13456, eq. 32-33).

    beta runs from 0.1 to 20 over [0, 1], the limit of the thousand steps of
    arXiv:2006.11239 (1e-4 to 0.02): alpha^2 = exp(-t^2 (20 - 0.1) / 2 - 0.1 t).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha(self, t):
        """exp of half the integral of -beta."""
        return jnp.exp(0.5 * self._log_alpha2(t))

    def sigma(self, t):
        """sqrt(1 - alpha^2), without cancellation near t = 0."""
        return jnp.sqrt(-jnp.expm1(self._log_alpha2(t)))

    def _log_alpha2(self, t):
        return -0.5 * t**2 * (self.beta_max - self.beta_min) - t * self.beta_min
