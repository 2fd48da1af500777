"""How often each value is there, channel by channel, as one picture."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from train.modalities.shown import Units
from train.report import pictures

BINS, LEVELS = 80, 4096  # bins; evenly spaced values that they mind


def value_histogram(sample: Sequence[np.ndarray], pixels: bool, units: Units) -> bytes:
    """PNG. sample: values of each channel; of pixels, three channels are colours."""
    lines: dict[str, tuple[pictures.Along, pictures.Along]] = {}
    colours = None
    channels = [channel for channel, x in enumerate(sample[:6]) if x.size]
    found = [sample[channel] for channel in channels]
    for channel, x, edges in zip(channels, found, bin_edges(found), strict=True):
        heights, _ = np.histogram(x, edges)
        centers = (edges[1:] + edges[:-1]) / 2
        lines[units.called(channel)] = (centers, heights / x.size)
    if pixels and len(lines) == 3:
        lines = dict(zip(("red", "green", "blue"), lines.values(), strict=True))
        colours = ("#c0392b", "#2a8c6a", "#2f6fb3")
    return pictures.line_plot(lines, "value, as trained on", "share", colours=colours)


def bin_edges(found: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Of BINS bins or a few more for each channel, over the range of all.

    Values of a few levels, such as 8 bits, fall as many levels into every bin: edges
    between them would leave some bins empty and fill others twice.
    """
    low, high = min(x.min() for x in found), max(x.max() for x in found)
    for x in found:
        steps = np.diff(np.unique(x))
        step = steps.min(initial=np.inf)
        levels = (high - low) / step if step > 0 else np.inf
        apart = np.abs(steps / step - np.round(steps / step)).max(initial=0)
        if not 1 <= levels <= LEVELS or apart > 1e-3:
            yield np.linspace(low, max(high, low + 1e-9), BINS + 1)
            continue
        width = step * math.ceil(levels / BINS)
        first = x.min() - step / 2 - width * math.ceil((x.min() - low) / width)
        yield first + width * np.arange(math.ceil((high - first) / width) + 1)
