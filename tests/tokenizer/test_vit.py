"""Transformers over patches, and TiTok's sequence of tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from train.runtime.sharding import TOKENIZER_RULES, specs
from vqdit.quantizers import FSQ
from vqdit.tokenizer import (
    TiTokDecoder,
    TiTokEncoder,
    Tokenizer,
    ViTDecoder,
    ViTEncoder,
    encode_chunks,
)
from vqdit.tokenizer.vit import Transformer

KEY = jax.random.key(0)
SIDES = {2: (4, 6), 3: (4, 2, 2)}
SHAPE = {"patch": 2, "width": 12, "heads": 2, "mlp_ratio": 2}


def vit(depth=1, **fields):
    fields = SHAPE | {"depth": depth} | fields
    return Tokenizer(ViTEncoder(**fields, out=5), ViTDecoder(**fields), FSQ((5, 5)))


def titok(tokens=3, **fields):
    fields = SHAPE | {"depth": 1} | fields
    encoder = TiTokEncoder(tokens, **fields, out=5)
    return Tokenizer(encoder, TiTokDecoder(SIDES[2], **fields), FSQ((5, 5)))


def drawn(dims=2, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, (3, *SIDES[dims], 3))
    return jnp.asarray(x, jnp.float32)


@functools.cache
def variables(module, dims=2):
    shapes = jax.eval_shape(module.init, KEY, drawn(dims))
    state = {k: v for k, v in shapes.items() if k != "params"}
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
    return {"params": quick.parameters(shapes["params"]), **state}


@functools.partial(jax.jit, static_argnums=0)
def run(module, variables, x):
    """(latents, reconstruction, quantized)."""

    def ask(m, x):
        z = m.encode(x)
        quantized = m.quantize(z)
        return z, m.decode(quantized.latents), quantized

    return module.apply(variables, x, method=ask)


@pytest.mark.parametrize(
    "module,dims,grid",
    [
        (vit(), 2, (2, 3)),
        (vit(dtype="bfloat16"), 3, (2, 1, 1)),
        (titok(), 2, (3,)),
    ],
)
def test_the_interface_is_every_tokenizers(module, dims, grid):
    x = drawn(dims)
    z, y, quantized = run(module, variables(module, dims), x)
    assert module.grid(SIDES[dims]) == grid
    assert z.shape == (3, *grid, 2) and quantized.codes.shape == (3, *grid, 1)
    assert y.shape == x.shape and {z.dtype, y.dtype} == {jnp.dtype("float32")}
    again = quick.apply(
        module, variables(module, dims), quantized.codes, method="decode"
    )
    tolerance = 1e-5 if module.encoder.dtype == "float32" else 0.05
    np.testing.assert_allclose(again, y, atol=tolerance)
    assert specs(variables(module, dims), TOKENIZER_RULES)


def test_blocks_are_pre_norm():
    """ViT's equations 2 and 3, and the last norm, in NumPy."""
    module, x = Transformer(1, heads=2, mlp_ratio=2), drawn().reshape(3, 8, 9)[..., :6]
    given = x
    shapes = jax.eval_shape(module.init, KEY, x)["params"]
    params = quick.parameters(shapes)
    found = quick.apply(module, {"params": params}, x)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[name]["scale"] + p[name]["bias"]

    dense = lambda x, leaf: x @ leaf["kernel"] + leaf["bias"]
    x = np.asarray(x, np.float64)
    attn, mlp = p["block_00_attn"], p["block_00_mlp"]
    qkv = dense(norm(x, "block_00_attn_norm"), attn["qkv"]).reshape(3, 8, 2, 3, 3)
    q, k, v = qkv.transpose(3, 0, 2, 1, 4)
    scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(3))
    mixed = scores / scores.sum(-1, keepdims=True) @ v
    x = x + dense(mixed.transpose(0, 2, 1, 3).reshape(3, 8, 6), attn["out"])
    h = dense(norm(x, "block_00_mlp_norm"), mlp["up"])
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    x = x + dense(h, mlp["down"])
    expected = norm(x, "norm_out")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # And what leaves a block can be captured by the block's name.
    capture = lambda v: module.apply(v, given, capture_intermediates=True)[1]
    seen = jax.jit(capture)({"params": params})["intermediates"]["block_00"]
    np.testing.assert_allclose(seen["__call__"][0], x, rtol=1e-4, atol=1e-5)


def test_without_blocks_a_patch_is_all_that_its_latent_sees():
    module, x = vit(depth=0), drawn()
    z, _, _ = run(module, variables(module), x)
    other = x.at[:, 2:4, 4:6].set(drawn(seed=1)[:, 2:4, 4:6])
    seen, _, _ = run(module, variables(module), other)
    changed = np.abs(seen - z).max(axis=(0, 3)) > 1e-6
    assert changed.tolist() == [[False] * 3, [False, False, True]]
    # And the way back: a latent is all that its patch sees.
    decode = lambda z: quick.apply(module, variables(module), z, method="decode")
    moved = np.abs(decode(z.at[:, 1, 2].add(1.0)) - decode(z)).max(axis=(0, 3)) > 1e-6
    expected = np.zeros((4, 6), bool)
    expected[2:, 4:] = True
    np.testing.assert_array_equal(moved, expected)


