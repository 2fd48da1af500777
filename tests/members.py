"""Whether a contract's list holds all that the code has: its price of entry."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest


def marked(members: Iterable[Any], slow: Iterable[Any]) -> list:
    """As parameters of a test or fixture, some of them among the slow."""
    return [
        pytest.param(member, marks=[pytest.mark.slow] if member in slow else [])
        for member in members
    ]


def missing(
    room: ModuleType, belongs: Callable[[type], bool], members: Iterable[type]
) -> set[str]:
    """Names of the classes that a room's files define, that belong to a kind, and that
    are no member. A name with an underscore is private and left out.
    """
    names = [room.__name__]
    names += [m.name for m in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    found = {
        value
        for name in names
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, type) and value.__module__ in names
    }
    return {
        kind.__name__
        for kind in found - set(members)
        if belongs(kind) and not kind.__name__.startswith("_")
    }
