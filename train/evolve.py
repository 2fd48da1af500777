"""Evolutionary search over an experiment's settings, by a figure of held-out data.

python -m train.evolve --config=configs/demo_tokenizer.py --workdir=runs/search \\
    --config.run.best=-evaluation_psnr_db --config.run.evaluate='Reconstructions(100)'

Trains the experiment as it is, then with other settings, each in a folder of its own,
until there are --trials. Where it looks is SPACE in the config file, or is written:

python -m train.evolve --config=configs/mnist_flow.py --workdir=runs/search \\
    --config.run.best=heldout_loss --config.run.heldout_every=500 \\
    --space.optimizer.peak_lr='Between(3e-4, 1e-2, log=True)' \\
    --space.model.depth='Choice((2, 4, 6), ordered=True)'

`run.best` says what is best: the smallest of a figure, or the largest of one with a
minus before it. A trial's figure is the best that its run had; that bundle is in its
best/. The first trials are drawn at random, each later one differs by a mutation from
the best of some of the newest (regularized evolution, arXiv:1802.01548); all have the
experiment's seed. Settings that do not go together are drawn again; a training that
fails, as one that diverges does, or has no room on the device, is a trial without a
figure. What is no fault of the settings, such as a full disk or data that are gone,
ends the program. The same command goes on where it was stopped, and with more --trials
it goes on longer.

A figure compares settings that it is not made of: by heldout_loss a weight of the loss
is best at 0.

Writes search.json, a table, search.md, and search.png into the workdir, and prints the
table and the options of the best. The part of the data that chose settings is no test
of them: where the set has splits, search with --config.data.train_split='train[:90%]'
--config.data.test_split='train[90%:]', and evaluate the best on what chose nothing.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train import stage_one, stage_two
from train.config import Experiment, StageOne, StageTwo
from train.config.command import Command, parse
from train.config.file import space_of
from train.config.options.paths import diff, spell, written
from train.config.outputs import check_free
from train.config.override import replaced
from train.config.packages import own_packages
from train.config.search import (
    Between,
    Choice,
    Evolution,
    Space,
    Trial,
    as_options,
    held_by,
)
from train.config.validate import validate
from train.config.workdir import is_free, matches, open_workdir, refusal
from train.errors import BadInput, blame, briefly, one_line, run
from train.modalities.files.writing import write, write_bytes
from train.objectives.streams import prepare
from train.pipeline import open_examples
from train.progress import say
from train.report.pages import markdown, number
from train.report.pictures import line_plot
from train.runtime import hosts
from train.runtime.checkpoint import SaveFailed
from train.runtime.launch import OutOfMemory
from train.runtime.lock import Taken, locked, sweep
from train.runtime.window import TrainingDiverged
from vqdit import sealed
from vqdit.fields import Count, Seed, TwoOrMore
from vqdit.trained.bundle import read_json
from vqdit.values import build, describe, near

FLAGS = {
    "workdir": (str, "the folder of all trials; the same command goes on"),
    "trials": (Count, "trainings in all, with those that are done (32)"),
    "population": (TwoOrMore, "the newest so many may be parents (8)"),
    "tournament": (Count, "of which so many are drawn, the best is the parent (3)"),
    "seed": (Seed, "of the search (0)"),
    "space.": (
        Between | Choice | None,
        "where a field is looked for, beside SPACE; None: nowhere",
    ),
}
TRIALS = 32
PARTS = ("experiment", "space", "evolution")  # of what the file is
FILES = ("search.json", "search.md", "search.png")
# What a run may take up on its way (`FREE`), and figures of two kinds would come of.
FIGURE = ("run.best", "run.steps", "run.heldout_every", "run.evaluate*", "*.solver*")


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, where, and how."""

    experiment: Experiment
    space: Space
    evolution: Evolution

    @property
    def sign(self) -> int:
        """Of the figure: 1 where the smallest is best."""
        return -1 if self.experiment.run.best.startswith("-") else 1

    @property
    def figure(self) -> str:
        return self.experiment.run.best.removeprefix("-")

    def trial(self, settings: dict[str, Any]) -> Experiment:
        """The experiment with these; raises BadInput for what does not go together."""
        found = replaced(self.experiment, settings)
        validate(found, jax.device_count())
        return found

    def best(self, trials: list[Trial]) -> list[Trial]:
        """Those with a figure, the best first."""
        there = [(each.value, each) for each in trials if each.value is not None]
        return [each for _, each in sorted(there, key=lambda x: self.sign * x[0])]


