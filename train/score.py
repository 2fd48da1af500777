"""How likely a trained generator finds examples: a table of bounds on -log p.

python -m train.score --workdir=runs/any --of=image --out=scores.csv
python -m train.score --workdir=runs/any --of=audio --given=text --out=scores.csv
python -m train.score --workdir=runs/any --of=image --classify=word --out=scores.csv
python -m train.score --workdir=runs/dit --of=image --anomaly=boot,bag --out=scores.csv
python -m train.score --workdir=runs/any --of=text --given=image --rank=100

A row is an example of the held-out part that has something of all that is scored and
given: its label, nats of the bound, their standard error, and bits a code or a channel
of a latent. The figures of all rows are said, and kept beside the table, in
scores.json, with those of all other questions; train.page shows that of the workdir.
The bound is that of the streams as the transformer has them, behind their tokenizers;
one masked code alone it is exact of. The lower, the likelier. What is neither in --of
nor in --given is absent. --shown.video=3 gives the first three latents in time of each
clip, and scores those after them.

--classify scores --of under every value of a stream of labels, or of the label, says
which one is the likeliest, how often it is the true one, and how well the posterior
tells classes. --anomaly names classes of the data that are scored, which may be others
than those of training (--config.data...): how well the score tells all of them, and
each, from the others, as the area under the ROC curve, with a bootstrap's interval;
--usual names those others, where not all are meant. All examples are then scored under
the same times and noise, whose luck tells none apart. What is likelier than usual may
be an anomaly, too, as a sensor that is out: so the same is said of how far a score is
from the others' median (typicality, arXiv:1906.02994). With --given it is also said of
the score less that with nothing given, the column "alone": how complex an example is
cancels out, and what lies is told by what the others say of it (likelihood ratio,
arXiv:1906.02845). The bound says nothing of what its tokenizer loses of a signal: of
one that is scored whole that is the column "lost", the mean squared error of values in
[-1, 1], which tells anomalies too, and so does "the whole signal", what is scored and
the nats of what is lost.

--without says of each of the --given how many nats of an example it saves beside the
others, a pair at a time under the same times and noise.

Of whole texts it says bits a byte, too: the bound on all codes, padding and so the
length included, over the bytes of the texts themselves. --rank=100 takes 100 examples,
and of each the --given of all of them in turn, under the same noise: how far in front
the true one is; and of each --given the --of of all, by how much less these cost than
with nothing given. --baselines says beside either what needs no network: of texts a
5-gram with back-off, gzip and xz, all of them after the training texts; of ranks the
companion of the nearest training example.
"""

import csv
import io

import jax
import numpy as np

from train.codec.examples import class_of
from train.config import StageTwo
from train.config.command import OF_RUN, parse
from train.config.outputs import check_free, out_file
from train.errors import BadInput, blame, run
from train.evaluation.crossings.bound_figures import (
    figures_of,
    keep_figures,
    kept,
    lines,
    rank_figures,
    text_figures,
)
from train.evaluation.crossings.bounds import Bounds, batches_of, bounds_of, rank_costs
from train.evaluation.crossings.forecasts import frame_count
from train.evaluation.crossings.retrieval import nearest_costs, ranks, with_all
from train.evaluation.drawing import first_shown
from train.evaluation.ngrams import texts_of
from train.modalities.files.writing import write_bytes
from train.objectives.bundles import (
    check_experiment,
    check_streams,
    open_bundle,
    seal_of,
)
from train.pipeline import JointExamples, spaced
from train.progress import say
from train.runtime import hosts
from vqdit.fields import Count, Names, Seed, TwoOrMore
from vqdit.tokenizer import Labels
from vqdit.tokenizer.text import Text
from vqdit.trained.generator import Generator
from vqdit.trained.labels import check_label

FLAGS = OF_RUN | {
    "of": (
        Names,
        "streams that are scored, each given those before it; else all",
    ),
    "given": (tuple[str, ...], "streams that are given"),
    "shown.": (Count, "of a scored stream: its first places, given and not scored"),
    "label": (bool, "False: of a model with classes, without the example's own"),
    "classify": (str, "a stream of labels, or label, whose every value is tried"),
    "anomaly": (Names, "classes that are anomalies, by name or number"),
    "usual": (Names, "classes that they are told from; else all others"),
    "draws": (TwoOrMore, "of time and noise, for each example and stream (32)"),
    "without": (bool, "also without each of the given streams: what it saves"),
    "rank": (TwoOrMore, "examples whose --given are compared"),
    "baselines": (bool, "of texts and ranks: what needs no network, beside"),
    "most": (Count, "of the examples, evenly spaced; else all"),
    "train": (bool, "score the training part instead"),
    "seed": (Seed, "of times and noise (0)"),
    "out": (str, "the table, a .csv (scores.csv in the workdir)"),
}


