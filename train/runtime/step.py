"""One training step for every stage; a stage is the objective it is given."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

import flax.struct
import jax
import jax.numpy as jnp
import optax

# (params, stats, batch, key, step) -> loss, (new stats, metrics). `params` is what is
# learned, `stats` every other collection, step () int32 the number of updates done;
# metrics are scalars by name.
Objective = Callable[
    [Any, Any, Any, jax.Array, jax.Array], tuple[jax.Array, tuple[Any, dict]]
]


class TrainState(flax.struct.PyTreeNode):
    """Everything that training continues from.

    Fields are Any: JAX also rebuilds this with shardings or None inside.
    """

    step: Any  # () int32, number of updates done
    key: Any  # root PRNG key, never replaced
    params: Any
    stats: Any  # every collection but "params", e.g. a codebook
    opt: Any
    ema: Any  # same structure as params


class AdversarialState(TrainState):
    """A generator's state, and its discriminator's beside it.

    The discriminator's own `step` counts its updates. No average of its weights is
    kept, as nothing evaluates it: its `ema` is empty.
    """

    discriminator: Any  # a TrainState


def init_state(
    key: jax.Array, variables: dict[str, Any], tx: optax.GradientTransformation
) -> TrainState:
    """The state before the first update.

    variables: what a Linen module's `init` returned, "params" among them.
    """
    params = variables["params"]
    stats = {name: value for name, value in variables.items() if name != "params"}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        stats=jax.tree.map(jnp.asarray, stats),  # a module may start one from a bool
        opt=tx.init(params),
        # A copy: the loop donates the state, and one buffer cannot be given twice.
        ema=jax.tree.map(jnp.copy, params),
    )


def beside(key: jax.Array, word: str) -> jax.Array:
    """The key of what happens beside the steps, whose keys are `fold_in(key, i)`."""
    # No step has this number.
    return jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), crc32(word.encode()))


def make_step(
    objective: Objective,
    tx: optax.GradientTransformation,
    ema_decay: float = 0.9999,
    learning_rate: optax.Schedule | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """The function (state, batch) -> (state, metrics) that makes one update.

    The key of update i is `fold_in(state.key, i)`. The moving average of the weights
    starts as a copy and decays by min(ema_decay, (1 + i) / (10 + i)), so that early
    updates are not drowned by the initialisation.

    learning_rate: adds its value to the metrics.

    Metrics: the objective's, `loss`, and `grad_norm` (before clipping).
    """
    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state: TrainState, batch: Any):
        key = jax.random.fold_in(state.key, state.step)
        (loss, (stats, metrics)), grads = gradient(
            state.params, state.stats, batch, key, state.step
        )
        metrics = metrics | {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        if learning_rate is not None:
            metrics["learning_rate"] = jnp.asarray(learning_rate(state.step))
        return updated(state, grads, stats, tx, ema_decay), metrics

    return step


def updated(
    state: TrainState,
    grads: Any,
    stats: Any,
    tx: optax.GradientTransformation,
    ema_decay: float | None,
) -> TrainState:
    """The state after one update; with a decay of None its `ema` is left as it is."""
    updates, opt = tx.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay is not None:
        # 1 - decay, written so that 1e-4 does not round: 1 - (1+i)/(10+i) = 9/(10+i).
        rate = jnp.maximum(1 - ema_decay, 9 / (10 + state.step))
        # By the difference, not a sum of two shares, which rounds: the average of what
        # is frozen is, after any number of steps, what it was.
        ema = jax.tree.map(lambda old, new: old + rate * (new - old), ema, params)
    return state.replace(
        step=state.step + 1, params=params, stats=stats, opt=opt, ema=ema
    )
