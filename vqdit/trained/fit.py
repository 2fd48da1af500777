"""Whether the parts of a bundle fit each other, known before its weights are read.

Anybody may have written them. Nothing is computed of arrays here but their shapes, and
not of more modules than the weights have arrays for. Each function raises ValueError,
in one line, for what does not fit.
"""

import contextlib
import functools
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from vqdit.dit import DiT
from vqdit.features.classifier import Classifier
from vqdit.tokenizer import LogMel, Tokenizer
from vqdit.trained.contract import LatentContract
from vqdit.trained.streams import call_of
from vqdit.values import field_names

# Fields that say how many parts a module makes of itself, and how many there may be at
# least, where the weights have fewer arrays.
PARTS, FEW = ("count", "depth", "blocks", "phis"), 64
CALLS = 6  # of modules, to each array that they have

Headers = Mapping[str, tuple[Any, tuple[int, ...]]]  # path -> type and shape


def tokenizer(module: Any, contract: LatentContract, stored: Headers) -> None:
    """Raises ValueError unless the weights are the module's, and it the contract's."""
    if not isinstance(module, Tokenizer):
        raise ValueError("its module is no tokenizer")
    _check_parts(module, stored)
    x = jax.ShapeDtypeStruct((1, *contract.shape), jnp.float32)
    wanted = _variables(module, stored, x)
    for part in ("params", "codebook"):
        _compare(wanted.get(part, {}), stored, part)
    books = () if module.quantizer is None else tuple(module.quantizer.code_counts)
    for field, mine in (
        ("grid", tuple(module.grid(contract.shape[:-1]))),
        ("channels", module.latent_dim),
        ("codes", books),
    ):
        theirs = getattr(contract, field)
        if mine != theirs:
            raise ValueError(f"its {field} is {mine}, its contract says {theirs}")


def judge(module: Any, judged: Any, stored: Headers) -> None:
    """Raises ValueError unless the weights are the classifier's, of such pictures."""
    needed = {"shape", "protocol", "front"}
    names = set(judged) if isinstance(judged, dict) else set()
    if not needed <= names <= needed | {"held_out"}:
        raise ValueError("its judge is not of shape, protocol and front")
    if not isinstance(judged.get("held_out"), dict | None):
        raise ValueError("what it says of its held-out part is no mapping")
    shape, front = judged["shape"], judged["front"]
    if not isinstance(judged["protocol"], dict):
        raise ValueError("its protocol is not said by name")
    sides = isinstance(shape, tuple) and len(shape) == 3
    if not sides or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"it judges pictures of shape {shape}")
    if not isinstance(module, Classifier) or not isinstance(front, LogMel | None):
        raise ValueError("its module is no classifier")
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    _compare(_variables(module, stored, x).get("params", {}), stored, "params")


def generator(module: Any, stored: Headers) -> None:
    """Raises ValueError unless the weights are the transformer's."""
    if not isinstance(module, DiT):
        raise ValueError("its module is no DiT")
    _check_parts(module, stored)
    wanted = _variables(module, stored, *call_of(module, 1))
    _compare(wanted.get("params", {}), stored, "params")


def names(found: Any, what: str, plain: bool = True) -> tuple[str, ...]:
    """A list of names, `plain` ones such as a folder of ours has."""
    if not isinstance(found, list) or not all(isinstance(n, str) for n in found):
        raise ValueError(f"its {what} are no names")
    for name in found:
        if plain and not name.isidentifier():
            raise ValueError(f"its {what} have the name {name!r}, which is no word")
    return tuple(found)


def labels(found: Any) -> tuple[int, ...]:
    """A list of labels."""
    if not isinstance(found, list) or not all(type(n) is int for n in found):
        raise ValueError("its untrained labels are no numbers")
    return tuple(found)


def by_name(found: Any, what: str) -> dict[str, Any]:
    """What is said by names that are words."""
    if not isinstance(found, dict):
        raise ValueError(f"its {what} are not said by name")
    names(list(found), what)
    return found


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The folder of a tokenizer that a generator brings with it."""
    place = folder / "tokenizers" / name
    if place.is_symlink() or place.parent.is_symlink():
        raise ValueError(f"its tokenizer {name} is a link out of it; copy the folder")
    return place


def _compare(wanted: Mapping, stored: Headers, part: str) -> None:
    flat = flax.traverse_util.flatten_dict({part: wanted}, sep="/")
    mine = {name: of for name, of in stored.items() if name.startswith(f"{part}/")}
    for name in sorted(flat.keys() | mine.keys()):
        if name not in mine:
            raise ValueError(f"its weights lack {name}")
        if name not in flat:
            raise ValueError(f"its weights have {name}, which the module does not")
        shape = tuple(flat[name].shape)
        if mine[name][1] != shape:
            raise ValueError(f"its weights {name} are {mine[name][1]}, not {shape}")


def _variables(module, stored, *inputs):
    with _bounded(CALLS * (len(stored) + FEW)):
        return _shapes(module, _hashable(inputs))


def _hashable(inputs):
    leaves, tree = jax.tree.flatten(inputs)
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves), tree


@functools.lru_cache(maxsize=64)
def _shapes(module, inputs):
    """Variables of a module, as shapes."""
    leaves, tree = inputs
    inputs = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)


@contextlib.contextmanager
def _bounded(most: int) -> Iterator[None]:
    """A part in which no more than so many methods of modules are called."""
    calls = itertools.count(1)

    def count(method, args, fields, context):
        if next(calls) > most:
            raise ValueError("its module has many more parts than its weights")
        return method(*args, **fields)

    with nn.intercept_methods(count):
        yield


def _check_parts(value: Any, stored: Headers) -> None:
    if isinstance(value, tuple):
        for each in value:
            _check_parts(each, stored)
    if not hasattr(value, "__dataclass_fields__"):
        return
    for name in field_names(value):
        part = getattr(value, name)
        if name in PARTS and isinstance(part, int) and part > max(FEW, len(stored)):
            raise ValueError(f"its {type(value).__name__}.{name} is {part}")
        _check_parts(part, stored)
