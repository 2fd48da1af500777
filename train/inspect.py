"""What the data of an experiment is, before anything is trained on it.

python -m train.inspect --config=configs/mnist_tokenizer.py --out=looked

Prints counts, shapes, ranges, missing values, outliers, class balance, files that were
refused and why, and duplicates; writes them as report.json, with pictures beside.
Outliers lie far from the middle nine tenths of the values.
"""

import dataclasses
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from train.config import Experiment
from train.config.command import OF_RUN, parse
from train.config.outputs import check_free, out_folder
from train.errors import run
from train.modalities import Modality
from train.modalities.files.stored import counted, percent
from train.modalities.files.writing import write, write_bytes
from train.modalities.shown import Units
from train.modalities.transforms.gaps import outlying
from train.modalities.transforms.normalise import Moments
from train.pipeline import open_examples
from train.progress import progress
from train.report import pictures
from train.report.examples import augmented_picture, example_picture
from train.report.histogram import value_histogram
from train.report.pages import number
from train.runtime import hosts
from vqdit.fields import Count

FLAGS = OF_RUN | {
    "out": (str, "the folder of report and pictures (inspect_NAME)"),
    "most": (Count, "examples of each part that are looked at"),
}
# Examples are all looked at up to so many bytes; of more, an even selection is.
LOOKED = 2**28
CHUNK = 256
PLOTS = ("examples", "augmented", "values", "classes")  # where there are such
CHANGES = logging.getLogger("train.pipeline.examples")
READERS = ("train.sources", "train.modalities")  # who logs what it cannot read
UNEVEN = 10  # times rarer than the commonest before a class is worth a word


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over a part of the data found.

    figures: what is said of it. seen: digest of an example -> how often it is there.
    sample: values of each channel.
    """

    figures: dict[str, Any]
    seen: Counter[bytes]
    sample: Sequence[np.ndarray]


def survey(data: Modality, train: bool, most: int | None) -> Survey:
    examples = open_examples(data, train)
    rows = examples.spaced(most or max(CHUNK, LOOKED // math.prod(data.shape)))
    count, channels = len(rows), data.shape[-1]
    moments, missing = Moments(channels), np.zeros(channels)
    seen: Counter[bytes] = Counter()
    labels = np.zeros(examples.classes, np.int64)
    blank = beyond = unlabelled = 0
    part, lows = "train" if train else "test", range(0, count, CHUNK)
    for low in progress(lows, f"looking at {part}", unit="batch"):
        batch = examples.take(rows[low : low + CHUNK])
        x, label, known = batch["x"], batch["label"], batch.get("known")
        if known is not None:
            known = known.reshape(-1, channels) > 0
            missing += (~known).sum(0)
        moments.add(x.reshape(-1, channels), known)
        ends = x.reshape(len(x), -1)
        blank += int((ends.min(1) == ends.max(1)).sum())
        far = np.abs(x.reshape(-1, channels)) > 1
        beyond += int((far if known is None else far & known).sum())
        seen.update(hashlib.blake2b(e.tobytes(), digest_size=16).digest() for e in x)
        unlabelled += int((label < 0).sum())
        labels += np.bincount(label[label >= 0], minlength=len(labels))
    found = moments.finished()
    figures: dict[str, Any] = {
        "dtype": str(x.dtype),
        "min": list(found.minimum),
        "max": list(found.maximum),
        "mean": list(found.mean),
        "std": list(found.std),
        "blank_examples": blank,
    }
    if x.dtype != np.uint8:
        figures["share_outside_1"] = beyond / (count * math.prod(data.shape))
        shares = [outlying(x).sum() / max(1, len(x)) for x in moments.sample]
        figures["outlier_share"] = list(map(float, shares))
    if examples.scale:
        offset, scale = np.array(examples.offset), np.array(examples.scale)
        figures["raw_min"] = (np.array(found.minimum) * scale + offset).tolist()
        figures["raw_max"] = (np.array(found.maximum) * scale + offset).tolist()
    if known is not None:
        per_channel = count * math.prod(data.shape[:-1])
        figures["missing_share"] = (missing / per_channel).tolist()
    figures["constant_channels"] = np.flatnonzero(np.equal(found.std, 0)).tolist()
    counts = {"examples": len(examples), "looked_at": count}
    # What is not shown has marks, by which examples are told apart, and no values.
    figures = counts | (figures if data.pictured else {})
    if examples.classes:
        names = examples.class_names or tuple(map(str, range(examples.classes)))
        figures["classes"] = dict(zip(names, labels.tolist(), strict=True))
    figures["unlabelled"] = unlabelled
    figures["repeated_examples"] = seen.total() - len(seen)
    figures["files"] = examples.found
    figures["refused"] = [list(each) for each in examples.refused]
    # As stored, before the cleaning that all above has been through.
    as_stored = figures["as_stored"] = examples.findings  # for which all are read
    figures["changes"] = list(data.changes(as_stored))
    figures["doubts"] = list(data.doubts(examples.source)) if train else []
    figures["left_out"] = dict(examples.source.left_out)
    return Survey(figures, seen, moments.sample)


def inspect(data: Modality, most: int | None = None) -> tuple[dict, dict[str, bytes]]:
    """(report, name -> PNG). most: examples of each part to look at."""
    with _warnings() as said:
        parts = {
            name: survey(data, name == "train", most) for name in ("train", "test")
        }
    train, test = parts["train"], parts["test"]
    shared = sum(n for digest, n in test.seen.items() if digest in train.seen)
    report: dict[str, Any] = {
        "data": type(data).__name__,
        "kind": data.kind,
        "shape": list(data.shape),
        "rate": float(data.rate),
        **{name: part.figures for name, part in parts.items()},
        "test_examples_also_in_train": shared,
        "log": said,
    }
    report["warnings"] = list(_worries(report))
    plots = {}
    if data.pictured:
        plots = {
            "examples": pictures.png(example_picture(data)),
            "augmented": pictures.png(augmented_picture(data)),
            "values": value_histogram(train.sample, data.pixels, _units(train.figures)),
        }
    if "classes" in train.figures:
        counts = train.figures["classes"]
        names = list(counts) if len(counts) <= 12 else None
        plots["classes"] = pictures.bar_plot(
            list(counts.values()), "class", "training examples", names=names
        )
    return report, plots


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What readers of data log while they skip what cannot be read; what is done to
    values is not logged, since the report has it of each part."""
    said: list[str] = []
    silent = lambda record: False

    class Keep(logging.Handler):
        def emit(self, record):
            if record.getMessage() not in said:
                said.append(record.getMessage())

    keep = Keep(logging.WARNING)
    loggers = [logging.getLogger(name) for name in READERS]
    for logger in loggers:
        logger.addHandler(keep)
    CHANGES.addFilter(silent)
    try:
        yield said
    finally:
        CHANGES.removeFilter(silent)
        for logger in loggers:
            logger.removeHandler(keep)


