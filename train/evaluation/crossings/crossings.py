"""Whether what is drawn of one stream says what others say that are given."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from train.errors import BadInput, blame
from train.evaluation.crossings.answers import Answer, Reader
from train.evaluation.crossings.detectors import STEPS, Detectors
from train.evaluation.crossings.questions import Crossing, Crossings, asked
from train.evaluation.crossings.retrieval import Nearest
from train.evaluation.crossings.rivals import Rivals
from train.evaluation.drawing import BATCH, drawn
from train.evaluation.estimates import Posterior, Proportion
from train.evaluation.evaluator import Evaluator, Several, evaluated
from train.evaluation.features import Latents
from train.evaluation.samples import Reference, References
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from train.runtime import hosts
from train.runtime.keys import key_of
from vqdit.trained.generator import Generator
from vqdit.trained.sampler import Sampler


def answers_of(
    generator: Generator, data: Mapping[str, Modality], references: References
) -> dict[str, Answer]:
    """Stream -> how it is told whether one that was drawn is right, of those that have
    a tokenizer. Its class is told by the judge of a signal, by a label itself, or by a
    text that is a class's word or name."""
    found = {}
    for name, tokenizer in generator.tokenizers.items():
        reference = references.get(name)
        read: Reader | None = None
        words: tuple[str, ...] = ()
        if isinstance(reference, Reference):
            if not isinstance(reference.network, Latents):
                judge: Any = reference.network  # as all are that are no latents
                read = judge.predict
        elif tokenizer.source == "label":
            read = lambda said: np.asarray(said, int)
        elif tokenizer.source == "caption":
            words = _words(data[name])
            read = functools.partial(_numbers, words) if words else None
        found[name] = Answer(name, data[name], tokenizer, read, words)
    return found


def _numbers(words: Sequence[str], said: Sequence[str | None]) -> np.ndarray:
    """The class of each word, -1 of what is none."""
    number: dict[str | None, int] = {word: i for i, word in enumerate(words)}
    return np.array([number.get(x, -1) for x in said])


def _words(data: Modality) -> tuple[str, ...]:
    """Of the classes; () where no training example is captioned by its class."""
    examples = open_examples(data, True)
    words = tuple(data.words or examples.class_names)
    some = examples.take(examples.spaced(BATCH))
    said: Any = some.get("caption", [None] * BATCH)
    same = _numbers(words, said) == some["label"]
    return words if (same & (some["label"] >= 0)).any() else ()


@dataclasses.dataclass(frozen=True, eq=False)
class Beside(Evaluator):
    """Figures of several answers to the same examples, by who gave them, and of how
    many "examples"."""

    parts: Mapping[str, Evaluator]

    def start(self):
        sums = {name: part.start() for name, part in self.parts.items()}
        return sums | {"examples": np.zeros((), np.int64)}

    def sums(self, batch):
        sums = {name: part.sums(batch) for name, part in self.parts.items()}
        return sums | {"examples": batch["there"].sum()}

    def finish(self, sums):
        found = {name: part.finish(sums[name]) for name, part in self.parts.items()}
        return {"examples": int(sums["examples"])} | found


