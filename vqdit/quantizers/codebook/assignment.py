"""Soft assignment to all codes, tile by tile: no (n, k) matrix is ever whole."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.quantizers.codebook.search import by_rows, highest, in_blocks
from vqdit.shapes import Array, Float
from vqdit.sums import most_scores

FAR = -1e20  # the score of what fills up the last block


class Assignment(NamedTuple):
    """Of p = softmax of a vector's scores over all codes.

    mixture: (n, m) sum over codes of p and their values. index: (n,) of the highest
    score. total: (k,) sum of p over vectors. entropy: () sum of their entropies, nats.
    """

    mixture: Any
    index: Any
    total: Any
    entropy: Any


def assign(
    z: Float[Array, "n d"],
    table: Float[Array, "k d"],
    bias: Float[Array, "k"],
    values: Float[Array, "k m"],
    sharpness: Any = 1.0,
    noise: Callable[[Any, Any, tuple[int, int]], Array] | None = None,
    scores: int | None = None,
) -> Assignment:
    """Of scores (z . table_k + bias_k + noise) sharpness.

    noise: (index of the first vector, of the first code, shape) -> a tile's.
    scores: how many are held at once; None for as many as suit the backend.

    A tile is of about as many vectors as codes, so that neither is read, and none of
    their gradients added to, more often than needed: of 262,144 codes a hundredth of
    what whole rows would take. Scores are made once for the sums of their exponentials,
    again for what these are the weights of, and both again for the gradient.
    """
    n, k = z.shape[0], table.shape[0]
    limit = most_scores(scores)

    def score(z, first, start, table, bias):
        found = jnp.matmul(z, table.T, precision="highest") + bias
        if noise is not None:
            found = found + noise(first, start, found.shape)
        return found * sharpness

    if n * k <= limit:
        found = score(z, 0, 0, table, bias)
        p = jax.nn.softmax(found)
        entropy = -_plogp(p, jax.nn.log_softmax(found))
        mixture = jnp.matmul(p, values, precision="highest")
        return Assignment(mixture, highest(found)[1], p.sum(0), entropy)

    block = 1 << math.isqrt(limit).bit_length() - 1
    parts = in_blocks(block, FAR, bias, table, values)

    def rows(z, place):
        def weigh(carry, part):
            top, total, index = carry
            start, bias, table, _ = part
            found = score(z, place[0], start, table, bias)
            value, at = highest(jax.lax.stop_gradient(found))
            index = jnp.where(value > top, start + at, index)
            high = jnp.maximum(top, value)
            total = total * jnp.exp(top - high) + jnp.exp(found - high[:, None]).sum(-1)
            return (high, total, index), None

        def mix(carry, part):
            mixture, entropy = carry
            start, bias, table, values = part
            log_p = score(z, place[0], start, table, bias) - total
            p = jnp.exp(log_p)
            mixture = mixture + jnp.matmul(p, values, precision="highest")
            return (mixture, entropy - _plogp(p, log_p)), p.sum(0)

        m = z.shape[0]
        start = jnp.full(m, -jnp.inf), jnp.zeros(m), jnp.zeros(m, jnp.int32)
        (top, total, index), _ = jax.lax.scan(jax.checkpoint(weigh), start, parts)
        total = (top + jnp.log(total))[:, None]
        start = jnp.zeros((m, values.shape[1])), jnp.zeros(())
        (mixture, entropy), sums = jax.lax.scan(jax.checkpoint(mix), start, parts)
        return (mixture, index), (sums, entropy)

    found = by_rows(rows, block, z, jnp.arange(n), scores=scores)
    (mixture, index), (sums, entropy) = found
    return Assignment(mixture, index, sums.reshape(-1)[:k], entropy)


def _plogp(p, log_p):
    return jnp.where(p > 0, p * jnp.where(p > 0, log_p, 0.0), 0.0).sum()
