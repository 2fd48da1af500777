"""Transformers over patches as encoder and decoder (ViT-VQGAN, arXiv:2110.04627, 3.1).

A patch is a token, and a token a latent. After the blocks come two layers with a tanh
between them, and nothing after the last. Departs from the paper in its positions, fixed
sines and cosines instead of learned ones, so that one network takes any size.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vqdit.nn import Attention, patchify, sincos_positions, unpatchify
from vqdit.nn.block import Mlp
from vqdit.tokenizer.convolution import divide


class ViTEncoder(nn.Module):
    """(b, *grid, c) -> (b, *grid / patch, out), for any number of axes.

    patch:     side of a patch, along every axis.
    width, depth, heads, mlp_ratio: of the transformer; the paper's Small, and its Base
        with 768, 12 and 12.
    """

    patch: int = 8
    width: int = 512
    depth: int = 8
    heads: int = 8
    mlp_ratio: int = 4
    out: int = 256
    dtype: str = "float32"

    @property
    def factor(self) -> int:
        """How much smaller the grid comes out, per axis."""
        return self.patch

    @property
    def context(self) -> tuple[int, int]:
        """Refused: what an output depends on has no bounds here."""
        return unbounded(self)

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of a signal with these sides.

        Raises ValueError, naming the nearest sides that fit, if it has none.
        """
        return divide(shape, self.patch)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        grid = self.grid(x.shape[1:-1])
        x = embed(self, patchify(x, self.patch), sincos_positions(grid, self.width))
        x = transformer(self)(x)
        return head(self, x, self.out, self.dtype).reshape(len(x), *grid, self.out)


class ViTDecoder(nn.Module):
    """(b, *grid, d) -> (b, *grid * patch, out): the encoder's mirror."""

    patch: int = 8
    width: int = 512
    depth: int = 8
    heads: int = 8
    mlp_ratio: int = 4
    out: int = 3
    dtype: str = "float32"

    @property
    def factor(self) -> int:
        """How much larger the grid comes out, per axis."""
        return self.patch

    @property
    def context(self) -> tuple[int, int]:
        """Refused: what an output depends on has no bounds here."""
        return unbounded(self)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        grid = x.shape[1:-1]
        x = x.reshape(len(x), math.prod(grid), -1)
        x = embed(self, x, sincos_positions(grid, self.width))
        return pixels(self, transformer(self)(x), grid)


class Transformer(nn.Module):
    """Blocks of attention and MLP, each residual and behind a LayerNorm; a last norm.

    Pre-norm as in ViT (arXiv:2010.11929, equations 2 and 3), without conditioning.
    """

    depth: int
    heads: int
    mlp_ratio: int = 4
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        norm = lambda name: nn.LayerNorm(1e-6, dtype=self.dtype, name=name)
        for i in range(self.depth):
            block = f"block_{i:02}"
            h = norm(f"{block}_attn_norm")(x)
            x = x + Attention(self.heads, dtype=self.dtype, name=f"{block}_attn")(h)
            h = norm(f"{block}_mlp_norm")(x)
            x = x + Mlp(self.mlp_ratio, self.dtype, name=f"{block}_mlp")(h)
        return norm("norm_out")(x)


def transformer(owner: nn.Module) -> Transformer:
    """The owner's transformer, a submodule of it."""
    return Transformer(
        owner.depth, owner.heads, owner.mlp_ratio, owner.dtype, name="transformer"
    )


def embed(
    owner: nn.Module,
    x: Float[Array, "b n c"],
    positions: Float[np.ndarray | Array, "n d"],
) -> Float[Array, "b n d"]:
    """Vectors to tokens with their positions."""
    into = nn.Dense(owner.width, dtype=owner.dtype, name="patch_in")
    return into(x.astype(owner.dtype)) + jnp.asarray(positions, owner.dtype)


def head(
    owner: nn.Module, x: Float[Array, "b n d"], out: int, dtype: str
) -> Float[Array, "b n out"]:
    """Two layers with a tanh between them; `dtype` is the last one's."""
    hidden = owner.mlp_ratio * owner.width
    x = jnp.tanh(nn.Dense(hidden, dtype=owner.dtype, name="head_up")(x))
    return nn.Dense(out, dtype=dtype, name="head_down")(x)


def pixels(
    owner: nn.Module, x: Float[Array, "b n d"], grid: tuple[int, ...]
) -> Float[Array, "b *grid2 out"]:
    """One patch a token, put back where it belongs."""
    # float32: the reconstruction meets the loss.
    x = head(owner, x, owner.patch ** len(grid) * owner.out, "float32")
    fine = tuple(owner.patch * size for size in grid)
    return unpatchify(x.astype(jnp.float32), fine, owner.patch)


def unbounded(owner: nn.Module) -> tuple[int, int]:
    """Refuses to say how far an output sees."""
    raise ValueError(
        f"{type(owner).__name__} cannot work in chunks: by attention every output "
        f"depends on the whole signal; use WaveEncoder and WaveDecoder, or "
        f"CausalEncoder and CausalDecoder"
    )
