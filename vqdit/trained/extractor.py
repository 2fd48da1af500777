"""Features of trained models: a value that says which, and a pure function inside it.

A layer is the path of a module, such as "encoder/down_0_block_0" or "block_03/attn", at
its output; Linen captures those that are asked for, and what no layer needs is not
computed.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.platform import in_32_bits
from vqdit.shapes import Array, Bool, Float
from vqdit.trained import inputs

POOLS = ("mean", "flat", "tokens")
Hidden = dict[str, Array]  # layer -> (b, n, c)


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor(inputs.Jitted):
    """Called as `extractor(x) -> {layer: features}`; made by `extractor` of a Codec, a
    Generator or a Judge.

    model:  of which.
    layers: by name; `layers` of the model lists them, and the path of any module within
        one is another.
    pool:   "mean" over places or tokens, (b, c); "flat", all one after the other, (b, n
        c); "tokens" as they are, (b, n, c). float32.
    """

    model: Any
    layers: tuple[str, ...]
    pool: str = "mean"

    def __post_init__(self):
        if self.pool not in POOLS:
            raise ValueError(f"pool={self.pool!r}: write one of {', '.join(POOLS)}")
        for layer in self.layers:
            if layer not in self.known:
                raise ValueError(
                    f"no layer {layer!r}: there are {', '.join(self.outer)}"
                )

    @functools.cached_property
    def known(self) -> dict[str, tuple[int, int]]:
        """Layer -> (tokens, channels) of all that can be asked for, traced."""
        raise NotImplementedError

    @property
    def outer(self) -> tuple[str, ...]:
        """Those that are not within others, which `layers` of a model lists."""
        raise NotImplementedError

    @property
    def variables(self) -> Any:
        """What `features` takes."""
        return self.model.variables

    @in_32_bits
    def features(self, variables: Any, x: Any) -> dict[str, Float[Array, "b *d"]]:
        """The features; pure, and checks nothing, for use inside a jit of your own."""
        hidden = self._hidden(variables, x)
        return {layer: pooled(hidden[layer], self.pool) for layer in self.layers}

    def _hidden(self, variables, x) -> Hidden:
        raise NotImplementedError

    @functools.cached_property
    def _jitted(self):
        return jax.jit(self.features)

    @in_32_bits
    def __call__(self, x: Any) -> dict[str, Float[Array, "b *d"]]:
        """Features of signals, jitted. Raises ValueError before anything compiles."""
        return self._jitted(self.variables, self._checked(x))

    def _checked(self, x) -> Any:
        raise NotImplementedError


class CodecExtractor(Extractor):
    """Of a tokenizer: "latents" before they are quantized, as `Codec.latents` has them;
    "quantized", what the decoder is fed; "codes", of each book a one-hot, whose mean is
    the histogram of an example; and the layers of its encoder and front end."""

    @functools.cached_property
    def known(self):
        contract = self.model.contract
        x = jax.ShapeDtypeStruct((2, *contract.shape), jnp.float32)
        capture = functools.partial(captured, self.model.module, method="encode")
        found = traced(lambda v, x: capture(v, None, x), self.variables, x)
        found["latents"] = (math.prod(contract.grid), contract.channels)
        found["quantized"] = found["latents"]
        if contract.codes:
            found["codes"] = (math.prod(contract.code_grid), sum(contract.codes))
        return found

    @property
    def outer(self):
        within = re.compile(r"encoder/(image/)?(?!image$)([^/]+|transformer/block_\d+)")
        return tuple(n for n in self.known if n in _OWN or within.fullmatch(n))

    def _hidden(self, variables, x):
        codec, layers = self.model, self.layers
        run = lambda name: codec.apply(name, variables, x)
        inner, found = [layer for layer in layers if layer not in _OWN[1:]], {}
        if inner:
            found = captured(codec.module, variables, inner, x, method="encode")
        if "latents" in layers:
            found["latents"] = run("latents")
        if {"quantized", "codes"} & set(layers):
            quantized = run("quantized")
            found["quantized"] = quantized.latents
        if "codes" in layers:
            books = jnp.split(quantized.codes, quantized.codes.shape[-1], axis=-1)
            counts = codec.contract.codes
            one_hot = map(jax.nn.one_hot, (book[..., 0] for book in books), counts)
            found["codes"] = jnp.concatenate([*one_hot], axis=-1)
        return {layer: _tokens(found[layer], len(x)) for layer in layers}

    def _checked(self, x):
        return inputs.signal(self.model.module, self.model.contract, x)


_OWN = ("front", "latents", "quantized", "codes")


class JudgeExtractor(Extractor):
    """Of a classifier: its layers, of which "features" and "logits" are the last."""

    @functools.cached_property
    def known(self):
        x = jax.ShapeDtypeStruct((2, *self.model.shape), jnp.float32)
        capture = functools.partial(captured, self.model.network)
        return traced(lambda v, x: capture(v, None, x), self.variables, x)

    @property
    def outer(self):
        return tuple(self.known)

    def _hidden(self, variables, x):
        x = self.model.signal(x)
        return captured(self.model.network, variables, self.layers, x)

    def _checked(self, x):
        x = x if hasattr(x, "dtype") else np.asarray(x)
        self.model.check_signals(x)
        picture = x
        if self.model.front is not None or x.ndim != 4:
            signals = jax.ShapeDtypeStruct(x.shape, jnp.float32)
            shown = jax.eval_shape(self.model.signal, signals)
            picture = jax.ShapeDtypeStruct(shown.shape, np.uint8)
        self.model.check(picture)
        return x


def pooled(
    h: Float[Array, "b n c"], pool: str, seen: Bool[Array, "b n"] | None = None
) -> Float[Array, "b *d"]:
    """Tokens as one vector, or as they are; those not seen count nothing, and are 0."""
    h = h.astype(jnp.float32)
    if seen is not None:
        h = jnp.where(seen[..., None], h, 0)
    if pool == "tokens":
        return h
    if pool == "flat":
        return h.reshape(len(h), -1)
    if seen is None:
        return h.mean(1)
    return h.sum(1) / jnp.maximum(seen.sum(1, keepdims=True), 1)


def captured(
    module: nn.Module,
    variables: Any,
    layers: Sequence[str] | None,
    *args: Any,
    method: str | None = None,
    **fields: Any,
) -> Hidden:
    """Outputs (b, n, c) of these layers, or of all, in the order of their calls."""
    wanted = None if layers is None else {tuple(each.split("/")) for each in layers}

    def keep(part, call):
        return call == "__call__" and (wanted is None or part.path in wanted)

    _, state = module.apply(
        variables,
        *args,
        method=method,
        capture_intermediates=keep,
        mutable=["intermediates"],
        **fields,
    )
    batch = len(jax.tree.leaves(args)[0])
    found = {}
    calls = flax.traverse_util.flatten_dict(dict(state.get("intermediates", {})))
    for (*path, _), outputs in calls.items():
        h = outputs[0]
        # What is called twice has no one output; what is no batch has no tokens.
        if path and len(outputs) == 1 and getattr(h, "ndim", 0) > 1:
            if len(h) % batch == 0:
                found["/".join(path)] = _tokens(h, batch)
    return found


def _tokens(h, batch):
    """(b, n, c) of (b, *grid, c), also where a module was shown (b frames, *grid, c) or
    (b n, c)."""
    return h.reshape(batch, -1, h.shape[-1])


def traced(function: Callable[..., Hidden], *args: Any) -> dict[str, tuple[int, int]]:
    """Layer -> (tokens, channels), as the function would find them."""
    found = {}

    def run(*args):
        found.update({layer: h.shape[1:] for layer, h in function(*args).items()})

    jax.eval_shape(run, *args)
    return found
