"""Hugging Face data sets as `datasets` saves them to disk, read without it.

`save_to_disk` writes a folder a split, with dataset_dict.json beside these, and in each
state.json (its files), dataset_info.json (its features) and Arrow streams, which are
mapped into memory. https://huggingface.co/docs/datasets
"""

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable, reading, refused
from train.modalities.files.stored import from_home, listed, stored
from train.modalities.modality import Modality
from train.sources.arrow import check_columns, record_batches
from train.sources.classes import CAPTIONS, labelled, one_of
from train.sources.entries import Entry, Listing
from train.sources.folder import Part, folder_of, parted, shared
from train.sources.split import parts_among, refuse_rule, splits_of
from vqdit.sealed import parsed

log = logging.getLogger(__name__)

INFO = "dataset_info.json"
FILES = "_data_files"  # of state.json
WRITE = "write the folder that save_to_disk wrote"


def open_saved(data: Modality, train: bool) -> Part:
    """The training or held-out part of what was saved in data_dir.

    The parts are the splits train_split and test_split; of one split alone, or where
    both name one, holdout is a share.
    """
    if not data.data_dir:
        raise BadInput(f"data.data_dir is empty: {WRITE}")
    root = from_home(data.data_dir)
    refuse_rule(data, f"{root} has no names of recordings; write a share")
    opened = functools.partial(folder_of, listed=listing)
    if not (root / "dataset_dict.json").is_file():
        return shared(opened(root, data), data, train)
    names = _json(root / "dataset_dict.json", "splits", list)
    _check_inside(root / "dataset_dict.json", names)
    asked = (data.train_split, data.test_split)
    if set(asked) <= set(names) and asked[0] != asked[1]:
        return parted(lambda i, known: opened(root / asked[i], data, known), train)
    training, held = parts_among(map(str, names))
    if training and held and asked[0] != asked[1]:
        raise BadInput(
            f"{root} holds the splits {listed(names)}; write "
            f"{splits_of(training[0], held[0], data)}"
        )
    alone = names[0] if len(names) == 1 else asked[0]
    if alone not in names:
        raise BadInput(
            f"data.train_split={alone!r}: {root} holds the splits {listed(names)}"
        )
    return shared(opened(root / alone, data), data, train)


def listing(root: Path, data: Modality) -> Listing:
    """The rows of one split: signals, classes and captions of its columns."""
    features = _json(root / INFO, "features", dict)
    if (root / "indices.arrow").is_file() or _json(
        root / "state.json", "_indices_data_files", list, []
    ):
        raise BadInput(f"{root}: its rows are chosen by an index; save it anew")
    files = _json(root / "state.json", FILES, list)
    names = [each.get("filename") if isinstance(each, dict) else each for each in files]
    _check_inside(root / "state.json", names)
    types = {
        name: each.get("_type")
        for name, each in features.items()
        if isinstance(each, dict)
    }

    of_type = lambda kind: [name for name, each in types.items() if each == kind]
    signal = one_of(of_type(data.feature), data.kind) if data.feature else ""
    if not signal:
        raise BadInput(
            f"{root} holds no single {data.feature or data.kind} feature: its features "
            f"are {listed(sorted(features))}; write a set of {data.kind}"
        )
    table = _Table([root / str(name) for name in names])
    table.check_signal(signal)
    label = one_of(of_type("ClassLabel"), "label")
    if label:
        classes = features[label].get("names") or []
        named = isinstance(classes, list)
        if not named or not all(isinstance(each, str | int) for each in classes):
            raise BadInput(f"{root / INFO}: its classes are no names; {WRITE}")
        classes = tuple(map(str, classes))
        found = table.column(label)
        numbers: Sequence[int] = [-1 if each is None else each for each in found]
        for row, each in enumerate(numbers):
            if type(each) is not int or not -1 <= each < len(classes):
                raise BadInput(
                    f"{root}: label {each} of row {row} is outside its {len(classes)} "
                    "classes; save the set anew"
                )
    else:
        bare = types.get("label") == "Value"
        several = of_type("ClassLabel")
        if several and not bare:
            log.warning(
                "%s: no classes are read, since none of %s is called label; rename one "
                "with rename_column and save the set anew",
                root,
                ", ".join(several),
            )
        found = table.column("label") if bare else [None] * len(table)
        if any(type(each) is float and not each.is_integer() for each in found):
            log.warning("%s: no classes are read: column label holds measures", root)
            found = [None] * len(table)
        numbers, classes = labelled(found, lambda row: f"{root} row {row}")
    texts = [
        name
        for name in CAPTIONS
        if types.get(name) == "Value" and "string" in str(features[name].get("dtype"))
    ]
    captions: list[str | None] = [None] * len(table)
    if texts:
        captions = [each or "" for each in table.column(texts[0])]
    entries = [
        Entry(
            str(row), number, text, functools.partial(table.content, signal, row), size
        )
        for row, (number, text, size) in enumerate(
            zip(numbers, captions, table.sizes(signal), strict=True)
        )
    ]
    return Listing(entries, classes, numbered=False)


