"""Diffusion of discrete streams by replacing codes, each on its own.

sigma(t) of the schedule is the share of codes replaced at time t; what they are
replaced by is the process.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from vqdit.diffusion.process import Kind, Process, against
from vqdit.diffusion.schedules import Cosine, Schedule
from vqdit.fields import Checked, TwoOrMore
from vqdit.shapes import Array, Float, Int, Key

LEAST = 1e-8  # the time below which a bound takes the weights of that time


@dataclasses.dataclass(frozen=True)
class Replacement(Checked, Process):
    """schedule: sigma is the share of codes that are replaced at a time.
    vocab: number of codes; None where the stream says it (see `fit`).

    As it stands the softmax p of the output is read as what the *other* codes say of
    this one, and the code in its place is evidence beside that: then the reverse rates
    are those of the data (arXiv:2310.16834), and the bound below is tight.
    """

    vocab: TwoOrMore | None = None
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

    def corrupt(
        self, x0: Int[Array, "b *d"], t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(codes, some of them drawn of the prior; the codes). Each on its own."""
        fall_key, value_key = jax.random.split(key)
        fallen = jax.random.uniform(fall_key, x0.shape)
        fallen = fallen < against(self.schedule.sigma(t), x0)
        return jnp.where(fallen, self.prior(value_key, x0.shape), x0), x0

    @property
    def scale(self) -> int:
        """What the probabilities of `fallen` are multiplied by."""
        return 1

    @property
    def fallen(self) -> Float[Array, "values"]:
        """What a fallen code is, of the codes and, where there are masks, the mask."""
        raise NotImplementedError

    def share_of_bound(
        self,
        output: Float[Array, "b *d k"],
        target: Int[Array, "b *d"],
        x_t: Int[Array, "b *d"],
        sigma: Float[Array, "b"],
        d_sigma: Float[Array, "b"],
    ) -> Float[Array, "b *grid"]:
        """See `loss`; sigma and its slope are those of the time.

        The divergence of two jump processes: with pi what a fallen code is,
        q = (1 - sigma) x + sigma pi of the true code and the same of p, and
        sigma' / (1 - sigma) pi_i the rate of the jumps back from i.
        """
        # At t = 1 nothing is known, the sum is 0 and its weight infinite.
        kept = jnp.maximum(1 - sigma, 1e-6)
        sigma, kept, d_sigma = (
            against(v, x_t)[..., None] for v in (sigma, kept, d_sigma)
        )
        p, true = self._said(output), jax.nn.one_hot(target, len(self.fallen))
        log_p, log_q = (
            jnp.log(kept * self.scale * v + sigma * self.fallen) for v in (p, true)
        )
        weight = d_sigma / (kept * self.scale) * self.fallen[x_t][..., None]
        return (weight * divergence(log_p, log_q, x_t)).sum(-1).mean(-1)

    def loss(
        self,
        output: Float[Array, "b *d k"],
        target: Int[Array, "b *d"],
        x_t: Int[Array, "b *d"],
        t: Float[Array, "b"],
    ) -> Float[Array, "b *grid"]:
        """A place's share of the bound, in nats a code at uniform times."""
        return self.share_of_bound(output, target, x_t, *self._rate(t, self.hold))

    def query(self, x0, u, key, known):
        """One example and its time, for a draw of the bound; u is uniform.

        Half of the times are even in log t: what a code costs that was held to be
        unlikely is spread so, down to its probability.
        """
        del known
        t = jnp.where(u < 0.5, 2 * u, LEAST ** (2 - 2 * u))
        return self.corrupt(x0[None], t[None], key)[0][0], t

    def bound(self, output, x0, x_t, t, known):
        """One draw of a bound on -log p(x0) in nats, of one example.

        A code that is less likely than sigma(LEAST) counts as if it were that.
        """
        rates = self._rate(t[None], LEAST)
        found = self.share_of_bound(output[None], x0[None], x_t[None], *rates)[0]
        even = (t >= LEAST) / (jnp.maximum(t, LEAST) * -math.log(LEAST))
        density = 0.5 + 0.5 * even
        return jnp.where(known, found, 0.0).sum() * x0.shape[-1] / density

    def _rate(self, t: Array, hold: float) -> tuple[Array, Array]:
        """(sigma(t), sigma'(t)), with sigma' such that a bound keeps its value.

        Below `hold` both are those at `hold`, while codes fall with the smaller
        sigma(t): of sigma ~ t^p that would leave p / (p + 1) of what is due, so sigma'
        is larger by (p + 1) / p there.
        """
        held = jnp.maximum(t, hold)
        sigma, slope = jax.jvp(self.schedule.sigma, (held,), (jnp.ones_like(held),))
        power = held * slope / sigma
        return sigma, jnp.where(t < hold, slope * (power + 1) / power, slope)

    def estimate(self, output, x_t, t):
        """Probabilities of each place's code, the one that is seen weighed in."""
        sigma = against(self.schedule.sigma(t), x_t)[..., None]
        seen = jax.nn.one_hot(x_t, self.codes)
        likely = (1 - sigma) * self.scale * seen + sigma * self.fallen[x_t][..., None]
        # Nothing is likely of a mask that cannot be there, at t = 0.
        likely = jnp.where(likely.any(-1, keepdims=True), likely, 1.0)
        # Added, not multiplied: the softmax of what is seen may be rounded to 0.
        return jax.nn.softmax(output + jnp.log(likely))

    def step(self, output, x_t, t, s, key):
        """Ancestral: a draw of p(x_s | x_t), exact for each code by itself.

        Proportional to q(x_t | x_s) times the sum over x of q(x_s | x) p(x). One
        example.
        """
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        # At s = 0 no code has fallen, whatever the schedule rounds to there.
        sigma_s = jnp.where(s == 0, 0.0, sigma_s)
        between = (1 - sigma_t) / (1 - sigma_s)
        seen = jax.nn.one_hot(x_t, len(self.fallen))
        gone = (1 - between) * self.fallen[x_t][..., None]
        forward = jnp.log(between * self.scale * seen + gone)
        kept = (1 - sigma_s) * self.scale * self._said(output)
        before = jnp.log(kept + sigma_s * self.fallen)
        return jax.random.categorical(key, forward + before).astype(jnp.int32)

    def _said(self, output):
        """The softmax, with 0 for the mask, which data never is."""
        p = jax.nn.softmax(output.astype(jnp.float32))
        more = len(self.fallen) - p.shape[-1]
        return jnp.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, more)])


def divergence(
    log_p: Float[Array, "*d k"], log_q: Float[Array, "*d k"], seen: Int[Array, "*d"]
) -> Float[Array, "*d k"]:
    """Of two jump processes, the jumps from what is seen to each code, unweighted.

    With r = q_j / q_i the odds of the other codes j against the one i that is seen, and
    d the log of p's odds over q's, r (exp(d) - 1 - d) (arXiv:2412.10193, eq. 18).
    Written so, no two large terms cancel.
    """
    seen = seen[..., None]
    log_p, log_q = (v - jnp.take_along_axis(v, seen, axis=-1) for v in (log_p, log_q))
    d = log_p - log_q
    return jnp.exp(log_q) * (jnp.expm1(d) - d)
