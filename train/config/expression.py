"""Reads a value from text, checked against the type of the field it is for.

The text is a Python literal or a constructor call such as `FSQ(levels=(8, 5, 5, 5))`.
It is parsed and walked, never evaluated: it can call the public dataclasses and
modules of `vqdit` and `train`, and nothing else.
"""

import ast
import collections.abc
import dataclasses
import difflib
import functools
import math
import types
import typing
from typing import Any

import train
import vqdit
from train.errors import BadInput
from vqdit.values import field_names

WORDS = {"true": True, "false": False, "none": None, "inf": math.inf, "nan": math.nan}


class Unfit(ValueError):
    """A value that is not of the annotated type."""


def parse_value(text: str, annotation: Any, at: str) -> Any:
    """The value that `text` writes for the field `at`.

    A str field takes the text as it stands, without quotes; elsewhere an int does for
    a float, and a list for a tuple. Raises BadInput naming `at` and what to write.
    """
    if annotation is str:
        return text
    arms = alternatives(annotation)
    if text in (item for arm in arms for item in typing.get_args(arm) if _literal(arm)):
        return text
    try:
        return conform(
            _evaluate(ast.parse(text.strip(), mode="eval").body, at), annotation
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if str in arms:
            return text
        if isinstance(error, BadInput):  # of a constructor call, which says more
            raise
        raise BadInput(f"{at}: write {expected(annotation)}, not {text!r}") from error


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The arms of a union; anything else is its own only arm."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(
            found for arm in typing.get_args(annotation) for found in alternatives(arm)
        )
    return (annotation,)


def conform(value: Any, annotation: Any) -> Any:
    """`value` as the annotated type holds it; raises Unfit if it cannot."""
    unfit = None
    arms = alternatives(annotation)
    # An exact type goes first, so that 1 stays an int where float | int is asked for.
    for arm in sorted(arms, key=lambda arm: type(value) is not arm):
        try:
            return _fit(value, arm)
        except Unfit as error:
            unfit = error
    raise Unfit(f"write {expected(annotation)}, not {value!r}") from unfit


def expected(annotation: Any) -> str:
    """What to write for an annotation, in words."""
    return " or ".join(
        dict.fromkeys(_expected(arm) for arm in alternatives(annotation))
    )


def fields_with_types(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass or module, by field, in constructor order."""
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in field_names(kind)}


def close(name: str, names: typing.Iterable[str]) -> str | None:
    """The name that this one is probably a misspelling of, if there is one."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def near(name: str, names: typing.Iterable[str], most: str = "") -> str:
    """Advice on a misspelt name: the nearest one, or all there are, or `most`."""
    names = list(names)
    if nearest := close(name, names):
        return f"did you mean {nearest}?"
    return most or (f"there are {', '.join(names)}" if names else "there are none")


def _literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _fit(value: Any, annotation: Any) -> Any:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object) or isinstance(annotation, typing.TypeVar):
        return value
    if annotation is None or annotation is types.NoneType:
        if value is None:
            return None
    elif _literal(annotation):
        for choice in inner:
            if value == choice and type(value) is type(choice):
                return value
    elif annotation is float:
        # bool is an int to Python; True is not 1.0 to whoever typed it.
        if type(value) in (int, float):
            return float(value)
    elif annotation in (bool, int, str):
        if type(value) is annotation:
            return value
    elif (origin or annotation) in (tuple, list, collections.abc.Sequence):
        if isinstance(value, tuple):
            return _fit_tuple(value, inner, origin)
    elif (origin or annotation) in (dict, collections.abc.Mapping):
        if isinstance(value, dict):
            held = inner[1] if inner else Any
            return {key: conform(item, held) for key, item in value.items()}
    elif isinstance(annotation, type) and _is_a(value, annotation):
        return value
    raise Unfit(f"write {_expected(annotation)}, not {value!r}")


def _fit_tuple(value: tuple, inner: tuple, origin: Any) -> tuple:
    if not inner:
        return value
    if origin is not tuple or inner[1:] == (Ellipsis,):
        return tuple(conform(item, inner[0]) for item in value)
    if len(value) != len(inner):
        raise Unfit(f"write {len(inner)} values, not {len(value)}")
    return tuple(conform(item, arm) for item, arm in zip(value, inner, strict=True))


