"""The transformer's block: attention and MLP, modulated by a conditioning vector."""

import itertools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vqdit.fields import Checked, Count, Positive
from vqdit.nn import fused
from vqdit.nn.attention import Attention, Implementation, QKNorm, choose
from vqdit.shapes import Array, Bool, Float

zeros = nn.initializers.zeros_init()
xavier = nn.initializers.xavier_uniform()

Activation = Literal["gelu_tanh", "gelu", "swiglu"]
Modulation = Literal["zero", "single"]


class Block(Checked, nn.Module):
    """x + gate attention(norm(x)), then x + gate MLP(norm(x)), in x's dtype.

    Norms are modulated: shift, scale and gate follow from the conditioning vector. The
    defaults are DiT's (arXiv:2212.09748, figure 3).

    heads:       of attention; they divide the width.
    mlp, mlp_ratio: of `Mlp`.
    norm, norm_scale: of `ModulatedNorm`.
    qk_norm:     of `Attention`.
    modulation:  "zero" is adaLN-Zero, a projection in each block that starts at zero,
                 so that at init the block is the identity. "single" is adaLN-single
                 (PixArt-alpha, arXiv:2310.00426, section 2.3): the network has one
                 projection, and each block a table that is added to it.
    shift:       False leaves shifts out, as LightningDiT may.
    own:         of "mlp" and "modulation", what each stream has for itself, which
                 multiplies their parameters and costs no time; the others share theirs,
                 and attention always (Mixture-of-Transformers, arXiv:2411.04996, less
                 its attention).
    layer_scale: where a learned factor per channel starts, on both branches (CaiT,
                 arXiv:2103.17239, section 2); None for no factor.
    implementation: of `attend`. GELU and norms have hand-written backward passes, which
                 keep their inputs alone, unless it is "plain"; `jax.jvp` needs that.
    """

    heads: Count = 6
    mlp: Activation = "gelu_tanh"
    mlp_ratio: Count | Positive = 4
    norm: fused.Norm = "layer"
    norm_scale: bool = False
    qk_norm: QKNorm | None = None
    modulation: Modulation = "zero"
    shift: bool = True
    layer_scale: float | None = None
    implementation: Implementation | None = None
    own: tuple[Literal["mlp", "modulation"], ...] = ()

    @property
    def parts(self) -> int:
        """Vectors that modulate one token: shift, scale and gate of each branch."""
        return 6 if self.shift else 4

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        c: Float[Array, "b s c"],
        lengths: tuple[int, ...],
        rotary: Float[Array, "n pairs"] | None = None,
        known: Bool[Array, "b n"] | None = None,
        owners: tuple[str, ...] = (),
    ) -> Float[Array, "b n d"]:
        """c holds conditioning vectors, or under "single" their projections to `parts`
        d channels, each of so many of the tokens as `lengths` says; `owners` are their
        streams, those of a stream together."""
        d = x.shape[-1]

        def modulation(own, c):
            name = f"{own}modulation"
            if self.modulation == "single":
                return add_table(self, f"{name}_table", c, self.parts)
            width = self.parts * d
            return nn.Dense(width, kernel_init=zeros, dtype=x.dtype, name=name)(
                nn.silu(c)
            )

        def mlp(own, h):
            fields = (self.mlp_ratio, self.mlp, self.implementation)
            return Mlp(*fields, name=f"{own}mlp")(h)

        ones = (1,) * len(owners)
        mods = by_stream(modulation, c, owners, ones, "modulation" in self.own)
        parts = jnp.split(per_token(mods, lengths), self.parts, axis=-1)
        half = self.parts // 2

        *shift, scale, gate = parts[:half]
        h = self.norm_of("attn_norm")(x, scale, *shift)
        h = Attention(
            self.heads, self.qk_norm, implementation=self.implementation, name="attn"
        )(h, rotary, known)
        x = x + self._scaled("attn_scale", gate) * h

        *shift, scale, gate = parts[half:]
        h = self.norm_of("mlp_norm")(x, scale, *shift)
        h = by_stream(mlp, h, owners, lengths, "mlp" in self.own)
        return x + self._scaled("mlp_scale", gate) * h

    def norm_of(self, name: str) -> "ModulatedNorm":
        fields = (self.norm, self.norm_scale, self.implementation)
        return ModulatedNorm(*fields, name=name)

    def _scaled(self, name, gate):
        if self.layer_scale is None:
            return gate
        init = nn.initializers.constant(self.layer_scale)
        return gate * self.param(name, init, gate.shape[-1:]).astype(gate.dtype)


