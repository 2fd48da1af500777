"""Embeddings of time, label and codes, and fixed sin-cos positions."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.shapes import Array, Float, Int
from vqdit.split import whole_table
from vqdit.sums import Adding, take

normal = nn.initializers.normal(0.02)
MOST = 2**28  # values of a table of positions


class TimeEmbedding(nn.Module):
    """t in [0, 1] -> a vector of the given width, as in DiT (arXiv:2212.09748).

    Sinusoids of scale * t and a two-layer MLP. DiT counts a thousand integer steps;
    SiT's scale is 1.
    """

    width: int
    scale: float = 1000.0
    features: int = 256
    dtype: str = "float32"

    @nn.compact
    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b d"]:
        half = self.features // 2
        frequencies = np.exp(-np.log(10_000.0) * np.arange(half) / half)
        # float32 whatever the compute dtype: bfloat16 cannot tell 999 from 1000.
        angles = self.scale * t.astype(jnp.float32)[..., None] * frequencies
        x = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        x = nn.Dense(self.width, kernel_init=normal, dtype=self.dtype, name="up")(x)
        x = nn.silu(x)
        return nn.Dense(self.width, kernel_init=normal, dtype=self.dtype, name="down")(
            x
        )


class LabelEmbedding(nn.Module):
    """Class label -> vector. Label `classes` is the null class, for guidance.

    adding: how the table's gradient is summed, see `vqdit.sums`; "product", None's on a
        GPU or TPU, is the same in every run.
    """

    classes: int
    width: int
    adding: Adding | None = None

    @nn.compact
    def __call__(self, label: Int[Array, "b"]) -> Float[Array, "b d"]:
        table = self.param("table", normal, (self.classes + 1, self.width))
        return take(whole_table(table, label.size), label, self.adding)


class CodeEmbedding(nn.Module):
    """The sum over books of one embedding each; `adding` as of LabelEmbedding."""

    vocab: int
    books: int
    width: int
    initializer: jax.nn.initializers.Initializer
    adding: Adding | None = None

    @nn.compact
    def __call__(self, codes: Int[Array, "b *grid m"]) -> Float[Array, "b n d"]:
        table = self.param(
            "table", self.initializer, (self.books * self.vocab, self.width)
        )
        offsets = jnp.arange(self.books) * self.vocab
        flat = codes.reshape(codes.shape[0], -1, self.books)
        table = whole_table(table, flat.size)
        return take(table, flat + offsets, self.adding).sum(axis=2)


def sincos_positions(grid: tuple[int, ...], width: int) -> np.ndarray:
    """Fixed positions of an n-D grid, (prod(grid), width) float32, row-major.

    Each axis gets an equal share of the width, half sines and half cosines, last axis
    first as in DiT and MAE; channels left over by the division stay 0. Raises
    ValueError when the width cannot hold one pair per axis.
    """
    axes = max(len(grid), 1)
    half = width // (2 * axes)
    if half < 1:
        raise ValueError(
            f"width {width} is too small for positions on {axes} axes; "
            f"write a width of at least {2 * axes}"
        )
    n = math.prod(grid)
    if n * width > MOST:
        raise ValueError(
            f"a table of {n} places by {width} is too large; write positions='rotary', "
            f"or a smaller grid"
        )
    frequencies = 10_000.0 ** (-np.arange(half) / half)
    parts = []
    for position in reversed(np.indices(grid).reshape(len(grid), n)):
        angles = position[:, None] * frequencies
        parts += [np.sin(angles), np.cos(angles)]
    parts.append(np.zeros((n, width - 2 * half * len(grid))))
    return np.concatenate(parts, axis=1).astype(np.float32)
