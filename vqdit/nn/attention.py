"""Multi-head self-attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vqdit.nn.rotary import rotate


class Attention(nn.Module):
    """Softmax attention over all tokens; optional RMS-normalised queries and keys.

    Scores and softmax are float32 whatever the compute dtype. Raises ValueError when
    the heads do not divide the width.
    """

    heads: int
    qk_norm: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], rotary: Float[Array, "n pairs"] | None = None
    ) -> Float[Array, "b n d"]:
        batch, n, d = x.shape
        if d % self.heads:
            raise ValueError(
                f"{self.heads} heads do not divide the width {d}; "
                f"write a number of heads that does"
            )
        xavier = nn.initializers.xavier_uniform()
        qkv = nn.Dense(3 * d, kernel_init=xavier, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(
            qkv.reshape(batch, n, 3, self.heads, d // self.heads), 2, 0
        )
        if self.qk_norm:
            q = nn.RMSNorm(dtype=self.dtype, name="query_norm")(q)
            k = nn.RMSNorm(dtype=self.dtype, name="key_norm")(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = jax.nn.dot_product_attention(q, k, v).reshape(batch, n, d)
        return nn.Dense(d, kernel_init=xavier, dtype=self.dtype, name="out")(y)
