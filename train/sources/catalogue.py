"""Prepared TFDS sets, read from their ArrayRecord files without TensorFlow.

TFDS needs TensorFlow to describe some features (sound, in 4.9.10), and decodes one by
one, at a tenth of the speed; so features.json and the records are read here.
"""

import dataclasses
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.draws import chance
from train.modalities.image import decode_picture
from train.modalities.modality import Modality, Record
from train.sources.source import Source
from train.sources.split import held_out, part_rows

# Below this many bytes a record decodes in tens of microseconds, nearly all of them
# holding the interpreter lock, and threads make it slower (measured on MNIST).
LIGHT_BYTES = 2048
CLASSES = "ClassLabel"


class Prepared(Source):
    """Rows of a split of a prepared set: a signal, its label, and a caption.

    signal, label, caption: names of the features; "" where there is none.
    """

    def __init__(self, data: Modality, features: "Schema", records: Any):
        super().__init__(len(records), features.class_names)
        self.data, self.features, self.records = data, features, records
        self.rows = np.arange(len(records))

    def only(self, rows: np.ndarray) -> "Prepared":
        """The same, of these rows alone."""
        self.rows, self.count, self.found = rows, len(rows), len(rows)
        return self

    def read(self, rows):
        rows = [int(self.rows[row]) for row in rows]
        pairs = zip(rows, self.parsed(rows), strict=True)
        return [self._record(row, feature) for row, feature in pairs]

    def parsed(self, rows: Sequence[int]) -> list[Any]:
        """Records of the split as TensorFlow's features by name."""
        from tensorflow_datasets.proto import tf_example_pb2

        try:
            records = self.records.__getitems__(rows)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise BadInput(
                f"data.name={self.data.name!r}: damaged records ({reason}); prepare it "
                "again"
            ) from error
        parse = tf_example_pb2.Example.FromString
        return [parse(record).features.feature for record in records]

    def _record(self, row: int, feature: Any) -> Record:
        known, where = self.features, f"data.name={self.data.name!r}"
        label, more = -1, {}
        if known.label:
            label = int(feature[known.label].int64_list.value[0])
            # -1 is how TFDS writes "not known", as in the test split of ImageNet.
            if not -1 <= label < self.classes:
                raise BadInput(
                    f"{where}: label {label} of example {row} is outside its "
                    f"{self.classes} classes; prepare the set again"
                )
        if known.caption:
            caption = feature[known.caption].bytes_list.value
            more["caption"] = caption[0].decode("utf-8") if caption else ""
        try:
            values = known.decode(feature[known.signal])
            return self.data.adapt(Record(values, known.rate, label=label, more=more))
        except Unreadable as error:
            raise BadInput(
                f"{where}: {self.data.kind} {row} is damaged ({error})"
            ) from error


@dataclasses.dataclass(frozen=True)
class Schema:
    """Which features of a set are read, and how its signal is stored.

    names: of the feature that holds file names; "" where there is none.
    encoded: pictures are, arrays are stored as numbers; sizes: of these, -1 where one
        varies.
    """

    signal: str
    label: str
    caption: str
    names: str
    class_names: tuple[str, ...]
    rate: float
    encoded: bool
    sizes: tuple[int, ...]

    def decode(self, value: Any) -> np.ndarray:
        """Pixels of an encoded picture, or the array that is stored as numbers."""
        if self.encoded:
            encoded = value.bytes_list.value
            return decode_picture(encoded[0] if encoded else b"")
        x = np.array(value.int64_list.value or value.float_list.value)
        return x.reshape(self.sizes)


def _features(data: Modality, folder: Path) -> Schema:
    where = f"data.name={data.name!r}"
    features = _json(folder / "features.json")["featuresDict"]["features"]

    def find(kind: str, names: Sequence[str] = (), only: bool = True) -> str:
        """The one of this kind by one of the names, else (`only`) the one there is."""
        found = [
            name
            for name, feature in features.items()
            if feature.get("pythonClassName", "").endswith(f".{kind}")
        ]
        named = [name for name in names if name in found]
        return (named or (found if only and len(found) == 1 else [""]))[0]

    signal, label = find(data.feature, (data.kind,)), find(CLASSES, ("label",))
    if not signal:
        raise BadInput(
            f"{where} holds no single {data.kind}: its features are "
            f"{', '.join(sorted(features))}; write a set of {data.kind}"
        )
    about = features[signal].get(data.kind, {})
    encoding = str(about.get("encoding", "NONE")).upper()
    if not data.pixels and encoding not in ("NONE", ""):
        raise BadInput(f"{where}: sound encoded as {encoding}; prepare it plain")
    dtype = about.get("dtype", "uint8")
    if data.pixels and dtype not in ("uint8", "uint16"):
        raise BadInput(f"{where}: {dtype} images; write a set of uint8")
    names, path = (), folder / f"{label}.labels.txt"
    if label and path.is_file():
        names = tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
    elif label:
        count = int(features[label]["classLabel"].get("numClasses", 0))
        names = tuple(map(str, range(count)))
    sizes = about.get("shape", {}).get("dimensions", ["-1"])
    return Schema(
        signal,
        label,
        find("Text", ("caption", "text"), only=False),
        next((each for each in features if each.endswith("filename")), ""),
        names,
        float(about.get("sampleRate") or data.rate),
        data.pixels,
        tuple(map(int, sizes)),
    )


