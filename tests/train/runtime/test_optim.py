import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import Optimizer
from train.runtime.optim import decayed, learning_rate, make


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate_is_its_formula(schedule, warmup):
    peak, steps = 3e-3, 50
    rate = learning_rate(Optimizer(peak, schedule, warmup), steps)
    for i in range(steps + 1):
        expected = peak
        if i < warmup:
            expected = peak * (i + 1) / (warmup + 1)
        elif schedule == "cosine":
            part = (i - warmup) / (steps - warmup)
            expected = peak * 0.5 * (1 + np.cos(np.pi * part))
        # float32: 1e-7 of the peak is two roundings.
        np.testing.assert_allclose(rate(i), expected, atol=2e-7 * peak, rtol=1e-5)


def test_only_kernels_decay_scanned_biases_do_not():
    params = {
        "dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
        "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
        "blocks": {"kernel": jnp.ones((4, 3, 2)), "bias": jnp.ones((4, 2))},
        "norm": {"scale": jnp.ones(2)},
        "label": {"table": jnp.ones((10, 2))},
        "codebook": jnp.ones((8, 2)),
    }
    tx = make(Optimizer(peak_lr=0.1, weight_decay=0.5, clip=None), steps=10)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    names = {"dense", "conv", "blocks"}
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        is_kernel = path[0].key in names and path[-1].key == "kernel"
        # No gradient: what moves is the decay, peak_lr * weight_decay.
        np.testing.assert_allclose(update, -0.05 if is_kernel else 0.0, rtol=1e-6)
    assert decayed(params)["blocks"] == {"kernel": True, "bias": False}


def test_first_update_is_adams_and_clipping_bounds_the_gradient():
    """Adam's first step is lr * g / (|g| + eps), whatever the scale of g."""
    params = {"kernel": jnp.zeros((2, 2))}
    grads = {"kernel": jnp.array([[3.0, -4.0], [0.0, 12.0]])}  # norm 13
    tx = make(Optimizer(peak_lr=0.1, clip=1.0), steps=10)
    updates, opt = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [[-0.1, 0.1], [0.0, -0.1]], rtol=1e-5)
    moment = optax.tree.get(opt, "mu")["kernel"]
    np.testing.assert_allclose(moment, 0.1 * grads["kernel"] / 13, rtol=1e-5)
    _, opt = make(Optimizer(clip=None), steps=10).update(
        grads, make(Optimizer(clip=None), steps=10).init(params), params
    )
    moment = optax.tree.get(opt, "mu")["kernel"]
    np.testing.assert_allclose(moment, 0.1 * grads["kernel"], rtol=1e-5)
