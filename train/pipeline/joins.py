"""Which examples of several data sets belong together."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol
from zlib import crc32

import numpy as np

from train.errors import BadInput
from train.modalities.draws import Word, chance
from train.pipeline.examples import Examples
from train.pipeline.statistics import records_of
from train.sources.share import Portion
from vqdit.shapes import Int

How = Literal["index", "key", "class"]
Parts = Mapping[str, Any]  # stream -> Examples, or what is like them


class Join(Protocol):
    """count: of joint examples. missing: streams that some of them lack. shared:
    streams of which one row may go with several examples, and is augmented for each."""

    count: int
    missing: frozenset[str]
    shared: frozenset[str]

    def rows(
        self,
        indices: Int[np.ndarray, "b"],
        epochs: Int[np.ndarray, "b"] | int,
        seed: int,
    ) -> dict[str, Int[np.ndarray, "b"]]:
        """Stream -> rows of its part, -1 where it is missing."""


def join_parts(parts: Parts, how: How, train: bool) -> Join:
    """Raises BadInput where the parts cannot be joined so."""
    if how == "key":
        return ByKey(parts, train)
    return ByClass(parts) if how == "class" else ByIndex(parts)


class ByIndex:
    """Row i of each is of the same example. Folders have files of the same names."""

    missing: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    def __init__(self, parts: Parts):
        self.names = list(parts)
        (first, one), *others = parts.items()
        self.count = len(one)
        for name, other in others:
            if other is not one:
                _check_pair(first, one, name, other)

    def rows(self, indices, epochs, seed):
        return dict.fromkeys(self.names, indices)


class ByKey:
    """Examples of equal keys, such as files of equal names; all keys that any has.

    Of a key each part has as many examples, or one that goes with all of the others'.
    """

    def __init__(self, parts: Parts, train: bool):
        keys = {name: _keys(part, name) for name, part in parts.items()}
        for name, part in parts.items():
            _refuse_left_out(name, part)
        if train:
            _refuse_mixed_parts(parts, keys)
        places: dict[str, dict[str, list[int]]] = {}
        for name, own in keys.items():
            for row, key in enumerate(own):
                places.setdefault(key, {}).setdefault(name, []).append(row)
        table: dict[str, list[Any]] = {name: [] for name in parts}
        for key in sorted(places):
            found = places[key]
            most = max(map(len, found.values()))
            for name in parts:
                rows = found.get(name, [-1])
                if len(rows) not in (1, most):
                    raise BadInput(
                        f"data.{name} has {len(rows)} examples of {key!r} where other "
                        f"streams have {most}; write as many, or one"
                    )
                table[name] += rows * (most if len(rows) == 1 else 1)
        self.table = {name: np.array(rows) for name, rows in table.items()}
        self.count = len(next(iter(self.table.values())))
        if train:
            _refuse_strangers(self.table, keys)
        missing = {name for name, rows in self.table.items() if (rows < 0).any()}
        self.missing = frozenset(missing)
        twice = {n for n, rows in self.table.items() if len({*rows}) < len(rows)}
        self.shared = frozenset(twice)

    def rows(self, indices, epochs, seed):
        return {name: rows[indices] for name, rows in self.table.items()}


class ByClass:
    """Every example of the first part, with one of its class of each of the others,
    drawn anew in every epoch. An example without a class is alone."""

    def __init__(self, parts: Parts):
        (self.first, one), *others = parts.items()
        self.names, self.labels = list(parts), one.labels
        self.count, self.others = len(one), {}
        words: dict[Any, int] = {}
        for name, other in others:
            if other.data == one.data:
                continue
            # Streams of the same data are of one example.
            word = words.setdefault(other.data, crc32(name.encode()))
            labels = _numbered(other, name, one, self.first)
            order = np.argsort(labels, kind="stable")
            ends = np.searchsorted(labels[order], np.arange(one.classes + 1))
            empty = np.setdiff1d(self.labels, np.flatnonzero(np.diff(ends)))
            if len(empty := empty[empty >= 0]):
                spelled = one.class_names[empty[0]] if one.class_names else empty[0]
                raise BadInput(
                    f"data.{name} has no example of the class {spelled}, which "
                    f"data.{self.first} has; add one, or leave the class out there"
                )
            self.others[name] = word, order, ends
        alone = (self.labels < 0).any()
        self.missing = frozenset(self.others if alone else ())
        self.shared = frozenset(self.others)

    def rows(self, indices, epochs, seed):
        label = self.labels[indices]
        found = dict.fromkeys(self.names, indices)
        for name, (word, order, ends) in self.others.items():
            low, high = ends[label], ends[np.maximum(label, 0) + 1]
            u = chance(Word.JOIN, seed, epochs, indices, word)
            row = order[
                np.minimum(low + (u * (high - low)).astype(int), len(order) - 1)
            ]
            found[name] = np.where(label < 0, -1, row)
        return found


def _numbered(other, name, one, first) -> Int[np.ndarray, "n"]:
    """Labels of a part as another numbers its classes: by name, where names are equal,
    else by number."""
    names, theirs = one.class_names, other.class_names
    if not one.classes or one.classes != other.classes:
        raise BadInput(
            f"data.{name} has {other.classes} classes and data.{first} has "
            f"{one.classes}: to be joined by class they need the same"
        )
    if set(names) != set(theirs) or names == theirs:
        return other.labels
    place = {name: i for i, name in enumerate(names)}
    number = np.array([place[name] for name in theirs])
    return np.where(other.labels < 0, -1, number[other.labels])


def _keys(part, name) -> Sequence[str]:
    keys = part.keys
    if keys is None:
        raise BadInput(
            f"data.{name} has no keys; write a folder, whose files' names are keys, an "
            ".npz with an array key, or another join; a cache has those of its data "
            "where it was encoded with join=key"
        )
    return keys


def _refuse_strangers(table: Mapping[str, Any], keys: Mapping[str, Sequence]) -> None:
    """Raises BadInput for a stream of whose keys no other has one: nothing would be
    learned of what belongs together."""
    there = {name: rows >= 0 for name, rows in table.items()}
    joined = sum(there.values()) > 1
    for name, rows in there.items():
        if len(there) > 1 and not joined[rows].any():
            others = [f"{keys[n][0]!r} of data.{n}" for n in keys if n != name]
            raise BadInput(
                f"data.{name} has no key that another stream has: {keys[name][0]!r} "
                f"where there is {', '.join(others)}; write them alike: a file's is "
                "its name, with the folder of its class where there is one"
            )


def _refuse_mixed_parts(parts: Parts, keys: Mapping[str, Sequence[str]]) -> None:
    """Raises BadInput where one stream trains on what another holds out."""
    held = {}
    for name, part in parts.items():
        if isinstance(part, Examples):
            with contextlib.suppress(BadInput):  # where nothing is held out
                held[name] = set(records_of(part.data, False).keys or ())
    for name, own in keys.items():
        for other, theirs in held.items():
            if both := sorted(theirs.intersection(own)):
                raise BadInput(
                    f"data.{other} holds out {both[0]!r}, which data.{name} trains on; "
                    "write data.holdout='name:0.1' of each, by which files of one name "
                    "go together, or folders train/ and test/"
                )


def _refuse_left_out(name: str, part) -> None:
    """Raises BadInput where another file may stand in for one that cannot be read."""
    if getattr(getattr(part, "source", None), "files", None) and part.data.bad_share:
        raise BadInput(
            f"data.{name}.bad_share={part.data.bad_share}: a file that is left out "
            f"would move all rows after it; write data.{name}.bad_share=0"
        )


def _check_pair(first: str, one, name: str, other) -> None:
    """Raises BadInput where equal rows of two parts may not be of one example."""
    # Of files, or those that a table lists; a cache has been divided.
    parts = {first: one, name: other}
    named = all(isinstance(p, Examples) and p.source.named for p in (one, other))
    for each, part in parts.items() if named else ():
        if not part.source.keys:
            raise BadInput(
                f"data.{each}.key is empty: write the column that names the files, by "
                "which both are divided alike, and join=key"
            )
    if len(other) != len(one):
        raise BadInput(
            f"data.{name} has {len(other)} examples and data.{first} has "
            f"{len(one)}: streams are joined by index; write as many of each, "
            "or join=key or class"
        )
    sources = [getattr(part, "source", None) for part in (one, other)]
    taken: list[Any] = [
        each.rows if isinstance(each, Portion) else None for each in sources
    ]
    if not np.array_equal(*taken):
        raise BadInput(
            f"data.{name} has other examples of its training part than data.{first}: "
            "write the same data.share of both, and the same names, or join=key or "
            "class"
        )
    for each, part in parts.items():
        _refuse_left_out(each, part)
    pairs = zip(one.source.keys, other.source.keys, strict=True) if named else ()
    for mine, theirs in pairs:
        if mine != theirs:
            raise BadInput(
                f"data.{name} has the file {theirs!r} where data.{first} has {mine!r}: "
                "streams are joined by index; write folders train/ and test/ of files "
                "with the same names in each, or join=key"
            )
