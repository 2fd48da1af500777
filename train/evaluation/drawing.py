"""Many samples of a generator, in chunks of bounded memory."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from train.errors import BadInput
from train.modalities.kinds import modality_of
from train.progress import progress
from train.runtime import hosts
from vqdit.diffusion import Solver
from vqdit.fields import Count, Finite, Positive
from vqdit.signal import to_signal, to_uint8
from vqdit.trained.generator import Generator

# Flags of a program that draws, by the fields of `Generator.sampler`.
SAMPLER = {
    "steps": (Count, "of the sampler (50)"),
    "shift": (Positive, "of its times, above 1 denser near noise (1)"),
    "before": (
        tuple[str, ...],
        "streams that are drawn first, and then given to the others",
    ),
    "interval": (tuple[Finite, Finite], "times in which the scale applies (0.0, 1.0)"),
    "solver": (
        Solver | dict[str, Solver],
        "such as Heun(); of several streams {'image': Heun()}, too",
    ),
}
BATCH = 250  # drawn at once: one compilation, bounded memory


def draw_all(
    generator: Generator, draw, key: jax.Array, ids, label, **call
) -> dict[str, np.ndarray]:
    """The same samples as one call of `draw`, each process drawing its own."""
    parts = [
        {name: hosts.joined(x) for name, x in part.items()}
        for _, part in drawn(generator, draw, key, ids, label, **call)
    ]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def drawn(
    generator: Generator,
    draw,
    key: jax.Array,
    ids,
    label,
    raw: bool = True,
    given: Mapping[str, np.ndarray] | None = None,
    known: Mapping[str, np.ndarray] | None = None,
    **call,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """(places among the ids, samples) of this process, in equal chunks of bounded
    memory; as many chunks as the others have, the last perhaps empty.

    draw: a sampler of the generator. given, known: as its call takes them, one for each
        sample.
    Pictures come as uint8, other signals in their raw unit, or else as examples have
    them, a stream that has no tokenizer as it is.
    """
    count, (index, of) = len(ids), hosts.share()
    size = min(BATCH, -(-count // of))
    starts = range(index * size, count + index * size, of * size)
    for start in progress(starts, "drawing", unit="batch"):
        # The last chunk is filled up with samples that nobody asked for.
        rows = np.minimum(np.arange(start, start + size), count - 1)
        chosen = None if label is None else np.asarray(label)[rows]
        held = {"given": {name: v[rows] for name, v in (given or {}).items()}}
        if known:
            held["known"] = {name: v[rows] for name, v in known.items()}
        x = draw(key, np.asarray(ids)[rows], label=chosen, **held, **call)
        part = {
            name: restored(generator.codecs.get(name), v, raw) for name, v in x.items()
        }
        mine = max(0, count - start)
        yield rows[:mine], {name: v[:mine] for name, v in part.items()}


def several(key: jax.Array, draws: int) -> list[jax.Array]:
    """The keys of so many draws of each example, the first of which is that of one."""
    return [key, *(jax.random.fold_in(key, i) for i in range(1, draws))]


def presented(
    generator: Generator, batch: Mapping[str, Any], names: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(streams, known) of a batch of `JointExamples` as a sampler or a scorer is given
    them: signals in [-1, 1], codes of what is born discrete, and which are there."""
    streams, known = {}, {}
    for name in names:
        x, there = batch["streams"][name], batch["known"].get(name)
        codec = generator.codecs.get(name)
        streams[name] = x if codec is None else to_signal(x)
        if there is not None:
            known[name] = there
        if codec is not None and there is not None and there.ndim > 1:
            known[name] = codec.known_latents(there)
    return streams, known


def first_shown(
    generator: Generator, counts: Mapping[str, int], batch: int
) -> dict[str, np.ndarray]:
    """Stream -> bool (b, n), true at so many along the first axis of its grid.

    Raises BadInput where that is no stream, or all of one.
    """
    shown = {}
    for name, count in counts.items():
        if name not in generator.streams:
            streams = ", ".join(generator.streams)
            raise BadInput(f"--shown.{name}={count}: the streams are {streams}")
        length = generator.streams[name].grid[0]
        if length == 1:
            raise BadInput(f"--shown.{name}: this stream has one place; drop it")
        if count >= length:
            raise BadInput(
                f"--shown.{name}={count} leaves nothing: write at most {length - 1}"
            )
        shown[name] = np.tile(np.arange(length) < count, (batch, 1))
    return shown


def restored(codec, x, raw: bool) -> np.ndarray:
    """What was drawn of a stream as its examples have it, or in its raw unit."""
    if codec is None:
        return np.asarray(x)
    if modality_of(codec.contract.kind).pixels and not codec.contract.scale:
        return np.asarray(to_uint8(x))
    return np.asarray(codec.to_raw(x) if raw else x)
