"""Labels and boxes as codes (Pix2Seq, arXiv:2109.10852, section 3.1).

NumPy, on the host: codes are made with the data and read after sampling.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vqdit.fields import Checked, Count, Natural
from vqdit.tokenizer.text import codes_alone, known_codes

Host = np.ndarray | Array


@dataclasses.dataclass(frozen=True)
class Labels(Checked):
    """A class label as one code; one more code for "no label", -1."""

    source: ClassVar[str] = "label"  # what of an example it encodes

    classes: Count

    @property
    def code_count(self) -> int:
        return self.classes + 1

    def stream(self, kind: str) -> dict[str, object]:
        """Fields of the stream that holds its code; ValueError for one of latents."""
        return codes_alone(self, kind, 1)

    def encode(self, label: Int[Host, "b"] | Sequence[int]) -> Int[np.ndarray, "b 1"]:
        """Labels, -1 for none -> codes int32. Raises ValueError for any other."""
        label = np.asarray(label)
        _known("label", label, self.classes)
        return np.where(label < 0, self.classes, label).astype(np.int32)[:, None]

    def decode(self, codes: Int[Host, "b 1"]) -> Int[np.ndarray, "b"]:
        """Codes -> labels int32, -1 for none."""
        codes = known_codes(codes, self.code_count)[:, 0]
        return np.where(codes == self.classes, -1, codes).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Boxes(Checked):
    """Up to `count` boxes of a picture, or of each frame of a clip, as five codes each.

    A box is five numbers: x0, y0, x1, y1 in shares of the sides, and its class, -1
    where there is none. Coordinates in [0, 1] fall into `bins` equal bins and come back
    as their centres, at most half a bin off; the paper rounds to bins - 1 steps
    instead, whose ends are exact and whose error is larger elsewhere. Codes: bins, then
    classes, then one for all five of a box that is absent.

    frames: of a clip, whose codes are a grid of (frames, 5 count); 0 of what has none.
    """

    source: ClassVar[str] = "boxes"
    wide: ClassVar[bool] = True

    count: Count
    bins: Count
    classes: Count = 1
    frames: Natural = 0

    @property
    def grid(self) -> tuple[int, ...]:
        """Of an example's codes."""
        each = 5 * self.count
        return (self.frames, each) if self.frames else (each,)

    @property
    def length(self) -> int:
        """Codes of an example."""
        return math.prod(self.grid)

    @property
    def padding(self) -> int:
        """The code of an absent box."""
        return self.bins + self.classes

    @property
    def code_count(self) -> int:
        return self.bins + self.classes + 1

    def stream(self, kind: str) -> dict[str, object]:
        return codes_alone(self, kind, 1) | {"grid": self.grid}

    def encode(
        self, boxes: Float[Host, "b *frames k 5"]
    ) -> Int[np.ndarray, "b *frames c"]:
        """Boxes -> codes int32; k is at most `count`, and the rest is absent.

        Raises ValueError for more, for other frames, for a coordinate of a box that is
        there outside [0, 1], and for a class that there is not.
        """
        boxes = self._filled(boxes)
        labels = boxes[..., 4]
        _known("class", labels, self.classes)
        present = labels >= 0
        inside = (boxes[..., :4] >= 0) & (boxes[..., :4] <= 1)  # False for NaN
        if (present[..., None] & ~inside).any():
            value = boxes[..., :4][present[..., None] & ~inside][0]
            raise ValueError(
                f"a box has the coordinate {value}; write fractions of the picture's "
                f"sides, in [0, 1]"
            )
        edges = np.where(present[..., None], boxes[..., :4], 0) * self.bins
        edges = np.clip(edges, 0, self.bins - 1).astype(np.int32)
        last = self.bins + labels[..., None].astype(np.int32)
        found = np.concatenate([edges, last], -1)
        codes = np.full((*labels.shape[:-1], self.count, 5), self.padding, np.int32)
        codes[..., : labels.shape[-1], :] = np.where(
            present[..., None], found, self.padding
        )
        return codes.reshape(len(codes), *self.grid)

    def known(self, boxes: Float[Host, "b *frames k 5"]) -> Bool[np.ndarray, "b"]:
        """False where all is NaN: nobody has said whether there are any."""
        boxes = np.asarray(boxes)
        return ~np.isnan(boxes).reshape(len(boxes), -1).all(1)

    def decode(
        self, codes: Int[Host, "b *grid"]
    ) -> Float[np.ndarray, "b *frames count 5"]:
        """Codes -> boxes float32; absent: zeros, and the class -1.

        A box of which any code is out of place, as a model may draw it, is absent.
        """
        codes = known_codes(codes, self.code_count)
        codes = codes.reshape(len(codes), *self.grid[:-1], self.count, 5)
        edges, labels = codes[..., :4], codes[..., 4:] - self.bins
        present = (edges < self.bins).all(-1, keepdims=True)
        present &= (labels >= 0) & (labels < self.classes)
        boxes = np.where(present, (edges + 0.5) / self.bins, 0)
        labels = np.where(present, labels, -1)
        return np.concatenate([boxes, labels], -1).astype(np.float32)

    def _filled(self, boxes):
        """Boxes that are not said to be there, as ones that are not."""
        boxes = np.asarray(boxes, np.float32)
        wanted = (self.frames, self.count) if self.frames else (self.count,)
        axes = boxes.shape[1:]
        if len(axes) != 1 + len(wanted) or axes[-1] != 5 or axes[:-2] != wanted[:-1]:
            shape = ", ".join(map(str, wanted))
            raise ValueError(
                f"boxes are {boxes.shape}; write (b, {shape}, 5) or fewer of a "
                f"{'frame' if self.frames else 'picture'}: x0, y0, x1, y1, class"
            )
        if axes[-2] > self.count:
            raise ValueError(
                f"{axes[-2]} boxes, and there is room for {self.count}; write "
                f"count={axes[-2]}"
            )
        absent = np.isnan(boxes[..., 4:])
        return np.where(absent, np.float32([0, 0, 0, 0, -1]), boxes)


def _known(what, values, classes):
    wrong = (values < -1) | (values >= classes)
    if wrong.any():
        raise ValueError(
            f"{what} {values[wrong][0]:g}: write 0 to {classes - 1}, or -1 for none"
        )
