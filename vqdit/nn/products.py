"""Convolutions whose kernel's gradient is a matrix product, for XLA on a CPU.

XLA:CPU takes that gradient as a convolution with a kernel of the signal's size, on one
core; as a product of windows with what arrives it takes a third of the time, and that
of a transposed convolution a hundredth (RESULTS.md).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vqdit.platform import platform
from vqdit.shapes import Array, Float
from vqdit.split import parts

Convolution = Literal["plain", "products"]

# Sites whose windows are in one product: of 64 channels they stay in a core's cache.
SITES = 2048
# Below either, measured from 8x8 to 32x32 sites and 3 to 256 channels, XLA is faster.
LEAST_SITES, LEAST_KERNEL = 256, 64 * 64


class ConvWindow(NamedTuple):
    """How a convolution slides, an axis each; its precision as lax has it."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    precision: Any = None


def choose(implementation: Convolution | None) -> Convolution:
    """The implementation asked for, or the backend's own."""
    own: Convolution = "products" if platform() == "cpu" else "plain"
    return implementation or own


def convolution(implementation: Convolution | None = None) -> Callable:
    """`conv_general_dilated` for `nn.Conv`.

    implementation: "plain" is XLA's, and differentiates in any order. "products" has
        XLA's values and input gradients and a kernel gradient written by hand, without
        forward mode, and takes three axes as two of stacked planes. None is products on
        a CPU, each where it pays, and plain elsewhere.
    """
    asked = implementation is not None

    def convolve(x, kernel, strides, padding, *, rhs_dilation=None, **rest):
        grouped = rest.get("feature_group_count", 1) > 1
        if grouped or choose(implementation) == "plain":
            return lax.conv_general_dilated(
                x, kernel, strides, padding, rhs_dilation=rhs_dilation, **rest
            )
        dilation = tuple(rhs_dilation or (1,) * len(strides))
        if isinstance(padding, str):
            wide = [
                (n - 1) * d + 1
                for n, d in zip(kernel.shape[:-2], dilation, strict=True)
            ]
            padding = lax.padtype_to_pads(x.shape[1:-1], wide, strides, padding)
        padding = tuple(map(tuple, padding))
        window = ConvWindow(tuple(strides), padding, dilation, rest.get("precision"))
        if len(strides) == 3 and dilation[0] == 1:
            return _by_planes(x, kernel, window, asked)
        return _convolve(x, kernel, window, asked)

    return convolve


def _convolve(x, kernel, window, asked):
    sites = math.prod(x.shape[1:-1]) // math.prod(window.strides)
    pays = sites >= LEAST_SITES and math.prod(kernel.shape[-2:]) >= LEAST_KERNEL
    return (_by_products if asked or pays else _plain)(x, kernel, window)


def _plain(x, kernel, window):
    axes = "DHW"[-len(window.strides) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        precision=window.precision,
    )


def _with_kernel_gradient(plain: Callable, gradient: Callable) -> Callable:
    """plain(x, kernel, how), linear in x, its kernel's gradient by
    gradient(x, dy, kernel.shape, how)."""
    function = jax.custom_vjp(plain, nondiff_argnums=(2,))

    def forward(x, kernel, how):
        return plain(x, kernel, how), (x, kernel)

    def backward(how, kept, dy):
        x, kernel = kept
        # By linearity none of the values of this call are computed.
        (dx,) = jax.linear_transpose(lambda x: plain(x, kernel, how), x)(dy)
        return dx, gradient(x, dy, kernel.shape, how).astype(kernel.dtype)

    function.defvjp(forward, backward)
    return function


