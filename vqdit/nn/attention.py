"""Multi-head self-attention."""

import flax.linen as nn
from jaxtyping import Array, Float

from vqdit.nn.fused import attend
from vqdit.nn.rotary import rotate


class Attention(nn.Module):
    """Softmax attention over all tokens; optional RMS-normalised queries and keys.

    Scores and softmax are float32 whatever the compute dtype. Raises ValueError when
    the heads do not divide the width.

    block: of `attend`: how many tokens make a block that sees none after it; 0 for no
        such order.
    """

    heads: int
    qk_norm: bool = False
    dtype: str = "float32"
    block: int = 0

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
        # Two axes, not three: the backward pass of a product then copies no transposes.
        x = x.reshape(-1, d)
        qkv = nn.Dense(3 * d, kernel_init=xavier, dtype=self.dtype, name="qkv")(x)
        # Heads first, then q, k and v: split over heads, each device has its own three.
        qkv = qkv.reshape(batch, n, self.heads, 3, d // self.heads)
        q, k, v = qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :]
        if self.qk_norm:
            q = nn.RMSNorm(dtype=self.dtype, name="query_norm")(q)
            k = nn.RMSNorm(dtype=self.dtype, name="key_norm")(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)

        def rows(x):
            return x.transpose(0, 2, 1, 3).reshape(-1, n, d // self.heads)

        y = attend(rows(q), rows(k), rows(v), self.block)
        y = y.reshape(batch, self.heads, n, -1).transpose(0, 2, 1, 3)
        y = y.reshape(-1, d)
        y = nn.Dense(d, kernel_init=xavier, dtype=self.dtype, name="out")(y)
        return y.reshape(batch, n, d)
