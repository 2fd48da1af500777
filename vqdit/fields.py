"""What a field may hold, written in its annotation and checked when a value is made.

    class Mixer(Checked, nn.Module):
        width: Count
        mode: Literal["sum", "gate"] = "sum"
        dropout: Annotated[float, Bound(at_least=0, below=1)] = 0.0
        strides: Annotated[tuple[Count, ...], FILLED] = (2, 2)

    Mixer(64, dropout=1.0)  # Mixer.dropout=1.0: write at least 0 and below 1

Types are left to whoever reads values from text; here they only tell the arms of a
union apart, and whole numbers from others. A list in the place of a tuple becomes one,
a number of numpy one of Python. A float is finite, unless its bound says otherwise.
"""

import dataclasses
import functools
import itertools
import math
import numbers
import operator
import types
import typing
from typing import Annotated, Any, Literal

import flax.linen as nn
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """Between what a number lies.

    nan never does, infinity only where an end says so, and no whole number of more than
    64 bits. An array of no axes is a number.
    """

    at_least: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    at_most: int | float | None = None

    def holds(self, value: Any) -> bool:
        if not isinstance(value, numbers.Real):
            if getattr(value, "shape", None) != ():
                return False
            try:
                value = float(value)
            except TypeError:  # inside a jit it is not known
                return True
        if isinstance(value, numbers.Integral):  # no array holds more than 64 bits
            finite = abs(int(value)) < 2**63
        else:
            finite = math.isfinite(value) or value in (self.at_least, self.at_most)
        ends = self._ends().items()
        return finite and all(_ORDER[name](value, end) for name, end in ends)

    def __str__(self):
        ends = self._ends().items()
        words = (f"{name.replace('_', ' ')} {end}" for name, end in ends)
        return " and ".join(words) or "finite"

    def __repr__(self):
        ends = ", ".join(f"{name}={end}" for name, end in self._ends().items())
        return f"Bound({ends})"

    def _ends(self):
        return {n: end for n, end in vars(self).items() if end is not None}


_ORDER = {
    "at_least": operator.ge,
    "above": operator.gt,
    "below": operator.lt,
    "at_most": operator.le,
}


class Filled:
    """That a tuple is not empty."""

    def holds(self, value: Any) -> bool:
        return len(value) > 0

    def __str__(self):
        return "one or more"


FILLED = Filled()
Names = Annotated[tuple[str, ...], FILLED]
Count = Annotated[int, Bound(at_least=1)]
Natural = Annotated[int, Bound(at_least=0)]
TwoOrMore = Annotated[int, Bound(at_least=2)]
Seed = Annotated[int, Bound(at_least=0, below=2**63)]
Positive = Annotated[float, Bound(above=0)]
NonNegative = Annotated[float, Bound(at_least=0)]
Finite = Annotated[float, Bound()]
Share = Annotated[float, Bound(at_least=0, at_most=1)]
Decay = Annotated[float, Bound(at_least=0, below=1)]


def told(text: str) -> str:
    """What a refusal repeats of a text, which may be of any length."""
    return text if len(text) <= 300 else f"{text[:297]}..."


class Checked:
    """A dataclass or module whose fields hold what they may; otherwise there is none.

    called, refusal: what stands before a field's name, and what is raised.
    """

    refusal = ValueError

    @property
    def called(self) -> str:
        return type(self).__name__

    def check(self, field: str, allowed: Any, advice: str) -> None:
        """Raises, in one line, for a value that is not allowed; what to write."""
        if not allowed:
            value = getattr(self, field)
            parts = dataclasses.is_dataclass(value)
            spelled = f"{type(value).__name__}(...)" if parts else repr(value)
            raise self.refusal(f"{self.called}.{field}={told(spelled)}: {advice}")

    def __post_init__(self):
        for name, hint, default in _hints(type(self)):
            value = getattr(self, name)
            if value is default:  # modules are made often, most fields left as they are
                continue
            if isinstance(value, list | tuple | np.generic):
                value = plain(value)
                object.__setattr__(self, name, value)
            if not _fits(value, hint):
                words = _words(hint)
                if _has_float(value) and _counts(hint) and hint is not int:
                    words = f"whole numbers, {words}"
                self.check(name, False, f"write {words}")
        if hasattr(super(), "__post_init__"):
            super().__post_init__()


class Ascending(Checked):
    """One whose field `low` is below its field `high`."""

    low: float
    high: float

    def __post_init__(self):
        super().__post_init__()
        self.check("high", self.low < self.high, f"write above low, {self.low}")


def plain(value: Any) -> Any:
    """The value as Python has it: numbers of numpy and lists become its own."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return tuple(map(plain, value))
    return value


@functools.cache
def _hints(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = [(f.name, hints[f.name], f.default) for f in dataclasses.fields(kind)]
    return [
        each
        for each in fields
        if typing.get_args(each[1]) or each[1] in (int, float) or _made(each[1])
    ]


def _made(hint):
    """Whether it is a class of parts, whose values are no plain ones."""
    protocol = getattr(hint, "_is_protocol", False)
    part = dataclasses.is_dataclass(hint) or protocol or hint is nn.Module
    return isinstance(hint, type) and part


_PLAIN = (int, float, str, tuple, list, dict, types.NoneType)


def _fits(value, hint):
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arm) for arm in inner)
    if origin is Annotated:
        held, *conditions = inner
        kinds = {int: _is_whole, float: _is_number}  # whose ends are those of its bound
        fits = kinds[held](value) if held in kinds else _fits(value, held)
        return fits and all(c.holds(value) for c in conditions)
    if origin is Literal:
        # By type too: True equals 1.
        return any(value == v and type(value) is type(v) for v in inner)
    if origin is tuple:
        every = itertools.repeat(inner[0]) if inner[1:] == (...,) else inner
        return isinstance(value, tuple) and all(map(_fits, value, every))
    if hint is types.NoneType:
        return value is None
    if hint is str:
        return not isinstance(value, numbers.Real)
    if _made(hint):
        return not isinstance(value, _PLAIN)
    if hint not in (int, float):
        return True
    if hint is int:
        return _is_whole(value)
    no_end = isinstance(value, numbers.Real) and not math.isfinite(value)
    return _is_number(value) and not no_end


def _is_number(value):
    return not isinstance(value, str | tuple | None)


def _is_whole(value):
    """An array of no axes, known or not, is by its type; True is no number."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return (isinstance(value, numbers.Integral) and not isinstance(value, bool)) or (
        kind in ("i", "u") and value.shape == ()
    )


def _has_float(value):
    items = value if isinstance(value, tuple) else (value,)
    return any(isinstance(item, float | bool) for item in items)


def _counts(hint):
    """Whether a field is of whole numbers alone."""
    inner = typing.get_args(hint)
    return hint is int or (hint is not float and any(map(_counts, inner)))


def _words(hint):
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, inner))
    if origin is Annotated:
        held, *conditions = inner
        words = list(map(str, conditions))
        if typing.get_origin(held) is tuple:
            words.append(f"each {_words(typing.get_args(held)[0])}")
        return ", ".join(words)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        return f"a tuple, each {_words(inner[0])}"
    if _made(hint):
        return f"a {hint.__name__}"
    words = {types.NoneType: "None", str: "a text", int: "a whole number"}
    return words.get(hint, "a finite number" if hint is float else "a number")
