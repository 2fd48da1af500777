"""Borders and strides of the convolutional backbone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests import quick
from vqdit.nn.convolution import convolve, upsample
from vqdit.signal.grids import divide, fold, unfold
from vqdit.tokenizer import CausalEncoder, ConvDecoder, ConvEncoder, Tokenizer

KEY = jax.random.key(0)


def drawn(*shape):
    x = np.random.default_rng(0).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


def variables(module, x):
    shapes = jax.eval_shape(module.init, KEY, x)["params"]
    return {"params": quick.parameters(shapes)}


class One(nn.Module):
    """A single convolution."""

    borders: tuple[str, ...]
    strides: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x):
        return convolve(x, 3, "conv", self.borders, self.strides)


@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 2, 2), (1, 2, 1), (2, 1, 1)])
@pytest.mark.parametrize("border", ["zero", "past"])
def test_a_3d_convolution_by_planes_is_a_3d_convolution(strides, border):
    module, x = One((border, "zero", "zero"), strides), drawn(2, 5, 4, 6, 2)
    params = variables(module, x)
    y = module.apply(params, x)
    around = {1: (1, 1), 2: (0, 1)}
    padding = [around[stride] for stride in strides]
    padded = x
    if border == "past":
        padded = jnp.concatenate([x[:, :1], x[:, :1], x], axis=1)
        padding[0] = (0, 0)
    expected = lax.conv_general_dilated(
        padded,
        params["params"]["conv"]["kernel"],
        strides,
        padding,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    expected += params["params"]["conv"]["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strides", [(), (1, 2), (2, 2)])
def test_a_circle_has_its_other_end_outside_and_an_axis_alone_nothing(strides):
    """With stride 2 after it, not around it, as zeros are."""
    x = drawn(2, 4, 6, 2)
    widths = [((1, 1), (0, 1))[stride - 1] for stride in strides or (1, 1)]
    for border in ("zero", "alone", "wrap"):
        module = One((border, "wrap"), strides)
        params = variables(module, x)
        leaf = params["params"]["conv"]
        kernel = leaf["kernel"]
        assert kernel.shape == (1 if border == "alone" else 3, 3, 2, 3)
        rows = (0, 0) if border == "alone" else widths[0]
        padded = np.pad(x, ((0, 0), (0, 0), widths[1], (0, 0)), mode="wrap")
        kind = {"mode": "wrap"} if border == "wrap" else {}
        padded = np.pad(padded, ((0, 0), rows, (0, 0), (0, 0)), **kind)
        expected = lax.conv_general_dilated(
            jnp.asarray(padded),
            kernel,
            strides or (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        y = module.apply(params, x)
        np.testing.assert_allclose(y, expected + leaf["bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_over_the_past_starts_as_one_of_the_present(stride):
    """Of the mean of the sites that it steps over; the first stands for all before."""
    module, x = One(("past", "zero"), (stride, 1)), drawn(2, 5, 4, 2)
    kernel = module.init(KEY, x)["params"]["conv"]["kernel"]
    assert not kernel[: 3 - stride].any()
    np.testing.assert_array_equal(kernel[-1], kernel[-stride])
    # Of variance 1 / fan-in, in all that it sees: 6 of one site, or of a mean.
    spread = np.asarray(
        module.init(KEY, drawn(1, 5, 4, 300))["params"]["conv"]["kernel"]
    )
    assert np.var(spread[-1]) == pytest.approx(1 / 900 / stride**2, rel=0.1)


def test_sites_are_repeated_and_the_first_of_a_causal_axis_stays_alone():
    x = jnp.arange(6.0).reshape(1, 3, 2, 1)
    y = upsample(x, ("past", "zero"), (2, 1))[0, ..., 0]
    assert y.tolist() == [[0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    y = upsample(x, ("zero", "wrap"), (1, 2))[0, ..., 0]
    assert y.tolist() == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]


def build(**fields):
    shape = {"channels": 8, "multipliers": (1, 1, 1), "blocks": 1, **fields}
    return Tokenizer(
        ConvEncoder(**shape, out=6), ConvDecoder(**shape, out=2), None, dim=4
    )


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, x):
    """(latents, reconstruction)."""
    return module.apply(params, x, method=lambda m, x: (m.encode(x), m(x)[0]))


@pytest.mark.slow
def test_turning_a_range_image_turns_its_latents_and_its_reconstruction():
    """By a multiple of the factor along azimuth; not so with an edge there."""
    strides = ((1, 2), (2, 2))
    x = drawn(2, 8, 24, 2)
    module = build(wrap=(False, True), strides=strides)
    params = variables(module, x)

    z, y = run(module, params, x)
    assert module.factor == (2, 4)
    assert z.shape == (2, 4, 6, 4) and y.shape == x.shape
    turned_z, turned_y = run(module, params, jnp.roll(x, 8, axis=2))
    np.testing.assert_allclose(turned_z, jnp.roll(z, 2, axis=2), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(turned_y, jnp.roll(y, 8, axis=2), rtol=1e-4, atol=1e-5)

    # The rows have ends, and so has azimuth where nothing says that it is a circle.
    turned, _ = run(module, params, jnp.roll(x, 4, axis=1))
    assert np.abs(turned - jnp.roll(z, 2, axis=1)).max() > 0.01
    flat = build(strides=strides)
    z, _ = run(flat, params, x)
    turned, _ = run(flat, params, jnp.roll(x, 8, axis=2))
    assert np.abs(turned - jnp.roll(z, 2, axis=2)).max() > 0.01


def test_factor_and_grid_follow_the_strides():
    plain = ConvEncoder(multipliers=(1, 1, 1), dims=3)
    assert plain.factor == (4, 4, 4) and plain.grid((8, 4, 12)) == (2, 1, 3)
    flat = plain.clone(strides=((1, 2, 2), (2, 2, 2)))
    assert flat.factor == (2, 4, 4) and flat.grid((8, 4, 12)) == (4, 1, 3)
    assert ConvEncoder(multipliers=(1,)).factor == (1, 1)


@pytest.mark.parametrize(
    "shape,nearest",
    [((8, 6), r"\(8, 4\) or \(8, 8\)"), ((3, 8), r"nearest that are: \(4, 8\)")],
)
def test_sides_that_do_not_fit_are_refused_with_the_nearest_that_do(shape, nearest):
    with pytest.raises(ValueError, match=nearest):
        ConvEncoder(multipliers=(1, 1, 1)).grid(shape)


@pytest.mark.parametrize("patches", [(2, 3), (1, 2), (1, 1), (4,), (1, 2, 2)])
def test_folding_is_undone_and_keeps_patches_together(patches):
    x = drawn(2, *(p * (2 + i) for i, p in enumerate(patches)), 3)
    y = fold(x, patches)
    grid = tuple(n // p for n, p in zip(x.shape[1:-1], patches, strict=True))
    assert y.shape == (2, *grid, 3 * np.prod(patches))
    np.testing.assert_array_equal(unfold(y, patches), x)
    corner = x[(slice(None), *(slice(p) for p in patches))]
    first = y[(slice(None), *(0 for _ in patches))]
    np.testing.assert_array_equal(first, corner.reshape(2, -1))


@pytest.mark.slow
def test_levels_that_do_not_look_along_the_first_axis_work_on_pictures():
    module = build(
        dims=3,
        multipliers=(1, 1),
        strides=((1, 2, 2),),
        temporal=(False, False),
        mid_attention=False,
    )
    x = np.asarray(drawn(1, 3, 4, 4, 2))
    other = x.copy()
    other[:, 1] += drawn(1, 4, 4, 2)

    def moved(module):
        """(frames,) whether they move where the middle one does."""
        apply, held = jax.jit(module.apply), variables(module, x)
        gap = np.asarray(apply(held, other)[0]) - np.asarray(apply(held, x)[0])
        return (np.abs(gap).max(axis=(0, 2, 3, 4)) > 0).tolist()

    assert moved(module) == [False, True, False]
    through = module.clone(
        encoder=module.encoder.clone(temporal=(False, True)),
        decoder=module.decoder.clone(temporal=(True, False)),
    )
    assert moved(through) == [True, True, True]


def test_folding_a_causal_axis_leaves_its_first_site_alone():
    x, axes = drawn(2, 7, 4, 3), ((3, 2), ("past", "zero"))
    y = fold(x, *axes)
    assert y.shape == (2, 3, 2, 18)
    np.testing.assert_array_equal(unfold(y, *axes), x)
    alone = fold(x[:, :1], *axes)
    np.testing.assert_array_equal(alone, y[:, :1])
    np.testing.assert_array_equal(alone[..., :6], alone[..., 12:])
    np.testing.assert_array_equal(unfold(y[:, 1:], *axes)[:, 0], x[:, 3])


def test_a_patch_is_part_of_the_factor_but_not_of_time():
    assert ConvEncoder(multipliers=(1, 1), patch=3).factor == (6, 6)
    assert ConvEncoder(multipliers=(1,), patch=2).grid((8, 6)) == (4, 3)
    causal = CausalEncoder(multipliers=(1, 1), patch=4)
    assert causal.factor == (2, 8, 8) and causal.grid((5, 8, 16)) == (3, 1, 2)
    module = build(multipliers=(1, 1), patch=2)
    shapes = jax.eval_shape(module.init_with_output, KEY, jnp.zeros((1, 4, 8, 2)))
    assert shapes[0][0].shape == (1, 4, 8, 2)
    assert causal.clone(patch=(4, 2, 1)).factor == (8, 4, 2)
    with pytest.raises(ValueError, match=r"patch=\(4, 2\): write .* or 3 numbers"):
        ConvEncoder(dims=3, patch=(4, 2)).grid((8, 8, 8))
    with pytest.raises(ValueError, match="patch=0: write at least 1"):
        ConvEncoder(patch=0).grid((8, 8))


def test_divide_takes_a_factor_an_axis():
    assert divide((6, 8), (3, 4)) == (2, 2)
    with pytest.raises(ValueError, match=r"\(6, 8\) or \(6, 12\)"):
        divide((6, 9), (3, 4))
    with pytest.raises(ValueError, match="at least"):
        divide((0, 4), (4, 4))


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"wrap": (True,)}, "1 flags for dims=2"),
        ({"wrap": (True, False), "causal": True}, "time does not go round; write .Fal"),
        ({"temporal": (True,)}, "temporal=.True,.: 1 flags for 3 levels"),
        ({"strides": ((2, 2),)}, "2 in all"),
        ({"strides": ((2,), (2,))}, "one tuple of 2"),
        ({"strides": ((2, 2), (2, 3))}, "each at least 1 and at most 2"),
    ],
)
def test_impossible_borders_and_strides_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(build(**fields).init, KEY, jnp.zeros((1, 8, 8, 2)))