def main(argv=None):
    hosts.alone()
    command = parse(argv, StageTwo, FLAGS, needed=["workdir"], measures=True)
    flags, experiment = command.flags, command.experiment
    out = out_file(flags.get("out", command.workdir / "scores.csv"), ".csv")
    said = out.with_name("scores.json")
    check_free(said.parent, [said.name])
    kept(said)  # refused before anything is scored
    generator = open_bundle(command.workdir, Generator, "--workdir")
    check_experiment(generator, experiment, command.workdir)
    seal = seal_of(command.workdir)
    of, given = flags.get("of", tuple(generator.streams)), flags.get("given", ())
    classify = flags.get("classify")
    values = _values(generator, classify, of, given)
    for flag, names in (("of", of), ("given", given)):
        for name in names:
            if name not in generator.streams:
                streams = ", ".join(generator.streams)
                raise BadInput(f"--{flag}={name}: the streams are {streams}")
    if both := set(of) & set(given):
        raise BadInput(f"--given={min(both)}: it is scored; leave it out of one")
    for name in flags.get("shown", {}):
        if name not in of or name not in generator.parts:
            usable = ", ".join(n for n in of if n in generator.parts) or "none"
            raise BadInput(
                f"--shown.{name}: of what is scored, training gave in parts: {usable}"
            )
    shown = flags.get("shown", {})
    first_shown(generator, shown, 1)
    labelled = flags.get("label", True)
    if "label" in flags and not generator.module.classes:
        raise BadInput("--label is of a model with classes; drop it")
    if "label" in flags and classify == "label":
        raise BadInput("--label: --classify=label tries every one; drop one of the two")
    with blame():
        scorer = generator.scorer(of, flags.get("draws", 32))
        if not labelled:
            check_label(generator, None, np.zeros(1, int))
    words = flags.get("anomaly", ())
    if "usual" in flags and not words:
        raise BadInput("--usual: write --anomaly, too")
    if flags.get("without") and (classify or "rank" in flags or not given):
        raise BadInput("--without: write --given, and no --classify or --rank")
    baselines = flags.get("baselines", False)
    text = len(of) == 1 and isinstance(generator.values.get(of[0]), Text)
    # Of a part of the codes, or the best of several labels, there are no bits a byte.
    text = text and not shown and classify is None
    if "rank" in flags and (classify or words or not given):
        raise BadInput("--rank: write --given, and no --classify or --anomaly")
    if baselines and not (len(of) == len(given) == 1 if "rank" in flags else text):
        raise BadInput("--baselines is of one text, or of --rank of one stream by one")
    part = flags.get("train", False)
    if baselines and part:
        raise BadInput("--baselines are fitted to the training part; drop --train")
    # What is not asked for need not be of this data: labels of faults are no actions.
    asked = {*of, *given, classify, *generator.codecs}
    sources = {n: data for n, data in experiment.sources.items() if n in asked}
    tokenizers = {n: each for n, each in generator.values.items() if n in asked}
    for name, count in shown.items():
        if name in generator.codecs and "frames" in sources[name].sides:
            frame_count(generator, sources, name, count)
    codecs = {n: generator.codecs[n] for n in (*of, *given) if n in generator.codecs}
    check_streams(codecs, experiment.sources, part)
    opened = lambda train: JointExamples(sources, tokenizers, train, experiment.join)
    data = opened(part)
    rows = spaced(len(data), flags.get("most"))
    anomalies = _classes(data, words, "anomaly")
    usual = [*_classes(data, flags.get("usual", ()), "usual").values()]
    if both := set(usual) & set(anomalies.values()):
        raise BadInput(f"--usual: {min(both)} is an anomaly, too; write others")
    labels = data.labels(rows) if anomalies else np.zeros(0, int)
    if usual:  # of no others is anything asked
        rows = rows[np.isin(labels, [*usual, *anomalies.values()])]
        labels = data.labels(rows)
    labels = labels[labels >= 0]
    if anomalies and len({*np.isin(labels, [*anomalies.values()])}) < 2:
        raise BadInput(
            "--anomaly: write classes of which some examples are, and some are not"
        )
    with blame():
        bounds = Bounds(
            generator,
            scorer,
            given,
            shown,
            labelled=labelled,
            seed=flags.get("seed", 0),
            alike=bool(anomalies),
        )
        if "rank" in flags:
            chosen = flags["rank"], flags.get("most")
            train = opened(True) if baselines else None
            table, figures = _ranked(bounds, data, *chosen, train)
            write_bytes(out, _csv(table))
        else:
            tried = classify, values, bool(anomalies), flags.get("without", False)
            table = bounds_of(bounds, batches_of(data, rows), *tried)
            if less := len(rows) - len(table["example"]):
                names = ", ".join((*of, *given))
                say(f"left out: {less} of {len(rows)} examples lack some of {names}")
            if text:
                held = texts_of(data, *of, table["example"])
                table["bytes"] = np.array(list(map(len, held)))
            write_bytes(out, _csv(table))  # before intervals, which may take long
            true = table["label"]
            if classify not in (None, "label"):  # as its own data numbers classes
                true = data.labels(table["example"], classify)
            figures = figures_of(table, of, classify, true, anomalies)
            if text:
                train = texts_of(opened(True), *of) if baselines else None
                figures |= text_figures(table, held, train)
    for line in lines(figures):
        say(line)
    keep_figures(said, seal, _question(of, given, command), figures)
    what = f", and what is said of them in {said}" if seal else ""
    say(f"{len(table['nats'])} scores are in {out}{what}")


