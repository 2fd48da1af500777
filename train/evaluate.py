"""Scores of a trained tokenizer or generator, on held-out data.

python -m train.evaluate --workdir=runs/tok
python -m train.evaluate --workdir=runs/dit --num=1000 --guidance='(1.0, 1.5, 2.0)'

Writes WORKDIR/evaluation.json and prints it; crossings of the same bundle that were
measured before stay in the file, each with how it was asked. Samples of a generator are
compared with held-out signals: the Fréchet distance, precision, recall, density and
coverage in features, and how far samples are from the training set. Features of
labelled images and sounds are those of a classifier that is trained here, on real
training signals only; of all others the latents of the stream's tokenizer, and figures
in them are named so, tokenizer_distance. --judge=DIR names a classifier (see
train.classifier) or a tokenizer instead, so that several runs have the same, and
--judge.image=DIR that of one stream of several. A tokenizer of labelled sound is judged
by a classifier, too. --want=image draws that stream without the others.

--crossings adds, of a generator of several streams, how right each is that is drawn
from each other one of a held-out example, and from all others together, or those that
are written, --crossings=audio_to_word,audio+image_to_word: the class that it says, and
where examples have one truth, texts whole and by tokens, boxes by their overlap, rows
by their columns, signals in decibels. With --before=word each goes by way of the word,
where that is neither given nor wanted. --baselines puts beside them classifiers of what
is given, trained on the same data, networks for as long as --baseline-steps says.
Bars of the experiment (`bars`) are checked, and it is said how sure a difference is: of
two figures of the same examples a pair at a time.
"""

import os
from functools import partial
from typing import Annotated

from train.config import Experiment
from train.config.bars import met
from train.config.command import OF_RUN, dashed, parse
from train.config.outputs import check_free
from train.config.workdir import is_free
from train.errors import BadInput, blame, run
from train.evaluation.crossings import questions
from train.evaluation.crossings.crossings import (
    crossings,
    own,
    samplers_of,
    without_interval,
)
from train.evaluation.crossings.forecasts import forecasts, foreseen
from train.evaluation.crossings.questions import Crossings
from train.evaluation.drawing import SAMPLER
from train.evaluation.estimates import Estimate
from train.evaluation.features import check_judges, network_by
from train.evaluation.judge import judge_of
from train.evaluation.measured import comparable, how_asked, solvers_of, with_kept
from train.evaluation.reconstruction.kinds import BASELINES
from train.evaluation.samples import check_compared, compared
from train.evaluation.scores import (
    evaluate_generator,
    evaluate_tokenizer,
    references_of,
)
from train.modalities.files.stored import from_home
from train.modalities.files.writing import as_json, write
from train.objectives.bundles import check_data, check_experiment, open_bundle, seal_of
from train.pipeline import open_examples
from train.pipeline.streams import name_pattern
from train.progress import say
from train.runtime import hosts
from vqdit.fields import FILLED, Count, Finite, Names, Seed, TwoOrMore
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge
from vqdit.trained.labels import check_guidance

FLAGS = OF_RUN | {
    "num": (TwoOrMore, "of a generator: samples scored"),
    "guidance": (
        Annotated[tuple[Finite, ...], FILLED],
        "its scales, each scored, such as (1.0, 2.0)",
    ),
    **SAMPLER,
    "seed": (Seed, "of its samples"),
    "want": (Names, "streams drawn for these, the rest absent; else all"),
    "crossings": (
        bool | Names,
        "how right streams are from others: all, or a_to_b,a+b_to_c",
    ),
    "shown.": (Count, "of a stream of clips: its first latents, that are given"),
    "baselines": (bool, "beside crossings: classifiers of what is given"),
    "baseline_steps": (Count, "for which networks of these are trained, each anew"),
    "among": (str, "of crossings: examples of names like this regular expression"),
    "draws": (Count, "of crossings and clips: of each example, made one answer (1)"),
    "score_draws": (TwoOrMore, "of crossings: of the bound given each class (8)"),
    "judge": (str, "a folder of train.classifier, or of a tokenizer"),
    "judge.": (str, "that of one stream, where several are drawn"),
    "judge_steps": (Count, "for which that one is trained"),
    "most": (Count, "of a tokenizer: held-out examples it is scored on"),
    "baseline": (bool, "of a tokenizer: False leaves out k-means at equal bits"),
}
TOKENIZER, JUDGE = {"most", "baseline"}, {"judge", "judge_steps"}
OF_CROSSINGS = ("baselines", "baseline_steps", "among", "draws", "score_draws")


