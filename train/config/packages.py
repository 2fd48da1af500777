"""Packages of the user's own, whose classes an experiment may be made of.

A file names classes, and to build one imports the package that it is of. No package is
imported because a file says so, only where the user has: on the command line,
--packages=mine, or in a config file, which has imported it when it ran. A file may then
have any module of the package imported, so a package is named for files one trusts.
"""

import importlib.util
import sys
from collections.abc import Iterable
from typing import Any

from train.config.options.paths import children
from train.errors import BadInput
from vqdit.values import Foreign

OURS = {"vqdit", "train"}
_trusted: set[str] = set()


def trust(packages: Iterable[str]) -> None:
    """What this process reads may from here on be made of classes of these packages."""
    _trusted.update(packages)


def trust_named(packages: Iterable[str], at: str) -> None:
    """As `trust`. Raises BadInput, naming the option `at`, where there is none such."""
    for name in packages:
        if name in sys.stdlib_module_names:
            raise BadInput(f"{at}: {name!r} is Python's own, and none of yours")
        if not name.isidentifier() or name.startswith("__") or not _found(name):
            raise BadInput(
                f"{at}: Python finds no package {name!r}; write the word after import "
                "and, before the command, PYTHONPATH=DIR, the folder that it lies in"
            )
    trust(packages)


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # one that was made by hand
        return True


def own_packages(experiment: Any = None) -> tuple[str, ...]:
    """The packages that the user has named, and those that an experiment is made of."""
    return tuple(sorted((_trusted | packages_of(experiment)) - OURS))


def packages_of(value: Any) -> set[str]:
    """The packages of the classes that a value is made of."""
    parts = children(value)
    if parts is None:
        items = value if isinstance(value, tuple) else ()
        return set().union(*map(packages_of, items))
    found = set().union(*map(packages_of, parts.values()))
    return found | ({type(value).__module__.partition(".")[0]} - {"builtins"})


def foreign(error: BaseException | None) -> Foreign | None:
    """The error's cause, where that is a class of a package which was not named."""
    while error is not None and not isinstance(error, Foreign):
        error = error.__cause__
    return error


def naming(error: BaseException) -> str:
    """What to write where that is the cause; else nothing."""
    of = foreign(error)
    return f"; if it is your own, write --packages={of.args[1]}" if of else ""
