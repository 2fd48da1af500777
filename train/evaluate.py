"""Scores of a trained tokenizer or generator, on held-out data.

python -m train.evaluate --workdir=runs/tok
python -m train.evaluate --workdir=runs/dit --num=1000 --guidance='(1.0, 1.5, 2.0)'

Writes WORKDIR/evaluation.json and prints it. A generator, and a tokenizer of labelled
sound, is judged by a classifier that is trained here, on real training signals only, or
by the one in --judge=DIR (see train.classifier), so that several runs have the same.
"""

import json
import math
import os
from pathlib import Path

import jax

from train.baselines import SAMPLE
from train.classifier import train_judge
from train.command import parse
from train.config import Experiment, StageTwo
from train.data import Audio, whole
from train.errors import BadInput, run
from train.opening import open_bundle, open_judge
from train.sample import FLAGS as SAMPLER_FLAGS
from train.scores import Reference, curve, score_tokenizer
from train.scores_audio import score_audio
from train.scores_signals import score_signals
from vqdit.codec import Codec
from vqdit.generator import Generator

FLAGS = {
    "num": int,
    "guidance": tuple[float, ...],
    "steps": int,
    "shift": float,
    "interval": tuple[float, float],
    "solver": SAMPLER_FLAGS["solver"],
    "seed": int,
    "judge": str,
    "judge_steps": int,
    "most": int,
}


def evaluate_generator(generator, experiment: StageTwo, flags: dict) -> dict:
    """Accuracy, Fréchet distance and memorisation over guidance scales."""
    data, classes = experiment.data, generator.module.classes
    if not classes or data.kind != "image":
        raise BadInput("only generators of labelled images can be judged here")
    train, test = whole(data, train=True), whole(data, train=False)
    if "judge" in flags:
        judge = open_judge(flags["judge"], data, classes)
    else:
        judge = train_judge(data, flags.get("judge_steps"), batch=train)
    reference = Reference(
        judge, train["image"], train["label"], test["image"], test["label"]
    )
    count = flags.get("num", 1000)
    # Defaults are spelled out: the protocol has to say what was done.
    sampler = {"steps": 50, "shift": 1.0, "interval": (0.0, 1.0), "solver": None}
    sampler |= {name: flags[name] for name in sampler if name in flags}
    scales = flags.get("guidance", (1.0, 1.5, 2.0, 3.0))
    seed = flags.get("seed", 0)
    try:
        rows, _ = curve(generator, reference, scales, count, seed, **sampler)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return {
        "protocol": {
            "samples": count,
            "labels": "balanced",
            "seed": seed,
            "sampler": {name: str(value) for name, value in sampler.items()},
            "backend": jax.default_backend(),
            "dtype": generator.module.dtype,
        },
        "real": reference.figures(count),
        "curve": rows,
    }


def evaluate_tokenizer(codec: Codec, experiment: Experiment, flags: dict) -> dict:
    """What this kind of signal is scored by, beside a baseline of equal bits.

    Images: PSNR, SSIM, usage and perplexity, and patchwise k-means; `baseline=False`
    in the flags leaves that out. Audio: see `train.scores_audio.score_audio`;
    series, volumes and video: see `train.scores_signals`.
    """
    if isinstance(experiment.data, Audio):
        return score_audio(codec, experiment.data, flags)
    if figures := score_signals(codec, experiment.data, flags):
        return figures
    most, train = flags.get("most"), None
    if flags.get("baseline", True):
        # The k-means baseline reads no more than its own sample of patches.
        enough = -(-SAMPLE // math.prod(codec.contract.grid))
        count = min(most or enough, enough)
        train = whole(experiment.data, train=True, count=count)["image"]
    heldout = whole(experiment.data, train=False, count=most)["image"]
    return score_tokenizer(codec, train, heldout)[0]


def write(path: Path, figures: dict) -> None:
    """JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(figures, indent=1) + "\n")
    partial.replace(path)


def main(argv=None):
    command = parse(argv, Experiment, flags=FLAGS)
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
    if isinstance(thing, Codec) and isinstance(experiment.data, Audio):
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
    write(command.workdir / "evaluation.json", figures)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run(main)
