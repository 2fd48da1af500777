"""The transformer of an experiment: its model, with the streams that follow."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax

from train.config.experiment import StageTwo, Stream
from train.errors import BadInput, blame
from vqdit.diffusion import Process
from vqdit.dit import DiT
from vqdit.trained.streams import call_of, check_stream, stream_of

MOST = 2**40  # parameters of a model, four terabytes in float32


def network(
    experiment: StageTwo, tokenizers: Mapping[str, Any]
) -> tuple[DiT, dict[str, Process]]:
    """(the model with its streams, their processes fit for them). Compiles nothing.

    tokenizers: stream -> Codec, or a value that is born discrete; a stream that is not
        in it, or that the data have yet to settle, is what its `shape` and `codes` say.

    Raises BadInput at the field where a stream, its process and its tokenizer do not
    fit, and where the model refuses them.
    """
    streams, processes = [], {}
    written = {name for name, stream in experiment.streams.items() if stream.shape}
    tokenizers = {
        name: each
        for name, each in tokenizers.items()
        if name not in written or getattr(each, "settled", True)
    }
    for name, stream in experiment.streams.items():
        with blame(f"streams.{name}"):
            made = _stream(name, stream, tokenizers.get(name))
            fitted = check_stream(made, {name: stream.process}, tokenizers)
        streams.append(made)
        processes[name] = fitted
    model = experiment.model.clone(streams=tuple(streams))
    with blame("model"):
        _try(model)
    return model, processes


def _stream(name: str, stream: Stream, tokenizer: Any):
    said = (stream.patch, tuple(stream.shape), stream.codes)
    try:
        return stream_of(name, stream.process, tokenizer, *said)
    except ValueError as error:
        if tokenizer is None and not stream.shape:
            raise absent(name) from error
        if isinstance(stream.tokenizer, str):
            raise ValueError(
                f"{error}; or write shape=() and codes=0, which the tokenizer says"
            ) from error
        raise


def absent(name: str) -> BadInput:
    """What to raise where a stream's tokenizer is needed and not named."""
    return BadInput(
        f"streams.{name}.tokenizer is absent; write "
        f"--config.streams.{name}.tokenizer=DIR, the workdir or bundle of a tokenizer"
    )


@functools.lru_cache(maxsize=8)
def _try(model: DiT) -> None:
    """What the model refuses of its streams, without computing anything."""
    # One block stands for all: they are alike, and tracing 28 takes seconds.
    shallow = model.clone(depth=1)
    found = jax.eval_shape(
        lambda *x: shallow.init(jax.random.key(0), *x), *call_of(model, 1)
    )
    check_count(found, model.depth)


def check_count(variables: Any, times: int = 1) -> None:
    """Raises BadInput where there are more numbers in a model than anyone could hold:
    a mistyped width, of which XLA would end the process."""
    count = times * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    if count > MOST:
        raise BadInput(
            f"model has up to {float(count):.2g} parameters, more than {MOST:.2g}; "
            "write smaller widths, depths or counts of codes"
        )
