"""Examples of a data set as one picture, for a person to look at before training."""

import numpy as np
from jaxtyping import UInt8

from train.modalities import Modality
from train.modalities.shown import Units
from train.pipeline import Examples, open_examples
from train.report.sheets import sheet
from train.runtime.log import Logger
from vqdit.signal import to_uint8

SHOWN = 16
PLAYED = 4  # sounds or clips, a file each


def example_picture(data: Modality) -> UInt8[np.ndarray, "h w 3"]:
    """SHOWN training examples, evenly spaced, as they are stored."""
    examples = open_examples(data, True)
    return _sheet(data, examples.take(examples.spaced(SHOWN)))


def augmented_picture(data: Modality, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The same examples as training meets them in its first epoch."""
    examples = open_examples(data, True)
    rows = examples.spaced(SHOWN)
    return _sheet(data, examples.augmented(rows, np.zeros(len(rows), int), seed))


def show_augmented(logger: Logger, data: Modality, seed: int) -> None:
    """Writes samples/augmented_000000.png: what a run is about to be trained on."""
    logger.image(0, "augmented", augmented_picture(data, seed))
    examples = open_examples(data, True)
    rows = examples.spaced(PLAYED)
    x = examples.augmented(rows, np.zeros(len(rows), int), seed)["x"]
    play(logger, 0, "augmented", data, x, units_of(data, examples))


def play(
    logger: Logger, step: int, name: str, data: Modality, x: np.ndarray, units: Units
) -> None:
    """Writes the first signals (n, *shape) into samples/, where they are sounds, or
    clips: of the tokenizer's unit, or bytes."""
    if (suffix := data.suffixes[0]) not in (".wav", ".gif"):
        return
    x = np.asarray(x[:PLAYED])
    if units.scale:
        x = x * np.float32(units.scale) + np.float32(units.offset)
    elif data.pixels and x.dtype != np.uint8:
        x = np.asarray(to_uint8(x))
    for i, values in enumerate(x):
        content = data.write(data.new(values, units.rate))
        logger.file(step, f"{name}_{i}", suffix, content)


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
