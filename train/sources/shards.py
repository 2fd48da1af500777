"""WebDataset: samples in tar shards, read by where each of their members lies.

A sample is the members of one key, a path up to the first dot of its name: "a/7.jpg",
"a/7.cls" (its class: a number or a name), "a/7.txt" (its caption) and "a/7.json", whose
"label" and "caption" stand in for those. https://github.com/webdataset/webdataset
"""

import contextlib
import fnmatch
import functools
import glob
import json
import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from train.errors import BadInput, Unreadable, reading
from train.modalities.files.stored import counted, from_home, kind_of, natural
from train.modalities.modality import Modality
from train.progress import progress
from train.sources.classes import labelled
from train.sources.entries import (
    NUMBER,
    Entry,
    Listing,
    decoded,
    folders,
)
from train.sources.folder import Part, folder_of, parted, shared
from train.sources.split import parts_among, splits_of

log = logging.getLogger(__name__)

SIDE = ("cls", "txt", "json")  # extensions that say something of a sample
LONGEST = 2**20  # bytes of one of these
PACKED = re.compile(r"\.(tgz|tar\.gz)$")
MOST = 10**6  # shards that a pattern may name


def open_shards(data: Modality, train: bool) -> Part:
    """The training or held-out part of the shards that data_dir names.

    Those with the words train_split and test_split in their names, or in those of
    their folders, are the two parts; where there are none, holdout divides the samples.
    """
    root, names = _shards(data)
    of = [_of_split(names, split) for split in (data.train_split, data.test_split)]
    rule, one = isinstance(data.holdout, str), data.train_split == data.test_split
    if of[0] and of[1] and not one and not rule:
        for name in sorted(set(of[0]) & set(of[1])):
            raise BadInput(f"{root / name} is of both parts; write data.train_split")
        if others := [name for name in names if name not in {*of[0], *of[1]}]:
            log.warning("%s: in neither part: %s", root, ", ".join(others[:10]))
        return parted(
            lambda i, known: folder_of(root, data, known, listing, tuple(of[i])), train
        )
    for field, found in zip(("train_split", "test_split"), of, strict=True):
        own, usual = getattr(data, field), type(data).__dataclass_fields__[field]
        if own != usual.default and not found:
            raise BadInput(f"data.{field}={own!r}: no shard of {root} is of this name")
    if one:
        names = of[0] or names
    elif not rule:
        training, held = parts_among(word for name in names for word in _words(name))
        if training and held:
            raise BadInput(
                f"{root} holds shards of {training[0]} and of {held[0]}; write "
                f"{splits_of(training[0], held[0], data)}"
            )
    return shared(folder_of(root, data, None, listing, tuple(names)), data, train)


def _shards(data: Modality) -> tuple[Path, list[str]]:
    """(a folder, paths of all shards below it, in natural order)."""
    if not data.data_dir:
        raise BadInput("data.data_dir is empty: write shards, such as 'set/*.tar'")
    root = from_home(data.data_dir)
    if root.is_dir():
        left_out: Counter[str] = Counter()
        found = [at / name for at, names in folders(root, left_out) for name in names]
        packed = [path.name for path in found if PACKED.search(path.name.lower())]
        others = [path.name for path in found if path.suffix.lower() != ".tar"]
        found = [path for path in found if path.suffix.lower() == ".tar"]
        left_out.update(map(kind_of, others))
        if left_out:
            log.warning("%s: left out %s", root, counted(left_out))
        if packed and not found:
            raise BadInput(f"{root} holds {packed[0]}; gunzip it, which leaves a .tar")
    else:
        named: list[str] = []
        for pattern in expanded(str(root)):
            matches = [pattern] if os.path.isfile(pattern) else glob.glob(pattern)
            named += [match for match in matches if os.path.isfile(match)]
            if not any(map(os.path.isfile, matches)):
                raise BadInput(f"data.data_dir={data.data_dir}: no such file {pattern}")
        found = list(dict.fromkeys(Path(each).absolute() for each in named))
        root = Path(os.path.commonpath([path.parent for path in found]))
    if not found:
        raise BadInput(f"{root} holds no .tar shard; write their folder or a pattern")
    return root, sorted((str(path.relative_to(root)) for path in found), key=natural)


def expanded(pattern: str) -> list[str]:
    """What a pattern with braces stands for: "{08..10}" is 08, 09 and 10, "{a,b}" two.

    "::" divides several patterns, as in WebDataset.
    """
    if "::" in pattern:
        return [one for each in pattern.split("::") for one in expanded(each)]
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    words = found[1].split(",")
    if ends := re.fullmatch(r"(\d+)\.\.(\d+)", found[1]):
        low, high = map(int, ends.groups())
        if not 0 <= high - low < MOST:
            raise BadInput(
                f"data.data_dir: {found[0]} names no shards; write low..high"
            )
        words = [f"{i:0{len(ends[1])}d}" for i in range(low, high + 1)]
    before, behind = pattern[: found.start()], pattern[found.end() :]
    return [one for word in words for one in expanded(before + word + behind)]


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _of_split(names: Sequence[str], split: str) -> list[str]:
    """The shards of a split: a word in their names, or a pattern of these."""
    if set("*?[{") & set(split) or split.endswith(".tar"):
        patterns = expanded(split)
        return [
            name for name in names if any(fnmatch.fnmatch(name, p) for p in patterns)
        ]
    return [name for name in names if split.lower() in _words(name)]


