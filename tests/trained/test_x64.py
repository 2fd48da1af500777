"""A caller who computes in 64 bits gets what one who computes in 32 gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from vqdit import Discrete, Masking
from vqdit.diffusion import MaskAndReplace, UniformState

KEY = jax.random.key(1)
IDS = np.arange(4)
PIXELS = np.random.default_rng(0).normal(size=(4, 4, 4, 1))


def codes(process):
    return toys.generator([Discrete("word", (4,), 5)], {"word": process})


def sampled(model):
    return model.sampler(steps=3)(KEY, IDS)


def within_a_jit(model):
    sampler = model.sampler(steps=3)
    return jax.jit(sampler.draw)(model.arrays, KEY, jnp.asarray(IDS))


def scored(model):
    sampler = model.sampler(steps=3)
    with jax.enable_x64(False):
        drawn = sampler(KEY, IDS)
    wide = lambda x: jnp.asarray(x, float) if x.dtype.kind == "f" else x
    return model.scorer(tuple(drawn))(KEY, IDS, jax.tree.map(wide, drawn))


def looked_at(model):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 4, 2)))
    hidden = model.extractor(("embedded",))({"image": x})
    return hidden, model.inverter(steps=2)(KEY, IDS, {"image": x})


def coded(codec):
    x = jnp.asarray(PIXELS)
    quantized, z = codec.encode(x), codec.latents(x)
    decoded = codec.decode(quantized.codes), codec.decode_latents(z)
    return quantized, z, decoded, codec.to_raw(x), codec.from_raw(x)


@pytest.mark.parametrize(
    ("make", "use"),
    [
        (toys.labelled, sampled),
        (toys.labelled, within_a_jit),
        (toys.labelled, scored),
        (toys.labelled, looked_at),
        (toys.any_to_any, sampled),
        (lambda: codes(Masking()), sampled),
        (lambda: codes(MaskAndReplace()), sampled),
        (lambda: codes(UniformState()), sampled),
        (toys.codec, coded),
    ],
)
def test_whoever_computes_in_64_bits_gets_the_same(make, use):
    made = make()
    narrow = use(made)
    with jax.enable_x64(True):
        wide = use(made)
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
