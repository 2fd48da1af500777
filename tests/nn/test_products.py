"""Convolutions by matrix products against XLA's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import (
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    PatchDiscriminator,
)
from vqdit.nn import products
from vqdit.nn.products import TransposedConvolution, convolution
from vqdit.tokenizer import ConvDecoder, ConvEncoder, WaveDecoder, WaveEncoder

# Grid, kernel, strides, padding, dilation: what the library's layers have.
WINDOWS = {
    "wave": ((9,), (7,), (1,), "SAME", (1,)),
    "wave, dilated": ((20,), (7,), (1,), "SAME", (3,)),
    "wave, causal": ((8,), (3,), (1,), [(2, 0)], (1,)),
    "wave, strided": ((12,), (8,), (4,), [(2, 2)], (1,)),
    "picture": ((6, 8), (3, 3), (1, 1), "SAME", (1, 1)),
    "picture, strided": ((6, 8), (3, 3), (2, 2), [(0, 1), (0, 1)], (1, 1)),
    "picture, strided by rows": ((6, 8), (3, 3), (1, 2), [(1, 1), (0, 1)], (1, 1)),
    "patches": ((9, 4), (4, 4), (2, 2), "SAME", (1, 1)),
    "period": ((8, 3), (5, 1), (3, 1), [(2, 2), (0, 0)], (1, 1)),
    "spectrum": ((6, 9), (3, 9), (1, 2), "SAME", (2, 1)),
    "volume": ((5, 4, 6), (3, 3, 3), (2, 2, 1), [(1, 1), (0, 1), (1, 1)], (1, 1, 1)),
    "clip": ((5, 4, 6), (3, 3, 3), (1, 1, 1), [(2, 0), (1, 1), (1, 1)], (1, 1, 1)),
}


def drawn(*shape):
    x = np.random.default_rng(0).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


def outcome(module, variables, x):
    """Values, and gradients by the parameters and the input, in one program."""

    def loss(variables, x):
        y = module.apply(variables, x)
        return jnp.sin(y).sum(), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, x)


def close(a, b, tolerance=2e-5):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        left, right = np.float32(left), np.float32(right)
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels,sites", [((2, 5), 8), ((5, 2), 2048)])
@pytest.mark.parametrize("window", WINDOWS)
def test_values_and_gradients_are_those_of_xla(window, channels, sites, monkeypatch):
    """In one product and in parts, with the taps on either factor."""
    monkeypatch.setattr(products, "SITES", sites)
    grid, kernel, strides, padding, dilation = WINDOWS[window]
    c, o = channels
    x = drawn(4, *grid, c)
    plain, by_products = (
        nn.Conv(
            o,
            kernel,
            strides=strides,
            padding=padding,
            kernel_dilation=dilation,
            conv_general_dilated=convolution(implementation),
        )
        for implementation in ("plain", "products")
    )
    variables = {"params": {"kernel": drawn(*kernel, c, o), "bias": drawn(o)}}
    close(outcome(by_products, variables, x), outcome(plain, variables, x))


def test_a_convolution_of_groups_is_xla_s():
    x, variables = drawn(2, 6, 4), {"params": {"kernel": drawn(3, 2, 6)}}
    ours, plain = (
        nn.Conv(
            *(6, (3,)),
            use_bias=False,
            feature_group_count=2,
            conv_general_dilated=function,
        )
        for function in (convolution("products"), jax.lax.conv_general_dilated)
    )
    close(outcome(ours, variables, x), outcome(plain, variables, x))


@pytest.mark.parametrize(
    "window,rows,devices,sites",
    [
        ("wave, strided", 4, 2, 8),
        ("picture", 4, 4, 8),
        ("spectrum", 4, 2, 8),
        ("patches", 3, 1, 1),  # a row of one example is more than a part may have
        ("wave", 1, 1, 1),
    ],
)
def test_a_kernel_s_gradient_is_a_sum_over_rows(
    window, rows, devices, sites, monkeypatch
):
    """Of each device its own, in parts of an odd number of them too."""
    monkeypatch.setattr(products, "SITES", sites)
    monkeypatch.setattr(products, "parts", lambda n: devices)
    grid, kernel, strides, padding, dilation = WINDOWS[window]
    if isinstance(padding, str):
        wide = [(n - 1) * d + 1 for n, d in zip(kernel, dilation, strict=True)]
        padding = jax.lax.padtype_to_pads(grid, wide, strides, padding)
    how = products.ConvWindow(strides, tuple(map(tuple, padding)), dilation)
    x = drawn(rows, *grid, 3)

    @jax.jit
    def both(x, leaf):
        y, backward = jax.vjp(lambda leaf: products._plain(x, leaf, how), leaf)
        dy = jnp.sin(1 + y)
        return backward(dy)[0], products.kernel_gradient(x, dy, kernel, how)

    np.testing.assert_allclose(*both(x, drawn(*kernel, 3, 2)), rtol=1e-4, atol=1e-4)


def test_half_precision_is_added_up_in_float32(monkeypatch):
    monkeypatch.setattr(products, "SITES", 16)
    x, variables = drawn(2, 8, 8, 4), {"params": {"kernel": drawn(3, 3, 4, 4)}}
    conv = lambda dtype: nn.Conv(
        *(4, (3, 3)),
        use_bias=False,
        dtype=dtype,
        conv_general_dilated=convolution("products"),
    )
    exact, rounded = (outcome(conv(d), variables, x)[0] for d in (None, "bfloat16"))
    close(rounded, exact, 0.05)


@pytest.mark.parametrize("implementation", ["plain", "products"])
def test_a_transposed_convolution_is_flax_s(implementation):
    x = drawn(2, 6, 3)
    variables = {"params": {"kernel": drawn(8, 3, 5), "bias": drawn(5)}}
    flax = nn.ConvTranspose(5, (8,), strides=(4,), padding="VALID")
    ours = TransposedConvolution(5, 8, 4, implementation=implementation)
    close(outcome(ours, variables, x), outcome(flax, variables, x))
    fresh = [jax.eval_shape(m.init, jax.random.key(0), x) for m in (ours, flax)]
    assert fresh[0] == fresh[1]


def test_plain_differentiates_in_any_order_and_products_backwards():
    """A jvp inside a grad; on a CPU, too, where products do not pay."""
    x, along = drawn(1, 6, 6, 2), drawn(1, 6, 6, 2) / 2
    variables = {"params": {"kernel": drawn(3, 3, 2, 3), "bias": drawn(3)}}

    def slope(implementation):
        conv = nn.Conv(3, (3, 3), conv_general_dilated=convolution(implementation))
        f = lambda x: jnp.sin(conv.apply(variables, x)).sum()
        return jax.jit(jax.grad(lambda x: jax.jvp(f, (x,), (along,))[1]))(x)

    kernel, bias = variables["params"].values()
    y = convolution("plain")
    dims = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    at, moved = (y(x, kernel, (1, 1), "SAME", **dims) for x in (x, along))
    curved = -jnp.sin(at + bias) * moved
    same = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    expected = y(curved, same, (1, 1), "SAME", **dims)
    for implementation in ("plain", None):
        close(slope(implementation), expected)
    with pytest.raises((TypeError, NotImplementedError), match="custom_"):
        slope("products")


@pytest.mark.parametrize(
    "network,shape,convolutions",
    [
        (ConvEncoder(8, (1, 1), 1, mid_attention=False), (8, 8, 2), 11),
        (ConvDecoder(8, (1, 1), 1, mid_attention=False), (4, 4, 2), 15),
        (WaveEncoder(4, (2,), (1,)), (16, 1), 5),
        (WaveDecoder(4, (2,), (1,)), (8, 3), 5),
        (PatchDiscriminator(8, layers=2), (16, 16, 2), 4),
        (MultiPeriodDiscriminator((2, 3), 4), (40, 1), 12),
        (MultiResolutionDiscriminator((32,), 4), (64, 1), 6),
    ],
)
def test_a_network_s_field_says_how_its_convolutions_differentiate(
    network, shape, convolutions
):
    """None of these small ones pays; the last of a discriminator, of one, is plain."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    def by_hand(implementation):
        module = network.clone(implementation=implementation)
        init = lambda x: module.init_with_output(jax.random.key(0), x)[0]
        return str(jax.make_jaxpr(init)(x)).count("custom_vjp_call[")

    assert by_hand("products") == convolutions
    assert by_hand("plain") == 0
