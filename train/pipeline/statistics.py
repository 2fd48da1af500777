"""Statistics of the training split: fitted once, kept with the workdir."""

import contextlib
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable, reading
from train.modalities.files import writing
from train.modalities.modality import Modality
from train.modalities.transforms.normalise import Moments, Statistics
from train.pipeline.batching import spaced
from train.progress import progress
from train.sources import Source, open_source
from vqdit import sealed
from vqdit.trained.bundle import read_json
from vqdit.values import build, describe

FILE = "statistics.json"
PROBED = 16  # records that are compared to tell data from other data
# Settings that change nothing in what is measured.
FREE = ("threads", "words", "augment", "stride", "download")
# Settings that statistics of before did not have, where they change nothing.
LATER = {"duplicates": "first", "spacing": (), "elevation": (-25.0, 3.0), "share": 1.0}
# Files of before classes had public names say where theirs was.
WAS = {"Cleaning": "train.data.clean.Cleaning"}


# Statistics and both parts read the same records; reading them once is enough.
@functools.lru_cache(maxsize=16)  # which keeps what is asked for by name apart
def records_of(data: Modality, train: bool, /) -> Source:
    """The source of one part, shared by all who ask for the same."""
    return open_source(data, train)


# By settings and identity, so that what one program has read it reads once, and a run
# that resumes not at all. What is in here never depends on who asked first: statistics
# from a file are believed only if that names the same settings and identity.
_known: dict[str, Statistics] = {}


def statistics_of(data: Modality) -> Statistics:
    """Of the training split: fitted in one pass, at most once in a program."""
    key = _key(data)
    if key not in _known:
        _known[key] = moments_of(data).finished()
    return _known[key]


def are_known(data: Modality) -> bool:
    """Whether no pass is needed for them any more."""
    return data.normalise is None or _key(data) in _known


def believe(data: Modality, statistics: Statistics) -> None:
    """Takes them for those of the training split."""
    _known[_key(data)] = statistics


def moments_of(data: Modality, share: tuple[int, int] = (0, 1)) -> Moments:
    """Of every count-th record of the training split; share: (index, count)."""
    records, (index, count) = records_of(data, True), share
    moments = Moments(records[0].values.shape[-1], index)
    rows = range(index, len(records), count)
    for row in progress(rows, "fitting statistics", unit="record"):
        record = records[row]  # read once, also where none are kept
        values, known = record.values, record.known
        if known is not None:
            known = known.reshape(-1, known.shape[-1])
        moments.add(values.reshape(-1, values.shape[-1]), known)
    return moments


def probe(data: Modality, train: bool) -> dict[str, Any]:
    """What tells the records of one part from others: how many there are, and of the
    first examples of some the mean, the standard deviation and the label."""
    records = records_of(data, train)
    found = []
    for row in spaced(len(records), PROBED).tolist():
        record = records[row]  # whole, and of a large one no more lie in memory
        start = next(iter(data.starts(record)))
        x = data.cut([record], [start], None)["x"].astype(np.float64)
        found.append((float(x.mean()), float(x.std()), int(record.label)))
    return {"records": len(records), "some": tuple(found)}


def refuse_others(made_of: dict[str, Any], data: Modality, what: str) -> None:
    """Raises BadInput where `made_of`, a probe of the training part, is of other data
    than this is."""
    try:
        other = other_records(made_of, data, train=True)
    except Unreadable as error:
        raise BadInput(f"{what}: {error}; make it anew") from error
    if other:
        raise BadInput(
            f"{what}: made of {other} now; give the data back, or make it anew"
        )


def other_records(made_of: dict[str, Any], data: Modality, train: bool) -> str:
    """In words, how records that a probe is of differ from those of one part of the
    data; "" where they do not. Raises Unreadable for what is no probe."""
    return differing(made_of, probe(data, train))


def differing(made_of: dict[str, Any], now: dict[str, Any], atol: float = 1e-6) -> str:
    """As `other_records`, of two probes. atol: that of a mean or a deviation."""
    with reading("damaged"):
        count, some = made_of["records"], np.asarray(made_of["some"], np.float64)
        if count != now["records"]:
            return f"{count} records and the data has {now['records']}"
        same = np.allclose(some, now["some"], rtol=1e-4, atol=atol, equal_nan=True)
    return "" if same else "other records than the data has"


def keep_statistics(
    data: Modality, workdir: str | Path, write: bool = True
) -> Statistics | None:
    """Statistics from WORKDIR/statistics.json, or fitted now and written there.

    None for a kind of data whose values have a range of their own (images, video).
    Raises BadInput where the file is of other data, so that a run never goes on with
    its signals on another scale. write: False for every process but the first.
    """
    if data.normalise is None:
        return None
    path = Path(workdir) / FILE
    try:
        return _believed(path, data)
    except FileNotFoundError:
        statistics = statistics_of(data)
        if write:
            kept = {"of": _key(data), "statistics": describe(statistics)}
            kept["anywhere"] = _key(data, anywhere=True)
            kept["data"] = probe(data, train=True)
            writing.write(path, sealed.sealed(kept))
        return statistics


def recall_statistics(data: Modality, workdir: str | Path | None) -> None:
    """Believes WORKDIR/statistics.json where it is of this data; never refuses.

    For a program that looks at its data before it may claim the folder, which is when
    keep_statistics refuses what has to be.
    """
    if workdir is not None and data.normalise is not None:
        with contextlib.suppress(BadInput, OSError):
            _believed(Path(workdir) / FILE, data)


def _believed(path: Path, data: Modality) -> Statistics:
    """Those of the file, of this data."""
    try:
        stored = read_json(path)
        with reading("damaged"):
            stored = sealed.opened(stored)
            statistics = build(stored["statistics"], ("train",))
            same = stored["of"] == _key(data)
            # Files of before, and those of data without a mark, keep their path.
            same = same or stored.get("anywhere", "") == _key(data, True) != ""
    except ValueError as error:
        raise BadInput(
            f"{path}: {error}; remove it to fit the statistics again"
        ) from error
    if not same or not isinstance(statistics, Statistics):
        raise BadInput(
            f"{path} was fitted on other data than this run reads now; give the run "
            "its data back, or start another --workdir"
        )
    if "data" in stored:  # not of before
        refuse_others(stored["data"], data, str(path))
    believe(data, statistics)
    return statistics


def _key(data: Modality, anywhere: bool = False) -> str:
    """Of the settings, and of what tells the records from others at the same path; or
    `anywhere`, and "" where nothing does."""
    records, free = records_of(data, True), (*FREE, *["data_dir"] * anywhere)
    if anywhere and not records.mark:
        return ""
    fields = {
        name: value
        for name, value in describe(data)["fields"].items()
        if name not in free
        and (name not in LATER or getattr(data, name) != LATER[name])
    }
    for value in fields.values():
        if isinstance(value, dict) and "class" in value:
            name = value["class"].rpartition(".")[2]
            value["class"] = WAS.get(name, name)
    kind = type(data).__name__
    of = records.mark if anywhere else records.identity
    text = json.dumps([kind, fields, of], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