def search_of(command: Command) -> Search:
    """What the command asks for. Raises BadInput for what cannot be searched."""
    if command.config is None or command.experiment is None:
        raise BadInput("write --config=FILE, whose settings are searched")
    experiment, flags = command.experiment, command.flags
    space = space_of(command.config)
    for path, each in flags.get("space", {}).items():
        if each is None and path not in space:
            raise BadInput(
                f"--space.{path}=None: SPACE has it not; {near(path, space)}"
            )
        space[path] = each
    space = {path: each for path, each in space.items() if each is not None}
    if not space:
        raise BadInput(
            f"{command.config} has no SPACE; write one, or the range of a field, "
            "--space.optimizer.peak_lr='Between(3e-4, 1e-2, log=True)'"
        )
    if not experiment.run.best:
        raise BadInput(
            "run.best='': write the figure that settings are chosen by, "
            "--config.run.best=heldout_loss with --config.run.heldout_every=STEPS"
        )
    for path, each in space.items():
        if is_free(path) or path == "name":
            raise BadInput(f"space.{path} says nothing of what is computed; drop it")
        parts = {p: x.ends[0] for p, x in space.items() if p.startswith(f"{path}.")}
        for value in each.ends:  # each of which has what is searched of its parts
            replaced(experiment, {path: value} | parts)
        with blame(f"space.{path}"):
            describe(each)  # which search.json will hold
    validate(experiment, jax.device_count())
    own = flags.keys() & {"population", "tournament", "seed"}
    chosen = {name: flags[name] for name in own}
    with blame():
        return Search(experiment, space, Evolution(**chosen))


def trials_of(path: Path, search: Search) -> list[Trial]:
    """Those that are done. Raises BadInput for a file of another search."""
    if not path.exists():
        return []
    packages = ("vqdit", "train", *own_packages(search))
    try:
        found = sealed.opened(read_json(path), needed=True)
        experiment, space, evolution = (build(found[n], packages) for n in PARTS)
        trials = [build(each, packages) for each in found["trials"]]
        kinds = (Experiment, dict, Evolution, *[Trial] * len(trials))
        parts = (experiment, space, evolution, *trials)
        if not all(map(isinstance, parts, kinds)):
            raise ValueError("it holds no search")
        if not trials or trials[0].value is None:
            raise ValueError("it has no figure of the experiment as it is")
    except OSError:
        raise
    except Exception as error:  # fields may be of any type
        raise BadInput(f"{path}: {briefly(error)}; move it away") from error
    changes = diff(experiment, search.experiment)
    why = refusal(experiment, search.experiment, str(path.parent), False)
    if other := [at for at in changes if matches(at, FIGURE)]:
        change = f"{other[0]}: {' -> '.join(map(spell, changes[other[0]]))}"
        why = f"{path.parent} has figures of another {change}"
    if not why and (space, evolution) != (search.space, search.evolution):
        why = f"{path.parent} is of another search, {spell(space)}, {spell(evolution)}"
    if why:
        raise BadInput(f"{why}; write another workdir")
    return trials


