"""Relations between an experiment's values, checked before anything compiles."""

import functools
import math
from typing import Annotated

import flax.traverse_util
import jax
import jax.numpy as jnp

from train.config.bars import sides
from train.config.evaluations import Reconstructions, Samples
from train.config.experiment import Adversarial, Experiment, Run, StageOne, StageTwo
from train.config.network import absent, check_count, network
from train.config.optimizers import AdamW
from train.config.options.paths import spell
from train.config.options.walk import walk
from train.config.weights import USUAL
from train.errors import BadInput, blame
from train.modalities import Modality
from train.modalities.files.limits import LARGEST
from vqdit.diffusion import solver_for
from vqdit.fields import Bound
from vqdit.losses.discriminators import Verdict
from vqdit.tokenizer import Tokenizer
from vqdit.values import describe, near

LARGEST_BATCH = 2**42  # bytes of all devices' examples of a step


def validate(experiment: Experiment, devices: int, tokenizers: bool = True) -> None:
    """Raises BadInput, naming a field and what to write, for what cannot be run.

    Types and ranges first, then relations between fields and with the number of
    devices, last what the model itself refuses at these shapes. Computes no array.

    tokenizers: False for programs that read no data, so that none have to be named.
    """
    walk(experiment, type(experiment))
    with blame(experiment.name):
        describe(experiment)  # which config.json will hold
    run = experiment.run
    _check_sizes(experiment)
    _check_evaluation(run, isinstance(experiment, StageOne))
    _check_warmup(
        "optimizer", experiment.optimizer, run.steps, f"run.steps={run.steps}"
    )
    _check_devices(experiment, experiment.mesh.sizes(devices))
    if isinstance(experiment, StageOne):
        _check_stage_one(experiment)
    if isinstance(experiment, StageTwo):
        _check_stage_two(experiment, tokenizers)


def _check_sizes(experiment: Experiment) -> None:
    """A mistyped number would take all memory, and then end the process."""
    held = experiment.data
    for name, data in ({"": held} if isinstance(held, Modality) else held).items():
        at, size = f"data.{name}".rstrip("."), 4 * math.prod(data.shape)
        if size > LARGEST:
            raise BadInput(
                f"{at}: an example of {data.shape} takes {size / 1e9:.3g} GB; write a "
                "smaller one"
            )
        if experiment.run.batch * size > LARGEST_BATCH:
            raise BadInput(
                f"run.batch={experiment.run.batch}: as many examples of {at}, "
                f"{data.shape}, take {experiment.run.batch * size / 1e9:.3g} GB; write "
                "fewer"
            )


def _check_evaluation(run: Run, first: bool) -> None:
    """What the figures are is known once the run has opened what it is of."""
    figure = f"run.best={run.best!r}"
    of = run.best.removeprefix("-").partition("_")[0]
    if run.best and of not in ("heldout", "evaluation"):
        raise BadInput(
            f"{figure}: write a figure of held-out data, heldout_loss, or "
            "-heldout_psnr for the largest, or one of run.evaluate, -evaluation_psnr_db"
        )
    if of == "heldout" and not run.heldout_every:
        raise BadInput(f"{figure}: write run.heldout_every=STEPS too")
    fits = Reconstructions if first else Samples
    if of == "evaluation" and run.evaluate is None:
        raise BadInput(f"{figure}: write run.evaluate='{fits.__name__}(STEPS)' too")
    if not isinstance(run.evaluate, fits | None):
        raise BadInput(
            f"run.evaluate={type(run.evaluate).__name__}(...) is of the other stage; "
            f"write {fits.__name__}({run.evaluate.every})"
        )


def _check_warmup(at: str, optimizer: AdamW, steps: int, length: str) -> None:
    """length: how `steps`, the updates it makes, came about."""
    if optimizer.cooldown and optimizer.warmup + optimizer.cooldown > steps:
        raise BadInput(
            f"{at}: warmup={optimizer.warmup} and cooldown={optimizer.cooldown} are "
            f"more than {length}; write fewer"
        )
    if optimizer.schedule == "cosine" and optimizer.warmup >= steps:
        raise BadInput(
            f"{at}.warmup={optimizer.warmup} leaves nothing of {length}; write a "
            f"warm-up below {steps}"
        )


def _check_devices(experiment: Experiment, sizes: tuple[int, int, int]) -> None:
    data, fsdp, tensor = sizes
    parts = experiment.optimizer.accumulate
    batch, unit = experiment.run.batch, data * fsdp * parts
    if batch % unit:
        way = f"{data * fsdp} devices (mesh.data {data} x mesh.fsdp {fsdp})"
        if parts > 1:
            way += f" in {parts} microbatches (optimizer.accumulate)"
        raise BadInput(
            f"run.batch={batch} does not divide over {way}; "
            f"write a multiple of {unit} such as run.batch={-(-batch // unit) * unit}"
        )
    if isinstance(experiment, StageTwo):
        model = experiment.model
        for axis, size, name, value in (
            ("fsdp", fsdp, "width", model.width),
            ("tensor", tensor, "block.heads", model.block.heads),
        ):
            if value % size:
                raise BadInput(
                    f"mesh.{axis}={size} does not divide model.{name}={value}; "
                    f"write a mesh.{axis} that does"
                )