def _is_a(value: Any, kind: type) -> bool:
    if not dataclasses.is_dataclass(value):
        return False
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that is not runtime_checkable says nothing
        return True


def _expected(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if _literal(annotation):
        return "one of " + ", ".join(map(str, inner))
    if (origin or annotation) in (tuple, list, collections.abc.Sequence):
        held = " and ".join(_expected(i) for i in inner if i is not Ellipsis)
        if inner in ((int, Ellipsis), (int,)):
            return "a tuple of ints such as (8, 5)"
        return f"a tuple of {held}" if held else "a tuple"
    if (origin or annotation) in (dict, collections.abc.Mapping):
        return "a dict such as {'image': ...}"
    words = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a text",
        None: "None",
        types.NoneType: "None",
    }
    if annotation in words:
        return words[annotation]
    if isinstance(annotation, type):
        kinds = [kind for kind in library().values() if _under(kind, annotation)]
        names = sorted(f"{kind.__name__}(...)" for kind in kinds)
        if 0 < len(names) <= 6:
            return ", ".join(names)
        if names:
            return "a constructor call of vqdit"
    return f"a {getattr(annotation, '__name__', annotation)}"


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


def _evaluate(node: ast.expr, at: str) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign):
            value = _evaluate(node.operand, at)
            if type(value) not in (int, float):
                raise Unfit("a sign goes before a number")
            return -value if isinstance(sign, ast.USub) else value
        case ast.Tuple() | ast.List():
            return tuple(_evaluate(item, at) for item in node.elts)
        case ast.Dict():
            keys = [_evaluate(key, at) for key in node.keys if key]
            if len(keys) < len(node.keys) or not all(isinstance(k, str) for k in keys):
                raise Unfit("a dict has texts as keys")
            values = [_evaluate(item, at) for item in node.values]
            return dict(zip(keys, values, strict=True))
        case ast.Name(id=name) if name.lower() in WORDS:
            return WORDS[name.lower()]
        case ast.Call():
            return _call(node, at)
        case ast.Name() | ast.Attribute():
            if kind := library().get(ast.unparse(node).rpartition(".")[2]):
                fields = ", ".join(f"{name}=..." for name in field_names(kind))
                raise BadInput(f"{at}: write {kind.__name__}({fields})")
    raise Unfit("a literal or a constructor call")


def _call(node: ast.Call, at: str) -> Any:
    path = ast.unparse(node.func)
    kind = library().get(path.rpartition(".")[2])
    if kind is None:
        advice = near(
            path.rpartition(".")[2], library(), "write one of its constructors"
        )
        raise BadInput(f"{at}: {path} is no dataclass or module of vqdit; {advice}")
    hints = fields_with_types(kind)
    if any(isinstance(item, ast.Starred) for item in node.args) or any(
        item.arg is None for item in node.keywords
    ):
        raise BadInput(
            f"{at}: write the fields of {kind.__name__} out, without * or **"
        )
    if len(node.args) > len(hints):
        raise BadInput(f"{at}: {kind.__name__} has {len(hints)} fields, not more")
    given = list(zip(hints, node.args, strict=False))
    given += [(item.arg, item.value) for item in node.keywords]
    values = {}
    for name, item in given:
        place = f"{at}: {kind.__name__}.{name}"
        if name not in hints:
            raise BadInput(f"{place} does not exist; {near(name, hints)}")
        if name in values:
            raise BadInput(f"{place} is given twice; write it once")
        try:
            values[name] = conform(_evaluate(item, at), hints[name])
        except Unfit as error:
            text, wanted = ast.unparse(item), expected(hints[name])
            raise BadInput(f"{place}: write {wanted}, not {text}") from error
    return construct(kind, values, at)


def construct(kind: type, values: dict[str, Any], at: str) -> Any:
    """Calls the constructor; what it refuses becomes a BadInput that names `at`."""
    try:
        return kind(**values)
    except TypeError as error:  # Python's own words for an absent argument
        text = str(error).replace("__init__() ", "").rpartition(".")[2]
        raise BadInput(f"{at}: {kind.__name__}: {text}") from error
    except BadInput:  # names its field itself
        raise
    except ValueError as error:
        raise BadInput(f"{at}: {error}") from error
