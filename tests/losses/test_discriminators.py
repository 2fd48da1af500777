"""Discriminators: shapes, independence of examples, and what each can see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.losses.discriminators import (
    Discriminators,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    PatchDiscriminator,
)

WAVE = (480, 1)
MEMBERS = {
    "patch 2-D": (PatchDiscriminator(8, 2), (9, 8, 3), 1),
    "patch 3-D": (PatchDiscriminator(8, 2, dims=3), (5, 8, 8, 1), 1),
    "period": (MultiPeriodDiscriminator((2, 7), 2), WAVE, 2),
    "spectral": (MultiResolutionDiscriminator((64, 128), 4), WAVE, 2),
}


def judged(module, shape, x):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    variables = quick.parameters(shapes)
    return variables, jax.jit(module.apply)(variables, x)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_verdict_is_of_one_example(name):
    """No batch statistics: another neighbour, the same verdict. Nothing but params."""
    module, shape, count = MEMBERS[name]
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    variables, verdicts = judged(module, shape, x)
    assert set(variables) == {"params"} and len(verdicts) == count
    other = x.copy()
    other[1:] = 0
    _, again = judged(module, shape, other)
    for one, two in zip(verdicts, again, strict=True):
        assert one.logits.dtype == jnp.float32 and one.logits.shape[0] == 3
        assert len(one.features) >= 3 and np.std(one.logits[0]) > 0
        np.testing.assert_allclose(one.logits[0], two.logits[0], atol=1e-5)
        assert not np.allclose(one.logits[1], two.logits[1], atol=1e-3)


@pytest.mark.parametrize("name", MEMBERS)
def test_silence_has_a_finite_gradient(name):
    module, shape, _ = MEMBERS[name]
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))

    def loss(variables, x):
        return sum(v.logits.mean() for v in module.apply(variables, x))

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(
        quick.parameters(shapes), jnp.zeros((1, *shape))
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_patchgan_has_its_published_size():
    """pix2pix's 70 x 70 discriminator of three channels, but for its normalisation:
    scale and bias of GroupNorm stand for those of BatchNorm."""
    shapes = jax.eval_shape(
        PatchDiscriminator().init, jax.random.key(0), jnp.zeros((1, 256, 256, 3))
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    norms = 2 * (128 + 256 + 512)
    biases = 64 + 128 + 256 + 512 + 1
    assert sum(sizes) == kernels + norms + biases


@pytest.mark.parametrize("channels, groups", [(16, 32), (4, 1)])
def test_patchgan_is_normalised_in_32_groups_where_they_divide_the_width(
    channels, groups
):
    """What comes in front of a leaky ReLU of 0.2 has mean 0 and variance 1 in each."""
    module = PatchDiscriminator(channels, 1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    params = quick.parameters(shapes)["params"]
    width = 2 * channels
    params["norm_1"] = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), jnp.float32)
    (verdict,) = jax.jit(module.apply)({"params": params}, x)
    first, found = map(np.asarray, verdict.features)
    assert first.shape == (2, 4, 4, channels) and found.shape == (2, 4, 4, width)
    found = np.where(found > 0, found, found / 0.2)
    parts = found.reshape(2, 16, groups, -1)
    np.testing.assert_allclose(parts.mean((1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(parts.var((1, 3)), 1, rtol=1e-2)
    assert groups > 1 or np.abs(found.mean((1, 2))).max() > 0.1


def test_widths_double_up_to_eight_times_and_only_the_last_layer_keeps_the_size():
    shapes = jax.eval_shape(
        PatchDiscriminator(4, 5).init_with_output,
        jax.random.key(0),
        jnp.zeros((1, 64, 64, 1)),
    )
    (verdict,), _ = shapes
    sizes = [feature.shape[1:] for feature in verdict.features]
    widths, sides = [4, 8, 16, 32, 32, 32], [32, 16, 8, 4, 2, 2]
    assert sizes == [(s, s, w) for s, w in zip(sides, widths, strict=True)]
    assert verdict.logits.shape == (1, 2, 2, 1)


def test_discriminators_of_waveforms_have_their_published_sizes():
    """HiFi-GAN's kernels of 5 by 1, EnCodec's of 3 by 9: weights by hand."""
    count = lambda module, length: sum(
        leaf.size
        for leaf in jax.tree.leaves(
            jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, length, 1)))
        )
    )
    widths = [1, 32, 128, 512, 1024, 1024]
    layers = [5 * a * b + b for a, b in zip(widths, widths[1:], strict=False)]
    period = sum(layers) + 3 * 1024 + 1
    assert count(MultiPeriodDiscriminator(), 480) == 5 * period
    layers = [27 * 2 * 32 + 32, *[27 * 32 * 32 + 32] * 3, 9 * 32 * 32 + 32]
    window = sum(layers) + 9 * 32 + 1
    assert count(MultiResolutionDiscriminator(), 4096) == 5 * window
    names = jax.eval_shape(
        MultiResolutionDiscriminator().init, jax.random.key(0), jnp.zeros((1, 4096, 1))
    )["params"]
    assert set(names) == {f"window_{n}" for n in (2048, 1024, 512, 256, 128)}
    assert MultiPeriodDiscriminator().periods == (2, 3, 5, 7, 11)


def test_steps_of_the_waveforms_discriminators_are_the_published_ones():
    """A third of the columns' length four times, and half the bins three times."""
    x = jnp.zeros((1, 5 * 162, 1))
    verdict = MultiPeriodDiscriminator((5,), 2).init_with_output
    ((verdict,), _) = jax.eval_shape(verdict, jax.random.key(0), x)
    sizes = [feature.shape for feature in verdict.features]
    expected = [(54, 2), (18, 8), (6, 32), (2, 64), (2, 64)]
    assert sizes == [(1, n, 5, width) for n, width in expected]
    assert verdict.logits.shape == (1, 2, 5, 1)
    module = MultiResolutionDiscriminator((64,), 3)
    shapes = jax.eval_shape(
        module.init_with_output, jax.random.key(0), jnp.zeros((1, 320, 2))
    )
    ((verdict,), _) = shapes
    frames = 320 // 16
    sizes = [feature.shape for feature in verdict.features]
    assert sizes == [(1, frames, n, 3) for n in (33, 17, 9, 5, 5)]


