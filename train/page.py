"""A page about a run: what it is, what it scores, what it makes, and where it fails.

python -m train.evaluate --workdir=runs/any --crossings --baselines
python -m train.page     --workdir=runs/any

Writes WORKDIR/report.html, one file with all its pictures, sounds and clips: streams,
processes and parameters, curves of training and what was measured meanwhile, figures of
WORKDIR/evaluation.json and scores.json, and the bars of the experiment; of a generator
of several streams what is given and drawn of held-out examples, and the worst of --num
of them; samples beside their nearest training examples. It draws as train.evaluate did,
or as --steps and --solver say.
"""

import datetime
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from train.config import Experiment, StageTwo
from train.config.bars import met
from train.config.command import OF_RUN, parse
from train.config.options.expression import parse_value
from train.config.options.paths import spell
from train.config.outputs import check_free
from train.errors import BadInput, blame, briefly, run
from train.evaluation.crossings.answers import Answer
from train.evaluation.crossings.bound_figures import kept, lines
from train.evaluation.crossings.crossings import answers_of, own, without_interval
from train.evaluation.crossings.questions import Crossings, asked
from train.evaluation.crossings.sections import SHOWN, sections_of
from train.evaluation.drawing import SAMPLER, draw_all
from train.evaluation.evaluator import examples, grouped, reconstruct
from train.evaluation.features import check_judges, network_by
from train.evaluation.measured import comparable
from train.evaluation.scores import references_of
from train.modalities.files.writing import write_bytes
from train.objectives.bundles import check_data, check_experiment, open_bundle, seal_of
from train.pipeline import open_examples
from train.progress import say
from train.report import run_pages
from train.report.examples import classes_of
from train.report.pages import render, table
from train.report.run_pages import Section, seen
from train.runtime import hosts
from train.runtime.keys import key_of
from train.runtime.log import read_metrics
from vqdit.fields import Count, Names, Seed
from vqdit.metrics import nearest_neighbours
from vqdit.trained.bundle import read_json
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge

FLAGS = OF_RUN | {
    "crossings": (bool | Names, "those that are shown, else the evaluated"),
    "num": (Count, "held-out examples of each, of which the worst are shown (250)"),
    **SAMPLER,
    "judge": (str, "a folder of train.classifier, or of a tokenizer"),
    "judge.": (str, "that of one stream, where several are drawn"),
    "judge_steps": (Count, "for which that one is trained"),
    "seed": (Seed, "of what is drawn (0)"),
}


def main(argv=None):
    hosts.alone()
    command = parse(argv, Experiment, FLAGS, needed=["workdir"], measures=True)
    experiment, flags = command.experiment, dict(command.flags)
    check_free(command.workdir, ["report.html"])
    thing = open_bundle(command.workdir, (Codec, Generator), "--workdir")
    check_experiment(thing, experiment, command.workdir)
    _refuse_unused(thing, flags)
    judges = flags.get("judge"), flags.get("judge_steps")
    for at, folder in check_judges(*judges, getattr(thing, "codecs", ())).items():
        open_bundle(folder, (Judge, Codec), at)  # known before data are opened
    check_data(thing, experiment)
    where = command.workdir / "evaluation.json"
    evaluation, scored = _evaluation(where, experiment)
    rows = []
    if (command.workdir / "metrics.jsonl").exists():
        rows = read_metrics(command.workdir)
    how = experiment.run.steps, run_pages.jumps_of(experiment)
    sections = [run_pages.training(rows, *how)] if rows else []
    sections += run_pages.measured(rows)
    if isinstance(thing, Codec):
        sections += scored
        sections.append(_reconstructions(thing, experiment))
    else:
        sections.insert(0, _streams(thing))
        sections += scored
        sections += _bounds(command.workdir)
        sections += _drawn(thing, experiment, evaluation, flags)
    if not evaluation:
        sections.append(Section("Not evaluated", "Run `train.evaluate` for figures."))
    what, params = "transformer", getattr(thing, "params", None)
    if isinstance(thing, Codec):
        what, params = "tokenizer", thing.variables.get("params")
    size = sum(x.size for x in jax.tree.leaves(params))
    intro = (
        f"A {what} of {size:,} parameters, {experiment.run.steps:,} steps of "
        f"{experiment.run.batch} examples; `{command.workdir}`, "
        f"{datetime.date.today()}, jax {jax.__version__} on {jax.default_backend()}."
    )
    text, shown = run_pages.written(experiment.name, intro, sections)
    out = command.workdir / "report.html"
    write_bytes(out, render(text, shown).encode())
    say(f"the report is {out}")


