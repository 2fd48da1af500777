"""What `--help` prints of a program's options and an experiment's fields."""

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from train.config.experiment import Experiment
from train.config.options.annotations import entry_type, expected, fields_with_types
from train.config.options.paths import children, join, spell

FIELD = re.compile(r"([\w.]+(?:, [\w.]+)*): +(\S.*)")
WIDTH = 88


def meanings(kind: type) -> dict[str, str]:
    """Field -> what the docstrings of a class and its parents say of it.

    Read from lines such as `steps, batch: updates, and examples in each`, with what is
    indented below them. `quantizer.commit` is an entry of a field that holds several.
    """
    found: dict[str, str] = {}
    for each in kind.__mro__:
        names: tuple[str, ...] = ()
        for line in inspect.cleandoc(each.__dict__.get("__doc__") or "").splitlines():
            if match := FIELD.fullmatch(line):
                names = tuple(n for n in match[1].split(", ") if n not in found)
                found |= dict.fromkeys(names, match[2])
            elif line.startswith("  "):
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
            else:
                names = ()
    return found


def described(
    value: Any,
    annotation: Any,
    meaning: str = "",
    at: str = "",
    entries: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[str, Any, str]]:
    """(path, value, what it means and what may be written) of all leaves of a value.

    meaning, entries: of the value itself, and by name of what it holds.
    """
    parts = children(value)
    if not parts:
        plain = annotation is Any or (meaning and annotation is str)
        words = [meaning.rstrip("."), "" if plain else expected(annotation)]
        yield at, value, "; ".join(filter(None, words))
        return
    hints: Mapping[str, Any] = {}
    texts = dict(entries)
    if not isinstance(value, Mapping | tuple):
        kind: Any = type(value)
        hints, texts = fields_with_types(kind), meanings(kind)
    for name, part in parts.items():
        hint = hints.get(name, Any if hints else entry_type(annotation))
        inner = {
            text.removeprefix(f"{name}."): words
            for text, words in texts.items()
            if text.startswith(f"{name}.")
        }
        yield from described(part, hint, texts.get(name, ""), join(at, name), inner)


def print_help(
    known: Mapping[str, tuple[Any, str]], inputs: bool, experiment: Experiment | None
) -> None:
    """The options, name -> (annotation, meaning), and the fields of an experiment."""
    if inputs:
        print(f"  {'FILE ...':24}files, or folders of them")
    for name, (annotation, meaning) in known.items():
        value = "" if annotation is bool else "=..."
        name += "NAME" if name.endswith(".") else ""
        print(f"  {f'--{name}'.replace('_', '-') + value:24}{meaning}")
        if annotation not in (bool, str):
            _print_below(expected(annotation), 26)
    if "config" in known:
        print(f"  {'--config.FIELD=...':24}a field of the experiment, by its path")
    if experiment is not None:
        print(f"\nThe fields of {experiment.name}, a {type(experiment).__name__}:")
        for path, value, words in described(experiment, type(experiment)):
            print(f"  --config.{path}={spell(value)}")
            _print_below(words, 6)
    elif "config" in known:
        print("\nWith --config=FILE, --help also lists the experiment's fields.")


def _print_below(text: str, indent: int) -> None:
    space = " " * indent
    for line in textwrap.wrap(
        text, WIDTH, initial_indent=space, subsequent_indent=space
    ):
        print(line)
