"""A wheel beside the light dependencies alone, in an empty folder.

Loads, encodes and draws: python .ci/light.py tests/fixtures/4e78b1c.tar.xz
"""

import os
import sys
import tarfile

import jax
import jax.numpy as jnp
import numpy as np

import vqdit

HEAVY = {"train", "tensorflow_datasets", "grain", "sklearn", "matplotlib", "av"}


def main(fixtures):
    assert not os.listdir(), "run this in an empty folder"
    with tarfile.open(fixtures) as archive:
        archive.extractall(filter="data")
    codec = vqdit.load("bundles/fsq")
    assert isinstance(codec, vqdit.Codec)
    images = np.zeros((2, *codec.contract.shape), np.float32)
    codes = codec.encode(images).codes
    assert codec.decode(codes).shape == images.shape
    generator = vqdit.load("bundles/flow")
    assert isinstance(generator, vqdit.Generator)
    sampler = generator.sampler(steps=2, guidance=1.5)
    drawn = sampler(jax.random.key(0), jnp.arange(2), label=jnp.arange(2))
    assert all(np.isfinite(signal).all() for signal in drawn.values())
    assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)
    print(f"vqdit {vqdit.__version__} from {vqdit.__path__[0]}: loads, encodes, draws")


if __name__ == "__main__":
    main(sys.argv[1])
