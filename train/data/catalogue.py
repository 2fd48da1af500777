"""Prepared TFDS sets, read from their ArrayRecord files without TensorFlow."""

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from train.data.images import Images, Unreadable, decode
from train.data.sources import Example
from train.errors import BadInput

# Below this many bytes a record decodes in tens of microseconds, nearly all of them
# holding the interpreter lock, and threads make it slower (measured on MNIST).
LIGHT_BYTES = 2048


class Catalogued:
    """A Source over one split of a prepared TFDS set.

    TFDS says what is stored and where; records are parsed and pictures decoded here,
    because its own decoding one by one takes ten times as long.
    """

    def __init__(self, name: str, records, features, record_bytes: float):
        self.name, self.records = name, records
        self.light = record_bytes < LIGHT_BYTES
        self._image = _find(features, tfds.features.Image, ("image",))
        self._label = _find(features, tfds.features.ClassLabel, ("label",))
        self._caption = _find(features, tfds.features.Text, ("caption", "text"), False)
        if self._image is None:
            raise BadInput(
                f"data.name={name!r} holds no single image: its features are "
                f"{', '.join(sorted(features))}; write a set of images"
            )
        image = features[self._image]
        if image.np_dtype not in (np.uint8, np.uint16):
            raise BadInput(
                f"data.name={name!r}: {image.np_dtype} images; write a set of uint8"
            )
        height, width = image.shape[:2]
        self.square = height is not None and height == width
        label = features[self._label] if self._label else None
        self.classes = (label.num_classes or 0) if label else 0
        self.class_names = tuple((label.names or ()) if label else ())

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        return self.take([index])[0]

    def take(self, indices: Sequence[int]) -> list[Example]:
        indices = [int(index) for index in indices]
        try:
            records = self.records.__getitems__(indices)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise BadInput(
                f"data.name={self.name!r}: damaged records ({reason}); prepare it again"
            ) from error
        return [self._parse(*pair) for pair in zip(indices, records, strict=True)]

    def _parse(self, index: int, record: bytes) -> Example:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        encoded = feature[self._image].bytes_list.value
        try:
            example: Example = {"image": decode(encoded[0] if encoded else b"")}
        except Unreadable as error:
            raise BadInput(
                f"data.name={self.name!r}: image {index} is damaged ({error})"
            ) from error
        example["label"] = -1
        if self._label:
            example["label"] = label = int(feature[self._label].int64_list.value[0])
            # -1 is how TFDS writes "not known", as in the test split of ImageNet.
            if not -1 <= label < self.classes:
                raise BadInput(
                    f"data.name={self.name!r}: label {label} of example {index} is "
                    f"outside its {self.classes} classes; prepare the set again"
                )
        if self._caption:
            caption = feature[self._caption].bytes_list.value
            example["caption"] = caption[0].decode("utf-8") if caption else ""
        return example


def _find(
    features, kind: type, names: tuple[str, ...], only: bool = True
) -> str | None:
    """The feature of this kind by one of the names, else (`only`) the one there is."""
    found = [name for name, feature in features.items() if type(feature) is kind]
    for name in names:
        if name in found:
            return name
    return found[0] if only and len(found) == 1 else None


def open_catalogued(images: Images, train: bool) -> Catalogued:
    """Opens a split of images.name below images.data_dir; nothing is downloaded."""
    root, folder = prepared(images)
    try:
        builder = tfds.builder_from_directory(folder)
    except ImportError as error:  # features such as Audio need TensorFlow
        raise BadInput(
            f"data.name={images.name!r}: features in {folder} cannot be read as images "
            f"without {error.name}; write a set of images"
        ) from error
    except Exception as error:  # TFDS raises anything on a damaged description
        raise BadInput(f"{folder}: not a readable TFDS set ({error})") from error
    field = "train_split" if train else "test_split"
    split = getattr(images, field)
    splits = f"data.{field}={split!r}; write one of {', '.join(builder.info.splits)}"
    try:
        info = builder.info.splits[split]
    except (KeyError, ValueError):
        raise BadInput(
            f"data.name={images.name!r} has no {splits}, or a slice of one"
        ) from None
    if not info.num_examples:
        raise BadInput(f"data.name={images.name!r}: nothing in {splits}")
    # Looked at first: tfds reports a lost shard as something else, and late.
    missing = [path for path in info.filepaths if not Path(path).is_file()]
    if missing:
        raise BadInput(f"{missing[0]}: no such file; {_command(images, root)}")
    try:
        records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except NotImplementedError:
        form = builder.info.file_format.value
        raise BadInput(
            f"{folder}: prepared as {form}, which has no random access; "
            f"move it away and {_command(images, root)}"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"{folder}: cannot open its records ({error})") from error
    size = sum(Path(path).stat().st_size for path in info.filepaths)
    shards = sum(info.shard_lengths or [info.num_examples])
    return Catalogued(images.name, records, builder.info.features, size / shards)


def prepared(data: Any) -> tuple[Path, Path]:
    """(data_dir, folder of the newest version, or of the one named) of data.name.

    Raises BadInput where the set is not prepared and data.download does not allow it.
    """
    root = Path(data.data_dir or _default_dir()).expanduser()
    return root, _version(data, root) or _prepare(data, root)


def _default_dir() -> str:
    return os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def _command(images: Images, root: Path) -> str:
    return (
        f"run: tfds build {images.name} --data_dir={root} --file_format=array_record "
        "(needs TensorFlow: pip install 'vqdit[tf]')"
    )


def _version(images: Images, root: Path) -> Path | None:
    """Folder of the newest prepared version (or the one named); None: not prepared."""
    name, _, version = images.name.partition(":")
    parent = root / name
    found = _versions(parent)
    if not found:
        configs = [path for path in parent.glob("*/") if _versions(path)]
        names = sorted(f"{name}/{path.name}" for path in configs)
        if len(names) == 1:
            found = _versions(configs[0])
        elif names:
            raise BadInput(
                f"data.name={images.name!r} has configurations; "
                f"write {' or '.join(names)}"
            )
    if version and found and version not in found:
        raise BadInput(
            f"data.name={images.name!r}: version {version} is not in {parent}; "
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


def _prepare(images: Images, root: Path) -> Path:
    if not images.download:
        infos = [
            *root.glob("*/*/dataset_info.json"),
            *root.glob("*/*/*/dataset_info.json"),
        ]
        present = sorted({path.relative_to(root).parts[0] for path in infos})
        beside = f"; prepared there: {', '.join(present)}" if present else ""
        raise BadInput(
            f"data.name={images.name!r} is not prepared in {root}{beside}; "
            f"{_command(images, root)}, or write data.download=True"
        )
    # Asked first: without it TFDS downloads everything and fails only then.
    if importlib.util.find_spec("tensorflow") is None:
        raise BadInput(
            f"data.download=True: preparing {images.name!r} needs TensorFlow; "
            "pip install 'vqdit[tf]'"
        )
    try:
        builder = tfds.builder(images.name, data_dir=root, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, licence: each raises its own
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"data.download=True: TFDS could not prepare {images.name!r} ({reason}); "
            f"{_command(images, root)}"
        ) from error
    return Path(builder.data_dir)
