"""How likely a trained generator finds examples: a table of bounds on -log p.

python -m train.score --workdir=runs/any --of=image --out=scores.csv
python -m train.score --workdir=runs/any --of=audio --given=text --out=scores.csv
python -m train.score --workdir=runs/any --of=image --classify=word --out=scores.csv
python -m train.score --workdir=runs/dit --of=image --anomaly=boot,bag --out=scores.csv

A row is an example of the held-out part: its label, nats of the bound, their standard
error, and bits a code or a channel of a latent. The bound is that of the streams as the
transformer has them, behind their tokenizers; one masked code alone it is exact of. The
lower, the likelier. What is neither in --of nor in --given is absent.

--classify scores --of under every value of a stream of labels, or of the label, says
which one is the likeliest, and how often it is the true one. --anomaly names classes:
how well the score tells them from the others, as the area under the ROC curve.
"""

import csv
import functools
import io
from collections.abc import Iterator

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

from train.codec.examples import class_of
from train.config import StageTwo
from train.config.command import OF_RUN, parse
from train.errors import BadInput, run
from train.modalities.files import write_bytes
from train.objectives.bundles import open_bundle
from train.objectives.streams import on_grid
from train.pipeline import JointExamples
from train.progress import progress, say
from train.runtime import hosts
from vqdit.fields import Count
from vqdit.signal import to_signal
from vqdit.tokenizer import Labels
from vqdit.trained.generator import Generator
from vqdit.trained.scorer import Score

BATCH = 64  # scored at once
FLAGS = OF_RUN | {
    "of": (
        tuple[str, ...],
        "streams that are scored, each given those before it; else all",
    ),
    "given": (tuple[str, ...], "streams that are given"),
    "label": (bool, "False: of a model with classes, without the example's own"),
    "classify": (str, "a stream of labels, or label, whose every value is tried"),
    "anomaly": (tuple[str, ...], "classes that are anomalies, by name or number"),
    "draws": (Count, "of time and noise, for each example and stream (32)"),
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
    out = flags.get("out", str(command.workdir / "scores.csv"))
    if not out.endswith(".csv"):
        raise BadInput(f"--out={out}: write a .csv")
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
    anomalies = _classes(generator, flags.get("anomaly", ()))
    part = flags.get("train", False)
    data = JointExamples(experiment.sources, experiment.values, part)
    most = min(flags.get("most", len(data)), len(data))
    rows = np.arange(most) * len(data) // most
    if anomalies:
        parts = range(0, len(rows), BATCH)
        labels = [data.take(rows[at : at + BATCH])["label"] for at in parts]
        if len({*np.isin(np.concatenate(labels), anomalies).tolist()}) < 2:
            raise BadInput(
                "--anomaly: write classes of which some examples are, and some are not"
            )
    try:
        scorer = generator.scorer(of, flags.get("draws", 32))
        batches = _batches(data, rows)
        found = _scores(generator, scorer, batches, given, classify, values, flags)
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(str(error)) from error
    table = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    _said(generator, table, of, classify, values, anomalies)
    write_bytes(out, _csv(table))
    say(f"{len(table['nats'])} scores are in {out}")


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


def _classes(generator, words) -> list[int]:
    try:
        return [class_of(word, generator.class_names) for word in words]
    except ValueError as error:
        raise BadInput(f"--anomaly: {error}") from error


def _scores(generator, scorer, batches, given, classify, values, flags) -> list[dict]:
    """The columns of the table, batch by batch."""
    key, found = jax.random.key(flags.get("seed", 0)), []
    for rows, mine, batch in batches:
        call = _call(generator, scorer.of, given, batch, flags.get("label", True))
        ask = functools.partial(scorer, key, rows)
        columns = {"example": rows, "label": batch["label"]}
        columns |= _classified(ask, call, classify, values)
        found.append({name: np.asarray(v)[:mine] for name, v in columns.items()})
    return found


def _call(generator, of, given, batch, labelled) -> dict:
    """What a scorer is called with, of a batch of examples."""
    streams, names = generator.streams, (*of, *given)
    # Signals are encoded, what is born discrete is codes already.
    signal = lambda n, v: to_signal(v) if n in generator.codecs else v
    known = {n: v for n, v in batch["known"].items() if n in names}
    for name in known.keys() & generator.codecs.keys():
        if known[name].ndim > 1:
            known[name] = on_grid(known[name], streams[name].grid)
    label, classes = None, generator.module.classes
    if classes and labelled:  # one that there is not is none
        label = np.where(batch["label"] < 0, classes, batch["label"])
    return {
        "x": {n: signal(n, batch["streams"][n]) for n in of},
        "given": {n: signal(n, batch["streams"][n]) for n in given},
        "known": known,
        "label": label,
    }


def _classified(ask, call, classify, values) -> dict:
    """The columns of a batch: its score, or the best of those under every value."""
    if classify is None:
        return ask(**call)._asdict()
    tried = []
    for value in values:
        each = np.full(len(next(iter(call["x"].values()))), value, np.int32)
        more = {"label": each}
        if classify != "label":
            more = {"given": call["given"] | {classify: each}}
        tried.append(ask(**call | more))
    nats = np.stack([score.nats for score in tried], axis=1)
    best = nats.argmin(1)
    columns = {
        name: np.stack(column, 1)[np.arange(len(best)), best]
        for name, column in zip(Score._fields, zip(*tried, strict=True), strict=True)
    }
    columns["likeliest"] = np.asarray(values)[best]
    return columns | {f"nats_{v}": nats[:, i] for i, v in enumerate(values)}


def _batches(data, rows) -> Iterator[tuple[np.ndarray, int, dict]]:
    """(rows, how many of them are new, their examples), as many in each batch."""
    size = min(BATCH, len(rows))
    for start in progress(range(0, len(rows), size), "scoring", unit="batch"):
        at = np.minimum(np.arange(start, start + size), len(rows) - 1)
        yield rows[at], min(size, len(rows) - start), data.take(rows[at])


def _said(generator, table, of, classify, values, anomalies) -> None:
    nats, bits, label = (
        table[name].astype(float) for name in ("nats", "bits", "label")
    )
    error = nats.std() / len(nats) ** 0.5
    say(
        f"{', '.join(of)}: {nats.mean():.4g} nats an example, +- {error:.2g}; "
        f"{bits.mean():.4g} bits a code or channel"
    )
    if classify and (label >= 0).any():
        right = (table["likeliest"] == label)[label >= 0].mean()
        say(f"the likeliest {classify} is the true one of {right:.2%}")
    if anomalies:
        is_one = np.isin(label, anomalies)
        say(f"ROC-AUC of the score: {roc_auc_score(is_one, nats):.4f}")


def _csv(table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    columns = (v.tolist() for v in table.values())
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


if __name__ == "__main__":
    run(main)
