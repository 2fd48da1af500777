"""Files and words as the examples that they would be among a generator's data."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.codec.files import named_files
from train.codec.layout import SAME_RATE
from train.errors import BadInput, Unreadable, blame
from train.modalities.boxes import boxes_of
from train.modalities.kinds import of_contract
from train.modalities.rows import TABULAR, cells_of, rows_of
from train.pipeline.streams import say_unseen
from train.progress import say
from vqdit.signal import to_signal
from vqdit.tokenizer.text import Text
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.labels import class_numbers


def given_examples(
    generator: Generator,
    given: Mapping[str, str],
    cut: bool,
    resample: bool,
    holed: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Stream -> (n, *shape) signals in [-1, 1], or n values of what is born discrete.

    given: stream, one of the generator's -> a file or a folder of files, of what has a
        tokenizer of signals; of text the text itself, a .txt file, or, with a / in its
        name, a folder of such; a class by name or number; a .csv of rows, or one as
        column=value,column=value; a .csv of boxes.
    cut:   drops what a text has beyond its stream's length, which is refused else.
    resample: takes recordings of another rate.
    holed: streams of which a text has blanks, whose codes are still to be counted.
    Raises BadInput, which names the flag, for all that cannot be.
    """
    found = {}
    for name, word in given.items():
        at = f"--given.{name}={word}"
        if name not in generator.tokenizers:
            raise BadInput(
                f"{at}: the bundle has no tokenizer of this stream; give its codes or "
                f"latents to generator.sampler"
            )
        try:
            codec = generator.codecs.get(name)
            if codec is not None:
                found[name] = signals_of(codec, word, resample)
            else:
                blanks = name in holed and isinstance(generator.values[name], Text)
                values = _values(generator, name, word, cut, blanks)
                if not blanks:
                    generator.values[name].encode(values)  # which refuses what is none
                found[name] = np.fromiter(values, object, len(values))
        except (BadInput, Unreadable) as error:
            raise BadInput(f"--given.{name}: {error}") from error
        except ValueError as error:
            raise BadInput(f"{at}: {error}") from error
    return found


def signals_of(codec: Codec, word: str, resample: bool = False) -> np.ndarray:
    """(n, *shape) signals in [-1, 1] of a file, or of the files of a folder.

    Each is the example that evaluation makes of it: prepared as in training, pictures
    brought to the size, recordings to the length, by their middle or with silence
    around them; of what gives several examples the first. Raises BadInput.
    """
    if not word:
        raise BadInput("it is empty; write a file or a folder")
    contract = codec.contract
    data = of_contract(contract).sized(contract.shape, contract.rate)
    signals = []
    for path in named_files([word], data.suffixes, data.folders):
        try:
            stored = data.read(path)
            away = abs(stored.rate - contract.rate) if stored.rate else 0
            if away > SAME_RATE * contract.rate > 0 and not resample:
                raise BadInput(
                    f"it has a rate of {stored.rate:g} a second and the stream "
                    f"{contract.rate:g}; write --resample"
                )
            record = data.load(path)
            starts = data.starts(record)
            if not len(starts):
                raise BadInput(
                    f"{stored.values.shape} is too short; the stream takes "
                    f"{contract.shape}"
                )
            x = data.cut([record], starts[:1], None)["x"]
        except (Unreadable, BadInput, OSError) as error:
            raise BadInput(f"{path}: {error}") from error
        if stored.values.shape != contract.shape:
            say(f"{path}: {stored.values.shape} is given as {x.shape[1:]}")
        signals.append(
            np.asarray(codec.from_raw(x) if contract.scale else to_signal(x))
        )
    return np.concatenate(signals)


def class_of(word: str, names: tuple[str, ...]) -> int:
    """The number of the class that a word names; a name goes before a number.

    Raises ValueError, with the nearest name, where it is neither.
    """
    number = word not in names and word.removeprefix("-").isdecimal()
    return int(word) if number else class_numbers(word, names)


def _values(generator, name, word, cut, blanks) -> list[Any]:
    """What a word says of a stream that is born discrete, a value a sample."""
    tokenizer = generator.values[name]
    if tokenizer.source == "label":
        return [class_of(word, generator.class_names)]
    if tokenizer.source == "row":
        return _rows(tokenizer, word)
    if tokenizer.source == "boxes":
        if Path(word).suffix.lower() not in TABULAR:
            raise ValueError("write a .csv of boxes")
        with blame(word):
            return list(boxes_of(Path(word), tokenizer.frames))
    texts, path = [word], Path(word)
    # A text may be the name of a folder, too; one that holds a / is a path.
    if path.suffix.lower() == ".txt" or ("/" in word and os.path.isdir(word)):
        texts = [_text(each) for each in named_files([word], (".txt",))]
    for i, text in enumerate(texts if not blanks else ()):
        count = len(tokenizer.split(text))
        if count > tokenizer.length and not cut:
            raise ValueError(
                f"the text takes {count} codes, and the stream has room for "
                f"{tokenizer.length}; write a shorter one, or --cut"
            )
        texts[i] = tokenizer.cut(text)
    return texts


def cells_beside(tokenizer, word: str, columns: Iterable[str]) -> list[dict[str, str]]:
    """Of a CSV of rows the cells of those columns that the tokenizer does not have."""
    path, own = Path(word), set(tokenizer.names)
    if path.suffix.lower() not in TABULAR:
        return []
    cells = cells_of(path, [name for name in columns if name not in own])
    rows = zip(*cells.values(), strict=True)
    return [dict(zip(cells, row, strict=True)) for row in rows]


def _rows(tokenizer, word) -> list[dict[str, Any]]:
    """The rows of a CSV, or one that is written: age=61,sex=f."""
    path = Path(word)
    if path.suffix.lower() in TABULAR:
        with blame(str(path)):
            rows, counts = tokenizer.seen(list(rows_of(path)[0]))
        say_unseen(counts, word)
        return list(rows)
    pairs = [pair.split("=", 1) for pair in word.split(",") if pair]
    if not all(len(pair) == 2 for pair in pairs):
        known = ", ".join(tokenizer.names)
        raise ValueError(f"write a .csv, or column=value,column=value of {known}")
    names = [name.strip() for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is there twice; write it once")
    return [{name.strip(): value.strip() for name, value in pairs}]


def _text(path: Path) -> str:
    """A text file without the end of its last line."""
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no text of UTF-8 ({error})") from error
