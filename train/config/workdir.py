"""A run's folder, and the config.json in it that says whose it is."""

import fnmatch
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.config.experiment import Experiment
from train.config.options.paths import diff, spell
from train.config.outputs import check_free
from train.config.packages import naming, own_packages
from train.errors import BadInput, blame, briefly, some
from train.modalities.files.stored import from_home, printable
from train.modalities.files.writing import write
from vqdit.trained.bundle import place, read_json
from vqdit.values import build, describe

CONFIG_FILE = "config.json"
# Folders and files that a run leaves behind, and what programs have said of it. Under
# another experiment all of it would be misread.
BUNDLES = ("bundle", "best")
FOLDERS = ("checkpoints", *BUNDLES, "samples", "tensorboard")
FILES = (
    "evaluation.json",
    "probe.json",
    "probe.png",
    "rates.json",
    "rates_psnr.png",
    "rates_ssim.png",
    "report.html",
    "scores.csv",
    "scores.json",
    "best.json",
    "metrics.jsonl",
    "metrics.replaced.jsonl",
    "statistics.json",
    CONFIG_FILE,  # which goes last, see `_move_aside`
)
LEFT = (*FOLDERS, *FILES)
# May change from one start to the next: they say how long, how often and on what
# machine, not what is computed at a step.
FREE = (
    "run.steps",
    "run.log_every",
    "run.save_every",
    "run.keep",
    "run.sample_every",
    "run.heldout_every",
    "run.best",
    "run.evaluate",
    "run.wandb",
    "bars",
    "mesh",
    "model.*remat",
    "model.*implementation",
    "data.threads",
    "data.download",
    "data.*.threads",
    "data.*.download",
    "streams.*.solver",
    # The tokenizer says them, and its fingerprint is compared.
    "streams.*.shape",
    "streams.*.codes",
)
# Folders that may lie elsewhere at the next start: what is in them is compared with
# what checkpoints were made of, by fingerprints of tokenizers and marks of the others.
MOVES = ("streams.*.tokenizer", "cache", "data.data_dir", "data.*.data_dir")
# All that may be written otherwise, as from home, where it is the same place.
PATHS = (*MOVES, "init", "losses.lpips", "losses.features")
SHOWN = 8  # differences listed before the rest is only counted
# What Orbax looks for the parts of a checkpoint by, in the whole of its path: [1] is
# not found, and * is other folders, too. TensorStore takes the last for a folder's end.
PATTERN = "*?[\\"


def save_config(experiment: Experiment, path: str | Path) -> None:
    """Writes an experiment as JSON, whole or not at all."""
    write(path, describe(experiment))


def run_of(folder: Path) -> Path:
    """The run whose bundle, or best one, the folder is; else the folder itself, which
    may be a run of that name beside others."""
    inside = folder.name in BUNDLES and folder.is_dir()
    if inside and not (folder / "checkpoints").is_dir():
        if (folder.parent / "checkpoints").is_dir():
            return folder.parent
    return folder


def read_config(path: str | Path, like: Experiment | None = None) -> Experiment:
    """The experiment that `save` wrote. Raises BadInput if there is none to be read.

    like: one whose packages it may be of too, beside those that the user has named.
    """
    path = Path(path)
    try:
        stored = read_json(path)
        bundle = isinstance(stored, dict) and "kind" in stored
        packages = ("vqdit", "train", *own_packages(like))
        experiment = None if bundle else build(stored, packages)
    except FileNotFoundError as error:
        raise BadInput(
            f"there is no {path}; write the workdir of a run, or --config=FILE"
        ) from error
    except Exception as error:  # fields may be of any type
        line = briefly(error) + naming(error)
        raise BadInput(f"{path} cannot be read: {line}") from error
    if bundle:
        raise BadInput(
            f"{path.parent} is a bundle, which does not keep the experiment that made "
            "it; write the workdir of its run, or --config=FILE"
        )
    if not isinstance(experiment, Experiment):
        kind = type(experiment).__name__
        raise BadInput(f"{path} holds a {kind}, which is no experiment of train.config")
    return experiment


def open_workdir(
    workdir: str | Path | None,
    experiment: Experiment,
    force: bool = False,
    write: bool = True,
    reschedule: bool = False,
) -> Path:
    """The folder, which from here on belongs to `experiment`.

    A new folder is created. An old one must hold the same experiment, up to the fields
    in FREE, paths in MOVES and others to the same place, so that the same command
    resumes; otherwise BadInput lists what differs. Its config.json stays until `launch`
    knows that the run goes on. It is raised, too, where what a run writes would replace
    what is no run's: a file in the place of samples/, or notes beside the weights of a
    bundle; and for a path that no checkpoint can be read back from.
    Where another run may be in the folder, `train.runtime.launch.claimed` keeps it out.

    force: take the folder over all the same, also of one with other paths. Everything
        that the old experiment left is moved aside, as `checkpoints.replaced-1` and the
        like; nothing is deleted. It has no effect where the experiment is the same.
    write: False only compares; for every process of a run but the first.
    reschedule: take another length, run.steps, also under a schedule that it changes.
    """
    if not workdir:
        raise BadInput("there is no folder to write to; write --workdir=DIR")
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise BadInput(f"--workdir={workdir} is a file; write a folder")
    if workdir.is_symlink() and not workdir.exists():
        raise BadInput(
            f"--workdir={workdir} is a link to {workdir.readlink()}, which is not "
            f"there; bring it back, or remove the link"
        )
    path = os.path.realpath(workdir / "checkpoints")
    if set(PATTERN) & set(path) or printable(path) != path:
        raise BadInput(
            f"--workdir={workdir}: checkpoints in a folder whose path has one of "
            f"{' '.join(PATTERN)}, or is no text, may not be found again; rename it"
        )
    why = _refusal(workdir, experiment, reschedule, () if force else MOVES)
    if workdir.exists() and not (why and force):
        check_free(workdir, FILES, FOLDERS)
    if why and not force:
        raise BadInput(f"{why}; write --force to replace it, or another --workdir")
    for name in () if why else BUNDLES:
        with blame("--workdir"):
            place(workdir / name)
    if write:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            if why:
                _move_aside(workdir)
            if not (workdir / CONFIG_FILE).exists():
                save_config(experiment, workdir / CONFIG_FILE)
        except OSError as error:
            raise BadInput(f"--workdir={workdir} cannot be written: {error}") from error
    return workdir


