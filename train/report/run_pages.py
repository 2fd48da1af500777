"""A run's report: what it is, what it scores, and what it makes, on one page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.config import Experiment, StageOne
from train.modalities.kinds import of_contract
from train.modalities.shown import Units, png
from train.report import pictures
from train.report.pages import WIDTH, number, table
from train.report.sheets import played, sheet

PLAYED = 6  # sounds and clips of each kind, since a page is to stay small
LEAST = 104  # pixels of a cell, wide enough for a few words
TO = "\u00a0to\u00a0"  # with spaces at which no cell is broken
BUDGET = "budget"  # of who was trained for a crossing alone
LEARNED = ("examples", "steps", "batch", "parameters", "seconds")
BESIDE = ("likeliest", "cnn", "pca", "nearest", "mean", "real")  # who answers, in order
TRUE, DRAWN = (42, 140, 106), (210, 105, 30)


class Section(NamedTuple):
    """A title, text as `train.report.pages` reads it, and what is shown, by caption."""

    title: str
    text: str = ""
    shown: Sequence[tuple[str, bytes]] = ()


def written(title: str, intro: str, sections: Sequence[Section]) -> tuple[str, dict]:
    """(text, pictures) for `train.report.pages.render`."""
    blocks, found = [f"# {title}", intro], {}
    for i, section in enumerate(sections):
        blocks += [f"## {section.title}", section.text]
        lines = []
        for j, (caption, content) in enumerate(section.shown):
            found[f"{i}.{j}"] = content
            lines.append(f"![{caption}]({i}.{j})")
        blocks.append("\n".join(lines))
    return "\n\n".join(filter(None, blocks)), found


def jumps_of(experiment: Experiment) -> dict[str, int]:
    """When a loss may jump, since from there on there are codes."""
    if not isinstance(experiment, StageOne) or experiment.kmeans is None:
        return {}
    waits = getattr(experiment.model.quantizer, "start", None) == "kmeans"
    brought = experiment.init is not None  # perhaps with codes
    return {"k-means": experiment.kmeans.step} if waits and not brought else {}


def training(
    rows: Sequence[Mapping[str, Any]],
    steps: int,
    moments: Mapping[str, float] | None = None,
) -> Section:
    """The curves of every loss that was logged. moments: of `line_plot`."""
    lines: dict[str, tuple[pictures.Along, pictures.Along]] = {}
    names = dict.fromkeys(n for row in rows for n in row if "loss" in n)
    for name in names:
        pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if pairs:  # of what was never a number there is no curve
            xs, ys = zip(*pairs, strict=True)
            lines[name] = xs, ys
    if not lines:
        return Section("Training", "Nothing was logged.")
    values = [value for _, y in lines.values() for value in y]
    far = 0 < 30 * min(values) < max(values)
    plot = pictures.line_plot(lines, "step", "loss", log_y=far, moments=moments)
    text = f"{rows[-1]['step']:,} of {steps:,} steps; means between the points."
    return Section("Training", text, [("losses", plot)])


def bars(found: Sequence[tuple[str, bool | None, Any, Any]]) -> Section:
    """What was to be reached, and what was; see `train.config.bars.met`."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [(bar, mine, other, words[reached]) for bar, reached, mine, other in found]
    return Section("Bars", table(("", "measured", "compared with", ""), rows))


def crossings(found: Mapping[str, Mapping[str, Any]]) -> Section:
    """A line for each figure of each crossing, a column for each who answered."""
    # Beside them may stand numbers, such as how many frames were given.
    said = [(n, x) for each in found.values() for n, x in each.items()]
    answers = [name for name, x in said if isinstance(x, Mapping)]
    first = [n for n in dict.fromkeys(answers) if n not in BESIDE]
    columns = [*first, *(name for name in BESIDE if name in answers)]
    rows = []
    for crossing, each in found.items():
        names = [n for who in columns for n in each.get(who, {})]
        for name in dict.fromkeys(names):
            if not name.endswith("_interval") and name != BUDGET:
                cells = [_cell(each.get(who, {}), name) for who in columns]
                rows.append((crossing.replace("_to_", " → "), name, *cells))
                rows[-1] += (each["examples"],)
    text = (
        "What is drawn of the last stream from those before the arrow, on held-out "
        "examples; in brackets the interval in which a figure lies 95 times of 100. "
        "`likeliest` is the label of the least bound; `cnn` and `pca` were trained for "
        "this alone, on the same data; `mean` knows the training part and nothing of "
        "the example; `real` is how the true ones are read."
    )
    budgets = [
        (crossing.replace("_to_", " → "), who, *row)
        for crossing, each in found.items()
        for who in columns
        for row in _budget(each.get(who, {}).get(BUDGET, {}))
    ]
    parts = [f"{text}\n\n{table(('', 'figure', *columns, 'examples'), rows)}"]
    if budgets:
        titles = ("", "", "network of", *LEARNED)
        text = "What those were given that were trained for this alone."
        parts.append(f"{text}\n\n{table(titles, budgets)}")
    return Section("Crossings", "\n\n".join(parts))


