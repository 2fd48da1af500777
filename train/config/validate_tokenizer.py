"""Relations between the values of a tokenizer's experiment."""

import dataclasses
import math

import flax.traverse_util
import jax
import jax.numpy as jnp

from train.config.checks import blame, check_number, check_optimizer, round_up
from train.config.experiment import StageOne
from train.config.expression import near
from train.errors import BadInput
from vqdit.losses.discriminators import Verdict


def check_stage_one(experiment: StageOne) -> None:
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
            f"write data.size={round_up(size, factor)} or fewer multipliers in "
            "model.encoder and model.decoder"
        )
    with blame(f"data, {data.kind} of {data.shape}"):
        model.grid(data.shape[:-1])
    x = _data(experiment)

    def run(model, x):
        return model.features(x), model(x)[0]

    with blame("model"):
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
    _check_losses(experiment)
    if experiment.adversarial is not None:
        _check_adversarial(experiment, out.shape)


def _check_losses(experiment: StageOne) -> None:
    weights, data = experiment.losses, experiment.data
    for field in dataclasses.fields(weights):
        value = getattr(weights, field.name)
        if isinstance(value, float | int):
            check_number(f"losses.{field.name}", value, at_least=0, below=math.inf)
    for name in ("stft", "mel"):
        if getattr(weights, name) and (
            data.front is None or experiment.model.front is not None
        ):
            raise BadInput(
                f"losses.{name}={getattr(weights, name)} is for waveforms: data of "
                f"kind audio, and a model without a front end; write losses.{name}=0"
            )
    if not weights.windows or any(n < 8 or n % 8 for n in weights.windows):
        raise BadInput(
            f"losses.windows={weights.windows}: write multiples of 8 such as (64, 256)"
        )


def _check_adversarial(experiment: StageOne, shape: tuple[int, ...]) -> None:
    """shape: of what the discriminator judges, (1, *features)."""
    how, steps = experiment.adversarial, experiment.run.steps
    check_number("adversarial.start", how.start, at_least=0, below=steps)
    for name in ("ramp", "weight", "features", "lecam"):
        at = f"adversarial.{name}"
        check_number(at, getattr(how, name), at_least=0, below=math.inf)
    length = f"run.steps={steps} after adversarial.start={how.start}"
    check_optimizer("adversarial.optimizer", how.optimizer, steps - how.start, length)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
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
