"""Tables of bounds on -log p: a column of what is found, a row of each example."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from train.errors import BadInput
from train.evaluation.drawing import first_shown, presented
from train.evaluation.evaluator import reconstruct
from train.modalities import Batch
from train.pipeline import JointExamples, having
from train.progress import progress
from train.runtime.keys import key_of
from vqdit.diffusion.process import against
from vqdit.shapes import Float, Int
from vqdit.trained.generator import Generator
from vqdit.trained.scorer import Score, Scorer

BATCH = 64  # scored at once
BoundTable = dict[str, Any]  # name of a column -> one entry of each example
Batches = Iterator[tuple[np.ndarray, int, Batch]]


@dataclasses.dataclass(frozen=True, eq=False)
class Bounds:
    """What batches of `JointExamples` are scored by.

    given:    streams that are given.
    shown:    scored stream -> so many of its first places, which are given, too.
    labelled: whether a model with classes is given the label of the example.
    seed:     of times and noise. alike: all examples have the same ones, so that none
        is told from another by their luck.
    """

    generator: Generator
    scorer: Scorer
    given: tuple[str, ...] = ()
    shown: Mapping[str, int] = dataclasses.field(default_factory=dict)
    labelled: bool = True
    seed: int = 0
    alike: bool = False

    def arguments(self, batch: Batch) -> dict[str, Any]:
        """What the scorer is called with, of a batch."""
        of = self.scorer.of
        streams, known = presented(self.generator, batch, (*of, *self.given))
        label, classes = None, self.generator.module.classes
        if classes and self.labelled:  # one that there is not is none
            label = np.where(batch["label"] < 0, classes, batch["label"])
        x = {name: streams.pop(name) for name in of}
        shown = first_shown(self.generator, self.shown, len(batch["label"]))
        given = {"given": streams, "known": known, "label": label, "shown": shown}
        return {"x": x} | given

    def score(self, ids: Int[np.ndarray, "b"], **arguments: Any) -> Score:
        """The scores, by what `arguments` has made of a batch."""
        ids = np.zeros_like(ids) if self.alike else ids
        return self.scorer(key_of(self.seed), ids, **arguments)

    def nats(
        self, ids: Int[np.ndarray, "b"], batch: Batch, given: tuple[str, ...]
    ) -> Float[np.ndarray, "b"]:
        """The bounds of a batch under the same times and noise, with these given."""
        asked = dataclasses.replace(self, given=given)
        return np.asarray(asked.score(ids, **asked.arguments(batch)).nats)


def batches_of(data: JointExamples, rows: Int[np.ndarray, "n"]) -> Batches:
    """(rows, how many of them are new, their examples), as many in each batch."""
    size = min(BATCH, len(rows))
    for start in progress(range(0, len(rows), size), "scoring", unit="batch"):
        at = np.minimum(np.arange(start, start + size), len(rows) - 1)
        yield rows[at], min(size, len(rows) - start), data.take(rows[at])


def bounds_of(
    bounds: Bounds,
    batches: Batches,
    classify: str | None = None,
    values: Iterable[int] = (),
    anomalies: bool = False,
    without: bool = False,
) -> BoundTable:
    """ "example", "label", and the fields of a Score, of the examples that have
    something of all that is scored and given: of nothing the bound is 0. Raises
    BadInput where none has.

    classify: "label" or a stream of labels, each of whose `values` is tried: the fields
        are those of the best, "likeliest", beside "nats_" of each.
    anomalies: adds what tells these: "alone", where anything is given and nothing is
        tried, the nats with nothing given; "lost", of one whole signal, what its
        tokenizer loses of it, the mean squared error of values in [-1, 1], and
        "values", of how many.
    without: adds, where nothing is tried, "without_" each that is given: the nats
        with the others alone.
    """
    parts, names = [], (*bounds.scorer.of, *bounds.given)
    for rows, mine, batch in batches:
        columns = {"example": rows, "label": batch["label"]}
        arguments = bounds.arguments(batch)
        columns |= _scored(bounds, rows, arguments, classify, tuple(values))
        asked: dict[str, tuple[str, ...]] = {}  # column -> what is given
        if anomalies and bounds.given and classify is None:
            asked["alone"] = ()
        for name in bounds.given if without and classify is None else ():
            asked[f"without_{name}"] = tuple(n for n in bounds.given if n != name)
        sets = dict.fromkeys(asked.values())  # without one of one is alone
        nats = {given: bounds.nats(rows, batch, given) for given in sets}
        columns |= {name: nats[given] for name, given in asked.items()}
        if anomalies and not bounds.shown:
            columns |= _lost(bounds.generator, arguments["x"], batch["known"])
        there = having(batch, names) & (np.arange(len(rows)) < mine)
        parts.append({name: np.asarray(v)[there] for name, v in columns.items()})
    table = {name: np.concatenate([x[name] for x in parts]) for name in parts[0]}
    if not len(table["example"]):
        raise BadInput(f"none of the examples has something of {', '.join(names)}")
    return table


def _scored(bounds, rows, arguments, classify, values) -> BoundTable:
    """The columns of a batch: its scores, or the best of those under every value."""
    ask = functools.partial(bounds.score, rows)
    if classify is None:
        return ask(**arguments)._asdict()
    tried = []
    for value in values:
        each = np.full(len(rows), value, np.int32)
        more = {"label": each}
        if classify != "label":
            more = {"given": arguments["given"] | {classify: each}}
        tried.append(ask(**arguments | more))
    nats = np.stack([score.nats for score in tried], axis=1)
    best = nats.argmin(1)
    columns = {
        name: np.stack(column, 1)[np.arange(len(best)), best]
        for name, column in zip(Score._fields, zip(*tried, strict=True), strict=True)
    }
    columns["likeliest"] = np.asarray(values)[best]
    return columns | {f"nats_{v}": nats[:, i] for i, v in enumerate(values)}


def _lost(generator, x, known) -> BoundTable:
    """The columns of what is lost of the scored signal, where it is known; none of
    several, or of what is no signal."""
    (name, signal), *more = x.items()
    if more or name not in generator.codecs:
        return {}
    back, _ = reconstruct(generator.codecs[name], np.asarray(signal))
    error = np.square(back - signal)
    there = against(known.get(name, np.ones(len(error))), error)
    weight, over = np.broadcast_to(there, error.shape), tuple(range(1, error.ndim))
    lost = (error * weight).sum(over)
    # Of what is not there nothing can be lost.
    count = weight.sum(over)
    mean = np.where(count > 0, lost / np.maximum(count, 1), np.nan)
    return {"lost": mean, "values": count}


def clues(table: BoundTable, usual: np.ndarray) -> dict[str, Float[np.ndarray, "n"]]:
    """What an anomaly is told by -> how much there is of it, of each example.

    its distance: from the median of the `usual` ones; what is likelier than usual may
        be an anomaly, too (typicality, arXiv:1906.02994).
    what is given: how much less likely it makes the example than the example is alone.
        How complex an example is cancels out (likelihood ratio, arXiv:1906.02845), so
        that a sensor that lies is told which the others contradict.
    the whole signal: the score of the latents, and the nats of what their tokenizer
        loses, were that Gaussian noise of the variance that `usual` ones have of it
        (the best one of a decoder, arXiv:2006.13202). Of codes a bound on -log p of the
        signal; of latents a score alone, since they are no draws of a posterior.
    """
    nats = np.asarray(table["nats"], float)
    found = {"the score": nats, "its distance": abs(nats - np.median(nats[usual]))}
    if "alone" in table:
        found["what is given"] = nats - table["alone"]
    if "lost" in table:
        lost = found["what is lost"] = table["lost"]
        there = lost[usual & np.isfinite(lost)]
        if len(there):
            variance = there.mean()
            each = np.log(2 * np.pi * variance) + lost / variance
            found["the whole signal"] = nats + table["values"] / 2 * each
    return found


def rank_costs(
    bounds: Bounds,
    batch: Batch,
    rows: Int[np.ndarray, "k"],
    chosen: Int[np.ndarray, "n"],
) -> Float[np.ndarray, "n k"]:
    """Nats of the chosen examples of a batch, each given what every one of it has,
    under the noise of its row."""
    k, of = len(rows), bounds.scorer.of
    pairs = np.arange(len(chosen) * k)
    size, found = min(BATCH, len(pairs)), np.empty(len(pairs))
    for start in progress(range(0, len(pairs), size), "ranking", unit="batch"):
        # The last batch is filled up, so that there is one program.
        part = np.minimum(np.arange(start, start + size), len(pairs) - 1)
        own, other = chosen[pairs[part] // k], pairs[part] % k
        pair: Batch = {"label": batch["label"][own]}
        for part_of in ("streams", "known"):
            values = batch[part_of].items()
            pair[part_of] = {n: v[own if n in of else other] for n, v in values}
        found[part] = bounds.score(rows[own], **bounds.arguments(pair)).nats
    return found.reshape(len(chosen), k)
