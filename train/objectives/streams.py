"""Stage two: what it opens at its start, and what it minimises."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from train.config import StageTwo
from train.errors import BadInput
from train.modalities import Modality
from train.objectives.bundles import examples_for, open_bundle
from train.pipeline import LatentCache, batches
from train.runtime import hosts
from train.runtime.optim import learning_rate, make
from train.runtime.sharding import replicated
from train.runtime.step import TrainState, init_state, make_step
from vqdit.diffusion.objectives import Denoising
from vqdit.dit import DiT
from vqdit.signal import to_signal
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract, refuse_mismatch
from vqdit.trained.generator import Generator, check_stream
from vqdit.values import build as rebuild


def build(experiment: StageTwo):
    """(init, step): the state's maker and the train step, for loop and bench."""
    model, optimizer = experiment.model, experiment.optimizer
    tx = make(optimizer, experiment.run.steps)

    def init() -> TrainState:
        params_key, state_key = jax.random.split(jax.random.key(experiment.run.seed))
        variables = model.init(params_key, *example(model, 1))
        return init_state(state_key, dict(variables), tx)

    step = make_step(
        Denoising(
            model, experiment.processes, experiment.times, experiment.label_dropout
        ),
        tx,
        optimizer.ema,
        optimizer.accumulate,
        learning_rate(optimizer, experiment.run.steps),
    )
    return init, step


def example(model: DiT, batch: int):
    """Arguments of the model's call: zeros of its shapes."""
    streams = {s.name: jnp.zeros((batch, *s.shape), s.dtype) for s in model.streams}
    ends = (batch, 2) if model.intervals else (batch,)
    times = {s.name: jnp.zeros(ends) for s in model.streams}
    label = jnp.zeros(batch, jnp.int32) if model.classes else None
    return streams, times, label


def load_tokenizers(experiment: StageTwo) -> dict[str, Codec]:
    """Stream -> Codec, each fit for its stream. Raises BadInput when one is not."""
    codecs = {
        name: open_bundle(path, Codec, f"tokenizers.{name}")
        for name, path in experiment.tokenizers.items()
    }
    for stream in experiment.model.streams:
        if stream.name not in codecs:
            raise BadInput(
                f"tokenizers has no {stream.name!r}; write "
                f"--config.tokenizers.{stream.name}=DIR, a workdir of stage one"
            )
        try:
            check_stream(stream, experiment.processes, codecs)
        except ValueError as error:
            raise BadInput(f"tokenizers.{stream.name}: {error}") from error
    return codecs


def augmenting(data: Modality) -> dict:
    """Fields of the data that augment it -> their values that do not."""
    plain = {"flip": (True, False), "crop": ("random", "center")}
    found = {
        name: to for name, (of, to) in plain.items() if getattr(data, name, to) == of
    }
    return found | ({"augment": None} if getattr(data, "augment", None) else {})


def open_cache(experiment: StageTwo, codecs: dict[str, Codec]) -> LatentCache:
    """The experiment's latent cache. Raises BadInput when it is another tokenizer's."""
    cache = LatentCache(experiment.cache)
    (name, codec), *others = codecs.items()
    if others:
        raise BadInput("cache holds one stream; leave it out to encode on the fly")
    for field, plain in augmenting(experiment.data).items():
        raise BadInput(
            f"cache holds examples that are not augmented: write data.{field}={plain}, "
            f"or leave cache out to encode on the fly"
        )
    try:
        made_under = rebuild(cache.contract["tokenizer"])
        if not isinstance(made_under, LatentContract):
            raise ValueError("it states no latent contract")
        refuse_mismatch(codec.contract, made_under, f"the cache {experiment.cache}")
    except (KeyError, ValueError) as error:
        raise BadInput(f"cache: {error}") from error
    if cache.contract.get("split") != "train":
        raise BadInput(
            f"cache: {experiment.cache} is not of the training split; encode it with "
            f"--split=train"
        )
    field = _field(experiment, name)
    if field not in cache.fields:
        raise BadInput(
            f"cache: {experiment.cache} holds {sorted(cache.fields)}, stream {name!r} "
            f"needs {field}; encode again"
        )
    return cache


def _field(experiment: StageTwo, name: str) -> str:
    return experiment.processes[name].kind


def stream_batches(
    experiment: StageTwo,
    codecs: dict[str, Codec],
    cache: LatentCache | None,
    position: int,
    rows: np.ndarray | None = None,
) -> Iterator[dict]:
    """These rows of training batches: of the cache, or signals for `encoder`."""
    order = (True, experiment.run.batch, experiment.run.seed, position, rows)
    if cache is None:
        used = (experiment.data.kind, "label")
        for batch in batches(experiment.data, *order):
            yield {name: batch[name] for name in used}
        return
    name = next(iter(codecs))
    field = _field(experiment, name)
    for batch in cache.batches(*order):
        yield {"streams": {name: batch[field]}, "label": batch["label"]}


def encoder(experiment: StageTwo, codecs: dict[str, Codec], sharding):
    """A batch of signals, placed by the sharding -> one of streams, placed likewise."""

    def encode(variables, batch):
        x = to_signal(batch[experiment.data.kind])
        streams = {}
        for name, codec in codecs.items():
            field = _field(experiment, name)
            streams[name] = codec.apply(field, variables[name], x)
        return {"streams": streams, "label": batch["label"]}

    variables = {name: codec.variables for name, codec in codecs.items()}
    variables = hosts.everywhere(variables, replicated(sharding))
    return partial(jax.jit(encode, out_shardings=sharding), variables)


def generator(experiment: StageTwo, codecs, params, class_names=()) -> Generator:
    """What is drawn from: a model of the experiment with the given parameters."""
    return Generator(
        experiment.model, params, experiment.processes, codecs, class_names
    )


def prepare(experiment: StageTwo):
    """(tokenizers, source of the data), once they are known to fit the model.

    Raises BadInput, before anything is written or compiled, when they do not.
    """
    codecs = load_tokenizers(experiment)
    if experiment.cache is not None:
        source = open_cache(experiment, codecs)
    else:
        source = examples_for(next(iter(codecs.values())), experiment.data, train=True)
    classes = experiment.model.classes
    if classes and source.classes and source.classes != classes:
        raise BadInput(
            f"model.classes={classes} but the data has {source.classes} classes; "
            f"write model.classes={source.classes}"
        )
    if classes and not source.classes:
        raise BadInput("model.classes: the data has no labels; write model.classes=0")
    return codecs, source
