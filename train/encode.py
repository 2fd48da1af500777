"""A data set to a latent cache, with the latent contract beside it.

python -m train.encode --bundle=runs/tok --config=configs/cifar10_dit.py \\
    --out=runs/cache

What data.flip mirrors is stored both ways round, and training draws one of the two.
"""

from pathlib import Path
from typing import Literal

from train.config import Experiment
from train.config.command import OF_RUN, parse
from train.errors import BadInput, run
from train.objectives.bundles import open_bundle
from train.objectives.latents import encode_set
from train.progress import say
from train.runtime import hosts
from vqdit.trained.codec import Codec

FLAGS = OF_RUN | {
    "bundle": (str, "the tokenizer: a workdir or bundle folder"),
    "out": (str, "the cache, a new folder"),
    "split": (Literal["train", "test"], "train or test (train)"),
}


def main(argv):
    needed = ("bundle", "out")
    command = parse(argv, Experiment, FLAGS, processes=True, needed=needed)
    hosts.start(command.processes)
    out, split = Path(command.flags["out"]), command.flags.get("split", "train")
    with hosts.together():
        codec = open_bundle(command.flags["bundle"], Codec, "--bundle")
        if out.exists():
            raise BadInput(f"--out={out} is there; remove it, or write a new folder")
    count = encode_set(codec, command.experiment.one_data, out, split == "train")
    say(f"{count} examples are in {out}; train on them with --config.cache={out}")


if __name__ == "__main__":
    run(main)
