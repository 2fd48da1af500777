"""The rows of a table, each a record."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from train.errors import BadInput, blame
from train.modalities.draws import chance
from train.modalities.files.separated import MISSING
from train.modalities.files.stored import from_home, natural
from train.modalities.record import Record
from train.modalities.rows import TABULAR, Tables, cells_of, rows_of
from train.sources.source import Source
from train.sources.split import divided, name_draw, refuse_rule_of_parts, ruled


class Rows(Source):
    """Rows of a table.

    train: of a file that holds both parts, which; None takes all of it.
    names: the classes there may be; None for those that are there.
    """

    light = named = True

    def __init__(
        self,
        data: Tables,
        path: Path,
        train: bool | None = None,
        names: Sequence[str] | None = None,
    ):
        apart = [name for name in (data.key, data.label, data.caption) if name]
        with blame(str(path)):
            rows, found = rows_of(path, data.columns, apart)
            cells = cells_of(path, {name for name in (data.key, data.caption) if name})
        # As they are written, for 007 and 1.50 are not the numbers 7 and 1.5.
        there = lambda cell: "" if cell.strip() in MISSING else cell
        texts = {name: list(map(there, column)) for name, column in cells.items()}
        where = lambda row, column: f"{path}, row {row + 1}, column {column!r}"
        named = found.get(data.label, [""] * len(rows))
        if names is None:
            names = tuple(sorted({name for name in named if name}, key=natural))
        number = {"": -1} | {name: i for i, name in enumerate(names)}
        for row, name in enumerate(named):
            if name not in number:
                known = ", ".join(names)
                raise BadInput(f"{where(row, data.label)}: {name!r} is none of {known}")
        labels = [number[name] for name in named]
        # Whole numbers have a .0 where one of their column was missing.
        bare = lambda cell: re.sub(r"^(\d+)\.0$", r"\1", cell.strip())
        keys = [data.stem(bare(cell)) for cell in texts.get(data.key, ())]
        if "" in keys:
            raise BadInput(f"{where(keys.index(''), data.key)}: no key; fill it in")
        mine = np.arange(len(rows))
        if train is not None:
            draws = np.array(list(map(name_draw, keys))) if keys else chance(0, mine)
            mine = divided(data, train, draws, str(path), ruled(data, keys))
        super().__init__(len(mine), names)
        self.identity = self.mark = hashlib.sha256(path.read_bytes()).hexdigest()
        self.labels = self._labels = np.array(labels, int)[mine]
        self.keys = [keys[row] for row in mine] if keys else None
        self._rows, self._mine = rows, mine
        self._captions = texts.get(data.caption)

    def told(self, name):
        held = {"row": self._rows, "caption": self._captions}.get(name)
        return None if held is None else [held[at] for at in self._mine.tolist()]

    def read(self, rows):
        return [self._record(row) for row in rows]

    def _record(self, row: int) -> Record:
        at, label = int(self._mine[row]), int(self._labels[row])
        more = {"row": self._rows[at]}
        if self._captions is not None:
            more["caption"] = self._captions[at]
        mark = crc32(repr((more, label)).encode()) / 2**32
        return Record(np.array([mark], np.float32), label=label, more=more)


def open_rows(data: Tables, train: bool) -> Rows:
    """A part of a table, by data.holdout, or of a folder with a file of each part.

    Where both parts name one file, that is divided.
    """
    if not data.data_dir:
        raise BadInput("data.data_dir is empty: write the .csv or .parquet to read")
    root = from_home(data.data_dir)
    if root.is_dir() and data.train_split == data.test_split:
        root = _part(root, data.train_split)
    if root.is_dir():
        refuse_rule_of_parts(data, root)
        training = Rows(data, _part(root, data.train_split))
        if train:
            return training
        return Rows(data, _part(root, data.test_split), names=training.class_names)
    if root.suffix.lower() not in TABULAR or not root.is_file():
        raise BadInput(f"data.data_dir={root}: no file; write one of .csv or .parquet")
    return Rows(data, root, train)


def _part(root: Path, split: str) -> Path:
    for end in TABULAR:
        if (path := root / f"{split}{end}").is_file():
            return path
    raise BadInput(f"{root} has no {split}.csv; write one, or data.data_dir=FILE.csv")
