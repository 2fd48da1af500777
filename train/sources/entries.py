"""Which files of a folder are signals, with their classes and captions."""

import csv
import dataclasses
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from train.errors import BadInput
from train.modalities.boxes import RIGHT, is_box
from train.modalities.files.pictures import STILLS
from train.modalities.files.separated import first_row
from train.modalities.files.stored import (
    kind_of,
    listed,
    natural,
    printable,
    stem_of,
)
from train.modalities.modality import Modality
from train.sources.classes import labelled
from train.sources.split import parts_among, splits_of

# Tables that list the signals of a folder.
TABLES = ("captions.csv", "metadata.csv")
NUMBER = r"\d{1,18}"  # of a class; longer ones are names


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path below the root, class index (-1: none), and caption.

    boxes: x0, y0, x1, y1 in shares of the sides and a class, of each; None where nobody
        has said whether there are any.
    content, size: of one that lies in another file, what reads its bytes, and how many
        they are.
    """

    file: str
    label: int = -1
    caption: str | None = None
    content: Callable[[], bytes] | None = None
    size: int = 0
    boxes: tuple[tuple[float, ...], ...] | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """The signals of a folder, their classes in order, and how many other files it
    holds, by suffix. numbered: classes are names, and in natural order."""

    entries: list[Entry]
    class_names: tuple[str, ...]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    numbered: bool = True

    @property
    def order(self) -> str:
        """How classes are numbered, where they once were otherwise: as text."""
        changed = self.class_names != tuple(sorted(self.class_names))
        return " ".join(self.class_names) if self.numbered and changed else ""


def listing(root: Path, data: Modality, divides: bool = False) -> Listing:
    """Of a manifest, where the folder holds one, else of all that lies in it.

    divides: it is to be divided by holdout; BadInput where it holds parts of a set
        already, which would be taken for classes.
    """
    # Any .jsonl, and a table of these names where tables are no signals.
    tables = [] if ".csv" in data.suffixes else [root / name for name in TABLES]
    found = [*root.glob("*.jsonl"), *filter(Path.is_file, tables)]
    manifests = sorted(path for path in found if not path.name.startswith("."))
    if len(manifests) > 1:
        several = listed(path.name for path in manifests)
        raise BadInput(f"{root}: several manifests ({several}); keep one")
    if manifests:
        return _of_manifest(manifests[0], data)
    return _of_tree(root, data, divides)


def _refuse_parts(root: Path, below: Sequence[tuple[str, ...]], data: Modality) -> None:
    """Raises BadInput for parts of a set. below: the path of every folder."""
    names = sorted(parts[0] for parts in below if len(parts) == 1)
    deeper: dict[str, list[str]] = {name: [] for name in names}
    for parts in below:
        if len(parts) == 2:
            deeper[parts[0]].append(parts[1])
    training, held = parts_among(names)
    if training and held:
        raise BadInput(
            f"{root} holds {training[0]}/ and {held[0]}/, which are parts and not "
            f"classes; write {splits_of(training[0], held[0], data)}"
        )
    if names and len(training) + len(held) == len(names):
        raise BadInput(
            f"{root} holds {names[0]}/, a part and no class; write "
            f"data.data_dir={root / names[0]}, of which data.holdout keeps a share"
        )
    for name, inner in deeper.items():
        training, held = parts_among(inner)
        if training and held:
            inside = root / name
            raise BadInput(
                f"{inside} holds {training[0]}/ and {held[0]}/, which are parts; write "
                f"data.holdout='match:/({'|'.join(held)})/', or data.data_dir={inside} "
                f"{splits_of(training[0], held[0], data)}".rstrip()
            )
    for field in ("train_split", "test_split"):
        own, usual = getattr(data, field), type(data).__dataclass_fields__[field]
        other = getattr(data, "test_split" if field == "train_split" else "train_split")
        if own != usual.default and own not in names and other in names:
            raise BadInput(
                f"data.{field}={own}: {root} holds {other}/ and no {own}/; write one "
                f"of {', '.join(names)}"
            )


def _of_tree(root: Path, data: Modality, divides: bool) -> Listing:
    """Files by extension, and folders of pictures where those are signals; the class is
    the first sub-folder, a caption the .txt beside. divides: of `listing`."""
    found: set[Path] = set()
    below: list[tuple[str, ...]] = []
    others: list[Path] = []
    left_out: Counter[str] = Counter()
    for folder, names in folders(root, left_out):
        below.append(folder.relative_to(root).parts)
        for name in names:
            path = folder / name
            if name.lower().endswith(data.suffixes):
                found.add(path.relative_to(root))
            elif data.folders and path.suffix.lower() in STILLS and folder != root:
                found.add(folder.relative_to(root))
            else:
                others.append(path)
    if divides:
        _refuse_parts(root, below, data)
    files = sorted(found)
    classes = [file.parts[0] if len(file.parts) > 1 else None for file in files]
    names = sorted({name for name in classes if name is not None}, key=natural)
    if names and None in classes:
        raise BadInput(
            f"{root}: {files[classes.index(None)]} lies beside class folders "
            f"({names[0]}, ...); move it into one, or remove it"
        )
    number = {name: i for i, name in enumerate(names)} | {None: -1}
    texts = {
        stem_of(str(path.relative_to(root)), (".txt",)): path
        for path in others
        if path.suffix.lower() == ".txt"
    }
    beside = [texts.get(data.stem(str(file))) for file in files]
    used = set(beside)
    left_out.update(kind_of(each.name) for each in others if each not in used)
    captions = [
        None if path is None else decoded(path.read_bytes(), path).strip()
        for path in beside
    ]
    if any(captions):  # then a file without one has an empty caption, not none
        captions = [caption or "" for caption in captions]
    entries = [
        Entry(str(file), number[name], caption)
        for file, name, caption in zip(files, classes, captions, strict=True)
    ]
    return Listing(entries, tuple(map(printable, names)), left_out)


def folders(root: Path, left_out: Counter[str]) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, with the names of their files; links are followed.

    Each folder once, whatever links lead to it: by its own path rather than by a link,
    so that no link makes a loop and no file is in both parts under two names. What
    begins with a dot is not looked at. Counts what it leaves out.
    """
    plain, linked, seen = [root], list[Path](), set()
    while plain or linked:
        folder = plain.pop() if plain else linked.pop(0)
        try:
            own = folder.stat()
            inside = sorted(os.scandir(folder), key=lambda each: each.name)
        except OSError:
            left_out["folders that cannot be opened"] += 1
            continue
        if (own.st_dev, own.st_ino) in seen:
            left_out["links to a folder that is there"] += 1
            continue
        seen.add((own.st_dev, own.st_ino))
        names = []
        for each in inside:
            if each.name.startswith("."):
                continue
            if each.is_dir():
                (linked if each.is_symlink() else plain).append(folder / each.name)
            elif each.is_file() or each.is_symlink():  # of nothing: cannot be read
                names.append(each.name)
            else:
                left_out["that are no files"] += 1
        yield folder, names