def convolutions(module, shape):
    """(name, strides, zeros around, dilation) of each, in their order."""
    names = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    flat = jax.tree_util.tree_leaves_with_path(names["params"])
    kernels = [path[-2].key for path, _ in flat if path[-1].key == "kernel"]
    init = lambda x: module.init_with_output(jax.random.key(0), x)[0]
    equations = jax.make_jaxpr(init)(jnp.zeros((1, *shape))).jaxpr.eqns
    found = [e.params for e in equations if e.primitive.name == "conv_general_dilated"]
    fields = ("window_strides", "padding", "rhs_dilation")
    return sorted(kernels), [tuple(p[field] for field in fields) for p in found]


def test_layers_of_waveforms_discriminators_are_the_published_ones():
    names = [*(f"conv_{i}" for i in range(5)), "conv_out"]
    module = MultiPeriodDiscriminator((5,), 2, implementation="plain")
    along, still = ((2, 2), (0, 0)), (1, 1)
    expected = [((3, 1), along, still)] * 4 + [(still, along, still)]
    expected += [(still, ((1, 1), (0, 0)), still)]
    assert convolutions(module, (405, 1)) == (names, expected)
    module = MultiResolutionDiscriminator((64,), 2, implementation="plain")
    found, layers = convolutions(module, (320, 1))
    strides, _, dilations = zip(*layers, strict=True)
    assert found == names
    assert strides == ((1, 1), *[(1, 2)] * 3, (1, 1), (1, 1))
    assert dilations == ((1, 1), (1, 1), (2, 1), (4, 1), (1, 1), (1, 1))
    module = PatchDiscriminator(4, 2, implementation="plain")
    found, layers = convolutions(module, (16, 16, 1))
    assert found == ["conv_0", "conv_1", "conv_2", "conv_out"]
    assert [strides for strides, *_ in layers] == [(2, 2), (2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    "name, slope", [("patch 2-D", 0.2), ("period", 0.1), ("spectral", 0.2)]
)
def test_a_tenth_or_a_fifth_of_what_is_negative_goes_on(name, slope):
    """Of a first layer whose outputs are all -1."""
    module, shape, _ = MEMBERS[name]
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, -float(path[-1].key == "bias")),
        shapes["params"],
    )
    for verdict in jax.jit(module.apply)({"params": params}, jnp.ones((1, *shape))):
        np.testing.assert_allclose(verdict.features[0], -slope, rtol=1e-6)
        np.testing.assert_array_equal(verdict.logits, -1)


