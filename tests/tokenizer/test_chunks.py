"""Long signals in pieces: equal to the whole, everywhere, in bounded memory."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit import Codec
from vqdit.quantizers import FSQ, MultiScaleQuantizer, VectorQuantizer
from vqdit.signal.grids import fold, unfold
from vqdit.tokenizer import (
    CausalDecoder,
    CausalEncoder,
    ConvDecoder,
    ConvEncoder,
    LogMel,
    Tokenizer,
    WaveDecoder,
    WaveEncoder,
    chunks,
    decode_chunks,
    encode_chunks,
)
from vqdit.trained.contract import contract_of

KEY = jax.random.key(0)


def wave(causal):
    shape = {"channels": 4, "strides": (2, 3), "dilations": (1, 2), "kernel": 3}
    encoder = WaveEncoder(**shape, out=4, causal=causal)
    return Tokenizer(encoder, WaveDecoder(**shape, out=2, causal=causal), FSQ((9, 9)))


def video():
    shape = {"channels": 4, "multipliers": (1, 1, 1), "blocks": 0}
    shape |= {"mid_attention": True, "strides": ((2, 1, 1), (2, 2, 2))}
    encoder = CausalEncoder(**shape, out=4)
    return Tokenizer(encoder, CausalDecoder(**shape, out=2), None, dim=3)


def folded():
    """Time in a patch of two frames and in a step between levels, one of pictures."""
    shape = {"channels": 4, "multipliers": (1, 1), "blocks": 0, "patch": (2, 1, 1)}
    shape |= {"strides": ((2, 2, 2),), "temporal": (False, True)}
    encoder = CausalEncoder(**shape, out=4)
    return Tokenizer(encoder, CausalDecoder(**shape, out=2), None, dim=3)


def patched():
    """Time in a patch alone: a latent stands for its frames and sees no other."""
    shape = {"channels": 4, "multipliers": (1,), "blocks": 0, "patch": (2, 1, 1)}
    shape |= {"strides": (), "temporal": (False,)}
    encoder = CausalEncoder(**shape, out=4)
    return Tokenizer(encoder, CausalDecoder(**shape, out=2), None, dim=3)


MODULES = {
    "wave": wave(False),
    "causal wave": wave(True),
    "video": video(),
    "folded video": folded(),
    "patched video": patched(),
}
SIDES = {"wave": (), "causal wave": (), "video": (2, 2), "folded video": (2, 2)}
SIDES["patched video"] = (2, 2)


def drawn(*shape):
    x = np.random.default_rng(0).uniform(-1, 1, shape)
    return np.asarray(x, np.float32)


@functools.cache
def variables(name):
    """Drawn at random, biases too: with none of them zero, padding shows."""
    x = jnp.zeros((1, 13 if "video" in name else 12, *SIDES[name], 2))
    shapes = jax.eval_shape(MODULES[name].init, KEY, x)
    state = {k: v for k, v in shapes.items() if k != "params"}
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
    return {"params": quick.parameters(shapes["params"]), **state}


@functools.partial(jax.jit, static_argnums=0)
def whole(module, variables, x):
    quantized = module.apply(variables, x, method=lambda m, x: m.quantize(m.encode(x)))
    return quantized, module.apply(variables, quantized.latents, method="decode")


@pytest.fixture(autouse=True)
def traces(monkeypatch):
    """What is compiled, anew in each test."""
    count, plain = [], jax.jit

    def jit(function):
        def traced(*inputs):
            count.append(function)
            return function(*inputs)

        return plain(traced)

    chunks._programs.cache_clear()
    monkeypatch.setattr(chunks.jax, "jit", jit)
    yield count
    chunks._programs.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_pieces_make_the_whole(name, traces):
    """To rounding, at both ends and at every seam; one program for all pieces."""
    module, held, sides = MODULES[name], variables(name), SIDES[name]
    alone = "video" in name
    factor = module.factor[0]
    reach = sum(-(-side // factor) for side in module.encoder.context)
    back = sum(module.decoder.context)
    longest = factor * (max(reach, back) + 9) + alone
    x = drawn(2, longest, *sides, 2)
    expected, signal = whole(module, held, x)
    for chunk in (1, 4 * factor) if name == "wave" else (2 * factor + 1,):
        traces.clear()
        chunks._programs.cache_clear()
        found = encode_chunks(module, held, x, chunk)
        np.testing.assert_allclose(
            found.latents, expected.latents, rtol=1e-4, atol=1e-5, err_msg=f"{chunk}"
        )
        if found.codes is not None:
            np.testing.assert_array_equal(found.codes, expected.codes)
        y = decode_chunks(module, held, np.asarray(expected.latents), chunk)
        np.testing.assert_allclose(y, signal, rtol=1e-4, atol=1e-5, err_msg=f"{chunk}")
        assert len(traces) == 2  # one each way
    if found.codes is not None:
        again = decode_chunks(module, held, found.codes, chunk)
        np.testing.assert_allclose(again, y, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name,short", [("wave", 6 * 30 - 4), ("video", 12)])
def test_a_length_that_does_not_fit_is_padded_and_cropped(name, short):
    module, held, sides = MODULES[name], variables(name), SIDES[name]
    x = drawn(1, short, *sides, 2)
    full = 6 * 30 if name == "wave" else 13
    widths = ((0, 0), (0, full - short), *((0, 0),) * (x.ndim - 2))
    padded = np.pad(x, widths, mode="constant" if name == "wave" else "edge")
    found = encode_chunks(module, held, x, 12)
    expected, signal = whole(module, held, padded)
    np.testing.assert_allclose(found.latents, expected.latents, rtol=1e-4, atol=1e-5)
    y = decode_chunks(module, held, found.latents, 12, length=short)
    assert y.shape == x.shape
    np.testing.assert_allclose(y, signal[:, :short], rtol=1e-4, atol=1e-5)


def test_latents_lie_on_the_first_axis():
    """1 + 4 k frames or 4 k samples are 1 + k latents or k, and cover any length."""
    frames, samples = chunks._Time(4, True), chunks._Time(4, False)
    assert [frames.length(n) for n in range(4)] == [0, 1, 5, 9]
    assert [samples.length(n) for n in range(4)] == [0, 4, 8, 12]
    assert [frames.latents(n) for n in (1, 2, 5, 6, 9, 10)] == [1, 2, 2, 3, 3, 4]
    assert [samples.latents(n) for n in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    x = np.arange(1.0, 7).reshape(1, 6, 1)
    take = lambda *where: chunks._take(x, *where)[0, :, 0].tolist()
    assert take(4, 8, False) == [5, 6, 0, 0] and take(4, 8, True) == [5, 6, 6, 6]
    assert take(1, 3, True) == [2, 3]


class Fold(nn.Module):
    """Two frames a latent, the first alone; or back."""

    back: bool = False
    out: int = 2
    factor = (2,)
    causal = True
    dtype = "float32"
    borders = ("past",)

    @property
    def context(self):
        return (0, 0) if self.back else (1, 0)

    def __call__(self, x):
        return (unfold if self.back else fold)(x, (2,), ("past",))


def test_a_first_frame_is_alone_in_the_signal_and_in_no_piece():
    """Without any weights: every frame is its number, wherever pieces are cut."""
    module = Tokenizer(Fold(), Fold(True), dim=2, into=None, back=None)
    x = np.arange(1.0, 10, dtype=np.float32).reshape(1, 9, 1)
    pairs = [[1, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    for chunk in (1, 2, 5, 100):
        z = encode_chunks(module, {}, x, chunk).latents
        assert z[0].tolist() == pairs
        y = decode_chunks(module, {}, z, chunk)
        np.testing.assert_array_equal(y, x)
    # What does not fit is filled up by the last frame, and cropped.
    z = encode_chunks(module, {}, x[:, :8], 3).latents
    assert z[0, -1].tolist() == [8, 8]
    y = decode_chunks(module, {}, z, 3, length=8)
    np.testing.assert_array_equal(y, x[:, :8])


def test_a_codec_takes_any_length():
    module, held = MODULES["wave"], variables("wave")
    signal = {"kind": "audio", "shape": (12, 2)}
    moments = [0.0] * module.latent_dim, [1.0] * module.latent_dim
    codec = Codec(module, held, contract_of(module, signal, (2,), *moments, held))
    x = drawn(1, 6 * 30 - 4, 2)
    found, expected = codec.encode_long(x, 12), encode_chunks(module, held, x, 12)
    np.testing.assert_array_equal(found.codes, expected.codes)
    y = codec.decode_long(found.codes, 12, length=x.shape[1])
    expected = decode_chunks(module, held, found.codes, 12, x.shape[1])
    np.testing.assert_array_equal(y, expected.clip(-1, 1))
    assert np.abs(expected).max() > 1  # it clips, as does decode
    # But not what is normalised, which has no bounds.
    free = dataclasses.replace(codec.contract, offset=(0.0,), scale=(2.0,))
    y = Codec(module, held, free).decode_long(found.codes, 12, length=x.shape[1])
    np.testing.assert_array_equal(y, expected)
    for wrong, message in ((x[..., :1], "or other sides"), (x[:, :0], "no values")):
        with pytest.raises(ValueError, match=message):
            codec.encode_long(wrong, 12)


def test_pieces_cover_every_latent_once_and_have_one_size():
    for count in range(1, 30):
        for chunk, before, after in [(1, 0, 0), (1, 3, 2), (4, 0, 5), (7, 6, 0)]:
            pieces = list(chunks._pieces(count, chunk, before, after))
            kept = [i for p in pieces for i in range(p.first, p.last)]
            assert kept == list(range(count))
            assert len({p.size for p in pieces}) == 1
            for p in pieces:
                assert 0 <= p.start and p.start + p.size <= count
                assert p.start == 0 or p.first - p.start >= before
                assert p.start + p.size == count or p.start + p.size - p.last >= after
    with pytest.raises(ValueError, match="at least 1"):
        list(chunks._pieces(4, 0, 1, 1))


def test_what_depends_on_the_whole_signal_is_refused():
    shape = {"channels": 4, "multipliers": (1, 1), "dims": 1, "out": 4}
    module = Tokenizer(ConvEncoder(**shape), ConvDecoder(**shape), None, dim=2)
    for call in (encode_chunks, decode_chunks):
        with pytest.raises(
            ValueError, match="ConvEncoder cannot work|ConvDecoder cannot work"
        ):
            call(module, {}, drawn(1, 8, 2), 4)
    book = VectorQuantizer(5, 4)
    module = wave(True).clone(quantizer=MultiScaleQuantizer(book, ((1,), (2,))))
    with pytest.raises(ValueError, match="codes of the whole signal"):
        encode_chunks(module, {}, drawn(1, 12, 2), 6)
    front = LogMel(rate=80, window=16, hop=4, bands=4)
    with pytest.raises(ValueError, match="behind LogMel cannot"):
        encode_chunks(wave(True).clone(front=front), {}, drawn(1, 12, 2), 6)