def decoded(text: bytes, where: object) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{where}: not UTF-8 text") from None


def _of_manifest(path: Path, data: Modality) -> Listing:
    """Lines such as {"file": "a.png", "caption": "a red boat", "label": "boat"}, or a
    table with these columns.

    Also understood: file_name for file and text for caption. A label is a class name,
    or an index; it is given on every line or on none. Of a picture "boxes", too, each
    [x0, y0, x1, y1, class] in shares of its sides, the class a number.
    """
    read = _of_table if path.suffix == ".csv" else _of_lines
    rows = list(read(path))
    files, captions, labels, boxes = [], [], [], []
    for where, row in rows:
        file, caption = row.get("file", row.get("file_name")), row.get("caption")
        caption = row.get("text") if caption is None else caption
        if not (isinstance(file, str) and file):
            raise BadInput(f"{where}: write 'file' as text; it has {listed(row)}")
        if not isinstance(caption, str | None):
            raise BadInput(f"{where}: write 'caption' as text")
        files.append(file)
        captions.append(caption)
        labels.append(row.get("label"))
        boxes.append(_boxes(where, row, data))
    numbers, names = labelled(labels, lambda i: rows[i][0])
    of_each = zip(files, numbers, captions, boxes, strict=True)
    entries = [Entry(f, y, text, boxes=found) for f, y, text, found in of_each]
    named = {Path(os.path.normpath(path.parent / file)) for file in files}
    left_out = _unlisted(path, data, named)
    return Listing(entries, names, left_out, numbered=str in map(type, labels))


def _boxes(where, row, data) -> tuple[tuple[float, ...], ...] | None:
    """Those of a line, or None where it says nothing of them."""
    boxes = row.get("boxes")
    if boxes is None:
        return None
    if not data.boxed:
        raise BadInput(f"{where}: boxes are of pictures, and this is {data.kind}")
    for box in boxes if isinstance(boxes, list) else [boxes]:
        numbers = isinstance(box, list) and all(type(x) in (int, float) for x in box)
        right = numbers and len(box) == 5 and is_box(*box)
        if not right:
            raise BadInput(
                f"{where}: box {box!r}; write [x0, y0, x1, y1, class], {RIGHT}"
            )
    return tuple(tuple(map(float, box)) for box in boxes)


def _of_lines(path: Path) -> Iterator[tuple[str, dict]]:
    for n, line in enumerate(decoded(path.read_bytes(), path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {n}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not JSON ({error.msg})") from None
        except (ValueError, RecursionError):
            raise BadInput(f"{where}: too long a number, or nested too deep") from None
        if not isinstance(row, dict):
            raise BadInput(f'{where}: write {{"file": ..., ...}}')
        for name, value in row.items():
            if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
                raise BadInput(f"{where}: {name} holds what is no character")
        yield where, row


def _of_table(path: Path) -> Iterator[tuple[str, dict]]:
    """A label of digits is an index."""
    text = decoded(path.read_bytes(), path)
    # Who writes "file, caption" means no column " caption", which nobody would read.
    mark, _ = first_row(text[:65536])
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, delimiter=mark, skipinitialspace=True)
    try:
        for row in reader:
            if any(row.pop(None, ())):  # else a part of a text would be lost
                raise BadInput(
                    f"{path} line {reader.line_num}: more entries than columns; put a "
                    f'text with {mark!r} into "..."'
                )
            row = {name: value for name, value in row.items() if value}
            if re.fullmatch(NUMBER, row.get("label", "")):
                row["label"] = int(row["label"])
            yield f"{path} line {reader.line_num}", row
    except csv.Error as error:
        raise BadInput(f"{path} line {reader.line_num}: {error}") from None


def _unlisted(path: Path, data: Modality, named: set[Path]) -> Counter[str]:
    """Signals that lie beside a manifest and are not in it, by suffix."""
    left_out: Counter[str] = Counter()
    for folder, names in folders(path.parent, Counter()):
        for name in names:
            place = Path(os.path.normpath(folder / name))
            if name.lower().endswith(data.suffixes) and place not in named:
                left_out[f"{kind_of(name)} that {path.name} does not list"] += 1
    return left_out
