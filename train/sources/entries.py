"""Which files of a folder are signals, with their classes and captions."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from train.errors import BadInput
from train.modalities.files import kind_of, natural, printable
from train.modalities.image import STILLS
from train.modalities.modality import Modality

# Names of folders that are parts of a set, and not classes.
TRAINING = ("train", "training")
HELD_OUT = ("test", "testing", "val", "valid", "validation", "dev", "eval")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file: its path below the root, class index (-1: none), and caption."""

    file: str
    label: int = -1
    caption: str | None = None


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


def listing(root: Path, data: Modality) -> Listing:
    """Of a manifest, where the folder holds one, else of all that lies in it."""
    manifests = sorted(p for p in root.glob("*.jsonl") if not p.name.startswith("."))
    if len(manifests) > 1:
        listed = ", ".join(path.name for path in manifests)
        raise BadInput(f"{root}: several manifests ({listed}); keep one .jsonl")
    return _of_manifest(manifests[0]) if manifests else _of_tree(root, data)


def refuse_parts(root: Path, data: Modality) -> None:
    """Raises BadInput where a folder that is to be divided by holdout holds parts of a
    set already, which would be taken for classes."""
    if any(root.glob("*.jsonl")):
        return
    names = [path.name for path in root.iterdir() if path.is_dir()]
    names = sorted(name for name in names if not name.startswith("."))
    lower = {name.lower(): name for name in names}
    training = [lower[word] for word in TRAINING if word in lower]
    held = [lower[word] for word in HELD_OUT if word in lower]
    wanted = {"train_split": training[:1], "test_split": held[:1]}
    if training and held:
        needed = " ".join(
            f"data.{field}={name}"
            for field, (name,) in wanted.items()
            if name != getattr(data, field)
        )
        raise BadInput(
            f"{root} holds {training[0]}/ and {held[0]}/, which are parts and not "
            f"classes; write {needed}"
        )
    if names and len(training) + len(held) == len(names):
        raise BadInput(
            f"{root} holds {names[0]}/, a part and no class; write "
            f"data.data_dir={root / names[0]}, of which data.holdout keeps a share"
        )
    for field in wanted:
        own, usual = getattr(data, field), type(data).__dataclass_fields__[field]
        other = getattr(data, "test_split" if field == "train_split" else "train_split")
        if own != usual.default and own not in names and other in names:
            raise BadInput(
                f"data.{field}={own}: {root} holds {other}/ and no {own}/; write one "
                f"of {', '.join(names)}"
            )


def _of_tree(root: Path, data: Modality) -> Listing:
    """Files by extension, and folders of pictures where those are signals; the class is
    the first sub-folder, a caption the .txt beside."""
    found, others, left_out = set(), [], Counter()
    for folder, names in _folders(root, left_out):
        for name in names:
            path = folder / name
            if name.lower().endswith(data.suffixes):
                found.add(path.relative_to(root))
            elif data.folders and path.suffix.lower() in STILLS and folder != root:
                found.add(folder.relative_to(root))
            else:
                others.append(path)
    files = sorted(found)
    classes = [file.parts[0] if len(file.parts) > 1 else None for file in files]
    names = sorted({name for name in classes if name is not None}, key=natural)
    if names and None in classes:
        raise BadInput(
            f"{root}: {files[classes.index(None)]} lies beside class folders "
            f"({names[0]}, ...); move it into one, or remove it"
        )
    number = {name: i for i, name in enumerate(names)} | {None: -1}
    beside = [root / f"{data.stem(str(file))}.txt" for file in files]
    texts = set(beside).intersection(others)
    left_out.update(kind_of(each.name) for each in others if each not in texts)
    captions = [_text(path).strip() if path in texts else None for path in beside]
    if any(captions):  # then a file without one has an empty caption, not none
        captions = [caption or "" for caption in captions]
    entries = [
        Entry(str(file), number[name], caption)
        for file, name, caption in zip(files, classes, captions, strict=True)
    ]
    return Listing(entries, tuple(map(printable, names)), left_out)


def _folders(root: Path, left_out: Counter[str]) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, with the names of their files; links are followed.

    Each folder once, whatever links lead to it: by its own path rather than by a link,
    so that no link makes a loop and no file is in both parts under two names. What
    begins with a dot is not looked at. Counts what it leaves out.
    """
    plain, linked, seen = [root], [], set()
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text") from None


def _of_manifest(path: Path) -> Listing:
    """Lines such as {"file": "a.png", "caption": "a red boat", "label": "boat"}.

    Also understood: file_name for file and text for caption. A label is a class name,
    or an index; it is given on every line or on none.
    """
    numbered = enumerate(_text(path).split("\n"), 1)
    rows = [(f"{path} line {n}", line) for n, line in numbered if line.strip()]
    files, captions, labels = [], [], []
    for where, line in rows:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise BadInput(f'{where}: write {{"file": ..., ...}}')
        file, caption = row.get("file", row.get("file_name")), row.get("caption")
        caption = row.get("text") if caption is None else caption
        if not (isinstance(file, str) and file):
            raise BadInput(f"{where}: write 'file' as text")
        if not isinstance(caption, str | None):
            raise BadInput(f"{where}: write 'caption' as text")
        files.append(file)
        captions.append(caption)
        labels.append(row.get("label"))
    given = [label for label in labels if label is not None]
    if not given:
        numbers, names = [-1] * len(rows), ()
    elif len(given) < len(rows):
        where, _ = rows[labels.index(None)]
        raise BadInput(f"{where}: no label, though other lines have one")
    elif all(type(label) is str for label in given):
        names = tuple(sorted(set(given), key=natural))
        numbers = [names.index(label) for label in given]
    elif all(type(label) is int and label >= 0 for label in given):
        numbers, names = given, tuple(map(str, range(max(given) + 1)))
    else:
        raise BadInput(f"{path}: write every label as a name, or every one as an index")
    entries = [Entry(*entry) for entry in zip(files, numbers, captions, strict=True)]
    return Listing(entries, names, numbered=str in map(type, labels))