def test_noise_is_as_loud_in_every_window():
    """To networks of the same weights, which have no layer of another size."""
    x = np.random.default_rng(0).normal(size=(2, 4096, 1)).astype(np.float32)
    sizes, loud = (64, 256), []
    for size in sizes:
        module = MultiResolutionDiscriminator((size,), 2)
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *WAVE)))
        variables = quick.parameters(shapes)
        first = jax.jit(lambda v, x, m=module: m.apply(v, x)[0].features[0])
        loud.append(float(jnp.square(first(variables, x)).mean()))
    np.testing.assert_allclose(loud[0], loud[1], rtol=0.1)


def test_a_period_sees_its_own_columns():
    """A column is every p-th sample: a change in one moves no logit of another."""
    module = MultiPeriodDiscriminator((5,), 2)
    x = np.random.default_rng(0).normal(size=(1, 480, 1)).astype(np.float32)
    other = x.copy()
    other[:, 2::5] += 1
    _, (one,) = judged(module, WAVE, x)
    _, (two,) = judged(module, WAVE, other)
    moved = np.abs(np.asarray(one.logits - two.logits)).max((0, 1, 3)) > 0
    assert moved.tolist() == [False, False, True, False, False]


def test_several_are_one_after_another():
    one, two = MEMBERS["period"][0], MEMBERS["spectral"][0]
    module = Discriminators((one, two))
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *WAVE)))
    assert set(shapes["params"]) == {"members_0", "members_1"}
    found = jax.eval_shape(module.apply, shapes, jnp.zeros((2, *WAVE)))
    assert len(found) == 4


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: PatchDiscriminator(channels=0), "PatchDiscriminator.channels=0"),
        (lambda: MultiPeriodDiscriminator(()), "periods"),
        (lambda: MultiResolutionDiscriminator((100,)), "multiples of 8"),
        (lambda: MultiResolutionDiscriminator((64,), 0), "channels=0: write at least"),
        (lambda: MultiResolutionDiscriminator((64, 4)), "sizes=.64, 4.: write multi"),
        (lambda: Discriminators(()), "one or more"),
    ],
)
def test_bad_fields_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_what_nobody_writes_is_as_published():
    patch = PatchDiscriminator()
    assert (patch.channels, patch.layers, patch.dims) == (64, 3, 2)
    for module in (patch, MultiPeriodDiscriminator(), MultiResolutionDiscriminator()):
        assert module.dtype == "float32"


def test_a_signal_of_other_axes_is_refused():
    with pytest.raises(ValueError, match="dims=2"):
        jax.eval_shape(
            PatchDiscriminator().init, jax.random.key(0), jnp.zeros((1, 8, 3))
        )
    with pytest.raises(ValueError, match="at least"):
        jax.eval_shape(
            MultiPeriodDiscriminator().init, jax.random.key(0), jnp.zeros((1, 5, 1))
        )
