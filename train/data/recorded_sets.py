"""Recordings of prepared TFDS sets, read without TensorFlow."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_data_source
from tensorflow_datasets.proto import tf_example_pb2

from train.data.catalogue import prepared
from train.data.clean_audio import one_channel, resampled
from train.data.images import Unreadable
from train.data.recordings import Clips, full_scale, held_out
from train.data.sources import chance, divide
from train.errors import BadInput


def catalogued(audio: Any, train: bool) -> tuple[Clips, tuple[str, ...]]:
    """A split of a prepared TFDS set, read without TensorFlow.

    TFDS itself needs TensorFlow to describe a feature of sound (4.9.10), so its
    features.json and its records are read here. With a split of each name those are the
    two parts; otherwise, or by a rule, holdout divides train_split.
    """
    _, where = prepared(audio)
    features = _json(where / "features.json")["featuresDict"]["features"]
    sound = _feature(audio, features, "Audio")
    label = _feature(audio, features, "ClassLabel", needed=False)
    name = next((each for each in features if each.endswith("filename")), None)
    about = features[sound].get("audio", {})
    encoding = str(about.get("encoding", "NONE")).upper()
    if encoding not in ("NONE", ""):
        raise BadInput(
            f"data.name={audio.name!r}: sound encoded as {encoding}; prepare it plain"
        )
    own_rate = float(about.get("sampleRate") or audio.rate)
    splits = [each["name"] for each in _json(where / "dataset_info.json")["splits"]]
    rule = isinstance(audio.holdout, str)
    apart = (
        not rule
        and audio.test_split in splits
        and audio.test_split != (audio.train_split)
    )
    split = audio.train_split if train or not apart else audio.test_split
    records = _records(audio, where, split, splits)

    def parse(i: int):
        try:
            (record,) = records.__getitems__([i])
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise BadInput(
                f"data.name={audio.name!r}: record {i} is damaged ({reason})"
            ) from error
        return tf_example_pb2.Example.FromString(record).features.feature

    def read(i: int) -> np.ndarray:
        value = parse(i)[sound]
        x = np.array(value.int64_list.value or value.float_list.value)
        sizes = about.get("shape", {}).get("dimensions", ["-1"])
        x = x.reshape([int(size) for size in sizes])
        try:
            x = one_channel(full_scale(x))
        except Unreadable as error:
            raise BadInput(
                f"data.name={audio.name!r}: recording {i} {error}"
            ) from error
        return audio.clean(resampled(x, own_rate, audio.rate), audio.rate)

    count = len(records)
    # One pass over the set for what has to be known of all: small sets, of a second.
    known = [parse(i) for i in range(count)] if rule or label else []
    labels = np.full(count, -1)
    if label:
        labels = np.array([int(each[label].int64_list.value[0]) for each in known])
    rows = np.arange(count)
    if rule:
        if name is None:
            raise BadInput(
                f"data.holdout={audio.holdout!r}: {audio.name!r} has no file names; "
                "write a share"
            )
        names = [each[name].bytes_list.value[0].decode() for each in known]
        rows = np.flatnonzero(held_out(names, audio.holdout) != train)
    elif not apart:
        rows = divide(chance(0, rows), audio.holdout, train, audio.name)
    return Clips(read, rows, labels[rows]), _class_names(where, features, label)


def _records(audio, where: Path, split: str, splits: list[str]):
    if split not in splits:
        raise BadInput(
            f"data.name={audio.name!r} has no split {split!r}; write one of "
            f"{', '.join(splits)}"
        )
    paths = sorted(where.glob(f"*-{split}.array_record*"))
    of = re.search(r"-of-(\d+)$", paths[0].name) if paths else None
    if not paths or (of and int(of.group(1)) != len(paths)):
        raise BadInput(
            f"{where}: {len(paths)} files of split {split!r}, which is not all of it; "
            "prepare the set again as array_record"
        )
    return array_record_data_source.ArrayRecordDataSource([str(p) for p in paths])


def _feature(audio, features: dict, kind: str, needed: bool = True) -> str | None:
    found = [
        name
        for name, feature in features.items()
        if feature.get("pythonClassName", "").endswith(f".{kind}")
    ]
    if len(found) != 1 and needed:
        raise BadInput(
            f"data.name={audio.name!r} holds no single sound: its features are "
            f"{', '.join(sorted(features))}; write a set of recordings"
        )
    return found[0] if found else None


def _class_names(where: Path, features: dict, label: str | None) -> tuple[str, ...]:
    if label is None:
        return ()
    path = where / f"{label}.labels.txt"
    if path.is_file():
        return tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
    return tuple(map(str, range(int(features[label]["classLabel"]["numClasses"]))))


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); prepare it again") from error