def main(argv=None):
    command = parse(
        argv, Experiment, FLAGS, processes=True, needed=["workdir"], measures=True
    )
    hosts.start(command.processes)
    with hosts.together():
        check_free(command.workdir, ["evaluation.json"])
        thing = open_bundle(command.workdir, (Codec, Generator), "--workdir")
        # Before figures are made, which takes long: another may be there by then.
        seal = None if isinstance(thing, Codec) else seal_of(command.workdir)
    experiment = command.experiment
    if isinstance(thing, Codec):
        figures = _of_tokenizer(thing, experiment, command.flags)
    else:
        _refuse(command.flags, FLAGS.keys() - TOKENIZER, "generator")
        check_experiment(thing, experiment, command.workdir)
        figures = _of_generator(thing, experiment, command.flags)
    figures = {"experiment": experiment.name} | figures
    where = command.workdir / "evaluation.json"
    names = figures.get("crossings", {})
    asked = {name: _asked(thing, name, command) for name in names}
    all_of = with_kept(where, seal, figures, asked)
    if hosts.first():
        write(where, all_of)
        print(as_json(figures))
    told = comparable(figures | {"asked": asked})
    for bar in getattr(experiment, "bars", ()):
        _tell(bar, told, all_of)


def _asked(generator, name, command):
    """How a crossing was measured, or what comes after a part: by what it was drawn."""
    flags, streams = command.flags, [*generator.streams]
    sampler = {n: flags[n] for n in SAMPLER if n in flags}
    want, given = streams, ()  # of "agree"
    guided = "guidance" in flags and (name != "agree" or "before" in flags)
    of = questions.asked(streams, flags["crossings"]) if flags.get("crossings") else ()
    for crossing in of:
        if crossing.name == name:
            want, given = [crossing.want], crossing.given
    for stream, count in flags.get("shown", {}).items():
        if f"{stream}_after_{count}" == name:
            want, guided = [stream], False
    if want is not streams:
        sampler = own(sampler, tuple(want), given)
    if not sampler.get("before"):
        sampler.pop("before", None)
    drawn = dict.fromkeys((*want, *sampler.get("before", ())))
    sampler["solver"] = solvers_of(generator, drawn, sampler.get("solver"))
    changes = {path: x for path, x in command.changes.items() if not is_free(path)}
    return how_asked(flags, sampler, changes, guided)


def _refuse(flags, used, kind):
    """What says nothing of such a thing."""
    used = {name.removesuffix(".") for name in used}
    for name in flags.keys() - used:
        raise BadInput(f"--{dashed(name)} says nothing of a {kind}; drop it")


def _of_tokenizer(codec, experiment, flags):
    data, judge = experiment.one_data, flags.get("judge")
    if isinstance(judge, dict):
        raise BadInput("--judge.NAME is of a generator's streams; write --judge=DIR")
    features = getattr(experiment, "losses", None) and experiment.losses.features
    one = lambda path: os.path.realpath(from_home(path))
    if features and judge and one(features) == one(judge):
        raise BadInput(
            f"--judge={judge}: the tokenizer was trained to please it; write another, "
            "or drop it"
        )
    used = {"most"} | (set() if data.front is None else JUDGE)
    used |= {"baseline"} if data.measures in BASELINES else set()
    _refuse(flags, used, f"tokenizer of {data.kind}")
    judges = check_judges(judge, flags.get("judge_steps"), [data.kind])
    asked = {name: value for name, value in flags.items() if name not in JUDGE}
    with hosts.together():
        for at, folder in judges.items():
            open_bundle(folder, Judge, at)
        check_data(codec, experiment)
        if data.front is not None:
            classes = open_examples(data, True).classes
            asked["judge"] = judge_of(data, classes, judge, flags.get("judge_steps"))
    return evaluate_tokenizer(codec, data, **asked)


