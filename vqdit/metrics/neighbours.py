"""Nearest neighbours by Euclidean distance."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from vqdit.signal.rows import by_chunks

# Distances held at once, in elements: 256 MiB of float32.
_BLOCK = 1 << 26


def nearest_neighbours(
    x: Num[Array | np.ndarray, "n *shape"],
    reference: Num[Array | np.ndarray, "r *shape"],
    k: int = 1,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Index and Euclidean distance of the k nearest references, nearest first.

    Distances are in the arrays' own units, over all axes but the first, and are 0 for
    an exact copy. Raises ValueError on a k that is not from 1 to the number of
    references.
    """
    if not 1 <= k <= len(reference):
        raise ValueError(f"k is {k}, and there are {len(reference)} references")
    rows = max(1, min(len(x), _BLOCK // len(reference)))
    reference = jnp.asarray(reference).reshape(len(reference), -1)
    flat = np.asarray(x).reshape(len(x), reference.shape[1])
    return by_chunks(lambda part: _nearest(part, reference, k), flat, rows)


@jax.jit(static_argnums=2)
def _nearest(x, reference, k):
    x, reference = x.astype(jnp.float32), reference.astype(jnp.float32)
    # |x - r|^2 = |x|^2 - 2 x.r + |r|^2 cancels when everything is far from the origin.
    centre = reference.mean(0)
    ours, theirs = x - centre, reference - centre
    dots = jnp.matmul(ours, theirs.T, precision="highest")
    near = dots - 0.5 * jnp.square(theirs).sum(-1)
    # On a CPU a top-k is a full sort, many times slower than the product.
    index = near.argmax(-1)[:, None] if k == 1 else jax.lax.top_k(near, k)[1]
    # Again, exactly, for the few that won: a copy must be at 0.
    apart = jnp.square(x[:, None] - reference[index]).sum(-1)
    order = jnp.argsort(apart, -1)
    index, apart = (jnp.take_along_axis(v, order, -1) for v in (index, apart))
    return index.astype(jnp.int32), jnp.sqrt(apart)
