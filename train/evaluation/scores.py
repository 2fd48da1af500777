"""What a trained tokenizer or generator scores on its own experiment."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax

from train.errors import BadInput, blame
from train.evaluation.evaluator import (
    FeatureNetwork,
    Several,
    evaluated,
    reconstructions,
)
from train.evaluation.measured import DRAWN_BY, solvers_of
from train.evaluation.reconstruction.kinds import measures_of
from train.evaluation.samples import Reference, References, compared, curve, prefixed
from train.evaluation.texts import TextReference
from train.modalities import Modality
from train.pipeline import open_examples
from train.runtime import hosts
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
    `measures`; see `train.evaluation.reconstruction.kinds`.

    most:     of a larger set, so many examples, evenly spaced.
    baseline: beside k-means at equal bits, where the kind has it.
    judge:    of labelled sound: it hears classes.
    """
    with hosts.together():
        score = measures_of(codec, data, most, baseline, judge)
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
    sampler, classes = dict[str, Any](DRAWN_BY) | sampler, generator.module.classes
    if guidance is None:  # one of 1 alone where "none" was never trained
        guidance = (1.0,) if classes in generator.untrained else SCALES
    with blame():
        how = (guidance, num, seed)
        # Of what is compared with nothing, beside crossings, none is drawn.
        rows = curve(generator, references, *how, **sampler) if references else []
    want: Iterable[str] = sampler.get("want") or generator.streams
    drawn = dict.fromkeys([*want, *sampler.get("before", ())])
    solvers = solvers_of(generator, drawn, sampler["solver"])
    said = sampler | {"solver": solvers}
    real: dict[str, Any] = {}
    for prefix, reference in prefixed(references, generator).items():
        real |= reference.figures(num, prefix)
    return {
        "protocol": {
            "samples": num,
            "labels": "balanced" if classes else "none",
            "seed": seed,
            "sampler": {name: str(value) for name, value in said.items()},
            "backend": jax.default_backend(),
            "dtype": generator.module.dtype,
        },
        "real": real,
        "curve": rows,
    }


def tokenizer_figures(codec: Codec, data: Modality) -> list[str]:
    """The figures of `evaluate_tokenizer` that are one number and not known before."""
    each = Several(measures_of(codec, data, baseline=False).evaluators)
    found = each.finish(each.start())
    return [name for name, x in found.items() if not isinstance(x, list | dict)]


def references_of(
    generator: Generator,
    data: Mapping[str, Modality],
    network: Callable[[str, Modality, Codec], FeatureNetwork],
    copies: bool = True,
    names: Collection[str] | None = None,
) -> References:
    """Stream -> what its samples are compared with, of signals, texts and labels.

    network: what signals of a stream of this name are compared in. copies: of
    `Reference`. names: of the streams that are drawn, else all.
    """
    drawn = [n for n in compared(generator) if names is None or n in names]
    values = generator.values
    sources = {name: values[name].source for name in drawn if name in values}
    balanced = bool(generator.module.classes)  # see `scored`
    labelled = balanced or "label" in sources.values()
    found: dict[str, Any] = {}
    for name in drawn:
        if name in sources:
            found[name] = TextReference(data[name], sources[name], copies)
        else:
            seen_by = network(name, data[name], generator.codecs[name])
            how = labelled, copies, balanced
            found[name] = Reference(seen_by, data[name], *how)
    if not generator.tokenizers:
        raise BadInput("none of its streams has a tokenizer; its samples are no signal")
    return found