def _of_generator(generator, experiment, flags):
    """Of samples, of what comes after the frames that are shown, of crossings."""
    folders = _refuse_beside(flags, generator)
    some = lambda names: {name: flags[name] for name in names if name in flags}
    sampler, size = some(SAMPLER), some(("num", "seed"))
    crossed, want, shown = (flags.get(n) for n in ("crossings", "want", "shown"))
    # Without classes there is nothing to be guided by where nothing is given.
    scale = some(("guidance",)) if generator.module.classes else {}
    plain = without_interval(sampler, None)
    alone = sampler if generator.module.classes else plain
    sources, join = experiment.sources, experiment.join
    _refuse_undrawn(generator, alone, scale.get("guidance", ()), want)
    if not (crossed or shown):
        with blame("--workdir"):
            check_compared(generator)
    foreseen(generator, sources, shown or {}, **plain)
    wanted = questions.asked([*generator.streams], crossed) if crossed else []
    scales = flags.get("guidance", (None,))
    samplers_of(generator, wanted, scales, sampler)
    judge = {"judge": flags.get("judge"), "steps": flags.get("judge_steps")}
    network = partial(network_by, **judge)
    with hosts.together():
        for at, folder in folders.items():
            open_bundle(folder, (Judge, Codec), at)
        check_data(generator, experiment)
        if among := flags.get("among"):
            of = Crossings(generator, sources, {}, join)
            for crossing in wanted:
                if crossing.want in generator.tokenizers:
                    of.joint(crossing).like(among)
        references = references_of(generator, sources, network, names=want)
        for name in references:  # which read both, whenever they are first asked
            for part in (True, False):
                open_examples(sources[name], part)
    found = {}
    if crossed:
        how = sampler | size | some(OF_CROSSINGS) | {"scales": scales, "join": join}
        found |= crossings(generator, sources, references, crossed, **how)
    if shown:
        how = plain | size | some(("draws",))
        found |= forecasts(generator, sources, shown, **how)
    if want:
        alone = own(alone, want) | {"want": want}
    figures = evaluate_generator(generator, references, **alone, **size, **scale)
    return figures | ({"crossings": found} if crossed or shown else {})


def _refuse_beside(flags, generator):
    """What goes not together, or not with such a generator. The folders of judges."""
    crossed, shown = flags.get("crossings"), "shown" in flags
    name_pattern(flags.get("among", ""))
    lonely = {*OF_CROSSINGS} - ({"draws"} if shown else set())
    for name in () if crossed else sorted(lonely & flags.keys()):
        raise BadInput(f"--{dashed(name)} is of crossings; write --crossings too")
    if "baseline_steps" in flags and not flags.get("baselines"):
        raise BadInput("--baseline-steps is of baselines; write --baselines too")
    if not generator.module.classes:
        if "guidance" in flags and not crossed:
            raise BadInput("--guidance is of a generator with classes; drop it")
        if "interval" in flags and "guidance" not in flags:
            raise BadInput(
                "--interval is that of a scale; write --guidance, or drop it"
            )
    want = flags.get("want")
    if want and (crossed or shown):
        raise BadInput("--want is of samples; drop it, or --crossings and --shown")
    judged = [name for name in generator.codecs if want is None or name in want]
    for name in () if judged else flags.keys() & JUDGE:
        raise BadInput(f"--{dashed(name)} is of signals, and none is drawn; drop it")
    return check_judges(flags.get("judge"), flags.get("judge_steps"), judged)


def _refuse_undrawn(generator, sampler, scales, want):
    """What no sampler draws, at the scale of a class where there are some."""
    with blame():
        generator.sampler(guidance=1.0 if generator.module.classes else None, **sampler)
        generator.sampler(want=want)
        for each in scales:
            check_guidance(generator, each)
    if want and not {*want} & {*compared(generator)}:
        known = ", ".join(compared(generator)) or "none"
        raise BadInput(f"--want={','.join(want)}: samples are scored of {known}")


def _tell(bar, figures, all_of):
    """Whether a bar is met; by what was measured before, where it is not of these."""
    reached, mine, other = met(bar, figures)
    before = ""
    if reached is None:
        reached, mine, other = met(bar, comparable(all_of))
        before = "" if reached is None else " (measured before)"
    word = "not measured" if reached is None else "met" if reached else "MISSED"
    say(f"{bar}: {word}" + ("" if mine is None else f", {mine:.4g}{before}"))
    apart = None if reached is None else mine - other
    # What was measured before is a number in the file, in doubt as it is.
    if isinstance(apart, Estimate) and apart.interval and not before:
        low, high = apart.interval
        say(f"  {apart:+.3g} between them, 95 % in {low:+.3g} to {high:+.3g}")


if __name__ == "__main__":
    run(main)
