"""The causal video backbone: what sees what, and an image as a video of one frame."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.tokenizer import CausalDecoder, CausalEncoder, ConvEncoder, Tokenizer

KEY = jax.random.key(0)


def drawn(*shape, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


def build(channels=8, multipliers=(1, 1), blocks=1, attention=True, **fields):
    shape = {"channels": channels, "multipliers": multipliers, "blocks": blocks}
    shape |= {"mid_attention": attention, **fields}
    encoder, decoder = CausalEncoder(**shape, out=6), CausalDecoder(**shape, out=2)
    return Tokenizer(encoder, decoder, None, dim=3)


@functools.cache
def variables(module):
    t = module.factor[0]
    x = jnp.zeros((1, 1 + t, 4, 4, 2))
    return {"params": quick.parameters(jax.eval_shape(module.init, KEY, x)["params"])}


def run(module, method, x):
    return _run(module, method, variables(module), x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(module, method, variables, x):
    return module.apply(variables, x, method=method)


# Time shrinks by a strided convolution, between levels that look back in time or do
# not, or is folded into channels at the start.
ALL = pytest.mark.parametrize(
    "module",
    [
        build(),
        pytest.param(build(temporal=(False, True)), marks=pytest.mark.slow),
        build(multipliers=(1,), patch=(2, 2, 2)),
    ],
)


@pytest.mark.slow
@ALL
def test_no_latent_sees_a_later_frame(module):
    x = drawn(2, 7, 4, 4, 2)
    z = run(module, "encode", x)
    assert z.shape == (2, 4, 2, 2, 3) and module.factor == (2, 2, 2)
    for last in (1, 3, 5):  # the frames after which everything is another
        other = x.at[:, last:].set(drawn(2, 7 - last, 4, 4, 2, seed=last))
        seen = run(module, "encode", other)
        known = (last - 1) // 2 + 1
        np.testing.assert_array_equal(seen[:, :known], z[:, :known])
        assert (seen[:, known:] != z[:, known:]).any(axis=(2, 3, 4)).all()


@ALL
def test_no_frame_sees_a_later_latent(module):
    q = drawn(2, 4, 2, 2, 3)
    y = run(module, "decode", q)
    assert y.shape == (2, 7, 4, 4, 2) and y.dtype == jnp.float32
    for last in (1, 2, 3):
        other = q.at[:, last:].set(drawn(2, 4 - last, 2, 2, 3, seed=last))
        seen, known = run(module, "decode", other), 1 + 2 * (last - 1)
        np.testing.assert_array_equal(seen[:, :known], y[:, :known])
        assert (seen[:, known:] != y[:, known:]).any(axis=(2, 3, 4)).all()


@pytest.mark.slow
@ALL
def test_an_image_is_the_first_frame_of_a_video(module):
    x = drawn(2, 7, 4, 4, 2)
    z, image = run(module, "encode", x), run(module, "encode", x[:, :1])
    assert image.shape == (2, 1, 2, 2, 3)
    np.testing.assert_allclose(image, z[:, :1], rtol=1e-4, atol=1e-5)
    y, image = run(module, "decode", z), run(module, "decode", z[:, :1])
    assert image.shape == (2, 1, 4, 4, 2)
    np.testing.assert_allclose(image, y[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "fields,back",
    [
        # 3 convolutions of 2 frames before the stride, its own, 7 of 4 after it.
        ({"strides": ((2, 1, 1),)}, 2 + 2 * 2 + 2 + 7 * 4),
        # The first level looks back only where time steps: its own, 7 of 2 after it.
        pytest.param(
            {"strides": ((2, 1, 1),), "temporal": (False, True)},
            2 + 7 * 4,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"strides": ((2, 1, 1),), "temporal": (True, False)},
            2 + 2 * 2 + 2,
            marks=pytest.mark.slow,
        ),
        # Steps that leave time as it is are the finer level's.
        pytest.param(
            {
                "multipliers": (1, 1, 1),
                "strides": ((1, 1, 1), (2, 1, 1)),
                "temporal": (False, True, True),
            },
            2 * 2 + 2 + 7 * 4,
            marks=pytest.mark.slow,
        ),
        # 1 frame in a fold, then 8 convolutions of 4.
        pytest.param(
            {"multipliers": (1,), "patch": (2, 1, 1)},
            1 + 8 * 4,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_context_is_how_far_back_is_seen(fields, back):
    """Of the encoder in frames, of the decoder in latents, and not one more."""
    module = build(channels=4, attention=False, **fields)
    encoder, decoder = module.encoder, module.decoder
    assert encoder.context == (back, 0)

    def seen(method, x, sites):
        outputs = lambda x: module.apply(variables(module), x, method=method)
        last = lambda x: jnp.square(outputs(x)[:, sites]).sum()
        slopes = jax.jit(jax.grad(last))(x)
        return np.flatnonzero(np.abs(np.asarray(slopes)).max(axis=(0, 2, 3, 4)))

    variables(module)  # made outside the trace
    (back, ahead), n = encoder.context, 19
    frames = seen("encode", drawn(1, 1 + 2 * n, 1, 1, 2), n)
    assert (frames[0], frames[-1]) == (2 * n - back, 2 * n + ahead)
    (back, ahead), n = decoder.context, 25
    frames = seen("decode", drawn(1, 1 + n, 1, 1, 3), slice(2 * n - 1, None))
    assert (frames[0], frames[-1]) == (n - back, n + ahead)


@pytest.mark.parametrize(
    "fields,frames,latents",
    [
        # Back: 9 convolutions of a latent, 6 of a frame, of which half is a latent.
        ({"strides": ((2, 1, 1),)}, 2 + 2 * 2 + 2 + 7 * 4, 9 * 2 + 6),
        # The first level looks back only where time steps.
        (
            {"strides": ((2, 1, 1),), "temporal": (False, True)},
            2 + 7 * 4,
            9 * 2 + 1,
        ),
        ({"strides": ((2, 1, 1),), "temporal": (True, False)}, 2 + 2 * 2 + 2, 6),
        (
            {
                "multipliers": (1, 1, 1),
                "strides": ((1, 1, 1), (2, 1, 1)),
                "temporal": (False, True, True),
            },
            2 * 2 + 2 + 7 * 4,
            9 * 2 + 5,
        ),
        ({"multipliers": (1,), "patch": (2, 1, 1)}, 1 + 8 * 4, 10 * 2),
        ({"multipliers": (1,), "patch": (3, 1, 1)}, 2 + 8 * 6, 10 * 2),
    ],
)
def test_context_by_hand(fields, frames, latents):
    module = build(channels=4, attention=False, **fields)
    assert module.encoder.context == (frames, 0)
    assert module.decoder.context == (latents, 0)


def test_strides_of_time_and_space_are_told_apart():
    encoder = CausalEncoder(
        channels=4, multipliers=(1, 1, 1, 1), strides=((1, 2, 2), (2, 2, 2), (2, 1, 1))
    )
    assert encoder.factor == (4, 4, 4)
    assert encoder.clone(strides=((1, 2, 2), (1, 2, 2), (2, 2, 2))).factor == (2, 8, 8)
    assert encoder.grid((17, 8, 12)) == (5, 2, 3)
    assert encoder.grid((1, 4, 4)) == (1, 1, 1)


@pytest.mark.parametrize(
    "shape,message",
    [
        ((16, 8, 8), "16 frames are not 1 . 4 k; the nearest that are: 13 or 17"),
        ((0, 8, 8), "1 or 5"),
        ((17, 8, 9), "nearest that are: .8, 8. or .8, 12."),
        ((8, 8), "frames, height, width"),
    ],
)
def test_a_video_that_does_not_fit_is_refused_with_the_nearest_that_do(shape, message):
    with pytest.raises(ValueError, match=message):
        CausalEncoder(multipliers=(1, 1, 1)).grid(shape)
    if len(shape) == 3:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(CausalEncoder().init, KEY, jnp.zeros((1, *shape, 3)))


@pytest.mark.slow
def test_training_starts_with_every_frame_on_its_own():
    """Or a deep stack of convolutions would blur the frames before it has learned."""
    module = build(strides=((1, 2, 2),))
    x = drawn(1, 3, 4, 4, 2)
    held = jax.jit(module.init)(KEY, x)
    encode = functools.partial(_run, module, "encode", held)
    z = encode(x)
    for i in range(3):
        np.testing.assert_allclose(encode(x[:, i : i + 1]), z[:, i : i + 1], atol=1e-4)
    # A step in time starts with the mean of its two frames.
    steps = build()
    frames = drawn(1, 7, 4, 4, 2)
    own = jax.jit(steps.init)(KEY, frames)
    still = np.asarray(_run(steps, "encode", own, frames))
    for frame in range(7):
        other = np.array(frames)
        other[:, frame] += 0.5
        moved = np.asarray(_run(steps, "encode", own, other)) - still
        found = np.flatnonzero(np.abs(moved).max(axis=(0, 2, 3, 4)) > 1e-5)
        assert found.tolist() == [(frame + 1) // 2]
    y, _ = _run(module, "__call__", held, x)
    for i in range(3):
        alone, _ = _run(module, "__call__", held, x[:, i : i + 1])
        np.testing.assert_allclose(alone, y[:, i : i + 1], atol=1e-4)
    # And what it starts with has the spread of a network of pictures.
    assert 0.1 < z.std() < 10 and (jnp.abs(y).max() > 1e-3)


def test_parameters_are_those_of_the_convolutional_backbone():
    count = lambda module: sum(
        leaf.size
        for leaf in jax.tree.leaves(
            jax.eval_shape(module.init, KEY, jnp.zeros((1, 5, 4, 4, 3)))
        )
    )
    shape = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "out": 4}
    causal = CausalEncoder(**shape, strides=((1, 2, 2),))
    plain = ConvEncoder(**shape, dims=3, mid_attention=False, strides=((1, 2, 2),))
    assert count(causal) == count(plain)
