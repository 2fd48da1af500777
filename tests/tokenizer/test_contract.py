"""What every backbone keeps. Joining BACKBONES is the price of entry of a new one."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from tests.members import marked, missing
from train.runtime.sharding import TOKENIZER_RULES, specs
from vqdit import tokenizer
from vqdit.tokenizer import (
    Boxes,
    Bytes,
    CausalDecoder,
    CausalEncoder,
    ConvDecoder,
    ConvEncoder,
    LogMel,
    Number,
    PerFrame,
    Table,
    TiTokDecoder,
    TiTokEncoder,
    Tokenizer,
    ViTDecoder,
    ViTEncoder,
    VocosDecoder,
    VocosEncoder,
    WaveDecoder,
    WaveEncoder,
    decode_chunks,
    encode_chunks,
)
from vqdit.values import build, describe, field_names

KEY = jax.random.key(0)
CONV = {"blocks": 0, "mid_attention": False, "groups": 2}
DEEP = {"blocks": 1, "attention": (False, True), "mid_attention": True}
VIT = {"width": 8, "depth": 1, "heads": 2, "mlp_ratio": 2}
WAVE = {"channels": 4, "strides": (2, 3), "dilations": (1, 2), "kernel": 3}
TURNED = {"dims": 2, "wrap": (False, True), "strides": ((1, 2),)}
STEP = {"strides": ((2, 1, 1),), "temporal": (False, True)}


def pair(encoder, decoder, **fields):
    return encoder(**fields, out=4), decoder(**fields, out=2)


# Name -> (encoder, decoder), the signal's sides.
BACKBONES = {
    "conv": (
        pair(ConvEncoder, ConvDecoder, **CONV | DEEP, widths=(4, 6)),
        (4, 6),
    ),
    "conv_1d": (
        pair(ConvEncoder, ConvDecoder, **CONV, widths=(4, 6), dims=1),
        (12,),
    ),
    "conv_range": (
        pair(ConvEncoder, ConvDecoder, **CONV, widths=(4, 6), **TURNED),
        (3, 8),
    ),
    "conv_causal": (
        pair(ConvEncoder, ConvDecoder, **CONV, widths=(4, 6), causal=True),
        (7, 4),
    ),
    "clips": (
        pair(CausalEncoder, CausalDecoder, **CONV, widths=(4, 6), **STEP),
        (9, 2, 3),
    ),
    "frames": (
        [
            PerFrame(part)
            for part in pair(ConvEncoder, ConvDecoder, **CONV, widths=(4, 6))
        ],
        (3, 4, 2),
    ),
    "vit": (pair(ViTEncoder, ViTDecoder, **VIT, patch=(2, 3)), (4, 6)),
    "vit_causal": (
        pair(ViTEncoder, ViTDecoder, **VIT, patch=(2, 2, 1), causal=True),
        (7, 4, 2),
    ),
    "titok": (
        (
            TiTokEncoder(3, **VIT, patch=2, out=4),
            TiTokDecoder((4, 6), **VIT, patch=2, out=2),
        ),
        (4, 6),
    ),
    "wave": (pair(WaveEncoder, WaveDecoder, **WAVE), (120,)),
    "wave_causal": (pair(WaveEncoder, WaveDecoder, **WAVE, causal=True), (120,)),
    "vocos": (pair(VocosEncoder, VocosDecoder, **VIT, window=8, hop=4), (24,)),
}
# Whose latents are of no place in the signal.
SEQUENCES = ("titok",)


# Near relatives of another member.
SLOW = ("conv_1d", "conv_range", "frames", "wave")


# Whose gradients take long to compile.
LARGE = ("conv", "clips", "conv_causal")


@pytest.fixture(params=marked(BACKBONES, SLOW))
def name(request):
    return request.param


def test_no_backbone_is_left_out():
    members = {type(part) for parts, _ in BACKBONES.values() for part in parts}
    bases = {"ConvSpec", "ViTSpec", "VocosSpec", "WaveSpec", "Tokenizer"}
    assert missing(tokenizer, lambda kind: hasattr(kind, "factor"), members) == bases


def module_of(name, **fields):
    parts, _ = BACKBONES[name]
    encoder, decoder = (with_fields(part, **fields) for part in parts)
    return Tokenizer(encoder, decoder, dim=3)


def with_fields(part, **fields):
    if isinstance(part, PerFrame):
        return PerFrame(part.image.clone(**fields))
    return part.clone(**fields)


def signal(name, seed=0, batch=2):
    shape = (batch, *BACKBONES[name][1], 2)
    x = np.random.default_rng(seed).uniform(-1, 1, shape)
    return jnp.asarray(x, jnp.float32)


@functools.cache
def start(name):
    shapes = jax.eval_shape(module_of(name).init, KEY, signal(name))
    return {"params": quick.parameters(shapes["params"])}


@functools.partial(jax.jit, static_argnums=0)
def encode(module, variables, x):
    return module.apply(variables, x, method="encode")


@functools.partial(jax.jit, static_argnums=0)
def decode(module, variables, q):
    return module.apply(variables, q, method="decode")


def loss(module, variables, x):
    y, _ = module.apply(variables, x)
    return jnp.square(y - 0.5).mean()


gradient = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)


@pytest.mark.slow
def test_shape_grid_and_factor_agree(name):
    module, x = module_of(name), signal(name)
    sides = x.shape[1:-1]
    z = encode(module, start(name), x)
    y = decode(module, start(name), z)
    assert z.shape == (2, *module.grid(sides), 3) and y.shape == x.shape
    assert {z.dtype, y.dtype} == {jnp.dtype("float32")}
    factor = module.factor
    assert type(factor) is tuple and len(factor) == len(sides)
    if name not in SEQUENCES:
        first = module.encoder.causal and not name.startswith("wave")
        cells = [side - (i == 0 and first) for i, side in enumerate(sides)]
        grid = [n // f for n, f in zip(cells, factor, strict=True)]
        grid[0] += first
        assert module.grid(sides) == tuple(grid)
    # One more site along the last axis, which has a factor of more than one here.
    if factor[-1] > 1:
        with pytest.raises(ValueError, match=r"nearest that are"):
            module.grid((*sides[:-1], sides[-1] + 1))


def test_encoder_and_decoder_have_the_same_fields(name):
    encoder, decoder = BACKBONES[name][0]
    own = {"tokens", "size"}  # which only one of the two can know
    assert set(field_names(encoder)) ^ set(field_names(decoder)) <= own
    if name != "frames":
        assert {"causal", "remat", "out", "dtype"} <= set(field_names(encoder))


TRANSFORMER = {"width": 512, "depth": 8, "heads": 8, "mlp_ratio": 4}
VQGAN = {"channels": 128, "multipliers": (1, 1, 2, 2, 4), "blocks": 2, "dims": 2}
VQGAN |= {"mid_attention": True, "patch": 1, "causal": False}
MAGVIT = VQGAN | {"multipliers": (1, 2, 2), "mid_attention": False}
MAGVIT |= {"dims": 3, "causal": True}
DAC = {"channels": 64, "strides": (2, 4, 8, 8), "dilations": (1, 3, 9), "kernel": 7}


@pytest.mark.parametrize(
    "part,fields",
    [
        (ConvEncoder(), VQGAN | {"out": 256}),
        (ConvDecoder(), VQGAN | {"out": 3}),
        (CausalEncoder(), MAGVIT | {"out": 256}),
        (CausalDecoder(), MAGVIT | {"out": 3}),
        (ViTEncoder(), TRANSFORMER | {"patch": 8, "out": 256, "causal": False}),
        (ViTDecoder(), TRANSFORMER | {"patch": 8, "out": 3, "causal": False}),
        (TiTokEncoder(), TRANSFORMER | {"patch": 16, "out": 256, "tokens": 32}),
        (TiTokDecoder((16, 16)), TRANSFORMER | {"patch": 16, "out": 3}),
        (WaveEncoder(), DAC | {"out": 64, "causal": False}),
        (WaveDecoder(), DAC | {"out": 1, "causal": False}),
        (VocosEncoder(), TRANSFORMER | {"window": 256, "hop": 64, "out": 64}),
        (VocosDecoder(), TRANSFORMER | {"window": 256, "hop": 64, "out": 1}),
        (
            LogMel(8000),
            {"window": 256, "hop": 128, "bands": 64, "floor": 1e-4, "low": 0.0}
            | {"high": None, "scale": "slaney", "iterations": 32, "momentum": 0.99},
        ),
        (
            Tokenizer(ConvEncoder(), ConvDecoder(), dim=4),
            {"variational": False, "into": "quantizer", "back": "encoder"},
        ),
        (Table(), {"columns": (), "bins": 16}),
        (Boxes(1, 2), {"classes": 1, "frames": 0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_nobody_writes_is_as_published(part, fields):
    assert {name: getattr(part, name) for name in fields} == fields
    if not isinstance(part, LogMel | Tokenizer | Table | Boxes):
        assert part.dtype == "float32" and part.remat is None


@pytest.mark.parametrize(
    "kind,fields",
    [
        (ConvEncoder, {"widths": (0,)}),
        (CausalDecoder, {"groups": 0}),
        (ViTEncoder, {"patch": 0}),
        (TiTokEncoder, {"tokens": 0}),
        (TiTokDecoder, {"size": (4, 4), "patch": 0}),
        (WaveEncoder, {"dilations": (1, 0)}),
        (WaveDecoder, {"strides": (1,)}),
        (LogMel, {"rate": 8000, "momentum": 2.0}),
        (LogMel, {"rate": 8000, "floor": 0.0}),
        (Boxes, {"bins": 4, "count": 0}),
        (Table, {"bins": 1}),
        (Number, {"name": "x", "edges": (float("nan"),)}),
        (Bytes, {"length": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_part_checks_its_fields(kind, fields):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{[*fields][-1]}="):
        kind(**fields)


def test_values_round_trip_as_json(name):
    module = module_of(name)
    again = build(json.loads(json.dumps(describe(module))))
    assert again == module and hash(again) == hash(module)


def test_every_parameter_has_a_sharding_rule(name):
    assert specs(start(name), TOKENIZER_RULES)


def test_bfloat16_is_the_layers_dtype_alone(name):
    """Parameters, latents and reconstructions stay float32; a signal may be either."""
    module = module_of(name, dtype="bfloat16")
    for x in (signal(name), signal(name).astype(jnp.bfloat16)):
        (y, quantized), variables = jax.eval_shape(module.init_with_output, KEY, x)
        held = {leaf.dtype for leaf in jax.tree.leaves(variables)}
        assert held | {y.dtype, quantized.latents.dtype} == {jnp.dtype("float32")}
        assert y.shape == x.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(BACKBONES, (*SLOW, *LARGE)))
def test_gradient_reaches_every_parameter_and_is_finite_at_zero(name):
    module, x = module_of(name), signal(name)
    found = jax.device_get(gradient(module, start(name), x))
    for path, slope in jax.tree.leaves_with_path(found):
        at = jax.tree_util.keystr(path)
        assert np.isfinite(slope).all(), at
        # A key's bias moves all scores of a query alike: softmax does not see it.
        assert (slope != 0).any() or "'key']['bias'" in at, at
    # An all-zero example, with the biases that training starts from.
    bare = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0 * leaf if path[-1].key == "bias" else leaf,
        jax.device_get(start(name)),
    )
    silent = np.array(x)
    silent[0] = 0.0
    found = jax.device_get(gradient(module, bare, silent))
    slopes = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])
    assert np.isfinite(slopes).all() and np.isfinite(np.square(slopes).sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(BACKBONES, (*SLOW, *LARGE)))
def test_remat_computes_the_same(name):
    plain, again = module_of(name), module_of(name, remat="whole")
    x, held = signal(name), start(name)
    found = gradient(again, held, x)
    expected = gradient(plain, held, x)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    traced = str(jax.make_jaxpr(functools.partial(loss, again))(held, x))
    assert "remat" in traced or "checkpoint" in traced


@pytest.mark.parametrize("name", BACKBONES)
def test_remat_is_a_word_and_files_where_it_was_a_flag_are_read(name):
    plain, whole = module_of(name), module_of(name, remat="whole")
    for expected, word, flag in ((plain, "null", "false"), (whole, '"whole"', "true")):
        text = json.dumps(describe(expected))
        old = text.replace(f'"remat": {word}', f'"remat": {flag}')
        assert old != text and build(json.loads(old)) == expected


def moved(run, inputs, at):
    """(b, time) whether outputs move when the inputs from `at` on do."""
    other = np.array(inputs)
    other[:, at:] += 0.3
    gap = np.abs(np.asarray(run(other)) - np.asarray(run(inputs)))
    return np.asarray(gap.max(axis=tuple(range(2, gap.ndim))) > 1e-6).any(0)


def test_causal_is_what_it_says(name):
    """Nothing sees what comes later, if and only if the field says so."""
    if name in (*SEQUENCES, "frames"):
        pytest.skip("nothing looks along time")
    module, x = module_of(name), signal(name)
    there = functools.partial(encode, module, start(name))
    back = functools.partial(decode, module, start(name))
    z = there(x)
    # The last latent, and the first site that it alone stands for.
    cell, site = z.shape[1] - 1, x.shape[1] - module.factor[0]
    seen, heard = moved(there, x, site), moved(back, z, cell)
    assert seen[cell:].all() and seen[:cell].any() != module.encoder.causal
    assert heard[site:].all() and heard[:site].any() != module.decoder.causal


def test_context_is_none_or_enough(name):
    module, x = module_of(name), signal(name)
    bounded = None not in (module.encoder.context, module.decoder.context)
    if not bounded:
        with pytest.raises(ValueError, match="cannot work in chunks"):
            encode_chunks(module, start(name), np.asarray(x), 4)
        return
    chunk = module.factor[0] + 1
    found = encode_chunks(module, start(name), np.asarray(x), chunk)
    z = encode(module, start(name), x)
    np.testing.assert_allclose(found.latents, z, rtol=1e-4, atol=1e-5)
    y = decode_chunks(module, start(name), np.asarray(z), chunk)
    whole = decode(module, start(name), z)
    np.testing.assert_allclose(y, whole, rtol=1e-4, atol=1e-5)
