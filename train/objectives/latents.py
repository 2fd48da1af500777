"""A latent cache written from a tokenizer and its data."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.config import StageTwo
from train.errors import BadInput, one_line
from train.modalities import Batch, Modality
from train.modalities.draws import Version
from train.objectives.bundles import check_streams, examples_for
from train.objectives.caches import augmenting, caption_sums, drawing, refuse_moving
from train.objectives.codebook import all_of
from train.objectives.streams import codecs_and_values, open_tokenizers
from train.pipeline import Examples, JointExamples, open_examples
from train.pipeline.cache import new_cache, seal_cache, write_part
from train.pipeline.statistics import probe
from train.pipeline.streams import check_values, codes_of
from train.progress import say
from train.runtime import hosts
from vqdit.signal import to_signal
from vqdit.trained.codec import Codec
from vqdit.values import describe


def encode_streams(
    experiment: StageTwo, folder: Path, train: bool = True, epochs: int = 0
) -> int:
    """Writes a cache of each stream of an experiment, of one alone without a name.

    epochs: see `encode_set`. Returns how many joint examples there are. Raises BadInput
    where the data cannot be joined as the experiment says, or a tokenizer does not fit.
    """
    with hosts.together():
        tokenizers = open_tokenizers(experiment)
        for name, tokenizer in tokenizers.items():
            refuse_moving(tokenizer, experiment.sources[name], f"stream {name!r}")
        codecs, values = codecs_and_values(tokenizers)
        if epochs:
            refuse_still([experiment.sources[name] for name in codecs], epochs)
            for name in tokenizers:
                if name not in codecs or not _draws(experiment.sources[name]):
                    say(f"{name!r}: no epoch draws it anew; it is stored once")
        check_streams(codecs, experiment.sources, train)
        joined = JointExamples(experiment.sources, values, train, experiment.join)
        for name, value in values.items():
            check_values(value, open_examples(experiment.sources[name], train), name)
        count = len(joined)
    keyed = experiment.join == "key"

    def written(name: str, place: Path) -> None:
        how = (experiment.sources[name], place, train, keyed)
        if name in codecs:
            encode_set(codecs[name], *how, epochs)
        else:
            encode_values(values[name], name, *how)

    if len(tokenizers) == 1:
        written(next(iter(tokenizers)), folder)
        return count
    with _new(folder) as unfinished:
        for name in tokenizers:
            written(name, unfinished / name)
    hosts.wait("caches")
    return count


def refuse_still(parts: Sequence[Modality], epochs: int) -> None:
    """Raises BadInput where epochs would draw nothing of these data anew."""
    if not any(map(_draws, parts)):
        raise BadInput(
            f"--epochs={epochs}: nothing augments the data, and every epoch has the "
            "same; leave it out"
        )


def _draws(data: Modality) -> bool:
    """Whether each epoch of training has the examples otherwise."""
    return bool(augmenting(data)) or data.drawn


def encode_values(
    tokenizer: Any,
    name: str,
    data: Modality,
    folder: Path,
    train: bool,
    keyed: bool = False,
) -> int:
    """Writes the codes of what is born discrete, the stream `name`, and which examples
    have it."""
    with hosts.together():
        examples = open_examples(data, train)
        more: dict[str, Any] = {"beside": caption_sums(examples.data)} if train else {}

    def encoded(batch: Batch, version: int) -> Batch:
        codes, known = codes_of(tokenizer, batch, name)
        return {"codes": codes, "known": known, "label": batch["label"]}

    how = describe(tokenizer), train, keyed
    return _write(examples, folder, encoded, *how, **more)


def _write(
    examples: Examples,
    folder: Path,
    encoded: Callable[[Batch, int], Batch],
    tokenizer: Any,
    train: bool,
    keyed: bool,
    versions: int = 1,
    **more: Any,
) -> int:
    """The cache, and what it is of; returns how many examples there are.

    encoded: (a batch, number of a version) -> the fields of records.
    """

    def records() -> Iterator[dict]:
        for batch in all_of(examples, "encoding"):
            each = [encoded(batch, version) for version in range(versions)]
            for i in np.flatnonzero(batch["valid"]):
                yield from ({name: x[i] for name, x in one.items()} for one in each)

    with hosts.together():
        made_of = probe(examples.data, train)
    contract = {
        "tokenizer": tokenizer,
        "split": "train" if train else "test",
        "data": made_of,
        "classes": examples.classes,
        "class_names": list(examples.class_names),
        "absent": list(examples.absent),
    } | more
    if keyed:
        contract["keys"] = examples.keys
    with _new(folder) as unfinished:
        with hosts.together():
            try:
                part = write_part(unfinished, records(), hosts.share()[0])
            except OSError as error:  # a full disk of one is refused by all
                raise BadInput(f"{unfinished}: {one_line(error)}") from error
        parts = [json.loads(each) for each in hosts.said_by_all(json.dumps(part))]
        with hosts.together():
            if hosts.first():
                seal_cache(unfinished, parts, contract, len(examples), versions)
    hosts.wait("cache")
    return len(examples)


@contextlib.contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """`new_cache` of the first process, for all of them."""
    place = new_cache(folder) if hosts.first() else contextlib.nullcontext("")
    with contextlib.ExitStack() as stack:
        with hosts.together():
            unfinished = stack.enter_context(place)
        yield Path(hosts.said_by_all(str(unfinished))[0])


def encode_set(
    codec: Codec,
    data: Modality,
    folder: Path,
    train: bool = True,
    keyed: bool = False,
    epochs: int = 0,
) -> int:
    """Writes every example's latents (and codes, where there are) with its label.

    Every process encodes and writes a stretch of the examples; the first one seals it.
    Latents are those a continuous stream models: per-channel standardised. Where values
    may be missing, "known" says which latents have some. A training example is there in
    all versions that `data.mirrors` draws from; nothing else is augmented. Returns how
    many examples there are. Raises BadInput when the tokenizer does not fit the data.

    keyed:  the keys of the examples are there, too.
    epochs: training examples are there as so many epochs draw them, with all that
        augments them; 0: as they are evaluated, mirrored at most.
    """
    with hosts.together():
        examples = examples_for(codec, data, train)
    mirrors = data.mirrors if train else {}
    words = sum(mirrors.values(), ())
    several = train and epochs and _draws(data)
    versions = epochs if several else 2 ** len(words)
    how: dict[str, Any] = {}
    if several:
        drawn = {n: json.dumps(describe(v)) for n, v in drawing(data).items()}
        how = {"epochs": epochs, "augment": drawn}

    @jax.jit
    def both(variables, signal, known):
        x = to_signal(signal)
        out = {"latents": codec.apply("latents", variables, x)}
        if codec.contract.codes:
            out["codes"] = codec.apply("quantized", variables, x).codes
        if known is not None:
            out["known"] = codec.known_latents(known)
        return out

    def encoded(batch: Batch, version: int) -> Batch:
        if several:
            epoch = np.full(len(batch["index"]), version)
            batch = batch | examples.augmented(batch["index"], epoch, 0)
        elif version:
            batch = data.augmented(batch, Version(words, version, len(batch["x"])))
        out = both(codec.variables, batch["x"], batch.get("known"))
        return hosts.gather(out) | {"label": batch["label"]}

    of = (describe(codec.contract), train, keyed, versions)
    return _write(examples, folder, encoded, *of, mirrors=list(mirrors), **how)
