"""What a trained tokenizer or generator scores on its own experiment."""

import math

import jax

from train.config import Experiment, StageTwo
from train.errors import BadInput
from train.evaluation.audio import score_audio
from train.evaluation.baselines import SAMPLE
from train.evaluation.judge import train_judge
from train.evaluation.samples import Reference, curve, score_tokenizer
from train.evaluation.signals import (
    score_any,
    score_range,
    score_series,
    score_video,
    score_volume,
)
from train.modalities import Modality
from train.objectives.bundles import open_judge
from train.pipeline import whole
from vqdit.trained.codec import Codec


def evaluate_generator(generator, experiment: StageTwo, flags: dict) -> dict:
    """Accuracy, Fréchet distance and memorisation over guidance scales."""
    data, classes = experiment.data, generator.module.classes
    if not classes or not data.judged or data.front is not None:
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
    in the flags leaves that out. Audio: see `train.evaluation.audio.score_audio`;
    series, volumes and video: see `train.evaluation.signals`; others: `score_any`.
    """
    data = experiment.data
    return SCORES.get(data.kind, score_any)(codec, data, flags)


def score_images(codec: Codec, data: Modality, flags: dict) -> dict:
    """See `score_tokenizer`."""
    most, train = flags.get("most"), None
    if flags.get("baseline", True):
        # The k-means baseline reads no more than its own sample of patches.
        enough = -(-SAMPLE // math.prod(codec.contract.grid))
        count = min(most or enough, enough)
        train = whole(data, train=True, count=count)["image"]
    heldout = whole(data, train=False, count=most)["image"]
    return score_tokenizer(codec, train, heldout)[0]


SCORES = {
    "image": score_images,
    "audio": score_audio,
    "range": score_range,
    "series": score_series,
    "volume": score_volume,
    "video": score_video,
}
