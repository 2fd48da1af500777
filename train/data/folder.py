"""A folder of image files, with classes from sub-folders or captions beside them."""

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from train.data.images import Images, Unreadable, decode
from train.data.sources import Example, divide
from train.errors import BadInput

EXTENSIONS = frozenset(
    ".png .jpg .jpeg .webp .bmp .gif .tif .tiff .ppm .pgm".split(" ")
)
# Every file of a folder up to this many is decoded when it is opened; of a larger one
# an evenly spaced selection is, and the rest is judged as training meets it.
CHECKED = 20_000
# Bad files named one by one before they are only counted.
NAMED = 10

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image file: its path below the root, class index (-1: none), and caption."""

    file: str
    label: int = -1
    caption: str | None = None


class Folder:
    """A Source over image files.

    A file that is found unreadable only now is named, and the next readable one stands
    in for it: what an index returns is still a function of the files alone. When more
    than bad_share of the files turn out so, BadInput is raised.
    """

    square = False
    light = False

    def __init__(
        self,
        root: Path,
        entries: Sequence[Entry],
        class_names: tuple[str, ...],
        bad_share: float,
    ):
        self.root, self.entries = root, entries
        self.class_names, self.classes = class_names, len(class_names)
        self.bad_share = bad_share
        self._bad: set[int] = set()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Example:
        for position in range(index, index + len(self)):
            entry = self.entries[position % len(self)]
            try:
                image = read(self.root / entry.file)
            except Unreadable as error:
                self._found_bad(position % len(self), f"{entry.file}: {error}")
                continue
            example: Example = {"image": image, "label": entry.label}
            if entry.caption is not None:
                example["caption"] = entry.caption
            return example
        raise BadInput(f"{self.root}: none of {len(self)} image files can be read")

    def take(self, indices: Sequence[int]) -> list[Example]:
        return [self[int(index)] for index in indices]

    def _found_bad(self, index: int, why: str) -> None:
        if index in self._bad:
            return
        self._bad.add(index)
        if len(self._bad) > self.bad_share * len(self):
            raise too_many(self.root, [why], len(self._bad), len(self), self.bad_share)
        log.warning("skipped unreadable image %s", why)


def read(path: Path) -> np.ndarray:
    """Pixels of an image file, upright; Unreadable where it is missing or damaged."""
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or "cannot be opened") from error
    return decode(encoded, upright=True)


def open_folder(images: Images, train: bool) -> Folder:
    """The training or held-out part of a folder of image files.

    Where data_dir holds sub-folders named train_split and test_split those are the two
    parts; otherwise holdout divides the files by a hash of their names.
    """
    root = Path(images.data_dir).expanduser()
    if not images.data_dir:
        raise BadInput("data.data_dir is empty: write the folder of images to read")
    if not root.is_dir():
        raise BadInput(f"data.data_dir={images.data_dir}: no such folder")
    parts = [root / split for split in (images.train_split, images.test_split)]
    if parts[0] != parts[1] and all(part.is_dir() for part in parts):
        entries, names = survey(parts[0], images.bad_share, images.threads)
        if train:
            return Folder(parts[0], entries, names, images.bad_share)
        entries, tested = survey(parts[1], images.bad_share, images.threads)
        unknown = sorted(set(tested) - set(names))
        if unknown:
            raise BadInput(
                f"{parts[1]}: label {unknown[0]!r} is outside the classes of "
                f"{parts[0]}; give it a training folder or remove it"
            )
        # A class without held-out pictures must not shift the numbers of the others.
        number = {-1: -1} | {i: names.index(name) for i, name in enumerate(tested)}
        entries = tuple(dataclasses.replace(e, label=number[e.label]) for e in entries)
        return Folder(parts[1], entries, names, images.bad_share)
    entries, names = survey(root, images.bad_share, images.threads)
    draws = np.array([name_draw(entry.file) for entry in entries])
    rows = divide(draws, images.holdout, train, str(root))
    return Folder(root, [entries[i] for i in rows], names, images.bad_share)


def name_draw(name: str) -> float:
    """A draw in [0, 1) that belongs to a file's name, and not to its neighbours."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2.0**64


