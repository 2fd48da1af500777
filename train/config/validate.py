"""Relations between an experiment's values, checked before anything compiles."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from train.config.checks import blame, check_number, check_optimizer, round_up
from train.config.experiment import Experiment, StageOne, StageTwo
from train.config.expression import Unfit, fields_with_types, fit, near
from train.config.paths import children, join
from train.config.validate_tokenizer import check_stage_one
from train.errors import BadInput
from vqdit.dit import DiT
from vqdit.nn.streams import Stream


def validate(experiment: Experiment, devices: int, tokenizers: bool = True) -> None:
    """Raises BadInput, naming a field and what to write, for what cannot be run.

    Types first, then ranges, then relations between fields and with the number of
    devices, last what the model itself refuses at these shapes. Computes no array.

    tokenizers: False for programs that read no data, so that none have to be named.
    """
    _check_types(experiment, "")
    _check_ranges(experiment)
    _check_devices(experiment, experiment.mesh.sizes(devices))
    if isinstance(experiment, StageOne):
        check_stage_one(experiment)
    if isinstance(experiment, StageTwo):
        _check_stage_two(experiment)
        _check_sources(experiment, tokenizers)


def _check_types(value: Any, at: str) -> None:
    """What a config file or config.json holds, against the fields' annotations."""
    for name, part in (children(value) or {}).items():
        place = join(at, name)
        if hasattr(value, "__dataclass_fields__"):
            try:
                fit(part, fields_with_types(type(value))[name])
            except Unfit as error:
                raise BadInput(f"{place}: {error}") from error
        _check_types(part, place)


def _check_ranges(experiment: Experiment) -> None:
    run, optimizer = experiment.run, experiment.optimizer
    for name in ("steps", "batch", "log_every", "save_every", "keep"):
        check_number(f"run.{name}", getattr(run, name), at_least=1)
    check_number("run.sample_every", run.sample_every, at_least=0)
    check_number("optimizer.accumulate", optimizer.accumulate, at_least=1)
    check_number("optimizer.ema", optimizer.ema, at_least=0, below=1)
    check_optimizer("optimizer", optimizer, run.steps, f"run.steps={run.steps}")


def _check_devices(experiment: Experiment, sizes: tuple[int, int, int]) -> None:
    data, fsdp, _ = sizes
    parts = experiment.optimizer.accumulate
    batch, unit = experiment.run.batch, data * fsdp * parts
    if batch % unit:
        way = f"{data * fsdp} devices (mesh.data {data} x mesh.fsdp {fsdp})"
        if parts > 1:
            way += f" in {parts} microbatches (optimizer.accumulate)"
        raise BadInput(
            f"run.batch={batch} does not divide over {way}; "
            f"write a multiple of {unit} such as run.batch={round_up(batch, unit)}"
        )
    if isinstance(experiment, StageTwo):
        model = experiment.model
        for axis, size, name, value in (
            ("fsdp", fsdp, "width", model.width),
            ("tensor", sizes[2], "block.heads", model.block.heads),
        ):
            if value % size:
                raise BadInput(
                    f"mesh.{axis}={size} does not divide model.{name}={value}; "
                    f"write a mesh.{axis} that does"
                )


def _check_stage_two(experiment: StageTwo) -> None:
    model = experiment.model
    for name in ("width", "depth"):
        check_number(f"model.{name}", getattr(model, name), at_least=1)
    check_number("model.classes", model.classes, at_least=0)
    check_number("label_dropout", experiment.label_dropout, at_least=0, at_most=1)
    heads = model.block.heads
    if model.width % heads:
        near_by = [n for n in range(1, model.width + 1) if model.width % n == 0]
        best = min(near_by, key=lambda n: abs(n - heads))
        raise BadInput(
            f"model.block.heads={heads} does not divide model.width={model.width}; "
            f"write model.block.heads={best}"
        )
    names = [stream.name for stream in model.streams]
    if not names or len(set(names)) < len(names):
        raise BadInput(
            f"model.streams has the names {names}; write at least one stream, each "
            "with a name of its own"
        )
    for stream in model.streams:
        _check_stream(experiment, stream)
    _known("processes", experiment.processes, names)
    _known("times", experiment.times, names)
    with blame("model"):
        _eval_dit(model)


def _check_stream(experiment: StageTwo, stream: Stream) -> None:
    """The process and the times of one stream are there, and of its kind."""
    name, at = stream.name, f"processes.{stream.name}"
    wanted = {"latents": "Gaussian()", "codes": "Masking()"}[stream.kind]
    if name not in experiment.processes:
        raise BadInput(f"{at} is absent; write {at}={wanted}")
    if name not in experiment.times:
        raise BadInput(f"times.{name} is absent; write times.{name}=Uniform()")
    process = experiment.processes[name]
    try:
        process.fit(stream)
    except ValueError as error:
        advice = "" if process.kind == stream.kind else f"; write {at}={wanted}"
        raise BadInput(f"{at}: {error}{advice}") from error


def _check_sources(experiment: StageTwo, needed: bool) -> None:
    names = [stream.name for stream in experiment.model.streams]
    _known("tokenizers", experiment.tokenizers, names)
    absent = [name for name in names if name not in experiment.tokenizers]
    if needed and absent:
        raise BadInput(
            f"tokenizers.{absent[0]} is absent; write "
            f"--config.tokenizers.{absent[0]}=DIR, the workdir or bundle of a tokenizer"
        )


def _known(at: str, entries: Iterable[str], streams: list[str]) -> None:
    for name in entries:
        if name not in streams:
            raise BadInput(
                f"{at}.{name}: the model has no such stream; {near(name, streams)}"
            )


def _eval_dit(model: DiT) -> None:
    streams = {
        stream.name: jax.ShapeDtypeStruct((1, *stream.shape), jnp.dtype(stream.dtype))
        for stream in model.streams
    }
    ends = (1, 2) if model.intervals else (1,)
    times = {name: jax.ShapeDtypeStruct(ends, jnp.float32) for name in streams}
    # One block stands for all: they are alike, and tracing 28 takes seconds.
    shallow = model.clone(depth=1)
    jax.eval_shape(lambda *x: shallow.init(jax.random.key(0), *x), streams, times)
