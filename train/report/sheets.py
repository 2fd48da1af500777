"""Signals side by side for a person to look at, with what their axes and names are."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from train.modalities.kinds import modality_of
from train.modalities.modality import Modality
from train.modalities.shown import Axis, Panel, Units, eight_bits, grid
from vqdit.shapes import UInt8
from vqdit.signal import to_uint8

INK, GROUND = (43, 47, 54), (255, 255, 255)
SIZE, LINE = 10, 14  # of the letters, and of a line of them, in pixels
LEFT, TICK, APART = 42, 3, 6
LEAST = 40  # pixels in width of what has a name; smaller pictures are enlarged
NARROW = 80  # of what has ticks below

Sheet = UInt8[np.ndarray, "h w 3"]
PLAYABLE = (".wav", ".gif")  # files of what is heard, or moves


def played(data: Modality, x: np.ndarray, units: Units) -> list[bytes]:
    """A file of each signal (n, *shape), of the tokenizer's unit or bytes, where they
    are sounds or clips; else none."""
    return contents(data, x, units) if data.suffixes[0] in PLAYABLE else []


def contents(data: Modality, x: np.ndarray, units: Units) -> list[bytes]:
    """A file of each signal, of a kind whose signals are files, and no folders."""
    x = np.asarray(x)
    if units.scale and x.dtype != np.uint8:
        x = x * np.array(units.scale, np.float32) + np.array(units.offset, np.float32)
    elif data.pixels and x.dtype != np.uint8:
        x = np.asarray(to_uint8(x))
    written = (data.write(data.new(each, units.rate, units.names)) for each in x)
    return [each for each in written if isinstance(each, bytes)]


def sheet(
    kind: str,
    x: np.ndarray,
    units: Units | None = None,
    columns: int | None = None,
    names: Sequence[str] = (),
    least: int | None = None,
) -> Sheet:
    """Signals (n, *shape) as one picture, as their modality shows them.

    units: of axes and values; without them signals are shown bare. A note of what
        values are stands once, below all. names: of each, of
        which a row has one where all are the same.
    least: pixels in width of each; None is LEAST of what has a name.
    """
    x, modality = np.asarray(x), modality_of(kind)
    columns = columns or math.ceil(len(x) ** 0.5)
    panels = [modality.panels(each, units or Units()) for each in x]
    if units is None:
        panels = [[Panel(panel.picture) for panel in each] for each in panels]
    bare = not any(panel.across or panel.up for panel in panels[0])
    how = (columns, 1 if bare else APART, 112 if bare else 255)
    # Pictures are enlarged, and not what is written beside them.
    least = least or (LEAST if names else 1)
    wide = max(least, 1 if bare else NARROW)
    factor = -(-wide // panels[0][0].picture.shape[1])
    panels = [[_enlarged(panel, factor) for panel in each] for each in panels]
    left = max(map(_beside, panels[0]))
    cells = [np.concatenate([framed(p, left) for p in each]) for each in panels]
    if not names:
        rows = [grid(np.stack(cells), *how)]
    else:
        rows = []
        for low in range(0, len(cells), columns):
            row = grid(np.stack(cells[low : low + columns]), *how)
            each = cells[0].shape[1] + how[1]
            rows += [_line(names[low : low + columns], row.shape[1], each), row]
    for note in filter(None, (panel.note for panel in panels[0])):
        width = max(rows[0].shape[1], math.ceil(_font().getlength(note)) + 2)
        rows.append(_line([note], width, width))
    width = max(row.shape[1] for row in rows)
    fill = lambda row: ((0, 0), (0, width - row.shape[1]), (0, 0))
    return np.concatenate([np.pad(r, fill(r), constant_values=255) for r in rows])


def framed(panel: Panel, left: int | None = None) -> Sheet:
    """A picture with its ticks, below and to the left, where there are as many pixels
    as these need, or `left`; its note is the sheet's."""
    picture = eight_bits(panel.picture)
    height, width = picture.shape[:2]
    left = _beside(panel) if left is None else left
    right = APART if panel.across or panel.up else 0
    above = LINE // 2 if panel.up else 0
    below = LINE + TICK if panel.across else above
    size = (height + above + below, width + left + right, 3)
    whole = np.full(size, 255, np.uint8)
    whole[above : above + height, left : left + width] = picture
    image = Image.fromarray(whole)
    draw, font = ImageDraw.Draw(image), _font()

    def text(x, y, said, anchor):
        draw.text((x, y), said, fill=INK, font=font, anchor=anchor)

    if panel.up:
        for value in ticks(panel.up, _rows(height)):
            y = above + round((1 - _share(value, panel.up)) * (height - 1))
            draw.line([(left - TICK, y), (left - 1, y)], fill=INK)
            text(left - TICK - 2, y, _number(value, panel.up), "rm")
        if panel.up.name:
            box = draw.textbbox((left + 3, above + 2), panel.up.name, font, "la")
            draw.rectangle(box, GROUND)
            text(left + 3, above + 2, panel.up.name, "la")
    if panel.across:
        said = ticks(panel.across, max(2, width // 40))
        for value in said:
            x = left + round(_share(value, panel.across) * (width - 1))
            draw.line([(x, above + height), (x, above + height + TICK - 1)], fill=INK)
            word = _number(value, panel.across)
            word += f" {panel.across.name}" if value == said[-1] else ""
            half = font.getlength(word) / 2
            x = min(max(x, half), size[1] - half)
            text(x, above + height + TICK, word, "ma")
    return np.asarray(image)


def _enlarged(panel: Panel, factor: int) -> Panel:
    return panel._replace(picture=panel.picture.repeat(factor, 0).repeat(factor, 1))


def _beside(panel: Panel) -> int:
    """Pixels to the left of a picture, in which its numbers stand."""
    if not panel.up:
        return 0
    found = ticks(panel.up, _rows(panel.picture.shape[0]))
    longest = max(_font().getlength(_number(value, panel.up)) for value in found)
    return max(LEFT, math.ceil(longest) + TICK + 3)


def _rows(height: int) -> int:
    """How many numbers have room beside a picture, one above another."""
    return max(2, height // 20)


def ticks(axis: Axis, most: int) -> list[float]:
    """Round values within the axis, 1, 2 or 5 times a power of ten apart: at most so
    many, and one at least."""
    span = axis.high - axis.low
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (1, 2, 5, 10, 20):
        first = math.ceil(axis.low / (step * power) - 1e-9)
        last = math.floor(axis.high / (step * power) + 1e-9)
        if last - first + 1 <= most:
            break
    found = [n * step * power for n in range(first, last + 1)]
    return found or [axis.low]


def _share(value: float, axis: Axis) -> float:
    return (value - axis.low) / (axis.high - axis.low)


def _number(value: float, axis: Axis) -> str:
    """All digits of a tick, which is round; thousands as 2k."""
    if max(abs(axis.low), abs(axis.high)) >= 1e4:
        return f"{value / 1000:.10g}k" if value else "0"
    return f"{value:.10g}"


def _line(names: Sequence[str], width: int, each: int) -> Sheet:
    """A line with a name over every cell, or one for all of a row."""
    image = Image.new("RGB", (width, LINE), GROUND)
    draw, font = ImageDraw.Draw(image), _font()
    if len(set(names)) == 1:
        names, each = names[:1], width
    for i, name in enumerate(names):
        while font.getlength(name) > each - 2 and len(name) > 1:
            name = name.rstrip("…")[:-1] + "…"
        draw.text((i * each + 1, 1), name, fill=INK, font=font)
    return np.asarray(image)


@functools.cache
def _font():
    """That of the plots: Pillow's own knows the letters of English alone."""
    import matplotlib  # slow to import

    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", SIZE)
