"""Multiply-accumulates, counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from train.runtime.flops import macs

A, B = jnp.zeros((2, 3)), jnp.zeros((3, 5))
SQUARE = jnp.zeros((3, 3))
PICTURE = jnp.zeros((1, 8, 6, 4))


def scanned(a):
    return jax.lax.scan(lambda a, _: (a @ a, None), a, length=7)[0]


def branched(a):
    return jax.lax.cond(a.sum() > 0, lambda a: a @ a @ a, lambda a: a @ a, a)


def unknown(a):
    return jax.lax.while_loop(lambda a: a.sum() < 9, lambda a: a @ a, a)


def convolved(kernel, groups=1, stride=1):
    def run(x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x,
            jnp.zeros(kernel),
            (stride, stride),
            "SAME",
            dimension_numbers=numbers,
            feature_group_count=groups,
        )

    return run


@pytest.mark.parametrize(
    "function, shapes, count",
    [
        (jnp.matmul, (A, B), 2 * 3 * 5),
        (jnp.matmul, (jnp.zeros((4, 2, 3)), jnp.zeros((4, 3, 5))), 4 * 2 * 3 * 5),
        (lambda a, b: jnp.einsum("ij,jk->", a, b), (A, B), 3),  # summed before it
        (lambda a: jnp.tanh(a) * a + a.sum(), (A,), 0),
        (jax.jit(jnp.matmul), (A, B), 30),
        (jax.checkpoint(jnp.matmul), (A, B), 30),
        (scanned, (SQUARE,), 7 * 27),
        (branched, (SQUARE,), 2 * 27),
        (unknown, (SQUARE,), 27),
        (jax.vmap(lambda row: row @ B), (A,), 30),
        (jax.grad(lambda a: (a @ B).sum()), (A,), 2 * 30),
        (convolved((3, 3, 4, 10)), (PICTURE,), 48 * 10 * 9 * 4),
        (convolved((3, 3, 4, 10), stride=2), (PICTURE,), 12 * 10 * 9 * 4),
        (convolved((3, 3, 2, 10), groups=2), (PICTURE,), 48 * 10 * 9 * 2),
        (jnp.matmul, (jax.ShapeDtypeStruct((10**5, 10**5), "float32"),) * 2, 10**15),
    ],
)
def test_products_and_convolutions_count(function, shapes, count):
    assert macs(function, *shapes) == count
