"""An image as a short sequence of tokens (TiTok, arXiv:2406.07550, section 3.2).

k learned tokens go through the encoder beside the patches, and they alone are kept;
the decoder is given them beside mask tokens, one for each patch to be drawn. So k is
free of the image's size, and a token is of no place in it. Departs from the paper in
its training: its decoder first learns the codes of another tokenizer, here it learns
pixels from the start.
"""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp

from vqdit.fields import Count
from vqdit.nn import sincos_positions
from vqdit.shapes import Array, Float
from vqdit.signal.grids import divide
from vqdit.tokenizer.vit import ViTSpec, embed, pieces, pixels, transformer

normal = nn.initializers.normal(0.02)


class TiTokEncoder(ViTSpec):
    """(b, *grid, c) -> (b, tokens, out): a sequence, whatever the grid.

    tokens: how many. The other fields are ViTEncoder's.
    """

    tokens: Count = 32
    patch: Count | tuple[Count, ...] = dataclasses.field(default=16, kw_only=True)

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @property
    def placed(self) -> bool:
        """Whether a latent stands for a part of the signal."""
        return False

    def grid(self, shape: tuple[int, ...]) -> tuple[int]:
        """(tokens,). Raises ValueError for sides that are no multiples of the patch."""
        divide(shape, self.patches(len(shape)))
        return (self.tokens,)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b k out"]:
        grid = divide(x.shape[1:-1], self.patches(x.ndim - 2))
        x = embed(self, pieces(self, x), sincos_positions(grid, self.width))
        tokens = self.param("latent_tokens", normal, (self.tokens, self.width))
        tokens = jnp.broadcast_to(tokens.astype(x.dtype), (len(x), *tokens.shape))
        x = transformer(self)(jnp.concatenate([x, tokens], axis=1))
        return nn.Dense(self.out, dtype=self.dtype, name="out")(x[:, -self.tokens :])


class TiTokDecoder(ViTSpec):
    """(b, k, d) -> (b, *size, out).

    size: of the signal, which a sequence does not tell. The other fields are
        ViTDecoder's.
    """

    size: tuple[int, ...]  # type: ignore[misc]  # ViTSpec's are by keyword
    patch: Count | tuple[Count, ...] = dataclasses.field(default=16, kw_only=True)
    out: int = dataclasses.field(default=3, kw_only=True)

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "b k d"]) -> Float[Array, "b *size out"]:
        grid = divide(self.size, self.patches(len(self.size)))
        positions = self.param("latent_positions", normal, (x.shape[1], self.width))
        x = embed(self, x, positions)
        mask = self.param("mask_token", normal, (1, self.width))
        masks = (mask + sincos_positions(grid, self.width)).astype(x.dtype)
        masks = jnp.broadcast_to(masks, (len(x), *masks.shape))
        x = transformer(self)(jnp.concatenate([masks, x], axis=1))
        return pixels(self, x[:, : math.prod(grid)], grid)


def _check(owner):
    advice = "a token is of no place in the signal, and so of no time; write False"
    owner.check("causal", not owner.causal, advice)
