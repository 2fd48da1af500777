"""A state on a mesh of eight devices, saved and restored again and again.

python -m tests.train.runtime.many_saves FOLDER DATA FSDP TENSOR

in a process of its own, with XLA's thread pool as small as it is for a user: there
collectives that are started beside each other wait for each other for ever.
"""

import sys

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from train.config import Mesh  # noqa: E402
from train.runtime.checkpoint import Checkpoints  # noqa: E402
from train.runtime.sharding import Rule, create_state, make_mesh  # noqa: E402
from train.runtime.step import init_state  # noqa: E402

SAVES, RESTORES, LAYERS = 30, 3, 30


def main(folder: str, *sizes: str) -> None:
    mesh = make_mesh(Mesh(*map(int, sizes)))
    rules = (Rule(r"/kernel$", jax.P("fsdp", "tensor")),)

    def init():
        kernel = lambda i: jnp.full((8, 8), float(i))
        layers = {f"layer_{i}": {"kernel": kernel(i)} for i in range(LAYERS)}
        return init_state(jax.random.key(0), {"params": layers}, optax.adam(1e-3))

    state = create_state(init, rules, mesh)
    with Checkpoints(folder, keep=1) as checkpoints:
        for step in range(SAVES):
            checkpoints.save(step, state, position=step)
            checkpoints.wait()
    for _ in range(RESTORES):  # each as a run that starts again
        with Checkpoints(folder, keep=1) as checkpoints:
            found, position, _ = checkpoints.restore_latest(state)
            assert position == SAVES - 1
    for a, b in zip(*map(jax.tree.leaves, (state.params, found.params)), strict=True):
        np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
    main(*sys.argv[1:])
