"""The judge: a small classifier, trained on real signals only, that scores samples.

python -m train.classifier --config=configs/mnist_tokenizer.py --out=runs/judge

trains one on an experiment's labelled images or clips and keeps it, so that several
runs are scored by the same (`train.evaluate --judge=runs/judge`), or a tokenizer learns
to keep what it sees (`--config.losses.features=runs/judge`). Without --config,
--workdir=DIR names a run whose data it is. --steps is 1000 for images and 600 for
clips. --seed is 1: the one that train.evaluate trains for itself has 0, so that what
has learned from a judge is not scored by its twin.

Its accuracy on conditional samples says whether they are of their class, and its
features carry the Fréchet distance. Neither compares with published figures, which use
another network: both compare with the same figure of real held-out images.

Classes lie far apart in the features, so their shares move the distance as much as the
images do: on MNIST 1,000 real training images are at 4.0 from test with 100 of every
class, and at 9.7 as they come. Score samples of equal labels, against such a floor.
"""

from pathlib import Path

import numpy as np

from train.config import Experiment
from train.config.command import OF_RUN, parse
from train.config.outputs import out_folder
from train.errors import BadInput, run
from train.evaluation.evaluator import examples
from train.evaluation.judge import train_judge
from train.objectives.bundles import keep, open_bundle
from train.progress import say
from train.runtime import hosts
from vqdit.fields import Count, Seed
from vqdit.trained.bundle import FILES
from vqdit.trained.judge import Judge

SEED = 1
FLAGS = OF_RUN | {
    "out": (str, "the folder that the judge is kept in"),
    "steps": (Count, "of training (1000, of clips 600)"),
    "seed": (Seed, "of its training (1)"),
    "force": (bool, "replace the judge that is there"),
}


def main(argv=None):
    command = parse(
        argv, Experiment, FLAGS, processes=True, needed=["out"], measures=True
    )
    hosts.start(command.processes)
    data, flags = command.experiment.one_data, dict(command.flags)
    folder = Path(flags.pop("out"))
    with hosts.together():
        out_folder(folder, there=True)
        if folder.exists():
            _check(folder, command.force)
        judge = train_judge(data, **{"seed": SEED} | flags)
    keep(folder, judge)
    right, count = 0, 0
    with hosts.together():
        for batch in examples(data, False, divided=False, doing="trying the judge"):
            there = batch["valid"] & (batch["label"] >= 0)
            right += np.sum((judge.predict(batch["x"]) == batch["label"]) & there)
            count += there.sum()
    what = f"held-out {'clips' if judge.front else 'pictures'}"
    told = f"no {what} have a label to try it by"
    if count:
        told = f"right about {right / count:.4f} of {count} {what} that have a label"
    say(f"the judge is in {folder}, {told}")


def _check(folder: Path, force: bool) -> None:
    if not force:
        raise BadInput(f"--out={folder} is there; write --force to replace it")
    # What is replaced is deleted: a judge, and nothing beside it.
    open_bundle(folder, Judge, "--out")
    if {path.name for path in folder.iterdir()} - set(FILES):
        raise BadInput(f"--out={folder} holds more than a judge; write a new folder")


if __name__ == "__main__":
    run(main)
