"""A latent cache written from a tokenizer and its data."""

import contextlib
import json
from pathlib import Path

import jax
import numpy as np

from train.errors import BadInput, one_line
from train.modalities import Batch, Modality
from train.modalities.draws import Version
from train.objectives.bundles import examples_for
from train.objectives.codebook import all_of
from train.objectives.streams import on_grid
from train.pipeline.cache import new_cache, seal_cache, write_part
from train.pipeline.statistics import probe
from train.runtime import hosts
from vqdit.signal import to_signal
from vqdit.trained.codec import Codec
from vqdit.values import describe


def encode_set(codec: Codec, data: Modality, folder: Path, train: bool = True) -> int:
    """Writes every example's latents (and codes, where there are) with its label.

    Every process encodes and writes a stretch of the examples; the first one seals it.
    Latents are those a continuous stream models: per-channel standardised. Where values
    may be missing, "known" says which latents have some. A training example is there in
    all versions that `data.mirrors` draws from; nothing else is augmented. Returns how
    many examples there are. Raises BadInput when the tokenizer does not fit the data.
    """
    examples = examples_for(codec, data, train)
    mirrors = data.mirrors if train else {}
    words = sum(mirrors.values(), ())
    versions = 2 ** len(words)

    @jax.jit
    def both(variables, signal, known):
        x = to_signal(signal)
        out = {"latents": codec.apply("latents", variables, x)}
        if codec.contract.codes:
            out["codes"] = codec.apply("quantized", variables, x).codes
        if known is not None:
            out["known"] = on_grid(known, codec.contract.grid)
        return out

    def records():
        for batch in all_of(examples, data, "encoding"):
            encoded = [version_of(batch, version) for version in range(versions)]
            for i in np.flatnonzero(batch["valid"]):
                for each in encoded:
                    yield {name: value[i] for name, value in each.items()}

    def version_of(batch: Batch, version: int):
        if version:
            batch = data.augmented(batch, Version(words, version, len(batch["x"])))
        out = both(codec.variables, batch["x"], batch.get("known"))
        return hosts.gather(out) | {"label": batch["label"]}

    contract = {
        "tokenizer": describe(codec.contract),
        "split": "train" if train else "test",
        "data": probe(data, train),
        "classes": examples.classes,
        "class_names": list(examples.class_names),
        "absent": list(examples.source.absent),
        "mirrors": list(mirrors),
    }
    place = new_cache(folder) if hosts.first() else contextlib.nullcontext("")
    with contextlib.ExitStack() as stack:
        with hosts.together():
            unfinished = stack.enter_context(place)
        unfinished = Path(hosts.said_by_all(str(unfinished))[0])
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
