"""One book of codes: what every quantizer with a single code per vector shares.

A book works in steps that composites call one by one: `project` into the space of its
codewords, `search` for the index, `look_up` the codeword, `pull` and `penalties` for
the losses, `observe` for metrics and everything that learns without a gradient.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.fields import Checked
from vqdit.quantizers.codebook.estimators import estimate
from vqdit.quantizers.codebook.health import LEAST, UsageWindow, window_of
from vqdit.quantizers.quantized import Quantized
from vqdit.shapes import Array, Float, Int, Key


@dataclasses.dataclass(frozen=True)
class Lookup:
    """One book's, on rows (n, d) of its space.

    q: the codewords. out: q, or close to it, with the method's gradient to its input.
    """

    q: Array
    out: Array
    index: Array
    losses: dict[str, Array]
    metrics: dict[str, Array]


class Quantizer(Checked, nn.Module):
    """A subclass has `quantized`, `decode`, and properties `dim` and `code_counts`.

    `quantized(z, train, key)` is the call on float32; losses are training's alone.

    One that can wait for data has `from_data(variables, key, z, iterations)`, which
    gives its own {"params": ..., "codebook": ...} set from latents z, and metrics; it
    is called on the module unbound.

    A field `window` is checked here, and has at least 10 codes for each of a book's.
    """

    def __post_init__(self):
        super().__post_init__()
        if getattr(self, "window", None) is None:
            return
        codes = max(self.code_counts)
        lost = math.exp(-self.window / codes)
        self.check(
            "window",
            self.window >= LEAST * codes,
            f"of {codes} codes in even use {lost:.2%} would not be in it, and count as "
            f"dead; write at least {LEAST * codes}, or None",
        )
        if self.window == window_of(codes):  # one value has one form
            object.__setattr__(self, "window", None)

    @staticmethod
    def upgraded(fields: dict[str, Any]) -> dict[str, Any]:
        """Files of before may have a window that is too short now."""
        if not fields.get("window"):
            return fields
        levels = fields.get("levels") or [2] * fields.get("bits", 0)
        codes = fields.get("num_codes") or math.prod(levels)
        short = fields["window"] < LEAST * codes
        return {**fields, "window": None} if short else fields

    def __call__(
        self,
        z: Float[Array, "*b d"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> Quantized:
        """`key` is needed in training by methods that draw. Raises ValueError where it
        is and there is none, and for a z of other channels than `dim`."""
        if z.shape[-1] != self.dim:
            name = type(self).__name__
            raise ValueError(f"z is {z.shape}; the {name}'s dim is {self.dim}")
        # Distances, losses and statistics are float32 whatever the compute dtype.
        found = self.quantized(z.astype(jnp.float32), train, key)
        return found.replace(
            latents=found.latents.astype(z.dtype),
            metrics=jax.tree.map(jax.lax.stop_gradient, found.metrics),
        )


class Book(Quantizer):
    """A subclass has the field `window`, and `num_codes` and `dim`.

    window:    codes of training that usage is counted over; None for 65,536, or more
        where the codes are many.
    estimator: how the gradient passes the choice of a code, see `codebook.estimators`.
    """

    @property
    def estimator(self) -> Any:
        """Of its gradient; None where codewords have one of their own."""
        return None

    @property
    def code_counts(self) -> tuple[int, ...]:
        """Codes in each codebook."""
        return (self.num_codes,)

    @property
    def shrink(self) -> float:
        """How much smaller the codewords of the next book of a residual should be."""
        return 1.0

    def setup(self):
        window = window_of(self.num_codes, self.window)
        self.usage = UsageWindow(self.num_codes, window, name="usage")
        self._codebook()

    def _codebook(self):
        pass  # nothing to learn

    def ready(self) -> Any:
        """False while the codebook waits for data."""
        return True

    def project(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """z, float32, in the space where codewords are; differentiable."""
        return z

    def pull(self, u: Array, q: Array) -> dict[str, Array]:
        """The losses that bring vectors and codewords together."""
        return {}

    def penalties(self, u: Array, q: Array) -> dict[str, Array]:
        """The losses about how codes are used or lie."""
        return {}

    def decode(self, codes: Int[Array, "*b 1"]) -> Float[Array, "*b d"]:
        """Codes -> latents, float32."""
        return self.look_up(codes[..., 0])

    def quantize(self, u: Float[Array, "n d"], *, train: bool, key: Any) -> Lookup:
        """Projected vectors to their codes; while not ready, at no loss."""
        index = self.search(jax.lax.stop_gradient(u))
        q = self.look_up(index)
        losses = self.pull(u, q) | self.penalties(u, q) if train else {}
        metrics = self.observe(u, index, train=train, key=key)
        return self.answer(q, estimate(self.estimator, u, q), index, losses, metrics)

    def answer(self, q, out, index, losses, metrics) -> Lookup:
        """With losses only once ready."""
        ready = self.ready()
        losses = {name: value * ready for name, value in losses.items()}
        return Lookup(q, out, index, losses, metrics)

    def observe(
        self, u: Float[Array, "n d"], index: Int[Array, "n"], *, train: bool, key: Any
    ) -> dict[str, Array]:
        """Metrics of these codes; in training the window's, after all has learned."""
        metrics = self.usage.observe(index, train, self.ready())
        if train and not self.is_initializing():
            metrics |= self.learn(jax.lax.stop_gradient(u), index, key)
        return metrics

    def learn(self, u: Array, index: Array, key: Any) -> dict[str, Array]:
        """What changes without a gradient in training, and metrics of it."""
        return {}

    def quantized(self, z: Array, train: bool, key: Any) -> Quantized:
        u = self.project(z.reshape(-1, self.dim))
        part = self.quantize(u, train=train, key=key)
        latents = jnp.where(self.ready(), part.out if train else part.q, u)
        return Quantized(
            latents=latents.reshape(z.shape),
            codes=part.index.reshape(*z.shape[:-1], 1),
            losses=part.losses,
            metrics=part.metrics,
        )
