"""k-means by Lloyd's algorithm, in plain sums: one device equals many."""

from functools import partial

import jax
import jax.numpy as jnp

from vqdit.quantizers.codebook.search import nearest
from vqdit.quantizers.quantized import unit
from vqdit.shapes import Array, Float, Int, Key
from vqdit.sums import sums_by_code


@partial(jax.jit, static_argnames=("k", "iterations", "cosine"))
def kmeans(
    key: Key[Array, ""],
    x: Float[Array, "n d"],
    k: int,
    iterations: int = 25,
    cosine: bool = False,
) -> tuple[Float[Array, "k d"], Int[Array, "k"]]:
    """(centroids, vectors in each). Raises ValueError when n < k.

    Starts from k of the vectors; a centroid that wins none is moved to the vector that
    is now farthest from its own (the next farthest for the next such centroid). With
    `cosine` works on the unit sphere (spherical k-means).
    """
    if x.shape[0] < k:
        raise ValueError(
            f"k-means for {k} codes needs at least {k} vectors; got {x.shape[0]}"
        )
    x = x.astype(jnp.float32)
    if cosine:
        x = unit(x)
    start = x[jax.random.permutation(key, x.shape[0])[:k]]

    def assign(centroids):
        index = nearest(x, centroids)
        counts = jnp.zeros(k, jnp.int32).at[index].add(1)
        return index, counts

    def update(_, centroids):
        index, counts = assign(centroids)
        sums = sums_by_code(index, x, k)
        means = sums / jnp.maximum(counts, 1)[:, None]
        error = jnp.square(x - centroids[index]).sum(-1)
        # Equal vectors have equal errors: their order must not depend on the mesh,
        # and top_k takes the lowest index first.
        empty = counts == 0

        def filled():
            farthest = x[jax.lax.top_k(error, k)[1]]
            place = jnp.cumsum(empty) - 1
            return jnp.where(empty[:, None], farthest[place], means)

        centroids = jax.lax.cond(empty.any(), filled, lambda: means)
        return unit(centroids) if cosine else centroids

    centroids = jax.lax.fori_loop(0, iterations, update, start)
    return centroids, assign(centroids)[1]
