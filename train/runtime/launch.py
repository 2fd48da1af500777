"""What both stages do around the loop: mesh, state, restore, log, train."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from train.config import Experiment
from train.config.command import RUN, Flags
from train.config.options.paths import leaves, spell
from train.config.packages import naming, own_packages
from train.config.workdir import (
    CONFIG_FILE,
    MOVES,
    open_workdir,
    read_config,
    refusal,
    save_config,
)
from train.errors import BadInput, briefly, refused
from train.pipeline.statistics import differing
from train.progress import say
from train.runtime import hosts
from train.runtime.checkpoint import Checkpoints
from train.runtime.heldout import Encoder, HeldOut
from train.runtime.lock import locked, sweep
from train.runtime.log import Logger, wandb_package
from train.runtime.loop import Hook, train
from train.runtime.optim import factors_of
from train.runtime.sharding import (
    Rules,
    batch_sharding,
    by_example,
    create_state,
    make_mesh,
    mesh_in_words,
    state_shapes,
    state_sharding,
)
from train.runtime.step import TrainState
from vqdit.values import build, describe

ALIKE = 5e-3  # means of one picture as two machines decode it, in [-1, 1]
FLAGS: Flags = {
    **RUN,
    "reschedule": (bool, "go on where another run.steps changes the schedule"),
}
# (position, rows of a batch that are wanted) -> batches from there on
OpenBatches = Callable[[int, np.ndarray], Iterator[Any]]


class OutOfMemory(BadInput):
    """The devices have no room for the run."""


@contextlib.contextmanager
def claimed(
    workdir: str | Path | None,
    experiment: Experiment,
    force: bool = False,
    reschedule: bool = False,
) -> Iterator[Path]:
    """The run's folder, opened for the experiment and no other run's until the end.

    force, reschedule: of `open_workdir`. Raises what that does, and writes nothing
    where it does.
    """
    how = {"force": force, "reschedule": reschedule}
    with contextlib.ExitStack() as held:
        with hosts.together():
            folder = open_workdir(workdir, experiment, write=False, **how)
            if hosts.first():
                held.enter_context(locked(folder))
                # Once more: another run may have had it a moment ago.
                open_workdir(folder, experiment, **how)
                for each in (folder, folder / "samples"):
                    sweep(each)
        yield folder


def fits(
    experiment: Experiment,
    init: Callable[[], TrainState],
    rules: Rules,
    heldout: HeldOut | None = None,
    waits: bool = False,
) -> None:
    """Raises BadInput, with nothing written or computed, for a state that cannot be
    made, or that the mesh does not divide, for rates at which nothing would be learned,
    for a package that the log needs and is not there, and what `HeldOut.check` does.

    waits: whether k-means makes a codebook, which takes no rate either."""
    if experiment.run.wandb and hosts.first():  # who alone reports
        wandb_package(experiment.run.wandb)
    state = jax.eval_shape(init)
    factors = factors_of(experiment.optimizer.rates, state.params)
    # A codebook of averages is learned without a rate.
    averages = [path for path in flatten_dict(state.stats) if path[-1] == "sums"]
    if not (averages or waits or any(jax.tree.leaves(factors))):
        raise BadInput(
            "optimizer.rates: 0 is the factor of every parameter, and nothing would be "
            "learned; write one above 0 for what is to be trained"
        )
    state_sharding(state, rules, make_mesh(experiment.mesh))
    if heldout is not None:
        heldout.check(experiment.run, state)


def launch(
    experiment: Experiment,
    workdir: Path,
    init: Callable[[], TrainState],
    step_fn: Callable,
    rules: Rules,
    open_batches: OpenBatches,
    hooks: Callable[[Logger], Sequence[Hook]],
    about: Callable[[TrainState], str],
    depends: dict[str, str] | None = None,
    encoder: Encoder | None = None,
    reschedule: bool = False,
    heldout: HeldOut | None = None,
    lost: str = "",
    made_of: Callable[[], dict[str, Any]] = dict,
) -> TrainState:
    """Trains the experiment in its workdir to its last step, from wherever it stands.

    workdir: `claimed`. Every checkpoint in it says whose it is, and none of another
        experiment is continued.
    about:   what the stage says of itself as the run begins.
    depends: name -> fingerprint of what the run was built on. It is stored with every
        checkpoint, and a run that stands on something else is not continued.
    reschedule: of `open_workdir`.
    heldout: what is measured and kept where the run says so.
    lost: why the state cannot be one that begins, but only a checkpoint's.
    made_of: stream -> a probe of its training part. It is stored with every checkpoint,
        and a run is not continued on other records: their order would be another's.
    Returns the last state, which is on disk by then. Raises what `train` raises, and
    OutOfMemory.
    """
    depends = depends or {}
    with hosts.together():
        probes = made_of()
    run = experiment.run
    mesh = make_mesh(experiment.mesh)
    position, window = 0, None
    kept = Checkpoints(workdir / "checkpoints", run.keep)
    with kept as checkpoints, _within_memory():
        # By its shapes: beside a state that begins it would take its memory twice.
        restored = checkpoints.restore_latest(state_shapes(init, rules, mesh))
        if restored is None:
            if lost:
                raise BadInput(lost)
            with hosts.together():
                _refuse_moved(workdir, experiment, reschedule)
            state = create_state(init, rules, mesh)
        else:
            state, position, meta = restored
            window = meta.get("window")
            with hosts.together():  # each has looked at its own
                moves = _moves(meta.get("data"), probes)
                _check_owner(
                    workdir, meta.get("experiment"), experiment, reschedule, moves
                )
                changed = [n for n, v in depends.items() if meta.get(n) != v]
                if changed:
                    raise BadInput(
                        f"{workdir} was trained with another {changed[0]} than is "
                        f"there now; bring that one back, or write another --workdir"
                    )
                _refuse_other_data(workdir, meta.get("data"), probes)
            say(f"{workdir}: continuing from step {int(state.step)}")
        with hosts.together():
            if hosts.first():  # a run that is refused has written nothing
                save_config(experiment, workdir / CONFIG_FILE)
        sharding = batch_sharding(mesh)
        # Before its long silence of compiling.
        size = sum(x.size for x in jax.tree.leaves(state.params))
        say(
            f"{experiment.name}: {size:,} parameters, computed in {experiment.dtype}; "
            f"{about(state)}\n{run.steps:,} steps of {run.batch} on "
            f"{mesh_in_words(mesh)}"
        )
        rows, placed = hosts.rows(run.batch, sharding), encoder and encoder(sharding)
        with (
            hosts.fail_fast(),  # the log closed by then, with its last lines
            _within_memory(),  # before the process ends there
            Logger(workdir, int(state.step), run.wandb) as logger,
        ):
            lines = [f"    {at}={spell(v)}" for at, v in leaves(experiment).items()]
            logger.text(int(state.step), "experiment", "\n".join(lines))
            found, measured = list(hooks(logger)), []
            if heldout is not None:
                how = (run, workdir, rows, logger, sharding)
                measured = list(heldout.hooks(*how))
            for hook in measured if not int(state.step) else ():
                hook.run(0, state)
            return train(
                state,
                by_example(step_fn, sharding),
                open_batches(position, rows),
                steps=run.steps,
                checkpoints=checkpoints,
                logger=logger,
                log_every=run.log_every,
                save_every=run.save_every,
                batch_sharding=sharding,
                encode=placed,
                position=position,
                meta={"experiment": describe(experiment), "data": probes, **depends},
                window=window,
                hooks=[*found, *measured],
            )


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """Raises OutOfMemory where there is no room for what is computed here."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OutOfMemory(
            f"{briefly(error)}; write a smaller run.batch or model, remat, "
            "optimizer.accumulate, or a mesh of more devices"
        ) from error


