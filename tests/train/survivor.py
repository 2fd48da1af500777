"""A small training program that is made to be killed. See test_loop."""

import time
from pathlib import Path

import jax
import numpy as np

from tests.train import toy
from train.runtime.checkpoint import Checkpoints
from train.runtime.log import Logger
from train.runtime.loop import Hook, train

STEPS = 45
EVERY = 3


def main(workdir, delay, programs):
    """Trains, or goes on training; `final.npz` is the state after the last step.

    delay: seconds a batch takes. programs: folder of compiled programs, or None.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", programs)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    workdir = Path(workdir)
    workdir.mkdir(exist_ok=True)

    def batches(start):
        for i in range(start, 10**9):
            time.sleep(delay)
            yield toy.new_batch(i)

    def nudge(step, state):
        """A change in the middle of training, as k-means is."""
        return state.replace(params=jax.tree.map(lambda x: 0.9 * x, state.params))

    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        state, position = toy.new_state(), 100
        found = checkpoints.restore_latest(state)
        if found is not None:
            state, position, _ = found
        with (workdir / "starts.txt").open("a") as file:
            file.write(f"{int(state.step)}\n")
        with Logger(workdir, int(state.step)) as logger:
            state = train(
                state,
                toy.new_step(),
                batches(position),
                steps=STEPS,
                checkpoints=checkpoints,
                logger=logger,
                log_every=EVERY,
                save_every=EVERY,
                position=position,
                hooks=[Hook(nudge, at=(20,), changes=True)],
            )
    leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    np.savez(workdir / "final.npz", *leaves)
