"""Examples of a data set as one picture, for a person to look at before training."""

import numpy as np
from jaxtyping import UInt8

from train.modalities import Batch, Modality
from train.modalities.shown import Units
from train.pipeline import Examples, open_examples, spaced
from train.report.sheets import played, sheet
from train.runtime.log import Logger

SHOWN = 16
PLAYED = 4  # sounds or clips, a file each


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
    x = batch["x"]
    play(logger, 0, "augmented", data, x[spaced(len(x), PLAYED)], units)


def _augmented(data: Modality, seed: int) -> Batch:
    examples = open_examples(data, True)
    rows = examples.spaced(SHOWN)
    return examples.augmented(rows, np.zeros(len(rows), int), seed)


def play(
    logger: Logger, step: int, name: str, data: Modality, x: np.ndarray, units: Units
) -> None:
    """Writes the first signals (n, *shape) into samples/, where they are sounds, or
    clips: of the tokenizer's unit, or bytes."""
    for i, content in enumerate(played(data, x[:PLAYED], units)):
        logger.file(step, f"{name}_{i}", data.suffixes[0], content)


def units_of(data: Modality, examples: Examples) -> Units:
    return Units(data.rate, examples.offset, examples.scale)


def _sheet(data: Modality, batch: dict) -> np.ndarray:
    # A clip is a row of frames and a sweep is wide already: one beside another is lost.
    columns = 1 if data.wide else None
    examples = open_examples(data, True)
    known = examples.class_names or tuple(map(str, range(examples.classes)))
    names = [known[y] if y >= 0 else "unlabelled" for y in batch["label"]]
    units = units_of(data, examples)
    return sheet(data.kind, batch["x"], units, columns, names if known else ())
