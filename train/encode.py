"""A data set to a latent cache, with the latent contract beside it.

python -m train.encode --bundle=runs/tok --config=configs/cifar10_dit.py \\
    --out=runs/cache
"""

import math
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from train.command import parse
from train.config import Experiment
from train.data import Signals
from train.data.cache import write_cache
from train.data.pipeline import once
from train.errors import BadInput, run
from train.log import say
from train.opening import examples_for, open_bundle
from vqdit.codec import Codec
from vqdit.describe import describe
from vqdit.tokenizer import to_signal

# Examples encoded at a time, and the values that they may have in all.
BATCH, VALUES = 256, 2**24


def encode(codec: Codec, data: Signals, folder: Path, train: bool = True) -> int:
    """Writes every example's latents (and codes, where there are) with its label.

    Latents are those a continuous stream models: per-channel standardised. Nothing
    is augmented. Returns how many. Raises BadInput when the tokenizer
    does not fit the data.
    """
    examples = examples_for(codec, data, train)
    count = len(examples)
    batch_size = max(1, min(BATCH, VALUES // math.prod(data.shape)))

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


def main(argv=None):
    command = parse(argv, Experiment, flags={"bundle": str, "out": str, "split": str})
    out, bundle = command.flags.get("out"), command.flags.get("bundle")
    split = command.flags.get("split") or "train"
    if not out or not bundle:
        raise BadInput("write --bundle=DIR, a tokenizer's, and --out=DIR, a new folder")
    if split not in ("train", "test"):
        raise BadInput(f"--split={split}: write train or test")
    codec = open_bundle(bundle, Codec, "--bundle")
    count = encode(codec, command.experiment.data, Path(out), split == "train")
    say(f"{count} examples are in {out}; train on them with --config.cache={out}")


if __name__ == "__main__":
    run(main)
