"""The health of codebooks: usage over a fixed window, revival of dead codes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.fields import Bound
from vqdit.quantizers.codebook.entropy import plogp
from vqdit.shapes import Array, Bool, Float, Int, Key

# Of evenly used codes exp(-window / codes) are not in a window, and count as dead:
# 5e-5 at the least that a window may have for each code, 1e-7 at what it has unless
# it is written.
LEAST, AMPLE = 10, 16
USUAL = 65_536  # where that is enough
MOST_CODES = 2**22  # that are counted one by one: with a window's 350 MiB
# Metrics of the window, and of what was revived: of training, whatever was asked last.
OF_TRAINING = ("usage", "usage_min", "perplexity", "entropy_bits", "revived")

Window = Annotated[int, Bound(at_least=1, at_most=2**30)]

# What becomes of a dead code: a vector of the current batch (after arXiv:2005.00341,
# section 3.1), or half of one of the most used codes (as UViM's, arXiv:2205.10337).
Revive = Literal["none", "batch", "split"]


def window_of(codes: int, window: int | None = None) -> int:
    """The window asked for, or 65,536, or where that is too short 16 for each code."""
    return window or (USUAL if LEAST * codes <= USUAL else AMPLE * codes)


class UsageWindow(nn.Module):
    """What became of the last `window` codes of training.

    The window is a number of codes, not of batches, so usage and perplexity do not
    depend on the batch size. State, collection "usage": `recent` (window,) int32, a
    ring filled with -1; `place` (), where the ring is written next; `counts` (k,) of
    what is in the ring; `idle` (k,), codes seen since each code was last used.
    """

    num_codes: int
    window: int

    def setup(self):
        self.recent = self.variable(
            "usage", "recent", jnp.full, (self.window,), -1, jnp.int32
        )
        self.place = self.variable("usage", "place", jnp.zeros, (), jnp.int32)
        self.counts = self.variable(
            "usage", "counts", jnp.zeros, (self.num_codes,), jnp.int32
        )
        self.idle = self.variable(
            "usage", "idle", jnp.zeros, (self.num_codes,), jnp.int32
        )

    def update(self, codes: Int[Array, "n"], count: Bool[Array, ""] | bool = True):
        """Pushes codes into the ring, the oldest out; a no-op where not `count`."""
        hits = jnp.zeros(self.num_codes, jnp.int32).at[codes].add(1)
        # Held at the window: an idle code's count must not overflow in a long run.
        idle = jnp.minimum(self.idle.value + codes.shape[0], self.window)
        idle = jnp.where(hits > 0, 0, idle)
        codes = codes[-self.window :]
        n = codes.shape[0]
        places = (self.place.value + jnp.arange(n)) % self.window
        old = self.recent.value[places]
        # An index of k is out of range and dropped: that is how an empty slot counts.
        old = jnp.where(old < 0, self.num_codes, old)
        counts = self.counts.value.at[old].add(-1, mode="drop").at[codes].add(1)
        # Where nothing counts what is there is written again: the whole ring, of many
        # codes some MiB, is never copied.
        kept = jnp.where(count, codes, self.recent.value[places])
        self.recent.value = self.recent.value.at[places].set(kept)
        place = (self.place.value + n) % self.window

        def keep(new, variable):
            variable.value = jnp.where(count, new, variable.value)

        keep(idle, self.idle)
        keep(counts, self.counts)
        keep(place, self.place)

    @nn.nowrap  # a bundle has no window: untrained, none is asked for
    def observe(
        self, codes: Int[Array, "n"], train: bool, count: Bool[Array, ""] | bool = True
    ) -> dict[str, Array]:
        """Metrics of these codes; in training of the window, after they are in it."""
        if self.is_initializing():
            self.metrics()  # a submodule's state exists once it is called
        if not train or self.is_initializing():
            counts = jnp.zeros(self.num_codes, jnp.int32).at[codes].add(1)
            return usage_metrics(counts)
        self.update(codes, count)
        return self.metrics()

    def dead(self) -> Bool[Array, "k"]:
        """Codes not used in a whole window."""
        return self.idle.value >= self.window

    def revived(self, dead: Bool[Array, "k"]) -> None:
        """Gives the revived codes a window's time to be used."""
        self.idle.value = jnp.where(dead, 0, self.idle.value)

    def metrics(self) -> dict[str, Array]:
        """Of the window as it stands."""
        return usage_metrics(self.counts.value)


def usage_metrics(counts: Int[Array, "k"]) -> dict[str, Array]:
    """Of the codes counted. usage: share of codes with a count; perplexity: exp of the
    entropy in nats; entropy_bits: the entropy in bits, at most log2 k.
    """
    p = counts / jnp.maximum(counts.sum(), 1)
    entropy = -plogp(p)
    return {
        "usage": (counts > 0).mean(),
        "perplexity": jnp.exp(entropy),
        "entropy_bits": entropy / jnp.log(2.0),
    }


def over_books(metrics: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Means over the books; "revived" is a sum, and the worst usage is "usage_min"."""
    out: dict[str, Any] = {
        name: sum(m[name] for m in metrics) / len(metrics) for name in metrics[0]
    }
    if "revived" in out:
        out["revived"] = sum(m["revived"] for m in metrics)
    worst: list[Any] = [m.get("usage_min", m.get("usage")) for m in metrics]
    if worst[0] is None:  # a book need not count
        return out
    return out | {"usage_min": jnp.stack(worst).min()}


def replacements(
    key: Key[Array, ""],
    z: Float[Array, "n d"],
    dead: Bool[Array, "k"],
    apart: Float[Array, ""],
) -> Float[Array, "k d"]:
    """A vector of the batch for each dead code, drawn without repeats while they last.

    One that is taken again comes with normal noise of this size, so that no two are
    alike. Only the dead codes' entries mean anything.
    """
    count, codes = z.shape[0], dead.shape[0]
    order = jax.random.permutation(key, count)
    if codes <= count:  # each code has one of its own
        return z[order[:codes]]
    rank = jnp.cumsum(dead) - 1
    # The order, too, draws from this key: its first `count` numbers. Those of the noise
    # that are used are of codes behind as many.
    noise_key = jax.random.fold_in(key, 1)
    noise = apart * jax.random.normal(noise_key, (codes, z.shape[1]))
    again = (rank >= count)[:, None]
    return z[order[rank % count]] + jnp.where(again, noise, 0.0)


def split_sources(counts: Int[Array, "k"], dead: Bool[Array, "k"]) -> Int[Array, "k"]:
    """The code that each dead code splits: the first dead the most used, and so on.

    Once every used code is split, again from the most used on. Only the dead codes'
    entries mean anything.
    """
    used = jnp.where(dead, 0, counts)
    order = jnp.argsort(-used)
    place = (jnp.cumsum(dead) - 1) % jnp.maximum((used > 0).sum(), 1)
    return order[place]