def _refuse_other_data(workdir: Path, stored: Any, now: dict[str, Any]) -> None:
    """Raises BadInput where a checkpoint says that it was trained on other records."""
    at = f"{workdir}/checkpoints: what they were trained on is"
    with refused("damaged", lambda error: f"{at} {error}; write another --workdir"):
        for name, made_of in (stored or {}).items():  # not said by those of before
            if made_of is None or now.get(name) is None:
                continue
            if other := differing(made_of, now[name], ALIKE):
                whole = (workdir / "bundle").exists()
                on = f" and --config.init={workdir}, for its weights" if whole else ""
                raise BadInput(
                    f"{workdir} was trained on {other} now; give the data back, or "
                    f"write another --workdir{on}"
                )


def _refuse_moved(workdir: Path, experiment: Experiment, reschedule: bool) -> None:
    """Raises BadInput where data have moved and there is no checkpoint to say that they
    are the same: what is in the folder may be of others."""
    if (workdir / CONFIG_FILE).exists():
        old = read_config(workdir / CONFIG_FILE, experiment)
        if why := refusal(old, experiment, str(workdir), reschedule, MOVES[:1]):
            raise BadInput(f"{why}, or write --force to replace it")


def _moves(stored: Any, now: dict[str, Any]) -> Sequence[str]:
    """Fields that may hold another path than when a checkpoint was written: of data and
    caches where it says that what is there now is the same."""
    of = (stored if isinstance(stored, dict) else {}), now
    marks = [
        {n: x.get("mark") if isinstance(x, dict) else None for n, x in each.items()}
        for each in of
    ]
    same = marks[0] == marks[1] and marks[0] and all(marks[0].values())
    return MOVES if same else MOVES[:1]


def _check_owner(
    workdir: Path,
    stored: Any,
    experiment: Experiment,
    reschedule: bool,
    moves: Sequence[str],
) -> None:
    """Raises BadInput where a checkpoint says that it is of another experiment, but for
    the paths in `moves`."""
    try:
        if stored is None:  # one of 0.1.0, which told nothing
            owner: Any = read_config(workdir / CONFIG_FILE, experiment)
        else:
            owner = build(stored, ("vqdit", "train", *own_packages(experiment)))
        if not isinstance(owner, Experiment):
            raise ValueError(f"it is a {type(owner).__name__}")
    except Exception as error:  # fields may be of any type
        raise BadInput(
            f"{workdir}/checkpoints are of an experiment that this version cannot "
            f"read: {briefly(error)}{naming(error)}; use the version that wrote them"
        ) from error
    if why := refusal(owner, experiment, f"{workdir}/checkpoints", reschedule, moves):
        raise BadInput(
            f"{why}; bring back the checkpoints of {workdir}/{CONFIG_FILE}, or write "
            f"another --workdir"
        )
