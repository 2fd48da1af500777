"""What a field takes: its annotation, in words and as a test of a value."""

import collections.abc
import dataclasses
import functools
import types
import typing
from typing import Annotated, Any, Literal

import numpy as np

import train
import vqdit
from vqdit.values import field_names


@functools.cache
def fields_with_types(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass or module, by field, in constructor order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in field_names(kind)}


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The arms of a union; anything else is its own only arm."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(
            found for arm in typing.get_args(annotation) for found in alternatives(arm)
        )
    return (annotation,)


def arm_for(value: Any, annotation: Any) -> Any:
    """The arm that the value is of, by its outermost type alone; None for none."""
    value = value.item() if isinstance(value, np.generic) else value
    # An exact type goes first, so that 1 stays an int where float | int is asked for.
    arms = sorted(alternatives(annotation), key=lambda arm: type(value) is not arm)
    return next((arm for arm in arms if _is_of(value, arm)), None)


def _is_of(value: Any, arm: Any) -> bool:
    kind, inner = _taken_apart(arm)
    if kind is Annotated:
        return _is_of(value, inner[0]) and all(b.holds(value) for b in inner[1:])
    if kind is Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if kind in (Any, object):
        return True
    if kind is float:  # bool is an int to Python; True is not 1.0 to whoever typed it
        return type(value) in (int, float)
    if kind in (bool, int, str, types.NoneType):
        return type(value) is kind
    if kind is tuple:
        several = not inner or inner[1:] == (...,)
        return isinstance(value, tuple) and (several or len(value) == len(inner))
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, collections.abc.Mapping)
    return dataclasses.is_dataclass(value) and isinstance(value, kind)


def held(value: Any, arm: Any) -> dict[str, tuple[Any, Any]]:
    """Name -> (part, its annotation) of a value of this arm; of a leaf none."""
    inner = typing.get_args(bare(arm))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = fields_with_types(type(value))
        return {name: (getattr(value, name), hint) for name, hint in hints.items()}
    if isinstance(value, tuple):
        kinds = (Any,) * len(value) if not inner else inner
        kinds = (inner[0],) * len(value) if inner[1:] == (...,) else kinds
        pairs = zip(value, kinds, strict=True)
        return {str(index): pair for index, pair in enumerate(pairs)}
    if isinstance(value, collections.abc.Mapping):
        return {name: (part, entry_type(arm)) for name, part in value.items()}
    return {}


def entry_type(arm: Any) -> Any:
    """The annotation of the entries of a dict that is annotated so."""
    return (*typing.get_args(bare(arm)), Any, Any)[1]


def bare(arm: Any) -> Any:
    """The annotation without what Annotated adds to it."""
    kind, inner = _taken_apart(arm)
    return inner[0] if kind is Annotated else arm


def _taken_apart(arm: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(arm) or arm, typing.get_args(arm)


WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "None",
    dict: "a dict such as {'image': ...}",
    collections.abc.Mapping: "a dict such as {'image': ...}",
}


def expected(annotation: Any) -> str:
    """What to write for an annotation, in words."""
    return " or ".join(dict.fromkeys(map(_expected, alternatives(annotation))))


def _expected(arm: Any) -> str:
    kind, inner = _taken_apart(arm)
    if kind is Annotated:
        return f"{expected(inner[0])}, {' and '.join(map(str, inner[1:]))}"
    if kind is Literal:
        return "one of " + ", ".join(map(str, inner))
    if kind is tuple:
        if inner[1:] == (...,) and bare(inner[0]) is int:
            return "a tuple of ints such as (8, 5)"
        if inner == (str, ...):
            return "a tuple of texts such as image,word"
        items = " and ".join(expected(each) for each in inner if each is not ...)
        return f"a tuple of {items}" if items else "a tuple"
    if kind in WORDS:
        return WORDS[kind]
    names = sorted(f"{each.__name__}(...)" for each in makers(kind))
    if 0 < len(names) <= 6:
        return ", ".join(names)
    return "a constructor call of vqdit" if names else f"a {kind.__name__}"


def makers(arm: Any) -> list[type]:
    """The public classes whose values are of an arm."""
    known = library().values() if isinstance(arm, type) else ()
    return [each for each in known if _under(each, arm)]


def _under(kind: type, annotation: type) -> bool:
    try:
        return issubclass(kind, annotation)
    except TypeError:  # a protocol with data members
        return False


@functools.cache
def library() -> dict[str, type]:
    """The public dataclasses and modules of vqdit and train, by name."""
    found = {name: getattr(room, name) for room in (vqdit, train) for name in dir(room)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