# The two parts of one folder are opened one after the other; decoding it all once is
# enough.
@functools.lru_cache(maxsize=4)
def survey(
    root: Path, bad_share: float, threads: int
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """All readable image files of a folder, and the class names.

    Unreadable files are named in the log and dropped; above bad_share they are refused.
    """
    manifests = sorted(p for p in root.glob("*.jsonl") if not p.name.startswith("."))
    if len(manifests) > 1:
        listed = ", ".join(path.name for path in manifests)
        raise BadInput(f"{root}: several manifests ({listed}); keep one .jsonl")
    if manifests:
        entries, names = _from_manifest(manifests[0])
    else:
        entries, names = _from_tree(root)
    if not entries:
        raise BadInput(
            f"{root}: no images; write a folder of {' '.join(sorted(EXTENSIONS))} files"
        )
    # Rounded up, so at most CHECKED; the stride meets every class of a sorted listing.
    chosen = range(0, len(entries), -(-len(entries) // CHECKED))

    def reason(index: int) -> str | None:
        try:
            read(root / entries[index].file)
        except Unreadable as error:
            return f"{entries[index].file}: {error}"
        return None

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        reasons = dict(zip(chosen, pool.map(reason, chosen), strict=True))
    bad = {index: why for index, why in reasons.items() if why}
    if len(bad) > bad_share * len(chosen):
        raise too_many(root, list(bad.values()), len(bad), len(chosen), bad_share)
    for why in list(bad.values())[:NAMED]:
        log.warning("skipped unreadable image %s", why)
    if bad:
        log.warning("%s: skipped %d of %d images", root, len(bad), len(chosen))
    return tuple(e for i, e in enumerate(entries) if i not in bad), names


def too_many(
    root: Path, why: list[str], bad: int, n: int, share: float, what="image files"
) -> BadInput:
    """What to raise when more than a share of the files cannot be read."""
    named = "; ".join(why[:3]) + ("; ..." if bad > len(why[:3]) else "")
    return BadInput(
        f"{root}: {bad} of {n} {what} unreadable, more than "
        f"data.bad_share={share}: {named}"
    )


def _from_tree(root: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Files by extension; class is the first sub-folder, caption a .txt beside."""
    files = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    classes = [file.parts[0] if len(file.parts) > 1 else None for file in files]
    names = sorted({name for name in classes if name is not None})
    if names and None in classes:
        raise BadInput(
            f"{root}: {files[classes.index(None)]} lies beside class folders "
            f"({names[0]}, ...); move it into one, or remove it"
        )
    number = {name: i for i, name in enumerate(names)} | {None: -1}
    captions = [_caption(root / file) for file in files]
    if any(captions):  # then a picture without one is an empty caption, not none
        captions = [caption or "" for caption in captions]
    entries = [
        Entry(str(file), number[name], caption)
        for file, name, caption in zip(files, classes, captions, strict=True)
    ]
    return entries, tuple(names)


def _caption(image: Path) -> str | None:
    path = image.with_suffix(".txt")
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text") from None


def _from_manifest(path: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Lines such as {"file": "a.png", "caption": "a red boat", "label": "boat"}.

    Also understood: file_name for file and text for caption. A label is a class name,
    or an index; it is given on every line or on none.
    """
    rows = list(_lines(path))
    files = [_field(path, line, row, ("file", "file_name")) for line, row in rows]
    named = ("caption", "text")
    captions = [_field(path, line, row, named, required=False) for line, row in rows]
    labels = [row.get("label") for _, row in rows]
    given = [label for label in labels if label is not None]
    if not given:
        numbers, names = [-1] * len(rows), ()
    elif len(given) < len(rows):
        line = rows[labels.index(None)][0]
        raise BadInput(f"{path} line {line}: no label, though other lines have one")
    elif all(type(label) is str for label in given):
        names = tuple(sorted(set(given)))
        numbers = [names.index(label) for label in given]
    elif all(type(label) is int and label >= 0 for label in given):
        numbers, names = given, tuple(map(str, range(max(given) + 1)))
    else:
        raise BadInput(f"{path}: write every label as a name, or every one as an index")
    entries = [Entry(*entry) for entry in zip(files, numbers, captions, strict=True)]
    return entries, names


def _lines(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise BadInput(
                    f"{path} line {number}: not JSON ({error.msg})"
                ) from None
            if not isinstance(row, dict):
                raise BadInput(f'{path} line {number}: write {{"file": ..., ...}}')
            yield number, row


def _field(path: Path, line: int, row: dict, names: tuple[str, ...], required=True):
    value = next((row[name] for name in names if row.get(name) is not None), None)
    if value is None and not required:
        return None
    if not isinstance(value, str) or (required and not value):
        raise BadInput(f"{path} line {line}: write {names[0]!r} as text")
    return value
