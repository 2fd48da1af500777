"""Finite scalar quantization (arXiv:2309.15505): a grid instead of a codebook."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from vqdit.quantizers.health import UsageWindow, usage_metrics
from vqdit.quantizers.quantized import Quantized, straight_through


class FSQ(nn.Module):
    """Bounds every channel and rounds it to one of levels[i] values in [-1, 1].

    The product of the levels is the number of codes; a code is the mixed-radix number
    of its channels' levels, first channel fastest (the paper's appendix A.1). Departs
    from its listing in the shift of even levels: atanh, which centres the bounded
    range as the text says, where the listing has tan.
    """

    levels: tuple[int, ...]
    window: int = 65_536

    def __post_init__(self):
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels or min(self.levels) < 2:
            raise ValueError(
                f"FSQ.levels {self.levels}: write at least 2 levels for every channel"
            )
        super().__post_init__()

    @property
    def dim(self) -> int:
        """Channels of z."""
        return len(self.levels)

    @property
    def num_codes(self) -> int:
        """Codes in all."""
        return math.prod(self.levels)

    @property
    def code_counts(self) -> tuple[int, ...]:
        """Codes in each codebook."""
        return (self.num_codes,)

    def setup(self):
        self.usage = UsageWindow(self.num_codes, self.window, name="usage")

    def decode(self, codes: Int[Array, "*b 1"]) -> Float[Array, "*b d"]:
        """Codes -> latents, float32."""
        levels = np.array(self.levels)
        digits = codes // self._basis() % levels
        half = levels // 2
        return (digits - half) / half.astype(np.float32)

    def __call__(
        self,
        z: Float[Array, "*b d"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> Quantized:
        """`key` is not used; nothing is drawn."""
        del key
        if z.shape[-1] != self.dim:
            raise ValueError(f"z is {z.shape}; FSQ has {self.dim} levels")
        levels = np.array(self.levels)
        half = levels // 2
        bounded = self._bound(z.astype(jnp.float32))
        digits = jnp.round(bounded).astype(jnp.int32) + half
        # The bound's margin of a thousandth is more than a level when they are many.
        digits = jnp.clip(digits, 0, levels - 1)
        codes = (digits * self._basis()).sum(-1, keepdims=True).astype(jnp.int32)
        latents = self.decode(codes)
        if train:
            scaled = bounded / half.astype(np.float32)
            latents = straight_through(scaled, latents)
        if self.is_initializing():
            self.usage.metrics()  # a submodule's state exists once it is called
        if train and not self.is_initializing():
            self.usage.update(codes.reshape(-1))
            metrics = self.usage.metrics()
        else:
            counts = jnp.zeros(self.num_codes, jnp.int32)
            metrics = usage_metrics(counts.at[codes.reshape(-1)].add(1))
        metrics = {name: lax.stop_gradient(value) for name, value in metrics.items()}
        return Quantized(latents.astype(z.dtype), codes, {}, metrics)

    def _bound(self, z):
        levels = np.array(self.levels)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = np.where(levels % 2 == 0, 0.5, 0.0)
        shift = np.arctanh(offset / half)
        return jnp.tanh(z + shift) * half - offset

    def _basis(self):
        return np.concatenate([[1], np.cumprod(self.levels[:-1])]).astype(np.int32)
