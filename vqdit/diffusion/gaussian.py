"""Gaussian corruption x_t = alpha(t) x + sigma(t) eps of continuous streams."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from vqdit.diffusion.process import Kind, Process, against
from vqdit.diffusion.schedules import Linear, Schedule, VarianceExploding
from vqdit.fields import Checked, Count, Positive
from vqdit.shapes import Array, Float, Key

Target = Literal["data", "noise", "velocity", "v"]

# The variance bound is that of a chain of this many steps (arXiv:2102.09672).
CHAIN = 1000
# Derivatives of a square-root schedule and the "data" split are infinite at t = 0.
T_MIN = 1e-5
# log-SNR from noise whose data nobody sees to data whose noise is a hundredth of it.
LEVELS = (-10.0, 9.2)


@dataclasses.dataclass(frozen=True)
class Gaussian(Checked, Process):
    """A schedule, and which quantity the network is asked for.

    schedule: alpha and sigma, how much of the data and of the noise there is at a time.
    target: "data" x, "noise" eps, "velocity" dx_t/dt (arXiv:2209.03003),
        or "v" = alpha eps - sigma x (arXiv:2202.00512).
    learned_variance: the network also returns, after the target's channels, as many
        values that place the reverse variance between its two bounds
        (arXiv:2102.09672, eq. 15).
    guided: how many channels, the first, guidance moves: 3 of 4 in DiT's code, whose
        published scores are of that (arXiv:2212.09748); None for all.
    """

    schedule: Schedule = Linear()
    target: Target = "velocity"
    learned_variance: bool = False
    guided: Count | None = dataclasses.field(default=None, kw_only=True)

    kind: ClassVar[Kind] = "latents"

    @property
    def outputs(self) -> int:
        """Values the network returns per channel."""
        return 2 if self.learned_variance else 1

    @property
    def start(self) -> float:
        """Where sampling starts: noise alone may say nothing of the data at t = 1."""
        return self.schedule.last if self.target == "noise" else 1.0

    def fit(self, stream):
        """Itself, where the stream has as many outputs. Raises ValueError otherwise."""
        if super().fit(stream).outputs != stream.outputs:
            raise ValueError(
                f"stream {stream.name!r}: its process reads outputs={self.outputs} "
                f"values a channel; the stream says outputs={stream.outputs}"
            )
        if (self.guided or 0) > stream.channels:
            raise ValueError(
                f"stream {stream.name!r}: guided={self.guided} of {stream.channels} "
                f"channels; write at most these, or None"
            )
        return self

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Noise of the schedule's spread, float32."""
        noise, spread = jax.random.normal(key, shape), self.schedule.spread
        return noise if spread == 1 else spread * noise

    def inputs(self, x_t: Array, t: Array) -> tuple[Array, Array]:
        """(x_t, the schedule's clock)."""
        return x_t, self.schedule.clock(t)

    def corrupt(
        self, x0: Float[Array, "b *d"], t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(x_t, the target), float32."""
        x0 = x0.astype(jnp.float32)
        eps = jax.random.normal(key, x0.shape)
        alpha, sigma, a, b = self._coefficients(against(t, x0))
        return alpha * x0 + sigma * eps, a * x0 + b * eps

    def estimate(
        self, output: Float[Array, "*b_o"], x_t: Float[Array, "*b_d"], t: Array
    ) -> tuple[Array, Array]:
        """Reads (data, noise) off a network output; t is (b,), or () for one example.

        Every target is a row (a, b) in (x, eps), so one 2x2 solve serves all:
          [alpha sigma] [ x ]   [x_t]
          [  a     b  ] [eps] = [out]
        The determinant vanishes for "noise" where alpha does, for "data" where sigma
        does: hence `start` and T_MIN.
        """
        output = self.mean_part(output)
        alpha, sigma, a, b = self._coefficients(against(t, x_t))
        det = alpha * b - sigma * a
        return (b * x_t - sigma * output) / det, (alpha * output - a * x_t) / det

    def velocity(self, output: Array, x_t: Array, t: Array) -> Array:
        """dx_t/du of the probability-flow ODE, u the schedule's variable."""
        data, noise = self.estimate(output, x_t, t)
        t = jnp.maximum(against(t, x_t), T_MIN)
        _, _, d_alpha, d_sigma = self._path(t)
        _, rate = jax.jvp(self.schedule.variable, (t,), (jnp.ones_like(t),))
        return (d_alpha * data + d_sigma * noise) / rate

    def length(self, t: Array, s: Array) -> Array:
        """u(s) - u(t), a step's in the schedule's variable."""
        return self.schedule.variable(s) - self.schedule.variable(t)

    def mean_part(self, output: Array) -> Array:
        """The target's channels, without those of a learned variance."""
        return jnp.split(output, 2, axis=-1)[0] if self.learned_variance else output

    def loss(
        self,
        output: Array,
        target: Float[Array, "b *d"],
        x_t: Float[Array, "b *d"],
        t: Float[Array, "b"],
    ) -> Float[Array, "b *grid"]:
        """Mean squared error of a place, plus the bound of a learned variance."""
        output = output.astype(jnp.float32)
        loss = jnp.square(self.mean_part(output) - target).mean(-1)
        if self.learned_variance:
            loss = loss + self._bound(output, target, x_t, t).mean(-1)
        return loss

    def query(self, x0, u, key, known):
        """One example and its time, for a draw of the bound; u is uniform."""
        del known
        low, high = self._levels()
        t = self.schedule.time(high + u * (low - high))
        return self.corrupt(x0[None], t[None], key)[0][0], t

    def bound(self, output, x0, x_t, t, known):
        """One draw of the variational bound on -log p(x0) in nats, of one example.

        Half the squared error of the noise, integrated over log-SNR, in which the
        schedule and the target cancel (arXiv:2107.00630, eq. 17-18), and its ends: the
        divergence from N(0, alpha^2 + sigma^2) where the noise is greatest, and the
        data around x_t / alpha where it is least. Of the stochastic sampler, also of a
        flow whose ODE has another likelihood.
        """
        low, high = self._levels()
        alpha, sigma, _, _ = self._path(t)
        _, noise = self.estimate(output.astype(jnp.float32), x_t, t)
        missed = jnp.square(noise - (x_t - alpha * x0) / sigma)
        share = jax.nn.sigmoid(low)  # alpha^2 of alpha^2 + sigma^2
        first = 0.5 * (share * (jnp.square(x0) - 1) - jnp.log1p(-share))
        last = 0.5 * (jnp.log(2 * jnp.pi) + 1 - high)
        each = 0.5 * (high - low) * missed + first + last
        return jnp.where(known[..., None], each, 0.0).sum()

    def _levels(self):
        """(least, greatest) log-SNR between which the bound is integrated."""
        low, high = self.schedule.log_snr(jnp.array([self.start, 0.0]))
        return jnp.maximum(low, LEVELS[0]), jnp.minimum(high, LEVELS[1])

    def step(self, output, x_t, t, s, key):
        """One Euler step of the ODE; the last one returns the data estimate.

        At s = 0 the remaining noise is removed whole, where a schedule like
        DDPMLinear, with sigma ~ sqrt(t), would leave half of it behind.
        """
        del key
        data, _ = self.estimate(output, x_t, t)
        ahead = x_t + self.length(t, s) * self.velocity(output, x_t, t)
        return jnp.where(s == 0, data, ahead)

    def guide(self, given: Array, absent: Array, scale: Array) -> Array:
        """absent + scale (given - absent); what is not guided, and a learned variance,
        stays the given one."""
        moved = absent + scale * (given - absent)
        channels = given.shape[-1] // self.outputs
        count = channels if self.guided is None else self.guided
        if count == given.shape[-1]:
            return moved
        return jnp.where(jnp.arange(given.shape[-1]) < count, moved, given)

    def reverse(self, output: Array, x_t: Array, t: Array, s: Array):
        """(mean, log variance) of p(x_s | x_t), s < t.

        The posterior q(x_s | x_t, x) at the data estimate (arXiv:2006.11239, eq. 7, for
        any two times). Its variance, the lower bound, serves unless one is learned.
        """
        data, _ = self.estimate(output, x_t, t)
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
        fixed = dataclasses.replace(self, learned_variance=False)
        data, _ = fixed.estimate(target, x_t, t)
        true_mean, true_log, _ = self._posterior(data, x_t, t, s)
        mean, log = self.reverse(output, x_t, t, s)
        mean = jax.lax.stop_gradient(mean)
        squares = jnp.square(true_mean - mean) * jnp.exp(-log)
        kl = 0.5 * (log - true_log - 1 + jnp.exp(true_log - log) + squares)
        return kl / jnp.log(2.0)

    def _coefficients(self, t):
        alpha, sigma, d_alpha, d_sigma = self._path(t)
        return alpha, sigma, *self._row(alpha, sigma, d_alpha, d_sigma)

    def _path(self, t):
        t = jnp.maximum(t, T_MIN)
        one = jnp.ones_like(t)
        alpha, d_alpha = jax.jvp(self.schedule.alpha, (t,), (one,))
        sigma, d_sigma = jax.jvp(self.schedule.sigma, (t,), (one,))
        return alpha, sigma, d_alpha, d_sigma

    def _row(self, alpha, sigma, d_alpha, d_sigma):
        """The target as a row (a, b) in (x, eps)."""
        one = jnp.ones_like(alpha)
        return {
            "data": (one, 0 * one),
            "noise": (0 * one, one),
            "velocity": (d_alpha, d_sigma),
            "v": (-sigma, alpha),
        }[self.target]


@dataclasses.dataclass(frozen=True)
class EDM(Gaussian):
    """The preconditioning of Karras et al. 2022 (arXiv:2206.00364, table 1, eq. 7-8).

    The network sees x_t at unit variance and log(sigma / alpha) / 4 for its time, and
    its output F, whose target has unit variance too, gives the data as
    c_skip x_t + c_out F. In (x, eps) that target is the row
    (sigma / std, -alpha std) / sqrt(alpha^2 std^2 + sigma^2), so nothing else differs,
    and the weight of the paper's loss is already in it. Train it at LogNormal times. A
    published network multiplies the time by 1: DiT(time_scale=1.0).

    data_std: standard deviation of the stream's data, sigma_data in the paper.
    """

    schedule: Schedule = VarianceExploding()
    target: Any = dataclasses.field(default="edm", init=False)
    data_std: Positive = 0.5

    def inputs(self, x_t, t):
        """(c_in x_t, c_noise)."""
        alpha, sigma, _, _ = self._path(t)
        scale = against(1 / self._size(alpha, sigma), x_t)
        # Finite where a schedule ends without data.
        ratio = jnp.log(sigma) - jnp.log(jnp.maximum(alpha, T_MIN))
        return scale * x_t.astype(jnp.float32), ratio / 4

    def _row(self, alpha, sigma, d_alpha, d_sigma):
        del d_alpha, d_sigma
        size = self._size(alpha, sigma)
        return sigma / (self.data_std * size), -alpha * self.data_std / size

    def _size(self, alpha, sigma):
        return jnp.sqrt((alpha * self.data_std) ** 2 + sigma**2)
