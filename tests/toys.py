"""A tiny tokenizer and tiny models whose weights are drawn, not initialised.

A new module's outputs are zero, and initialising one compiles every operation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import (
    FSQ,
    Codec,
    Continuous,
    ConvDecoder,
    ConvEncoder,
    Discrete,
    DiT,
    Gaussian,
    Generator,
    Masking,
    Tokenizer,
)
from vqdit.nn import Block
from vqdit.trained.contract import contract_of


@functools.partial(jax.jit, static_argnums=0)
def _begun(module, *inputs):
    return module.init(jax.random.key(0), *inputs)


def drawn(module, *inputs):
    """Variables of the module: floats normal, codebooks ready, all else zero."""
    # By a jit, which knows those of a module that it has traced before.
    shapes = _begun.eval_shape(module, *inputs)
    source = np.random.default_rng(0)

    def fill(path, leaf):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(source.normal(0, 0.3, leaf.shape), leaf.dtype)
        return jnp.full(leaf.shape, path[-1].key == "ready", leaf.dtype)

    return jax.tree.map_with_path(fill, shapes)


def codec() -> Codec:
    """(4, 4, 1) images <-> 2x2 codes of 9, two channels."""
    module = Tokenizer(
        ConvEncoder(4, (1, 1), blocks=1, mid_attention=False, out=4),
        ConvDecoder(4, (1, 1), blocks=1, mid_attention=False, out=1),
        FSQ((3, 3)),
    )
    variables = drawn(module, jnp.zeros((1, 4, 4, 1)))
    signal = {"kind": "image", "shape": (4, 4, 1)}
    contract = contract_of(module, signal, (2, 2), (0.1, -0.2), (1.5, 0.5), variables)
    return Codec(module, variables, contract)


def sound() -> Codec:
    """(16, 1) sounds, 8000 samples a second <-> 8 codes of 9, two channels."""
    small = {"blocks": 1, "mid_attention": False, "dims": 1}
    module = Tokenizer(
        ConvEncoder(4, (1, 1), out=4, **small),
        ConvDecoder(4, (1, 1), out=1, **small),
        FSQ((3, 3)),
    )
    variables = drawn(module, jnp.zeros((1, 16, 1)))
    signal = {"kind": "audio", "shape": (16, 1), "rate": 8000.0}
    contract = contract_of(module, signal, (8,), (0, 0), (1, 1), variables)
    return Codec(module, variables, contract)


def generator(streams, processes, tokenizers=None, classes=0, names=()) -> Generator:
    """A DiT of width 16 and depth 1 over the streams."""
    module = DiT(tuple(streams), width=16, depth=1, block=Block(2), classes=classes)
    x = {
        s.name: jnp.zeros((1, *s.shape), jnp.int32 if isinstance(s, Discrete) else None)
        for s in streams
    }
    times = {s.name: jnp.zeros(1) for s in streams}
    params = drawn(module, x, times)["params"]
    return Generator(module, params, processes, tokenizers or {}, names)


PICTURE = Continuous("image", (4, 4), 2, patch=2)


def labelled() -> Generator:
    """Latents of three classes, without a tokenizer."""
    return generator([PICTURE], {"image": Gaussian()}, classes=3)


def any_to_any() -> Generator:
    """Latents of images through a tokenizer, and words of five letters."""
    streams = [Continuous("image", (2, 2), 2), Discrete("word", (3,), 5)]
    processes = {"image": Gaussian(), "word": Masking(5)}
    return generator(streams, processes, {"image": codec()}, names=("a", "b"))
