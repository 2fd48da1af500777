"""Random numbers that belong to integers: no state, so nothing to resume."""

import numpy as np

# First words of the hash behind each kind of draw, so that no two are the same numbers.
# Augmentations, statistics and generated signals have theirs from 16 up.
ORDER, PLACE, MIRROR = 1, 2, 3


def chance(*words: int | np.ndarray) -> np.ndarray:
    """Uniform draws in [0, 1), a function of the given integers alone.

    The words broadcast; each is absorbed by one round of SplitMix64. Unlike a random
    generator per example this costs nothing to start, and needs no state to resume.
    """
    state = np.uint64(0)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        for word in words:
            state = np.asarray(state ^ np.asarray(word).astype(np.uint64))
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
