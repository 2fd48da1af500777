"""Reads a value from text.

The text is a Python literal or a constructor call such as `FSQ(levels=(8, 5, 5, 5))`.
It is parsed and walked, never evaluated: it can call the public dataclasses and
modules of `vqdit` and `train`, and nothing else.
"""

import ast
import math
from typing import Any, Literal, get_args, get_origin

from train.config.options import annotations
from train.config.options.annotations import (
    alternatives,
    arm_for,
    expected,
    fields_with_types,
    held,
)
from train.config.options.walk import construct, walk
from train.errors import BadInput
from vqdit.fields import told
from vqdit.values import field_names, near

WORDS = {"true": True, "false": False, "none": None, "inf": math.inf, "nan": math.nan}


class Unread(ValueError):
    """Text that is neither a literal nor a constructor call."""


def parse_value(text: str, annotation: Any, at: str) -> Any:
    """The value that `text` writes for the field `at`.

    A str field takes the text as it stands, without quotes, and one that may be a str
    what is no other value; elsewhere an int does for a float, 1e3 for an int, a list
    for a tuple, one number for a tuple of one, and a,b for a tuple of texts or words.
    Raises BadInput naming `at` and what to write.
    """
    arms = alternatives(annotation)
    choices = (get_args(a) for a in arms if get_origin(a) is Literal)
    if annotation is str or any(text in each for each in choices):
        return text
    words = text.strip() and text.lstrip()[0] not in "(["
    if text.lower() in WORDS:  # a class may be called none, where nothing else is meant
        words = words and arm_for(WORDS[text.lower()], annotation) is None
    if {int, float} & set(map(annotations.bare, arms)):  # 0.5 is no name of a stream
        words = words and text.lstrip()[0] not in "+-.0123456789"
    if words and str not in arms and any(map(_of_texts, arms)):
        return walk(tuple(text.split(",")), annotation, at)
    node = None
    try:
        node = ast.parse(text.strip(), mode="eval").body
        return _read(node, annotation, at)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # Where a constructor would do, `Byte(6)` is one misspelt; a folder of this name
        # is `./Byte(6)`.
        meant = isinstance(node, ast.Call) and any(map(annotations.makers, arms))
        if str in arms and not meant:
            return text
        if isinstance(error, BadInput):
            raise
        text = told(repr(text))
        raise BadInput(f"{at}: write {expected(annotation)}, not {text}") from error


def _of_texts(arm: Any) -> bool:
    """Whether it is of a tuple of texts, or of some words."""
    arm = annotations.bare(arm)
    of, *more = get_args(arm) or (None,)
    text = of is str or get_origin(of) is Literal
    return get_origin(arm) is tuple and text and more == [...]


def _read(node: ast.expr, annotation: Any, at: str) -> Any:
    try:
        value = _evaluate(node, at)
    except Unread as error:
        text = told(repr(ast.unparse(node)))
        raise BadInput(f"{at}: write {expected(annotation)}, not {text}") from error
    meant = [value]
    if isinstance(value, float) and value.is_integer():
        meant.append(int(value))
    # The whole number first: a tuple of floats takes it too.
    meant += [(one,) for one in reversed(meant) if type(one) in (int, float)]
    fits = [one for one in meant if arm_for(one, annotation) is not None]
    # A number is meant as a tuple of one where it may stand in it, or nothing else may.
    whole = [one for one in fits if _may_hold(one, annotation)]
    if len(alternatives(annotation)) == 1:
        whole += fits
    return walk(next(iter(whole), value), annotation, at)


def _may_hold(value: Any, annotation: Any) -> bool:
    """Whether the parts of a value, too, are of the arm that it is of."""
    parts = held(value, arm_for(value, annotation)).values()
    return all(arm_for(part, hint) is not None for part, hint in parts)


def _evaluate(node: ast.expr, at: str) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign):
            value = _evaluate(node.operand, at)
            if type(value) not in (int, float):
                raise Unread("a sign goes before a number")
            return -value if isinstance(sign, ast.USub) else value
        case ast.Tuple() | ast.List():
            return tuple(_evaluate(item, at) for item in node.elts)
        case ast.Dict():
            keys = [_evaluate(key, at) for key in node.keys if key]
            if len(keys) < len(node.keys) or not all(isinstance(k, str) for k in keys):
                raise Unread("a dict has texts as keys")
            for key in keys:
                if keys.count(key) > 1:
                    twice = told(repr(key))
                    raise BadInput(f"{at}: {twice} is there twice; write it once")
            values = [_evaluate(item, at) for item in node.values]
            return dict(zip(keys, values, strict=True))
        case ast.Name(id=name) if name.lower() in WORDS:
            return WORDS[name.lower()]
        case ast.Call():
            return _call(node, at)
        case ast.Name() | ast.Attribute():
            name = ast.unparse(node).rpartition(".")[2]
            if kind := annotations.library().get(name):
                fields = ", ".join(f"{name}=..." for name in field_names(kind))
                raise BadInput(f"{at}: write {kind.__name__}({fields})")
    raise Unread("a literal or a constructor call")


def _call(node: ast.Call, at: str) -> Any:
    path, library = ast.unparse(node.func), annotations.library()
    name = path.rpartition(".")[2]
    if name not in library:
        advice = near(name, library, "write one of its constructors")
        raise BadInput(
            f"{at}: {told(path)} is no dataclass or module of vqdit; {advice}"
        )
    kind, hints = library[name], fields_with_types(library[name])
    starred = any(isinstance(item, ast.Starred) for item in node.args)
    if starred or any(item.arg is None for item in node.keywords):
        raise BadInput(f"{at}: write the fields of {name} out, without * or **")
    if len(node.args) > len(hints):
        raise BadInput(f"{at}: {name} has {len(hints)} fields, not more")
    given = list(zip(hints, node.args, strict=False))
    given += [(str(item.arg), item.value) for item in node.keywords]
    values = {}
    for field, item in given:
        place = f"{at}: {name}.{field}"
        if field not in hints:
            raise BadInput(f"{place} does not exist; {near(field, hints)}")
        if field in values:
            raise BadInput(f"{place} is given twice; write it once")
        values[field] = _read(item, hints[field], place)
    return construct(kind, values, at)
