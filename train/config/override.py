"""`--config.model.depth=24`: an experiment with some of its fields changed."""

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from train.config import expression
from train.config.paths import children, join, leaves
from train.errors import BadInput

T = TypeVar("T")
# Fields of a stream of stage two, by the paths that they had up to 0.1.0.
MOVED = (
    (r"tokenizers\.([^.]+)", r"streams.\1.tokenizer"),
    (r"processes\.([^.]+)(.*)", r"streams.\1.process\2"),
    (r"times\.([^.]+)(.*)", r"streams.\1.times\2"),
    (r"tokenizers|processes|times", "a field of each stream: streams.NAME"),
)


def overrides(experiment: T, texts: Mapping[str, str]) -> T:
    """overrides(experiment, {"model.depth": "24"}) -> a new experiment.

    All at once, so that values that depend on each other change together; a whole and
    its parts may both be given: the parts apply to the new whole. Raises BadInput for a
    path that does not exist, naming the nearest that does, and for a text that does not
    fit the field's type, saying what to write.
    """
    for dotted in texts:
        for old, new in MOVED:
            if re.fullmatch(old, dotted) and not hasattr(
                experiment, dotted.split(".")[0]
            ):
                raise BadInput(f"{dotted} is now {re.sub(old, new, dotted)}")
    edits = [
        (dotted.split("."), functools.partial(expression.parse_value, text))
        for dotted, text in texts.items()
    ]
    return _edit(experiment, type(experiment), edits, "", experiment)


def replaced(value: T, fields: Mapping[str, Any]) -> T:
    """The value with others at these dotted paths, all at once: {"run.batch": 32}."""
    edits = [(at.split("."), lambda *_, new=new: new) for at, new in fields.items()]
    return _edit(value, type(value), edits, "", value)


# A path below a value, and what reads its new value by (annotation, path).
Edits = list[tuple[list[str], Callable[[Any, str], Any]]]


def _edit(value: Any, annotation: Any, edits: Edits, at: str, root: Any) -> Any:
    """`value`, which is at the path `at` of `root`, with the edits below it made."""
    for path, read in edits:
        if not path:
            value = read(annotation, at)
    edits = [edit for edit in edits if edit[0]]
    if not edits:
        return value
    parts = children(value)
    if value is None or (parts is None and not isinstance(value, tuple)):
        _refuse_inside(value, annotation, at, edits[0][0][0])
    # Grouped by what the name means: a tuple's element has a name and an index.
    inner: dict[Any, Edits] = {}
    for path, read in edits:
        key = _key(value, parts, path, at, root)
        inner.setdefault(key, []).append((path[1:], read))
    changes = {}
    for key, below in inner.items():
        old = value[key] if isinstance(value, tuple) else parts.get(key)
        name = list(parts)[key] if parts and isinstance(key, int) else str(key)
        hint = _hint(value, annotation, key)
        changes[key] = _edit(old, hint, below, join(at, name), root)
    if isinstance(value, tuple):
        return tuple(changes.get(index, item) for index, item in enumerate(value))
    if isinstance(value, Mapping):
        return {**value, **changes}
    return expression.construct(type(value), {**parts, **changes}, at)


def _key(value: Any, parts: Any, path: list[str], at: str, root: Any) -> Any:
    """Which part of `value` a path enters: a field, an entry of a dict, an index."""
    name, place = path[0], join(at, path[0])
    if isinstance(value, tuple):
        if name.isdecimal() and int(name) < len(value):
            return int(name)
        if parts and name in parts:
            return list(parts).index(name)
        known = list(parts) if parts else [str(i) for i in range(len(value))]
        raise BadInput(f"{place} does not exist; {expression.near(name, known)}")
    # A new entry of a dict may be written whole; there is nothing inside it yet.
    if name in parts or (isinstance(value, Mapping) and not path[1:]):
        return name
    raise BadInput(f"{place} does not exist; {_advice(name, parts, at, root)}")


def _advice(name: str, parts: Any, at: str, root: Any) -> str:
    """The nearest field here, and those elsewhere that have this very name."""
    ends = {path: path.rpartition(".")[2] for path in leaves(root)}
    here = expression.close(name, parts)
    found = [join(at, here)] if here else []
    found += [path for path, end in ends.items() if end == name]
    found = found or [path for path, end in ends.items() if name and name in end]
    if 0 < len(found) <= 3:
        return f"did you mean {' or '.join(found)}?"
    return expression.near(name, parts)


def _hint(value: Any, annotation: Any, key: Any) -> Any:
    """The annotation of one part of `value`, which is annotated itself."""
    if dataclasses.is_dataclass(value):
        return expression.fields_with_types(type(value))[key]
    held = tuple if isinstance(value, tuple) else dict
    for arm in expression.alternatives(annotation):
        inner = typing.get_args(arm)
        if typing.get_origin(arm) is held and inner:
            if held is dict:
                return inner[1]
            return inner[0] if inner[1:] == (Ellipsis,) else inner[key]
    return Any


def _refuse_inside(value: Any, annotation: Any, at: str, name: str) -> None:
    if value is None:
        wanted = expression.expected(annotation)
        raise BadInput(f"{at} is None and has no {name}; first write {at} as {wanted}")
    kind = type(value).__name__
    raise BadInput(f"{at} is the {kind} {value!r} and has no {name}; write {at}=...")