def listing(root: Path, data: Modality, *shards: str) -> Listing:
    """The samples of these shards, in the order in which they are stored.

    Of a shard that is broken, what lies before that; BadInput where more than
    bad_share are.
    """
    entries, labels, broken = [], [], {}
    left_out: Counter[str] = Counter()
    for shard in progress(shards, "indexing shards", unit="shard"):
        samples, why = _samples(root / shard, left_out)
        if why:
            broken[shard] = why
        for key, members in samples.items():
            entry, label = _entry(root, shard, key, members, data, left_out)
            if entry is not None:
                entries.append(entry)
                labels.append(label)
    told = [f"{shard} {why}" for shard, why in broken.items()]
    if len(broken) > data.bad_share * len(shards):
        raise BadInput(
            f"{root}: {len(broken)} of {len(shards)} shards broken, more than "
            f"data.bad_share={data.bad_share}: {'; '.join(told[:3])}"
        )
    for line in told[:10]:
        log.warning("%s: what lies before is read", root / line)
    numbers, names = labelled(labels, lambda i: root / entries[i].file)
    captioned = any(entry.caption for entry in entries)
    entries = [
        # With captions a sample without one has an empty one, not none.
        Entry(
            e.file, number, (e.caption or "") if captioned else None, e.content, e.size
        )
        for e, number in zip(entries, numbers, strict=True)
    ]
    return Listing(entries, names, left_out, numbered=False)


def _samples(
    path: Path, left_out: Counter[str]
) -> tuple[dict[str, dict[str, Any]], str]:
    """({key: {extension: (start, size), or the bytes of what says something}}, why the
    shard is broken, or ""). Of members of one name the last one counts, as in tar."""
    samples: dict[str, dict[str, Any]] = {}
    try:
        for name, place in _members(path, left_out):
            folder, slash, base = name.removeprefix("./").rpartition("/")
            key, _, extension = base.partition(".")
            sample = samples.setdefault(folder + slash + key, {})
            if extension in sample:
                left_out[f"{kind_of(name)} that another of its name replaces"] += 1
            sample[extension] = place
    except Unreadable as error:
        return samples, str(error)
    return samples, ""


def _members(path: Path, left_out: Counter[str]) -> Iterator[tuple[str, Any]]:
    places: dict[str, Any] = {}
    with reading("is no whole tar file"), tarfile.open(path, "r:") as tar:
        for info in tar:
            base = info.name.rpartition("/")[2]
            if info.isdir() or base.startswith("."):
                continue
            if info.islnk() and info.linkname in places:  # a file of two names
                yield info.name, places[info.linkname]
                continue
            if not info.isfile():
                left_out[f"{kind_of(base)} that is a link, device or pipe"] += 1
                continue
            if info.issparse():  # its bytes do not lie in one piece
                left_out[f"{kind_of(base)} that tar stored as sparse"] += 1
                continue
            place: Any = info.offset_data, info.size
            if base.lower().rpartition(".")[2] in SIDE and info.size <= LONGEST:
                if (content := tar.extractfile(info)) is None:
                    continue  # of what is no file, and there it is one
                place = content.read()
            places[info.name] = place
            yield info.name, place
        # tarfile takes a header that it cannot read for the end of the file.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise Unreadable(f"is damaged at byte {tar.offset}")


def _entry(root, shard, key, members, data, left_out):
    """(the sample's signal with its caption, its label), or (None, None)."""
    found = [each for each in members if f".{each.lower()}".endswith(data.suffixes)]
    # "7.png" before "7.depth.png", which is another signal of the sample.
    found = [e for e in found if f".{e.lower()}" in data.suffixes] or found
    found = [each for each in found if type(members[each]) is tuple]
    if len(found) > 1:
        raise BadInput(
            f"{root / shard}: {key} holds {' and '.join(found)}; keep one {data.kind} "
            "a sample"
        )
    said = {e.lower(): each for e, each in members.items() if type(each) is bytes}
    read = {e for e in said if found and e in SIDE}
    left_out.update(
        kind_of(f"x.{each}")
        for each in members
        if each not in found and each.lower() not in read
    )
    if not found:
        return None, None
    where = f"{root / shard}/{key}"
    texts = {e: decoded(said[e], f"{where}.{e}").strip() for e in read}
    more: Any = {}
    with contextlib.suppress(ValueError, RecursionError):  # it may be of other use
        more = json.loads(texts.pop("json", "{}"))
    more = more if isinstance(more, dict) else {}
    named = texts.get("txt"), more.get("caption"), more.get("text")
    caption = next((each for each in named if isinstance(each, str)), None)
    label = texts.get("cls") or more.get("label")
    whole = type(label) is float and label.is_integer()
    if type(label) not in (int, str) and not whole:  # boxes, say
        label = None
    elif re.fullmatch(NUMBER, str(label)):
        label = int(label)
    start, size = members[found[0]]
    content = functools.partial(_stretch, root / shard, start, size)
    return Entry(f"{shard}/{key}.{found[0]}", -1, caption, content, size), label


def _stretch(path: Path, start: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        found = file.read(size)
    if len(found) < size:
        raise Unreadable(f"its shard is cut short: {len(found)} bytes of {size}")
    return found
