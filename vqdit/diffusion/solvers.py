"""Steps from t to s < t, on one example; those of an ODE also to s > t.

A solver is a value. In a step the network is asked `stages` times, at the times that
`time` says; what has to be kept between stages or steps is its memory. All processes:
Plain. Gaussian: Heun, ImplicitEuler, DDIM, Ancestral, Multistep, Churn, Corrector.
Those that draw codes are in unmasking.py.
"""

import dataclasses
import math
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from vqdit.diffusion.gaussian import Gaussian
from vqdit.diffusion.process import Process
from vqdit.fields import Ascending, Bound, Checked, Count, NonNegative
from vqdit.shapes import Array


@runtime_checkable
class Solver(Protocol):
    """A frozen dataclass that inherits from this and writes `step`."""

    kind: ClassVar[type] = Process  # what it solves

    @property
    def stages(self) -> int:
        """Calls of the network in a step."""
        return 1

    def memory(self, x: Array) -> Any:
        """Arrays carried from stage to stage, as they are before the first step."""
        return ()

    def time(self, stage: int, process, t: Array, s: Array) -> Array:
        """When the network is asked at a stage: at t, then at s."""
        return s if stage else t

    def begin(self, process, x, t, s, key, memory) -> Array:
        """x_t, from which a step begins, of x at time t."""
        return x

    def step(
        self, stage: int, process, output, x_t, x, t, s, key, memory
    ) -> tuple[Array, Any]:
        """(x after a stage, memory); after the last one it is x_s.

        output is the network's at x, which is x_t at stage 0: what `begin` made. The
        key is the stage's own.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Plain(Solver):
    """The process's own step.

    Of a Gaussian, Euler's on the probability-flow ODE; of codes, ancestral.
    """

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        return process.step(output, x_t, t, s, key), memory


# The name that it has in the literature, for latents.
Euler = Plain


@dataclasses.dataclass(frozen=True)
class Heun(Solver):
    """Second order (arXiv:2206.00364, algorithm 1); the last step is Euler's."""

    stages, kind = 2, Gaussian

    def memory(self, x):
        """The slope at t."""
        return jnp.zeros_like(x)

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """Euler's step, then the trapezoid with the slope at the predicted point."""
        if stage == 0:
            slope = process.velocity(output, x_t, t)
            return process.step(output, x_t, t, s, key), slope
        # At s = 0 the slope may not exist; the value computed there is dropped.
        slope = process.velocity(output, x, s)
        mean = process.length(t, s) * 0.5 * (memory + slope)
        return jnp.where(s == 0, x, x_t + mean), memory


@dataclasses.dataclass(frozen=True)
class ImplicitEuler(Checked, Solver):
    """Euler's step by the slope at its end, which is found by fixed-point iteration.

    First order. Walked from data to noise it undoes the steps of Euler from noise to
    data, to the iteration's error (arXiv:2309.04907). At t = 0, where there may be no
    slope, the network is never asked: a step that ends there is Euler's.

    rounds: of the iteration; in each the network is asked once.
    """

    rounds: Count = 4

    kind: ClassVar[type] = Gaussian

    @property
    def stages(self) -> int:
        return self.rounds

    def time(self, stage, process, t, s):
        """s at every stage; of a step to 0, t."""
        return jnp.where(s == 0, t, s)

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """The next guess of x_s, of which x is the last one; the first is x_t.

        From t = 0 it undoes the last step of Euler, which returns the data estimate.
        """
        asked = self.time(stage, process, t, s)
        data, noise = process.estimate(output, x, asked)
        first = process.schedule.alpha(s) * x_t + process.schedule.sigma(s) * noise
        ahead = x_t + process.length(t, s) * process.velocity(output, x, asked)
        last = x if stage else data
        return jnp.where(s == 0, last, jnp.where(t == 0, first, ahead)), memory


@dataclasses.dataclass(frozen=True)
class DDIM(Checked, Solver):
    """arXiv:2010.02502, eq. 12 and 16: eta = 0 is the ODE, eta = 1 is ancestral.

    eta: how much noise each step adds.
    """

    eta: NonNegative = 0.0

    kind: ClassVar[type] = Gaussian

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """x_s; draws noise only for eta > 0. The last step returns the data estimate,
        of a schedule that leaves noise at t = 0, too."""
        data, noise = process.estimate(output, x_t, t)
        alpha_t, sigma_t = process.schedule.alpha(t), process.schedule.sigma(t)
        alpha_s, sigma_s = process.schedule.alpha(s), process.schedule.sigma(s)
        if self.eta == 0:
            x_s = alpha_s * data + sigma_s * noise
        else:
            ratio = alpha_t * sigma_s / (alpha_s * sigma_t)
            fresh = self.eta * sigma_s * jnp.sqrt(jnp.clip(1 - ratio**2, 0.0))
            kept = jnp.sqrt(jnp.clip(sigma_s**2 - fresh**2, 0.0))
            eps = jax.random.normal(key, x_t.shape)
            x_s = alpha_s * data + kept * noise + fresh * eps
        return jnp.where(s == 0, data, x_s), memory


@dataclasses.dataclass(frozen=True)
class Ancestral(Solver):
    """Draws from p(x_s | x_t) with the process's variance, learned or not.

    arXiv:2102.09672. With a fixed variance this is DDIM(eta=1).
    """

    kind: ClassVar[type] = Gaussian

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """The last step returns the mean."""
        data, _ = process.estimate(output, x_t, t)
        mean, log_variance = process.reverse(output, x_t, t, s)
        eps = jax.random.normal(key, x_t.shape)
        drawn = mean + jnp.exp(0.5 * log_variance) * eps
        return jnp.where(s == 0, data, drawn), memory