def _by_planes(x, kernel, window, asked):
    """A 3-D convolution as a 2-D one over planes, each stacked on its neighbours.

    The same sums; on a CPU several times faster, forwards and backwards.
    """
    x = jnp.pad(x, ((0, 0), window.padding[0], (0, 0), (0, 0), (0, 0)))
    batch, size, *plane = x.shape
    seen, *sides, _, out = kernel.shape
    stride = window.strides[0]
    steps = (size - seen) // stride + 1
    last = (steps - 1) * stride + 1
    x = [x[:, i : i + last : stride, ..., :] for i in range(seen)]
    x = jnp.concatenate(x, axis=-1).reshape(batch * steps, *plane[:-1], -1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(*sides, -1, out)
    flat = ConvWindow(*(field[1:] for field in window[:3]), window.precision)
    y = _convolve(x, kernel, flat, asked)
    return y.reshape(batch, steps, *y.shape[1:])


def kernel_gradient(
    x: Float[Array, "b *grid c"],
    dy: Float[Array, "b *grid2 o"],
    kernel: Sequence[int],
    window: ConvWindow,
) -> Float[Array, "*kernel c o"]:
    """Gradient of a convolution's kernel, (*kernel, c, o) float32, from its output's.

    A sum over parts of about `SITES` sites, of several examples or a band of one.
    """
    devices = parts(len(x))
    if devices == 1:
        return _by_bands(x, dy, kernel, window)
    # A loop over all rows would gather them on every device.
    x, dy = (each.reshape(devices, -1, *each.shape[1:]) for each in (x, dy))
    return jax.vmap(lambda x, dy: _by_bands(x, dy, kernel, window))(x, dy).sum(0)


def _by_bands(x, dy, kernel, window):
    (rows, first, *_), sites = dy.shape[:2], math.prod(dy.shape[1:-1])
    x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    several = max(n for n in _divisors(rows) if n == 1 or n * sites <= SITES)
    band = max(n for n in _divisors(first) if n == 1 or n * sites // first <= SITES)
    bands, count = first // band, rows // several * (first // band)
    if count == 1:
        return _product(x, dy, kernel, window)
    stride, spread = window.strides[0], (kernel[0] - 1) * window.dilation[0] + 1

    def part(x, i, start, size):
        x = x.reshape(several, rows // several, *x.shape[1:])
        x = lax.dynamic_slice_in_dim(x, i // bands, 1, 1).squeeze(1)
        return lax.dynamic_slice_in_dim(x, i % bands * start, size, 1)

    def body(i, total):
        seen = part(x, i, band * stride, (band - 1) * stride + spread)
        return total + _product(seen, part(dy, i, band, band), kernel, window)

    shape = (*kernel, x.shape[-1], dy.shape[-1])
    return lax.fori_loop(0, count, body, jnp.zeros(shape, jnp.float32))


def _product(x, dy, kernel, window):
    """`kernel_gradient` of a padded x in one product, sites innermost in both factors.

    The taps of an axis are copies of x, shifted, or copies of dy, shifted the other way
    within the padded axis, which asks for a stride of 1: whichever is narrower.
    """
    (c, o), dims = (x.shape[-1], dy.shape[-1]), len(kernel)
    of_x, widths = [], [c, o]
    for taps, stride in zip(kernel, window.strides, strict=True):
        of_x.append(stride > 1 or widths[0] <= widths[1])
        widths[not of_x[-1]] *= taps
    left = [taps if own else 1 for taps, own in zip(kernel, of_x, strict=True)]
    right = [1 if own else taps for taps, own in zip(kernel, of_x, strict=True)]
    x, dy = _sites_last(x), _sites_last(dy)
    sites = zip(dy.shape[2:], x.shape[2:], strict=True)
    axes = list(zip(of_x, sites, window.strides, window.dilation, strict=True))

    def seen(*taps):
        cut = [slice(None)] * 2
        for tap, (own, (n, _), stride, dilation) in zip(taps, axes, strict=True):
            start = tap * dilation
            every = slice(start, start + (n - 1) * stride + 1, stride)
            cut.append(every if own else slice(None))
        return x[tuple(cut)]

    def met(*taps):
        spare = [(0, 0)] * 2
        for tap, (own, (n, size), _, dilation) in zip(taps, axes, strict=True):
            start = tap * dilation
            spare.append((0, 0) if own else (start, size - n - start))
        return jnp.pad(dy, spare)

    def copies(shift, counts):
        every = itertools.product(*map(range, counts))
        stack = jnp.stack([shift(*taps) for taps in every])
        return stack.reshape(math.prod(stack.shape[:2]), -1)

    over = ((1,), (1,)), ((), ())
    exact = {"precision": window.precision, "preferred_element_type": jnp.float32}
    total = lax.dot_general(copies(seen, left), copies(met, right), over, **exact)
    total = total.reshape(*left, c, *right, o)
    order = [at for i in range(dims) for at in (i, dims + 1 + i)]
    total = total.transpose(*order, dims, 2 * dims + 1)
    return total.reshape(*kernel, c, o)


def _sites_last(x):
    """(b, *grid, c) -> (c, b, *grid), once and for all copies: fused with them, XLA
    takes the transpose again for each."""
    flat = lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    return flat.reshape(x.shape[-1], *x.shape[:-1])


def _divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


_by_products = _with_kernel_gradient(
    _plain, lambda x, dy, shape, window: kernel_gradient(x, dy, shape[:-2], window)
)


def _dilated(x, kernel, stride):
    order = ("NHC", "HIO", "NHC")
    return lax.conv_transpose(x, kernel, (stride,), "VALID", dimension_numbers=order)


def _dilated_gradient(x, dy, shape, stride):
    # A transposed convolution is a convolution from its output to its input.
    window = ConvWindow((stride,), ((0, 0),), (1,))
    return jnp.flip(kernel_gradient(dy, x, shape[:1], window).swapaxes(1, 2), 0)


_grow = _with_kernel_gradient(_dilated, _dilated_gradient)


class TransposedConvolution(nn.Module):
    """(b, n, c) -> (b, (n - 1) * stride + kernel, out), `nn.ConvTranspose` unpadded.

    implementation: of `convolution`; on a CPU products always pay.
    """

    out: int
    kernel: int
    stride: int
    dtype: str = "float32"
    implementation: Convolution | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b l out"]:
        start, shape = nn.initializers.lecun_normal(), (self.kernel, x.shape[-1])
        kernel = self.param("kernel", start, (*shape, self.out))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.out,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        grow = _grow if choose(self.implementation) == "products" else _dilated
        return grow(x, kernel, self.stride) + bias
