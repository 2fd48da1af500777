"""What both stages do around the loop: mesh, state, restore, log, train."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.config import Experiment
from train.errors import BadInput
from train.runtime import hosts
from train.runtime.checkpoint import Checkpoints
from train.runtime.log import Logger, say
from train.runtime.loop import Hook, train
from train.runtime.sharding import (
    Rules,
    batch_sharding,
    create_state,
    kernels,
    make_mesh,
)
from train.runtime.step import TrainState

# (position, rows of a batch that are wanted) -> batches from there on
OpenBatches = Callable[[int, np.ndarray], Iterator[Any]]
# Sharding of a batch -> what makes of a placed batch what the step sees
Encoder = Callable[[jax.sharding.Sharding], Callable[[Any], Any]]


def launch(
    experiment: Experiment,
    workdir: Path,
    init: Callable[[], TrainState],
    step_fn: Callable,
    rules: Rules,
    open_batches: OpenBatches,
    hooks: Callable[[Logger], Sequence[Hook]],
    depends: dict[str, str] | None = None,
    encoder: Encoder | None = None,
) -> TrainState:
    """Trains the experiment in its workdir to its last step, from wherever it stands.

    depends: name -> fingerprint of what the run was built on. It is stored with every
        checkpoint, and a run that stands on something else is not continued.
    Returns the last state, which is on disk by then. Raises what `train` raises.
    """
    depends = depends or {}
    run = experiment.run
    mesh = make_mesh(experiment.mesh)
    state = create_state(init, rules, mesh)
    position = 0
    with Checkpoints(workdir / "checkpoints", run.keep) as checkpoints:
        restored = checkpoints.restore_latest(state)
        if restored is not None:
            state, position, meta = restored
            changed = [n for n, v in depends.items() if meta.get(n) != v]
            if changed:
                raise BadInput(
                    f"{workdir} was trained with another {changed[0]} than is there "
                    f"now; bring that one back, or write another --workdir"
                )
            say(f"{workdir}: continuing from step {int(state.step)}")
        sharding = batch_sharding(mesh)
        with (
            Logger(workdir, int(state.step), run.wandb) as logger,
            hosts.fail_fast(),
            kernels(mesh),
        ):
            return train(
                state,
                step_fn,
                open_batches(position, hosts.rows(run.batch, sharding)),
                steps=run.steps,
                checkpoints=checkpoints,
                logger=logger,
                log_every=run.log_every,
                save_every=run.save_every,
                batch_sharding=sharding,
                encode=encoder and encoder(sharding),
                position=position,
                meta=depends,
                hooks=hooks(logger),
            )
