"""Dotted paths into an experiment, such as `model.streams.image.patch`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vqdit.values import field_names


def children(value: Any) -> dict[str, Any] | None:
    """The named parts of a value; None when it is a leaf.

    A dataclass or module has its fields, a dict its entries, a tuple of dataclasses
    its elements by their index.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in field_names(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
        return {str(index): item for index, item in enumerate(value)}
    return None


def leaves(value: Any, at: str = "") -> dict[str, Any]:
    """Every dotted path of a value that holds no further parts, with what is there."""
    parts = children(value)
    if not parts:
        return {at: value}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        found |= leaves(part, join(at, name))
    return found


class Absent:
    """Stands in a difference for an entry that one side does not have."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = Absent()


def diff(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted paths where two experiments differ, with both values.

    The experiment's own `name` is left out: it says what a variant is called and
    changes nothing. Where two objects are of different classes the path ends at them.
    """
    found = _diff(a, b, "")
    return {path: pair for path, pair in found.items() if path != "name"}


def _diff(a: Any, b: Any, at: str) -> dict[str, tuple[Any, Any]]:
    left, right = children(a), children(b)
    if left is None or right is None or type(a) is not type(b):
        # A nan differs from itself, yet is no change.
        same = a == b or (a != a and b != b)
        return {} if same else {at: (a, b)}
    if isinstance(a, tuple) and list(left) != list(right):
        return {at: (a, b)}
    found: dict[str, Any] = {}
    for name in [*left, *(name for name in right if name not in left)]:
        pair = left.get(name, ABSENT), right.get(name, ABSENT)
        found |= _diff(*pair, join(at, name))
    return found


def spell(value: Any) -> str:
    """The value as one writes it, on one line: constructor calls, without defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        fields = [
            f"{name}={spell(part)}"
            for name, part in (children(value) or {}).items()
            if part != defaults[name]
        ]
        return f"{kind.__name__}({', '.join(fields)})"
    if isinstance(value, Mapping):
        entries = (f"{key!r}: {spell(part)}" for key, part in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, tuple):
        items = ", ".join(map(spell, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    return repr(value)


def written(value: Any) -> str:
    """The value as one writes it behind an option's =: a text as it stands."""
    return value if isinstance(value, str) else spell(value)


def join(at: str, name: str) -> str:
    """`name` inside the part at the path `at`; the whole is at the empty path."""
    return f"{at}.{name}" if at else name
