"""How one stream is noised and denoised: the protocol every process keeps.

The network never sees a schedule, the process never sees a network. A joint model is a
dict of processes, one per stream.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Key


@runtime_checkable
class Process(Protocol):
    """Training methods take a batch; `prior` and `step` one example and its own key.

    One example at a time is what makes a sample a function of (key, id) alone: the
    sampler maps these two over the batch.
    """

    @property
    def start(self) -> float:
        """The time at which sampling starts, 1 or just below."""
        ...

    def prior(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """One draw at t = 1."""
        ...

    def corrupt(
        self, x0: Array, t: Float[Array, "b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """(x_t, what `loss` compares the network's output with)."""
        ...

    def loss(
        self, output: Array, target: Array, x_t: Array, t: Float[Array, "b"]
    ) -> Float[Array, "b"]:
        """One number per example."""
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
        ...


def against(t: Array, x: Array) -> Array:
    """t () or (b,) with the rank of x, so that it scales whole examples."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))
