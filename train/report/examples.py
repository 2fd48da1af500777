"""Examples of a data set as one picture, for a person to look at before training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.modalities import Batch, Modality
from train.modalities.kinds import of_contract
from train.modalities.shown import Units, grid
from train.pipeline import Examples, open_examples, spaced
from train.report.samples import said_file, said_of
from train.report.sheets import PLAYABLE, contents, sheet
from train.runtime.log import Logger
from vqdit.shapes import UInt8
from vqdit.trained.generator import Generator

SHOWN = 16
PLAYED = 4  # sounds, clips or series, a file each, or volumes


def example_picture(data: Modality) -> UInt8[np.ndarray, "h w 3"]:
    """SHOWN training examples, evenly spaced, as they are stored."""
    examples = open_examples(data, True)
    return _sheet(data, examples.take(examples.spaced(SHOWN)))


def augmented_picture(data: Modality, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The same examples as training meets them in its first epoch."""
    return _sheet(data, _augmented(data, seed))


def show_augmented(logger: Logger, data: Modality, seed: int) -> None:
    """Writes samples/augmented_000000.png: what a run is about to be trained on."""
    batch = _augmented(data, seed)
    logger.image(0, "augmented", _sheet(data, batch))
    units = units_of(data, open_examples(data, True))
    play(logger, 0, "augmented", data, batch["x"], units)


def _augmented(data: Modality, seed: int) -> Batch:
    examples = open_examples(data, True)
    rows = examples.spaced(SHOWN)
    return examples.augmented(rows, np.zeros(len(rows), int), seed)


def play(
    logger: Logger, step: int, name: str, data: Modality, x: np.ndarray, units: Units
) -> None:
    """Writes PLAYED of the signals (n, *shape), of the tokenizer's unit or bytes, into
    samples/: sounds, clips and series as files, volumes as a row of slices each. They
    are evenly spaced, since the first may all be of one class."""
    some, suffix = np.asarray(x)[spaced(len(x), PLAYED)], data.suffixes[0]
    if suffix in (*PLAYABLE, ".csv"):
        for i, content in enumerate(contents(data, some, units)):
            logger.file(step, f"{name}_{i}", suffix, content)
    rows = [found for each in some if (found := data.slices(each)) is not None]
    if rows:
        picture = grid(np.concatenate(rows), columns=len(rows[0]))
        logger.image(step, f"{name}_slices", picture)


def show_samples(
    logger: Logger,
    step: int,
    generator: Generator,
    x: Mapping[str, Any],
    columns: int,
    names: Sequence[str],
) -> None:
    """Writes what was drawn of each stream into samples/, and shows it in TensorBoard:
    signals as a sheet and by `play`; texts, classes, rows and boxes as `train.sample`
    writes them. names: of the signals, on the sheet."""
    for stream, codec in generator.codecs.items():
        contract, units = codec.contract, Units.of(codec.contract)
        picture = sheet(contract.kind, x[stream], units, columns, names)
        logger.image(step, f"samples_{stream}", picture)
        data = of_contract(contract)
        play(logger, step, f"samples_{stream}", data, x[stream], units)
    for stream in generator.values:
        suffix, content = said_file(generator, stream, x[stream])
        logger.file(step, f"samples_{stream}", suffix, content)
        lines = [f"    {line}\n" for line in said_of(generator, stream, x[stream])]
        logger.text(step, f"samples/samples_{stream}", "".join(lines))


def units_of(data: Modality, examples: Examples) -> Units:
    return Units(data.rate, examples.offset, examples.scale, examples.names)


def classes_of(examples: Examples, labels: np.ndarray) -> list[str]:
    """The class of each by its name, or its number; none of what has no classes."""
    known = examples.class_names or tuple(map(str, range(examples.classes)))
    return [known[y] if y >= 0 else "unlabelled" for y in labels] if known else []


def _sheet(data: Modality, batch: dict) -> np.ndarray:
    # A clip is a row of frames and a sweep is wide already: one beside another is lost.
    columns = 1 if data.wide else None
    examples = open_examples(data, True)
    names, units = classes_of(examples, batch["label"]), units_of(data, examples)
    return sheet(data.kind, batch["x"], units, columns, names)
