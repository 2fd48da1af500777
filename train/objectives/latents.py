"""A latent cache written from a tokenizer and its data."""

from collections import deque
from pathlib import Path

import jax
import numpy as np

from train.modalities import Batch, Modality
from train.modalities.draws import Version
from train.objectives.bundles import examples_for
from train.objectives.codebook import all_of
from train.objectives.streams import on_grid
from train.pipeline import write_cache
from train.pipeline.statistics import probe
from train.runtime import hosts
from vqdit.signal import to_signal
from vqdit.trained.codec import Codec
from vqdit.values import describe


def encode_set(codec: Codec, data: Modality, folder: Path, train: bool = True) -> int:
    """Writes every example's latents (and codes, where there are) with its label.

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
            encoded = [gathered(batch, version) for version in range(versions)]
            for i in np.flatnonzero(hosts.joined(batch["valid"])):
                for each in encoded:
                    yield {name: value[i] for name, value in each.items()}

    def gathered(batch: Batch, version: int):
        if version:
            batch = data.augmented(batch, Version(words, version, len(batch["x"])))
        out = both(codec.variables, batch["x"], batch.get("known"))
        out = hosts.gather(out) | {"label": batch["label"]}
        return {name: hosts.joined(value) for name, value in out.items()}

    contract = {
        "tokenizer": describe(codec.contract),
        "split": "train" if train else "test",
        "data": probe(data, train),
        "classes": examples.classes,
        "class_names": list(examples.class_names),
        "absent": list(examples.source.absent),
        "mirrors": list(mirrors),
    }
    if hosts.first():
        write_cache(folder, records(), contract, len(examples), versions)
    else:
        deque(records(), maxlen=0)
    hosts.wait("cache")
    return len(examples)