def _refusal(
    workdir: Path,
    experiment: Experiment,
    reschedule: bool,
    moves: Sequence[str] = MOVES,
) -> str:
    """Why the folder cannot be this experiment's; empty if it can."""
    if not (workdir / CONFIG_FILE).exists():
        if (workdir / "checkpoints").exists():
            return f"{workdir} holds checkpoints but no {CONFIG_FILE}"
        return ""
    try:
        old = read_config(workdir / CONFIG_FILE, experiment)
    except BadInput as error:
        return str(error)
    what = str(workdir)
    return refusal(old, experiment, what, reschedule, moves) or _reordered(
        old, experiment, what
    )


def _reordered(old: Experiment, new: Experiment, what: str) -> str:
    """As `refusal`, of what has the same names in another order: a model's table has a
    row for each stream in turn, and examples are joined to those of the first data. Not
    of a checkpoint, which keeps its notes by the alphabet."""
    for at in ("streams", "data"):
        parts = [getattr(each, at, None) for each in (old, new)]
        names = [", ".join(p) if isinstance(p, Mapping) else "" for p in parts]
        if names[0] != names[1]:
            return (
                f"{what} belongs to another experiment, {old.name!r} (the order of "
                f"{at}: {names[0]} -> {names[1]})"
            )
    return ""


def begun(
    workdir: str | Path | None, experiment: Experiment, reschedule: bool
) -> int | None:
    """The newest step that the experiment has left in the folder; None for none."""
    folder = Path(workdir or "") / "checkpoints"
    if not workdir or not folder.is_dir():
        return None
    if _refusal(Path(workdir), experiment, reschedule):
        return None
    steps = [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
    return max(steps, default=None)


def refusal(
    old: Experiment,
    new: Experiment,
    what: str,
    reschedule: bool,
    moves: Sequence[str] = (),
) -> str:
    """Why `what`, of the old experiment, cannot go on as the new; empty if it can.

    Another length is no other experiment, but the rates of a schedule that ends at
    the last step are others from there on: that takes `reschedule`.

    moves: fields that may hold another path; the caller compares what is there.
    """
    if type(old) is not type(new):
        return f"{what} belongs to a {type(old).__name__}, {old.name!r}"
    changes = {
        path: pair
        for path, pair in diff(old, new).items()
        if not is_free(path)
        if not (all(isinstance(x, str) for x in pair) and _moved(path, pair, moves))
    }
    if changes:
        shown = [f"{at}: {_short(a)} -> {_short(b)}" for at, (a, b) in changes.items()]
        listed = some(shown, SHOWN)
        advice = "; of what has moved leave a link where it was"
        if not all(matches(path, PATHS) for path in changes):
            advice = ""
        return f"{what} belongs to another experiment, {old.name!r} ({listed}){advice}"
    game = getattr(old, "adversarial", None)
    ends = old.optimizer.ends or bool(game and game.optimizer.ends)
    steps = old.run.steps, new.run.steps
    if ends and steps[0] != steps[1] and not reschedule:
        return (
            f"{what} was begun with run.steps={steps[0]}, where its schedule ends, and "
            f"run.steps={steps[1]} changes the learning rates to come: --reschedule "
            f"goes on so"
        )
    return ""


def _moved(path: str, pair: tuple[str, str], moves: Sequence[str]) -> bool:
    """Whether a field may hold either text: in `moves`, or a path to the same place."""
    same = len({os.path.realpath(from_home(each)) for each in pair}) == 1
    return matches(path, moves) or (same and all(pair) and matches(path, PATHS))


def is_free(path: str) -> bool:
    """Whether a field, or what it is a part of, says nothing of what is computed."""
    return matches(path, [each for free in FREE for each in (free, f"{free}.*")])


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a field's path is one of these, in which * stands for anything."""
    return any(fnmatch.fnmatchcase(path, each) for each in patterns)


def _short(value: Any) -> str:
    text = spell(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _move_aside(workdir: Path) -> None:
    """config.json goes last: cut short before it, the next start finds the old one."""
    n = 1
    while any((workdir / f"{name}.replaced-{n}").exists() for name in LEFT):
        n += 1
    for name in LEFT:
        if (workdir / name).exists():
            (workdir / name).rename(workdir / f"{name}.replaced-{n}")
