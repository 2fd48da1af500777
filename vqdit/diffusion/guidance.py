"""Classifier-free guidance (arXiv:2207.12598) over a dict of streams.

The unconditional network is the same network with the label null and the given streams
absent: moved to t = 1, or masked out. Scale 1 is no guidance.
"""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp

from vqdit.diffusion.process import against
from vqdit.shapes import Array

# (streams, times) -> outputs, each a dict by stream name with a batch axis.
Predictor = Callable[[dict, dict], dict]


def guided(
    network: Callable,
    processes: Mapping,
    label: Array | None,
    null: int,
    absent: Mapping[str, Array],
    scale: Array | float | Mapping[str, Array | float],
    interval: tuple[Array | float, Array | float] | None = None,
    left_out: Collection[str] = (),
) -> Predictor:
    """A predictor that asks once, with the batch beside itself without its conditions.

    Where the scale does not apply to any stream that is drawn it asks the batch alone.

    network:  (streams, times, label) -> outputs; where streams are left out, with one
        more, there: stream -> (b,) bool, false where nothing is to be seen of it.
    null:     the label that means none.
    absent:   given stream -> what it looks like at t = 1 (a draw of its prior).
    scale:    () or one for each example (b,). Or {condition: scale}, where a condition
        is a given stream or "label": they come in that order, each pulls away from
        those before it (arXiv:2211.09800, eq. 3), and the batch is asked once more for
        each.
    interval: times [low, high] where the scale applies (arXiv:2404.07724), elsewhere
        1; None for everywhere, whose program has half the size.
    left_out: given streams that are absent by not being seen, instead of at t = 1.
    """
    chain = isinstance(scale, Mapping)
    named = scale if isinstance(scale, Mapping) else {"all": scale}
    conditions = list(named)
    scales = [jnp.asarray(strength, jnp.float32) for strength in named.values()]
    # Of each copy of the batch, the conditions that it lacks; the first lacks none.
    lacks = [set(conditions[i:]) for i in range(len(conditions), -1, -1)]
    if not chain:
        lacks = [set(), {"label", *absent}]

    def applies(t):
        # All that is drawn of a stream stands at one time, what is known of it at 0.
        (low, high), t = interval, t.max()
        return (low <= t) & (t <= high)

    def drawn(values):
        return {n: x for n, x in values.items() if n not in absent}

    def alone(streams, times):
        return drawn(network(streams, times, label))

    def beside(streams, times):
        def copies(name, x, gone):
            return jnp.concatenate([gone if name in lack else x for lack in lacks])

        seen = {n: copies(n, x, absent.get(n, x)) for n, x in streams.items()}
        seen_times = {n: copies(n, t, jnp.ones_like(t)) for n, t in times.items()}
        there = ()
        if left_out:
            all_of = {n: jnp.ones(len(times[n]), bool) for n in left_out}
            there = ({n: copies(n, v, ~v) for n, v in all_of.items()},)
        labels = None
        if label is not None:
            labels = copies("label", label, jnp.full_like(label, null))
        outputs = network(seen, seen_times, labels, *there)

        def mix(name, output):
            *others, before = jnp.split(output, len(lacks))
            mixed = before
            for given, strength in zip(reversed(others), scales, strict=True):
                if interval is not None:  # another stream's time may be inside
                    strength = jnp.where(applies(times[name]), strength, 1.0)
                step = processes[name].guide(given, before, against(strength, given))
                mixed = step if mixed is before else mixed + (step - before)
                before = given
            return mixed

        return {name: mix(name, output) for name, output in drawn(outputs).items()}

    if interval is None:
        return beside

    def predict(streams, times):
        inside = jnp.array([applies(t) for t in drawn(times).values()])
        return jax.lax.cond(inside.any(), beside, alone, streams, times)

    return predict


def unguided(network: Callable, label: Array | None) -> Predictor:
    """The predictor without guidance."""
    return lambda streams, times: network(streams, times, label)


def preconditioned(network: Callable, processes: dict) -> Callable:
    """The network behind its processes' `inputs`: asked for x_t, shown those."""

    def ask(streams, times, *others, **fields):
        seen = {n: processes[n].inputs(x, times[n]) for n, x in streams.items()}
        x, t = ({n: pair[i] for n, pair in seen.items()} for i in (0, 1))
        return network(x, t, *others, **fields)

    return ask