def _refuse_unused(thing: Codec | Generator, flags: Mapping[str, Any]) -> None:
    """Raises BadInput for options that say nothing of this page."""
    of_crossings = ("crossings", "num", "judge", "judge_steps")
    unused: tuple[str, ...] = ()
    kind = "generator of one stream"
    if isinstance(thing, Codec):
        unused, kind = (*of_crossings, *SAMPLER, "seed"), "tokenizer"
    elif len(thing.streams) == 1:
        unused = (*of_crossings, "interval")  # of a scale, which its samples have not
    for name in unused:
        if name in flags:
            flag = name.replace("_", "-")
            raise BadInput(f"--{flag} says nothing of a {kind}; drop it")


def _bounds(workdir) -> list[Section]:
    """What train.score has said of this bundle, question by question."""
    questions = kept(workdir / "scores.json").get(seal_of(workdir) or "", {})
    said = [
        "Bounds on -log p of what is named first, in nats; the lower, the likelier."
    ]
    for question, found in questions.items():
        curves = found.get("anomalies", {})
        rest = {name: each for name, each in found.items() if name != "anomalies"}
        said.append(f"**{question}**")
        if rows := [(line,) for line in lines(rest)]:
            said.append(table(("",), rows))
        if curves:
            said.append(_curves(curves))
    return [Section("Scored by the bound", "\n\n".join(said))] if questions else []