def _units(part: dict) -> Units:
    """What the channels are called, where files say so."""
    return Units(names=tuple(part["as_stored"].get("channels", ())))


def _worries(report: dict) -> Iterator[str]:
    """What a person should know before training, worst first."""
    if shared := report["test_examples_also_in_train"]:
        yield f"{shared} test examples are in the training part too"
    for name in ("train", "test"):
        part = report[name]
        if refused := part.get("refused"):
            yield f"{name}: {len(refused)} of {part['files']} files cannot be read"
        for line in [*part["changes"], *part["doubts"]]:
            yield f"{name}: {line}"
        if repeated := part["repeated_examples"]:
            yield f"{name}: {repeated} examples repeat another"
        if blank := part.get("blank_examples"):
            yield f"{name}: {blank} examples hold one value throughout"
        for channel in part.get("constant_channels", ()):
            yield f"{name}: {_units(part).called(channel)} never changes"
        if part.get("share_outside_1", 0) > 0.01:
            share = part["share_outside_1"]
            yield f"{name}: {share:.1%} of the values lie outside [-1, 1]"
        counts = part.get("classes", {})
        empty = [each for each, n in counts.items() if not n]
        if empty and part["looked_at"] < part["examples"]:
            continue  # there may be some of these among the others
        if empty:
            yield f"{name}: no example of {len(empty)} classes, such as {empty[0]}"
        elif counts and max(counts.values()) > UNEVEN * min(counts.values()):
            rare, common = min(counts, key=counts.get), max(counts, key=counts.get)
            many, few = counts[common], counts[rare]
            yield f"{name}: {many} examples of {common} and {few} of {rare}"
    for at in ("mean", "std") if "mean" in report["train"] else ():
        pair = [np.array(report[name][at]) for name in ("train", "test")]
        spread = np.maximum(np.array(report["train"]["std"]), 1e-9)
        if (np.abs(pair[0] - pair[1]) > 0.5 * spread).any():
            yield f"train and test differ: {at} {_row(pair[0])} and {_row(pair[1])}"


