"""The loss on what is not trained on, while training goes on."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from train.runtime import hosts
from train.runtime.log import Logger
from train.runtime.loop import Hook
from train.runtime.step import Objective, TrainState, beside

MOST = 16  # batches; a loss of more tells little more


def heldout_loss(
    objective: Objective,
    batches: Callable[[], Iterator[Any]],
    every: int,
    logger: Logger,
    sharding: jax.sharding.Sharding,
    encode: Callable[[Any], Any] | None = None,
) -> Hook:
    """A hook that logs `heldout_loss`, and the objective's metrics by such names.

    The objective of training, noise, times and dropped labels included, of the averaged
    weights, on the first MOST batches of what is held out. Each batch has the same key
    every time, so that what moves from one evaluation to the next is the model.

    batches: opens those of this process's rows, from the first, one pass or endless.
    encode:  what the objective sees of a placed batch; None is the batch.
    """

    @jax.jit
    def measure(params, stats, batch, key, step):
        loss, (_, metrics) = objective(params, stats, batch, key, step)
        return {"loss": loss, **metrics}

    def run(step: int, state: TrainState) -> None:
        params = state.ema if jax.tree.leaves(state.ema) else state.params
        key, sums, count = beside(state.key, "heldout"), {}, 0
        for batch in itertools.islice(batches(), MOST):
            placed = hosts.place(batch, sharding)
            placed = placed if encode is None else encode(placed)
            mine = jax.random.fold_in(key, count)
            found = measure(params, state.stats, placed, mine, state.step)
            for name, value in hosts.gather(found).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            count += 1
        means = {f"heldout_{name}": total / count for name, total in sums.items()}
        logger.scalars(step, means)

    return Hook(run, every)
