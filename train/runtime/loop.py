"""The training loop of every stage: steps, metrics, checkpoints, signals."""

import contextlib
import dataclasses
import itertools
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from train.errors import BadInput
from train.progress import progress, say
from train.runtime import hosts
from train.runtime.checkpoint import Checkpoints, NonFinite, SaveFailed
from train.runtime.log import Logger
from train.runtime.sharding import replicated
from train.runtime.step import TrainState
from train.runtime.timing import peak_bytes
from train.runtime.window import LogWindow, TrainingDiverged

PREFETCH = 2  # batches on the device ahead of their step


@dataclasses.dataclass(frozen=True)
class Hook:
    """Something that happens after certain steps, outside the training step.

    run:   called with (step, state). A hook that `changes` the state returns it, in the
           same structure; any other returns nothing.
    every: after each step that this divides, and after the last; 0 is only the last.
    at:    instead of `every`, after these steps.

    A changing hook runs before the checkpoint of its step, so resuming never repeats or
    skips it. The others run after it, so their failure loses no training; those that
    are due at the step of a checkpoint run again when training goes on from there, for
    a run may be killed between the two.
    """

    run: Callable[[int, TrainState], TrainState | None]
    every: int = 0
    at: tuple[int, ...] = ()
    changes: bool = False

    def due(self, step: int, steps: int) -> bool:
        if self.at:
            return step in self.at
        return step == steps or bool(self.every and step % self.every == 0)


def train(
    state: TrainState,
    step_fn: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]],
    batches: Iterable[Any],
    *,
    steps: int,
    checkpoints: Checkpoints,
    logger: Logger,
    log_every: int = 50,
    save_every: int = 500,
    batch_sharding: jax.sharding.Sharding | None = None,
    encode: Callable[[Any], Any] | None = None,
    position: int | None = None,
    meta: dict | None = None,
    window: dict | None = None,
    hooks: Sequence[Hook] = (),
) -> TrainState:
    """Trains from `state.step` to `steps`; returns the last state, by then on disk.

    state: fresh, or from `checkpoints.restore_latest`, placed as it is to stay. It is
        donated: do not use it afterwards.
    step_fn: of `make_step`; its metrics hold `loss` and `grad_norm`.
    batches: trees of arrays, from `position` on, that nobody writes to any more: the
        rows that `hosts.rows` names. No more are drawn than there are steps left.
    encode: what the step sees of a batch, once that is placed; None is the batch.
    position: batches consumed so far; None is `state.step`. Saved with each checkpoint.
    meta: JSON-able notes to save with each checkpoint; beside them under "window" what
        the log's next line is of so far.
    window: that, of the checkpoint that the state is from.

    Logged at `log_every`: means over the steps since the last line, and step_seconds,
    examples_per_second. Nothing in between waits for the device's results.

    SIGTERM or SIGINT: the step ends, its state is saved, SystemExit(143 or 130). A
    second signal does what it always does. Another error, say in the data, is raised on
    after the state is saved.

    Raises TrainingDiverged, naming the first bad step, when loss or gradient are not
    finite; no such state is saved. Raises BadInput when the batches end early, and
    SaveFailed when the last checkpoint could not be written.
    """
    first = step = int(state.step)
    position = first if position is None else position
    if step:
        for hook in hooks:
            if not hook.changes and hook.due(min(step, steps), steps):
                hook.run(step, state)
    if step >= steps:
        say(f"already trained: step {step} of {steps}")
        return state

    def save() -> None:
        here, notes = position + step - first, meta or {}
        if pending := seen.pending():
            notes = notes | {"window": pending}
        try:
            checkpoints.save(step, state, position=here, meta=notes)
        except NonFinite as error:
            raise TrainingDiverged(str(error)) from None

    feed = _prefetch(itertools.islice(batches, steps - step), batch_sharding, encode)
    whole = True  # state is that of `step`, changing hooks included
    bar = progress(None, "compiling", steps, "step", step, silent=0.0)
    with _StopSignals() as signals, bar:
        try:
            batch = next(feed, None)
            if batch is not None:
                layout = jax.tree.map(lambda x: x.sharding, state)
                update, names = _compile(step_fn, state, batch, layout)
                count = len(jax.tree.leaves(batch)[0])
                seen = LogWindow(step, names, count, checkpoints, window)
                bar.set_description("training")
                if held := peak_bytes(update):
                    say(f"a step needs {held / 2**30:.2f} GiB on each device")
            while batch is not None:
                with jax.transfer_guard("disallow"):
                    state, row = update(state, batch)
                step += 1
                seen.add(row)
                bar.update()

                last = step == steps
                stopping = signals.received or checkpoints.preempted(step)
                logging = last or step % log_every == 0
                saving = last or stopping or step % save_every == 0
                due = [hook for hook in hooks if hook.due(step, steps)]
                if logging or saving or due:
                    seen.check()
                    if logging:
                        means = seen.close()
                        logger.scalars(step, means)
                        told = {"loss": means["loss"]}
                        if checkpoints.committed is not None:
                            told["saved"] = checkpoints.committed
                        bar.set_postfix(told, refresh=False)
                    with seen.paused():
                        whole = False
                        for hook in due:
                            if hook.changes:
                                state = jax.device_put(hook.run(step, state), layout)
                        whole = True
                        if saving:
                            save()
                        if stopping:
                            break
                        for hook in due:
                            if not hook.changes:
                                hook.run(step, state)
                batch = next(feed, None)
            else:
                if step < steps:
                    raise BadInput(
                        f"the data ended after {step - first} batches, at step {step} "
                        f"of run.steps={steps}; write fewer steps"
                    )
        except (TrainingDiverged, SaveFailed):
            raise
        except Exception as error:
            gone = any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
            if step > first and whole and not gone and not hosts.several():
                with contextlib.suppress(BadInput):
                    seen.check()
                    save()
                    checkpoints.wait()
                    say(f"step {step} is saved; stopping: {type(error).__name__}")
            raise
        checkpoints.wait()
        if step < steps or signals.received:
            number = signals.received or signal.SIGTERM
            say(
                f"stopped by {signal.Signals(number).name}: step {step} of {steps} is "
                f"saved; the same command continues from there"
            )
            raise SystemExit(128 + number)
    return state