def crossings(
    generator: Generator,
    data: Mapping[str, Modality],
    references: References,
    names: bool | Sequence[str] = True,
    scales: Sequence[float | None] = (None,),
    join: Literal["index", "key", "class"] = "index",
    baselines: bool = False,
    baseline_steps: int | None = None,
    among: str = "",
    draws: int = 1,
    score_draws: int = 8,
    num: int = 1000,
    seed: int = 0,
    **sampler: Any,
) -> dict[str, dict[str, Any]]:
    """How right what is drawn of a stream is from others, on at most `num` held-out
    examples: crossing, such as "a+b_to_c" -> who -> figures, each with the interval it
    lies in; see `train.evaluation.crossings.answers`.

    model, or guidance_1.5 of each scale by what is given: one draw of each example, or
        what several `draws` agree on.
    likeliest: of a stream of labels, or of words that say a class, that under which
        the bound is the least.
    real: of the true ones, read as those that are drawn, which these cannot beat.
    mean: the usual answer of the training part, whatever is given.
    pca, cnn: with `baselines`, of classes and boxes; see `Rivals` and `Detectors`;
        with the "budget", from what they learned and for how long.
    nearest: with these, where examples have one truth: that of the nearest training
        example; see `Nearest`.
    The crossing "agree" is of `num` draws of all streams: the share in which all that
    have a class say the same one; guided where some are drawn `before` others.

    baseline_steps: for which networks of these are trained, each anew; else classifiers
        as long as judges, and those of `references` where they know the task.
    names: of `asked`. among, draws, score_draws: of `Crossings`. sampler: of
    `Generator.sampler`.
    Raises BadInput for what it refuses, and where nothing of a stream can be told.
    """
    wanted = asked([*generator.streams], names)
    with hosts.together():
        answers = answers_of(generator, data, references)
        of = Crossings(generator, data, answers, join, among, draws, score_draws)
        judges, key = {} if baseline_steps else _judges(of, references), key_of(seed)
    learning = judges, baseline_steps
    found: dict[str, dict[str, Any]] = {}
    samplers = samplers_of(generator, wanted, scales, sampler)
    with blame():
        for crossing in wanted:
            answer = of.answers.get(crossing.want)
            exact = of.exact(crossing)
            with hosts.together():
                if answer is None or not answer.evaluators(exact=exact):
                    continue
                how = (crossing, exact, baselines, learning, num, key)
                parts, more, budgets = _beside(of, *how)
            for scale in scales:
                who = _who(scale)
                mine = {who: Several(answer.evaluators(exact=exact))}
                batches = of.batches(crossing, num, f"{crossing.name}, {who}")
                said = of.said(crossing, batches, key, samplers[crossing, scale])
                batches = (batch | more(batch) for batch in said)
                figures = evaluated(Beside(mine | parts), batches)
                for name in figures.keys() & budgets.keys():
                    figures[name] |= {"budget": budgets[name]}
                found[crossing.name] = found.get(crossing.name, {}) | figures
                parts, more = {}, lambda batch: {}  # once, whatever the scale
        if not found:
            streams = ", ".join(generator.streams)
            raise BadInput(f"nothing can be told of what is drawn of {streams}")
        read = {n: each.read for n, each in of.answers.items() if each.read is not None}
        if len(read) > 1 and names is True:
            # What is drawn together is guided by what is drawn before it alone.
            for scale in scales if sampler.get("before") else (None,):
                draw = generator.sampler(
                    guidance=scale, **without_interval(sampler, scale)
                )
                part = {_who(scale): Proportion("share", lambda batch: batch["same"])}
                batches = _together(generator, draw, key, num, read)
                agree = evaluated(Beside(part), batches)
                found["agree"] = found.get("agree", {}) | agree
    return found


def samplers_of(
    generator: Generator,
    wanted: Sequence[Crossing],
    scales: Sequence[float | None],
    sampler: Mapping[str, Any],
) -> dict[tuple[Crossing, float | None], Sampler]:
    """What draws each crossing at each scale; raises BadInput where nothing can."""
    with blame():
        return {
            (crossing, scale): generator.sampler(
                want=crossing.want,
                guidance=scale,
                **own(sampler, crossing.want, crossing.given),
            )
            for crossing in wanted
            for scale in scales
        }


