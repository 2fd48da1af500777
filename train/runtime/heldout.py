"""The loss on what is not trained on, while training goes on."""

import dataclasses
import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.config import Run
from train.errors import BadInput, one_line
from train.modalities.files.writing import write_bytes
from train.progress import say
from train.runtime import hosts
from train.runtime.log import Logger
from train.runtime.loop import Hook
from train.runtime.sharding import by_example
from train.runtime.step import Objective, TrainState, beside
from vqdit.quantizers.codebook.health import OF_TRAINING
from vqdit.sealed import parsed
from vqdit.values import near

Encoder = Callable[[jax.sharding.Sharding], Callable[[Any], Any]]
Measure = Callable[[TrainState], Mapping[str, float | None]]
MOST = 16  # batches, spaced over the set; a loss of more tells little more


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOutFigures:
    """What is scored beside the objective.

    names: of the figures. of: a state -> them. every: steps between.
    """

    names: Collection[str]
    of: Measure
    every: int


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What a stage measures while it trains.

    objective: of training. batches: rows -> held-out batches of these rows.
    keep:      writes the bundle of a state into a folder.
    since:     states up to this step are of a model that is not whole yet.
    encode:    what the objective sees of a batch, as shapes; None is the batch.
    encoder:   sharding -> the same of a placed batch.
    loss:      what the objective's value is, where it is not all that training
        minimises.
    figures:   what is scored besides, if anything is.
    """

    objective: Objective
    batches: Callable[[np.ndarray], Iterator[Any]]
    keep: Callable[[TrainState, Path], object]
    since: int = 0
    encode: Callable[[Any], Any] | None = None
    encoder: Encoder | None = None
    loss: str = "loss"
    figures: HeldOutFigures | None = None

    def check(self, run: Run, state: TrainState) -> None:
        """Raises BadInput, with nothing computed, for held-out data that cannot be read
        and for a run.best that no figure has. state: its shapes."""
        scored = self.figures.names if self.figures else ()
        names = {f"evaluation_{name}" for name in scored}
        process, processes = hosts.share()
        rows = np.arange(process, run.batch, processes)

        def losses(state, batch):
            batch = batch if self.encode is None else self.encode(batch)
            how = (state.params, state.stats, batch, state.key, state.step)
            return _heldout(self.objective(*how)[1][1])

        if run.heldout_every and len(rows):
            batch = next(batches := self.batches(rows))
            deque(batches, maxlen=0)  # what is not kept in memory is read again
            found = jax.eval_shape(losses, state, batch)
            names |= {f"heldout_{name}" for name in (self.loss, *found)}
        name = run.best.removeprefix("-")
        if name and name not in names:
            renamed = name == "heldout_loss" and run.heldout_every
            advice = near(name, sorted(names))
            advice = f"write heldout_{self.loss}" if renamed else advice
            raise BadInput(f"run.best={run.best!r} is no figure of this run; {advice}")

    def hooks(
        self,
        run: Run,
        workdir: Path,
        rows: np.ndarray,
        logger: Logger,
        sharding: jax.sharding.Sharding,
    ) -> Iterator[Hook]:
        """Of what the run asks for; rows: this process's."""
        best = None
        if run.best:
            keep = lambda state: self.keep(state, workdir / "best")
            best = Best(run.best, keep, workdir / "best.json", self.since)
        if run.heldout_every:
            encode = self.encoder and self.encoder(sharding)
            how = (partial(self.batches, rows), sharding, encode, self.loss)
            of = losses_of(self.objective, *how)
            yield measured("heldout", of, run.heldout_every, logger, best)
        if self.figures is not None:
            own = self.figures
            yield measured("evaluation", own.of, own.every, logger, best)


def measured(
    word: str, of: Measure, every: int, logger: Logger, best: "Best | None" = None
) -> Hook:
    """A hook that logs figures as WORD_NAME, nan for None; best is shown them."""

    def run(step: int, state: TrainState) -> None:
        found = of(state).items()
        means = {f"{word}_{n}": math.nan if x is None else x for n, x in found}
        logger.scalars(step, means)
        if best is not None:
            best.shown(step, state, means)

    return Hook(run, every)


def losses_of(
    objective: Objective,
    batches: Callable[[], Iterator[Any]],
    sharding: jax.sharding.Sharding,
    encode: Callable[[Any], Any] | None = None,
    name: str = "loss",
) -> Measure:
    """The objective and its metrics, means over held-out batches.

    The objective of training, noise, times and dropped labels included, of the averaged
    weights, on the first MOST batches that are opened. Each batch has the same key
    every time, so that what moves from one evaluation to the next is the model.

    batches: opens those of this process's rows, from the first, one pass or endless.
    encode:  what the objective sees of a placed batch; None is the batch.
    name:    of what the objective's value is.
    """

    split = by_example(objective, sharding)

    @jax.jit
    def measure(params, stats, batch, key, step):
        loss, (_, metrics) = split(params, stats, batch, key, step)
        return {name: loss, **_heldout(metrics)}

    def of(state: TrainState) -> dict[str, float]:
        params = state.ema if jax.tree.leaves(state.ema) else state.params
        key, count = beside(state.key, "heldout"), 0
        sums: dict[str, float] = {}
        for batch in itertools.islice(batches(), MOST):
            placed = hosts.place(batch, sharding)
            placed = placed if encode is None else encode(placed)
            mine = jax.random.fold_in(key, count)
            found = measure(params, state.stats, placed, mine, state.step)
            for name, value in hosts.gather(found).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            count += 1
        return {name: total / count for name, total in sums.items()}

    return of


def _heldout(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those that say something of the batch: codes of training fill a usage window."""
    return {name: x for name, x in metrics.items() if name not in OF_TRAINING}


class Best:
    """Keeps what has the best figure so far. What the disk does not take from a process
    that is alone is told, and no error; the note is then of what was kept before.

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
        """Of figures among which may be another evaluation's."""
        value = means.get(self.name, math.nan)
        if step <= self.since or not math.isfinite(value):
            return
        held = self._held()
        # One of a later step is of before this run was continued, and comes again.
        if held is not None and held["step"] < step:
            if self.sign * value >= self.sign * held["value"]:
                return
        told = {"figure": self.name, "value": value, "step": step}
        try:
            self.keep(state)
            with hosts.together():
                if hosts.first():
                    write_bytes(self.note, json.dumps(told).encode())
        except (BadInput, OSError) as error:  # a full disk is no reason to stop
            if hosts.several():  # the others may wait for what did not come
                raise
            say(f"step {step}: the best so far is not kept: {one_line(error)}")
            return
        say(f"step {step}: {self.name} {value:.4g} is the best so far")

    def _held(self) -> dict | None:
        """What is best so far; None where nothing is, or another figure was."""
        try:
            found = parsed(self.note.read_bytes())
            known = {"step": int(found["step"]), "value": float(found["value"])}
            return known if found["figure"] == self.name else None
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return None