class _StopSignals:
    """Notes SIGTERM and SIGINT instead of dying of them; the second one is obeyed.

    In a program of several processes nothing is touched: JAX's own service makes them
    agree on a step (`Checkpoints.preempted`). Nor outside the main thread, where Python
    sets no handlers.
    """

    def __init__(self):
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "_StopSignals":
        main = threading.current_thread() is threading.main_thread()
        if main and not hosts.several():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if self.received:
            self.__exit__()
            signal.raise_signal(number)
        self.received = number
        say("finishing this step and saving; again to stop at once")


def _compile(
    step_fn: Callable, state: TrainState, batch: Any, layout: TrainState
) -> tuple[jax.stages.Compiled, list[str]]:
    """The step as one program that keeps the layout, and the names of its metrics.

    Compiled ahead, so a batch of another shape is an error, not minutes of compiling.
    """
    names: list[str] = []

    def update(state, batch):
        state, metrics = step_fn(state, batch)
        names[:] = sorted(metrics)
        for name in names:
            if jnp.ndim(metrics[name]):
                raise ValueError(f"metric {name!r} is not a scalar")
        # One array a step, not one a metric: less to hand over, less to fetch.
        row = jnp.stack([jnp.asarray(metrics[n], jnp.float32) for n in names])
        return state, row

    program = jax.jit(
        update,
        donate_argnums=0,
        out_shardings=(layout, replicated(state.step.sharding)),
    )
    # Beside this thread, which is the one that sees signals: a compiler may work for
    # minutes, in which the first had no answer, and a second was one with it.
    compiling = ThreadPoolExecutor(1).submit(program.lower(state, batch).compile)
    return compiling.result(), names


def _prefetch(
    batches: Iterable[Any],
    sharding: jax.sharding.Sharding | None,
    encode: Callable[[Any], Any] | None,
) -> Iterator[Any]:
    """Batches on the device, PREFETCH of them on their way while one is used."""
    queue: deque[Any] = deque()
    for batch in batches:
        placed = hosts.place(batch, sharding)
        queue.append(placed if encode is None else encode(placed))
        if len(queue) > PREFETCH:
            yield queue.popleft()
    yield from queue
