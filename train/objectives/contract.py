"""A trained tokenizer as it is used: averaged weights and its latent contract."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.config import StageOne
from train.config.options.paths import children
from train.objectives.codebook import all_of, latents_of
from train.pipeline import open_examples
from train.runtime import hosts
from train.runtime.step import TrainState
from vqdit.quantizers.bits import Bits
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract, contract_of

SOME = 1024  # examples whose latents give statistics until training is over


def averaged(state: TrainState) -> dict[str, Any]:
    """The variables that are used: averaged weights, and codes."""
    stats = {n: v for n, v in state.stats.items() if n == "codebook"}
    return {"params": state.ema, **stats}


def finished(
    experiment: StageOne, variables: dict[str, Any], most: int | None = None
) -> Codec:
    """The tokenizer as it is used, with the statistics of its latents over the training
    set, or so many examples of it."""
    model = experiment.model
    variables = jax.device_put(hosts.gather(variables))  # once, not for each batch
    sums = np.zeros((3, model.latent_dim))  # of 1, z and its square
    examples = open_examples(experiment.data, True)
    with hosts.together():
        for batch in all_of(examples, "measuring latents", most):
            z = latents_of(model, variables, batch["x"])[batch["valid"]]
            z = np.asarray(z, np.float64).reshape(-1, z.shape[-1])
            ones = np.full(z.shape[1], len(z))
            sums += np.stack([ones, z.sum(0), np.square(z).sum(0)])
    sites, total, squares = hosts.total(sums)
    mean = total / sites
    std = np.sqrt(np.maximum(squares / sites - np.square(mean), 1e-12))
    contract = _contract(experiment, variables, mean, std, variables)
    return Codec(model, variables, contract)


def unfinished(experiment: StageOne, variables: dict[str, Any]) -> Codec:
    """One to encode and decode with while training goes on, whatever the weights, in
    the same programs: nothing is known of its latents."""
    model = experiment.model
    moments = np.zeros(model.latent_dim), np.ones(model.latent_dim)
    contract = _contract(experiment, variables, *moments, {})
    return Codec(model, hosts.own(variables), contract)


def _contract(experiment, variables, mean, std, marked) -> LatentContract:
    """marked: the arrays that the fingerprint is of."""
    model, data = experiment.model, experiment.data
    examples = open_examples(data, True)
    signal = {
        "kind": data.kind,
        "shape": data.shape,
        "rate": data.rate,
        "offset": examples.offset,
        "scale": examples.scale,
        "code_grid": _code_grid(model, variables, data.shape),
        "preparation": data.preparation,
        "names": examples.names,
    }
    grid = model.grid(data.shape[:-1])
    return contract_of(model, signal, grid, mean, std, marked)


def summary(experiment: StageOne, state: TrainState) -> str:
    """What a run of stage one says of its tokenizer and data as it begins."""
    model, data = experiment.model, experiment.data
    grid = model.grid(data.shape[:-1])
    counts = getattr(model.quantizer, "code_counts", ())
    latents = f"{math.prod(grid):,} latents of {model.latent_dim} an example"
    if counts:
        shown = _code_grid(model, {"params": state.params, **state.stats}, data.shape)
        bits = math.prod(shown or grid) * sum(math.log2(k) for k in counts)
        latents += f", {bits:,.0f} bits"
        groups = {b.group for b in _bits_of(model.quantizer) if b.grouped}
        if groups:
            sizes = ", ".join(map(str, sorted(groups)))
            latents += f", whose entropy is that of groups of {sizes} bits"
    return f"{latents}; {len(open_examples(data, True)):,} examples"


def _bits_of(value) -> Iterator[Bits]:
    """The quantizers by signs in a quantizer."""
    if isinstance(value, Bits):
        yield value
    for part in (children(value) or {}).values():
        yield from _bits_of(part)


def _code_grid(model, variables, shape) -> tuple[int, ...]:
    """() where a code belongs to a latent, else the grid of a quantizer's own."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    run = partial(model.apply, method=lambda m, x: m.quantize(m.encode(x)).codes)
    codes = jax.eval_shape(run, variables, x)
    return () if codes is None else codes.shape[1:-1]
