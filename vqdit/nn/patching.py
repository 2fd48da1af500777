"""n-D patches: a grid of vectors to a sequence of tokens and back."""

import jax.numpy as jnp

from vqdit.shapes import Array, Bool, Shaped
from vqdit.signal.grids import fold, unfold


def patchify(x: Shaped[Array, "b *grid c"], patch: int) -> Shaped[Array, "b n patch_c"]:
    """Cuts every spatial axis into pieces of `patch`; one token per piece.

    Tokens are in row-major order of the coarse grid; inside a token the order is
    (offset on axis 1, ..., offset on the last axis, channel), which is DiT's order of
    a Conv(patch, stride=patch) kernel flattened. Raises ValueError when an axis is not
    a multiple of the patch.
    """
    _check(x.shape[1:-1], patch)
    x = fold(x, (patch,) * (x.ndim - 2))
    return x.reshape(len(x), -1, x.shape[-1])


def unpatchify(
    tokens: Shaped[Array, "b n patch_c"], grid: tuple[int, ...], patch: int
) -> Shaped[Array, "b *grid c"]:
    """The inverse of `patchify` for a grid of the given (fine) shape."""
    _check(grid, patch)
    coarse = [size // patch for size in grid]
    x = tokens.reshape(len(tokens), *coarse, tokens.shape[-1])
    return unfold(x, (patch,) * len(grid))


def on_grid(
    known: Shaped[Array, "b *lead"], grid: tuple[int, ...]
) -> Bool[Array, "b *grid"]:
    """Where a mask is above 0, that has the first axes of a grid, some, all or none."""
    axes = (1,) * (1 + len(grid) - known.ndim)
    mask = (known > 0).reshape(*known.shape, *axes)
    return jnp.broadcast_to(mask, (len(known), *grid))


def _check(grid, patch):
    if patch < 1 or any(size % patch for size in grid):
        raise ValueError(
            f"patch {patch} does not divide the grid {tuple(grid)}; "
            f"write a patch that divides every side"
        )
