"""Boxes in a CSV, a row each: of which sample, in which frame, what and where."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.errors import Unreadable
from train.modalities.files.limits import MOST_CLASSES
from train.modalities.files.stored import File
from train.modalities.rows import rows_of
from vqdit.shapes import Float

EDGES = ("x0", "y0", "x1", "y1")
COLUMNS = ("sample", "frame", "class", *EDGES)
RIGHT = (
    "edges in shares of the picture's sides, x0 below x1, y0 below y1, the class a "
    f"number from 0 to {MOST_CLASSES - 1}"
)


def is_box(x0: float, y0: float, x1: float, y1: float, label: float) -> bool:
    """In shares of a picture's sides, of a class that is a whole number."""
    whole = 0 <= label < MOST_CLASSES and float(label).is_integer()
    return 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 and whole


def box_rows(boxes: Float[np.ndarray, "b *frames k 5"]) -> list[dict[str, Any]]:
    """Rows for `csv_of`; one that holds nothing but its number of a sample without."""
    rows, (*_, k, _) = [], boxes.shape
    for sample, example in enumerate(boxes):
        frames = example.reshape(-1, k, 5)
        found = [
            dict(zip(COLUMNS, (sample, i, int(box[4]), *box[:4].tolist()), strict=True))
            for i, frame in enumerate(frames)
            for box in frame
            if box[4] >= 0
        ]
        rows += found or [dict.fromkeys(COLUMNS) | {"sample": sample}]
    return rows


def boxes_of(path: File, frames: int) -> Sequence[Float[np.ndarray, "*frames k 5"]]:
    """The boxes of each sample of a CSV, absent ones with the class -1; without the
    columns sample and frame all are of one sample, or one frame.

    frames: of a clip, 0 of what has none. Raises Unreadable.
    """
    rows = rows_of(path)[0]
    for name in ("class", *EDGES):
        if rows and name not in rows[0]:
            raise Unreadable(f"no column {name!r}; write {', '.join(COLUMNS)}")
    places: dict[tuple[int, int], list[list[float]]] = {}
    count, most = 1, max(frames, 1)
    for row in rows:
        here = row["class"] is not None or any(row[edge] is not None for edge in EDGES)
        places_of = [row.get(name) or 0 for name in COLUMNS[:2]]
        box = [row[name] for name in (*EDGES, "class")] if here else []
        if not all(isinstance(x, int | float) for x in (*places_of, *box)):
            raise Unreadable(f"its row {row} is no box; write numbers")
        if not all(float(x).is_integer() for x in places_of):
            raise Unreadable(f"its row {row} is of no whole sample and frame")
        if here and not is_box(*box):
            raise Unreadable(f"its row {row} is no box; write {RIGHT}")
        sample, frame = map(int, places_of)
        if not 0 <= frame < most or not 0 <= sample < len(rows):
            raise Unreadable(
                f"has frame {frame} of {most} and sample {sample} of {len(rows)} rows; "
                "number both from 0"
            )
        count = max(count, sample + 1)
        if not here:
            continue
        places.setdefault((sample, frame), []).append(box)
    # Each has room for its own alone: few of thousands need that for the most.
    most_of = dict.fromkeys(range(count), 1)
    for (sample, _), found in places.items():
        most_of[sample] = max(most_of[sample], len(found))
    absent = np.array([0, 0, 0, 0, -1], np.float32)
    out = [np.tile(absent, (most, k, 1)) for k in most_of.values()]
    for (sample, frame), found in places.items():
        out[sample][frame, : len(found)] = found
    return out if frames else [example[0] for example in out]
