"""Plots, as PNG."""

import io
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from train.modalities.shown import COLOURS

INK, FAINT = "#2b2f36", "#c9ced6"
SIZE = (4.6, 2.9)  # of a plot, in inches
LETTERS = 40  # that have room side by side below one


Along = Sequence[float] | np.ndarray  # along an axis


def line_plot(
    lines: Mapping[str, tuple[Along, Along]],
    x_label: str = "",
    y_label: str = "",
    *,
    points: Mapping[str, Sequence[str]] | None = None,
    bars: Mapping[str, float] | None = None,
    moments: Mapping[str, float] | None = None,
    log_y: bool = False,
    colours: Sequence[str] | None = None,
    ticks: Sequence[str] | None = None,
) -> bytes:
    """Lines by name as PNG with a clear background, for a light page.

    lines: name -> (xs, ys); values that are not finite leave a gap.
    points: name -> a mark and its text at each x of that line, such as the guidance
    scale along a curve of accuracy and distance. bars: name -> y of a dashed line
    across, such as an acceptance limit. moments: name -> x of a dotted line upwards,
    such as when a codebook is made. colours: of the lines, where they mean one.
    ticks: what 0, 1, ... along x are called.
    """
    figure, axes = _figure()
    shades = itertools.cycle(colours or COLOURS)
    for colour, (name, (x, y)) in zip(shades, lines.items(), strict=False):
        marks = (points or {}).get(name)
        mark = "o" if marks else None
        axes.plot(x, y, color=colour, lw=1.6, label=name, marker=mark, ms=3.5)
        for at_x, at_y, text in zip(x, y, marks, strict=True) if marks else ():
            axes.annotate(
                text,
                (at_x, at_y),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7.5,
                color=colour,
            )
    for name, level in (bars or {}).items():
        axes.axhline(level, color=INK, lw=0.9, ls=(0, (4, 3)), label=name)
    for name, at in (moments or {}).items():
        axes.axvline(at, color=INK, lw=0.9, ls=":", label=name)
    if log_y:
        axes.set_yscale("log", subs=[])
        # Between them may be one power of ten, or none.
        low, high = axes.get_ylim()
        subs = (1, 2, 5) if high < 1000 * low else (1,)
        axes.yaxis.get_major_locator().set_params(subs=subs)
        axes.yaxis.set_major_formatter("{x:g}")
    if ticks is not None:
        _call(axes, ticks)
    if len(lines) + len(bars or {}) + len(moments or {}) > 1:
        # Beside the axes where a line may be anywhere.
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if ticks else {}
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, **beside)
    return _drawn(figure, axes, x_label, y_label)


def bar_plot(
    heights: Sequence[float],
    x_label: str = "",
    y_label: str = "",
    *,
    names: Sequence[str] | None = None,
) -> bytes:
    """One bar per height, such as the counts of the codewords, as PNG."""
    figure, axes = _figure()
    # Touching bars where there are too many to tell apart.
    width = 0.8 if len(heights) <= 32 else 1.0
    axes.bar(range(len(heights)), heights, width=width, color=COLOURS[0])
    if names is not None:
        _call(axes, names)
    axes.margins(x=0.01)
    return _drawn(figure, axes, x_label, y_label)


def _figure():
    # Not pyplot: a figure of its own has no global state and needs no display. And
    # here, not above: matplotlib is slow to import and most programs draw no plot.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=200, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=3, color=FAINT)
    axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _call(axes, names: Sequence[str]) -> None:
    """What 0, 1, ... along x are called: aslant where they would overlap, and as they
    are, for a class named "$a$" is no formula."""
    aslant = {"rotation": 40, "ha": "right"} if sum(map(len, names)) > LETTERS else {}
    axes.set_xticks(range(len(names)), names, parse_math=False, **aslant)


def _drawn(figure, axes, x_label, y_label) -> bytes:
    axes.set_xlabel(x_label, fontsize=8.5, color=INK)
    axes.set_ylabel(y_label, fontsize=8.5, color=INK)
    file = io.BytesIO()
    # No software version in the file: the same figures give the same bytes.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
