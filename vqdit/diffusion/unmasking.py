"""Steps that draw codes. All processes of codes: Unmask. Masking: Confidence, Remask.

Temperature divides the logits, after guidance. Of the codes of a place the likeliest
are kept that together have the probability top_p (nucleus sampling, arXiv:1904.09751),
at least one; 1 keeps all.
"""

import dataclasses
import math
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from vqdit.diffusion.masking import Masking
from vqdit.diffusion.process import named
from vqdit.diffusion.replacement import Replacement
from vqdit.diffusion.solvers import Solver
from vqdit.fields import Bound, Checked, Positive, Share
from vqdit.shapes import Array, Float

TopP = Annotated[float, Bound(above=0, at_most=1)]


def sharpened(
    logits: Float[Array, "*d k"], temperature: float, top_p: float
) -> Float[Array, "*d k"]:
    """Logits of what is drawn from: -inf where a code is not in the nucleus."""
    logits = logits if temperature == 1 else logits / temperature
    if top_p == 1:
        return logits
    p = jax.nn.softmax(logits.astype(jnp.float32))
    falling = jnp.sort(p, axis=-1)[..., ::-1]
    before = jnp.cumsum(falling, axis=-1) - falling
    least = jnp.where(before < top_p, falling, jnp.inf).min(-1, keepdims=True)
    return jnp.where(p >= least, logits, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class Unmask(Checked, Solver):
    """The process's own step, ancestral, of sharpened probabilities.

    temperature: of the codes that are drawn, as of Confidence.
    top_p: share of probability among which one is drawn, as of Confidence.
    """

    temperature: Positive = 1.0
    top_p: TopP = 1.0

    kind: ClassVar[type] = Replacement

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        output = sharpened(output, self.temperature, self.top_p)
        return process.step(output, x_t, t, s, key), memory


@dataclasses.dataclass(frozen=True)
class Confidence(Checked, Solver):
    """MaskGIT's order: the surest codes first (arXiv:2202.04200, section 3.2).

    After the step to s, a share sigma(s) stays masked of the codes that were masked at
    the start; what is known of a stream is not among them. A count between two whole
    ones is rounded by one draw of each stream, the same in all its steps (systematic
    resampling): a stream of a single code has it as early or late as the schedule says,
    and streams that are drawn together see each other's codes. The order is by log p of
    the drawn value plus noise * s times a Gumbel draw, so noise = 0 is greedy and noise
    = inf a uniformly random order, which draws the model's joint.

    noise:       how random the order is.
    temperature: of the codes that are drawn: below 1 the likely ones are drawn more.
    top_p:       share of probability that the likeliest codes have among which one is
        drawn; 1 for all.
    """

    noise: Annotated[float, Bound(at_least=0, at_most=math.inf)] = 4.5
    temperature: Positive = 1.0
    top_p: TopP = 1.0

    kind: ClassVar[type] = Masking

    def memory(self, x):
        """How many codes were masked at the start, 0 before that is counted; and from
        where a share of them is rounded down."""
        return jnp.zeros((), jnp.int32), jnp.zeros(())

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """Reveals the surest codes."""
        value_key, order_key = jax.random.split(key)
        log_p = jax.nn.log_softmax(sharpened(output, self.temperature, self.top_p))
        values = jax.random.categorical(value_key, log_p).astype(jnp.int32)
        sure = jnp.take_along_axis(log_p, values[..., None], axis=-1)[..., 0]
        gumbel = jax.random.gumbel(order_key, x_t.shape)
        random_order = self.noise == float("inf")
        score = gumbel if random_order else sure + self.noise * s * gumbel

        masked, (drawn, offset) = x_t == process.codes, memory
        fresh = jax.random.uniform(named(order_key, "offset"))
        offset = jnp.where(drawn == 0, fresh, offset)
        drawn = jnp.where(drawn == 0, masked.sum(), drawn)
        stay = jnp.floor(process.schedule.sigma(s) * drawn + offset).astype(jnp.int32)
        stay = jnp.where(s == 0, 0, stay)
        score = jnp.where(masked, score, jnp.inf).reshape(-1)
        rank = jnp.argsort(jnp.argsort(score)).reshape(x_t.shape)
        return jnp.where(masked & (rank >= stay), values, x_t), (drawn, offset)


@dataclasses.dataclass(frozen=True)
class Remask(Checked, Solver):
    """Ancestral, and codes that were revealed are masked again (arXiv:2503.00307).

    So an early mistake is mended. As many more are revealed, so the share of masks at
    each time is the process's, and the step is exact as steps grow.

    eta: of the most that may be masked again, min(1, sigma(s) / (1 - sigma(t))), the
        part that is; 0 is Unmask.
    cap: probability of a code in a step at most.

    temperature, top_p: as of Unmask.
    """

    eta: Share = 0.1
    cap: Share = 1.0
    temperature: Positive = 1.0
    top_p: TopP = 1.0

    kind: ClassVar[type] = Masking

    def step(self, stage, process, output, x_t, x, t, s, key, memory):
        """The paper's eq. 4, sigma there the probability `again` here."""
        value_key, fall_key = jax.random.split(key)
        sigma_t, sigma_s = process.schedule.sigma(t), process.schedule.sigma(s)
        kept = jnp.maximum(1 - sigma_t, 1e-12)
        again = jnp.minimum(self.eta * jnp.minimum(1.0, sigma_s / kept), self.cap)
        reveal = (sigma_t - sigma_s + again * (1 - sigma_t)) / sigma_t
        # At s = 0 all is revealed, whatever the schedule rounds to there.
        again, reveal = (jnp.where(s == 0, v, u) for v, u in ((0, again), (1, reveal)))
        log_p = sharpened(output, self.temperature, self.top_p)
        values = jax.random.categorical(value_key, log_p).astype(jnp.int32)
        u = jax.random.uniform(fall_key, x_t.shape)
        masked = x_t == process.codes
        shown = jnp.where(u < reveal, values, process.codes)
        left = jnp.where(u < again, process.codes, x_t)
        return jnp.where(masked, shown, left), memory
