"""Normalisation: a signal is (raw - offset) / scale per channel.

Offset and scale come from statistics of the training split, go into the bundle's
contract, and are the same at inference.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from train.modalities.draws import Word, chance
from vqdit.fields import Checked, Finite, Natural, NonNegative
from vqdit.shapes import Bool, Float

Scaling = Literal["standard", "robust", "range", "none"]
SAMPLE = 2**16  # values of a channel that quantiles are taken of
# Standard deviations that reach the edge of [-1, 1]; a codec clips what lies beyond.
REACH = 4.0


@dataclasses.dataclass(frozen=True)
class Statistics(Checked):
    """What the known values of the training split are like, one number a channel.

    count: known values. mean, std, minimum, maximum: of all of them, to rounding.
    median, spread: of at most SAMPLE of them, drawn evenly; exact where `exact`. The
    spread is 1.4826 times the median absolute deviation, for normal values their
    standard deviation.
    """

    count: tuple[Natural, ...]
    mean: tuple[Finite, ...]
    std: tuple[NonNegative, ...]
    minimum: tuple[Finite, ...]
    maximum: tuple[Finite, ...]
    median: tuple[Finite, ...]
    spread: tuple[NonNegative, ...]
    exact: bool

    def __post_init__(self):
        super().__post_init__()
        for name in ("mean", "std", "minimum", "maximum", "median", "spread"):
            each = len(getattr(self, name)) == len(self.count)
            self.check(name, each, f"write one of each of {len(self.count)} channels")


class Moments:
    """Mean, variance and range of a stream, chunk by chunk, and a sample of it.

    Chan, Golub and LeVeque 1979, eq. 2.1: chunks are merged by their means and sums of
    squared deviations, which loses nothing where a sum of squares would cancel. The
    sample is of the SAMPLE values with the smallest hash of their position, so it
    depends neither on the chunks nor on a generator's state.

    part: of a stream that several read, each its own part, and then merge; values of
        different parts have different positions.
    """

    def __init__(self, channels: int, part: int = 0):
        self._first = part << 40
        self.count = np.zeros(channels, np.int64)
        self.mean, self.squares = np.zeros(channels), np.zeros(channels)
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)
        # Of each channel arrays (n, 2) of draws and values.
        self._drawn = [[np.empty((0, 2))] for _ in range(channels)]
        self._held = np.zeros(channels, np.int64)  # rows of these

    @property
    def sample(self) -> list[Float[np.ndarray, "n"]]:
        """Of each channel."""
        return [self._smallest(c)[:, 1] for c in range(len(self._drawn))]

    def _smallest(self, c: int) -> Float[np.ndarray, "n 2"]:
        found = np.concatenate(self._drawn[c])
        if len(found) > SAMPLE:
            found = found[np.argpartition(found[:, 0], SAMPLE)[:SAMPLE]]
        return found

    def add(
        self,
        values: Float[np.ndarray, "n c"],
        known: Bool[np.ndarray, "n c"] | None = None,
    ) -> None:
        values = np.asarray(values, np.float64)
        for c in range(values.shape[1]):
            column = values[:, c] if known is None else values[known[:, c], c]
            if column.size:
                self._add(c, column)

    def gathered(self, exchange: Callable[[np.ndarray], list[np.ndarray]]) -> "Moments":
        """Those of all processes; `exchange` gives an array of each, in order."""
        rows = [self.count.astype(float), self.mean, self.squares, self.low, self.high]
        parts, whole = exchange(np.stack(rows, 1)), Moments(len(self.mean))
        for c in range(len(self.mean)):
            found = exchange(self._smallest(c))
            for part, drawn in zip(parts, found, strict=True):
                count, mean, squares, low, high = part[c].tolist()
                if count:
                    whole._merge(c, int(count), mean, squares, low, high, drawn)
        return whole

    def _add(self, c: int, x: np.ndarray) -> None:
        mean = x.mean()
        of = (len(x), mean, np.square(x - mean).sum(), x.min(), x.max())
        position = self._first + self.count[c] + np.arange(len(x))
        self._merge(c, *of, np.stack([chance(Word.PICK, c, position), x], 1))

    def _merge(self, c, count, mean, squares, low, high, drawn) -> None:
        before, total = self.count[c], self.count[c] + count
        apart = mean - self.mean[c]
        self.squares[c] += squares
        self.squares[c] += apart**2 * before * count / total
        self.mean[c] += apart * count / total
        self.count[c] = total
        self.low[c], self.high[c] = min(self.low[c], low), max(self.high[c], high)
        self._drawn[c].append(drawn)
        self._held[c] += len(drawn)
        if self._held[c] > 2 * SAMPLE:  # seldom, since it takes long
            self._drawn[c], self._held[c] = [self._smallest(c)], SAMPLE

    def finished(self) -> Statistics:
        """A channel of which nothing is known has mean 0 and spread 0."""
        none = self.count == 0
        sample = [x if x.size else np.zeros(1) for x in self.sample]
        median = [np.median(x) for x in sample]
        away = [np.abs(x - m) for x, m in zip(sample, median, strict=True)]
        found: dict[str, Iterable[float]] = {
            "mean": self.mean,
            "std": np.sqrt(self.squares / np.maximum(self.count, 1)),
            "minimum": np.where(none, 0, self.low),
            "maximum": np.where(none, 0, self.high),
            "median": median,
            "spread": [1.482602218505602 * np.median(x) for x in away],
        }
        return Statistics(
            count=tuple(map(int, self.count)),
            exact=bool((self.count <= SAMPLE).all()),
            **{name: tuple(map(float, x)) for name, x in found.items()},
        )


@dataclasses.dataclass(frozen=True)
class Normaliser:
    """signal = (raw - offset) / scale, per channel; raw = signal * scale + offset."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, raw: Float[np.ndarray, "*b c"]) -> Float[np.ndarray, "*b c"]:
        signal = (raw - np.asarray(self.offset)) / np.asarray(self.scale)
        return signal.astype(np.float32)

    def invert(self, signal: Float[np.ndarray, "*b c"]) -> Float[np.ndarray, "*b c"]:
        raw = np.asarray(signal, np.float64) * np.asarray(self.scale)
        return (raw + np.asarray(self.offset)).astype(np.float32)


def normaliser(statistics: Statistics, rule: Scaling = "standard") -> Normaliser:
    """What brings a signal into about [-1, 1].

    "standard": the mean to 0 and REACH standard deviations to 1; "robust": the same of
    median and spread; "range": minimum and maximum to -1 and 1; "none": nothing. A
    channel that never changes keeps scale 1.
    """
    s = {name: np.array(value) for name, value in vars(statistics).items()}
    match rule:
        case "standard":
            offset, scale = s["mean"], REACH * s["std"]
        case "robust":
            # Half of the values equal: the spread is 0 though the channel is alive.
            spread = np.where(s["spread"], s["spread"], s["std"])
            offset, scale = s["median"], REACH * spread
        case "range":
            low, high = s["minimum"], s["maximum"]
            offset, scale = (low + high) / 2, (high - low) / 2
        case _:  # "none"
            offset, scale = np.zeros_like(s["mean"]), np.ones_like(s["mean"])
    # Rounding leaves a constant channel with a deviation that isn't quite 0.
    alive = scale > 1e-7 * np.abs(offset)
    return Normaliser(tuple(offset.tolist()), tuple(np.where(alive, scale, 1).tolist()))
