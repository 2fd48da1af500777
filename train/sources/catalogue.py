"""Prepared TFDS sets, read from their ArrayRecord files without TensorFlow.

TFDS needs TensorFlow to describe some features (sound, in 4.9.10), and decodes one by
one, at a tenth of the speed; so features.json and the records are read here.
"""

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from train.errors import BadInput, Unreadable, one_line, refused
from train.modalities.draws import chance
from train.modalities.files.limits import MOST_CLASSES
from train.modalities.files.pictures import read_picture
from train.modalities.files.stored import from_home, listed
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.progress import progress
from train.sources.builds import command, prepare_set, version_of
from train.sources.classes import CAPTIONS, one_of
from train.sources.folder import CHECKED
from train.sources.source import Source, marked
from train.sources.split import divided
from vqdit.sealed import parsed

# Below this many bytes a record decodes in tens of microseconds, nearly all of them
# holding the interpreter lock, and threads make it slower (measured on MNIST).
LIGHT_BYTES = 2048
CHUNK = 256  # records of which one feature is read at once
T = TypeVar("T")
TEST_SPLIT = Modality.test_split  # where nobody says another


class Prepared(Source):
    """Rows of a split of a prepared set: a signal, its label, and a caption.

    signal, label, caption, file: names of the features; "" where there is none.
    encoded: pictures are, arrays are stored as numbers; sizes: of these, -1 where one
        varies.
    """

    def __init__(self, data: Modality, folder: Path, records: Any):
        self.data, self.records = data, records
        self.where = f"data.name={data.name!r}"
        with _whole(folder):
            features = _json(folder / "features.json")["featuresDict"]["features"]
            self._describe(features, folder, len(records))
        self.rows = np.arange(len(records))

    def _describe(self, features: dict[str, Any], folder: Path, count: int) -> None:
        data = self.data
        ends = {n: each.get("pythonClassName", "") for n, each in features.items()}

        def of_kind(kind: str) -> list[str]:
            return [name for name, end in ends.items() if end.endswith(f".{kind}")]

        self.signal = one_of(of_kind(data.feature), data.kind)
        self.label = one_of(of_kind("ClassLabel"), "label")
        texts = of_kind("Text")
        self.caption = next((each for each in CAPTIONS if each in texts), "")
        if not self.signal:
            raise BadInput(
                f"{self.where} holds no single {data.kind}: its features are "
                f"{listed(sorted(features))}; write a set of {data.kind}"
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
        if self.label and path.parent == folder and path.is_file():
            names = path.read_text(encoding="utf-8").split("\n")[:-1]
        elif self.label:
            classes = int(features[self.label]["classLabel"].get("numClasses", 0))
            if classes > MOST_CLASSES:
                raise Unreadable(f"it has {classes:.3g} classes")
            names = map(str, range(classes))
        super().__init__(count, names)
        self.rate = float(about.get("sampleRate") or data.rate)
        self.sizes = tuple(map(int, about.get("shape", {}).get("dimensions", ["-1"])))

    def only(self, rows: np.ndarray) -> "Prepared":
        """The same, of these rows alone."""
        self.rows, self.count, self.found = rows, len(rows), len(rows)
        return self

    def read(self, rows):
        rows = [int(self.rows[row]) for row in rows]
        pairs = zip(rows, self._parsed(rows), strict=True)
        return [self._record(row, feature) for row, feature in pairs]

    def told(self, name):
        """Captions of a set of few: pictures are read beside them, not decoded."""
        few = name == "caption" and self.caption and self.count <= CHECKED
        return self._texts(self.caption) if few else None

    def read_labels(self):
        """Signals beside them are not decoded."""
        if not self.label:
            return [-1] * self.count
        return self._each(self.label, self._label)

    def file_names(self) -> list[str]:
        """Those of all rows; none where they are not stored."""
        found = self._texts(self.file) if self.file else []
        if "" in found:
            row = found.index("")
            raise BadInput(f"{self.where}: example {row} has no {self.file}")
        return found

    @functools.cached_property
    def keys(self) -> list[str] | None:
        """File names without their suffixes, where they are stored."""
        return list(map(self.data.stem, self.file_names())) if self.file else None

    def _texts(self, name: str) -> list[str]:
        return self._each(name, lambda row, feature: _text(feature))

    def _each(self, name: str, read: Callable[[int, Any], T]) -> list[T]:
        """What `read` has of this feature of all rows, a few of which lie in memory at
        once: what is beside it may be all of a large set."""
        found, lows = [], range(0, self.count, CHUNK)
        for low in progress(lows, f"reading each {name}", unit="chunk"):
            rows = self.rows[low : low + CHUNK].tolist()
            with _damaged(self.where, name):
                pairs = zip(rows, self._parsed(rows), strict=True)
                found += [read(row, feature[name]) for row, feature in pairs]
        return found

    def _label(self, row: int, feature: Any) -> int:
        label = int(feature.int64_list.value[0])
        # -1 is how TFDS writes "not known", as in the test split of ImageNet.
        if not -1 <= label < self.classes:
            raise BadInput(
                f"{self.where}: label {label} of example {row} is outside its "
                f"{self.classes} classes; prepare the set again"
            )
        return label

    def _parsed(self, rows: Sequence[int]) -> list[Any]:
        """Records of the split as TensorFlow's features by name."""
        from tensorflow_datasets.proto import tf_example_pb2

        try:
            if len(rows) == 1:  # for which threads would be begun otherwise
                records = [self.records[rows[0]]]
            else:
                records = self.records.__getitems__(rows)
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(
                f"{self.where}: damaged records ({one_line(error)}); prepare it again"
            ) from error
        parse = tf_example_pb2.Example.FromString
        with _damaged(self.where, "records"):
            return [parse(record).features.feature for record in records]

    def _record(self, row: int, feature: Any) -> Record:
        with _damaged(self.where, f"{self.data.kind} {row}"):
            return self._read(row, feature)

    def _read(self, row: int, feature: Any) -> Record:
        label, more = -1, {}
        if self.label:
            label = self._label(row, feature[self.label])
        if self.caption:
            more["caption"] = _text(feature[self.caption])
        value = feature[self.signal]
        if self.data.pixels:
            encoded = value.bytes_list.value
            how = encoded[0] if encoded else b"", self.data.white
            picture = read_picture(*how)
            values, more = picture.pixels, more | picture.more
        else:
            values = np.array(value.int64_list.value or value.float_list.value)
            values = values.reshape(self.sizes)
        return self.data.adapt(Record(values, self.rate, label=label, more=more))


def _text(feature: Any) -> str:
    value = feature.bytes_list.value
    return value[0].decode("utf-8") if value else ""


def open_prepared(data: Modality, train: bool) -> Prepared:
    """One part of the prepared set data.name below data.data_dir.

    The parts are the splits train_split and test_split, or slices. Sets of sound often
    have one alone: there, where both name one, or where holdout is a rule over file
    names, holdout divides it.
    """
    home = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = from_home(data.data_dir or home)
    folder = version_of(data, root) or prepare_set(data, root)
    info = _json(folder / "dataset_info.json")
    rule = isinstance(data.holdout, str)
    with _whole(folder):
        names = [each["name"] for each in info["splits"]]
        if not all(isinstance(name, str) for name in names):
            raise Unreadable("its splits have no names")
    missing = data.test_split == TEST_SPLIT and TEST_SPLIT not in names
    alone = data.test_split == data.train_split or missing and not data.pixels
    divides = rule or alone
    field = "train_split" if train or divides else "test_split"
    with _whole(folder):
        records, light, mark = _records(data, root, folder, info, field)
    found = Prepared(data, folder, records)
    found.light, found.mark = light, mark
    if not divides:
        return found
    draws, files = chance(0, np.arange(len(found))), found.file_names() if rule else ()
    return found.only(divided(data, train, draws, repr(data.name), files))


def _records(data: Modality, root: Path, folder: Path, info: dict, field: str):
    """(random access to the encoded records of a split, whether they are light, the
    mark of their files)."""
    # Slow to import, and most runs of the demo need none.
    from array_record.python import array_record_data_source
    from tensorflow_datasets.core import naming, splits

    form = info.get("fileFormat", "array_record")
    if form != "array_record":
        raise BadInput(
            f"{folder}: prepared as {form}, which has no random access; "
            f"move it away and {command(data, root)}"
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
    names = listed(each["name"] for each in info["splits"])
    try:
        found = splits.SplitDict(map(split, info["splits"]))[getattr(data, field)]
    except (KeyError, ValueError):
        raise BadInput(
            f"{where} has no {asked}; write one of {names}, or a slice of one"
        ) from None
    if not found.num_examples:
        raise BadInput(f"{where}: nothing in {asked}; write one of {names}")
    sizes = {}
    for each in found.file_instructions:
        path = Path(each.filename)
        if path.parent != folder or not path.is_file():
            raise BadInput(f"{path!s:.300}: no such file; {command(data, root)}")
        sizes[path.name] = path.stat().st_size
        if not 0 <= each.examples_in_shard <= sizes[path.name]:
            raise BadInput(
                f"{path} cannot hold {each.examples_in_shard:.3g} examples; prepare it "
                "again"
            )
    try:
        records = array_record_data_source.ArrayRecordDataSource(
            found.file_instructions
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"{folder}: cannot open its records ({error})") from error
    count = sum(each.examples_in_shard for each in found.file_instructions)
    return records, sum(sizes.values()) / count < LIGHT_BYTES, marked(sizes)


def _whole(folder: Path) -> AbstractContextManager[None]:
    """What describes a set may hold anything."""
    said = lambda e: f"{folder}: not a readable TFDS set ({e}); prepare it again"
    return refused("makes no sense", said)


def _damaged(where: str, what: str) -> AbstractContextManager[None]:
    said = lambda error: f"{where}: {what} is damaged ({error})"
    return refused("it makes no sense", said)


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
