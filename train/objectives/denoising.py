"""What stage two minimises, and its train step."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from train.config import StageTwo
from train.objectives.transfer import Transfer
from train.runtime.keys import key_of
from train.runtime.optim import learning_rate, make
from train.runtime.step import TrainState, init_state, make_step
from vqdit.diffusion import Process
from vqdit.diffusion.objectives import Denoising, first_loss
from vqdit.diffusion.process import named
from vqdit.dit import DiT
from vqdit.trained.streams import call_of


def build_step(
    experiment: StageTwo,
    model: DiT,
    processes: Mapping[str, Process],
    transfer: Transfer | None = None,
    codewords: Mapping[str, np.ndarray] | None = None,
):
    """(init, step): the state's maker and the train step, for loop and bench.

    codewords: of `Streams`.
    """
    optimizer = experiment.optimizer
    tx = make(optimizer, experiment.run.steps)

    def init() -> TrainState:
        params_key, state_key = jax.random.split(key_of(experiment.run.seed))
        variables = dict(model.init(params_key, *example(model, 1)))
        for name, words in (codewords or {}).items():
            params, key = variables["params"], named(params_key, f"codewords {name}")
            table = _projected(words, params[f"{name}_in"]["table"], key)
            variables["params"] = {**params, f"{name}_in": {"table": table}}
        if transfer is not None:
            variables = transfer.into(variables)
        return init_state(state_key, variables, tx)

    objective = dataclasses.replace(
        objective_of(experiment, model, processes), parts=optimizer.accumulate
    )
    rate = learning_rate(optimizer, experiment.run.steps)
    return init, make_step(objective, tx, optimizer.ema, rate)


def _projected(words: np.ndarray, table: jax.Array, key: jax.Array) -> jax.Array:
    """An embedding of codes with random projections of codewords (m, k, d) in place of
    its rows, but for the mask's, that are spread as these are."""
    books, count, channels = words.shape
    spread = np.sqrt(np.square(words).mean((1, 2)).sum())
    rows = table.reshape(books, -1, table.shape[-1])
    to = jax.random.normal(key, (channels, table.shape[-1])) * channels**-0.5
    started = (words / max(spread, 1e-12)) @ to * books**0.5 * table.std()
    return rows.at[:, :count].set(started).reshape(table.shape)


def objective_of(
    experiment: StageTwo, model: DiT, processes: Mapping[str, Process]
) -> Denoising:
    """What its training minimises."""
    streams = experiment.streams.items()
    times = {name: stream.times for name, stream in streams}
    weights = {name: stream.weight for name, stream in streams}
    if experiment.balance:
        for stream in model.streams:
            name = stream.name
            weights[name] /= first_loss(processes[name], times[name], stream)
    return Denoising(
        model,
        processes,
        times,
        experiment.label_dropout,
        weights=weights,
        mixture=experiment.mixture,
    )


def example(model: DiT, batch: int):
    """Arguments of the model's call: zeros of its shapes."""
    label = jnp.zeros(batch, jnp.int32) if model.classes else None
    zeros = lambda of: {name: jnp.zeros(x.shape, x.dtype) for name, x in of.items()}
    return *map(zeros, call_of(model, batch)), label
