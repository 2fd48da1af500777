"""Modules and frozen dataclasses as plain JSON, and back.

A Linen module with its fields is its own configuration, so writing the fields down
is enough to rebuild it. The format has one JSON form for each kind of value:

    None, bool, int, finite float, str   themselves, numpy's as Python's
    float inf, -inf, nan                 {"float": "inf"}
    tuple                                [...]
    dict with str keys                   {"dict": {...}}
    dataclass or module                  {"class": "vqdit.DiT", "fields": {...}}

A class is written by its public name, the one under which its package exports it, so
that files of a package may move and old files still load. A class that its package does
not export is written by its full path.

All fields are written, also those at their default, so that a later change of a
default does not change what an old file means. A class whose fields have changed since
reads old ones through a static method `upgraded(fields) -> fields` of plain JSON.
Reading calls nothing but these and the constructors of dataclasses and modules of the
packages it is given.
"""

import dataclasses
import difflib
import importlib
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

# Names that classes had in files of older versions -> their public name. Up to 0.1.0 a
# class was stored by its module; `vqdit.tokenizer.conv.ConvEncoder` needs no row here,
# since `vqdit.ConvEncoder` is tried first.
OLD_NAMES: dict[str, str] = {}


class Foreign(ValueError):
    """A class of a package that was not named; args are the message and the package."""

    def __str__(self):
        return self.args[0]


def field_names(owner: Any) -> tuple[str, ...]:
    """Names of the constructor's fields of a dataclass or module, or of its class.

    The `parent` and `name` that Linen keeps in every module are left out. They say
    where a module hangs in a tree, not what it is.
    """
    kind = owner if isinstance(owner, type) else type(owner)
    hidden = {"parent", "name"} if issubclass(kind, nn.Module) else set()
    return tuple(
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.name not in hidden
    )


def close(name: str, names: Iterable[str]) -> str | None:
    """The name that this one is probably a misspelling of, if there is one."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def near(name: str, names: Collection[str], most: str = "") -> str:
    """Advice on a misspelt name: the nearest one, or all there are, or `most`."""
    if nearest := close(name, names):
        return f"did you mean {nearest}?"
    return most or (f"there are {', '.join(names)}" if names else "there are none")


def describe(value: Any, at: str = "") -> Any:
    """What `json.dumps` can write and `build` turns back into an equal value.

    Raises ValueError, naming the field below `at`, for anything that is not a value:
    functions, arrays, lists, dicts without str keys, modules that hold dicts, classes
    that cannot be imported by name.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else {"float": str(number)}
    if type(value) is tuple:
        return [describe(item, _join(at, i)) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{_place(at)} has the key {key!r}; write a str")
        return {"dict": {key: describe(value[key], _join(at, key)) for key in value}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        path = name_of(kind)
        if path is None:
            raise ValueError(
                f"{_place(at)} is a {kind.__module__}.{kind.__qualname__}, which "
                "cannot be imported by that name; write its class at the top of a "
                "module"
            )
        fields = {
            name: describe(getattr(value, name), _join(at, name))
            for name in field_names(kind)
        }
        if isinstance(value, nn.Module):
            try:
                hash(value)  # by which JAX knows a module's program again
            except TypeError:
                raise ValueError(
                    f"{_place(at)} holds what has no hash, such as a dict; in a module "
                    "write a tuple"
                ) from None
        return {"class": path, "fields": fields}
    advice = "write a tuple" if isinstance(value, list) else _VALUES
    raise ValueError(f"{_place(at)} is a {type(value).__name__}; {advice}")


_VALUES = "write a number, str, tuple, dict, dataclass or module"


def build(data: Any, packages: Sequence[str] = ("vqdit",), at: str = "") -> Any:
    """The inverse of `describe`: `build(describe(value)) == value`.

    Imports only modules under `packages` and calls only the dataclass and Linen
    constructors that are defined there. Raises ValueError, naming the class or the
    field below `at`, for anything else.
    """
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        items = enumerate(data)
        return tuple(build(item, packages, _join(at, i)) for i, item in items)
    if not isinstance(data, dict):
        raise ValueError(f"{_place(at)} is a {type(data).__name__}; write plain JSON")
    if set(data) == {"float"} and data["float"] in ("inf", "-inf", "nan"):
        return float(data["float"])
    if set(data) == {"dict"} and isinstance(data["dict"], dict):
        return {
            key: build(item, packages, _join(at, key))
            for key, item in data["dict"].items()
        }
    if set(data) == {"class", "fields"} and isinstance(data["fields"], dict):
        kind = _find(data["class"], packages, at)
        return _construct(kind, data["fields"], packages, at)
    raise ValueError(
        f'{_place(at)} has the keys {sorted(data)}; write {{"class": ..., '
        '"fields": {...}}, {"dict": {...}} or {"float": "inf"}'
    )


def name_of(kind: type) -> str | None:
    """The name that files store for a class, or None where it has none to import."""
    package = kind.__module__.partition(".")[0]
    if package.startswith("__"):  # a program's, which no other program can import
        return None
    # That of a config file's classes, which ran as no module, is not there.
    found = sys.modules.get(kind.__module__) and _exported(package, kind.__qualname__)
    if found is kind:
        return f"{package}.{kind.__qualname__}"
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind:
        return f"{kind.__module__}.{kind.__qualname__}"
    return None


def _exported(package: str, name: str) -> Any:
    """What a package has under a name at its top, or None."""
    return getattr(importlib.import_module(package), name, None)


def _construct(kind: type, given: dict, packages: Sequence[str], at: str) -> Any:
    title = name_of(kind)
    names = field_names(kind)
    try:
        given = kind.upgraded(given) if hasattr(kind, "upgraded") else given
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{_place(at)}: {title} cannot be read: {error}") from error
    for name in given:
        if name not in names:
            raise ValueError(
                f"{_place(at)}: {title} has no field {name!r}; {near(name, names)}"
            )
    absent = [
        field.name
        for field in dataclasses.fields(kind)
        if field.name in names
        and field.name not in given
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise ValueError(f"{_place(at)}: {title} needs the field {', '.join(absent)}")
    values = {
        name: build(item, packages, _join(at, name)) for name, item in given.items()
    }
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_place(at)}: {title} refuses: {error}") from error


def _find(path: Any, packages: Sequence[str], at: str) -> type:
    """The class that `path` names, imported if its package is one of `packages`."""
    refusal = (
        f"{_place(at)}: {path!r} is not a dataclass or module of {', '.join(packages)}"
    )
    if not isinstance(path, str):
        raise ValueError(refusal)
    module, _, name = OLD_NAMES.get(path, path).rpartition(".")
    parts = module.split(".")
    # Dunder modules are programs (`__main__`): importing one would run it.
    if not all(part.isidentifier() and not part.startswith("__") for part in parts):
        raise ValueError(refusal)
    if parts[0] not in packages:
        raise Foreign(refusal, parts[0])
    try:
        found = _exported(parts[0], name) if name.isidentifier() else None
        if found is None and len(parts) > 1:
            found = vars(importlib.import_module(module)).get(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{refusal}: {error}") from error
    # `__module__` keeps out the classes that a package itself has imported.
    if (
        isinstance(found, type)
        and found.__module__.partition(".")[0] == parts[0]
        and dataclasses.is_dataclass(found)
    ):
        return found
    raise ValueError(refusal)


def _join(at: str, name: object) -> str:
    return f"{at}.{name}" if at else str(name)


def _place(at: str) -> str:
    return at or "the value"
