"""Each function against its textbook form: values, gradients, forward derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.nn import attend, gelu, norm_modulate


def plain_attend(q, k, v):
    weights = jax.nn.softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    return weights @ v


def plain_norm_modulate(x, shift, scale):
    centred = x - x.mean(-1, keepdims=True)
    unit = centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)
    return unit * (1 + scale) + shift


def plain_gelu(x):
    return jax.nn.gelu(x, approximate=True)


def draw(*shapes, scale=1.0):
    draws = np.random.default_rng(0)
    return [jnp.asarray(draws.normal(0, scale, shape), jnp.float32) for shape in shapes]


CASES = {
    "attend": (attend, plain_attend, draw(*[(3, 5, 4)] * 3)),
    "gelu": (gelu, plain_gelu, draw((4, 7), scale=3.0)),
    "gelu far out": (gelu, plain_gelu, [jnp.array([-1e4, -20.0, 0.0, 20.0, 1e4])]),
    "one stream": (
        norm_modulate,
        plain_norm_modulate,
        draw((2, 5, 8), (2, 1, 8), (2, 1, 8)),
    ),
    "two streams": (norm_modulate, plain_norm_modulate, draw(*[(2, 5, 8)] * 3)),
    "equal channels": (
        norm_modulate,
        plain_norm_modulate,
        [jnp.ones((1, 2, 8)), *draw((1, 1, 8), (1, 1, 8))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_textbook_form(name):
    fused, plain, arguments = CASES[name]
    weight = jnp.cos(jnp.arange(plain(*arguments).size)).reshape(
        plain(*arguments).shape
    )

    @quick.jit
    def results(*arguments):
        def of(f):
            loss = lambda *a: (f(*a) * weight).sum()
            backward = jax.grad(loss, argnums=tuple(range(len(arguments))))
            tangents = tuple(jnp.sin(a) for a in arguments)
            return f(*arguments), backward(*arguments), jax.jvp(f, arguments, tangents)

        return of(fused), of(plain)

    mine, textbook = results(*arguments)
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    jax.tree.map(compare, mine, textbook)


def test_attention_neither_overflows_nor_rounds_its_sums():
    """Scores of 1e4; and 512 equal weights in bfloat16, where sums stop at 256."""
    q, k, v = draw(*[(1, 4, 4)] * 3)
    best = np.asarray(q @ k.swapaxes(1, 2)).argmax(-1)[0]
    np.testing.assert_allclose(attend(1e4 * q, k, v)[0], v[0][best], rtol=1e-5)
    ones = jnp.ones((1, 512, 4), jnp.bfloat16)
    assert attend(ones, ones, ones).dtype == jnp.bfloat16
    np.testing.assert_array_equal(attend(ones, ones, ones), ones)


def test_norm_statistics_are_float32_in_bfloat16():
    """A mean of 256 over a spread of 1 is lost in bfloat16 sums, not here."""
    (x,) = draw((1, 3, 64))
    x = (x.round() + 256).astype(jnp.bfloat16)
    zero = jnp.zeros((1, 1, 64), jnp.bfloat16)
    y = norm_modulate(x, zero, zero)
    assert y.dtype == jnp.bfloat16
    expected = plain_norm_modulate(x.astype(jnp.float32), 0.0, 0.0)
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, atol=0.02)
