"""Scores of a trained tokenizer or generator, on held-out data.

python -m train.evaluate --workdir=runs/tok
python -m train.evaluate --workdir=runs/dit --num=1000 --guidance='(1.0, 1.5, 2.0)'

Writes WORKDIR/evaluation.json and prints it. A generator, and a tokenizer of labelled
sound, is judged by a classifier that is trained here, on real training signals only, or
by the one in --judge=DIR (see train.classifier), so that several runs have the same.
"""

import json
from pathlib import Path

from train.config import Experiment, StageTwo
from train.config.command import parse
from train.errors import BadInput, run
from train.evaluation.scores import evaluate_generator, evaluate_tokenizer
from train.objectives.bundles import open_bundle
from train.runtime import hosts
from train.runtime.files import write
from vqdit.diffusion import Solver
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator

FLAGS = {
    "num": int,
    "guidance": tuple[float, ...],
    "steps": int,
    "shift": float,
    "interval": tuple[float, float],
    "solver": Solver,
    "seed": int,
    "judge": str,
    "judge_steps": int,
    "most": int,
}


def main(argv=None):
    command = parse(argv, Experiment, flags=FLAGS, processes=True)
    hosts.start(command.processes)
    if command.workdir is None:
        raise BadInput("write --workdir=DIR, that of a finished run")
    thing = open_bundle(command.workdir, (Codec, Generator), "--workdir")
    experiment, flags = command.experiment, dict(command.flags)
    features = getattr(experiment, "losses", None) and experiment.losses.features
    if (
        features
        and "judge" in flags
        and Path(features).resolve() == Path(flags["judge"]).resolve()
    ):
        raise BadInput(
            f"--judge={flags['judge']}: the tokenizer was trained to please it; write "
            f"another, or drop it"
        )
    own = {"most"} if isinstance(thing, Codec) else FLAGS.keys() - {"most"}
    if isinstance(thing, Codec) and experiment.data.front is not None:
        own |= {"judge", "judge_steps"}
    for name in flags.keys() - own:
        kind = "tokenizer" if isinstance(thing, Codec) else "generator"
        raise BadInput(f"--{name.replace('_', '-')} says nothing of a {kind}; drop it")
    if {"judge", "judge_steps"} <= flags.keys():
        raise BadInput("--judge-steps is of a judge trained here; drop it, or --judge")
    if isinstance(thing, Codec):
        figures = evaluate_tokenizer(thing, experiment, flags)
    elif isinstance(experiment, StageTwo):
        figures = evaluate_generator(thing, experiment, flags)
    else:
        raise BadInput(f"{command.workdir}: config.json is not a generator's")
    figures = {"experiment": experiment.name} | figures
    if hosts.first():
        write(command.workdir / "evaluation.json", figures)
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run(main)