def own(
    sampler: Mapping[str, Any], want: str | tuple[str, ...], given: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a sampler of all streams that are of some of them, drawn from
    others that are given, and from what is drawn before them."""
    want = (want,) if isinstance(want, str) else want
    before = sampler.get("before", ())
    before = (before,) if isinstance(before, str) else before
    before = tuple(name for name in before if name not in {*want, *given})
    drawn = {*want, *before}

    def some(x):
        return {n: x[n] for n in x if n in drawn} if isinstance(x, Mapping) else x

    return {name: some(x) for name, x in sampler.items()} | {"before": before}


def without_interval(sampler: Mapping[str, Any], scale: float | None) -> dict[str, Any]:
    """Its fields, without the interval of a scale that there is not."""
    return {n: x for n, x in sampler.items() if n != "interval" or scale is not None}


def _who(scale: float | None) -> str:
    return "model" if scale is None else f"guidance_{scale:g}"


def _judges(of: Crossings, references: References) -> dict[tuple[str, str], Any]:
    """(stream, wanted one) -> the judge that tells the class that the two share."""
    found, named = {}, lambda data: open_examples(data, True).class_names
    for name, reference in references.items():
        if not isinstance(reference, Reference) or reference.prefix:
            continue
        own = of.data[name]
        for want, answer in of.answers.items():
            classed = of.join == "class" and named(own) == named(answer.data)
            if classed or answer.data == own:
                found[name, want] = reference.network
    return found


def _beside(of: Crossings, crossing, exact, baselines, learning, num, key) -> tuple:
    """(parts of a Beside that need no draw, what makes the entries of a batch that they
    read, budgets of those that have learned); learning: judges and steps of
    `Rivals`."""
    judges, steps = learning
    answer, entries, budgets = of.answers[crossing.want], {}, {}
    parts: dict[str, Any] = {"real": Several(answer.evaluators("truth", exact=False))}
    if exact and answer.usual is not None:
        usual = answer.usual
        entries["usual"] = lambda batch: _repeated(usual, len(batch["there"]))
        parts["mean"] = Several(answer.evaluators("usual"))
    if exact and baselines:
        near = Nearest(of.joint(crossing, True), crossing.given)
        entries["near"] = lambda batch: _nearest(near, crossing, answer, batch)
        parts["nearest"] = Several(answer.evaluators("near"))
    values = of.generator.values
    books = {n: values[n].code_count for n in crossing.given if n in values}
    if exact and baselines and answer.source == "boxes":
        boxes = answer.tokenizer
        given, want = crossing
        task = of.joint(crossing, True), given, want, boxes, books
        detectors = Detectors(*task, steps or STEPS)
        for who, rival in detectors.fit().items():
            entries[who], budgets[who] = rival
            parts[who] = Several(answer.evaluators(who))
    classes = open_examples(answer.data, True).classes
    if answer.read is not None and answer.source:
        scored = {}
        if answer.classes is not None:
            scored["likeliest"] = of.likeliest(crossing, key, answer.classes)
        if baselines:
            rivals = Rivals(
                *(of.joint(crossing, True), crossing.given, crossing.want, classes),
                *(books, judges, steps),
            )
            for who, rival in rivals.fit().items():
                scored[who], budgets[who] = rival
        for who in scored:
            entry = lambda batch, who=who: batch[who]
            parts[who] = Posterior(entry, classes, num)
        entries |= scored
    parts = {who: part for who, part in parts.items() if part != Several([])}
    more = lambda batch: {name: each(batch) for name, each in entries.items()}
    return parts, more, budgets


def _nearest(near: Nearest, crossing, answer: Answer, batch: Batch) -> Any:
    """What the training example has that is nearest by what is given."""
    at = near.places(batch["streams"], crossing.given)
    want = crossing.want
    return answer.truth({"streams": {want: near.streams[want][at]}})


def _repeated(one: Any, count: int) -> Any:
    return np.stack([one] * count) if isinstance(one, np.ndarray) else [one] * count


def _together(generator, draw, key, num, read: Mapping[str, Reader]) -> Iterator[Batch]:
    """Whether draws of all streams are of the "same" class."""
    for rows, x in drawn(generator, draw, key, np.arange(num), None, raw=False):
        if len(rows):
            said = np.stack([read[name](x[name]) for name in read])
            same = (said == said[0]).all(0) & (said[0] >= 0)
            yield {"same": same, "there": np.ones_like(same)}
