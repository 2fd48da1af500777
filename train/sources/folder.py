"""A folder of signal files, with classes from sub-folders and captions beside them."""

import dataclasses
import functools
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.files.stored import Member, counted, from_home
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.progress import progress
from train.sources.entries import Entry, Listing, listing
from train.sources.source import Source, marked
from train.sources.split import divided, name_draw, parts_among, refuse_rule, ruled
from vqdit.shapes import Float, Int

# Every file of a folder up to this many is read when it is opened; of a larger one an
# evenly spaced selection is, and the rest is judged as training meets it.
CHECKED = 20_000
# Bad files named one by one before they are only counted.
NAMED = 10
# Files of which a mark has the end, and the bytes of that.
ENDS, END = 16, 2**16

log = logging.getLogger(__name__)


class Folder(Source):
    """All files of a folder, both parts, and which of them cannot be read.

    Unreadable files are named in the log; above bad_share they are refused. What is
    read to find them out is kept, so that nothing is decoded twice.

    share: of each file, along its first axis. bad: row -> why it cannot be read.
    """

    def __init__(
        self,
        root: Path,
        data: Modality,
        entries: Sequence[Entry],
        names: Sequence[str],
        share: tuple[float, float] = (0.0, 1.0),
    ):
        super().__init__(len(entries), names)
        self.root, self.data, self.entries, self.share = root, data, entries, share
        self.bad: dict[int, str] = {}
        boxes = [entry.boxes for entry in entries if entry.boxes is not None]
        # Of a picture; None where no file has any.
        self.boxes = max(1, max(map(len, boxes))) if boxes else None

        def check(row: int) -> None:
            try:
                self.take([row])
            except Unreadable as error:
                self.bad[row] = str(error)

        # Rounded up, so at most CHECKED; the stride meets every class of a sorted list.
        chosen = range(0, len(entries), -(-len(entries) // CHECKED))
        with ThreadPoolExecutor(max(data.threads, 1)) as pool:
            checked = pool.map(check, chosen)
            doing = f"opening {root.resolve().name}"
            deque(progress(checked, doing, len(chosen), "file"), 0)
        self.judge(self.bad, len(chosen))
        for row in sorted(self.bad)[:NAMED]:
            self.skip(row, self.bad[row])
        if self.bad:
            log.warning("%s: skipped %d of %d files", root, len(self.bad), len(chosen))

    def read(self, rows):
        return [self._read(self.entries[row]) for row in rows]

    def _read(self, entry: Entry) -> Record:
        path = self.root / entry.file
        inside = entry.content and Member(entry.file, entry.content)
        try:
            if self.boxes is None:
                record = self.data.load(inside or path, self.share)
            else:  # which move as their picture is fitted
                record = self.data.read(inside or path)
                more = {**record.more, "boxes": self._padded(entry.boxes)}
                record = self.data.adapt(dataclasses.replace(record, more=more))
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        caption = {} if entry.caption is None else {"caption": entry.caption}
        more = {**record.more, **caption}
        return dataclasses.replace(record, label=entry.label, more=more)

    def _padded(self, boxes) -> Float[np.ndarray, "k 5"]:
        """As many as the picture with the most has: absent ones have the class -1, and
        where nobody has said whether there are any all is NaN."""
        out = np.full((self.boxes, 5), np.nan, np.float32)
        if boxes is not None:
            out[:] = (0, 0, 0, 0, -1)
            out[: len(boxes)] = np.reshape(boxes, (-1, 5))
        return out

    def skip(self, row: int, why: str) -> None:
        log.warning("skipped unreadable file %s: %s", self.entries[row].file, why)

    def judge(self, bad: Mapping[int, str], of: int) -> None:
        """Raises BadInput where more than bad_share of so many files are bad."""
        if len(bad) > self.data.bad_share * of:
            named = [f"{self.entries[row].file}: {bad[row]}" for row in sorted(bad)]
            first = "; ".join(named[:3]) + ("; ..." if len(named) > 3 else "")
            raise BadInput(
                f"{self.root}: {len(bad)} of {of} files unreadable, more than "
                f"data.bad_share={self.data.bad_share}: {first}"
            )


class Part(Source):
    """The files of one part that can be read.

    A file that is found unreadable only now is named, and the next readable one of its
    part and class stands in for it: what an index returns is still a function of the
    files alone, and of the class by which others were chosen to go with it.
    When more than bad_share of the files turn out so, BadInput is raised.
    """

    named = True
    labels: Int[np.ndarray, "n"]

    def __init__(self, folder: Folder, rows: Sequence[int]):
        bad = {int(row): folder.bad[row] for row in rows if row in folder.bad}
        self.rows = [int(row) for row in rows if row not in bad]
        super().__init__(len(self.rows), folder.class_names)
        self.folder, self.found = folder, len(rows)
        self.left_out, self.order = folder.left_out, folder.order
        self.labels = np.array([folder.entries[row].label for row in self.rows], int)
        self.refused = tuple((folder.entries[i].file, why) for i, why in bad.items())
        if bad and not self.rows:  # few of the folder, and all of the part
            file, why = self.refused[0]
            raise BadInput(
                f"{folder.root}: no file of one part can be read, {file}: {why}; "
                "remove it, or write another data.holdout"
            )
        self._late: dict[int, str] = {}

    @property
    def files(self) -> list[str]:
        """Paths below the root, in order."""
        return [self.folder.entries[row].file for row in self.rows]

    def told(self, name):
        entries = (self.folder.entries[row] for row in self.rows)
        if name == "boxes" and self.folder.boxes is not None:  # before they move
            return [self.folder._padded(entry.boxes) for entry in entries]
        return [entry.caption for entry in entries] if name == "caption" else None

    @property
    def keys(self) -> list[str]:
        """Paths without their suffixes."""
        return list(map(self.folder.data.stem, self.files))

    @property
    def identity(self) -> str:
        """Names and sizes, which differ where the files do."""
        entries = (self.folder.entries[row] for row in self.rows)
        return "\n".join(f"{each.file} {self._size(each)}" for each in entries)

    def _size(self, entry: Entry) -> int:
        """-1 of a link to nothing, which may be found only as training meets it."""
        if entry.content:
            return entry.size
        try:
            return (self.folder.root / entry.file).stat().st_size
        except OSError:
            return -1

    @functools.cached_property
    def mark(self) -> str:
        """Of what is listed of all files, sizes of CHECKED of them and last bytes of
        ENDS, since recordings of one length have one size."""
        entries = [self.folder.entries[row] for row in self.rows]
        told = [(each.file, each.label, each.caption, each.boxes) for each in entries]
        some, few = (entries[:: -(-len(entries) // n)] for n in (CHECKED, ENDS))
        sizes, ends = [*map(self._size, some)], [*map(self._end, few)]
        return marked(self.class_names, told, sizes, ends)

    def _end(self, entry: Entry) -> bytes:
        """Nothing of a folder of frames, or of what cannot be read."""
        path = self.folder.root / entry.file
        try:
            if entry.content:
                return entry.content()[-END:]
            if not path.is_file():
                return b""
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - END))
                return file.read(END)
        except (OSError, Unreadable):
            return b""

    def take(self, rows):
        return [self._readable(int(row)) for row in rows]

    def _readable(self, at: int) -> Record:
        label = self.labels[at]
        for i in range(at, at + self.count):
            row = self.rows[i % self.count]
            if self.labels[i % self.count] != label:
                continue
            try:
                return self.folder.take([row])[0]
            except Unreadable as error:
                known = row in self._late
                self._late[row] = str(error)
                self.folder.judge(self._late, self.count)
                if not known:
                    self.folder.skip(row, str(error))
        of = f"class {self.class_names[label]}" if label >= 0 else f"{self.count} files"
        raise BadInput(f"{self.folder.root}: nothing of {of} can be read")


def open_folder(data: Modality, train: bool) -> Part:
    """The training or held-out part of a folder of files.

    Where data_dir holds sub-folders named train_split and test_split those are the two
    parts; otherwise holdout divides the files by a hash, or a rule, of their names. One
    file alone is divided along its first axis by modalities that can be.
    """
    if not data.data_dir:
        raise BadInput(f"data.data_dir is empty: write the folder of {_what(data)}")
    root = from_home(data.data_dir)
    if not root.exists():
        raise BadInput(f"data.data_dir={data.data_dir}: no such folder")
    if root.is_file():
        return _one_file(root, data, train)
    parts = [root / split for split in (data.train_split, data.test_split)]
    rule = isinstance(data.holdout, str)
    if parts[0] != parts[1] and all(part.is_dir() for part in parts) and not rule:
        others = {each.name for each in root.iterdir() if each.is_dir()}
        others = {name for name in others if not name.startswith(".")}
        if others := sorted(others.difference(part.name for part in parts)):
            log.warning("%s: in neither part: %s", root, ", ".join(others))
        return parted(lambda i, names: folder_of(parts[i], data, names), train)
    folder = folder_of(root, data, None, listing, (not rule,))
    training, held = parts_among(folder.class_names)
    if rule and train and training and held:
        log.warning(
            "%s: data.holdout=%s divides all that is there, and %s/ and %s/, which are "
            "parts, are taken for classes",
            *(root, data.holdout, training[0], held[0]),
        )
    return shared(folder, data, train)


def parted(
    opened: Callable[[int, tuple[str, ...] | None], Folder], train: bool
) -> Part:
    """One of two parts that are apart; opened: which, and the classes it may have."""
    folder = opened(0, None)
    if not train:
        folder = opened(1, folder.class_names)
    return Part(folder, range(len(folder)))


def shared(folder: Folder, data: Modality, train: bool) -> Part:
    """The share of a folder that data.holdout gives to a part, by the files' names."""
    files = [entry.file for entry in folder.entries]
    draws = np.array([name_draw(file) for file in files])
    return Part(
        folder, divided(data, train, draws, str(folder.root), ruled(data, files))
    )


def _one_file(path: Path, data: Modality, train: bool) -> Part:
    where = f"data.data_dir={data.data_dir}"
    if not data.divides:
        raise BadInput(f"{where} is a file; write its folder")
    if not path.name.lower().endswith(data.suffixes):
        raise BadInput(f"{where}: no {' '.join(data.suffixes)} file")
    refuse_rule(data, f"{where} is one file; a share")
    if not train and not data.holdout:
        raise BadInput(
            "data.holdout=0 keeps nothing for testing; write for example 0.1"
        )
    first = 1 - data.holdout
    share = (0.0, first) if train else (first, 1.0)
    return Part(Folder(path.parent, data, [Entry(path.name)], (), share), [0])


def _what(data: Modality) -> str:
    more = ", or folders of frames" if data.folders else ""
    return f"{' '.join(data.suffixes)} files to read{more}"


# The two parts of one folder are opened one after the other; reading it all once is
# enough.
@functools.lru_cache(maxsize=4)
def folder_of(
    root: Path,
    data: Modality,
    names: tuple[str, ...] | None = None,
    listed: Callable[..., Listing] = listing,
    how: tuple[Any, ...] = (),
) -> Folder:
    """A folder's files; names: the classes that it may have, in their order.

    listed: what finds its files; how: what else that is told.
    """
    found = listed(root, data, *how)
    entries, own = found.entries, found.class_names
    if found.left_out:
        log.warning("%s: left out %s", root, counted(found.left_out))
    if not entries:
        beside = f" but {counted(found.left_out)}" if found.left_out else ""
        kinds = {".tar": "webdataset", ".arrow": "huggingface"}
        other = [f"data.name={name}" for kind, name in kinds.items() if kind in beside]
        raise BadInput(
            f"{root}: holds nothing to read{beside}; write "
            f"{' or '.join([*other, f'a folder of {_what(data)}'])}"
        )
    if names is not None:
        # A class without held-out files must not shift the numbers of the others.
        for name in sorted(set(own) - set(names)):
            raise BadInput(
                f"{root}: label {name!r} is outside the classes of the training "
                "folder; give it one there, or write that folder as data.data_dir "
                "(train.score --anomaly takes others)"
            )
        place = {name: i for i, name in enumerate(names)}
        number = {-1: -1} | {i: place[name] for i, name in enumerate(own)}
        entries = [dataclasses.replace(e, label=number[e.label]) for e in entries]
    folder = Folder(root, data, entries, own if names is None else names)
    folder.left_out, folder.order = found.left_out, found.order
    return folder
