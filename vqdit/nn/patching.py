"""n-D patches: a grid of vectors to a sequence of tokens and back."""

import math

from jaxtyping import Array, Shaped


def patchify(x: Shaped[Array, "b *grid c"], patch: int) -> Shaped[Array, "b n patch_c"]:
    """Cuts every spatial axis into pieces of `patch`; one token per piece.

    Tokens are in row-major order of the coarse grid; inside a token the order is
    (offset on axis 1, ..., offset on the last axis, channel), which is DiT's order of
    a Conv(patch, stride=patch) kernel flattened. Raises ValueError when an axis is not
    a multiple of the patch.
    """
    batch, *grid, channels = x.shape
    _check(grid, patch)
    d = len(grid)
    split = [size for g in grid for size in (g // patch, patch)]
    x = x.reshape(batch, *split, channels)
    coarse = [1 + 2 * i for i in range(d)]
    fine = [2 + 2 * i for i in range(d)]
    x = x.transpose(0, *coarse, *fine, 1 + 2 * d)
    return x.reshape(batch, math.prod(g // patch for g in grid), -1)


def unpatchify(
    tokens: Shaped[Array, "b n patch_c"], grid: tuple[int, ...], patch: int
) -> Shaped[Array, "b *grid c"]:
    """The inverse of `patchify` for a grid of the given (fine) shape."""
    _check(grid, patch)
    d = len(grid)
    coarse = [g // patch for g in grid]
    batch, _, width = tokens.shape
    channels = width // patch**d
    x = tokens.reshape(batch, *coarse, *([patch] * d), channels)
    order = [axis for i in range(d) for axis in (1 + i, 1 + d + i)]
    return x.transpose(0, *order, 1 + 2 * d).reshape(batch, *grid, channels)


def _check(grid, patch):
    if patch < 1 or any(size % patch for size in grid):
        raise ValueError(
            f"patch {patch} does not divide the grid {tuple(grid)}; "
            f"write a patch that divides every side"
        )
