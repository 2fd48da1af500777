"""What a trained tokenizer or generator scores on its own experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from train.errors import BadInput
from train.evaluation.evaluator import (
    Several,
    evaluated,
    reconstructions,
)
from train.evaluation.features import network_of
from train.evaluation.measures import Measures
from train.evaluation.samples import Reference, References, curve
from train.evaluation.texts import TextReference
from train.modalities import Modality
from train.pipeline import open_examples
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge

SCALES = (1.0, 1.5, 2.0, 3.0)  # of guidance


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
    references: References,
    num: int = 1000,
    guidance: Sequence[float] | None = None,
    seed: int = 0,
    **sampler: Any,
) -> dict[str, Any]:
    """Figures of `num` samples, of each guidance scale where there are classes, beside
    those of real signals; see `train.evaluation.samples`. sampler: of
    `Generator.sampler`."""
    # Defaults are spelled out: the protocol has to say what was done.
    defaults = {"steps": 50, "shift": 1.0, "interval": (0.0, 1.0), "solver": None}
    sampler, classes = defaults | sampler, generator.module.classes
    if guidance is None:  # one of 1 alone where "none" was never trained
        guidance = (1.0,) if classes in generator.untrained else SCALES
    prefix = "{}_" if len(references) > 1 else ""
    try:
        rows = curve(generator, references, guidance, num, seed, **sampler)
    except ValueError as error:
        raise BadInput(str(error)) from error
    real: dict[str, Any] = {}
    for name, reference in references.items():
        real |= reference.figures(num, prefix.format(name))
    return {
        "protocol": {
            "samples": num,
            "labels": "balanced" if classes else "none",
            "seed": seed,
            "sampler": {name: str(value) for name, value in sampler.items()},
            "backend": jax.default_backend(),
            "dtype": generator.module.dtype,
        },
        "real": real,
        "curve": rows,
    }


def references_of(
    generator: Generator,
    data: Mapping[str, Modality],
    judge: str | None = None,
    steps: int | None = None,
) -> References:
    """Stream -> what its samples are compared with, of all that have a tokenizer.

    judge: folder of what every signal is compared in. steps: of one that is trained
    here. See `network_of`.
    """
    sources = [each.source for each in generator.values.values()]
    labelled = bool(generator.module.classes) or "label" in sources
    found: dict[str, Any] = {}
    for name, codec in generator.codecs.items():
        network = network_of(data[name], codec, judge, steps)
        found[name] = Reference.of(network, data[name], labelled)
    for name, value in generator.values.items():
        found[name] = TextReference.of(data[name], value.source)
    if not found:
        raise BadInput("none of its streams has a tokenizer; its samples are no signal")
    return found
