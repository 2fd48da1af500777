"""Many rows through a function of few, in bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Shaped


def by_chunks(
    function: Callable[[np.ndarray], Any],
    x: Shaped[Array | np.ndarray, "n *shape"],
    size: int,
) -> Any:
    """function(x), a tree of arrays of n rows, as NumPy's; `size` rows at a time.

    One program for all chunks: the last is filled up with zeros.
    """
    parts = []
    for low in range(0, max(len(x), 1), size):
        part = np.asarray(x[low : low + size])
        filled = np.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))
        parts.append(jax.tree.map(np.asarray, function(filled)))
    return jax.tree.map(lambda *found: np.concatenate(found)[: len(x)], *parts)