def open_prepared(data: Modality, train: bool) -> Prepared:
    """One part of the prepared set data.name below data.data_dir.

    The parts are the splits train_split and test_split. Sets of sound often have one
    alone: there, or where holdout is a rule over file names, holdout divides it.
    """
    root, folder = prepared(data)
    info, features = _json(folder / "dataset_info.json"), _features(data, folder)
    rule = data.holdout if isinstance(data.holdout, str) else ""
    names = [each["name"] for each in info["splits"]]
    divided = (
        rule
        or not data.pixels
        and (data.test_split not in names or data.test_split == data.train_split)
    )
    field = "train_split" if train or divided else "test_split"
    records, light = _records(data, root, folder, info, field)
    found = Prepared(data, features, records)
    found.light = light
    if not divided:
        return found
    rows = np.arange(len(found))
    if rule:
        if not features.names:
            raise BadInput(
                f"data.holdout={rule!r}: {data.name!r} has no file names; write a share"
            )
        known = [each[features.names].bytes_list for each in found.parsed(rows)]
        held = held_out([each.value[0].decode() for each in known], rule)
        return found.only(np.flatnonzero(held != train))
    return found.only(part_rows(chance(0, rows), data.holdout, train, data.name))


def _records(data: Modality, root: Path, folder: Path, info: dict, field: str):
    """(random access to the encoded records of a split, whether they are light)."""
    # Slow to import, and most runs of the demo need none.
    from array_record.python import array_record_data_source
    from tensorflow_datasets.core import naming, splits

    form = info.get("fileFormat", "array_record")
    if form != "array_record":
        raise BadInput(
            f"{folder}: prepared as {form}, which has no random access; "
            f"move it away and {_command(data, root)}"
        )

    def split(each: dict) -> splits.SplitInfo:
        template = naming.ShardedFileTemplate(
            data_dir=folder,
            template=each.get("filepathTemplate") or naming.DEFAULT_FILENAME_TEMPLATE,
            dataset_name=info.get("name") or data.name.split(":")[0].split("/")[0],
            filetype_suffix=form,
            split=each["name"],
        )
        lengths = list(map(int, each["shardLengths"]))
        return splits.SplitInfo(each["name"], lengths, 0, template)

    asked = f"data.{field}={getattr(data, field)!r}"
    names = ", ".join(each["name"] for each in info["splits"])
    try:
        found = splits.SplitDict(map(split, info["splits"]))[getattr(data, field)]
    except (KeyError, ValueError):
        raise BadInput(
            f"data.name={data.name!r} has no {asked}; write one of {names}, or a slice "
            "of one"
        ) from None
    if not found.num_examples:
        raise BadInput(
            f"data.name={data.name!r}: nothing in {asked}; write one of {names}"
        )
    paths = [Path(each.filename) for each in found.file_instructions]
    for path in paths:
        if not path.is_file():
            raise BadInput(f"{path}: no such file; {_command(data, root)}")
    try:
        records = array_record_data_source.ArrayRecordDataSource(
            found.file_instructions
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"{folder}: cannot open its records ({error})") from error
    size = sum(path.stat().st_size for path in paths)
    count = sum(each.examples_in_shard for each in found.file_instructions)
    return records, size / count < LIGHT_BYTES


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(
            f"{path.parent}: not a readable TFDS set ({error}); prepare it again"
        ) from error


def prepared(data: Modality) -> tuple[Path, Path]:
    """(data_dir, folder of the newest version, or of the one named) of data.name.

    Raises BadInput where the set is not prepared and data.download does not allow it.
    """
    root = Path(data.data_dir or _default_dir()).expanduser()
    return root, _version(data, root) or _prepare(data, root)


def _default_dir() -> str:
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def _command(data: Modality, root: Path) -> str:
    return (
        f"run: tfds build {data.name} --data_dir={root} --file_format=array_record "
        "(needs TensorFlow: pip install 'vqdit[tf]')"
    )


def _version(data: Modality, root: Path) -> Path | None:
    """Folder of the newest prepared version (or the one named); None: not prepared."""
    name, _, version = data.name.partition(":")
    parent = root / name
    found = _versions(parent)
    if not found:
        configs = [path for path in parent.glob("*/") if _versions(path)]
        names = sorted(f"{name}/{path.name}" for path in configs)
        if len(names) == 1:
            found = _versions(configs[0])
        elif names:
            raise BadInput(
                f"data.name={data.name!r} has configurations; "
                f"write {' or '.join(names)}"
            )
    if version and found and version not in found:
        raise BadInput(
            f"data.name={data.name!r}: version {version} is not in {parent}; "
            f"write one of {', '.join(sorted(found))}"
        )
    if not found:
        return None
    return found[version] if version else found[max(found, key=_numbers)]


def _versions(parent: Path) -> dict[str, Path]:
    folders = [path.parent for path in parent.glob("*/dataset_info.json")]
    # A build that was cut short leaves a folder such as 1.0.0.incompleteA1B2.
    return {f.name: f for f in folders if re.fullmatch(r"\d+\.\d+\.\d+", f.name)}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _prepare(data: Modality, root: Path) -> Path:
    if not data.download:
        infos = [
            *root.glob("*/*/dataset_info.json"),
            *root.glob("*/*/*/dataset_info.json"),
        ]
        present = sorted({path.relative_to(root).parts[0] for path in infos})
        beside = f"; prepared there: {', '.join(present)}" if present else ""
        raise BadInput(
            f"data.name={data.name!r} is not prepared in {root}{beside}; "
            f"{_command(data, root)}, or write data.download=True"
        )
    # Asked first: without it TFDS downloads everything and fails only then.
    if importlib.util.find_spec("tensorflow") is None:
        raise BadInput(
            f"data.download=True: preparing {data.name!r} needs TensorFlow; "
            "pip install 'vqdit[tf]'"
        )
    import tensorflow_datasets as tfds  # slow to import

    try:
        builder = tfds.builder(data.name, data_dir=root, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, licence: each raises its own
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"data.download=True: TFDS could not prepare {data.name!r} ({reason}); "
            f"{_command(data, root)}"
        ) from error
    return Path(builder.data_dir)
