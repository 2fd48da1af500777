"""A data set to a latent cache, with the latent contract beside it.

python -m train.encode --bundle=runs/tok --config=configs/cifar10_dit.py \\
    --out=runs/cache

Without --bundle every stream of an experiment of stage two is encoded by its tokenizer.

What data.flip mirrors is stored both ways round, and training draws one of the two.
With --epochs=8 every example is stored as eight epochs of training draw it, cut, moved
and augmented, and training draws one of the eight.
"""

from pathlib import Path
from typing import Literal

from train.config import Experiment, StageTwo
from train.config.command import OF_RUN, parse
from train.config.outputs import out_folder
from train.errors import BadInput, run
from train.objectives.bundles import open_bundle
from train.objectives.latents import encode_set, encode_streams, refuse_still
from train.progress import say
from train.runtime import hosts
from vqdit.fields import Count
from vqdit.trained.codec import Codec

FLAGS = OF_RUN | {
    "bundle": (str, "the tokenizer: a workdir or bundle (those of the streams)"),
    "out": (str, "the cache, a new folder"),
    "split": (Literal["train", "test"], "train or test (train)"),
    "epochs": (Count, "as many of which each example is stored, as augmented there"),
}


def main(argv=None):
    command = parse(argv, Experiment, FLAGS, processes=True, needed=("out",))
    hosts.start(command.processes)
    out, split = Path(command.flags["out"]), command.flags.get("split", "train")
    experiment, path = command.experiment, command.flags.get("bundle")
    epochs = command.flags.get("epochs", 0)
    if epochs and split == "test":
        raise BadInput("--epochs is of what training augments; write --split=train")
    with hosts.together():
        out_folder(out)
        if path is not None and epochs:
            refuse_still([experiment.one_data], epochs)
        if path is None and not isinstance(experiment, StageTwo):
            raise BadInput("write --bundle=DIR, the workdir or bundle of a tokenizer")
        codec = path is not None and open_bundle(path, Codec, "--bundle")
    if codec:
        data = experiment.one_data
        count = encode_set(codec, data, out, split == "train", epochs=epochs)
    else:
        count = encode_streams(experiment, out, split == "train", epochs)
    # No training takes what is held out.
    use = f"; train on them with --config.cache={out}" if split == "train" else ""
    say(f"{count} examples are in {out}{use}")


if __name__ == "__main__":
    run(main)
