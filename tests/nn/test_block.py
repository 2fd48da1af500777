import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.nn import Block
from vqdit.nn.block import per_token


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@functools.partial(quick.jit, static_argnums=(0, 4))
def apply(block, variables, x, c, lengths):
    return block.apply(variables, x, c, lengths)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_at_init_every_gate_is_0_so_the_block_is_the_identity(dtype):
    x, c = draw(2, 5, 8).astype(dtype), draw(2, 1, 8, seed=1).astype(dtype)
    block = Block(2, dtype=dtype)
    y, variables = quick.jit(block.init_with_output, static_argnums=3)(
        jax.random.key(0), x, c, (5,)
    )
    np.testing.assert_array_equal(y, x)
    assert not any(np.any(leaf) for leaf in variables["params"]["modulation"].values())
    # Its parts are not: only the gates hold them back.
    for name in ("qkv", "out"):
        assert np.any(variables["params"]["attn"][name]["kernel"])


def test_each_gate_opens_its_own_branch():
    """adaLN-Zero: a gate of 1 in one of the two adds that branch alone."""
    x, c, block = draw(1, 4, 8), jnp.zeros((1, 1, 8)), Block(2, mlp_ratio=2)
    shapes = jax.eval_shape(
        functools.partial(block.init, lengths=(4,)), jax.random.key(0), x, c
    )
    variables = quick.parameters(shapes)

    def with_gates(first, second):
        bias = jnp.repeat(jnp.array([0, 0, first, 0, 0, second], jnp.float32), 8)
        modulation = {**variables["params"]["modulation"], "bias": bias}
        params = {**variables["params"], "modulation": modulation}
        return apply(block, {"params": params}, x, c, (4,))

    params = jax.device_get(variables["params"])
    h = np.asarray(x - x.mean(-1, keepdims=True))
    h = h / np.sqrt(np.square(h).mean(-1, keepdims=True) + 1e-6)
    u = h @ params["mlp"]["up"]["kernel"] + params["mlp"]["up"]["bias"]
    u = 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
    u = u @ params["mlp"]["down"]["kernel"] + params["mlp"]["down"]["bias"]
    np.testing.assert_array_equal(with_gates(0, 0), x)
    np.testing.assert_allclose(with_gates(0, 1), x + u, atol=1e-5)
    np.testing.assert_allclose(with_gates(0, 3), x + 3 * u, atol=1e-5)
    attended = with_gates(1, 0) - x
    assert np.abs(attended).max() > 0.01
    np.testing.assert_allclose(with_gates(2, 0), x + 2 * attended, atol=1e-5)


def test_each_stream_is_modulated_by_its_own_vector():
    mods = jnp.arange(2 * 3 * 1.0).reshape(2, 3, 1)
    rows = per_token(mods, (2, 1, 3))
    np.testing.assert_array_equal(rows[0, :, 0], [0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(rows[1, :, 0], [3, 3, 4, 5, 5, 5])
    assert per_token(mods[:, :1], (6,)).shape == (2, 1, 1)  # broadcasts


def test_streams_with_equal_vectors_are_one_stream():
    x, c, block = draw(2, 5, 8), draw(2, 1, 8, seed=1), Block(2)
    init = functools.partial(block.init, lengths=(5,))
    variables = quick.parameters(jax.eval_shape(init, jax.random.key(0), x, c))
    whole = apply(block, variables, x, c, (5,))
    parts = apply(block, variables, x, jnp.repeat(c, 2, axis=1), (2, 3))
    np.testing.assert_allclose(whole, parts, atol=1e-5)