@dataclasses.dataclass(frozen=True)
class Multistep(Solver):
    """DPM-Solver++ 2M: second order, one call a step (arXiv:2211.01095, algorithm 2).

    The data is extrapolated in log-SNR from this step and the one before. The first
    step and the last are of first order, DDIM's. Where times are even in t, steps next
    to the data stay long in log-SNR however many there are, and the error of n falls as
    log(n) / n^2; on Karras's grid as 1 / n^2.
    """

    kind: ClassVar[type] = Gaussian

    def memory(self, x):
        """The data as the step before saw it, and its log-SNR."""
        return jnp.zeros_like(x), jnp.float32(-jnp.inf)

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """eq. 9 with D of algorithm 2."""
        before, log_before = memory
        data, _ = process.estimate(output, x_t, t)
        schedule = process.schedule
        log_t = schedule.log_snr(t)
        # 1 / (2r), r the length of the step before in units of this one's; 0 where one
        # has no end: no step before, pure noise, pure data.
        share = (schedule.log_snr(s) - log_t) / (2 * (log_t - log_before))
        share = jnp.nan_to_num(share, nan=0.0, posinf=0.0)
        ahead = data + share * (data - before)
        keep = schedule.sigma(s) / schedule.sigma(t)
        x_s = keep * x_t + (schedule.alpha(s) - keep * schedule.alpha(t)) * ahead
        return jnp.where(s == 0, data, x_s), (data, log_t)


@dataclasses.dataclass(frozen=True)
class Churn(Ascending, Solver):
    """EDM's stochastic sampler: noise is added before every step of a solver.

    arXiv:2206.00364, algorithm 2; sigma is here sigma / alpha of any schedule.

    solver:    one that looks at no step but its own: Heun, Plain, DDIM.
    more:      share by which it grows before a step, S_churn / steps, at most 0.414.
    low, high: range of sigma in which it does, S_tmin and S_tmax.
    scale:     standard deviation of the added noise, S_noise.
    """

    solver: Solver = Heun()
    more: Annotated[float, Bound(at_least=0, at_most=0.4143)] = 0.2
    low: float = 0.05
    high: Annotated[float, Bound(at_least=0, at_most=math.inf)] = 50.0
    scale: float = 1.003

    kind: ClassVar[type] = Gaussian

    def __post_init__(self):
        super().__post_init__()
        advice = "sees more than a step of latents; write Heun(), Plain() or DDIM()"
        self.check("solver", isinstance(self.solver, Heun | Plain | DDIM), advice)

    @property
    def stages(self) -> int:
        return self.solver.stages

    def memory(self, x):
        return self.solver.memory(x)

    def time(self, stage, process, t, s):
        """Stage 0 is asked where the noise is as high as it was made."""
        if stage:
            return self.solver.time(stage, process, self.time(0, process, t, s), s)
        log_snr = process.schedule.log_snr(t)
        sigma = jnp.exp(-0.5 * log_snr)
        inside = (self.low <= sigma) & (sigma <= self.high)
        later = process.schedule.time(log_snr - 2 * jnp.log1p(self.more))
        return jnp.where(inside, jnp.maximum(later, t), t)

    def begin(self, process, x, t, s, key, memory):
        """x with noise added."""
        schedule, later = process.schedule, self.time(0, process, t, s)
        ratio = schedule.alpha(later) / schedule.alpha(t)
        # Where nothing is added there may be no data, and no ratio; chosen here, not at
        # the end, through which a derivative would be NaN.
        ratio = jnp.where(later > t, ratio, 1.0)
        fresh = schedule.sigma(later) ** 2 - (ratio * schedule.sigma(t)) ** 2
        fresh = self.scale * jnp.sqrt(jnp.maximum(fresh, 0.0))
        return ratio * x + fresh * jax.random.normal(key, x.shape)

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """The solver's, from where stage 0 was asked."""
        t = self.time(0, process, t, s)
        return self.solver.step(stage, process, output, x_t, x, t, s, key, memory)


@dataclasses.dataclass(frozen=True)
class Corrector(Checked, Solver):
    """A step of Langevin dynamics at t, then the process's own step to s.

    arXiv:2011.13456, algorithm 5.

    snr: share of the score's step in its noise.
    """

    snr: NonNegative = 0.1

    stages, kind = 2, Gaussian

    def time(self, stage, process, t, s):
        """Both at t."""
        return t

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """The corrected x_t, then x_s."""
        if stage:
            return process.step(output, x, t, s, key), memory
        _, noise = process.estimate(output, x_t, t)
        # The score is -noise / sigma, and a step of 2 (snr |z| / |score|)^2 with |z|
        # and |noise| both the root of their size is 2 (snr sigma)^2.
        sigma = process.schedule.sigma(t)
        step = 2 * (self.snr * sigma) ** 2
        z = jax.random.normal(key, x_t.shape)
        return x_t - step * noise / sigma + jnp.sqrt(2 * step) * z, memory


def solver_for(process: Process, solver: Solver | None, name: str) -> Solver:
    """The solver of a stream called name, Plain where none is given.

    Raises ValueError for what is no solver, or one for another process.
    """
    if solver is None:
        return Plain()
    if isinstance(solver, type) or not isinstance(solver, Solver):
        raise ValueError(
            f"stream {name!r}: {solver!r} is no solver; write a value, as Heun()"
        )
    if not isinstance(process, solver.kind):
        raise ValueError(
            f"stream {name!r}: {type(solver).__name__} is a solver for "
            f"{solver.kind.__name__}, the stream's process is {type(process).__name__}"
        )
    return solver
