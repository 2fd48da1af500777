"""Crossings: held-out examples of what is given, and what is drawn from it."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import log_softmax

from train.errors import BadInput
from train.evaluation.crossings.answers import Answer
from train.evaluation.drawing import BATCH, presented, restored, several
from train.evaluation.evaluator import affordable, in_turn
from train.evaluation.means import Values
from train.modalities import Batch, Modality
from train.pipeline import JointExamples, having, open_examples, spaced
from vqdit.shapes import Int
from vqdit.trained.generator import Generator


class Crossing(NamedTuple):
    """One stream that is drawn, and those that are given."""

    given: tuple[str, ...]
    want: str

    @property
    def name(self) -> str:
        return f"{'+'.join(self.given)}_to_{self.want}"


def asked(streams: Sequence[str], names: bool | Sequence[str]) -> list[Crossing]:
    """Those of these names; of True every stream from each other one, and from all
    others together. Raises BadInput for what is none."""
    every: dict[str, Crossing] = {}
    for want in streams:
        others = tuple(name for name in streams if name != want)
        for given in (*((name,) for name in others), others):
            if given:
                every.setdefault(Crossing(given, want).name, Crossing(given, want))
    if not every:
        raise BadInput("--crossings are of a generator of several streams; drop it")
    if isinstance(names, bool):
        return [*every.values()] if names else []
    found = []
    for name in names:
        for want in streams:
            given = tuple(name.removesuffix(f"_to_{want}").split("+"))
            known = set(given) <= set(streams) - {want} and len({*given}) == len(given)
            if name.endswith(f"_to_{want}") and known:
                found.append(Crossing(given, want))
                break
        else:
            raise BadInput(
                f"--crossings={name}: write such as {next(iter(every))}, or "
                f"a+b_to_c, of the streams {', '.join(streams)}"
            )
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Crossings:
    """Measures crossings of a generator on the held-out part of its data.

    join:  as the data of its streams were joined in training.
    among: a regular expression of names; of streams that have such, examples of which
        one is like it. "": all.
    draws: of each example, of which `Answer.agreed` makes one answer.
    score_draws: of time and noise, under which each class is scored.
    """

    generator: Generator
    data: Mapping[str, Modality]
    answers: Mapping[str, Answer]
    join: Literal["index", "key", "class"] = "index"
    among: str = ""
    draws: int = 1
    score_draws: int = 8

    def joint(self, crossing: Crossing, train: bool = False) -> JointExamples:
        """Examples of its streams alone. Joined by class those of which there are the
        fewest each come once, since what is drawn twice says nothing new."""
        count = lambda name: len(open_examples(self.data[name], train))
        names = [*sorted(crossing.given, key=count), crossing.want]
        of = lambda table: {n: table[n] for n in names if n in table}
        return JointExamples(of(self.data), of(self.generator.values), train, self.join)

    def exact(self, crossing: Crossing) -> bool:
        """Whether what is given has one truth, and not any of its class."""
        own = self.data[crossing.want]
        return self.join != "class" or own in [self.data[n] for n in crossing.given]

    def batches(self, crossing: Crossing, num: int, doing: str) -> Iterator[Batch]:
        """Held-out examples, evenly spaced, as many in each batch: "streams", "known",
        what the wanted one is in "truth" and "label", and "there", whether they have
        all; "index" in the data and "rank" among `num`."""
        joint, answer = self.joint(crossing), self.answers[crossing.want]
        every = joint.like(self.among) if self.among else np.arange(len(joint))
        index = every[spaced(len(every), num)]
        values = sum(math.prod(data.shape) for data in joint.data.values())

        def take(ranks: np.ndarray) -> Batch:
            batch = joint.take(index[ranks]) | {"rank": ranks, "index": index[ranks]}
            batch["label"] = joint.labels(index[ranks], crossing.want)
            batch["there"] = having(batch, (*crossing.given, crossing.want))
            return batch | {"truth": answer.truth(batch)}

        size = min(BATCH, affordable(values))
        for batch in in_turn(take, len(index), size, 0, doing):
            yield batch | {"there": batch["there"] & batch["valid"]}

    def said(self, crossing: Crossing, batches, key, draw) -> Iterator[Batch]:
        """The same with what a sampler draws of the wanted stream, "said"."""
        codec, want = self.generator.codecs.get(crossing.want), crossing.want
        keys = several(key, self.draws)
        for batch in batches:
            given = self._given(crossing, batch)
            found = (draw(each, batch["index"], **given)[want] for each in keys)
            said = [restored(codec, x, raw=False) for x in found]
            yield batch | {"said": self.answers[want].agreed(said)}

    def _given(self, crossing: Crossing, batch: Batch) -> dict[str, Any]:
        given, known = presented(self.generator, batch, crossing.given)
        # An example without the whole of a stream does not count.
        return {"given": given, "known": {n: x for n, x in known.items() if x.ndim > 1}}

    def likeliest(
        self, crossing: Crossing, key, classes: Int[np.ndarray, "y *grid 1"]
    ) -> Values:
        """Scores of a batch, the logarithm of the posterior of each class, given as the
        codes that say it, by the bounds of these."""
        want = crossing.want
        scorer = self.generator.scorer(want, self.score_draws)

        def scores(batch: Batch) -> np.ndarray:
            call, found = self._given(crossing, batch), []
            for said in classes:
                codes = np.broadcast_to(said, batch["streams"][want].shape)
                score = scorer(key, batch["index"], {want: codes}, **call)
                found.append(-np.asarray(score.nats))
            return log_softmax(np.stack(found, 1), 1)

        return scores
