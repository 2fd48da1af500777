"""Relations between an experiment's values, checked before anything compiles."""

from typing import Any

from train.config.checks import check_number, check_optimizer, round_up
from train.config.experiment import Experiment, StageOne, StageTwo
from train.config.expression import Unfit, conform, fields_with_types, near
from train.config.network import absent, network
from train.config.paths import children, join
from train.config.validate_tokenizer import check_stage_one
from train.errors import BadInput


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
        _check_stage_two(experiment, tokenizers)


def _check_types(value: Any, at: str) -> None:
    """What a config file or config.json holds, against the fields' annotations."""
    for name, part in (children(value) or {}).items():
        place = join(at, name)
        if hasattr(value, "__dataclass_fields__"):
            try:
                conform(part, fields_with_types(type(value))[name])
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


def _check_stage_two(experiment: StageTwo, tokenizers: bool) -> None:
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
    if model.streams:
        raise BadInput(
            "model.streams follow from the experiment's; write streams={...} instead"
        )
    if not experiment.streams:
        raise BadInput("streams is empty; write streams={'image': Stream(...)}")
    for name, stream in experiment.streams.items():
        if not name.isidentifier() or name == "label":
            raise BadInput(
                f"streams.{name}: a stream's name is a word of letters, digits and _, "
                "and not 'label'; write another"
            )
        check_number(f"streams.{name}.weight", stream.weight, at_least=0)
        check_number(f"streams.{name}.patch", stream.patch, at_least=1)
        if isinstance(stream.tokenizer, str) and "(" in stream.tokenizer:
            raise BadInput(
                f"streams.{name}.tokenizer={stream.tokenizer}: write a folder, or a "
                "value such as Bytes(32) or Labels(10)"
            )
    if not any(stream.weight for stream in experiment.streams.values()):
        raise BadInput("streams: every weight is 0; write one above 0")
    _check_sources(experiment, tokenizers)
    values = experiment.values
    if experiment.cache is not None and (values or len(experiment.streams) > 1):
        raise BadInput(
            "cache holds one stream of a tokenizer; leave it out to encode on the fly"
        )
    # What is still to be opened is checked when it is.
    said = all(s.shape or name in values for name, s in experiment.streams.items())
    if said or not tokenizers:
        network(experiment, values)


def _check_sources(experiment: StageTwo, needed: bool) -> None:
    names = experiment.streams.keys()
    for name in experiment.sources.keys() - names:
        raise BadInput(f"data.{name}: there is no such stream; {near(name, names)}")
    for name in names - experiment.sources.keys():
        raise BadInput(f"data.{name} is absent; write data of every stream")
    for name, stream in experiment.streams.items():
        if needed and stream.tokenizer is None:
            raise absent(name)
