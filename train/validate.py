"""Relations between an experiment's values, checked before anything compiles."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from train.config import AdamW, Experiment, Mesh, StageOne, StageTwo
from train.data import Images
from train.errors import BadInput
from train.expression import Unfit, fields_with_types, fit, near
from train.paths import children, join
from train.perceptual import networks
from vqdit.diffusion import Gaussian, Masking
from vqdit.dit import Continuous, DiT, Stream
from vqdit.tokenizer.discriminators import Verdict


def validate(experiment: Experiment, devices: int, tokenizers: bool = True) -> None:
    """Raises BadInput, naming a field and what to write, for what cannot be run.

    Types first, then ranges, then relations between fields and with the number of
    devices, last what the model itself refuses at these shapes. Computes no array.

    tokenizers: False for programs that read no data, so that none have to be named.
    """
    _check_types(experiment, "")
    _check_ranges(experiment)
    _check_devices(experiment, mesh_sizes(experiment.mesh, devices))
    if isinstance(experiment, StageOne):
        _check_stage_one(experiment)
    if isinstance(experiment, StageTwo):
        _check_stage_two(experiment)
        _check_sources(experiment, tokenizers)


def mesh_sizes(mesh: Mesh, devices: int) -> tuple[int, int, int]:
    """(data, fsdp, tensor) with a -1 filled in. Raises BadInput if it cannot be."""
    sizes = {"data": mesh.data, "fsdp": mesh.fsdp, "tensor": mesh.tensor}
    for name, size in sizes.items():
        if size < 1 and size != -1:
            raise BadInput(f"mesh.{name}={size}: write 1 or more, or -1 for the rest")
    rest = [name for name, size in sizes.items() if size == -1]
    if len(rest) > 1:
        raise BadInput(
            f"mesh.{rest[1]}=-1: only one axis can be the rest; write a size"
        )
    known = math.prod(size for size in sizes.values() if size != -1)
    if devices % known or (not rest and known != devices):
        spelled = " x ".join(f"{name} {size}" for name, size in sizes.items())
        advice = (
            "write mesh.data=-1 for what is left"
            if devices % (known // abs(mesh.data)) == 0
            else f"write sizes that divide {devices}"
        )
        raise BadInput(f"mesh: {spelled} does not make {devices} devices; {advice}")
    return tuple(devices // known if n == -1 else n for n in sizes.values())


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
        _check(f"run.{name}", getattr(run, name), at_least=1)
    _check("run.sample_every", run.sample_every, at_least=0)
    _check("optimizer.accumulate", optimizer.accumulate, at_least=1)
    _check("optimizer.ema", optimizer.ema, at_least=0, below=1)
    _check_optimizer("optimizer", optimizer, run.steps, f"run.steps={run.steps}")


def _check_optimizer(at: str, optimizer: AdamW, steps: int, length: str) -> None:
    """length: how `steps`, the updates it makes, came about."""
    _check(f"{at}.warmup", optimizer.warmup, at_least=0)
    _check(f"{at}.weight_decay", optimizer.weight_decay, at_least=0)
    _check(f"{at}.peak_lr", optimizer.peak_lr, above=0)
    for name in ("b1", "b2"):
        _check(f"{at}.{name}", getattr(optimizer, name), at_least=0, below=1)
    if optimizer.clip is not None:
        _check(f"{at}.clip", optimizer.clip, above=0)
    if optimizer.schedule == "cosine" and optimizer.warmup >= steps:
        raise BadInput(
            f"{at}.warmup={optimizer.warmup} leaves nothing of {length}; write a "
            f"warm-up below {steps}"
        )


def _check(
    at: str,
    value: float,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> None:
    if value >= at_least and above < value < below and value <= at_most:
        return
    bounds = [
        f"{word} {bound}"
        for word, bound in (
            ("at least", at_least),
            ("above", above),
            ("below", below),
            ("at most", at_most),
        )
        if math.isfinite(bound)
    ]
    wanted = " and ".join(bounds) or "a finite number"
    raise BadInput(f"{at}={value}: write {wanted}")


def _up(value: int, unit: int) -> int:
    """The next multiple."""
    return -(-value // unit) * unit


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
            f"write a multiple of {unit} such as run.batch={_up(batch, unit)}"
        )
    if isinstance(experiment, StageTwo):
        model = experiment.model
        for axis, size, name, value in (
            ("fsdp", fsdp, "width", model.width),
            ("tensor", sizes[2], "heads", model.heads),
        ):
            if value % size:
                raise BadInput(
                    f"mesh.{axis}={size} does not divide model.{name}={value}; "
                    f"write a mesh.{axis} that does"
                )


def _check_stage_one(experiment: StageOne) -> None:
    model, data = experiment.model, experiment.data
    if model.front is not None and data.masked:
        raise BadInput(
            f"model.front={type(model.front).__name__}(...): what was not observed of "
            f"{data.kind} is marked in the signal and not behind a front end; write "
            f"model.front=None"
        )
    if isinstance(data, Images) and isinstance(model.factor, int):
        if data.size % model.factor:
            raise BadInput(
                f"data.size={data.size} is no multiple of the tokenizer's factor "
                f"{model.factor}; write data.size={_up(data.size, model.factor)} or "
                "fewer multipliers in model.encoder and model.decoder"
            )
    with _blame(f"data, {data.kind} of {data.shape}"):
        model.grid(data.shape[:-1])
    _check_kmeans(experiment)
    x = _data(experiment)

    def run(model, x):
        return model.features(x), model(x)[0]

    with _blame("model"):
        features, out = jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x, method=run)[0], x
        )
    if out.shape[-1] != features.shape[-1] and hasattr(model.decoder, "out"):
        raise BadInput(
            f"model.decoder.out={model.decoder.out} and the data's "
            f"{features.shape[-1]} channels differ; write "
            f"model.decoder.out={features.shape[-1]}"
        )
    if out.shape != features.shape:
        raise BadInput(
            f"model decodes {features.shape[1:]} to {out.shape[1:]}; write an encoder "
            "and a decoder that fit each other"
        )
    _check_losses(experiment, features.shape)
    if experiment.adversarial is not None:
        _check_adversarial(experiment, out.shape)


def _check_losses(experiment: StageOne, shape: tuple[int, ...]) -> None:
    """shape: of what is compared, (1, *features)."""
    weights, data = experiment.losses, experiment.data
    for field in dataclasses.fields(weights):
        value = getattr(weights, field.name)
        if isinstance(value, float | int):
            _check(f"losses.{field.name}", value, at_least=0, below=math.inf)
    for name in ("stft", "mel"):
        if getattr(weights, name) and (
            data.kind != "audio" or experiment.model.front is not None
        ):
            raise BadInput(
                f"losses.{name}={getattr(weights, name)} is for waveforms: data of "
                f"kind audio, and a model without a front end; write losses.{name}=0"
            )
    if not weights.windows or any(n < 8 or n % 8 for n in weights.windows):
        raise BadInput(
            f"losses.windows={weights.windows}: write multiples of 8 such as (64, 256)"
        )
    variables, distances = networks(weights, experiment.model.front)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, distance in distances.items():
        with _blame(f"losses.{name}={getattr(weights, name)}"):
            jax.eval_shape(distance, variables[name], x, x)


def _check_adversarial(experiment: StageOne, shape: tuple[int, ...]) -> None:
    """shape: of what the discriminator judges, (1, *features)."""
    how, steps = experiment.adversarial, experiment.run.steps
    _check("adversarial.start", how.start, at_least=0, below=steps)
    for name in ("ramp", "weight", "features", "lecam"):
        at = f"adversarial.{name}"
        _check(at, getattr(how, name), at_least=0, below=math.inf)
    length = f"run.steps={steps} after adversarial.start={how.start}"
    _check_optimizer("adversarial.optimizer", how.optimizer, steps - how.start, length)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    with _blame("adversarial.discriminator"):
        verdicts, variables = jax.eval_shape(
            lambda x: how.discriminator.init_with_output(jax.random.key(0), x), x
        )
    if (
        set(variables) != {"params"}
        or not isinstance(verdicts, tuple)
        or not all(isinstance(verdict, Verdict) for verdict in verdicts)
    ):
        raise BadInput(
            f"adversarial.discriminator={type(how.discriminator).__name__}(...) is no "
            f"discriminator; write for example PatchDiscriminator()"
        )
    if how.adaptive:
        params = jax.eval_shape(
            experiment.model.init, jax.random.key(0), _data(experiment)
        )
        paths = flax.traverse_util.flatten_dict(params["params"], sep="/")
        if how.last not in paths:
            known = [path for path in paths if path.startswith("decoder/")]
            raise BadInput(
                f"adversarial.last={how.last}: the model has no such parameter; "
                f"{near(how.last, known)}"
            )


def _data(experiment: StageOne) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *experiment.data.shape), jnp.float32)


def _check_kmeans(experiment: StageOne) -> None:
    quantizer, kmeans = experiment.model.quantizer, experiment.kmeans
    if getattr(quantizer, "start", None) != "kmeans":
        return  # nothing waits for it, so that changing the quantizer is one change
    if kmeans is None:
        raise BadInput(
            "model.quantizer.start=kmeans waits for a k-means that kmeans=None never "
            "makes; write kmeans=KMeansInit(), or model.quantizer.start=normal"
        )
    _check("kmeans.step", kmeans.step, at_least=1, below=experiment.run.steps)
    _check("kmeans.samples", kmeans.samples, at_least=max(quantizer.code_counts))
    _check("kmeans.iterations", kmeans.iterations, at_least=1)


def _check_stage_two(experiment: StageTwo) -> None:
    model = experiment.model
    for name in ("width", "depth", "heads", "mlp_ratio"):
        _check(f"model.{name}", getattr(model, name), at_least=1)
    _check("model.classes", model.classes, at_least=0)
    _check("label_dropout", experiment.label_dropout, at_least=0, at_most=1)
    if model.width % model.heads:
        near_by = [n for n in range(1, model.width + 1) if model.width % n == 0]
        best = min(near_by, key=lambda n: abs(n - model.heads))
        raise BadInput(
            f"model.heads={model.heads} does not divide model.width={model.width}; "
            f"write model.heads={best}"
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
    with _blame("model"):
        _eval_dit(model)


def _check_stream(experiment: StageTwo, stream: Stream) -> None:
    """The process and the times of one stream are there, and of its kind."""
    name, at = stream.name, f"processes.{stream.name}"
    continuous = isinstance(stream, Continuous)
    wanted = "Gaussian()" if continuous else f"Masking(vocab={stream.vocab})"
    if name not in experiment.processes:
        raise BadInput(f"{at} is absent; write {at}={wanted}")
    if name not in experiment.times:
        raise BadInput(f"times.{name} is absent; write times.{name}=Uniform()")
    process = experiment.processes[name]
    if isinstance(process, Masking if continuous else Gaussian):
        kind = "continuous" if continuous else "discrete"
        raise BadInput(
            f"{at} is {type(process).__name__}, but the stream is {kind}; "
            f"write {at}={wanted}"
        )
    for field, kind in (("vocab", Masking), ("outputs", Gaussian)):
        have = getattr(stream, field, None)
        if isinstance(process, kind) and getattr(process, field) != have:
            raise BadInput(
                f"model.streams.{name}.{field}={have}, but {at} has "
                f"{getattr(process, field)}; write "
                f"model.streams.{name}.{field}={getattr(process, field)}"
            )


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
        stream.name: jax.ShapeDtypeStruct(
            (1, *stream.shape),
            jnp.float32 if isinstance(stream, Continuous) else jnp.int32,
        )
        for stream in model.streams
    }
    times = {name: jax.ShapeDtypeStruct((1,), jnp.float32) for name in streams}
    # One block stands for all: they are alike, and tracing 28 takes seconds.
    shallow = model.clone(depth=1)
    jax.eval_shape(lambda *x: shallow.init(jax.random.key(0), *x), streams, times)


@contextlib.contextmanager
def _blame(at: str) -> Iterator[None]:
    """What a module refuses becomes a BadInput that names the field."""
    try:
        yield
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{at}: {error}") from error
