"""How one stream is noised and denoised: what every process keeps.

The network never sees a schedule, the process never sees a network. A joint model is a
dict of processes, one per stream. The last axis of a stream holds the channels, or the
books, of one place.
"""

import zlib
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from vqdit.shapes import Array, Float, Key

Kind = Literal["latents", "codes"]


@runtime_checkable
class Process(Protocol):
    """A frozen dataclass that inherits from this and writes what has no default here.

    Training methods take a batch; `prior` and `step` one example and its own key. One
    example at a time is what makes a sample a function of (key, id) alone: the sampler
    maps these two over the batch.
    """

    # What a stream of this process holds, and a tokenizer gives it.
    kind: ClassVar[Kind]

    @property
    def outputs(self) -> int:
        """Values the network returns per channel, or sets of logits per code."""
        return 1

    @property
    def start(self) -> float:
        """The time at which sampling starts, 1 or just below."""
        return 1.0

    def fit(self, stream) -> "Process":
        """This process with what it takes from a stream.

        Raises ValueError when it is not one for that stream.
        """
        if stream.kind != self.kind:
            raise ValueError(
                f"stream {stream.name!r} holds {stream.kind}, but its process "
                f"{type(self).__name__} is for {self.kind}"
            )
        return self

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """One draw at t = 1."""
        ...

    def corrupt(
        self, x0: Array, t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(x_t, what `loss` compares the network's output with)."""
        ...

    def noised(self, x0: Array, t: Float[Array, ""], key: Key[Array, ""]) -> Array:
        """One example at time t; itself at 0, where a schedule may leave some noise."""
        x_t, _ = self.corrupt(x0[None], t[None], key)
        return jnp.where(t == 0, x0.astype(x_t.dtype), x_t[0])

    def held(self, x0: Array, t: Float[Array, ""], key: Key[Array, ""]) -> Array:
        """One example's known places, at the time of those that are drawn."""
        return self.noised(x0, t, key)

    def inputs(self, x_t: Array, t: Float[Array, "b *lead"]) -> tuple[Array, Array]:
        """(stream, time) as the network is shown them; places may have their own."""
        return x_t, t

    def loss(
        self, output: Array, target: Array, x_t: Array, t: Float[Array, "b"]
    ) -> Float[Array, "b *grid"]:
        """One number per place; the objective takes the mean over those known."""
        ...

    def estimate(self, output: Array, x_t: Array, t: Array):
        """What the output says of the data: latents, or probabilities of codes."""
        ...

    def step(
        self,
        output: Array,
        x_t: Array,
        t: Float[Array, ""],
        s: Float[Array, ""],
        key: Key[Array, ""],
    ) -> Array:
        """x_s from x_t, s < t, with the process's plainest solver."""
        ...

    def guide(self, given: Array, absent: Array, scale: Array) -> Array:
        """Moves the conditional output away from the unconditional one."""
        return absent + scale * (given - absent)


def named(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of a stream: its draws ignore its companions."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def against(t: Array, x: Array) -> Array:
    """t, of the first axes of x or none, with its rank, so that it scales the rest."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def joined(join: Callable, one: Array | None, other: Array | None) -> Array | None:
    """`join`, such as operator.and_, of two masks of an array, each of the first axes
    of it, some or all; where one is None the other."""
    if one is None or other is None:
        return other if one is None else one
    small, large = sorted((one, other), key=jnp.ndim)
    return join(against(small, large), large)
