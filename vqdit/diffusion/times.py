"""Which times a training batch sees.

All laws push stratified uniforms through their quantile function: example i of b gets
a draw from the i-th b-th of (0, 1), rotated by one shared offset (arXiv:2107.00630,
appendix I.1), which lowers the variance of the batch's loss and leaves each example's
law unchanged.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Ascending, Checked, Positive
from vqdit.shapes import Array, Float, Key

BELOW_1 = np.nextafter(np.float32(1), np.float32(0))


class TimeLaw:
    """A frozen dataclass that inherits from this and writes `__call__`."""

    def __call__(self, key: Key[Array, ""], batch: int) -> Float[Array, "b"]:
        """Times in [0, 1], one for each example."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Uniform(TimeLaw):
    """t uniform on [0, 1)."""

    def __call__(self, key: Key[Array, ""], batch: int) -> Float[Array, "b"]:
        return stratified(key, batch)


@dataclasses.dataclass(frozen=True)
class LogitNormal(Checked, TimeLaw):
    """logit(t) ~ N(mean, std^2) (arXiv:2403.03206, section 3.1).

    A positive mean moves training towards noise (t = 1 is noise here). t is below 1.

    mean, std: of logit(t).
    """

    mean: float = 0.0
    std: Positive = 1.0

    def __call__(self, key: Key[Array, ""], batch: int) -> Float[Array, "b"]:
        u = jnp.clip(stratified(key, batch), 1e-6, 1 - 1e-6)
        normal = jax.scipy.special.ndtri(u)
        # Of a wide law many are nearer to 1 than float32 has numbers.
        return jnp.minimum(jax.nn.sigmoid(self.mean + self.std * normal), BELOW_1)


@dataclasses.dataclass(frozen=True)
class LogNormal(Ascending, TimeLaw):
    """log(sigma) ~ N(mean, std^2) of VarianceExploding(low, high), cut at its ends.

    arXiv:2206.00364, table 1.

    mean, std: of log(sigma).
    low, high: the ends of sigma.
    """

    mean: float = -1.2
    std: Positive = 1.2
    low: Positive = 0.001
    high: float = 80.0

    def __call__(self, key: Key[Array, ""], batch: int) -> Float[Array, "b"]:
        low, high = np.log(self.low), np.log(self.high)
        logits = np.array([low, high], np.float32)
        ends = jax.scipy.special.ndtr((logits - self.mean) / self.std)
        u = jnp.clip(stratified(key, batch), 1e-6, 1 - 1e-6)
        normal = jax.scipy.special.ndtri(ends[0] + u * (ends[1] - ends[0]))
        return jnp.clip((self.mean + self.std * normal - low) / (high - low), 0.0, 1.0)


def stratified(key: Key[Array, ""], batch: int) -> Float[Array, "b"]:
    """Uniform draws on [0, 1), one in each b-th of it, in any order."""
    offset_key, order_key = jax.random.split(key)
    u = (jnp.arange(batch) / batch + jax.random.uniform(offset_key)) % 1.0
    # Shuffled, so that an example's place in the batch says nothing of its time.
    return jax.random.permutation(order_key, u)
