"""Rows of a table by their index, and sums of rows by code, which are its gradient."""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.platform import platform
from vqdit.shapes import Array, Float, Int

# Scores held at once, float32: 16 MiB on a CPU, about its cache; 256 MiB elsewhere,
# where a block must occupy the whole chip and is the price of a few GB/s more.
SCORES, SCORES_OF_CPU = 1 << 26, 1 << 22
Adding = Literal["scatter", "product"]


def on_cpu() -> bool:
    """Whether what is traced is for a CPU."""
    return platform() == "cpu"


def most_scores(scores: int | None) -> int:
    """The scores asked for, or as many as suit the backend."""
    return scores or (SCORES_OF_CPU if on_cpu() else SCORES)


def code_blocks(n: int, k: int, scores: int | None) -> tuple[int, int]:
    """(blocks, codes of a block), of n rows against k codes."""
    # A power of two divides the usual code counts, so that nothing has to be padded.
    block = 1 << max(most_scores(scores) // max(n, 1), 128).bit_length() - 1
    return -(-k // block), block


def sums_by_code(
    index: Int[Array, "n"],
    x: Float[Array, "n d"],
    k: int,
    adding: Adding | None = None,
    scores: int | None = None,
) -> Float[Array, "k d"]:
    """Of each code, the sum of the rows of x that have it.

    adding: "scatter" adds row by row, on a GPU in an order of its own every time;
        "product" is one of one-hot rows with x, bit-reproducible and at home on a TPU.
        None is scatter on a CPU and product elsewhere.
    """
    if _chosen(adding) == "scatter":
        return jnp.zeros((k, x.shape[1]), x.dtype).at[index].add(x)
    blocks, block = code_blocks(len(x), k, scores)
    block = min(block, k)

    def part(start):
        codes = start + jnp.arange(block, dtype=index.dtype)
        hot = (index[:, None] == codes).astype(x.dtype)
        return jnp.matmul(hot.T, x, precision="highest")

    starts = jnp.arange(blocks, dtype=index.dtype) * block
    found = part(starts[0])[None] if blocks == 1 else jax.lax.map(part, starts)
    return found.reshape(-1, x.shape[1])[:k]


def _chosen(adding):
    return adding or ("scatter" if on_cpu() else "product")


def take(
    table: Float[Array, "k d"],
    index: Int[Array, "*b"],
    adding: Adding | None = None,
    scores: int | None = None,
) -> Float[Array, "*b d"]:
    """table[index], with the gradient `sums_by_code`."""
    if _chosen(adding) == "scatter":
        return table[index]
    k = len(table)

    def transposed(index, dy):
        places = jnp.where(index < 0, index + k, index).reshape(-1)
        rows = dy.reshape(-1, dy.shape[-1])
        return sums_by_code(places, rows, k, "product", scores)

    # Linear in the table, so that it has a forward mode, too.
    read = lambda index, table: table[index]
    return jax.custom_derivatives.linear_call(read, transposed, index, table)
