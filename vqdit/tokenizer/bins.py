"""Labels and boxes as codes (Pix2Seq, arXiv:2109.10852, section 3.1).

NumPy, on the host: codes are made with the data and read after sampling.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vqdit.fields import Checked, Count
from vqdit.tokenizer.value import Value, known_codes

Host = np.ndarray | Array


@dataclasses.dataclass(frozen=True)
class Labels(Value):
    """A class label as one code; one more code for "no label", -1."""

    source: ClassVar[str] = "label"
    length: ClassVar[int] = 1

    classes: Count

    @property
    def code_count(self) -> int:
        return self.classes + 1

    def encode(self, label: Int[Host, "b"] | Sequence[int]) -> Int[np.ndarray, "b 1"]:
        """Labels, -1 for none -> codes int32. Raises ValueError for any other."""
        label = np.asarray(label)
        _known("label", label, self.classes)
        return np.where(label < 0, self.classes, label).astype(np.int32)[:, None]

    def known(self, values: Int[Host, "b"] | Sequence[int]) -> Bool[np.ndarray, "b"]:
        return np.asarray(values) >= 0

    def decode(self, codes: Int[Host, "b 1"]) -> Int[np.ndarray, "b"]:
        """Codes -> labels int32, -1 for none."""
        codes = known_codes(codes, self.code_count)[:, 0]
        return np.where(codes == self.classes, -1, codes).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Boxes(Checked):
    """`count` boxes as five codes each: four edges, in the order given, and a class.

    Coordinates in [0, 1] fall into `bins` equal bins and come back as their centres, at
    most half a bin off; the paper rounds to bins - 1 steps instead, whose ends are
    exact and whose error is larger elsewhere. Codes: bins, then classes, then one for
    all five of a box that is absent.
    """

    count: Count
    bins: Count
    classes: Count = 1

    @property
    def length(self) -> int:
        """Codes of an example."""
        return 5 * self.count

    @property
    def padding(self) -> int:
        """The code of an absent box."""
        return self.bins + self.classes

    @property
    def code_count(self) -> int:
        return self.bins + self.classes + 1

    def encode(
        self, boxes: Float[Host, "b k 4"], labels: Int[Host, "b k"]
    ) -> Int[np.ndarray, "b length"]:
        """Boxes, absent where the label is -1, whatever their numbers -> codes int32.

        k is at most `count`; the rest is absent. Raises ValueError for more, for a
        coordinate outside [0, 1] and for a label that is no class.
        """
        boxes, labels = np.asarray(boxes), np.asarray(labels)
        batch, k = labels.shape
        if k > self.count:
            raise ValueError(f"{k} boxes, and there is room for {self.count}")
        _known("label", labels, self.classes)
        present = (labels >= 0)[..., None]
        inside = (boxes >= 0) & (boxes <= 1)  # False for NaN
        if (present & ~inside).any():
            value = boxes[np.broadcast_to(present, boxes.shape) & ~inside][0]
            raise ValueError(
                f"a box has the coordinate {value}; write fractions of the picture's "
                f"sides, in [0, 1]"
            )
        edges = np.clip(np.where(present, boxes, 0) * self.bins, 0, self.bins - 1)
        found = np.concatenate([edges.astype(int), self.bins + labels[..., None]], -1)
        codes = np.full((batch, self.count, 5), self.padding, np.int32)
        codes[:, :k] = np.where(present, found, self.padding)
        return codes.reshape(batch, self.length)

    def decode(
        self, codes: Int[Host, "b length"]
    ) -> tuple[Float[np.ndarray, "b count 4"], Int[np.ndarray, "b count"]]:
        """Codes -> boxes float32 and labels int32; absent: zeros and -1.

        A box of which any code is out of place, as a model may draw it, is absent.
        """
        codes = known_codes(codes, self.code_count)
        codes = codes.reshape(len(codes), self.count, 5)
        edges, labels = codes[..., :4], codes[..., 4] - self.bins
        present = (edges < self.bins).all(-1)
        present &= (labels >= 0) & (labels < self.classes)
        boxes = np.where(present[..., None], (edges + 0.5) / self.bins, 0)
        return boxes.astype(np.float32), np.where(present, labels, -1).astype(np.int32)


def _known(what, values, classes):
    wrong = (values < -1) | (values >= classes)
    if wrong.any():
        raise ValueError(
            f"{what} {values[wrong][0]}: write 0 to {classes - 1}, or -1 for none"
        )
