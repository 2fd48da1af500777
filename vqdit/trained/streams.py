"""How a stream, its process and its tokenizer fit together."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.diffusion import Process
from vqdit.nn.streams import Continuous, Discrete


def stream_of(
    name: str,
    process: Process,
    tokenizer: Any = None,
    patch: int = 1,
    shape: tuple[int, ...] = (),
    codes: int = 0,
) -> Continuous | Discrete:
    """The stream of a transformer, as the tokenizer has it.

    tokenizer: a Codec, or a value that is born discrete, such as Bytes; without one,
        `shape` and `codes` say what it would: (*grid, channels) of latents, or (*grid,
        books) and how many codes each book has.

    Raises ValueError where neither says, where both do and differ, and where the
    process is not for what there is.
    """
    latents = process.kind == "latents"
    written = {}
    if len(shape) > 1:
        *grid, last = shape
        written = {"grid": tuple(grid), "channels" if latents else "books": last}
    if len(shape) == 1 or any(side < 1 for side in shape):
        raise ValueError(
            f"shape={shape}: write the grid, and last channels or books; all at least 1"
        )
    if codes:
        if latents:
            raise ValueError(
                f"codes={codes}, but {type(process).__name__} is a process of latents; "
                "write one of codes such as Masking(), or leave codes out"
            )
        written["vocab"] = codes
    fields: dict[str, Any] = written
    if tokenizer is not None:
        fields = tokenizer.stream(process.kind)
        for field, mine in written.items():
            if mine != fields[field]:
                raise ValueError(
                    f"the tokenizer does not fit stream {name!r}: its {field} is "
                    f"{fields[field]}, and {mine} is written; leave shape and codes out"
                )
    if len(fields) < (2 if latents else 3):
        wanted = "shape=(*grid, channels)" if latents else "shape=(*grid, books), codes"
        raise ValueError(f"without a tokenizer, write {wanted}")
    if latents:
        return Continuous(name, **fields, patch=patch, outputs=process.outputs)
    if patch != 1:
        raise ValueError(f"patch={patch}: every place of codes is a token; write 1")
    return Discrete(name, **fields)


def call_of(module: Any, batch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(streams, times) that a transformer is called with, as shapes."""
    ends = (batch, 2) if module.intervals else (batch,)
    of = lambda s: jax.ShapeDtypeStruct((batch, *s.shape), jnp.dtype(s.dtype))
    streams = {stream.name: of(stream) for stream in module.streams}
    return streams, dict.fromkeys(streams, jax.ShapeDtypeStruct(ends, jnp.float32))


def check_stream(stream, processes: Mapping, tokenizers: Mapping) -> Process:
    """The stream's process, fit for it (see `Process.fit`).

    Raises ValueError when a stream, its process and its tokenizer do not fit.
    """
    name = stream.name
    process = processes.get(name)
    if process is None:
        raise ValueError(
            f"stream {name!r} has no process; the processes are {sorted(processes)}"
        )
    if not hasattr(process, "fit") or isinstance(process, type):
        raise ValueError(
            f"stream {name!r}: {process!r} is no process; write one, as Gaussian()"
        )
    process = process.fit(stream)
    if name not in tokenizers:
        return process
    for field, theirs in tokenizers[name].stream(process.kind).items():
        mine = getattr(stream, field)
        if mine != theirs:
            raise ValueError(
                f"the tokenizer does not fit stream {name!r}: its {field} is {theirs}, "
                f"the model's is {mine}; write the tokenizer's in the model"
            )
    return process
