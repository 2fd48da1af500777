"""Transformers over patches as encoder and decoder (ViT-VQGAN, arXiv:2110.04627, 3.1).

A patch is a token, and a token a latent. After the blocks come two layers with a tanh
between them, and nothing after the last. Departs from the paper in its positions, fixed
sines and cosines instead of learned ones, so that one network takes any size. Causal in
time it is a tokenizer of images and videos, as OmniTokenizer is (arXiv:2406.09399,
section 3.1), with attention over all that came before, not over one axis at a time.
"""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp

from vqdit.fields import Checked, Count
from vqdit.nn import Attention, sincos_positions
from vqdit.nn.block import Identity, Mlp
from vqdit.nn.remat import Remat, recomputed, remat_by_word
from vqdit.shapes import AnyArray, Array, Float
from vqdit.signal.grids import Border, divide, divide_frames, fold, unfold


class TransformerSpec(Checked, nn.Module, kw_only=True):
    """The fields that every transformer backbone shares, encoder and decoder alike.

    width, depth, heads, mlp_ratio: of the transformer; ViT-VQGAN's Small, and its Base
        with 768, 12 and 12.
    out:    channels returned.
    dtype:  of activations and products; parameters and norms are float32.
    causal: no latent sees what comes after its frames.
    remat:  what of a block the backward pass computes again (`vqdit.nn.remat`).
    """

    width: int = 512
    depth: int = 8
    heads: int = 8
    mlp_ratio: int = 4
    out: int = 256
    dtype: str = "float32"
    causal: bool = False
    remat: Remat | None = None

    upgraded = staticmethod(remat_by_word)

    @property
    def context(self) -> None:
        """Unbounded: by attention an output depends on all of the signal, or past."""
        return None


class ViTSpec(TransformerSpec, kw_only=True):
    """The fields that ViTEncoder and ViTDecoder share.

    patch:  side of a patch, one number an axis, or one for all.
    causal: for video, (frames, height, width): 1 + t k frames become 1 + k, t the patch
        in time, which one number sets too; the first frame alone is an image.
    """

    patch: Count | tuple[Count, ...] = 8

    @property
    def factor(self) -> tuple[int, ...]:
        """The patch, an axis each; one number for all is told as of a picture."""
        if self.causal:
            return self.patches(3)
        return self.patches(2 if isinstance(self.patch, int) else len(self.patch))

    @property
    def borders(self) -> tuple[Border, ...]:
        """What lies outside, an axis each of `factor`."""
        return _borders(self, len(self.factor))

    @nn.nowrap
    def patches(self, axes: int) -> tuple[int, ...]:
        """Sides of a patch, an axis each. Raises ValueError for more or fewer."""
        patch = (self.patch,) * axes if isinstance(self.patch, int) else self.patch
        advice = f"a signal of {axes} axes; write one number for all, or {axes}"
        self.check("patch", len(patch) == axes, advice)
        return patch


class ViTEncoder(ViTSpec):
    """(b, *grid, c) -> (b, *grid / patch, out), for any number of axes."""

    patch: Count | tuple[Count, ...] = 8

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of a signal with these sides.

        Raises ValueError, naming the nearest sides that fit, if it has none.
        """
        if self.causal:
            return divide_frames(shape, self.factor)
        return divide(shape, self.patches(len(shape)))

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        grid = self.grid(x.shape[1:-1])
        x = embed(self, pieces(self, x), sincos_positions(grid, self.width))
        x = transformer(self, math.prod(grid[1:]) if self.causal else 0)(x)
        return head(self, x, self.out, self.dtype).reshape(len(x), *grid, self.out)


class ViTDecoder(ViTSpec):
    """(b, *grid, d) -> (b, *grid * patch, out): the encoder's mirror."""

    patch: Count | tuple[Count, ...] = 8
    out: int = dataclasses.field(default=3, kw_only=True)

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid2 out"]:
        grid = x.shape[1:-1]
        x = x.reshape(len(x), math.prod(grid), -1)
        x = embed(self, x, sincos_positions(grid, self.width))
        x = transformer(self, math.prod(grid[1:]) if self.causal else 0)(x)
        return pixels(self, x, grid)


class Transformer(nn.Module):
    """Blocks of attention and MLP, each residual and behind a LayerNorm; a last norm.

    Pre-norm as in ViT (arXiv:2010.11929, equations 2 and 3), without conditioning.

    block: how many tokens make a block that sees none after it; 0 for no such order.
    remat: what of a block the backward pass computes again.
    """

    depth: int
    heads: int
    mlp_ratio: int = 4
    dtype: str = "float32"
    block: int = 0
    remat: Remat | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        run = recomputed(Transformer._block, self.remat, static_argnums=2)
        for i in range(self.depth):
            x = run(self, x, f"block_{i:02}")
            x = Identity(name=f"block_{i:02}")(x)
        return self._norm("norm_out")(x)

    def _block(self, x, name):
        h = self._norm(f"{name}_attn_norm")(x)
        x = x + Attention(self.heads, block=self.block, name=f"{name}_attn")(h)
        h = self._norm(f"{name}_mlp_norm")(x)
        return x + Mlp(self.mlp_ratio, name=f"{name}_mlp")(h)

    def _norm(self, name):
        return nn.LayerNorm(1e-6, dtype=self.dtype, use_fast_variance=False, name=name)


def transformer(owner: nn.Module, block: int = 0) -> Transformer:
    """The owner's transformer, a submodule of it."""
    shape = (owner.depth, owner.heads, owner.mlp_ratio, owner.dtype)
    return Transformer(*shape, block, owner.remat, name="transformer")


def pieces(owner: nn.Module, x: Float[Array, "b *grid c"]) -> Float[Array, "b n d"]:
    """A signal as a sequence of patches."""
    patches = owner.patches(x.ndim - 2)
    x = fold(x, patches, _borders(owner, len(patches)))
    return x.reshape(len(x), -1, x.shape[-1])


def embed(
    owner: nn.Module,
    x: Float[Array, "b n c"],
    positions: Float[AnyArray, "n d"],
) -> Float[Array, "b n d"]:
    """Vectors to tokens with their positions."""
    into = nn.Dense(owner.width, dtype=owner.dtype, name="patch_in")
    return into(x.astype(owner.dtype)) + jnp.asarray(positions, owner.dtype)


def head(
    owner: nn.Module, x: Float[Array, "b n d"], out: int, dtype: str
) -> Float[Array, "b n out"]:
    """Two layers with a tanh between them; `dtype` is the last one's, exact float32."""
    hidden = owner.mlp_ratio * owner.width
    x = jnp.tanh(nn.Dense(hidden, dtype=owner.dtype, name="head_up")(x))
    exact = "highest" if dtype == "float32" else None
    return nn.Dense(out, dtype=dtype, precision=exact, name="head_down")(x)


def pixels(
    owner: nn.Module, x: Float[Array, "b n d"], grid: tuple[int, ...]
) -> Float[Array, "b *grid2 out"]:
    """One patch a token, put back where it belongs."""
    patches = owner.patches(len(grid))
    # float32: the reconstruction meets the loss.
    x = head(owner, x, math.prod(patches) * owner.out, "float32").astype(jnp.float32)
    return unfold(x.reshape(len(x), *grid, -1), patches, _borders(owner, len(grid)))


def _borders(owner, axes):
    return ("past" if owner.causal else "zero", *(("zero",) * (axes - 1)))
