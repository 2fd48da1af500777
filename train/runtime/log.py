"""What a run says about itself: metrics, pictures, progress. Process 0 writes."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable, one_line
from train.modalities.files.stored import stored
from train.modalities.files.writing import append, write_bytes
from train.modalities.shown import png
from train.progress import say
from train.runtime import hosts
from train.runtime.board import Board

# Files that TensorBoard shows, and what Weights & Biases calls each.
SHOWN = {".png": "Image", ".wav": "Audio", ".gif": "Video"}
# Sections of TensorBoard's scalars, beside those of training, of held-out data and of
# what is scored.
SECTIONS = {
    "optimizer": ("learning_rate", "grad_norm"),
    "speed": ("step_seconds", "examples_per_second"),
}


class Logger(contextlib.AbstractContextManager):
    """Writes to the folder of a run; a context manager.

    metrics.jsonl       one JSON object a line: step, time (seconds since 1970) and the
                        metrics; a value that is not finite is null
    tensorboard/        the same scalars, and the pictures
    samples/            NAME_STEP.png, and NAME_STEP.wav or .gif of what is heard or
                        moves, .csv of series, rows and boxes, .txt of texts

    step: the step that the run continues from. Lines past it, which a killed run had
    written and this one will write again, go to metrics.replaced.jsonl, and so does a
    line that was cut short. What that step's lines hold is not written a second time.
    On processes other than the first nothing is written. What the disk does not take is
    told once, and no error: lines are written when there is room again.

    wandb: a Weights & Biases project that gets the same scalars and pictures; "" for
        none. Its run continues under the workdir's name. Raises BadInput without the
        package.
    """

    def __init__(self, workdir: str | os.PathLike, step: int = 0, wandb: str = ""):
        self._writes = hosts.first()
        self._workdir = Path(workdir)
        self._wandb: Any = None
        if not self._writes:
            return
        if wandb:
            self._wandb = _wandb(self._workdir, wandb)
        self._workdir.mkdir(parents=True, exist_ok=True)
        path = self._workdir / "metrics.jsonl"
        _rewind(path, step)
        # A hook that is due at this step measures again; its line is there already.
        rows = read_metrics(self._workdir) if path.exists() else []
        self._there = [row.keys() for row in rows if row["step"] == step]
        self._step = step
        self._lines = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        self._waiting = b""  # lines that the disk would not take yet
        self._told: set[str] = set()
        # One that was killed before its first checkpoint has left events, too.
        board = self._workdir / "tensorboard"
        began = step or board.is_dir() and any(board.iterdir())
        self._board = Board(board, step + 1 if began else None)

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        if self._writes:
            if self._waiting:
                with self._survived("the last lines of metrics.jsonl"):
                    self._append()
            os.close(self._lines)
            self._board.close()
            if self._wandb is not None:
                self._wandb.finish()

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, on disk when this returns, if there is room."""
        if not self._writes:
            return
        values = {name: float(value) for name, value in metrics.items()}
        row: dict[str, float | None] = {"step": step, "time": round(time.time(), 3)}
        row |= {n: v if math.isfinite(v) else None for n, v in values.items()}
        if step == self._step and row.keys() in self._there:
            return
        self._waiting += (json.dumps(row, allow_nan=False) + "\n").encode()
        with self._survived("metrics.jsonl"):
            self._append()
        with self._survived("tensorboard/"):
            for name, value in values.items():
                self._board.scalar(tag(name), value, step)
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """Markdown, for TensorBoard alone."""
        if self._writes:
            with self._survived("tensorboard/"):
                self._board.text(name, text, step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Writes samples/NAME_STEP.png, as `shown.png` has it."""
        if self._writes:
            self.file(step, name, ".png", png(pixels))

    def file(self, step: int, name: str, suffix: str, content: bytes) -> None:
        """Writes samples/NAME_STEP.SUFFIX; TensorBoard shows what it can."""
        if not self._writes:
            return
        path = self._workdir / "samples" / f"{name}_{step:06d}{suffix}"
        with self._survived(f"samples/{path.name}"):
            write_bytes(path, content)
            if self._wandb is not None and suffix in SHOWN:  # it reads the file
                import wandb

                shown = getattr(wandb, SHOWN[suffix])(str(path))
                self._wandb.log({name: shown}, step=step)
        if suffix in SHOWN:
            show = self._board.sound if suffix == ".wav" else self._board.picture
            with self._survived("tensorboard/"):
                show(f"samples/{name}", content, step)

    def _append(self) -> None:
        append(self._lines, self._waiting)
        self._waiting = b""

    @contextlib.contextmanager
    def _survived(self, what: str) -> Iterator[None]:
        """A part whose failure the run outlives; told once of each `what`."""
        try:
            yield
        except OSError as error:
            if what not in self._told:
                self._told.add(what)
                say(f"{self._workdir}/{what} not written: {one_line(error)}")


def wandb_package(project: str) -> Any:
    """Weights & Biases. Raises BadInput where it is not installed."""
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise BadInput(
            f"run.wandb={project!r} needs a package: pip install wandb, or "
            f"write run.wandb=''"
        ) from error
    return wandb


def _wandb(workdir: Path, project: str):
    # The same folder is the same run: a resumed one continues its curves.
    identity = hashlib.sha256(os.fsencode(workdir.resolve())).hexdigest()[:16]
    return wandb_package(project).init(
        project=project, name=workdir.name, id=identity, resume="allow", dir=workdir
    )


def tag(name: str) -> str:
    """A metric's place in TensorBoard, which has a section for each word before "/"."""
    for section, names in SECTIONS.items():
        if name.endswith(names):  # of a discriminator, too
            return f"{section}/{name}"
    if name.startswith(("heldout_", "evaluation_")):
        return name.replace("_", "/", 1)
    return f"train/{name}"


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """The lines of metrics.jsonl, oldest first; a line cut short is left out."""
    path = Path(workdir) / "metrics.jsonl"
    rows = [_parsed(line) for line in _text(path).splitlines()]
    return [row for row in rows if row is not None]


def _rewind(path: Path, step: int) -> None:
    """Keeps the whole lines up to `step`, in one rename; moves the others aside."""
    if not path.exists():
        return
    kept: list[str] = []
    others: list[str] = []
    for line in _text(path).splitlines(keepends=True):
        row = _parsed(line) if line.endswith("\n") else None
        stays = row is not None and row["step"] <= step
        (kept if stays else others).append(line.rstrip("\n") + "\n")
    if others:
        replaced = path.with_suffix(".replaced.jsonl")
        with replaced.open("a", encoding="utf-8") as file:
            file.writelines(others)
        write_bytes(path, "".join(kept).encode())


def _text(path: Path) -> str:
    """What is no text in it is in no whole line."""
    try:
        return stored(path).decode("utf-8", "replace")
    except Unreadable as error:
        raise BadInput(f"{path} {error}; move it away") from error


def _parsed(line: str) -> dict | None:
    """A row, of which a run that diverges may have figures that are no numbers."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and type(row.get("step")) is int
    return row if whole else None
