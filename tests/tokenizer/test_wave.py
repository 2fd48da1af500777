import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import quick
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.signal.spectra import magnitude
from vqdit.tokenizer import LogMel, Tokenizer
from vqdit.tokenizer.conv import ConvDecoder, ConvEncoder
from vqdit.tokenizer.wave import Snake, WaveDecoder, WaveEncoder

KEY = jax.random.key(0)
SHAPE = {"channels": 2, "strides": (2, 3), "dilations": (1, 3), "kernel": 5}


def build(causal, **fields):
    shape = SHAPE | fields
    return (
        WaveEncoder(**shape, out=3, causal=causal),
        WaveDecoder(**shape, out=1, causal=causal),
    )


def noise(*shape, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


@functools.cache
def started(module, length, channels):
    x = jnp.zeros((1, length, channels))
    return quick.parameters(jax.eval_shape(module.init, KEY, x)["params"])


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, x):
    return module.apply({"params": params}, x)


@functools.partial(jax.jit, static_argnums=0)
def seen(module, params, x):
    """(outputs of a channel, inputs): which output moves when which input does."""

    def once(x):
        return module.apply({"params": params}, x[None])[0, :, 0]

    return jnp.abs(jax.jacrev(once)(x)).sum(-1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_context_is_what_an_output_sees(causal):
    """Exactly: the first and the last input with a gradient, of every output."""
    encoder, decoder = build(causal)
    factor, latents = 6, 40
    x = noise(latents * factor, 1)
    moved = np.asarray(seen(encoder, started(encoder, 12, 1), x))
    left, right = encoder.context
    for j in (latents // 2, latents // 2 + 1):
        inputs = np.flatnonzero(moved[j])
        assert inputs[0] == j * factor - left
        assert inputs[-1] == j * factor + factor - 1 + right
    q = noise(latents, 3)
    moved = np.asarray(seen(decoder, started(decoder, 2, 3), q))
    moved = moved.reshape(latents, factor, latents).any(1)
    left, right = decoder.context
    for j in (latents // 2, latents // 2 + 1):
        inputs = np.flatnonzero(moved[j])
        assert (inputs[0], inputs[-1]) == (j - left, j + right)
    assert causal == (encoder.context[1] == 0) == (decoder.context[1] == 0)


def reach(layers, sites):
    """The inputs of several layers, first to last, on which some outputs depend.

    A layer: (kernel, stride, dilation, zeros before, whether it is transposed).
    """
    for kernel, stride, dilation, before, grows in reversed(layers):
        taps = [k * dilation for k in range(kernel)]
        if grows:  # output i * stride + k - before has input i
            moved = {i + before - k for i in sites for k in taps}
            sites = {i // stride for i in moved if i % stride == 0}
        else:
            sites = {i * stride - before + k for i in sites for k in taps}
    return min(sites), max(sites)


@pytest.mark.parametrize("strides", [(2, 3), (4,), (3, 2, 5)])
@pytest.mark.parametrize("causal", [False, True])
def test_context_is_that_of_the_layers_one_by_one(causal, strides):
    """Causal layers have all their zeros before, the others the smaller half."""
    encoder, decoder = build(causal, strides=strides, kernel=7)
    factor = int(np.prod(strides))
    assert encoder.factor == decoder.factor == (factor,)

    def conv(kernel, stride=1, dilation=1):
        zeros = (kernel - 1) * dilation + 1 - stride
        return kernel, stride, dilation, zeros if causal else zeros // 2, False

    units = [conv(7, dilation=d) for d in (1, 3)]
    down = [layer for s in strides for layer in (*units, conv(2 * s, s))]
    low, high = reach([conv(7), *down, conv(3)], {0})
    assert encoder.context == (-low, max(0, high - factor + 1))
    grow = lambda s: (2 * s, s, 1, 0 if causal else s // 2, True)
    up = [layer for s in reversed(strides) for layer in (grow(s), *units)]
    low, high = reach([conv(7), *up, conv(7)], set(range(factor)))
    assert decoder.context == (-low, high)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_pieces_with_their_context_are_the_whole(causal):
    encoder, decoder = build(causal)
    x, factor, n = noise(2, 60 * 6, 1), 6, 60
    params = started(encoder, 12, 1), started(decoder, 2, 3)
    z = run(encoder, params[0], x)
    assert z.shape == (2, n, 3) == (2, *encoder.grid((360,)), 3)
    y = run(decoder, params[1], z)
    assert y.shape == x.shape
    left, right = (-(-side // factor) for side in encoder.context)
    for low, high in ((0, 30), (30, 60)):
        start, end = max(0, low - left), min(n, high + right)
        piece = run(encoder, params[0], x[:, start * factor : end * factor])
        found = piece[:, low - start : high - start]
        np.testing.assert_allclose(found, z[:, low:high], atol=1e-5)
        start = max(0, low - decoder.context[0])
        end = min(n, high + decoder.context[1])
        piece = run(decoder, params[1], z[:, start:end])
        found = piece[:, (low - start) * factor : (high - start) * factor]
        np.testing.assert_allclose(found, y[:, low * factor : high * factor], atol=1e-5)


def test_snake_is_its_formula_and_finite_everywhere():
    x = noise(3, 4, 2) * 5
    snake = lambda log_a, x: Snake().apply({"params": {"scale": log_a}}, x)
    log_a = jnp.asarray([0.3, -1.0])
    a = np.exp(log_a)
    np.testing.assert_allclose(snake(log_a, x), x + np.sin(a * x) ** 2 / a, atol=1e-5)
    np.testing.assert_array_equal(snake(log_a, jnp.zeros((1, 2, 2))), 0)


TOKENIZERS = {
    "wave": Tokenizer(*build(False), EMAVectorQuantizer(8, 3, window=80)),
    "log-mel": Tokenizer(
        ConvEncoder(8, (1, 2), blocks=1, mid_attention=False, out=4),
        ConvDecoder(8, (1, 2), blocks=1, mid_attention=False, out=1),
        EMAVectorQuantizer(8, 3, window=80),
        front=LogMel(8000, 64, 16, bands=8, iterations=4),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wave", "log-mel"])
def test_silence_does_not_poison_training(name):
    """An all-zero batch: finite gradients, and clipped steps on it lower the loss."""
    tokenizer = TOKENIZERS[name]
    x = jnp.zeros((2, 192, 1))
    variables = jax.jit(tokenizer.init)(KEY, x)
    state = {k: v for k, v in variables.items() if k != "params"}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def loss(params, state):
        def both(model):
            quantized = model.quantize(model.encode(x), train=True, key=KEY)
            found = model.rebuild(quantized.latents)
            error = jnp.square(found - model.features(x)).mean()
            return error + 0.25 * quantized.losses["commit"]

        variables = {"params": params, **state}
        return tokenizer.apply(variables, method=both, mutable=list(state))

    @jax.jit
    def step(params, opt, state):
        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params, state)
        updates, opt = tx.update(gradient, opt, params)
        norm = optax.tree.norm(gradient)
        return optax.apply_updates(params, updates), opt, state, value, norm

    params, losses = variables["params"], []
    opt = jax.jit(tx.init)(params)
    for _ in range(20):
        params, opt, state, value, norm = step(params, opt, state)
        assert np.isfinite(norm) and norm > 0
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_bands_reach_from_low_to_high(scale):
    front = LogMel(8000, 256, 128, bands=8, low=500.0, high=2000.0, scale=scale)
    heard = np.flatnonzero(front.filters().any(0)) * 8000 / 256
    assert 500 < heard[0] < 500 + 2 * 8000 / 256
    assert 2000 - 4 * 8000 / 256 < heard[-1] < 2000


def test_a_log_mel_picture_is_its_formula_and_back():
    front = LogMel(8000, 64, 16, bands=8, floor=1e-3, iterations=8)
    x = (
        0.5
        * jnp.sin(jnp.arange(320) * 0.9)[None, :, None]
        * jnp.linspace(0, 1, 320)[:, None]
    )

    @jax.jit
    def run(x):
        features = front.apply({}, x)
        back = front.apply({}, features, method="invert")
        limits = [jnp.full_like(features, value) for value in (-1.0, 1.0, 3.0)]
        ends = [front.apply({}, each, method="invert") for each in limits]
        return features, back, front.apply({}, back), front.apply({}, 0 * x), ends

    features, back, again, silent, (quiet, full, beyond) = run(x)
    assert features.shape == (1, 20, 8, 1) and back.shape == x.shape
    mel = np.asarray(magnitude(x[..., 0], 64, 16)) @ front.filters().T
    place = np.log((mel + 1e-3) / 1e-3) / np.log((1 + 1e-3) / 1e-3)
    np.testing.assert_allclose(features[..., 0], 2 * place - 1, atol=1e-4)
    np.testing.assert_array_equal(silent, -1)
    # Louder than -40 dB, the picture of what comes back is the picture.
    loud = features > -1 + 2 / 3
    assert loud.mean() > 0.1
    assert np.abs(again - features)[loud].mean() < 0.03
    np.testing.assert_allclose(quiet, 0, atol=1e-6)
    np.testing.assert_array_equal(beyond, full)
    assert np.abs(full).max() > 0.5


def test_a_log_mel_picture_has_a_row_a_hop():
    front = LogMel(8000, 64, 16, bands=8)
    assert front.grid((320,)) == (20, 8) and front.grid((16,)) == (1, 8)
    for shape, whole in (((321,), 336), ((15,), 16), ((0,), 16), ((16, 16), 16)):
        with pytest.raises(ValueError, match=rf"hop 16 takes .* for example {whole}$"):
            front.grid(shape)
    with pytest.raises(ValueError, match="for example 16"):
        jax.eval_shape(front.init, KEY, jnp.zeros((1, 15, 1)))
    tokenizer = TOKENIZERS["log-mel"]
    assert tokenizer.grid((64,)) == (2, 4) and tokenizer.factor == (2, 2)
    with pytest.raises(ValueError, match="window longer than the hop"):
        LogMel(8000, 64, 128, bands=4)
    with pytest.raises(ValueError, match="1000 .*bands|bands.*1000"):
        LogMel(8000, 64, 16, bands=1000)


def test_of_itself_an_encoder_makes_64_channels_of_512_samples():
    shapes, _ = jax.eval_shape(WaveEncoder().init_with_output, KEY, noise(1, 1024, 1))
    assert shapes.shape == (1, 2, 64)


def test_widths_double_with_every_stride_as_published():
    """DAC's, from 64 channels to 1,024: kernels of twice the stride, of 7 and of 1."""
    shapes = {
        name: jax.tree.map(
            lambda leaf: leaf.shape,
            jax.eval_shape(part.init, KEY, jnp.zeros((1, n, c)))["params"],
        )
        for name, part, n, c in (
            ("encoder", WaveEncoder(), 512, 1),
            ("decoder", WaveDecoder(), 1, 5),
        )
    }
    encoder, decoder = shapes["encoder"], shapes["decoder"]
    assert encoder["conv_in"]["kernel"] == (7, 1, 64)
    assert encoder["conv_out"]["kernel"] == (3, 1024, 64)
    assert decoder["conv_in"]["kernel"] == (7, 5, 1024)
    assert decoder["conv_out"]["kernel"] == (7, 64, 1)
    for i, stride in enumerate((2, 4, 8, 8)):
        fine, wide = 64 * 2**i, 128 * 2**i
        assert encoder[f"down_{i}_conv"]["kernel"] == (2 * stride, fine, wide)
        assert decoder[f"up_{i}_conv"]["kernel"] == (2 * stride, wide, fine)
        assert encoder[f"down_{i}_snake"]["scale"] == (fine,)
        assert decoder[f"up_{i}_snake"]["scale"] == (wide,)
        for j in range(3):
            for part, at in ((encoder, f"down_{i}"), (decoder, f"up_{i}")):
                unit = [name for name in part if name.startswith(f"{at}_unit_{j}_")]
                kernels = [
                    part[name]["kernel"] for name in sorted(unit) if "conv" in name
                ]
                assert kernels == [(7, fine, fine), (1, fine, fine)], (at, j)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="strides"):
        WaveEncoder(strides=())
    with pytest.raises(ValueError, match="odd"):
        WaveDecoder(kernel=4)
    encoder, _ = build(False)
    with pytest.raises(ValueError, match="96.* or .*102"):
        encoder.grid((100,))
    with pytest.raises(ValueError, match="one axis"):
        encoder.grid((6, 6))
