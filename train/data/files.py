"""Folders of signal files: which there are, which of them can be read, and two parts.

Shared by the data classes whose examples come from files other than pictures.
"""

import io
import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np

from train.data.folder import CHECKED, NAMED, name_draw, too_many
from train.data.images import Unreadable
from train.data.sources import divide
from train.errors import BadInput

# Decoded files of a set stay in memory up to this many bytes.
KEPT_BYTES = 2**30

log = logging.getLogger(__name__)


class Files:
    """Files of one part of a data set that can be read, decoded when asked for.

    files:   paths below root, in order; labels: class of each, -1 where there is none.
    refused: (file, why) of those left out, at most bad_share of all.
    found:   how many there were, refused ones included.
    class_names: of the labels.

    read(path) returns something with `nbytes`, or raises Unreadable. Every file is read
    once when the set is opened (an evenly spaced selection of CHECKED where there are
    more), and kept while all that is kept fits into KEPT_BYTES.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int],
        read: Callable[[Path], Any],
        bad_share: float,
        threads: int,
        class_names: tuple[str, ...] = (),
    ):
        self.root, self._read, self.class_names = root, read, class_names
        chosen = range(0, len(files), -(-len(files) // CHECKED))
        kept: dict[int, Any] = {}
        why: dict[int, str] = {}
        self._bytes = 0

        def check(i: int) -> None:
            try:
                value = read(root / files[i])
            except Unreadable as error:
                why[i] = str(error)
                return
            if self._bytes + value.nbytes <= KEPT_BYTES:
                self._bytes += value.nbytes
                kept[i] = value

        with ThreadPoolExecutor(max(threads, 1)) as pool:
            list(pool.map(check, chosen))
        self.found, bad = len(chosen), sorted(why)
        self.refused = tuple((files[i], why[i]) for i in bad)
        named = [f"{file}: {reason}" for file, reason in self.refused]
        if len(bad) > bad_share * len(chosen) or len(bad) == len(chosen):
            raise too_many(root, named, len(bad), len(chosen), bad_share, "files")
        for each in named[:NAMED]:
            log.warning("skipped unreadable file %s", each)
        if bad:
            log.warning("%s: skipped %d of %d files", root, len(bad), len(chosen))
        left = [i for i in range(len(files)) if i not in why]
        self.files = tuple(files[i] for i in left)
        self.labels = np.array([labels[i] for i in left], np.int32)
        self._kept = {new: kept[old] for new, old in enumerate(left) if old in kept}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        if index in self._kept:
            return self._kept[index]
        try:
            value = self._read(self.root / self.files[index])
        except Unreadable as error:
            raise BadInput(
                f"{self.root / self.files[index]}: {error}; remove it, or mend it"
            ) from error
        if self._bytes + value.nbytes <= KEPT_BYTES:
            self._bytes += value.nbytes
            self._kept[index] = value
        return value

    @property
    def identity(self) -> str:
        """Names and sizes, which differ where the files do."""
        return "\n".join(
            f"{file} {(self.root / file).stat().st_size}" for file in self.files
        )


def open_files(
    data: Any,
    extensions: frozenset[str],
    train: bool,
    read: Callable[[Path], Any],
    **kinds: bool,
) -> Files:
    """The files of one part of data.data_dir; see `listed`, which takes `kinds`."""
    root, names, labels, classes = listed(data, extensions, train, **kinds)
    return Files(root, names, labels, read, data.bad_share, data.threads, classes)


def listed(
    data: Any,
    extensions: frozenset[str],
    train: bool,
    folders: bool = False,
    single: bool = False,
) -> tuple[Path, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """(root, files, labels, class names) of one part of data.data_dir.

    The part is the sub-folder train_split or test_split where both are there, else
    chosen by a hash of the files' names and data.holdout. A file's class is its first
    sub-folder. folders: a folder that holds pictures counts as one file. single:
    data_dir may be one file, which is then in both parts, for the caller to divide.
    """
    if not data.data_dir:
        raise BadInput(
            "data.data_dir is empty: write the folder of "
            f"{' '.join(sorted(extensions))} files to read"
        )
    root = Path(data.data_dir).expanduser()
    if not root.exists():
        raise BadInput(f"data.data_dir={data.data_dir}: no such folder")
    if root.is_file():
        if not single:
            raise BadInput(f"data.data_dir={data.data_dir} is a file; write its folder")
        if root.suffix.lower() not in extensions:
            raise BadInput(
                f"data.data_dir={data.data_dir}: no {' '.join(sorted(extensions))} file"
            )
        return root.parent, (root.name,), (-1,), ()
    parts = [root / split for split in (data.train_split, data.test_split)]
    if parts[0] != parts[1] and all(part.is_dir() for part in parts):
        files, classes = _below(parts[0], extensions, folders)
        names = _names(parts[0], files, classes)
        if not train:
            files, classes = _below(parts[1], extensions, folders)
            for name in sorted(set(_names(parts[1], files, classes)) - set(names)):
                raise BadInput(
                    f"{parts[1]}: label {name!r} is outside the classes of {parts[0]}; "
                    "give it a training folder or remove it"
                )
        root = parts[0 if train else 1]
        rows = range(len(files))
    else:
        files, classes = _below(root, extensions, folders)
        names = _names(root, files, classes)
        draws = np.array([name_draw(file) for file in files])
        rows = divide(draws, data.holdout, train, str(root))
    number = {None: -1} | {name: i for i, name in enumerate(names)}
    labels = tuple(number[classes[i]] for i in rows)
    return root, tuple(files[i] for i in rows), labels, names


def _below(root: Path, extensions: frozenset[str], folders: bool):
    """Files, or folders of pictures, in order, and the class of each."""
    found = set()
    for path in root.rglob("*"):
        local = path.relative_to(root)
        if any(part.startswith(".") for part in local.parts):
            continue
        if path.suffix.lower() in extensions and path.is_file():
            found.add(local)
        elif folders and path.suffix.lower() in FRAMES and path.parent != root:
            found.add(local.parent)
    if not found:
        more = ", or folders of frames" if folders else ""
        raise BadInput(
            f"{root}: holds nothing to read; write a folder of "
            f"{' '.join(sorted(extensions))} files{more}"
        )
    files = sorted(found)
    classes = [file.parts[0] if len(file.parts) > 1 else None for file in files]
    return [str(file) for file in files], classes


FRAMES = frozenset(".png .jpg .jpeg .webp .bmp .tif .tiff".split(" "))


def _names(root: Path, files, classes) -> tuple[str, ...]:
    names = sorted({name for name in classes if name is not None})
    if names and None in classes:
        raise BadInput(
            f"{root}: {files[classes.index(None)]} lies beside class folders "
            f"({names[0]}, ...); move it into one, or remove it"
        )
    return tuple(names)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz by name, or that of an .npy as "": numbers only.

    Raises Unreadable for anything else, also for a file under a false name.
    """
    try:
        content = path.read_bytes()
        # From bytes, so that a text file named .npz isn't taken for an open handle.
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"": loaded}
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise Unreadable(error.strerror or str(error) or "cannot be opened") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        kind = path.suffix.lower().lstrip(".")
        raise Unreadable(
            f"not a whole {kind} file of plain arrays "
            f"({' '.join(str(error).split())[:120]})"
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise Unreadable(f"array {name or '0'} is {array.dtype}, not of numbers")
    return arrays


def check_split(data: Any) -> None:
    """The fields that all data classes over files share, refused by name."""
    for field in ("holdout", "bad_share"):
        if not 0 <= getattr(data, field) < 1:
            raise BadInput(
                f"data.{field}={getattr(data, field)}: write a share in [0, 1)"
            )
    if data.threads < 0:
        raise BadInput(f"data.threads={data.threads}: write 0 or more")


def check_choices(data: Any, **choices: Any) -> None:
    """Texts that are none of the Literal each field may be, refused by name."""
    for field, words in choices.items():
        if getattr(data, field) not in get_args(words):
            raise BadInput(
                f"data.{field}={getattr(data, field)!r}: write "
                f"{' or '.join(get_args(words))}"
            )


def check_sizes(data: Any, **least: int) -> None:
    """Whole numbers below the least that each field may be, refused by name."""
    for field, low in least.items():
        if getattr(data, field) < low:
            raise BadInput(f"data.{field}={getattr(data, field)}: write at least {low}")
