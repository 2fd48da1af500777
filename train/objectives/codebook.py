"""The codebook from data: k-means at a step, and revival of dead codes after each."""

import math
from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from train.config import StageOne
from train.modalities import Batch
from train.pipeline import Examples, once, open_examples
from train.progress import progress, say
from train.runtime import hosts
from train.runtime.sharding import along_batch
from train.runtime.step import TrainState, beside
from vqdit.signal import to_signal

# Examples encoded at a time outside training, and the values they may have in all.
CHUNK, CHUNK_VALUES = 256, 2**24


def chunk_size(shape: tuple[int, ...]) -> int:
    """Examples encoded at a time: CHUNK small ones, fewer of what is large."""
    return max(1, min(CHUNK, CHUNK_VALUES // math.prod(shape)))


def all_of(examples: Examples, doing: str, most: int | None = None) -> Iterable[Batch]:
    """Chunks of all examples, or of so many, each process its own stretch, with the
    "index" of each example, and how far they have come."""
    chosen, (index, of) = examples.spaced(most), hosts.share()
    low, high = (len(chosen) * i // of for i in (index, index + 1))
    mine, chunk = chosen[low:high], chunk_size(examples.data.shape)
    take = lambda rows: examples.take(mine[rows]) | {"index": mine[rows]}
    found = once(take, len(mine), chunk, threads=examples.data.threads)
    return progress(found, doing, -(-len(mine) // chunk), "batch")


def with_revival(step):
    """The step, and after it the rows of gradient codebooks that the quantizer gave up.

    Their moving average is replaced with them, and their moments start from zero: a
    revived code inherits nothing from the dead one. Sums over an axis of a codebook,
    which Adafactor keeps in the place of moments, are not a row's alone, and stay.
    """

    def revived(state: TrainState, batch):
        state, metrics = step(state, batch)
        if "revival" not in state.stats:
            return state, metrics
        plans = state.stats["revival"]
        # Path of a codebook in the parameters -> (dead, fresh), its rows.
        rows = {
            (*path[:-1], "codewords"): (dead, flatten_dict(plans)[*path[:-1], "fresh"])
            for path, dead in flatten_dict(plans).items()
            if path[-1] == "dead"
        }

        def replace(tree, reset=False):
            def leaf(path, value):
                names = tuple(getattr(k, "key", getattr(k, "name", "")) for k in path)
                for codebook, (dead, fresh) in rows.items():
                    named = names[-len(codebook) :] == codebook
                    if named and value.shape == fresh.shape:
                        new = jnp.zeros_like(value) if reset else fresh
                        return jnp.where(dead[:, None], new, value)
                return value

            return jax.tree_util.tree_map_with_path(leaf, tree)

        done = jax.tree.map(jnp.zeros_like, plans)
        state = state.replace(
            stats={**state.stats, "revival": done},
            params=replace(state.params),
            ema=replace(state.ema),
            opt=replace(state.opt, reset=True),
        )
        return state, metrics

    return revived


def codebook_from_data(experiment: StageOne, step: int, state: TrainState):
    """The state with its codebook set by k-means over real encoder outputs."""
    model, how = experiment.model, experiment.kmeans
    assert how is not None  # as `open_start` has seen
    sites = grid_size(experiment)
    # Whole examples, since a quantizer over several scales needs their grids.
    examples = open_examples(experiment.data, True)
    chosen = examples.spaced(-(-how.samples // sites))
    layout = along_batch(state.step.sharding, len(chosen))
    # Those of this process; the latents of all lie side by side on the mesh, where
    # k-means takes its sums over them.
    mine = chosen[hosts.rows(len(chosen), layout)]
    variables = hosts.own({"params": state.params, **state.stats})
    chunk = chunk_size(experiment.data.shape)
    batches = once(lambda i: examples.take(mine[i]), len(mine), chunk, threads=0)
    z = np.concatenate(
        [
            np.asarray(latents_of(model, variables, batch["x"])[batch["valid"]])
            for batch in progress(
                batches, "latents for k-means", -(-len(mine) // chunk), "batch"
            )
        ]
    )
    z = hosts.place(z, layout)
    z = z.reshape(-1, z.shape[-1])
    quantizer = model.quantizer
    key = jax.random.fold_in(beside(state.key, "k-means"), step)

    def placed(params):
        own = {
            "params": params.get("quantizer", {}),
            "codebook": state.stats["codebook"]["quantizer"],
        }
        new, found = quantizer.from_data(own, key, z, how.iterations)
        if new["params"]:
            params = {**params, "quantizer": new["params"]}
        codebook = {**state.stats["codebook"], "quantizer": new["codebook"]}
        return params, codebook, found

    params, codebook, found = placed(state.params)
    ema, *_ = placed(state.ema)
    found = ", ".join(f"{name} {float(v):.3g}" for name, v in found.items())
    say(f"step {step}: codebook set by k-means over {len(z)} latents; {found}")
    ema = jax.tree.map(jnp.copy, ema)  # donated: one buffer cannot be given twice
    return state.replace(
        params=params, ema=ema, stats={**state.stats, "codebook": codebook}
    )


def grid_size(experiment: StageOne) -> int:
    return math.prod(experiment.model.grid(experiment.data.shape[:-1]))


@partial(jax.jit, static_argnums=0)
def latents_of(model, variables, x):
    return model.apply(variables, to_signal(x), method="latents")