def test_without_blocks_a_token_of_a_sequence_has_seen_no_patch():
    """What is kept is what stood beside the patches, and on the way back the masks."""
    module = titok(depth=0)
    ask = lambda x, method: quick.apply(module, variables(module), x, method=method)
    z = ask(drawn(), "encode")
    np.testing.assert_array_equal(z[1:], z[:-1])
    assert (np.ptp(z, axis=1) > 1e-3).all()
    y = ask(z + jnp.arange(3.0)[:, None, None], "decode")
    np.testing.assert_array_equal(y[1:], y[:-1])


def test_with_blocks_every_latent_sees_everything_and_knows_its_place():
    for module in (vit(), titok()):
        x = drawn()
        z, y, _ = run(module, variables(module), x)
        corner = x.at[:, :2, :2].add(0.5)
        seen, _, _ = run(module, variables(module), corner)
        assert (np.abs(seen - z).max(axis=(0, -1)) > 1e-6).all()
        # Patches that trade places do not just trade their latents.
        swapped = jnp.concatenate([x[:, 2:], x[:, :2]], axis=1)
        seen, _, _ = run(module, variables(module), swapped)
        moved = seen if z.ndim == 3 else jnp.concatenate([seen[:, 1:], seen[:, :1]], 1)
        assert np.abs(moved - z).max() > 1e-3


def test_a_patch_may_have_another_side_on_every_axis():
    module, x = vit(depth=0, patch=(1, 2, 1)), drawn(3)
    z, y, _ = run(module, variables(module, 3), x)
    assert z.shape == (3, 4, 1, 2, 2) and module.grid(SIDES[3]) == (4, 1, 2)
    assert y.shape == x.shape and module.factor == (1, 2, 1)
    seen, _, _ = run(module, variables(module, 3), x.at[:, 2, 1, 0].add(0.5))
    changed = np.abs(seen - z).max(axis=(0, -1)) > 1e-6
    assert np.argwhere(changed).tolist() == [[2, 0, 0]]


CAUSAL = vit(depth=2, patch=(2, 2, 1), causal=True)


@functools.cache
def of_video():
    shapes = jax.eval_shape(CAUSAL.init, KEY, film())
    return {"params": quick.parameters(shapes["params"])}


def film(seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, (2, 7, 4, 2, 3))
    return jnp.asarray(x, jnp.float32)


@pytest.mark.slow
def test_causal_transformers_see_nothing_that_comes_later():
    held, x = of_video(), film()
    encode = lambda x: quick.apply(CAUSAL, held, x, method="encode")
    z = encode(x)
    assert z.shape == (2, 4, 2, 2, 2) and CAUSAL.grid((7, 4, 2)) == (4, 2, 2)
    for last in (1, 3, 5):  # the frames after which everything is another
        seen = encode(x.at[:, last:].set(film(1)[:, last:]))
        known = (last - 1) // 2 + 1
        np.testing.assert_allclose(seen[:, :known], z[:, :known], atol=1e-5)
        assert (np.abs(seen - z)[:, known:].max(axis=(2, 3, 4)) > 1e-3).all()
    decode = lambda z: quick.apply(CAUSAL, held, z, method="decode")
    y = decode(z)
    assert y.shape == x.shape
    moved = np.abs(decode(z.at[:, 2].add(1.0)) - y).max(axis=(0, 2, 3, 4))
    assert (moved[:3] < 1e-5).all() and (moved[3:] > 1e-3).all()
    # Within a moment all see each other.
    seen = encode(x.at[:, 0, 2:, 1].add(0.5))
    assert (np.abs(seen - z)[:, 0].max(axis=(0, -1)) > 1e-3).all()
    moved = np.abs(decode(z.at[:, 3, 1, 1].add(1.0)) - y)[:, 5:].max(axis=(0, -1))
    assert (moved > 1e-4).all()
    # The first frame is an image.
    np.testing.assert_allclose(encode(x[:, :1]), z[:, :1], atol=1e-5)
    np.testing.assert_allclose(decode(z[:, :1]), y[:, :1], atol=1e-5)


def test_what_does_not_fit_is_refused():
    for encoder in (vit().encoder, titok().encoder):
        with pytest.raises(ValueError, match=r"nearest that are: \(4, 6\) or \(4, 8\)"):
            encoder.grid((4, 7))
    with pytest.raises(ValueError, match="6 frames are not 1 . 2 k.* 5 or 7"):
        CAUSAL.grid((6, 4, 2))
    for module in (vit(patch=(2, 2, 2)), titok(patch=(2, 2, 2))):
        with pytest.raises(ValueError, match="write one number for all, or 2"):
            module.grid((4, 6))
    for make in (vit, titok):
        for patch in (0, -4, (0, 2)):
            with pytest.raises(ValueError, match="patch=.*each at least 1"):
                make(patch=patch)
    assert vit(patch=(2, 2)).factor == (2, 2) == vit().factor
    assert vit(causal=True).factor == (2, 2, 2)
    with pytest.raises(ValueError, match="causal=True and the other without"):
        CAUSAL.clone(decoder=CAUSAL.decoder.clone(causal=False, patch=(2, 2, 1)))
    for part in (TiTokEncoder, functools.partial(TiTokDecoder, (4, 6))):
        with pytest.raises(ValueError, match="causal=True: a token is of no place"):
            part(causal=True)
    wide = titok(width=14, heads=4)
    with pytest.raises(ValueError, match="4 heads do not divide the width 14"):
        jax.eval_shape(wide.init, KEY, drawn())
    for module in (vit(), titok()):
        with pytest.raises(ValueError, match="Encoder cannot work in chunks"):
            encode_chunks(module, {}, np.zeros((1, 4, 6, 3), np.float32), 4)
