"""A trained tokenizer as it is used: averaged weights and its latent contract."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from train.config import StageOne
from train.objectives.codebook import all_of, latents_of
from train.pipeline import open_examples
from train.runtime import hosts
from train.runtime.step import TrainState
from vqdit.trained.codec import Codec
from vqdit.trained.contract import contract_of


def finished(experiment: StageOne, state: TrainState) -> Codec:
    """The tokenizer as it is used: averaged weights, and the latents' statistics."""
    model, data = experiment.model, experiment.data
    stats = {n: v for n, v in state.stats.items() if n == "codebook"}
    variables = hosts.gather({"params": state.ema, **stats})
    examples = open_examples(data, train=True)
    sums = np.zeros((3, model.latent_dim))  # of 1, z and its square
    for batch in all_of(examples, data, "measuring latents"):
        z = latents_of(model, variables, batch["x"])[batch["valid"]]
        z = np.asarray(z, np.float64).reshape(-1, z.shape[-1])
        sums += np.stack([np.full(z.shape[1], len(z)), z.sum(0), np.square(z).sum(0)])
    sites, total, squares = hosts.total(sums)
    mean = total / sites
    std = np.sqrt(np.maximum(squares / sites - np.square(mean), 1e-12))
    grid = model.grid(data.shape[:-1])
    signal = {
        "kind": data.kind,
        "shape": data.shape,
        "rate": data.rate,
        "offset": examples.offset,
        "scale": examples.scale,
        "code_grid": _code_grid(model, variables, data.shape),
        "preparation": data.preparation,
    }
    contract = contract_of(model, signal, grid, mean, std, variables)
    return Codec(model, variables, contract)


def told(experiment: StageOne, state: TrainState) -> str:
    """What a run of stage one says of its tokenizer and data as it begins."""
    model, data = experiment.model, experiment.data
    grid, counts = (
        model.grid(data.shape[:-1]),
        getattr(model.quantizer, "code_counts", ()),
    )
    latents = f"{math.prod(grid):,} latents of {model.latent_dim} an example"
    if counts:
        shown = _code_grid(model, {"params": state.params, **state.stats}, data.shape)
        bits = math.prod(shown or grid) * sum(math.log2(k) for k in counts)
        latents += f", {bits:,.0f} bits"
    return f"{latents}; {len(open_examples(data, True)):,} examples"


def _code_grid(model, variables, shape) -> tuple[int, ...]:
    """() where a code belongs to a latent, else the grid of a quantizer's own."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    run = partial(model.apply, method=lambda m, x: m.quantize(m.encode(x)).codes)
    codes = jax.eval_shape(run, variables, x)
    return () if codes is None else codes.shape[1:-1]
