"""The loss on what is not trained on, while training goes on."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.errors import BadInput
from train.modalities.files import write_bytes
from train.progress import say
from train.runtime import hosts
from train.runtime.log import Logger
from train.runtime.loop import Hook
from train.runtime.step import Objective, TrainState, beside
from vqdit.values import near

MOST = 16  # batches, spaced over the set; a loss of more tells little more


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What a stage measures while it trains.

    objective: of training. batches: rows -> held-out batches of these rows.
    keep:      writes the bundle of a state into a folder.
    since:     states up to this step are of a model that is not whole yet.
    """

    objective: Objective
    batches: Callable[[np.ndarray], Iterator[Any]]
    keep: Callable[[TrainState, Path], object]
    since: int = 0


def heldout_loss(
    objective: Objective,
    batches: Callable[[], Iterator[Any]],
    every: int,
    logger: Logger,
    sharding: jax.sharding.Sharding,
    encode: Callable[[Any], Any] | None = None,
    best: "Best | None" = None,
) -> Hook:
    """A hook that logs `heldout_loss`, and the objective's metrics by such names.

    The objective of training, noise, times and dropped labels included, of the averaged
    weights, on the first MOST batches that are opened. Each batch has the same key
    every time, so that what moves from one evaluation to the next is the model.

    batches: opens those of this process's rows, from the first, one pass or endless.
    encode:  what the objective sees of a placed batch; None is the batch.
    best:    is shown every evaluation.
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
        if best is not None:
            best.shown(step, state, means)

    return Hook(run, every)


class Best:
    """Keeps what has the best figure so far.

    figure: such as "heldout_loss", of which the smallest is best, or "-heldout_psnr",
        of which the largest is.
    keep:   writes what is best, of a state.
    note:   file in which the figure and its step are told, and from which a run that
        goes on knows them.
    since:  evaluations up to this step do not count.
    """

    def __init__(
        self,
        figure: str,
        keep: Callable[[TrainState], object],
        note: Path,
        since: int = 0,
    ):
        self.name, self.sign = figure.removeprefix("-"), -1 if figure[0] == "-" else 1
        self.keep, self.note, self.since = keep, note, since

    def shown(self, step: int, state: TrainState, means: dict[str, float]) -> None:
        """Raises BadInput for a figure that is none of the evaluation's."""
        if self.name not in means:
            advice = near(self.name, sorted(means))
            raise BadInput(f"run.best={self.name!r} is no figure of this run; {advice}")
        value = means[self.name]
        if step <= self.since or not math.isfinite(value):
            return
        held = self._held()
        # One of a later step is of before this run was continued, and comes again.
        before = held is not None and held["step"] < step
        if before and self.sign * value >= self.sign * held["value"]:
            return
        self.keep(state)
        if hosts.first():
            told = {"figure": self.name, "value": value, "step": step}
            write_bytes(self.note, json.dumps(told).encode())
        hosts.wait("best")
        say(f"step {step}: {self.name} {value:.4g} is the best so far")

    def _held(self) -> dict | None:
        """What is best so far; None where nothing is, or another figure was."""
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
            known = {"step": int(found["step"]), "value": float(found["value"])}
            return known if found["figure"] == self.name else None
        except (OSError, ValueError, TypeError, KeyError):
            return None
