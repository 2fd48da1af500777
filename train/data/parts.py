"""What the parts of series, volumes and sweeps have in common: normalised examples.

Items are read from files, or made on the fly with the interface of `Files`.
"""

from typing import Any

import numpy as np

from train.data.files import Files
from train.data.normalise import normaliser, statistics_of

TRAIN, TEST = 1, 2


class Made:
    """Generated items by index: `data.examples` to train on, an eighth to test on."""

    refused: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] = ()

    def __init__(self, data: Any, train: bool):
        self.data, self.part = data, TRAIN if train else TEST
        self.found = data.examples if train else data.examples // 8
        self.labels = np.full(self.found, -1, np.int32)
        self.identity = data.name

    def __len__(self) -> int:
        return self.found


class Part:
    """One part of data whose values are normalised by the training part's statistics.

    items: what is cut into examples. refused, found: as in Files.
    """

    def __init__(self, data: Any, items: Files | Made):
        self.data, self.items = data, items
        self.class_names = items.class_names
        self.classes = len(self.class_names)
        self.refused, self.found = items.refused, items.found
        self.normaliser = normaliser(statistics_of(data), data.normalise)
        self.offset, self.scale = self.normaliser.offset, self.normaliser.scale

    def __len__(self) -> int:
        return len(self.items)
