"""Sums over all codes, a block at a time: no (n, k) matrix is ever whole."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LIMIT = 1 << 22  # elements of a block of scores: 16 MiB of float32


def nearest(z: Float[Array, "n d"], codewords: Float[Array, "k d"]) -> Int[Array, "n"]:
    """Index of the nearest codeword in L2, the lowest of equals, in float32."""
    return best(z, codewords, -0.5 * jnp.square(codewords).sum(-1))


def best(
    z: Float[Array, "n d"], table: Float[Array, "k d"], bias: Float[Array, "k"]
) -> Int[Array, "n"]:
    """Index of the largest z . table_k + bias_k, the lowest of equals.

    Blocks of rows of the table are scored one after the other against a running best,
    so memory is that of one block; z's leading axis is never cut, and stays sharded.
    """
    n, k = z.shape[0], table.shape[0]

    def scores(table, bias):
        # On TPU and GPU a float32 matmul still rounds its inputs unless told not to,
        # and rounded distances pick wrong neighbours.
        return jnp.matmul(z, table.T, precision="highest") + bias

    if n * k <= LIMIT:
        return highest(scores(table, bias))[1]

    # A power of two divides the usual code counts, so that nothing has to be padded.
    block = 1 << max(LIMIT // max(n, 1), 128).bit_length() - 1
    blocks = -(-k // block)
    spare = blocks * block - k
    if spare:
        table = jnp.pad(table, ((0, spare), (0, 0)))
        bias = jnp.pad(bias, (0, spare), constant_values=-jnp.inf)

    def step(carry, part):
        top, index = carry
        start, table, bias = part
        found = scores(table, bias)
        value, place = highest(found)
        better = value > top
        return (jnp.where(better, value, top), jnp.where(better, start + place, index))

    def body(carry, part):
        return step(carry, part), None

    start = jnp.full(n, -jnp.inf), jnp.zeros(n, jnp.int32)
    parts = (
        jnp.arange(blocks, dtype=jnp.int32) * block,
        table.reshape(blocks, block, -1),
        bias.reshape(blocks, block),
    )
    return jax.lax.scan(body, start, parts)[0][1]


def highest(
    scores: Float[Array, "n k"],
) -> tuple[Float[Array, "n"], Int[Array, "n"]]:
    """(the largest of each row, its index, the lowest of equals).

    argmax in two passes: XLA:CPU turns each into vector instructions and argmax into
    none, which is nine times as slow and more than the product of all codes.
    """
    k = scores.shape[-1]
    value = scores.max(-1)
    places = jnp.arange(k, dtype=jnp.int32)
    index = jnp.where(scores == value[:, None], places, k).min(-1)
    return value, jnp.minimum(index, k - 1)  # a row with NaN equals nothing


def by_rows(function: Callable, k: int, *rows: Array) -> tuple[Any, Any]:
    """(outputs of every row, outputs summed over rows) of `function(*rows)`.

    For methods whose gradient needs all k scores of a vector: the function is called on
    as many rows as keep rows x k under the limit, and called again for the gradient.
    Its second output is summed over the calls, so it must be a sum over its rows.
    """
    n = rows[0].shape[0]
    wanted = max(-(-n * k // LIMIT), 1)
    chunks = next(c for c in range(wanted, n + 1) if n % c == 0)
    if chunks == 1:
        return function(*rows)

    def split(x):
        # Every chunk takes a row from everywhere: each device works on rows of its own.
        return jnp.moveaxis(x.reshape(n // chunks, chunks, *x.shape[1:]), 1, 0)

    def join(x):
        return jnp.moveaxis(x, 0, 1).reshape(n, *x.shape[2:])

    parts = tuple(map(split, rows))
    _, shapes = jax.eval_shape(function, *(part[0] for part in parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    again = jax.checkpoint(function)

    def body(sums, part):
        out, more = again(*part)
        return jax.tree.map(jnp.add, sums, more), out

    sums, out = jax.lax.scan(body, zeros, parts)
    return jax.tree.map(join, out), sums
