"""Gumbel-softmax quantization (arXiv:1611.01144; VQGAN's, arXiv:2012.09841)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.fields import Count, Natural, Positive
from vqdit.quantizers.codebook.assignment import assign
from vqdit.quantizers.codebook.book import Book, Lookup
from vqdit.quantizers.codebook.health import Window
from vqdit.quantizers.codebook.search import Codes, best
from vqdit.shapes import Array, Float, Int
from vqdit.sums import Adding, take


class GumbelQuantizer(Book):
    """Logits of a linear layer choose the code; training samples it with a gradient.

    y = softmax((logits + g) / t), g standard Gumbel noise (eq. 2), and the latents are
    y E; with `hard` the one-hot argmax of y forward and y backward (straight-through
    Gumbel-softmax, section 2.2). Outside training the code is the argmax of the logits,
    the limit of small t without noise. The loss "kl" is that of softmax(logits) from
    the uniform distribution, a mean over vectors, as in VQGAN.

    y is never whole: see `assign`.

    num_codes: k, of codewords.
    dim: d, channels of a codeword.
    hard: whether one code alone goes forward.
    temperature: t, at the first step of training.
    least: temperature that is never gone below.
    decay_steps: t falls exponentially to `least` over so many calls in training; 0
        keeps it.
    scores, adding: of `NearestBook`.
    """

    num_codes: Codes
    dim: Count
    hard: bool = True
    temperature: Positive = 1.0
    least: Positive = 0.0625
    decay_steps: Natural = 0
    window: Window | None = None
    scores: Count | None = None
    adding: Adding | None = None

    def _codebook(self):
        scale = nn.initializers.normal(self.dim**-0.5)
        self.table = self.param("codewords", scale, (self.num_codes, self.dim))
        self.logits = nn.Dense(self.num_codes, precision="highest", name="logits")
        # Training has the collection; a bundle does not, and does not need it.
        if self.decay_steps and self.is_mutable_collection("usage"):
            self.calls = self.variable("usage", "calls", jnp.zeros, (), jnp.int32)

    def search(self, u: Float[Array, "n d"]) -> Int[Array, "n"]:
        kernel, bias = self._linear()
        return best(u, kernel.T, bias, self.scores)

    def look_up(self, index: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        return take(jnp.asarray(self.table), index, self.adding, self.scores)

    def quantize(self, u: Float[Array, "n d"], *, train: bool, key: Any) -> Lookup:
        """Vectors to their codes, sampled in training, for which it needs `key`."""
        if self.is_initializing():
            self.logits(u[:1])  # a submodule's parameters exist once it is called
        drawn = train and not self.is_initializing()
        if drawn and key is None:
            raise ValueError("Gumbel quantization samples in training: pass key=")
        temperature = self._temperature(drawn)
        kernel, bias = self._linear()
        e = jnp.asarray(self.table)

        def noise(row, code, shape):
            drawn = jax.random.fold_in(key, row)
            # The first block's as where there is but one.
            drawn = jax.lax.cond(
                code == 0, lambda: drawn, lambda: jax.random.fold_in(drawn, code)
            )
            return jax.random.gumbel(drawn, shape)

        if not drawn:
            index = self.search(u)
            q = self.look_up(index)
            metrics = self.observe(u, index, train=train, key=key)
            return self.answer(q, q, index, {}, metrics)
        soft = functools.partial(assign, u, kernel.T, bias, scores=self.scores)
        p = soft(jax.lax.stop_gradient(e))
        values = jax.lax.stop_gradient(e) if self.hard else e
        y = soft(values, 1 / temperature, noise)
        q = self.look_up(y.index)
        out = y.mixture
        if self.hard:
            out = q + (out - jax.lax.stop_gradient(out))
        metrics = self.observe(u, y.index, train=train, key=key)
        # sum p (log p + log k)
        losses = {"kl": jnp.log(self.num_codes) - p.entropy / u.shape[0]}
        return self.answer(q, out, y.index, losses, metrics)

    def _linear(self):
        params = self.logits.variables["params"]
        return params["kernel"], params["bias"]

    def _temperature(self, drawn):
        if not (self.decay_steps and drawn):
            return self.temperature
        share = jnp.minimum(self.calls.value / self.decay_steps, 1.0)
        self.calls.value = self.calls.value + 1
        # It only falls: one that starts below `least` stays.
        return self.temperature * min(self.least / self.temperature, 1.0) ** share