def _question(of, given, command) -> str:
    """What was asked, by which its figures are found in the file of all of them."""
    asked = [", ".join(of), *(["given", ", ".join(given)] if given else [])]
    flags = {n: v for n, v in command.flags.items() if n not in ("of", "given", "out")}
    changes = {f"config.{name}": text for name, text in command.changes.items()}
    config = {"config": command.config} if command.config else {}
    more = (config | flags | changes).items()
    return " ".join(asked + [f"{name}={value}" for name, value in more])


def _ranked(bounds, data, count, most=None, train=None) -> tuple[dict, dict]:
    """The table and figures of ranks among `count` examples that have all streams, of
    all or `most` of them.

    train: the training part, where the nearest of its examples is asked, too.
    """
    of, given = bounds.scorer.of, bounds.given
    rows, batch = with_all(data, spaced(len(data), count), (*of, *given))
    if len(rows) < 2:
        raise BadInput("--rank: fewer than two of these examples have all streams")
    chosen = spaced(len(rows), most)
    own = jax.tree.map(lambda x: x[chosen], batch)
    costs = rank_costs(bounds, batch, rows, chosen)
    alone = bounds.nats(rows[chosen], own, ())
    # What a candidate saves is the same either way (pointwise mutual information), and
    # of the costs of one candidate those that are high whatever is given say nothing.
    back = (costs[:, chosen] - alone[:, None]).T
    near = None
    if train is not None:
        near = (
            nearest_costs(train, own, batch, *of, *given),
            nearest_costs(train, own, own, *given, *of),
        )
    whose, same = (", ".join(of), ", ".join(given)), np.arange(len(chosen))
    table = {
        "example": rows[chosen],
        "label": batch["label"][chosen],
        "nats": costs[same, chosen],
        "alone": alone,
        "rank": ranks(costs, chosen),
        "rank_back": ranks(back, same),
        "likeliest": rows[costs.argmin(1)],
        **{f"nats_{row}": column for row, column in zip(rows, costs.T, strict=True)},
    }
    return table, rank_figures(whose, costs, back, chosen, near)


def _values(generator, classify, of, given) -> tuple[int, ...]:
    """The labels that are tried; none where nothing is classified."""
    if classify is None:
        return ()
    if classify == "label":
        if not generator.module.classes:
            raise BadInput("--classify=label: the model has no classes; write a stream")
        return tuple(map(int, generator.trained_labels))
    tokenizer = generator.values.get(classify)
    if not isinstance(tokenizer, Labels):
        known = [n for n, v in generator.values.items() if isinstance(v, Labels)]
        known += ["label"] if generator.module.classes else []
        names = ", ".join(known) or "none"
        raise BadInput(
            f"--classify={classify} is no stream of labels; there are {names}"
        )
    if classify in (*of, *given):
        raise BadInput(f"--classify={classify}: leave it out of --of and --given")
    return tuple(range(tokenizer.classes))


def _classes(data, words, flag) -> dict[str, int]:
    """Name -> number, of classes of the data."""
    with blame(f"--{flag}"):
        found = {word: class_of(word, data.class_names) for word in words}
    if len({*found.values()}) < len(found):  # by its name, and by its number
        raise BadInput(f"--{flag}={','.join(words)}: two are one class; write it once")
    return found


def _csv(table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    columns = (v.tolist() for v in table.values())
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


if __name__ == "__main__":
    run(main)
