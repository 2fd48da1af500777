"""A latent cache written from a tokenizer and its data."""

from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from train.modalities import Modality
from train.objectives.bundles import examples_for
from train.objectives.codebook import chunk_size
from train.pipeline import once, write_cache
from vqdit.signal import to_signal
from vqdit.trained.codec import Codec
from vqdit.values import describe


def encode(codec: Codec, data: Modality, folder: Path, train: bool = True) -> int:
    """Writes every example's latents (and codes, where there are) with its label.

    Latents are those a continuous stream models: per-channel standardised. Nothing
    is augmented. Returns how many. Raises BadInput when the tokenizer
    does not fit the data.
    """
    examples = examples_for(codec, data, train)
    count = len(examples)
    batch_size = chunk_size(data.shape)

    @jax.jit
    def both(variables, signal):
        x = to_signal(signal)
        out = {"latents": codec.apply("latents", variables, x)}
        if codec.contract.codes:
            out["codes"] = codec.apply("quantized", variables, x).codes
        return out

    def records():
        in_order = once(examples.take, count, batch_size, threads=data.threads)
        for batch in tqdm(in_order, "encoding", -(-count // batch_size)):
            out = jax.device_get(both(codec.variables, batch[data.kind]))
            for i in np.flatnonzero(batch["valid"]):
                record = {name: value[i] for name, value in out.items()}
                yield record | {"label": batch["label"][i]}

    contract = {
        "tokenizer": describe(codec.contract),
        "split": "train" if train else "test",
        "classes": examples.classes,
        "class_names": list(examples.class_names),
    }
    write_cache(folder, records(), contract, count)
    return count
