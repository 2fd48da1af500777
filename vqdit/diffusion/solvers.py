"""Steps from t to s < t, on one example.

A solver is a value; one of `order` 2 asks the network once more at (x_s, s) and
corrects.

Gaussian: Euler, Heun, DDIM, Ancestral. Masking: Unmask (ancestral), Confidence.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from vqdit.diffusion.gaussian import Gaussian
from vqdit.diffusion.masking import Masking


@runtime_checkable
class Solver(Protocol):
    """What the sampling loop asks of a solver."""

    order: int
    kind: type  # of process that it solves

    def step(self, process, output, x_t, t, s, key): ...


@dataclasses.dataclass(frozen=True)
class Euler:
    """First order in t on the probability-flow ODE."""

    order = 1
    kind = Gaussian

    def step(self, process, output, x_t, t, s, key):
        """The process's own step."""
        return process.step(output, x_t, t, s, key)


@dataclasses.dataclass(frozen=True)
class Heun:
    """Second order (arXiv:2206.00364, algorithm 1); the last step is Euler's."""

    order = 2
    kind = Gaussian

    def step(self, process, output, x_t, t, s, key):
        """The predictor."""
        return process.step(output, x_t, t, s, key)

    def correct(self, process, output, output_s, x_t, x_s, t, s):
        """The trapezoid with the slope at the predicted point."""
        slope = process.velocity(output, x_t, t)
        # At s = 0 the slope may not exist; the value computed there is dropped.
        slope_s = process.velocity(output_s, x_s, s)
        return jnp.where(s == 0, x_s, x_t + (s - t) * 0.5 * (slope + slope_s))


@dataclasses.dataclass(frozen=True)
class DDIM:
    """arXiv:2010.02502, eq. 12 and 16: eta = 0 is the ODE, eta = 1 is ancestral."""

    eta: float = 0.0

    order = 1
    kind = Gaussian

    def step(self, process, output, x_t, t, s, key):
        """x_s; draws noise only for eta > 0."""
        data, noise = process.split(process.mean_part(output), x_t, t)
        alpha_t, sigma_t = process.schedule.alpha(t), process.schedule.sigma(t)
        alpha_s, sigma_s = process.schedule.alpha(s), process.schedule.sigma(s)
        if self.eta == 0:
            return alpha_s * data + sigma_s * noise
        ratio = alpha_t * sigma_s / (alpha_s * sigma_t)
        fresh = self.eta * sigma_s * jnp.sqrt(jnp.clip(1 - ratio**2, 0.0))
        kept = jnp.sqrt(jnp.clip(sigma_s**2 - fresh**2, 0.0))
        eps = jax.random.normal(key, x_t.shape)
        return alpha_s * data + kept * noise + fresh * eps


@dataclasses.dataclass(frozen=True)
class Ancestral:
    """Draws from p(x_s | x_t) with the process's variance, learned or not.

    arXiv:2102.09672. With a fixed variance this is DDIM(eta=1).
    """

    order = 1
    kind = Gaussian

    def step(self, process, output, x_t, t, s, key):
        """The last step returns the mean."""
        data, _ = process.split(process.mean_part(output), x_t, t)
        mean, log_variance = process.reverse(output, x_t, t, s)
        eps = jax.random.normal(key, x_t.shape)
        return jnp.where(s == 0, data, mean + jnp.exp(0.5 * log_variance) * eps)


@dataclasses.dataclass(frozen=True)
class Unmask:
    """Ancestral unmasking: each code on its own (arXiv:2406.07524)."""

    order = 1
    kind = Masking

    def step(self, process, output, x_t, t, s, key):
        """The process's own step."""
        return process.step(output, x_t, t, s, key)


@dataclasses.dataclass(frozen=True)
class Confidence:
    """MaskGIT's order: the surest codes first (arXiv:2202.04200, section 3.2).

    After the step to s, a share sigma(s) of the codes stays masked. The order is by
    log p of the drawn value plus noise * s times a Gumbel draw, so noise = 0 is greedy
    and noise = inf a uniformly random order. temperature divides the logits.
    """

    noise: float = 4.5
    temperature: float = 1.0

    order = 1
    kind = Masking

    def __post_init__(self):
        if self.noise < 0 or self.temperature <= 0:
            raise ValueError(
                "Confidence: write noise of at least 0 and a positive temperature"
            )

    def step(self, process, output, x_t, t, s, key):
        """Reveals the surest codes, at least one."""
        value_key, order_key = jax.random.split(key)
        log_p = jax.nn.log_softmax(output / self.temperature)
        values = jax.random.categorical(value_key, log_p).astype(jnp.int32)
        sure = jnp.take_along_axis(log_p, values[..., None], axis=-1)[..., 0]
        gumbel = jax.random.gumbel(order_key, x_t.shape)
        random_order = self.noise == float("inf")
        score = gumbel if random_order else sure + self.noise * s * gumbel

        masked = x_t == process.vocab
        # One at least is revealed, or a coarse schedule would stand still.
        # A hair more than sigma, whose float32 may fall just short of a whole count.
        stay = jnp.floor((process.schedule.sigma(s) + 1e-6) * x_t.size)
        stay = stay.astype(jnp.int32)
        stay = jnp.where(s == 0, 0, jnp.minimum(stay, masked.sum() - 1))
        score = jnp.where(masked, score, jnp.inf).reshape(-1)
        rank = jnp.argsort(jnp.argsort(score)).reshape(x_t.shape)
        return jnp.where(masked & (rank >= stay), values, x_t)
