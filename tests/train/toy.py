"""A small thing to train: an MLP on a line, with unlearned state and noise."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import P

from train.config import Optimizer
from train.runtime.optim import make
from train.runtime.sharding import Rule
from train.runtime.step import init_state, make_step

RULES = (
    Rule(r"up/kernel$", P("fsdp", "tensor")),
    Rule(r"down/kernel$", P("tensor", "fsdp")),
    Rule(r"bias$"),
    Rule(r"^averages/"),
)


class Mlp(nn.Module):
    """(b, 4) -> (b, 4); keeps a moving average of its input, as a codebook would."""

    width: int = 16

    @nn.compact
    def __call__(self, x, train):
        mean = self.variable("averages", "mean", jnp.zeros, (x.shape[-1],))
        h = nn.Dense(self.width, name="up")(x - mean.value)
        if train and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return nn.Dense(x.shape[-1], name="down")(nn.tanh(h))


def objective(params, stats, batch, key, step, noise=0.1):
    """Recover x from x plus noise; `noise` 0 makes it deterministic."""
    x = batch["x"]
    noisy = x + noise * jax.random.normal(key, x.shape)
    out, stats = Mlp().apply(
        {"params": params, **stats}, noisy, train=True, mutable=["averages"]
    )
    loss = jnp.square(out - x).mean()
    return loss, (stats, {"spread": out.std()})


def by_example():
    """Whether layers that are traced now are split by example."""
    layer = nn.Dense(1).init
    traced = jax.make_jaxpr(layer)(jax.random.key(0), jnp.zeros((8, 2)))
    return "sharding_constraint" in str(traced)


OPTIMIZER = Optimizer(peak_lr=1e-2, weight_decay=0.1, ema=0.99)


def new_state(seed=0, optimizer=OPTIMIZER):
    """The same state for the same seed, in buffers of its own."""
    init_key, root = jax.random.split(jax.random.key(seed))
    variables = Mlp().init(init_key, jnp.zeros((1, 4)), train=False)
    return init_state(root, variables, make(optimizer, steps=100))


def new_step(optimizer=OPTIMIZER, noise=0.1, **options):
    return make_step(
        functools.partial(objective, noise=noise),
        make(optimizer, steps=100),
        optimizer.ema,
        **options,
    )


def new_batch(index=0, size=16):
    """Batch `index` of an endless set, a function of the index alone."""
    x = np.random.default_rng(index).normal(1.0, 1.0, (size, 4))
    return {"x": x.astype(np.float32)}


def batches(start=0, count=10**9):
    return (new_batch(i) for i in range(start, start + count))


def same(a, b, atol=0.0):
    """Raises unless two trees are equal bit for bit, typed keys included.

    atol: absolute difference that floats may have.
    """
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x), np.asarray(y)
        if atol and np.issubdtype(x.dtype, np.floating):
            np.testing.assert_allclose(x, y, rtol=0, atol=atol, strict=True)
        else:
            np.testing.assert_array_equal(x, y, strict=True)
