"""Opens what training left behind, and refuses the wrong kind of it."""

from pathlib import Path
from typing import TypeVar

from train.errors import BadInput
from vqdit.bundle import load
from vqdit.codec import Codec
from vqdit.generator import Generator

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
