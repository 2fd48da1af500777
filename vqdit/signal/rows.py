"""Many rows through a function of few, in bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.shapes import AnyArray, Array, Shaped


def by_chunks(
    function: Callable[[np.ndarray], Any],
    x: Shaped[AnyArray, "n *shape"],
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


def in_parts(function: Callable, count: int) -> Callable:
    """function(*trees of arrays of n rows), each row of which is one row's alone.

    In `count` equal parts, one after another, of which the gradient holds one at a
    time: the backward pass computes each again. Raises ValueError where n has no such
    parts.
    """
    if count == 1:
        return function
    again = jax.checkpoint(function)

    def split(x):
        if x.shape[0] % count:
            raise ValueError(
                f"{count} parts do not divide the batch of {x.shape[0]}; write a "
                f"divisor"
            )
        return dealt(x, count)

    def parted(*rows):
        found = jax.lax.map(lambda part: again(*part), jax.tree.map(split, rows))
        return jax.tree.map(collected, found)

    return parted


def dealt(x: Shaped[AnyArray, "n *row"], count: int) -> Shaped[Array, "count m *row"]:
    """Equal parts of rows, part i every count-th from i: a device that holds a run of
    neighbouring rows then keeps its own, and nothing is sent around."""
    return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)


def collected(x: Shaped[Array, "count m *row"]) -> Shaped[Array, "n *row"]:
    """The inverse of `dealt`."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])
