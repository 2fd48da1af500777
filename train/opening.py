"""Opens what training left behind, and refuses the wrong kind of it."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from train.errors import BadInput
from vqdit.bundle import load
from vqdit.codec import Codec
from vqdit.generator import Generator

if TYPE_CHECKING:
    from train.data import Examples, Signals

T = TypeVar("T", Codec, Generator)
WORDS = {Codec: "a tokenizer", Generator: "a generator"}


def open_bundle(path: str | Path | None, kind: type[T], at: str) -> T:
    """The Codec or the Generator of a workdir or bundle folder.

    Raises BadInput, naming the field or flag `at` that gave the path.
    """
    if not path:
        raise BadInput(f"write {at}=DIR, the workdir or bundle of {WORDS[kind]}")
    try:
        found = load(path)
    except ValueError as error:
        raise BadInput(f"{at}: {error}") from error
    if not isinstance(found, kind):
        raise BadInput(
            f"{at}: {path} is {WORDS[type(found)]}; write the folder of {WORDS[kind]}"
        )
    return found


def examples_for(codec: Codec, data: "Signals", train: bool) -> "Examples":
    """One part of the data, known to be what the tokenizer was trained on.

    Raises BadInput when its kind or shape is another, or when it is normalised by other
    statistics: those are fitted on the training part, and a part that has changed since
    would put every value on another scale.
    """
    from train.data import prepare

    want, have = codec.contract, (data.kind, tuple(data.shape))
    if (want.kind, want.shape) != have:
        raise BadInput(
            f"the tokenizer takes {want.kind} {want.shape}, the data gives {data.kind} "
            f"{data.shape}; write data of its kind and shape"
        )
    examples = prepare(data, train)
    for name in ("offset", "scale"):
        mine, theirs = getattr(want, name), getattr(examples, name)
        if len(mine) != len(theirs) or not np.allclose(mine, theirs, rtol=1e-4):
            raise BadInput(
                f"data: its normalisation has {name} {_few(theirs)}, the tokenizer's "
                f"training part had {_few(mine)}; write the data it was trained on"
            )
    return examples


def _few(values) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values) + ")"
