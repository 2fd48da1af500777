"""How likely a trained generator finds examples: a table of bounds on -log p.

python -m train.score --workdir=runs/any --of=image --out=scores.csv
python -m train.score --workdir=runs/any --of=audio --given=text --out=scores.csv
python -m train.score --workdir=runs/any --of=image --classify=word --out=scores.csv
python -m train.score --workdir=runs/dit --of=image --anomaly=boot,bag --out=scores.csv
python -m train.score --workdir=runs/any --of=text --given=image --rank=100

A row is an example of the held-out part: its label, nats of the bound, their standard
error, and bits a code or a channel of a latent. The bound is that of the streams as the
transformer has them, behind their tokenizers; one masked code alone it is exact of. The
lower, the likelier. What is neither in --of nor in --given is absent. --shown.video=3
gives the first three latents in time of each clip, and scores those after them.

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
[-1, 1], and tells anomalies too.

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
import math
from typing import Annotated

import jax
import numpy as np
from scipy.special import softmax

from train.codec.examples import class_of
from train.config import StageTwo
from train.config.command import OF_RUN, parse
from train.config.outputs import out_file
from train.errors import BadInput, run
from train.evaluation.bounds import (
    Bounds,
    batches_of,
    bounds_of,
    clues,
    rank_costs,
    with_all,
)
from train.evaluation.estimates import roc_auc
from train.evaluation.forecasts import frames_of
from train.evaluation.ngrams import bits_per_byte, texts_of
from train.evaluation.retrieval import nearest_costs, ranks, retrieved
from train.modalities.files import write_bytes
from train.objectives.bundles import open_bundle
from train.pipeline import JointExamples, spaced
from train.progress import say
from train.runtime import hosts
from vqdit.fields import Bound, Count
from vqdit.tokenizer import Labels
from vqdit.tokenizer.text import Text
from vqdit.trained.generator import Generator

NEAREST = "by the nearest training example"
FLAGS = OF_RUN | {
    "of": (
        tuple[str, ...],
        "streams that are scored, each given those before it; else all",
    ),
    "given": (tuple[str, ...], "streams that are given"),
    "shown.": (Count, "of a scored stream: its first places, given and not scored"),
    "label": (bool, "False: of a model with classes, without the example's own"),
    "classify": (str, "a stream of labels, or label, whose every value is tried"),
    "anomaly": (tuple[str, ...], "classes that are anomalies, by name or number"),
    "usual": (tuple[str, ...], "classes that they are told from; else all others"),
    "draws": (Count, "of time and noise, for each example and stream (32)"),
    "rank": (Annotated[int, Bound(at_least=2)], "examples whose --given are compared"),
    "baselines": (bool, "of texts and ranks: what needs no network, beside"),
    "most": (Count, "of the examples, evenly spaced; else all"),
    "train": (bool, "score the training part instead"),
    "seed": (int, "of times and noise (0)"),
    "out": (str, "the table, a .csv (scores.csv in the workdir)"),
}


def main(argv):
    hosts.alone()
    command = parse(argv, StageTwo, FLAGS, needed=["workdir"])
    flags, experiment = command.flags, command.experiment
    generator = open_bundle(command.workdir, Generator, "--workdir")
    out = out_file(flags.get("out", command.workdir / "scores.csv"), ".csv")
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
    words = flags.get("anomaly", ())
    if "usual" in flags and not words:
        raise BadInput("--usual: write --anomaly, too")
    baselines = flags.get("baselines", False)
    text = len(of) == 1 and isinstance(generator.values.get(of[0]), Text)
    # Of a part of the codes, or the best of several labels, there are no bits a byte.
    text = text and not flags.get("shown") and classify is None
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
    for name, count in flags.get("shown", {}).items():
        if name in generator.codecs and "frames" in sources[name].sides:
            frames_of(generator, sources, name, count)
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
    try:
        bounds = Bounds(
            generator,
            generator.scorer(of, flags.get("draws", 32)),
            given,
            flags.get("shown", {}),
            labelled=flags.get("label", True),
            seed=flags.get("seed", 0),
            alike=bool(anomalies),
        )
        if "rank" in flags:
            chosen = flags["rank"], flags.get("most")
            table = _ranked(bounds, data, *chosen, opened(True) if baselines else None)
            write_bytes(out, _csv(table))
        else:
            tried = classify, values, bool(anomalies)
            table = bounds_of(bounds, batches_of(data, rows), *tried)
            if text:
                held = texts_of(data, *of, rows)
                table["bytes"] = np.array(list(map(len, held)))
            write_bytes(out, _csv(table))  # before intervals, which may take long
            true = table["label"]
            if classify not in (None, "label"):  # as its own data numbers classes
                true = data.labels(table["example"], classify)
            _said(table, of, classify, true, anomalies)
            if text:
                _said_of_texts(table, held, baselines and texts_of(opened(True), *of))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(str(error)) from error
    say(f"{len(table['nats'])} scores are in {out}")


def _ranked(bounds, data, count, most=None, train=None) -> dict:
    """The table of ranks among `count` examples that have all streams, of all or `most`
    of them.

    train: the training part, where the nearest of its examples is asked, too.
    """
    of, given = bounds.scorer.of, bounds.given
    rows, batch = with_all(data, spaced(len(data), count), (*of, *given))
    if len(rows) < 2:
        raise BadInput("--rank: fewer than two of these examples have all streams")
    chosen = spaced(len(rows), most)
    own = jax.tree.map(lambda x: x[chosen], batch)
    costs = rank_costs(bounds, batch, rows, chosen)
    bare = bounds.without_given
    alone = np.asarray(bare.score(rows[chosen], **bare.arguments(own)).nats)
    # What a candidate saves is the same either way (pointwise mutual information), and
    # of the costs of one candidate those that are high whatever is given say nothing.
    back = (costs[:, chosen] - alone[:, None]).T
    names = ", ".join(of), ", ".join(given)
    found = _retrieved(_true(*names, len(rows)), costs, chosen)
    same = np.arange(len(chosen))
    _retrieved(_true(*names[::-1], len(chosen)), back, same)
    if train is not None:
        near = nearest_costs(train, own, batch, *of, *given)
        _retrieved(f"{_true(*names, len(rows))}, {NEAREST}", near, chosen)
        near = nearest_costs(train, own, own, *given, *of)
        _retrieved(f"{_true(*names[::-1], len(chosen))}, {NEAREST}", near, same)
    return {
        "example": rows[chosen],
        "label": batch["label"][chosen],
        "nats": costs[same, chosen],
        "alone": alone,
        "rank": found,
        "rank_back": ranks(back, same),
        "likeliest": rows[costs.argmin(1)],
        **{f"nats_{row}": column for row, column in zip(rows, costs.T, strict=True)},
    }


def _true(of, given, count) -> str:
    return f"the true {given} of {of} among {count}"


def _retrieved(what, costs, true) -> np.ndarray:
    """The ranks, after their figures have been said."""
    found = ranks(costs, true)
    figures = (f"{name} {value:.4g}" for name, value in retrieved(found).items())
    say(f"{what}: {', '.join(figures)}")
    return found


def _said_of_texts(table, held, train) -> None:
    """train: the training texts, where there is something to stand beside; or False."""
    size = max(1, table["bytes"].sum())
    say(f"{table['nats'].sum() / math.log(2) / size:.4g} bits a byte of text")
    for name, bits in bits_per_byte(train, held).items() if train else ():
        say(f"{name}, after {len(train)} training texts: {bits:.4g} bits a byte")


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
        names = ", ".join([*known, *(["label"] if generator.module.classes else [])])
        raise BadInput(
            f"--classify={classify} is no stream of labels; there are {names}"
        )
    if classify in (*of, *given):
        raise BadInput(f"--classify={classify}: leave it out of --of and --given")
    return tuple(range(tokenizer.classes))


def _classes(data, words, flag) -> dict[str, int]:
    """Name -> number, of classes of the data."""
    try:
        return {word: class_of(word, data.class_names) for word in words}
    except ValueError as error:
        raise BadInput(f"--{flag}: {error}") from error


def _said(table, of, classify, true, anomalies) -> None:
    """true: the labels of what is classified."""
    nats, bits, label = (
        table[name].astype(float) for name in ("nats", "bits", "label")
    )
    error = nats.std() / len(nats) ** 0.5
    if anomalies:  # of one draw for all
        error = np.hypot(error, table["error"].mean())
    say(
        f"{', '.join(of)}: {nats.mean():.4g} nats an example, +- {error:.2g}; "
        f"{bits.mean():.4g} bits a code or channel"
    )
    known = true >= 0
    if classify and known.any():
        right = (table["likeliest"] == true)[known].mean()
        say(f"the likeliest {classify} is the true one of {right:.2%}")
        tried = [name for name in table if name.startswith("nats_")]
        sure = softmax([-table[name][known] for name in tried], axis=0)
        of_class = dict(zip((int(name[5:]) for name in tried), sure, strict=True))
        _said_curve(f"the posterior of {classify}", true[known], of_class)
    numbers = [*anomalies.values()]
    usual = (label >= 0) & ~np.isin(label, numbers)
    for name, these in ({"all": numbers} | anomalies).items() if anomalies else ():
        is_one = np.isin(label, these)
        mine = is_one | usual
        if is_one.any() and (len(anomalies) > 1 or name == "all"):
            for what, each in clues(table, usual).items():
                _said_curve(f"{what}, {name}", is_one[mine], {1: each[mine]})


def _said_curve(what: str, label, scores) -> None:
    for found in filter(None, [roc_auc(label, scores)]):
        low, high = found["auc_interval"]
        say(f"ROC-AUC of {what}: {found['auc']:.4f}, 95 % in {low:.4f} to {high:.4f}")


def _csv(table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    columns = (v.tolist() for v in table.values())
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


if __name__ == "__main__":
    run(main)
