"""Classifier-free guidance (arXiv:2207.12598) over a dict of streams.

The unconditional network is the same network with the label null and the given streams
moved to t = 1. Scale 1 is no guidance.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# (streams, times) -> outputs, each a dict by stream name with a batch axis.
Predictor = Callable[[dict, dict], dict]


def guided(
    network: Callable,
    processes: dict,
    label: Array | None,
    null: int,
    absent: dict[str, Array],
    scale: Float[Array, ""],
    interval: tuple[Array | float, Array | float] = (0.0, 1.0),
) -> Predictor:
    """A predictor that asks once with a doubled batch.

    network:  (streams, times, label) -> outputs.
    null:     the label that means none.
    absent:   given stream -> what it looks like at t = 1 (a draw of its prior).
    interval: times [low, high] where the scale applies (arXiv:2404.07724); elsewhere 1.
    """

    def predict(streams, times):
        def double(name, x):
            return jnp.concatenate([x, absent.get(name, x)])

        def double_time(name, t):
            return jnp.concatenate([t, jnp.ones_like(t) if name in absent else t])

        both = {name: double(name, x) for name, x in streams.items()}
        both_times = {name: double_time(name, t) for name, t in times.items()}
        labels = None
        if label is not None:
            labels = jnp.concatenate([label, jnp.full_like(label, null)])
        outputs = network(both, both_times, labels)
        now = next(t for name, t in times.items() if name not in absent)[0]
        inside = (interval[0] <= now) & (now <= interval[1])
        strength = jnp.where(inside, scale, 1.0)

        def mix(name, output):
            given, base = jnp.split(output, 2)
            return processes[name].guide(given, base, strength)

        return {name: mix(name, output) for name, output in outputs.items()}

    return predict


def plain(network: Callable, label: Array | None) -> Predictor:
    """The predictor without guidance."""
    return lambda streams, times: network(streams, times, label)


def preconditioned(network: Callable, processes: dict) -> Callable:
    """The network behind its processes' `inputs`: asked for x_t, shown those."""

    def ask(streams, times, *others, **fields):
        seen = {n: processes[n].inputs(x, times[n]) for n, x in streams.items()}
        x, t = ({n: pair[i] for n, pair in seen.items()} for i in (0, 1))
        return network(x, t, *others, **fields)

    return ask


def broadcast(t: Float[Array, ""], streams: dict[str, jax.Array]) -> Array:
    """One time for a whole batch."""
    batch = next(iter(streams.values())).shape[0]
    return jnp.broadcast_to(t, (batch,))
