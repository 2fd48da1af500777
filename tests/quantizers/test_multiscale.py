import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import (
    BSQ,
    FSQ,
    IBQ,
    EMAVectorQuantizer,
    MultiScaleQuantizer,
    ResidualFSQ,
)
from vqdit.quantizers.multiscale import downsample, resize, upsample_cubic

KEY = jax.random.key(2)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_downsampling_averages_areas():
    """As adaptive average pooling does: areas share a border that divides no side."""
    np.testing.assert_array_equal(
        downsample(5, 3) * np.array([[2], [3], [2]], np.float32),
        [[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 1]],
    )
    np.testing.assert_array_equal(downsample(4, 1), np.full((1, 4), 0.25))


@pytest.mark.parametrize("size, new", [(2, 5), (3, 8), (4, 7), (1, 3)])
def test_upsampling_keeps_constants(size, new):
    matrix = upsample_cubic(size, new)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    assert (np.abs(matrix) > 0).sum(1).max() <= 4


def test_upsampling_has_the_weights_of_the_cubic_kernel():
    """Twice as fine: a quarter from a sample, a = -0.75, by hand."""
    expected = [-0.03515625, 0.26171875, 0.87890625, -0.10546875]
    np.testing.assert_allclose(upsample_cubic(6, 12)[6][1:5], expected, rtol=1e-6)
    np.testing.assert_allclose(upsample_cubic(5, 5), np.eye(5), atol=1e-7)


def test_resizing_works_axis_by_axis():
    x = draw(2, 4, 6, 3)
    found = resize(x, (2, 3), downsample)
    expected = np.asarray(x).reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def smooth(n, seed=0):
    """Grids of 4 x 4 with more in the coarse than in the fine."""
    coarse = [
        resize(draw(n, s, s, 2, seed=s + seed), (4, 4), upsample_cubic) for s in (1, 2)
    ]
    return sum(coarse) + 0.3 * draw(n, 4, 4, 2, seed=9 + seed)


@pytest.mark.slow
def test_scales_decode_one_after_the_other_and_each_helps():
    book = EMAVectorQuantizer(32, 2, start="kmeans")
    quantizer = MultiScaleQuantizer(book, (1, 2, 4))
    z = smooth(60)
    variables = jax.jit(quantizer.init)(KEY, z)
    variables, metrics = quantizer.from_data(variables, KEY, z.reshape(-1, 2), 10)
    assert metrics["usage"] == 1
    quantized = jax.jit(quantizer.apply)(variables, z)
    assert quantized.codes.shape == (60, *quantizer.code_grid, 1) == (60, 21, 1)
    program = jax.jit(lambda v, codes: quantizer.apply(v, codes, method="decode"))
    decode = lambda codes: program(variables, codes)
    errors = [float(jnp.square(z).mean())]
    for n in (1, 5, 21):
        latents = decode(quantized.codes[:, :n])
        errors.append(float(jnp.square(z - latents).mean()))
    assert (np.diff(np.log(errors)) < np.log(0.8)).all()
    np.testing.assert_array_equal(latents, quantized.latents)

    # The first scale by hand: the codeword nearest to the mean, everywhere.
    e = np.asarray(
        book.apply(
            {"codebook": variables["codebook"]["book"]},
            jnp.arange(32)[:, None],
            method="decode",
        )
    )
    mean = np.asarray(z).mean((1, 2))
    nearest = np.square(mean[:, None] - e).sum(-1).argmin(1)
    np.testing.assert_array_equal(quantized.codes[:, 0, 0], nearest)
    first = np.broadcast_to(e[nearest][:, None, None], z.shape)
    np.testing.assert_allclose(decode(quantized.codes[:, :1]), first, atol=1e-5)
    with pytest.raises(ValueError, match=r"scales end after \[1, 5, 21\]"):
        decode(quantized.codes[:, :4])