def trained(search: Search, folder: Path, settings: dict, first: bool) -> Trial:
    """A trial, once its run in the folder has ended. What the first refuses, as it is
    the experiment as it was written, ends the search; so does what is no fault of the
    settings."""
    experiment = search.trial(settings)
    train: Any = (
        stage_one.train if isinstance(experiment, StageOne) else stage_two.train
    )
    open_workdir(folder, experiment, write=False)
    try:
        train(experiment, folder)
        failed = f"{experiment.run.best} was no number"
    except (SaveFailed, Taken):
        raise
    except BadInput as error:
        if first:
            raise BadInput(one_line(error)) from error
        if not isinstance(error, TrainingDiverged | OutOfMemory):
            opened(search.experiment)
        return Trial(settings, failed=one_line(error))
    try:
        found = read_json(folder / "best.json")
    except FileNotFoundError:
        found = {}
    if found.get("figure") == search.figure:
        return Trial(settings, float(found["value"]), int(found["step"]))
    if first:
        raise BadInput(failed)
    return Trial(settings, failed=failed)


def opened(experiment: Experiment) -> None:
    """Raises BadInput where what the experiment is trained on is not there any more."""
    if isinstance(experiment, StageTwo):
        prepare(experiment)
    else:
        for part in (True, False):
            open_examples(experiment.one_data, part)


def table(search: Search, trials: list[Trial]) -> str:
    """Markdown: a line a trial, the best first, those without a figure last."""
    paths = [*search.space]
    rows = []
    failed = [each for each in trials if each.value is None]
    for each in (*search.best(trials), *failed):
        cells = [written(each.settings.get(path, "")) for path in paths]
        figure = each.failed if each.value is None else number(each.value)
        step = "" if each.value is None else str(each.step)
        row = [str(trials.index(each)), *cells, figure, step]
        rows.append([cell.replace("|", r"\|") for cell in row])
    return markdown(["trial", *paths, search.figure, "at step"], rows)


def picture(search: Search, trials: list[Trial]) -> bytes:
    """PNG: the figure of each trial, in the order of training, and the best so far."""
    values = np.array([np.nan if x.value is None else x.value for x in trials])
    best = search.sign * np.fmin.accumulate(search.sign * values)
    x = range(len(trials))
    lines = {"each": (x, values), "best so far": (x, best)}
    # Marks show one between two without a figure, too.
    marks = {"each": [""] * len(trials)}
    return line_plot(lines, "trial", search.figure, points=marks)


def main(argv=None):
    hosts.alone()
    command = parse(argv, Experiment, FLAGS, needed=["workdir"])
    search, workdir = search_of(command), Path(command.workdir or "")
    total = command.flags.get("trials", TRIALS)
    check_free(workdir, FILES)
    with locked(workdir):
        sweep(workdir)
        trials = trials_of(workdir / "search.json", search)
        while len(trials) < total:
            settings = held_by(search.experiment, search.space)
            if trials:
                how = (trials, search.space, search.sign, search.trial)
                try:
                    settings = search.evolution.following(*how)
                except BadInput as error:  # a space may have fewer
                    say(f"{len(trials)} trials are all there are: {error}")
                    break
            name = f"{len(trials):04d}"
            say(f"trial {name} of {total}: {as_options(settings)}")
            trials.append(trained(search, workdir / name, settings, not trials))
            _write(workdir, search, trials)
    best = search.best(trials)[0]
    print(table(search, trials), end="")
    stage = "stage_one" if isinstance(search.experiment, StageOne) else "stage_two"
    say(
        f"the best is trial {trials.index(best):04d}: train.{stage} with the options "
        f"of this search and {as_options(best.settings)}"
    )


def _write(workdir: Path, search: Search, trials: list[Trial]) -> None:
    """search.json is the last: where it ends the search goes on."""
    write_bytes(workdir / "search.md", table(search, trials).encode())
    write_bytes(workdir / "search.png", picture(search, trials))
    of = {name: describe(getattr(search, name)) for name in PARTS}
    done = {"trials": list(map(describe, trials))}
    write(workdir / "search.json", sealed.sealed(of | done))


if __name__ == "__main__":
    run(main)
