"""Gaussian corruption x_t = alpha(t) x + sigma(t) eps of continuous streams."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vqdit.diffusion.process import against
from vqdit.diffusion.schedules import Linear, Schedule

Target = Literal["data", "noise", "velocity", "v"]

# The variance bound is that of a chain of this many steps (arXiv:2102.09672).
CHAIN = 1000
# Derivatives of a square-root schedule and the "data" split are infinite at t = 0.
T_MIN = 1e-5


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A schedule, and which quantity the network is asked for.

    target: "data" x, "noise" eps, "velocity" dx_t/dt (arXiv:2209.03003),
        or "v" = alpha eps - sigma x (arXiv:2202.00512).
    learned_variance: the network also returns, after the target's channels, as many
        values that place the reverse variance between its two bounds
        (arXiv:2102.09672, eq. 15); the stream then needs `outputs=2`.
    """

    schedule: Schedule = Linear()
    target: Target = "velocity"
    learned_variance: bool = False

    def __post_init__(self):
        if self.target not in ("data", "noise", "velocity", "v"):
            raise ValueError(
                f"Gaussian.target {self.target!r}: write 'data', 'noise', 'velocity' "
                "or 'v'"
            )

    @property
    def outputs(self) -> int:
        """Values the network returns per channel."""
        return 2 if self.learned_variance else 1

    @property
    def start(self) -> float:
        """Where sampling starts: noise alone says nothing of the data at t = 1."""
        return 0.999 if self.target == "noise" else 1.0

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Unit noise, float32."""
        return jax.random.normal(key, shape)

    def corrupt(
        self, x0: Float[Array, "b *d"], t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(x_t, the target), float32."""
        x0 = x0.astype(jnp.float32)
        eps = jax.random.normal(key, x0.shape)
        alpha, sigma, a, b = self._coefficients(against(t, x0))
        return alpha * x0 + sigma * eps, a * x0 + b * eps

    def split(
        self, output: Float[Array, "*b_d"], x_t: Float[Array, "*b_d"], t: Array
    ) -> tuple[Array, Array]:
        """Reads (data, noise) off a network output; t is (b,), or () for one example.

        Every target is a row (a, b) in (x, eps), so one 2x2 solve serves all:
          [alpha sigma] [ x ]   [x_t]
          [  a     b  ] [eps] = [out]
        The determinant vanishes for "noise" where alpha does, for "data" where sigma
        does: hence `start` and T_MIN.
        """
        alpha, sigma, a, b = self._coefficients(against(t, x_t))
        det = alpha * b - sigma * a
        return (b * x_t - sigma * output) / det, (alpha * output - a * x_t) / det

    def velocity(self, output: Array, x_t: Array, t: Array) -> Array:
        """dx_t/dt of the probability-flow ODE, from any target."""
        data, noise = self.split(self.mean_part(output), x_t, t)
        _, _, d_alpha, d_sigma = dataclasses.replace(
            self, target="velocity"
        )._coefficients(against(t, x_t))
        return d_alpha * data + d_sigma * noise

    def mean_part(self, output: Array) -> Array:
        """The target's channels, without those of a learned variance."""
        return jnp.split(output, 2, axis=-1)[0] if self.learned_variance else output

    def loss(
        self,
        output: Array,
        target: Float[Array, "b *d"],
        x_t: Float[Array, "b *d"],
        t: Float[Array, "b"],
    ) -> Float[Array, "b"]:
        """Mean squared error, plus the variance bound when the variance is learned."""
        output = output.astype(jnp.float32)
        axes = tuple(range(1, x_t.ndim))
        mean = self.mean_part(output)
        loss = jnp.square(mean - target).mean(axes)
        if self.learned_variance:
            loss = loss + self._bound(output, target, x_t, t).mean(axes)
        return loss

    def step(self, output, x_t, t, s, key):
        """One Euler step of the ODE; the last one returns the data estimate.

        At s = 0 the remaining noise is removed whole, where a schedule like
        DDPMLinear, with sigma ~ sqrt(t), would leave half of it behind.
        """
        del key
        data, _ = self.split(self.mean_part(output), x_t, t)
        return jnp.where(s == 0, data, x_t + (s - t) * self.velocity(output, x_t, t))

    def guide(self, given: Array, absent: Array, scale: Array) -> Array:
        """absent + scale (given - absent); a learned variance stays the given one."""
        guided = absent + scale * (given - absent)
        if self.learned_variance:
            guided = jnp.concatenate(
                [self.mean_part(guided), jnp.split(given, 2, axis=-1)[1]], axis=-1
            )
        return guided

    def reverse(self, output: Array, x_t: Array, t: Array, s: Array):
        """(mean, log variance) of p(x_s | x_t), s < t.

        The posterior q(x_s | x_t, x) at the data estimate (arXiv:2006.11239, eq. 7, for
        any two times). Its variance, the lower bound, serves unless one is learned.
        """
        data, _ = self.split(self.mean_part(output), x_t, t)
        mean, low, high = self._posterior(data, x_t, t, s)
        if not self.learned_variance:
            return mean, low
        share = (jnp.split(output, 2, axis=-1)[1] + 1) / 2
        return mean, share * high + (1 - share) * low

    def _posterior(self, data, x_t, t, s):
        alpha_t, sigma_t, _, _ = self._coefficients(against(t, x_t))
        alpha_s, sigma_s, _, _ = self._coefficients(against(s, x_t))
        ratio = alpha_t / alpha_s
        fresh = sigma_t**2 - ratio**2 * sigma_s**2  # variance added between s and t
        mean = (ratio * sigma_s**2 * x_t + alpha_s * fresh * data) / sigma_t**2
        return mean, jnp.log(fresh * sigma_s**2 / sigma_t**2), jnp.log(fresh)

    def _bound(self, output, target, x_t, t):
        """KL(q(x_s | x_t, x) || p(x_s | x_t)) in bits; its mean part is not trained."""
        # Not past `start`, where the data cannot be read off the noise.
        t = jnp.clip(t, 2 / CHAIN, self.start)
        s = t - 1 / CHAIN
        data, _ = self.split(target, x_t, t)
        true_mean, true_log, _ = self._posterior(data, x_t, t, s)
        mean, log = self.reverse(output, x_t, t, s)
        mean = jax.lax.stop_gradient(mean)
        squares = jnp.square(true_mean - mean) * jnp.exp(-log)
        kl = 0.5 * (log - true_log - 1 + jnp.exp(true_log - log) + squares)
        return kl / jnp.log(2.0)

    def _coefficients(self, t):
        t = jnp.maximum(t, T_MIN)
        one = jnp.ones_like(t)
        alpha, d_alpha = jax.jvp(self.schedule.alpha, (t,), (one,))
        sigma, d_sigma = jax.jvp(self.schedule.sigma, (t,), (one,))
        a, b = {
            "data": (one, 0 * one),
            "noise": (0 * one, one),
            "velocity": (d_alpha, d_sigma),
            "v": (-sigma, alpha),
        }[self.target]
        return alpha, sigma, a, b
