"""Nearest neighbours by Euclidean distance, and how two sets lie among each other."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from vqdit.shapes import AnyArray, Float, Int, Num
from vqdit.signal.rows import by_chunks

# Distances held at once, in elements: 256 MiB of float32.
_BLOCK = 1 << 26


def nearest_neighbours(
    x: Num[AnyArray, "n *shape"],
    reference: Num[AnyArray, "r *shape"],
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


def neighbourhoods(
    real: Float[AnyArray, "n d"],
    samples: Float[AnyArray, "m d"],
    k: int = 5,
) -> dict[str, float]:
    """How samples lie among real features, by balls that reach to a point's k-th
    neighbour in its own set.

    precision: share of samples within a ball of a real one, and recall: share of the
        real within a ball of a sample (arXiv:1904.06991, eq. 2 and 3).
    density: balls of the real that a sample lies in, over k; 1 is expected of samples
        that are distributed alike. coverage: share of the real with a sample in their
        ball (arXiv:2002.09797, eq. 4 and 5).

    All depend on n, m and k: compare with a set of as many real ones. Raises ValueError
    for fewer than k + 1 of either, and for features that are not finite.
    """
    real, samples = (np.asarray(x, np.float64) for x in (real, samples))
    for x in (real, samples):
        if len(x) <= k or k < 1:
            raise ValueError(f"k is {k}, and there are {len(x)}: write more than k")
        if not np.isfinite(x).all():  # no ball would reach them, as if they were far
            raise ValueError("features are not all finite; they have no neighbours")
    around_real, around_sample = _radii(real, k), _radii(samples, k)
    precise, inside = 0, 0
    covered, recalled = np.zeros((2, len(real)), bool)
    for rows, apart in _distances(samples, real):
        within = apart <= around_real
        precise += int(within.any(1).sum())
        inside += int(within.sum())
        covered |= within.any(0)
        recalled |= (apart <= around_sample[rows, None]).any(0)
    return {
        "precision": precise / len(samples),
        "recall": float(recalled.mean()),
        "density": inside / (k * len(samples)),
        "coverage": float(covered.mean()),
    }


def _radii(x, k):
    """Distance of each to the k-th nearest of the others; it is itself the first."""
    return np.concatenate(
        [np.partition(apart, k, 1)[:, k] for _, apart in _distances(x, x)]
    )


def _distances(x, y) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows of x at a time: which, and how far each is from every row of y."""
    size = max(1, _BLOCK // 4 // len(y))
    for low in range(0, len(x), size):
        rows = slice(low, low + size)
        yield rows, cdist(x[rows], y)
