"""A key is used once: drawn from, or split, at one place of a run."""

import dataclasses
import inspect
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.test_stages import EMA, dit, tokenizer
from train.config import Adversarial
from train.config.network import network
from train.config.override import replaced
from train.objectives import codebook, denoising, start
from train.runtime.step import beside
from vqdit.diffusion.objectives.denoising import Denoising
from vqdit.losses.discriminators import Verdict
from vqdit.quantizers import ResidualQuantizer
from vqdit.tokenizer import Tokenizer


class Encoder(nn.Module):
    """Every second pixel. Small, as what is not compiled as a whole is slow."""

    out: int = 2
    dtype: str = "float32"
    causal: bool = False
    factor: ClassVar[tuple[int, int]] = (2, 2)

    def grid(self, shape):
        return tuple(side // 2 for side in shape)

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.out, name="conv_out")(x[:, ::2, ::2])


class Decoder(Encoder):
    """Every value four times."""

    out: int = 1

    @nn.compact
    def __call__(self, z):
        z = nn.Dense(self.out, name="conv_out")(z)
        return jnp.repeat(jnp.repeat(z, 2, 1), 2, 2)


class Discriminator(nn.Module):
    """A logit a pixel."""

    @nn.compact
    def __call__(self, x):
        return (Verdict(nn.Dense(1, name="conv_out")(x)[..., 0], ()),)


@pytest.fixture
def used(monkeypatch):
    """Key -> what has drawn from it or split it, in programs that are not compiled."""
    found = {}

    def watched(name, function):
        def call(key, *args, **kwargs):
            if not isinstance(key, jax.core.Tracer):
                for each in np.asarray(jax.random.key_data(key)).reshape(-1, 2):
                    found.setdefault(tuple(map(int, each)), []).append(name)
            return function(key, *args, **kwargs)

        return call

    makes = ("fold_in", "clone", "key_data", "key_impl", "key", "wrap_key_data")
    for name in set(dir(jax.random)) - set(makes):
        function = getattr(jax.random, name)
        if callable(function) and "key" in inspect.signature(function).parameters:
            monkeypatch.setattr(jax.random, name, watched(name, function))
    return found


def twice(used):
    return {key: names for key, names in used.items() if len(names) > 1}


def test_the_watch_sees_a_key_used_twice(used):
    key = jax.random.key(0)
    jax.random.split(key)
    jax.random.normal(jax.random.fold_in(key, 7))
    assert not twice(used)
    jax.random.bernoulli(jax.random.split(jax.random.key(1))[0])
    jax.random.uniform(jax.random.fold_in(jax.random.key(1), 0))  # the same key
    assert [set(names) for names in twice(used).values()] == [{"bernoulli", "uniform"}]


def test_what_is_beside_the_steps_has_keys_of_its_own():
    root = jax.random.key(3)
    steps = {tuple(key) for key in _data(_folded(root, jnp.arange(1000)))}
    for word in ("k-means", "discriminator"):
        key = beside(root, word)
        more = {tuple(key) for key in _data(_folded(key, jnp.arange(1000)))}
        assert len(more) == 1000 and not steps & (more | {tuple(_data(key))})


_folded = jax.vmap(jax.random.fold_in, (None, 0))
_data = lambda keys: np.asarray(jax.random.key_data(keys))


@pytest.mark.slow
def test_stage_one_uses_a_key_once(used):
    """Its start, that of its discriminator, and k-means between two steps."""
    quantizer = ResidualQuantizer(EMA.clone(num_codes=4), count=2, dropout=0.5)
    how = Adversarial(discriminator=Discriminator(), adaptive=False)
    experiment = tokenizer(quantizer, adversarial=how)
    kmeans = dataclasses.replace(experiment.kmeans, step=1, samples=64, iterations=1)
    model = Tokenizer(Encoder(), Decoder(), quantizer)
    experiment = dataclasses.replace(experiment, model=model, kmeans=kmeans)
    init, step = start.build_step(experiment, start.open_start(experiment))
    draw = np.random.default_rng(0)
    batch = {"streams": {"x": draw.integers(0, 256, (2, 8, 8, 1), np.uint8)}}
    with jax.disable_jit():
        state, _ = step(init(), batch)
        before = set(used)
        state = codebook.codebook_from_data(experiment, 1, state)
        # Weights and their average get the same codebook, from the same key.
        used |= {k: sorted(set(v)) for k, v in used.items() if k not in before}
        step(state, batch)
    assert len(used) > 6 and not twice(used)


@pytest.mark.slow
def test_stage_two_uses_a_key_once(used):
    experiment = replaced(dit("flow", "nowhere"), {"streams.image.shape": (4, 4, 2)})
    model, processes = network(experiment, {})
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(2, 4, 4, 2)), jnp.float32)
    batch = {"streams": {"image": x}, "label": jnp.arange(2)}
    init, _ = denoising.build_step(experiment, model, processes)
    params = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(init).params
    )
    times = {"image": experiment.streams["image"].times}
    compute = Denoising(model, processes, times, 0.1)
    with jax.disable_jit():
        for i in range(2):
            compute(params, {}, batch, jax.random.fold_in(jax.random.key(0), i), i)
    assert len(used) > 6 and not twice(used)
