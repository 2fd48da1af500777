"""Prepared TFDS sets, read from their ArrayRecord files without TensorFlow.

TFDS needs TensorFlow to describe some features (sound, in 4.9.10), and decodes one by
one, at a tenth of the speed; so features.json and the records are read here.
"""

import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable, one_line
from train.modalities.draws import chance
from train.modalities.files.pictures import read_picture
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.sources.source import Source
from train.sources.split import divided
from vqdit.sealed import parsed

# Below this many bytes a record decodes in tens of microseconds, nearly all of them
# holding the interpreter lock, and threads make it slower (measured on MNIST).
LIGHT_BYTES = 2048


class Prepared(Source):
    """Rows of a split of a prepared set: a signal, its label, and a caption.

    signal, label, caption, file: names of the features; "" where there is none.
    encoded: pictures are, arrays are stored as numbers; sizes: of these, -1 where one
        varies.
    """

    def __init__(self, data: Modality, folder: Path, records: Any):
        self.data, self.records = data, records
        self.where = f"data.name={data.name!r}"
        features = _json(folder / "features.json")["featuresDict"]["features"]

        ends = {n: each.get("pythonClassName", "") for n, each in features.items()}

        def of_kind(kind: str) -> list[str]:
            return [name for name, end in ends.items() if end.endswith(f".{kind}")]

        def find(kind: str, name: str) -> str:
            """The feature of this kind by this name, else the one there is."""
            found = of_kind(kind)
            return name if name in found else found[0] if len(found) == 1 else ""

        self.signal = find(data.feature, data.kind)
        self.label = find("ClassLabel", "label")
        texts = [name for name in ("caption", "text") if name in of_kind("Text")]
        self.caption = texts[0] if texts else ""
        if not self.signal:
            raise BadInput(
                f"{self.where} holds no single {data.kind}: its features are "
                f"{', '.join(sorted(features))}; write a set of {data.kind}"
            )
        self.file = next((each for each in features if each.endswith("filename")), "")
        about = features[self.signal].get(data.kind, {})
        encoding = str(about.get("encoding", "NONE")).upper()
        if not data.pixels and encoding not in ("NONE", ""):
            raise BadInput(
                f"{self.where}: sound encoded as {encoding}; prepare it plain"
            )
        dtype = about.get("dtype", "uint8")
        if data.pixels and dtype not in ("uint8", "uint16"):
            raise BadInput(f"{self.where}: {dtype} images; write a set of uint8")
        names, path = (), folder / f"{self.label}.labels.txt"
        if self.label and path.is_file():
            names = path.read_text(encoding="utf-8").split("\n")[:-1]
        elif self.label:
            count = int(features[self.label]["classLabel"].get("numClasses", 0))
            names = map(str, range(count))
        super().__init__(len(records), names)
        self.rate = float(about.get("sampleRate") or data.rate)
        self.sizes = tuple(map(int, about.get("shape", {}).get("dimensions", ["-1"])))
        self.rows = np.arange(len(records))

    def only(self, rows: np.ndarray) -> "Prepared":
        """The same, of these rows alone."""
        self.rows, self.count, self.found = rows, len(rows), len(rows)
        return self

    def read(self, rows):
        rows = [int(self.rows[row]) for row in rows]
        pairs = zip(rows, self._parsed(rows), strict=True)
        return [self._record(row, feature) for row, feature in pairs]

    def file_names(self) -> list[str]:
        """Those of all rows; none where they are not stored."""
        parsed = self._parsed(self.rows.tolist()) if self.file else ()
        return [each[self.file].bytes_list.value[0].decode() for each in parsed]

    @functools.cached_property
    def keys(self) -> list[str] | None:
        """File names without their suffixes, where they are stored."""
        return list(map(self.data.stem, self.file_names())) if self.file else None

    def _parsed(self, rows: Sequence[int]) -> list[Any]:
        """Records of the split as TensorFlow's features by name."""
        from tensorflow_datasets.proto import tf_example_pb2

        try:
            records = self.records.__getitems__(rows)
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(
                f"{self.where}: damaged records ({one_line(error)}); prepare it again"
            ) from error
        parse = tf_example_pb2.Example.FromString
        return [parse(record).features.feature for record in records]

    def _record(self, row: int, feature: Any) -> Record:
        label, more = -1, {}
        if self.label:
            label = int(feature[self.label].int64_list.value[0])
            # -1 is how TFDS writes "not known", as in the test split of ImageNet.
            if not -1 <= label < self.classes:
                raise BadInput(
                    f"{self.where}: label {label} of example {row} is outside its "
                    f"{self.classes} classes; prepare the set again"
                )
        if self.caption:
            caption = feature[self.caption].bytes_list.value
            more["caption"] = caption[0].decode("utf-8") if caption else ""
        value = feature[self.signal]
        try:
            if self.data.pixels:
                encoded = value.bytes_list.value
                how = encoded[0] if encoded else b"", self.data.white
                picture = read_picture(*how)
                values, more = picture.pixels, more | picture.more
            else:
                values = np.array(value.int64_list.value or value.float_list.value)
                values = values.reshape(self.sizes)
            return self.data.adapt(Record(values, self.rate, label=label, more=more))
        except Unreadable as error:
            raise BadInput(
                f"{self.where}: {self.data.kind} {row} is damaged ({error})"
            ) from error


def open_prepared(data: Modality, train: bool) -> Prepared:
    """One part of the prepared set data.name below data.data_dir.

    The parts are the splits train_split and test_split. Sets of sound often have one
    alone: there, or where holdout is a rule over file names, holdout divides it.
    """
    home = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = Path(data.data_dir or home).expanduser()
    folder = _version(data, root) or _prepare(data, root)
    info = _json(folder / "dataset_info.json")
    rule = isinstance(data.holdout, str)
    names = [each["name"] for each in info["splits"]]
    alone = data.test_split not in names or data.test_split == data.train_split
    divides = rule or alone and not data.pixels
    field = "train_split" if train or divides else "test_split"
    records, light = _records(data, root, folder, info, field)
    found = Prepared(data, folder, records)
    found.light = light
    if not divides:
        return found
    draws, files = chance(0, np.arange(len(found))), found.file_names() if rule else ()
    return found.only(divided(data, train, draws, repr(data.name), files))


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

    where, asked = f"data.name={data.name!r}", f"data.{field}={getattr(data, field)!r}"
    names = ", ".join(each["name"] for each in info["splits"])
    try:
        found = splits.SplitDict(map(split, info["splits"]))[getattr(data, field)]
    except (KeyError, ValueError):
        raise BadInput(
            f"{where} has no {asked}; write one of {names}, or a slice of one"
        ) from None
    if not found.num_examples:
        raise BadInput(f"{where}: nothing in {asked}; write one of {names}")
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
        found = parsed(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it holds no fields by name")
        return found
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path.parent}: not a readable TFDS set ({error}); prepare it again"
        ) from error


def _command(data: Modality, root: Path) -> str:
    return (
        f"run: tfds build {data.name} --data_dir={root} --file_format=array_record "
        "(needs TensorFlow: pip install tensorflow)"
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
            "pip install tensorflow"
        )
    import tensorflow_datasets as tfds  # slow to import

    try:
        builder = tfds.builder(data.name, data_dir=root, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, licence: each raises its own
        raise BadInput(
            f"data.download=True: TFDS could not prepare {data.name!r} "
            f"({one_line(error)[:300]}); {_command(data, root)}"
        ) from error
    return Path(builder.data_dir)
