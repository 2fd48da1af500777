"""A crossing in a report: some examples, and those where it fails."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.evaluation.crossings.questions import Crossing, Crossings
from train.modalities.shown import class_words
from train.pipeline import open_examples
from train.report import run_pages
from train.report.pages import table
from train.report.run_pages import Section, seen

SHOWN = 12  # examples of each kind


def sections_of(
    of: Crossings, crossing: Crossing, key, draw, num, scale
) -> list[Section]:
    """Some examples, and the worst of all."""
    answer, parts = of.answers[crossing.want], []
    every: list[Any] = answer.evaluators(exact=of.exact(crossing))
    # Of which each example has a value; what is explained is of all together.
    evaluators = [each for each in every if each.name != "explained"]
    errors = bool(evaluators) and "rmse" in evaluators[0].name
    batches = of.batches(crossing, num, crossing.name)
    for batch in of.said(crossing, batches, key, draw):
        part = {n: of.answers[n].truth(batch) for n in crossing.given}
        part |= {n: batch[n] for n in ("said", "truth", "label")}
        worth = np.zeros(len(batch["there"]))
        if evaluators:
            worth = np.asarray(evaluators[0].values(batch), np.float64)
            worth = worth.reshape(len(worth), -1)[:, 0]
        worth = -worth if errors else worth
        rows = np.flatnonzero(batch["there"])
        parts.append(_rows(part | {"worth": worth}, rows))
    joined = {n: [x for part in parts for x in part[n]] for n in parts[0]}
    title = f"{' and '.join(crossing.given)} → {crossing.want}"
    guided = "" if scale is None else f", guidance {scale:g}"
    first = np.arange(min(SHOWN, len(joined["said"])))
    sections = [_section(of, crossing, f"{title}{guided}", _rows(joined, first))]
    worth = np.nan_to_num(np.array(joined["worth"]), nan=np.inf)
    order = np.argsort(worth, kind="stable")
    # A share of 1 is right, an error of 0; decibels have no end that is.
    right = 0 if errors else 1
    endless = answer.read is None and not answer.source
    wrong = [i for i in order if worth[i] < right or endless][:SHOWN]
    if evaluators and wrong:
        name = evaluators[0].name
        figure = f"{title}: where it fails, by {name}, the worst of {len(worth)}"
        sections.append(_section(of, crossing, figure, _rows(joined, wrong)))
    return sections


def _rows(
    columns: Mapping[str, Any], rows: Sequence[int] | np.ndarray
) -> dict[str, Any]:
    return {name: [x[i] for i in rows] for name, x in columns.items()}


def _section(of: Crossings, crossing, title: str, found: Mapping[str, Any]) -> Section:
    """Signals as sheets, with the words that belong to them above each."""
    answers, want = of.answers, crossing.want
    given = [n for n in crossing.given if answers[n].source]
    names = [
        ", ".join(answers[n].word(found[n][i]) for n in given)
        for i in range(len(found["said"]))
    ]
    shown = []
    if answers[want].source:
        said, true = (
            [answers[want].word(x) for x in found[n]] for n in ("said", "truth")
        )
        both = zip(said, true, strict=True)
        mine = [a if a == b else f"{a} (true: {b})" for a, b in both]
        names = [" → ".join(filter(None, x)) for x in zip(names, mine, strict=True)]
    elif (reader := answers[want].read) is not None:
        read = reader(np.stack(found["said"]))
        classes = open_examples(answers[want].data, True).class_names
        told = lambda y: class_words([y], classes)[0]
        for i, (mine, true) in enumerate(zip(read, found["label"], strict=True)):
            wrong = "" if mine == true else f"reads {told(mine)}"
            names[i] = ", ".join(filter(None, (names[i] or told(true), wrong)))
    contract = lambda name: answers[name].tokenizer.contract
    for name in crossing.given:
        if answers[name].source:
            continue
        x = np.stack(found[name])
        pixels = x.dtype == np.uint8 and answers[want].source == "boxes"
        if pixels and np.ndim(found["said"][0]) == x.ndim - 2:
            x = run_pages.outlined(x, *map(np.stack, (found["truth"], found["said"])))
            shown += seen(f"{name} with {want}, true and drawn", contract(name), x)
        else:
            shown += seen(f"given {name}", contract(name), x, names)
    if not answers[want].source:
        for role, entry in (("drawn", "said"), ("true", "truth")):
            if role == "drawn" or of.exact(crossing):
                x = np.stack(found[entry])
                shown += seen(f"{role} {want}", contract(want), x, names)
    text = ""
    if not shown:
        text = table(("",), [(name,) for name in names])
    return Section(title, text, shown)
