"""Whether what is drawn of one stream says the same as another that is given."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from train.errors import BadInput
from train.evaluation.drawing import drawn, restored
from train.evaluation.evaluator import evaluated, examples
from train.evaluation.features import Latents
from train.evaluation.means import Mean
from train.evaluation.samples import Reference, References
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from vqdit.trained.generator import Generator

# Signals or texts of a stream -> their classes (n,), -1 where they say none.
Reader = Callable[[Any], Int[np.ndarray, "n"]]


def readers(
    generator: Generator, data: Mapping[str, Modality], references: References
) -> dict[str, Reader]:
    """Stream -> its reader, of those whose class can be told: by the judge of a signal,
    or by a text that is a class's word or name."""
    found: dict[str, Reader] = {}
    for name, reference in references.items():
        if isinstance(reference, Reference):
            if not isinstance(reference.network, Latents):
                found[name] = reference.network.predict
        elif words := data[name].words or open_examples(data[name], False).class_names:
            found[name] = _read(words)
    return found


def _read(words: tuple[str, ...]) -> Reader:
    number = {word: i for i, word in enumerate(words)}
    return lambda said: np.array([number.get(_name(x, words), -1) for x in said])


def _name(x: Any, words: tuple[str, ...]) -> Any:
    """A text as it is, a label by its name."""
    return x if isinstance(x, str) else words[int(x)]


def crossings(
    generator: Generator,
    data: Mapping[str, Modality],
    references: References,
    scales: Iterable[float | None] = (None,),
    num: int = 1000,
    seed: int = 0,
    **sampler: Any,
) -> list[dict[str, Any]]:
    """Accuracy of every stream from every other, and of all together, a row for each
    scale of guidance by what is given; None asks for none.

    A_to_B: share of `num` held-out examples of A, evenly spaced, from which B is drawn
        with A's class, as the reader of B tells it.
    B_read: the same of B's own held-out examples, which B's that are drawn cannot be
        expected to beat.
    agree:  share of `num` draws of all streams in which all readers say one class.

    sampler: of `Generator.sampler`. Raises BadInput for what it refuses, and where
    fewer than two streams have a class that can be told.
    """
    read = readers(generator, data, references)
    if len(read) < 2:
        raise BadInput(
            f"crossings compare the classes of two streams or more; of this "
            f"generator's {', '.join(generator.streams)} they can be told of "
            f"{', '.join(read) or 'none'}"
        )
    held = lambda name: _held_out(generator, data[name], name, num)
    key, rows, how = jax.random.key(seed), [], sampler.items()
    real = {
        f"{name}_read": _share((x | {"said": x["x"]} for x in held(name)), each)
        for name, each in read.items()
    }
    try:
        for scale in scales:
            row = {"guidance": scale} | real
            for b in read:
                own = {n: x.get(b) if isinstance(x, Mapping) else x for n, x in how}
                draw = generator.sampler(want=b, guidance=scale, **own)
                for a in generator.streams:
                    if a != b:
                        crossed = _crossed(generator, draw, key, a, b, held(a))
                        row[f"{a}_to_{b}"] = _share(crossed, read[b])
            rows.append(row)
        agree = Mean("agree", lambda batch: batch["same"])
        draw = generator.sampler(**sampler)
        found = evaluated(agree, _together(generator, draw, key, num, read))
    except ValueError as error:
        raise BadInput(str(error)) from error
    return [row | found for row in rows]


def _together(generator, draw, key, num, read: Mapping[str, Reader]) -> Iterator[Batch]:
    """Whether draws of all streams are of the "same" class."""
    for rows, x in drawn(generator, draw, key, np.arange(num), None, raw=False):
        if len(rows):
            said = np.stack([read[name](x[name]) for name in read])
            yield {"same": (said == said[0]).all(0) & (said[0] >= 0)}


def _share(batches: Iterator[Batch], read: Reader) -> float:
    """Of those that are "there", what is "said" and read as their label."""

    def right(batch: Batch) -> np.ndarray:
        same = np.asarray(read(batch["said"])) == batch["label"]
        return np.where(batch["there"], same, np.nan)

    return evaluated(Mean("right", right), batches)["right"]


def _crossed(generator, draw, key, a: str, b: str, batches) -> Iterator[Batch]:
    """Batches of A with the B's that are drawn from them, "said"."""
    codec = generator.codecs.get(a)
    for batch in batches:
        x = batch["x"]
        if codec is None:
            x = list(x)
        elif x.dtype == np.uint8:
            x = np.asarray(codec.from_raw(x))
        found = draw(key, batch["index"], given={a: x})[b]
        yield batch | {"said": restored(generator.codecs.get(b), found, raw=False)}


def _held_out(generator, data: Modality, name: str, count: int) -> Iterator[Batch]:
    """Held-out examples with what the stream is of, "x", and where that and a class
    are "there". All rows of a chunk, so that there is one program."""
    value = generator.values.get(name)
    for batch in examples(data, False, open_examples(data, False).spaced(count)):
        there = batch["valid"] & (batch["label"] >= 0)
        if value is not None:
            x = batch.get(value.source, [None] * len(there))
            has = np.array([text not in (None, "", -1) for text in x])
            if not has.any():
                continue
            # What has none is given another's, and does not count.
            x = np.asarray(x)[np.where(has, np.arange(len(x)), has.argmax())]
            batch, there = batch | {"x": x}, there & has
        yield batch | {"there": there}