def _row(values, limit: int = 6) -> str:
    texts = [number(float(v)) for v in values[:limit]]
    return ", ".join([*texts, "..."] if len(values) > limit else texts)


def lines(report: dict) -> Iterator[str]:
    shape = " x ".join(map(str, report["shape"]))
    rate = f" at {report['rate']:g} a second" if report["rate"] else ""
    yield f"{report['data']}: {report['kind']} of {shape}{rate}"
    for name in ("train", "test"):
        part = report[name]
        looked = part["looked_at"]
        some = f" ({number(looked)} looked at)" if looked < part["examples"] else ""
        of = f" of {part['dtype']}" if "dtype" in part else ""
        yield f"{name}: {number(part['examples'])} examples{of}{some}"
        if "min" in part:
            yield f"  range       {_row(part['min'])} to {_row(part['max'])}"
        if "raw_min" in part:
            yield f"  in own unit {_row(part['raw_min'])} to {_row(part['raw_max'])}"
        if "mean" in part:
            yield f"  mean, std   {_row(part['mean'])}; {_row(part['std'])}"
        if "missing_share" in part:
            yield f"  missing     {_percent(part['missing_share'])}"
        if "outlier_share" in part:
            yield f"  outliers    {_percent(part['outlier_share'])} as trained on"
        for what, value in part["as_stored"].items():
            listed = value[:6] if isinstance(value, list) else [value]
            shown = ", ".join(map(number, listed))
            shown = _percent(value) if what.endswith("share") else shown
            yield f"  as stored   {what.replace('_', ' ')}: {shown}"
        if "classes" in part:
            counts = list(part["classes"].items())
            shown = ", ".join(f"{key} {n}" for key, n in counts[:12])
            more = f", and {len(counts) - 12} more" if len(counts) > 12 else ""
            yield f"  classes     {shown}{more}"
        if part["left_out"]:
            yield f"  left out    {counted(part['left_out'])}"
        for file, why in part.get("refused", [])[:10]:
            yield f"  refused     {file}: {why}"
    for said in report["log"][:10]:
        yield f"note: {said}"
    for worry in report["warnings"]:
        yield f"look: {worry}"
    if not report["warnings"]:
        yield "nothing that looks wrong"


def _percent(shares) -> str:
    return ", ".join(map(percent, shares[:6]))


def main(argv=None):
    hosts.alone()
    command = parse(argv, Experiment, flags=FLAGS)
    experiment = command.experiment
    out = command.flags.get("out", f"inspect_{experiment.name}")
    out = out_folder(out, there=True)
    data = experiment.data
    # Of a stage two whose streams have their own, a folder for each.
    parts = data if isinstance(data, dict) else {"": data}
    check_free(out, folders=filter(None, parts))
    for stream in parts:
        check_free(out / stream, ["report.json", *(f"{name}.png" for name in PLOTS)])
    for stream, each in parts.items():
        report, plots = inspect(each, command.flags.get("most"))
        for line in lines(report):
            print(line)
        for name, png in plots.items():
            write_bytes(out / stream / f"{name}.png", png)
        write(out / stream / "report.json", {"experiment": experiment.name} | report)
        print(f"pictures and report.json are in {out / stream}")


if __name__ == "__main__":
    run(main)