def _budget(found: Mapping[str, Any]) -> Iterator[tuple]:
    """A row of what was fitted beside networks, and one of each network."""
    for name, each in {"": found, **found.get("networks", {})}.items():
        row = [each.get(learned) for learned in LEARNED]
        if any(x is not None for x in row):
            yield name, *row


def _cell(figures: Mapping[str, Any], name: str) -> str | None:
    if figures.get(name) is None:
        return None
    found, ends = figures[name], figures.get(f"{name}_interval")
    places = 3 if abs(found) <= 1 else 2
    said = [number(float(x), places) for x in (found, *(ends or ()))]
    around = f" ({said[1]}{TO}{said[2]})" if ends else ""
    return said[0] + around


def samples(evaluation: Mapping[str, Any]) -> Section:
    """The figures of samples at every scale of guidance, beside those of real ones."""
    curve, real = evaluation.get("curve", []), evaluation.get("real", {})
    names = list(dict.fromkeys(name for row in curve for name in row))
    part = lambda word: {n.replace(word, ""): x for n, x in real.items() if word in n}
    columns = {"real": part("floor_"), "held out": part("heldout_") | part("judge_")}
    beside = {at: x for at, x in columns.items() if x.keys() & {*names} or at == "real"}
    told = [*curve, *beside.values()]
    rows = [
        [name, *(number(row.get(name)) for row in told)]
        for name in names
        if name != "guidance"
    ]
    scales = [
        f"guidance {row['guidance']:g}" if "guidance" in row else "" for row in curve
    ]
    text = "Real are as many training examples, and held out what no model has seen."
    titles = ("", *scales, *beside)
    return Section("Samples, scored", f"{text}\n\n{table(titles, rows)}")


def figures(evaluation: Mapping[str, Any]) -> Section:
    """Those of a tokenizer that are one number, and those of each channel."""
    rows, parts = [], []
    for name, x in evaluation.items():
        if isinstance(x, int | float):
            interval = f"{name}_interval" in evaluation
            rows.append((name, _cell(evaluation, name) if interval else x))
        elif isinstance(x, list) and x and all(isinstance(row, Mapping) for row in x):
            titles = list(dict.fromkeys(title for row in x for title in row))
            parts.append(table(titles, [[row.get(t) for t in titles] for row in x]))
    parts.insert(0, table(("", "held-out"), rows))
    return Section("Figures", "\n\n".join(parts))


def measured(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """What a run measured of held-out data while it trained, but for losses, whose
    curves there are; nothing where it did not."""
    found: dict[str, list[tuple[float, int]]] = {}
    for row in rows:
        for name, x in row.items():
            mine = name.startswith(("evaluation_", "heldout_")) and "loss" not in name
            if mine and x is not None:
                found.setdefault(name, []).append((x, row["step"]))
    said = lambda x, step: f"{number(float(x))} at {step:,}"
    lines = [
        (name, *(said(*each) for each in (x[0], min(x), max(x), x[-1])))
        for name, x in found.items()
    ]
    text = "Of averaged weights, and the step after which each was measured."
    titles = ("", "first", "least", "greatest", "last")
    text += f"\n\n{table(titles, lines)}"
    return [Section("Measured while it trained", text)] if lines else []


def seen(
    caption: str, contract: Any, x: np.ndarray, names: Sequence[str] = ()
) -> list[tuple[str, bytes]]:
    """Signals, as their tokenizer takes them or uint8, as a sheet and, of sounds and
    clips, the first few to be played."""
    data, x = of_contract(contract), np.asarray(x)
    how = (contract.kind, x, Units.of(contract))
    # A sheet of the page's width at most, which is shown as it is.
    one = sheet(contract.kind, x[:1], how[2], 1, names[:1], LEAST).shape[1]
    columns = 1 if data.wide else max(1, min(8, WIDTH // (one + 7)))
    found = [(caption, png(sheet(*how, columns, names, LEAST)))]
    for i, content in enumerate(played(data, x[:PLAYED], how[2])):
        found.append((f"{caption}, {names[i] if names else i + 1}", content))
    return found


def outlined(x: np.ndarray, true: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Pixels (n, *frames, h, w, c), enlarged, with the edges of the true boxes and,
    over them, of those that are drawn, (n, *frames, k, 5)."""
    factor = max(1, 96 // x.shape[-2])
    x = x.repeat(factor, -3).repeat(factor, -2)
    x = np.broadcast_to(x, (*x.shape[:-1], 3)).copy()
    height, width = x.shape[-3:-1]
    for boxes, colour in ((true, TRUE), (drawn, DRAWN)):
        for place in np.ndindex(boxes.shape[:-1]):
            *edges, kind = boxes[place]
            if kind < 0:
                continue
            ends = np.array(edges) * (width, height, width, height)
            x0, y0, x1, y1 = np.clip(np.round(ends).astype(int), 0, None)
            frame = x[place[:-1]][y0 : y1 + 1, x0 : x1 + 1]
            inside = frame[1:-1, 1:-1].copy()
            frame[:] = colour
            frame[1:-1, 1:-1] = inside
    return x
