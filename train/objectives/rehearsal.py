"""An experiment's train step and forward pass on random data, as the loop runs them."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from train.config import Experiment, StageOne, StageTwo
from train.config.network import network
from train.objectives import start, streams
from train.objectives.reconstruction import SIGNAL
from train.runtime.flops import macs
from train.runtime.sharding import (
    DIT_RULES,
    TOKENIZER_RULES,
    batch_sharding,
    create_state,
    make_mesh,
)
from train.runtime.step import TrainState
from vqdit.diffusion import Process
from vqdit.dit import DiT


def model_of(experiment: StageTwo) -> tuple[DiT, dict[str, Process]]:
    """(model, processes) of the shapes that are written; a tokenizer is not opened."""
    return network(experiment, experiment.values)


def random_batch(experiment: Experiment, key: jax.Array) -> dict[str, Any]:
    """A training batch of the experiment's shapes."""
    rows = experiment.run.batch
    if isinstance(experiment, StageOne):
        shape = (rows, *experiment.data.shape)
        return {"streams": {SIGNAL: jax.random.uniform(key, shape, minval=-1.0)}}
    drawn = {}
    for i, stream in enumerate(model_of(experiment)[0].streams):
        stream_key, shape = jax.random.fold_in(key, i), (rows, *stream.shape)
        # Of codes both values are below any vocabulary.
        values = jax.random.bernoulli(stream_key, 0.5, shape)
        drawn[stream.name] = values.astype(stream.dtype)
    classes = max(experiment.model.classes, 1)
    return {"streams": drawn, "label": jax.random.randint(key, (rows,), 0, classes)}


def train_step(
    experiment: Experiment,
) -> tuple[jax.stages.Compiled, float, TrainState, Callable[[], Any]]:
    """(the compiled program, the seconds it took to trace and compile, its first
    state, a call that takes one step more).

    The first call donates the first state.
    """
    first = isinstance(experiment, StageOne)
    mesh = make_mesh(experiment.mesh)
    if first:
        init, step = start.build_step(experiment, start.open_start(experiment))
    else:
        init, step = streams.build_step(experiment, *model_of(experiment))
    state = create_state(init, TOKENIZER_RULES if first else DIT_RULES, mesh)
    batch = random_batch(experiment, jax.random.key(0))
    batch = jax.device_put(batch, batch_sharding(mesh))
    layout = jax.tree.map(lambda x: x.sharding, state)
    program = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
    began = time.perf_counter()
    program = program.lower(state, batch).compile()
    seconds = time.perf_counter() - began
    held = {"state": state}

    def one_step():
        held["state"], metrics = program(held["state"], batch)
        return metrics

    return program, seconds, state, one_step


def forward_pass(experiment: Experiment) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """(a pass of the network, its arguments after the variables)."""
    if isinstance(experiment, StageOne):
        x = jnp.zeros((experiment.run.batch, *experiment.data.shape))
        return (lambda variables, x: experiment.model.apply(variables, x)[0]), (x,)
    model, _ = model_of(experiment)
    return model.apply, streams.example(model, experiment.run.batch)


def forward_macs(experiment: Experiment) -> int:
    """Multiply-accumulates of a forward pass, whatever computes the attention."""
    model = experiment.model
    if not isinstance(experiment, StageOne):
        # A kernel of its own, such as cuDNN's, is no product that could be counted.
        model = model.clone(block=model.block.clone(implementation="plain"))
        experiment = dataclasses.replace(experiment, model=model)
    apply, arguments = forward_pass(experiment)
    model = model if isinstance(experiment, StageOne) else model_of(experiment)[0]
    variables = jax.eval_shape(model.init, jax.random.key(0), *arguments)
    return macs(apply, variables, *arguments)


def dtype_of(experiment: Experiment) -> str:
    model = experiment.model
    return getattr(model, "dtype", None) or model.encoder.dtype