def _curves(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """ROC-AUC of each anomaly by each score; in brackets 95 % intervals."""
    scores = dict.fromkeys(score for found in curves.values() for score in found)

    def cell(found):
        if not found or not found.get("auc_interval"):
            return None
        low, high = found["auc_interval"]
        return f"{found['auc']:.3f} ({low:.3f} to {high:.3f})"

    rows = [(name, *map(cell, map(c.get, scores))) for name, c in curves.items()]
    return table(("ROC-AUC of", *scores), rows)


def _evaluation(path, experiment: Experiment) -> tuple[dict, list[Section]]:
    """What train.evaluate has written, and how it is shown; nothing without a file."""
    try:
        found = read_json(path)
        _sampler(found)
        for measured in _named(found, "crossings").values():
            _scale(measured)
        for asked_so in _named(found, "asked").values():
            _sampler({"protocol": asked_so})
        if isinstance(experiment, StageTwo):
            return found, _scored(experiment, found)
        return found, [run_pages.figures(found)]
    except FileNotFoundError:
        return {}, []
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{path}: {briefly(error)}; run train.evaluate again") from error


def _streams(generator: Generator) -> Section:
    rows = []
    for name, stream in generator.streams.items():
        codec, value = generator.codecs.get(name), generator.values.get(name)
        through = codec.contract.kind if codec else type(value).__name__
        process = spell(generator.processes[name])
        rows.append((name, through, str(stream.shape), process))
    return Section("Streams", table(("", "through", "tokens", "process"), rows))


def _reconstructions(codec: Codec, experiment) -> Section:
    data = experiment.one_data
    held = open_examples(data, False)
    batch = held.take(held.spaced(SHOWN))
    x, names = batch["x"], classes_of(held, batch["label"])
    x_hat, _ = reconstruct(codec, x)
    shown = [
        *seen("held-out originals", codec.contract, x, names),
        *seen("what comes back", codec.contract, x_hat, names),
    ]
    return Section("Reconstructions", shown=shown)


def _scored(experiment: StageTwo, evaluation: Mapping[str, Any]) -> list[Section]:
    sections, crossed = [], _named(evaluation, "crossings")  # once it was a list
    if evaluation and experiment.bars:
        how = {"crossings": crossed, "asked": _named(evaluation, "asked")}
        figures = comparable({**evaluation, **how})
        found = [(bar, *met(bar, figures)) for bar in experiment.bars]
        sections.append(run_pages.bars(found))
    if crossed:
        sections.append(run_pages.crossings(crossed))
    if evaluation:
        sections.append(run_pages.samples(evaluation))
    return sections


def _drawn(generator, experiment, evaluation, flags) -> list[Section]:
    """What it draws of each crossing, and of nothing."""
    written = {n: flags[n] for n in SAMPLER if n in flags}
    sampler = _sampler(evaluation) | written
    how = {"judge": flags.get("judge"), "steps": flags.get("judge_steps")}
    key, found, draws = key_of(flags.get("seed", 0)), [], []
    measured, told = (_named(evaluation, n) for n in ("crossings", "asked"))
    with blame():
        if len(generator.streams) > 1:
            names = [name for name in measured if "_to_" in name]
            wanted = asked([*generator.streams], flags.get("crossings", names or True))
            held = generator.tokenizers  # of which anything can be told
            wanted = [c for c in wanted if {*c.given, c.want} <= held.keys()]
            for crossing in wanted:  # before anything is opened
                scale, asked_so = _scale(measured.get(crossing.name, {})), evaluation
                if crossing.name in told:  # it may be asked otherwise than others
                    asked_so = {"protocol": told[crossing.name]}
                drawn = without_interval(_sampler(asked_so), scale) | written
                draw = generator.sampler(
                    want=crossing.want,
                    guidance=scale,
                    **own(drawn, crossing.want, crossing.given),
                )
                draws.append((crossing, draw, scale))
            network = partial(network_by, **how)
            references = references_of(generator, experiment.sources, network)
            answers = answers_of(generator, experiment.sources, references)
            of = Crossings(generator, experiment.sources, answers, experiment.join)
            for crossing, draw, scale in draws:
                num = flags.get("num", 250)
                found += sections_of(of, crossing, key, draw, num, scale)
        scale = None
        if sampler.get("before"):  # which the others are guided by
            scale = _scale(measured.get("agree", {}))
        sampler = without_interval(sampler, scale) | {"guidance": scale}
        found.append(_samples(generator, experiment, key, sampler))
    return found


def _named(evaluation, name) -> dict[str, Any]:
    found = evaluation.get(name, {})
    return found if isinstance(found, dict) else {}


def _sampler(evaluation) -> dict[str, Any]:
    """As the figures were made, by what is written beside them."""
    said = evaluation.get("protocol", {}).get("sampler", {})
    found = {
        name: parse_value(text, SAMPLER[name][0], f"evaluation.json: {name}")
        for name, text in said.items()
        if name in SAMPLER and text != "None"
    }
    # All times is what no scale is asked for.
    return {n: x for n, x in found.items() if (n, x) != ("interval", (0.0, 1.0))}


def _scale(figures: Mapping[str, Any]) -> float | None:
    """Of guidance, at which the crossing was best; None for none."""
    firsts = {
        n: next(iter(x.items()))
        for n, x in figures.items()
        if n.startswith("guidance_") and x
    }
    # Of errors the least is the best; what was not measured is none.
    scales = {
        n: -x if "rmse" in name else x
        for n, (name, x) in firsts.items()
        if isinstance(x, int | float)
    }
    if not scales:
        return None
    return float(max(scales, key=lambda n: scales[n]).partition("_")[2])


def _samples(generator: Generator, experiment: StageTwo, key, sampler) -> Section:
    """Samples of all streams at once, each signal above its nearest training one."""
    labels, asked_for = None, "nothing given"
    classes: list[tuple[str, ...]] = [()] * SHOWN
    if generator.module.classes:
        labels = np.resize(generator.trained_labels, SHOWN)
        known = dict(enumerate(generator.class_names))
        classes = [(known.get(y, str(y)),) for y in labels.tolist()]
        scale = sampler.get("guidance")
        asked_for = f"each class in turn, guidance {1.0 if scale is None else scale:g}"
    draw = generator.sampler(**sampler)
    x = draw_all(generator, draw, key, np.arange(SHOWN), labels, raw=False)
    answers = {
        name: Answer(name, experiment.sources[name], each)
        for name, each in generator.values.items()
    }
    said = [
        ", ".join([*each, *(a.word(x[name][i]) for name, a in answers.items())])
        for i, each in enumerate(classes)
    ]
    names, shown = said if any(said) else (), []
    for name, codec in generator.codecs.items():
        near = _nearest(experiment.sources[name], x[name])
        shown += seen(f"drawn {name}", codec.contract, x[name], names)
        near_by = f"nearest in training to each {name}"
        shown += seen(near_by, codec.contract, near, names)
    first = " and ".join(sampler.get("before", ()))
    how = f"{first} first, and given to the others" if first else "all streams together"
    text = f"Drawn of {asked_for}, {how}; not picked."
    if not shown:
        text += "\n\n" + table(("",), [(each,) for each in said])
    title = "Samples, and what they are nearest to" if shown else "Samples"
    return Section(title, text, shown)


def _nearest(data, x: np.ndarray) -> np.ndarray:
    """The training example that each is nearest to."""
    least, found = np.full(len(x), np.inf), np.zeros_like(x)
    for part in grouped(examples(data, True, divided=False, doing="comparing")):
        index, far = (each[:, 0] for each in nearest_neighbours(x, part["x"]))
        nearer = far < least
        least[nearer], found[nearer] = far[nearer], part["x"][index[nearer]]
    return found


if __name__ == "__main__":
    run(main)