def _check_stage_two(experiment: StageTwo, tokenizers: bool) -> None:
    for bar in experiment.bars:
        sides(bar)
    model = experiment.model
    heads = model.block.heads
    if model.width % heads:
        low = [n for n in range(1, math.isqrt(model.width) + 1) if not model.width % n]
        near_by = sorted({*low, *(model.width // n for n in low)})
        best = min(near_by, key=lambda n: abs(n - heads))
        raise BadInput(
            f"model.block.heads={heads} does not divide model.width={model.width}; "
            f"write model.block.heads={best}"
        )
    if model.intervals:
        raise BadInput(
            "model.intervals=True takes two times a stream, and training draws one; "
            "write model.intervals=False"
        )
    if model.streams:
        raise BadInput(
            "model.streams follow from the experiment's; write streams={...} instead"
        )
    if not experiment.streams:
        raise BadInput("streams is empty; write streams={'image': Stream(...)}")
    names = experiment.streams.keys()
    for name in names:
        if not name.isidentifier() or name == "label":
            raise BadInput(
                f"streams.{name}: a stream's name is a word of letters, digits and _, "
                "and not 'label'; write another"
            )
    if not any(stream.weight for stream in experiment.streams.values()):
        raise BadInput("streams: every weight is 0; write one above 0")
    for name in experiment.sources.keys() - names:
        raise BadInput(f"data.{name}: there is no such stream; {near(name, names)}")
    for name, stream in experiment.streams.items():
        if name not in experiment.sources:
            raise BadInput(f"data.{name} is absent; write data of every stream")
        if tokenizers and stream.tokenizer is None:
            raise absent(name)
        with blame(f"streams.{name}.solver"):
            solver_for(stream.process, stream.solver, name)
    with blame("mixture"):
        experiment.mixture.check_names(names)
    values = experiment.values
    # What is still to be opened, or settled by the data, is checked when it is.
    settled = {name for name, value in values.items() if value.settled}
    said = all(s.shape or name in settled for name, s in experiment.streams.items())
    if said or not tokenizers:
        network(experiment, values)


@functools.lru_cache(maxsize=8)
def tokenizer_shapes(model: Tokenizer, shape: tuple[int, ...]):
    """(what the encoder sees of an example of this shape, what the decoder returns,
    variables), as shapes. Raises BadInput for what the model refuses."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    def run(model, x):
        return model.features(x), model(x)[0]

    with blame("model"):
        (features, out), variables = jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x, method=run), x
        )
        check_count(variables)
    return features, out, variables


def _check_stage_one(experiment: StageOne) -> None:
    model, data = experiment.model, experiment.data
    if model.front is not None and data.masked:
        raise BadInput(
            f"model.front={type(model.front).__name__}(...): what was not observed of "
            f"{data.kind} is marked in the signal and not behind a front end; write "
            f"model.front=None"
        )
    size, factor = getattr(data, "size", None), math.lcm(*model.factor)
    if isinstance(size, int) and size % factor:
        raise BadInput(
            f"data.size={size} is no multiple of the tokenizer's factor {factor}; "
            f"write data.size={-(-size // factor) * factor} or fewer multipliers in "
            "model.encoder and model.decoder"
        )
    with blame(f"data, {data.kind} of {data.shape}"):
        model.grid(data.shape[:-1])
    features, out, variables = tokenizer_shapes(model, data.shape)
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
    weights = experiment.losses
    for name in ("stft", "mel"):
        if getattr(weights, name) and (data.front is None or model.front is not None):
            raise BadInput(
                f"losses.{name}={getattr(weights, name)} is for waveforms: data of "
                f"kind audio, and a model without a front end; write losses.{name}=0"
            )
    if not weights.windows or any(n < 8 or n % 8 for n in weights.windows):
        raise BadInput(
            f"losses.windows={weights.windows}: write multiples of 8 such as (64, 256)"
        )
    _check_quantizer_weights(experiment, variables)
    if experiment.adversarial is not None:
        how = experiment.adversarial
        _check_adversarial(how, experiment.run.steps, out, variables["params"])


def _check_quantizer_weights(experiment: StageOne, variables) -> None:
    """Each is of a loss that the quantizer has, or may be left over of another's."""
    model, weights = experiment.model, experiment.losses.quantizer
    own = weights.keys() - USUAL.keys()
    if not own:
        return
    x = jax.ShapeDtypeStruct((1, *experiment.data.shape), jnp.float32)

    def run(model, x):
        z = model.encode(x)
        return model.quantize(z, train=True, key=jax.random.key(0)).losses

    with blame("model.quantizer"):
        losses, _ = jax.eval_shape(
            lambda v, x: model.apply(v, x, mutable=list(v), method=run), variables, x
        )
    for name in sorted(own - losses.keys()):
        raise BadInput(
            f"losses.quantizer.{name}={spell(weights[name])}: the quantizer has no "
            f"loss of that name; {near(name, losses)}"
        )


def _check_adversarial(
    how: Adversarial, steps: int, x: jax.ShapeDtypeStruct, params
) -> None:
    """x: what the discriminator judges, as a shape."""
    within = Annotated[int, Bound(at_least=0, below=steps)]
    walk(how.start, within, "adversarial.start")
    length = f"run.steps={steps} after adversarial.start={how.start}"
    _check_warmup("adversarial.optimizer", how.optimizer, steps - how.start, length)
    with blame("adversarial.discriminator"):
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
    paths = flax.traverse_util.flatten_dict(params, sep="/")
    if how.adaptive and how.last not in paths:
        known = [path for path in paths if path.startswith("decoder/")]
        raise BadInput(
            f"adversarial.last={how.last}: the model has no such parameter; "
            f"{near(how.last, known)}"
        )
