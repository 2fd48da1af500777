"""Transformers over short-time spectra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from train.runtime.sharding import TOKENIZER_RULES, specs
from vqdit.signal.spectra import magnitude
from vqdit.tokenizer import Tokenizer, VocosDecoder, VocosEncoder, encode_chunks
from vqdit.tokenizer.vocos import CENTRE, FLOOR, analysis, synthesis

KEY = jax.random.key(0)
SHAPE = {"window": 8, "hop": 4, "width": 12, "depth": 1, "heads": 2, "mlp_ratio": 2}


def build(channels=1, **fields):
    fields = SHAPE | fields
    encoder, decoder = VocosEncoder(**fields, out=5), VocosDecoder(**fields)
    return Tokenizer(encoder, decoder.clone(out=channels), dim=3)


def drawn(*shape, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


@functools.cache
def variables(module):
    x = jnp.zeros((1, 16, module.decoder.out))
    return {"params": quick.parameters(jax.eval_shape(module.init, KEY, x)["params"])}


@jax.jit
def twice(x):
    """(what is seen of x and of silence; the waveforms of it, and of it changed)"""
    seen, silent = (analysis(each, 32, 8) for each in (x, 0 * x))
    level, turn = seen[..., :1, :], seen[..., 1:, :]
    most = jnp.full_like(level, -CENTRE)
    drawn = {
        "same": seen,
        "longer": jnp.concatenate([level, 7 * turn], -2),
        "half": jnp.concatenate([level + np.log(0.5), turn], -2),
        "full": jnp.concatenate([most, turn], -2),
        "beyond": jnp.concatenate([most + 50, turn], -2),
        "silent": silent,
    }
    y = {name: synthesis(each, 32, 8) for name, each in drawn.items()}
    return seen, silent, magnitude(x[..., 0], 32, 8), y


def test_levels_and_directions_say_all_of_a_waveform():
    x = 0.1 * drawn(1, 96, 2)
    seen, silent, size, y = twice(x)
    assert seen.shape == (1, 12, 2, 3, 17)
    level = np.exp(seen[:, :, 0, 0] + CENTRE)
    np.testing.assert_allclose(level, np.maximum(size, FLOOR), rtol=0.02)
    long = np.linalg.norm(seen[:, :, 0, 1:], axis=-2)
    np.testing.assert_allclose(long, level**0.3, rtol=0.02)
    np.testing.assert_allclose(silent[..., 0, :], np.log(FLOOR) - CENTRE, rtol=1e-6)
    assert not silent[..., 1:, :].any() and not y["silent"].any()
    for name, expected in (("same", x), ("longer", x), ("half", y["same"] / 2)):
        np.testing.assert_allclose(y[name], expected, atol=2e-4, err_msg=name)
    np.testing.assert_array_equal(y["beyond"], y["full"])
    assert np.isfinite(y["full"]).all() and np.abs(y["full"]).max() > 1
    # -100 dB of full scale, and what is drawn as 0 is 61 dB below it.
    assert np.log10(FLOOR) * 20 == -100 and -61 < CENTRE * 20 / np.log(10) < -60


@pytest.mark.slow
@pytest.mark.parametrize("window,hop,channels", [(8, 4, 1), (32, 8, 2), (9, 3, 1)])
@pytest.mark.parametrize("loudness", [1.0, 1e-2])
def test_what_is_seen_of_a_waveform_draws_it_again(window, hop, channels, loudness):
    x = loudness * drawn(2, 24 * hop, channels)
    seen = analysis(x, window, hop)
    assert seen.shape == (2, 24, channels, 3, window // 2 + 1)
    y = synthesis(seen, window, hop)
    np.testing.assert_allclose(y, x, atol=2e-3 * loudness)
    # The direction's length is free, and the level is all that says how loud.
    longer = seen.at[..., 1:, :].multiply(7.0)
    np.testing.assert_allclose(synthesis(longer, window, hop), y, atol=1e-3 * loudness)
    louder = seen.at[..., 0, :].add(np.log(0.5))
    np.testing.assert_allclose(synthesis(louder, window, hop), y / 2, atol=1e-6)


@pytest.mark.slow
def test_levels_are_those_of_a_spectrum_between_the_floor_and_full_scale():
    x = 0.1 * drawn(2, 64, 1)
    level = analysis(x, 16, 4)[:, :, 0, 0]
    expected = np.maximum(magnitude(x[..., 0], 16, 4), FLOOR)
    np.testing.assert_allclose(np.exp(level + CENTRE), expected, rtol=0.02)
    # The spectrum beside them is that of the levels to the power 0.3.
    long = np.linalg.norm(analysis(x, 16, 4)[:, :, 0, 1:], axis=-2)
    np.testing.assert_allclose(long, np.exp(level + CENTRE) ** 0.3, rtol=0.02)
    silent = analysis(jnp.zeros((1, 64, 1)), 16, 4)
    np.testing.assert_allclose(silent[..., 0, :], np.log(FLOOR) - CENTRE, rtol=1e-6)
    assert not silent[..., 1:, :].any()
    assert not synthesis(silent, 16, 4).any()
    # However loud it is drawn, a bin has no more than full scale.
    loud = analysis(drawn(1, 64, 1), 16, 4).at[..., 0, :].set(-CENTRE)
    most = synthesis(loud, 16, 4)
    np.testing.assert_array_equal(synthesis(loud.at[..., 0, :].set(50.0), 16, 4), most)
    assert np.isfinite(most).all()


@pytest.mark.parametrize("channels,dtype", [(1, "float32"), (2, "bfloat16")])
def test_the_interface_is_every_tokenizers(channels, dtype):
    module, x = build(channels, dtype=dtype), 0.1 * drawn(3, 16, channels)
    z = quick.apply(module, variables(module), x, method="encode")
    y = quick.apply(module, variables(module), z, method="decode")
    assert module.factor == (4,) and module.grid((16,)) == (4,)
    assert z.shape == (3, 4, 3) and y.shape == x.shape
    assert specs(variables(module), TOKENIZER_RULES)
    assert {z.dtype, y.dtype} == {jnp.dtype("float32")}
    # Every latent sees every sample, and every sample every latent.
    seen = quick.apply(module, variables(module), x.at[:, 13].add(0.5), method="encode")
    assert (np.abs(seen - z).max(axis=(0, 2)) > 0).all()
    moved = quick.apply(module, variables(module), z.at[:, 0].add(1.0), method="decode")
    assert (np.abs(moved - y).max(axis=(0, 2)) > 0).all()


def test_a_latent_knows_its_place():
    module = build()
    steady = jnp.tile(0.1 * drawn(1, 4, 1), (1, 6, 1))
    z = quick.apply(module, variables(module), steady, method="encode")
    assert np.abs(z[:, 2] - z[:, 3]).max() > 1e-3
    y = quick.apply(module, variables(module), jnp.ones((1, 6, 3)), method="decode")
    frames = y.reshape(6, 4)
    assert np.abs(frames[2] - frames[3]).max() > 1e-4 * np.abs(frames).max()


def test_what_does_not_fit_is_refused():
    module = build()
    with pytest.raises(ValueError, match=r"nearest that are: \(16,\) or \(20,\)"):
        module.grid((17,))
    with pytest.raises(ValueError, match="one axis"):
        module.grid((4, 4))
    for part in (VocosEncoder, VocosDecoder):
        with pytest.raises(ValueError, match="write a window longer than the hop"):
            part(window=4, hop=8)
        with pytest.raises(ValueError, match="write at least twice the hop, 16"):
            part(window=10, hop=8)
        assert part(window=16, hop=8).factor == (8,)
        with pytest.raises(ValueError, match="causal=True: a frame sees samples after"):
            part(causal=True)
    with pytest.raises(ValueError, match="same patch or hop"):
        Tokenizer(module.encoder, module.decoder.clone(hop=2), dim=3)
    with pytest.raises(ValueError, match="VocosEncoder cannot work in chunks"):
        encode_chunks(module, {}, np.zeros((1, 16, 1), np.float32), 4)