def test_convolutions_start_as_the_identity_and_learn_beside_any_book():
    quantizer = MultiScaleQuantizer(EMAVectorQuantizer(8, 2), (1, 2, 4), phis=2)
    z = smooth(8)
    variables = jax.jit(quantizer.init)(KEY, z)
    stats = {name: tree for name, tree in variables.items() if name != "params"}

    def loss(params, name):
        quantized, _ = quantizer.apply(
            {"params": params, **stats}, z, train=True, key=KEY, mutable=list(stats)
        )
        return quantized.losses[name]

    gradient = jax.jit(jax.grad(lambda p: loss(p, "codebook")))(variables["params"])
    assert set(gradient) == {"phi_0", "phi_1"}
    for phi, slope in zip(
        variables["params"].values(), jax.tree.leaves(gradient), strict=False
    ):
        assert (np.asarray(phi["kernel"]) == 0).all()
        assert (np.asarray(slope) != 0).any()


@pytest.mark.parametrize(
    "count, shared",
    [
        # Places 1/12, 13/36, 23/36 and 11/12 between the first scale and the last.
        (4, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]),
        # 1/6, 1/2 and 5/6.
        (3, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]),
    ],
)
def test_neighbouring_scales_share_a_convolution(count, shared):
    quantizer = MultiScaleQuantizer(FSQ((3,)), ((1,),) * 14, phis=count)
    kernels = {f"phi_{i}": i + jnp.ones((3, 1, 1)) for i in range(count)}
    phis = {n: {"kernel": k, "bias": jnp.zeros(1)} for n, k in kernels.items()}

    def spread(module):
        return [module._spread(jnp.ones((1, 1, 1)), i).item() for i in range(14)]

    found = quantizer.apply({"params": phis}, method=spread)
    # x + conv(x), of which a grid of one sees the kernel's middle.
    assert found == [2 + i for i in shared]


def test_a_book_is_made_of_what_all_scales_ask():
    """Pairs of mean 3 and 7, and a half of each apart; what fills no grid is left."""
    book = EMAVectorQuantizer(4, 1, start="kmeans")
    quantizer = MultiScaleQuantizer(book, ((1,), (2,)), phis=1)
    assert quantizer.start == "kmeans" and quantizer.code_counts == (4,)
    variables = jax.jit(quantizer.init)(KEY, jnp.zeros((1, 2, 1)))
    z = jnp.array([[2.0], [4.0], [6.0], [8.0], [100.0]])
    made, metrics = quantizer.from_data(variables, KEY, z, 8)
    rows = quantizer.apply(made, jnp.arange(4), method=lambda m, i: m.book.look_up(i))
    np.testing.assert_allclose(np.sort(rows[:, 0]), [-1, 1, 3, 7], rtol=1e-4)
    assert metrics["usage"] == 1
    # Two of six are -1, two 1.
    entropy = 2 / 3 * np.log(3) + 1 / 3 * np.log(6)
    np.testing.assert_allclose(metrics["perplexity"], np.exp(entropy), rtol=1e-5)
    # Where the convolution doubles what it is given, more is taken off.
    phi = {"phi_0": {"kernel": jnp.array([0.0, 1.0, 0.0]).reshape(3, 1, 1)}}
    phi["phi_0"]["bias"] = jnp.zeros(1)
    asked = quantizer.apply(
        {**made, "params": phi}, z[:4].reshape(2, 2, 1), method="ideal"
    )
    assert asked[:, 0].tolist() == [3, 7, -4, -2, -8, -6]
    with pytest.raises(ValueError, match="1 latents are less than one grid of 2"):
        quantizer.from_data(variables, KEY, z[:1])