class _Table:
    """Rows of Arrow streams, which stay on disk until they are asked for."""

    def __init__(self, paths: Sequence[Path]):
        self.batches: list[Any] = []
        self.paths: list[Path] = []  # of each of these
        for path in paths:
            with _whole(path):
                found = record_batches(path)
            self.batches += found
            self.paths += [path] * len(found)
        self.ends = np.cumsum([each.num_rows for each in self.batches])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def column(self, name: str) -> list[Any]:
        found = []
        for batch, path in zip(self.batches, self.paths, strict=True):
            with _whole(path):
                check_columns(batch, [name])
                found += batch.column(name).to_pylist()
        return found

    def check_signal(self, name: str) -> None:
        """Before anything of its rows is asked for."""
        from pyarrow import types

        for batch, path in zip(self.batches, self.paths, strict=True):
            with _whole(path):
                check_columns(batch, [name])
                kind = batch.column(name).type
                if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                    kind = kind.field("bytes").type
                if not (types.is_binary(kind) or types.is_large_binary(kind)):
                    raise Unreadable(
                        f"holds {kind} in {name[:100]!r}, no encoded files"
                    )

    def sizes(self, name: str) -> Iterator[int]:
        """Bytes of every row's signal, 0 where they are not in the set."""
        from pyarrow import compute, types

        for batch in self.batches:
            column = batch.column(name)
            if types.is_struct(column.type):
                column = column.field("bytes")
            yield from compute.fill_null(compute.binary_length(column), 0).to_pylist()

    def content(self, name: str, row: int) -> bytes:
        """The encoded signal of a row, from the file at its path where it is not in."""
        which = int(np.searchsorted(self.ends, row, side="right"))
        batch = self.batches[which]
        with reading("is not of a whole Arrow stream"):
            at = row - int(self.ends[which]) + batch.num_rows
            cell = batch.column(name)[at].as_py()
        if not isinstance(cell, dict):
            cell = {"bytes": cell}
        if cell.get("bytes") is not None:
            return cell["bytes"]
        if not cell.get("path"):
            raise Unreadable("is empty")
        return stored(Path(cell["path"]))


def _whole(path: Path) -> AbstractContextManager[None]:
    said = lambda error: f"{path} {error}; save the set anew"
    return refused("is no whole Arrow stream", said)


def _check_inside(path: Path, names: Sequence[Any]) -> None:
    """Raises BadInput where what a file lists is not beside it."""
    for name in names:
        plain = isinstance(name, str) and name not in ("", "..") and "\0" not in name
        if not plain or Path(name).name != name:
            raise BadInput(
                f"{path} names {name!r:.100}, and nothing beside it; {WRITE}"
            )


def _json(path: Path, name: str, kind: type, default: Any = None) -> Any:
    """An entry of a JSON file, of this type."""
    said = lambda error: f"{path} {error}; {WRITE}"
    with refused("is no whole file of a saved set", said):
        found = parsed(path.read_bytes())
    found = (found.get(name) if isinstance(found, dict) else None) or default
    if not isinstance(found, kind):
        raise BadInput(f"{path} has no {name}; {WRITE}")
    return found
