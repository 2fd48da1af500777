"""The one walk over a value by its annotations: edits, checks and builds it.

What text writes, what a config file composes, and an experiment with some of its
fields changed all come by here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from train.config.options.annotations import arm_for, bare, entry_type, expected, held
from train.config.options.paths import join, leaves, spell
from train.errors import BadInput, blame
from vqdit.fields import told
from vqdit.values import close, near

# A path below a value, and what reads its new value by (annotation, path).
Edits = Sequence[tuple[list[str], Callable[[Any, str], Any]]]


def walk(
    value: Any, annotation: Any, at: str = "", edits: Edits = (), root: Any = None
) -> Any:
    """`value`, at the path `at` of `root`, with the edits below it made.

    An int does for a float. Raises BadInput, naming the path, where a value or a part
    of it is not what its annotation says, and for an edit of what is not there.
    """
    for path, read in edits:
        if not path:
            value = read(annotation, at)
    arm = arm_for(value, annotation)
    if arm is None:
        text = told(spell(value))
        raise BadInput(f"{at}: write {expected(annotation)}, not {text}")
    below: dict[str, list[tuple[list[str], Callable[[Any, str], Any]]]] = {}
    for path, read in edits:
        if path:
            below.setdefault(path[0], []).append((path[1:], read))
    parts = held(value, arm)
    for name, inner in below.items():
        if name in parts:
            continue
        # A new entry of a dict has to be written whole, and may have parts besides.
        if not isinstance(value, Mapping) or all(path for path, _ in inner):
            raise BadInput(_refusal(name, value, annotation, parts, at, root))
        parts[name] = None, entry_type(arm)
    made = {
        name: walk(part, hint, join(at, name), below.get(name, ()), root)
        for name, (part, hint) in parts.items()
    }
    if isinstance(value, tuple):
        return tuple(made.values())
    if isinstance(value, Mapping):
        return made
    if below:
        return construct(type(value), made, at)
    return float(value) if bare(arm) is float else value


def construct(kind: type, values: Mapping[str, Any], at: str) -> Any:
    """Calls the constructor; what it refuses becomes a BadInput that names `at`."""
    try:
        with blame(at):
            return kind(**values)
    except TypeError as error:  # Python's own words for an absent argument
        text = str(error).replace("__init__() ", "").rpartition(".")[2]
        raise BadInput(f"{at}: {kind.__name__}: {text}") from error


def _refusal(name, value, annotation, parts, at, root) -> str:
    """Why there is no part of this name in a value, and what to write instead."""
    if value is None:
        wanted = expected(annotation)
        return f"{at} is None and has no {name}; first write {at} as {wanted}"
    if not parts and not isinstance(value, Mapping):
        kind = type(value).__name__
        return f"{at} is the {kind} {value!r} and has no {name}; write {at}=..."
    # The nearest field here, and those elsewhere that have this very name.
    ends = {path: path.rpartition(".")[2] for path in leaves(root)}
    here = close(name, parts)
    found = [join(at, here)] if here else []
    found += [path for path, end in ends.items() if end == name]
    found = found or [path for path, end in ends.items() if name in end]
    advice = near(name, parts)
    if 0 < len(found) <= 3:
        advice = f"did you mean {' or '.join(found)}?"
    return f"{join(at, name)} does not exist; {advice}"