def test_codewords_of_one_length_shrink_from_scale_to_scale():
    """At their full length the last scale takes off more than is left."""
    scales = (1, 2, 4, 8)
    coarse = [resize(draw(8, n, n, 8, seed=n), (8, 8), upsample_cubic) for n in scales]
    z = sum(coarse[:-1]) + 0.3 * coarse[-1]

    def errors(shrink):
        quantizer = MultiScaleQuantizer(BSQ(8), scales, phis=0, shrink=shrink)
        quantized, u = quantizer.apply({}, z), quantizer.book.project(z)
        for n in (1, 5, 21, 85):
            codes = quantized.codes[:, :n]
            latents = quantizer.apply({}, codes, method="decode")
            yield float(jnp.square(u - latents).mean() / jnp.square(u).mean())
        np.testing.assert_array_equal(latents, quantized.latents)

    *_, third, last = errors(1.0)
    assert last > third
    found = [*errors(0.7)]
    assert (np.diff(found) < 0).all() and found[-1] < 0.3 * last


def test_a_book_of_shrinking_scales_is_asked_in_its_own_units():
    """Of the ends of pairs: the second scale's of half the size, thus twice as far. Of
    the third pair these are 1 and -1, which the others' would be as they stand."""
    quantizer = MultiScaleQuantizer(
        EMAVectorQuantizer(6, 1, start="kmeans"), ((1,), (2,)), phis=0, shrink=0.5
    )
    z = jnp.array([2.0, 4.0, 6.0, 8.0, 2.5, 3.5]).reshape(3, 2, 1)
    variables = jax.jit(quantizer.init)(KEY, z)
    asked = quantizer.apply(variables, z, method="ideal")
    assert asked[:, 0].tolist() == [3, 7, 3, -2, 2, -2, 2, -1, 1]
    made, _ = quantizer.from_data(variables, KEY, z.reshape(-1, 1), 8)
    quantized = quantizer.apply(made, z)
    np.testing.assert_allclose(quantized.latents, z, rtol=1e-4)


def test_codes_that_end_within_a_scale_are_refused():
    quantizer = MultiScaleQuantizer(EMAVectorQuantizer(8, 2), (1, 2))
    variables = jax.eval_shape(quantizer.init, KEY, jnp.zeros((1, 2, 2, 2)))
    decode = lambda v, codes: quantizer.apply(v, codes, method="decode")
    for n in (0, 2, 6):
        with pytest.raises(ValueError, match=rf"{n} codes end .* after \[1, 5\]"):
            codes = jnp.zeros((1, n, 1), jnp.int32)
            jax.eval_shape(decode, variables, codes)


@pytest.mark.parametrize("scales", [((1,), (3,), (8,)), ((1, 1, 1), (2, 2, 3))])
def test_any_number_of_axes(scales):
    quantizer = MultiScaleQuantizer(EMAVectorQuantizer(8, 2), scales)
    z = jax.ShapeDtypeStruct((2, *scales[-1], 2), jnp.float32)
    quantized, _ = jax.eval_shape(quantizer.init_with_output, KEY, z)
    assert quantized.latents.shape == z.shape
    sites = sum(int(np.prod(scale)) for scale in scales)
    assert quantized.codes.shape == (2, sites, 1) and quantizer.code_grid == (sites,)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"scales": (4, 2)}, "none smaller than the one before"),
        ({"scales": ()}, "scales=.*write one or more"),
        ({"scales": ((1,), (2, 2))}, "one number of axes"),
        ({"scales": (1, 2), "phis": -1}, "phis=-1: write at least 0"),
        ({"scales": (1, 2), "book": IBQ(4, 2)}, "one with an estimator"),
        ({"scales": (1, 2), "book": ResidualFSQ((3,), 2)}, "a quantizer of one book"),
        ({"scales": (1, 0)}, "scales=.*each at least 1"),
        ({"scales": ((2, 1), (1, 2))}, "none smaller than the one before"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MultiScaleQuantizer(**{"book": EMAVectorQuantizer(4, 2)} | fields)


def test_another_grid_is_refused():
    quantizer = MultiScaleQuantizer(EMAVectorQuantizer(8, 2), (1, 2))
    with pytest.raises(ValueError, match=r"take \(b, 2, 2, 2\)"):
        jax.eval_shape(quantizer.init, KEY, jnp.zeros((1, 4, 4, 2)))
