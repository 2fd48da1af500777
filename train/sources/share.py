"""A fixed share of the training part, for what is learned from few examples."""

from collections.abc import Sequence

import numpy as np

from train.errors import BadInput
from train.modalities.draws import Word, chance
from train.modalities.record import Record
from train.sources.source import Source
from train.sources.split import name_draw


class Portion(Source):
    """Those records of another source that are drawn below `share`, in their order.

    A draw is a hash of the record's key, or of its index where there are no keys: it
    belongs to the record alone, so that a smaller share is part of a larger one, and
    records of equal keys are drawn alike in every kind of signal. Classes are not
    balanced. A share that would be empty is the record that is drawn lowest.

    Raises BadInput for a part of one record, which cannot be shared out.
    """

    def __init__(self, whole: Source, share: float):
        if len(whole) == 1:
            raise BadInput(
                f"data.share={share:g}: the training part is 1 record; write 1"
            )
        self.whole, keys = whole, whole.keys
        if keys is None:
            draws = chance(Word.SHARE, np.arange(len(whole)))
        else:
            draws = np.array([name_draw(f"share {key}") for key in keys])
        taken = (draws < share) | (draws == draws.min())
        self.rows = np.flatnonzero(taken)
        super().__init__(len(self.rows), whole.class_names)
        self.classes, self.order = whole.classes, whole.order
        self.found, self.refused = whole.found, whole.refused
        self.left_out, self.light = whole.left_out, whole.light
        self.named = whole.named
        self.identity, self.mark = whole.identity, whole.mark
        self.labels = None if whole.labels is None else whole.labels[self.rows]
        taken_rows = self.rows.tolist()
        self.keys = None if keys is None else [keys[row] for row in taken_rows]
        if files := getattr(whole, "files", None):
            self.files = [files[row] for row in self.rows]

    def told(self, name):
        told = self.whole.told(name)
        return None if told is None else [told[row] for row in self.rows]

    def read_labels(self):
        found = self.whole.read_labels()
        return [found[row] for row in self.rows]

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Record]:
        return self.whole.take(self.rows[np.asarray(rows, int)])
