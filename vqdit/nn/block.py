"""The DiT block (arXiv:2212.09748, figure 3, adaLN-Zero)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vqdit.nn.attention import Attention
from vqdit.nn.fused import gelu, norm_modulate

zeros = nn.initializers.zeros_init()


class Block(nn.Module):
    """Attention and MLP, each gated by the conditioning vector.

    At init every gate is 0, so the block is the identity.
    """

    heads: int
    mlp_ratio: int = 4
    qk_norm: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        c: Float[Array, "b s d"],
        lengths: tuple[int, ...],
        rotary: Float[Array, "n pairs"] | None = None,
    ) -> Float[Array, "b n d"]:
        """c holds one vector per stream; `lengths` are the streams' token counts."""
        d = x.shape[-1]
        mods = nn.Dense(6 * d, kernel_init=zeros, dtype=self.dtype, name="modulation")(
            nn.silu(c)
        )
        mods = per_token(mods, lengths)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(mods, 6, axis=-1)

        h = norm_modulate(x, shift1, scale1)
        h = Attention(self.heads, self.qk_norm, self.dtype, name="attn")(h, rotary)
        x = x + gate1 * h

        h = norm_modulate(x, shift2, scale2)
        h = Mlp(self.mlp_ratio, self.dtype, name="mlp")(h)
        return x + gate2 * h


class Mlp(nn.Module):
    """Two layers with the tanh form of GELU, as in DiT."""

    ratio: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        d = x.shape[-1]
        xavier = nn.initializers.xavier_uniform()
        # Two axes, not three: see Attention.
        h = x.reshape(-1, d)
        h = nn.Dense(self.ratio * d, kernel_init=xavier, dtype=self.dtype, name="up")(h)
        h = nn.Dense(d, kernel_init=xavier, dtype=self.dtype, name="down")(gelu(h))
        return h.reshape(x.shape)


def per_token(
    mods: Float[Array, "b s d"], lengths: tuple[int, ...]
) -> Float[Array, "b m d"]:
    """One row per stream -> one per token; a single stream just broadcasts (m = 1)."""
    if len(lengths) == 1:
        return mods
    return jnp.repeat(
        mods, jnp.array(lengths), axis=1, total_repeat_length=sum(lengths)
    )
