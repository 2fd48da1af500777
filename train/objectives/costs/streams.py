"""What a model of several streams costs, beside models of some of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from train.config import StageTwo
from train.errors import BadInput
from train.objectives.costs.rehearsal import Rehearsal
from train.runtime.timing import medians, peak_bytes
from vqdit.diffusion import Mixture
from vqdit.trained import Generator


def stream_costs(experiment: StageTwo, repeats: int = 10, steps: int = 16) -> dict:
    """The figures, by name: train steps of the model, of the same where nothing is
    given, absent or masked, and of one of each stream alone; draws of each stream from
    the one before it, in so many steps, by the model and by one of these two. All are
    timed in turn; "cpu_ms" is the process's own time, which other work on the machine
    does not stretch as it does "ms".

    Raises BadInput for a model of one stream.
    """
    names = tuple(experiment.streams)
    if len(names) < 2:
        raise BadInput("--streams compares several streams, and the model has one")
    plain = of_streams(experiment, names)
    rehearsals = {"all": Rehearsal(experiment), "all, no mask": Rehearsal(plain)}
    for name in names:
        rehearsals[f"{name} alone"] = Rehearsal(of_streams(experiment, (name,)))
    steppers, bytes_of = {}, {}
    for name, rehearsal in rehearsals.items():
        program, _, _, steppers[name] = rehearsal.train_step()
        bytes_of[name] = peak_bytes(program)
    train = medians(steppers, repeats)
    for name, row in train.items():
        row["bytes"] = bytes_of[name]
    alone = [train[f"{name} alone"] for name in names]
    train["sum alone"] = {key: sum(row[key] for row in alone) for key in alone[0]}

    draws = {}
    whole = _generator(rehearsals["all"])
    for given, want in zip(names[-1:] + names[:-1], names, strict=True):
        pair = tuple(name for name in names if name in (given, want))
        two = _generator(Rehearsal(of_streams(experiment, pair)))
        for of, generator in (("all", whole), ("two", two)):
            label = f"{want} from {given}, of {of}"
            draws[label] = _draw(generator, given, want, experiment.run.batch, steps)
    return {"train_step": train, "draw": medians(draws, repeats), "draw_steps": steps}


def of_streams(experiment: StageTwo, names: Sequence[str]) -> StageTwo:
    """The experiment with these streams alone, each noised at its own time."""
    return dataclasses.replace(
        experiment,
        data={name: experiment.sources[name] for name in names},
        streams={name: experiment.streams[name] for name in names},
        mixture=Mixture(),
    )


def _generator(rehearsal: Rehearsal) -> Generator:
    model = rehearsal.model
    params = jax.jit(model.init)(jax.random.key(0), *rehearsal.arguments)["params"]
    names = [stream.name for stream in model.streams]
    return Generator(model, params, rehearsal.processes, {}, left_out=names)


def _draw(
    generator: Generator, given: str, want: str, batch: int, steps: int
) -> Callable[[], Any]:
    draw = generator.sampler(steps=steps, want=want, decode=False)
    stream = generator.streams[given]
    x = jnp.zeros((batch, *stream.shape), stream.dtype)
    key, ids = jax.random.key(0), jnp.arange(batch)
    return lambda: draw(key, ids, given={given: x})
