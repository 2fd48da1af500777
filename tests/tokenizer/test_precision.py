"""Where a network of bfloat16 says float32, its products are exact on any backend."""

import jax
import jax.extend.core
import jax.numpy as jnp
import pytest

from vqdit.dit import DiT
from vqdit.losses import (
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    PatchDiscriminator,
)
from vqdit.nn import Block, Continuous, Discrete
from vqdit.quantizers import FSQ
from vqdit.tokenizer import (
    ConvDecoder,
    ConvEncoder,
    Tokenizer,
    ViTDecoder,
    ViTEncoder,
    VocosDecoder,
    VocosEncoder,
    WaveDecoder,
    WaveEncoder,
)

LOW = {"dtype": "bfloat16"}
CONV = {"channels": 8, "multipliers": (1, 2), "blocks": 1, **LOW}
VIT = {"width": 16, "depth": 1, "heads": 2, **LOW}
WAVE = {"channels": 4, "strides": (2,), "dilations": (1,), **LOW}
FRAMES = {"window": 16, "hop": 4, **VIT}


def tokenizer(encoder, decoder):
    return Tokenizer(encoder, decoder, FSQ((4, 4)))


NETWORKS = {
    "conv": (tokenizer(ConvEncoder(**CONV), ConvDecoder(**CONV, out=1)), (8, 8, 1)),
    "vit": (
        tokenizer(ViTEncoder(4, **VIT), ViTDecoder(4, **VIT, out=1)),
        (8, 8, 1),
    ),
    "wave": (tokenizer(WaveEncoder(**WAVE), WaveDecoder(**WAVE)), (16, 1)),
    "vocos": (tokenizer(VocosEncoder(**FRAMES), VocosDecoder(**FRAMES)), (32, 1)),
    "patch": (PatchDiscriminator(8, layers=2, **LOW), (16, 16, 1)),
    "period": (MultiPeriodDiscriminator((2,), 4, **LOW), (40, 1)),
    "resolution": (MultiResolutionDiscriminator((32,), 4, **LOW), (64, 1)),
}
EXACT = jax.lax.Precision.HIGHEST


def products(jaxpr):
    """Every product and convolution, in all that is called."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_of_float32_are_exact(name):
    network, shape = NETWORKS[name]
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    assert_exact(lambda x: network.init_with_output(jax.random.key(0), x)[0], x)


def test_products_of_float32_of_the_transformer_are_exact():
    streams = (Continuous("x", (4,), channels=2), Discrete("y", (3,), vocab=5))
    network = DiT(streams, width=16, depth=1, block=Block(2), classes=3, **LOW)
    x = {"x": jnp.zeros((1, 4, 2)), "y": jnp.zeros((1, 3, 1), jnp.int32)}
    times = {name: jnp.zeros(1) for name in x}
    init = lambda x: network.init_with_output(jax.random.key(0), x, times)[0]
    assert_exact(init, x)


def assert_exact(init, x):
    found = list(products(jax.make_jaxpr(init)(x).jaxpr))
    whole = [e for e in found if e.invars[0].aval.dtype == jnp.float32]
    assert found and whole
    assert all(set(e.params["precision"] or ()) == {EXACT} for e in whole), whole
