"""Labels and boxes as codes (Pix2Seq, arXiv:2109.10852, section 3.1).

NumPy, on the host: codes are made with the data and read after sampling.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from vqdit.fields import Count, Natural
from vqdit.shapes import AnyArray, Bool, Float, Int, Shaped
from vqdit.tokenizer.value import Value, known_codes, ordered, side_by_side

# One of each example, or an array of all.
_Labels = Int[AnyArray, "b"] | Sequence[Any]
_Boxes = Float[AnyArray, "b *frames k 5"] | Shaped[np.ndarray, "b"] | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Labels(Value):
    """A class label as one code; one more code for "no label", -1.

    classes: how many there are.
    """

    source: ClassVar[str] = "label"
    length: ClassVar[int] = 1  # type: ignore[misc]  # of others it is a field

    classes: Count

    @property
    def code_count(self) -> int:
        return self.classes + 1

    def encode(self, label: _Labels) -> Int[np.ndarray, "b 1"]:
        """Labels, -1 or None for none -> codes int32. Raises ValueError for others."""
        found = self._numbers(label)
        _known("label", found, self.classes)
        # First as wide as codes: an int8 would turn 200 classes into -56.
        return np.where(found < 0, self.classes, found.astype(np.int32))[:, None]

    def known(self, values: _Labels) -> Bool[np.ndarray, "b"]:
        return self._numbers(values) >= 0

    @staticmethod
    def _numbers(values: Any) -> np.ndarray:
        found = np.asarray(values)
        if found.dtype == object:
            found = np.array([-1 if each is None else each for each in values])
        if found.ndim != 1 or found.dtype.kind not in "biuf":
            raise ValueError(
                f"labels are {found.dtype} {found.shape}; write numbers, one an example"
            )
        return found

    def decode(self, codes: Int[AnyArray, "b 1"]) -> Int[np.ndarray, "b"]:
        """Codes -> labels int32, -1 for none."""
        codes = known_codes(codes, self.code_count)[:, 0]
        return np.where(codes == self.classes, -1, codes).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Boxes(Value):
    """Up to `count` boxes of a picture, or of each frame of a clip, as five codes each.

    A box is five numbers: x0, y0, x1, y1 in shares of the sides, and its class, -1
    where there is none. Coordinates in [0, 1] fall into `bins` equal bins and come back
    as their centres, at most half a bin off; the paper rounds to bins - 1 steps
    instead, whose ends are exact and whose error is larger elsewhere. Codes: bins, then
    classes, then one for all five of a box that is absent.

    count: boxes that an example has at most.
    bins: places along each side.
    classes: of boxes.
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
        each = 5 * self.count
        return (self.frames, each) if self.frames else (each,)

    @property
    def length(self) -> int:  # type: ignore[override]  # of others it is a field
        return math.prod(self.grid)

    @property
    def padding(self) -> int:
        """The code of an absent box."""
        return self.bins + self.classes

    @property
    def code_count(self) -> int:
        return self.bins + self.classes + 1

    def encode(self, boxes: _Boxes) -> Int[np.ndarray, "b *frames c"]:
        """Boxes -> codes int32: an array, or of each example its own (*frames, k, 5),
        or None. k is at most `count`, and the rest is absent.

        Raises ValueError for more, for other frames, for a coordinate of a box that is
        there outside [0, 1], and for a class that there is not.
        """
        boxes = self._filled(boxes)
        labels = np.where(np.isnan(boxes[..., 4]), -1, boxes[..., 4])
        _known("class", labels, self.classes)
        present = (labels >= 0)[..., None]
        inside = (boxes[..., :4] >= 0) & (boxes[..., :4] <= 1)  # False for NaN
        if (present & ~inside).any():
            value = boxes[..., :4][present & ~inside][0]
            raise ValueError(
                f"a box has the coordinate {value:g}; write fractions of the picture's "
                f"sides, in [0, 1]"
            )
        edges = np.where(present, boxes[..., :4], 0) * self.bins
        edges = np.clip(edges, 0, self.bins - 1)
        codes = np.concatenate([edges, self.bins + labels[..., None]], -1)
        codes = np.where(present, codes, self.padding).astype(np.int32)
        return codes.reshape(len(codes), *self.grid)

    def known(self, boxes: _Boxes) -> Bool[np.ndarray, "b"]:
        """False of None, and where all is NaN: nobody has said whether there are any.
        An example without boxes has none, which is known."""
        classes = self._filled(boxes)[..., 4]
        return ~np.isnan(classes).reshape(len(classes), -1).all(1)

    def decode(
        self, codes: Int[AnyArray, "b *grid"]
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

    def codewords(self):
        """Bins in their order, classes, and the code of an absent box."""
        return side_by_side(ordered(self.bins), np.eye(self.classes), np.eye(1))

    def kept(self, drawn, given, known):
        """Boxes that were drawn, and those that are given whole instead of their bins'
        centres."""
        of_each = known.reshape(*known.shape, *(1,) * (1 + len(self.grid) - known.ndim))
        places = np.broadcast_to(of_each, (len(known), *self.grid))
        given = self._filled(given)  # of those that are there
        whole = places.reshape(drawn.shape).all(-1) & (given[..., 4] >= 0)
        return np.where(whole[..., None], given, drawn)

    def said(self, boxes: _Boxes) -> list[str]:
        """Class and edges of each box, "; " between boxes and " | " between frames."""
        lines = []
        for example in self._filled(boxes).reshape(len(boxes), -1, self.count, 5):
            frames = [
                "; ".join(
                    f"{box[4]:.0f}: {' '.join(f'{edge:.3f}' for edge in box[:4])}"
                    for box in frame
                    if box[4] >= 0
                )
                for frame in example
            ]
            lines.append(" | ".join(frames))
        return lines

    def _filled(self, boxes) -> Float[np.ndarray, "b *frames count 5"]:
        """As many of each example; NaN where nothing is known of it."""
        out = np.full((len(boxes), *self.grid[:-1], self.count, 5), np.nan, np.float32)
        for into, each in zip(out, boxes, strict=True):
            if each is None:
                continue
            each = np.asarray(each, np.float32)
            lead = each.shape[:-2]
            if each.ndim != into.ndim or each.shape[-1] != 5 or lead != into.shape[:-2]:
                shape = ", ".join(map(str, (*into.shape[:-2], "k", 5)))
                raise ValueError(
                    f"boxes of an example are {each.shape}; write ({shape}): x0, y0, "
                    "x1, y1, class"
                )
            if each.shape[-2] > self.count:
                raise ValueError(
                    f"{each.shape[-2]} boxes, and there is room for {self.count}; "
                    f"write count={each.shape[-2]}"
                )
            if each.size and np.isnan(each[..., 4]).all():
                continue
            into[...] = (0, 0, 0, 0, -1)
            into[..., : each.shape[-2], :] = each
        return out


def _known(what, values, classes):
    wrong = (values < -1) | (values >= classes) | (values % 1 != 0)
    if wrong.any():
        raise ValueError(
            f"{what} {values[wrong][0]:g}: write 0 to {classes - 1}, or -1 for none"
        )
