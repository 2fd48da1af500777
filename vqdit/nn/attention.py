"""Multi-head self-attention, by whichever program suits the backend."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn import flash, fused
from vqdit.nn.rotary import rotate
from vqdit.platform import platform
from vqdit.shapes import Array, Bool, Float

Implementation = Literal["plain", "fused", "cudnn", "flash"]
QKNorm = Literal["rms", "layer"]


class Attention(nn.Module):
    """Softmax attention over all tokens, in x's dtype; scores and softmax in float32.

    Raises ValueError when the heads do not divide the width.

    qk_norm: of queries and keys, head by head, with learned scales: "rms"
        (arXiv:2302.05442 with RMSNorm), or "layer", which has biases too (timm's).
    block: of `attend`: how many tokens make a block that sees none after it; 0 for no
        such order.
    implementation: of `attend`.
    """

    heads: int
    qk_norm: QKNorm | None = None
    block: int = 0
    implementation: Implementation | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        rotary: Float[Array, "n pairs"] | None = None,
        known: Bool[Array, "b n"] | None = None,
    ) -> Float[Array, "b n d"]:
        """No token sees one that is not `known`."""
        batch, n, d = x.shape
        if d % self.heads:
            raise ValueError(
                f"{self.heads} heads do not divide the width {d}; "
                f"write a number of heads that does"
            )
        xavier = nn.initializers.xavier_uniform()
        # Two axes, not three: the backward pass of a product then copies no transposes.
        rows, dtype = x.reshape(-1, d), x.dtype
        qkv = nn.Dense(3 * d, kernel_init=xavier, dtype=dtype, name="qkv")(rows)
        # Heads first, then q, k and v: split over heads, each device has its own three.
        qkv = qkv.reshape(batch, n, self.heads, 3, d // self.heads)
        q, k, v = qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :]
        q, k = self._norm(q, "query_norm"), self._norm(k, "key_norm")
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = attend(q, k, v, known, self.block, self.implementation).reshape(-1, d)
        y = nn.Dense(d, kernel_init=xavier, dtype=dtype, name="out")(y)
        return y.reshape(batch, n, d)

    def _norm(self, x, name):
        if self.qk_norm == "rms":
            return nn.RMSNorm(dtype=x.dtype, name=name)(x)
        if self.qk_norm == "layer":
            norm = nn.LayerNorm(1e-5, dtype=x.dtype, use_fast_variance=False, name=name)
            return norm(x)
        return x


def attend(
    q: Float[Array, "b n h k"],
    k: Float[Array, "b n h k"],
    v: Float[Array, "b n h k"],
    known: Bool[Array, "b n"] | None = None,
    block: int = 0,
    implementation: Implementation | None = None,
) -> Float[Array, "b n h k"]:
    """softmax(q k^T / sqrt(k)) v, head by head; scores and softmax in float32.

    known: keys that may be seen. Where an example knows none, all are seen, so that
        its output, which nobody reads, is finite.
    block: consecutive tokens that see each other and those before them, not those of
        later blocks; 0 where all see all.
    implementation: "plain" differentiates in any order. The others keep nothing of size
        n x n for a backward pass written by hand, and have no forward mode: "fused" is
        written for XLA on a CPU, "cudnn" is a GPU's kernel and "flash" a TPU's. None is
        the backend's own, or plain where that one does not take the inputs.

    Raises ValueError where the implementation asked for does not take the inputs.
    """
    chosen = choose(implementation)
    obstacle = _obstacle(chosen, q, known, block)
    if obstacle and implementation:
        raise ValueError(
            f"attention by {chosen!r} takes {obstacle}; write implementation='plain'"
        )
    if known is not None:
        known = known | ~known.any(axis=1, keepdims=True)
    if chosen == "flash" and not obstacle:
        return flash.attend(q, k, v, known)
    n = q.shape[1]
    mask = _mask(n, known, block)
    if chosen == "fused":
        return fused.attend(q, k, v, mask)
    kernel: Literal["cudnn", "xla"] = (
        "cudnn" if chosen == "cudnn" and not obstacle else "xla"
    )
    mask = None if mask is None else jnp.broadcast_to(mask, (len(mask), 1, n, n))
    return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation=kernel)


def choose(implementation: Implementation | None) -> Implementation:
    """The implementation asked for, or the backend's own."""
    kernel: Implementation = "flash" if flash.usable() else "plain"
    own: dict[str, Implementation] = {"cpu": "fused", "gpu": "cudnn", "tpu": kernel}
    return implementation or own.get(platform(), "plain")


def _obstacle(chosen, q, known, block):
    """What the implementation takes, where this is not it; else empty."""
    n, width = q.shape[1], q.shape[3]
    if chosen == "cudnn":
        if q.dtype not in (jnp.bfloat16, jnp.float16):
            return f"bfloat16 or float16, not {q.dtype}"
        if width % 8 or width > 128:
            return f"a head width up to 128 that 8 divides, not {width}"
        if n % 2 and (known is not None or block):
            return f"a mask over an even number of tokens, not {n}"
    if chosen == "flash":
        if platform() == "gpu":
            return "a TPU"
        if block:
            return "no order of blocks"
        if n % flash.TILE:
            return f"a multiple of {flash.TILE} tokens, not {n}"
        if width > flash.TILE and width % flash.TILE:
            return f"a head width below {flash.TILE} or a multiple of it, not {width}"
    return ""


def _mask(n, known, block):
    """(b or 1, 1, n or 1, n), true where a query sees a key; None where all see all."""
    mask = None if known is None else known[:, None, None]
    if block:
        turn = jnp.arange(n) // block
        order = (turn[:, None] >= turn)[None, None]
        mask = order if mask is None else mask & order
    return mask
