"""What a trained tokenizer or generator scores on its own experiment."""

from collections.abc import Sequence
from typing import Any

import jax

from train.errors import BadInput
from train.evaluation.evaluator import (
    Several,
    evaluated,
    reconstructions,
)
from train.evaluation.measures import Measures
from train.evaluation.samples import Reference, curve
from train.modalities import Modality
from train.pipeline import open_examples
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge


def evaluate_tokenizer(
    codec: Codec,
    data: Modality,
    most: int | None = None,
    baseline: bool = True,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Figures on held-out examples, by the evaluators that the modality names in
    `measures`; see `train.evaluation.measures`.

    most:     of a larger set, so many examples, evenly spaced.
    baseline: beside k-means at equal bits, where the kind has it.
    judge:    of labelled sound: it hears classes.
    """
    score = Measures(codec, data, most, baseline, judge)
    batches = reconstructions(codec, data, score.most, score.beside)
    count = {"examples": len(open_examples(data, False).spaced(score.most))}
    return count | evaluated(Several(score.evaluators, score.known), batches)


def evaluate_generator(
    generator: Generator,
    data: Modality,
    judge: Judge,
    num: int = 1000,
    guidance: Sequence[float] = (1.0, 1.5, 2.0, 3.0),
    seed: int = 0,
    **sampler: Any,
) -> dict[str, Any]:
    """Accuracy, Fréchet distance and memorisation over guidance scales, of `num`
    samples each, beside those of real signals. sampler: of `Generator.sampler`."""
    # Defaults are spelled out: the protocol has to say what was done.
    defaults = {"steps": 50, "shift": 1.0, "interval": (0.0, 1.0), "solver": None}
    sampler = defaults | sampler
    try:
        reference = Reference.of(judge, data)
        rows = curve(generator, reference, guidance, num, seed, **sampler)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return {
        "protocol": {
            "samples": num,
            "labels": "balanced",
            "seed": seed,
            "sampler": {name: str(value) for name, value in sampler.items()},
            "backend": jax.default_backend(),
            "dtype": generator.module.dtype,
        },
        "real": reference.figures(num),
        "curve": rows,
    }