class ModulatedNorm(nn.Module):
    """norm(x) (1 + scale) + shift; statistics in float32, taken in two passes.

    norm_scale: the norm has a learned scale besides, as LightningDiT's RMSNorm.
    """

    norm: fused.Norm = "layer"
    norm_scale: bool = False
    implementation: Implementation | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        scale: Float[Array, "b m d"],
        shift: Float[Array, "b m d"] | None = None,
    ) -> Float[Array, "b n d"]:
        """m is 1 or n. Returns the scale's type."""
        if self.norm_scale:
            own = self.param("scale", nn.initializers.ones, x.shape[-1:])
            scale = ((1 + scale) * own - 1).astype(scale.dtype)
        if shift is None:
            shift = jnp.zeros_like(scale)
        by_hand = choose(self.implementation) != "plain"
        modulate = fused.norm_modulate if by_hand else fused.modulated
        return modulate(x, shift, scale, self.norm)


class Identity(nn.Module):
    """x, under a name by which it can be captured (`vqdit.trained.extractor`)."""

    def __call__(self, x: Array) -> Array:
        return x


class Mlp(nn.Module):
    """Two layers with an activation between them, in x's dtype.

    ratio: of the hidden width to x's, rounded down. activation: GELU in its tanh form,
    as DiT, or exact; or SwiGLU (arXiv:2002.05202, eq. 6), whose third matrix is paid
    for by a ratio of 2/3.
    """

    ratio: int | float = 4
    activation: Activation = "gelu_tanh"
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        d = x.shape[-1]
        hidden = int(self.ratio * d + 1e-6)  # 8/3 of 1152 is 3072
        dense = lambda width, name: nn.Dense(
            width, kernel_init=xavier, dtype=x.dtype, name=name
        )
        # Two axes, not three: see Attention.
        rows = x.reshape(-1, d)
        h = dense(hidden, "up")(rows)
        if self.activation == "swiglu":
            h = h * nn.silu(dense(hidden, "gate")(rows))
        elif self.activation == "gelu_tanh" and choose(self.implementation) != "plain":
            h = fused.gelu(h)
        else:
            h = nn.gelu(h, approximate=self.activation == "gelu_tanh")
        return dense(d, "down")(h).reshape(x.shape)


def add_table(
    module: nn.Module, name: str, c: Float[Array, "b s c"], parts: int
) -> Float[Array, "b s c"]:
    """adaLN-single: c, which all blocks share, and a table of the module's own."""
    width = c.shape[-1] // parts
    # Starts as in the code of PixArt-alpha.
    init = nn.initializers.normal(width**-0.5)
    table = module.param(name, init, (parts, width))
    return c + table.reshape(-1).astype(c.dtype)


def by_stream(
    function: Callable[[str, Array], Array],
    x: Float[Array, "b k d"],
    owners: tuple[str, ...],
    lengths: tuple[int, ...],
    own: bool,
) -> Float[Array, "b k e"]:
    """function("", x), or where it is each stream's `own` function("NAME_", rows).

    Row after row of x is of an owner, as many as `lengths` says.
    """
    if not own:
        return function("", x)
    sizes: dict[str, int] = {}
    for name, length in zip(owners, lengths, strict=True):
        sizes[name] = sizes.get(name, 0) + length
    parts = jnp.split(x, np.cumsum(list(sizes.values()))[:-1], axis=1)
    named = zip(sizes, parts, strict=True)
    return jnp.concatenate([function(f"{name}_", part) for name, part in named], axis=1)


def per_token(
    mods: Float[Array, "b s d"], lengths: tuple[int, ...]
) -> Float[Array, "b m d"]:
    """Rows of `lengths` tokens each -> one per token; a single one just broadcasts
    (m = 1)."""
    if len(lengths) == 1 or sum(lengths) == len(lengths):
        return mods
    # Runs of one length are broadcast. The gradient of an index, which repeating each
    # row by its own length is, a GPU sums in an order of its own every time.
    parts, first = [], 0
    for length, run in itertools.groupby(lengths):
        last = first + len(list(run))
        parts.append(jnp.repeat(mods[:, first:last], length, axis=1))
        first = last
    return jnp.concatenate(parts, axis=1)
