"""What a user writes; a type checker has to understand it (tests run it nowhere)."""

from typing import assert_type

import flax.linen as nn
import jax
import jax.numpy as jnp

import vqdit
from vqdit.metrics import FeatureStatistics, frechet_distance, psnr, statistics
from vqdit.quantizers import FSQ, Quantized, ResidualQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer


def draw(folder: str) -> dict[str, jax.Array]:
    generator = vqdit.load(folder)
    assert isinstance(generator, vqdit.Generator)
    sampler = generator.sampler(
        steps=25, guidance=1.4, solver=vqdit.Heun(), grid=vqdit.Karras(18)
    )
    assert_type(sampler, vqdit.Sampler)
    key = jax.random.key(0)
    return sampler(key, jnp.arange(16), label=jnp.full(16, 3))


def encode(folder: str, images: jax.Array) -> jax.Array:
    codec = vqdit.load(folder)
    assert isinstance(codec, vqdit.Codec)
    quantized = codec.encode(images)
    assert_type(quantized, Quantized)
    assert_type(codec.contract, vqdit.LatentContract)
    vqdit.save("kept", codec)
    return codec.decode(quantized.latents)


def tokenizer() -> Tokenizer:
    book = VectorQuantizer(num_codes=512, dim=8, cosine=True, estimator="rotation")
    return Tokenizer(
        encoder=ConvEncoder(channels=32, multipliers=(1, 2), out=8),
        decoder=ConvDecoder(channels=32, multipliers=(1, 2), out=3),
        quantizer=ResidualQuantizer(book, count=4, dropout=0.5),
    )


def quantize(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    quantizer = FSQ(levels=(8, 5, 5, 5))
    variables = quantizer.init(jax.random.key(0), z)
    assert_type(quantizer.dim, int)
    assert_type(quantizer.code_counts, tuple[int, ...])
    latents = quantizer.apply(variables, quantizer.decode(jnp.zeros((2, 1), int)))
    del latents
    found = quantizer(z, train=True, key=jax.random.key(1))
    assert_type(found, Quantized)
    return found.latents, found.codes


def transformer() -> vqdit.DiT:
    streams = (
        vqdit.Continuous("image", (8, 8), channels=4, patch=2),
        vqdit.Discrete("word", (32,), vocab=256),
    )
    return vqdit.DiT(streams, width=384, depth=12, block=vqdit.Block(6), classes=10)


def processes() -> dict[str, vqdit.Process]:
    return {"image": vqdit.Gaussian(target="noise"), "word": vqdit.Masking()}


def score(real: jax.Array, drawn: jax.Array) -> float:
    assert_type(statistics(real), FeatureStatistics)
    return frechet_distance(statistics(real), statistics(drawn)) + psnr(real, drawn)


class Rounding(nn.Module):
    """A quantizer of one's own."""

    dim: int
    levels: int = 8

    def __call__(self, z: jax.Array, *, train: bool = False, key=None) -> Quantized:
        codes = jnp.round(z).astype(jnp.int32)
        return Quantized(vqdit.quantizers.straight_through(z, codes), codes, {}, {})
