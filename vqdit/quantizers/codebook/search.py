"""The nearest of all codewords, a block at a time: no (n, k) matrix is ever whole."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from vqdit.fields import Bound
from vqdit.shapes import Array, Float, Int
from vqdit.signal.rows import collected, dealt
from vqdit.sums import code_blocks, most_scores, on_cpu

# Of a codebook that is searched: its usage window has an index of int32.
Codes = Annotated[int, Bound(at_least=2, at_most=2**26)]


def nearest(
    z: Float[Array, "n d"], codewords: Float[Array, "k d"], scores: int | None = None
) -> Int[Array, "n"]:
    """Index of the nearest codeword in L2, the lowest of equals, in float32."""
    return best(*by_distance(z, codewords), scores)


def by_distance(
    z: Float[Array, "n d"], codewords: Float[Array, "k d"]
) -> tuple[Float[Array, "n d"], Float[Array, "k d"], Float[Array, "k"]]:
    """(z, table, bias) whose scores z . table_k + bias_k order codes by distance.

    (|z|^2 - |z - e|^2) / 2, of both moved by one vector, which changes no distance and
    has no gradient.
    """
    centre = jax.lax.stop_gradient(_centre(codewords))
    codewords = codewords - centre
    return z - centre, codewords, -0.5 * jnp.square(codewords).sum(-1)


def _centre(codewords):
    """0, or where the codewords' mean is far from it beside their spread, the mean.

    z . e - |e|^2 / 2 cancels there: at 1,000 spreads every second neighbour is wrong.
    Rounded to a power of two near the spread, so that numbers keep all their digits.
    """
    mean = codewords.mean(0)
    spread = jnp.sqrt(jnp.square(codewords - mean).sum(-1).mean())
    far = (spread > 0) & (jnp.square(mean).sum() > 16 * spread**2)
    _, exponent = jnp.frexp(jnp.where(far, spread, 1.0))
    unit = jnp.ldexp(1.0, exponent - 4)
    return jnp.where(far, jnp.round(mean / unit) * unit, 0.0)


def best(
    z: Float[Array, "n d"],
    table: Float[Array, "k d"],
    bias: Float[Array, "k"],
    scores: int | None = None,
) -> Int[Array, "n"]:
    """Index of the largest z . table_k + bias_k, the lowest of equals.

    Blocks of rows of the table are scored one after the other against a running best,
    so memory is that of one block; z's leading axis is never cut, and stays sharded.
    scores: how many a block has; None for as many as suit the backend.
    """
    n, k = z.shape[0], table.shape[0]

    def score(table, bias):
        # On TPU and GPU a float32 matmul still rounds its inputs unless told not to,
        # and rounded distances pick wrong neighbours.
        return jnp.matmul(z, table.T, precision="highest") + bias

    if n * k <= most_scores(scores):
        return highest(score(table, bias))[1]

    def body(carry, part):
        top, index = carry
        start, bias, table = part
        value, place = highest(score(table, bias))
        better = value > top
        carry = jnp.where(better, value, top), jnp.where(better, start + place, index)
        return carry, None

    start = jnp.full(n, -jnp.inf), jnp.zeros(n, jnp.int32)
    parts = in_blocks(code_blocks(n, k, scores)[1], -jnp.inf, bias, table)
    return jax.lax.scan(body, start, parts)[0][1]


def in_blocks(block: int, fill: float, bias: Array, *tables: Array) -> tuple:
    """(index of the first, biases, rows of each table) of every `block` codes.

    What fills up the last block has the bias `fill`.
    """
    blocks = -(-len(bias) // block)
    spare = blocks * block - len(bias)
    bias = jnp.pad(bias, (0, spare), constant_values=fill).reshape(blocks, block)
    padded = (jnp.pad(table, ((0, spare), (0, 0))) for table in tables)
    rows = (table.reshape(blocks, block, -1) for table in padded)
    return jnp.arange(blocks, dtype=jnp.int32) * block, bias, *rows


def highest(scores: Float[Array, "n k"]) -> tuple[Float[Array, "n"], Int[Array, "n"]]:
    """(the largest of each row, its index, the lowest of equals).

    On a CPU in two passes: XLA turns each into vector instructions and argmax into
    none, which is nine times as slow and more than the product of all codes.
    """
    k = scores.shape[-1]
    value = scores.max(-1)
    if not on_cpu():
        # A row with NaN has its first, which is in range too.
        return value, scores.argmax(-1).astype(jnp.int32)
    places = jnp.arange(k, dtype=jnp.int32)
    index = jnp.where(scores == value[:, None], places, k).min(-1)
    return value, jnp.minimum(index, k - 1)  # a row with NaN equals nothing


def by_rows(
    function: Callable, k: int, *rows: Array, scores: int | None = None
) -> tuple[Any, Any]:
    """(outputs of every row, outputs summed over rows) of `function(*rows)`.

    For methods whose gradient needs all k scores of a vector: the function is called on
    as many rows as keep rows x k under the limit, and called again for the gradient.
    Its second output is summed over the calls, so it must be a sum over its rows.
    """
    n = rows[0].shape[0]
    wanted = min(max(-(-n * k // most_scores(scores)), 1), n)
    if wanted == 1:
        return function(*rows)
    # Equal chunks if there are some not much smaller, else what is left by itself.
    chunks = next((c for c in range(wanted, 2 * wanted) if n % c == 0), None)
    size = n // chunks if chunks else -(-n // wanted)
    chunks = n // size
    whole = chunks * size

    parts = tuple(dealt(x[:whole], chunks) for x in rows)
    _, shapes = jax.eval_shape(function, *(part[0] for part in parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    again = jax.checkpoint(function)

    def body(sums, part):
        out, more = again(*part)
        return jax.tree.map(jnp.add, sums, more), out

    sums, out = jax.lax.scan(body, zeros, parts)
    out = jax.tree.map(collected, out)
    if whole < n:
        rest, more = again(*(x[whole:] for x in rows))
        out = jax.tree.map(lambda *parts: jnp.concatenate(parts), out, rest)
        sums = jax.tree.map(jnp.add, sums, more)
    return out, sums
