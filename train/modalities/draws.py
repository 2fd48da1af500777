"""Random numbers that belong to integers: no state, so nothing to resume."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqdit.shapes import Float, Int


class Word:
    """First words of the hash behind each kind of draw, so that no two are the same
    numbers."""

    ORDER, PLACE, MIRRORED = 1, 2, 3  # of batches, and of pictures
    PICK = 16  # of the sample that quantiles are taken of
    # Of augmentations.
    ANGLE, ZOOM, ACROSS, DOWN, MIRROR, FLIP = 32, 33, 34, 35, 36, 37
    BRIGHT, CONTRAST, SATURATION, HUE, NOISE = 40, 41, 42, 43, 44
    SHIFT, GAIN, HIDE, HIDDEN, MUTE, MUTED, PACE, ROLL = 48, 49, 50, 51, 52, 53, 54, 55
    # Of generated signals, and of where training cuts an example.
    VIDEO, START, VOLUME, CORNER = 64, 65, 66, 67
    PATIENT, ACTION, DRIVING = 69, 72, 73
    SERIES, TONES, RANGE = 80, 80, 96  # a series has seeds, a tone has none
    STROKES, HISS = 97, 98  # of gestures, and of noise in recordings
    # Of which examples, and which of their epochs.
    JOIN, SHARE, EPOCH = 68, 70, 71


def chance(*words: int | np.ndarray) -> np.ndarray:
    """Uniform draws in [0, 1), a function of the given integers alone.

    The words broadcast; each is absorbed by one round of SplitMix64. Unlike a random
    generator per example this costs nothing to start, and needs no state to resume.
    """
    state: Any = np.uint64(0)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        for word in words:
            state = np.asarray(state ^ np.asarray(word).astype(np.uint64))
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Draws:
    """Uniform draws for the examples of a batch: `draws(WORD)` is (b,) in [0, 1)."""

    def __init__(
        self, seed: int, epochs: Int[np.ndarray, "b"], indices: Int[np.ndarray, "b"]
    ):
        self.seed, self.epochs, self.indices = seed, epochs, indices

    def __call__(self, word: int) -> Float[np.ndarray, "b"]:
        return chance(word, self.seed, self.epochs, self.indices)

    def between(self, word: int, reach: float) -> Float[np.ndarray, "b"]:
        """Even between -reach and reach."""
        return reach * (2 * self(word) - 1)

    def version(self, words: Sequence[int]) -> Int[np.ndarray, "b"]:
        """Which of the 2**len(words) versions of an example, as `Version` counts them,
        is drawn where each word mirrors it below 0.5."""
        bits = [(self(word) < 0.5) << bit for bit, word in enumerate(words)]
        return sum(bits, np.zeros(len(self.indices), int))

    def normal(self, word: int, shape: tuple[int, ...]) -> Float[np.ndarray, "b *s"]:
        """Standard normal arrays; hashing each value would cost ten times as much."""
        words = (self(word) * 2**53).astype(np.uint64)
        return np.stack(
            [np.random.default_rng(w).standard_normal(shape, np.float32) for w in words]
        )


class Version(Draws):
    """No draws: one stated version of `count` examples. Its bits say which words
    mirror; all else that could be drawn is in the middle, as in evaluation."""

    def __init__(self, words: Sequence[int], version: int, count: int):
        super().__init__(0, np.zeros(count, int), np.arange(count))
        self.mirroring = {w for bit, w in enumerate(words) if version >> bit & 1}

    def __call__(self, word):
        return np.full(len(self.indices), 0.0 if word in self.mirroring else 0.5)
