"""The metrics of the steps between two lines of the log, and the time they took."""

import contextlib
import time
from collections.abc import Iterator

import jax
import numpy as np

from train.errors import BadInput
from train.runtime import hosts
from train.runtime.checkpoint import Checkpoints

# Steps given to the device before their results are waited for. Enough to keep it busy;
# few enough that a signal is obeyed, and the bar is right, within two steps.
IN_FLIGHT = 2


class TrainingDiverged(BadInput):
    """The loss or the gradient is nan or infinite."""


class LogWindow:
    """The metrics of the steps since the last line of the log.

    They stay on the device until they are asked for; every single step's are looked at
    then, so the first bad one is named.

    begun: what `pending` gave when the run was last stopped.
    """

    def __init__(
        self,
        step: int,
        names: list[str],
        examples: int,
        checkpoints: Checkpoints,
        begun: dict | None,
    ):
        self._step = step  # of the newest row fetched
        self._names = names
        self._examples = examples
        self._checkpoints = checkpoints
        self._rows: list[jax.Array] = []
        self._begin()
        # What is of other metrics, or none of ours, is left out of the line.
        begun = begun or {}
        with contextlib.suppress(TypeError, ValueError, LookupError, AttributeError):
            sums = {name: float(text) for name, text in begun["sums"].items()}
            steps, seconds = int(begun["steps"]), float(begun["seconds"])
            if list(sums) == names and steps > 0:
                self._sums, self._count = np.array(list(sums.values())), steps
                self._started -= seconds

    def _begin(self) -> None:
        self._sums, self._count = np.zeros(len(self._names)), 0
        self._started = time.perf_counter()
        self._seconds = 0.0

    def add(self, row: jax.Array) -> None:
        self._rows.append(row)
        if len(self._rows) > IN_FLIGHT:
            self._rows[-1 - IN_FLIGHT].block_until_ready()

    def check(self) -> None:
        """Fetches what is pending. Raises TrainingDiverged at the first bad step."""
        rows, self._rows = hosts.gather(self._rows), []
        self._seconds = time.perf_counter() - self._started
        for row in rows:
            self._step += 1
            self._count += 1
            self._sums += row
            for name in ("loss", "grad_norm"):
                value = row[self._names.index(name)]
                if not np.isfinite(value):
                    advice = (
                        "write a lower optimizer.peak_lr or a longer optimizer.warmup"
                    )
                    if self._step == 1:  # before any update: no rate is to blame
                        advice = "look at the data (train.inspect) and at the model"
                    raise TrainingDiverged(
                        f"{name} is {value} at step {self._step}, which was not saved; "
                        f"the last good checkpoint is {self._checkpoints.good}; "
                        f"{advice}"
                    )

    def pending(self) -> dict | None:
        """What the next line is of so far, as JSON; None at its start. After `check`.

        Sums are text: JSON has no nan, and one metric may be.
        """
        if not self._count:
            return None
        sums = dict(zip(self._names, map(repr, self._sums.tolist()), strict=True))
        return {"sums": sums, "steps": self._count, "seconds": self._seconds}

    def close(self) -> dict[str, float]:
        """Means over the window, which starts anew. After `check`."""
        means = self._sums / self._count
        values = dict(zip(self._names, means.tolist(), strict=True))
        values["step_seconds"] = self._seconds / self._count
        values["examples_per_second"] = self._examples * self._count / self._seconds
        self._begin()
        return values

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps saving and drawing out of the seconds."""
        before = time.perf_counter()
        yield
        self._started += time.perf_counter() - before
