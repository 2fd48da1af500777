import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from tests.members import marked
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer
from vqdit.tokenizer.blocks import AttentionBlock
from vqdit.values import build as build_value
from vqdit.values import describe

KEY = jax.random.key(4)
SIDES = {1: (12,), 2: (4, 8), 3: (2, 4, 4)}


def build(quantizer=None, dims=2, multipliers=(1, 2), attention=(), **fields):
    shape = {
        "channels": 8,
        "multipliers": multipliers,
        "blocks": 1,
        "attention": attention,
        "dims": dims,
        "dtype": fields.pop("dtype", "float32"),
    }
    encoder = ConvEncoder(**shape, mid_attention=dims == 2, out=6)
    decoder = ConvDecoder(**shape, mid_attention=dims == 2, out=3)
    return Tokenizer(encoder, decoder, quantizer, **fields)


TOKENIZERS = {
    "1-D": (build(EMAVectorQuantizer(9, 5), dims=1), 1),
    "2-D": (build(VectorQuantizer(9, 5, cosine=True)), 2),
    "2-D in bfloat16": (build(FSQ((4, 3, 5)), dtype="bfloat16"), 2),
    "3-D": (build(FSQ((4, 3, 5)), dims=3), 3),
    "KL": (build(dim=4, variational=True), 2),
    "plain": (build(dim=4), 2),
}


# Near relatives of another one.
SLOW = ("2-D in bfloat16", "plain")


@pytest.fixture(params=marked(TOKENIZERS, SLOW))
def case(request):
    """(tokenizer, its variables, a batch of signals)."""
    tokenizer, dims = TOKENIZERS[request.param]
    return tokenizer, start(tokenizer, dims), signal(dims)


def signal(dims, batch=3):
    x = np.random.default_rng(0).uniform(-1, 1, (batch, *SIDES[dims], 3))
    return jnp.asarray(x, jnp.float32)


@functools.cache
def start(tokenizer, dims):
    shapes = jax.eval_shape(tokenizer.init, KEY, signal(dims))
    params, state = quick.parameters(shapes["params"]), {}
    if tokenizer.quantizer is not None:
        own = jax.jit(tokenizer.quantizer.init)(
            KEY, jnp.zeros((1, tokenizer.latent_dim))
        )
        params = {**params, "quantizer": own.pop("params", {})}
        state = {name: {"quantizer": value} for name, value in own.items()}
    variables = {"params": {k: v for k, v in params.items() if v}, **state}
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    return variables


@functools.partial(jax.jit, static_argnums=0)
def evaluate(tokenizer, variables, x):
    """Everything that a user may ask for, each through its own method."""

    def ask(m, x):
        z = m.encode(x)
        quantized = m.quantize(z)
        found = {
            "z": z,
            "quantized": quantized,
            "latents": m.latents(x),
            "decoded": m.decode(quantized.latents),
            "whole": m(x),
        }
        if quantized.codes is not None:
            found["from codes"] = m.decode(quantized.codes)
        return found

    return tokenizer.apply(variables, x, method=ask)


def train_loss(tokenizer, variables, x, params):
    mutable = [name for name in variables if name != "params"]
    (x_hat, quantized), _ = tokenizer.apply(
        {**variables, "params": params}, x, train=True, key=KEY, mutable=mutable
    )
    return jnp.square(x_hat - x).mean() + sum(quantized.losses.values())


@functools.partial(jax.jit, static_argnums=0)
def gradients(tokenizer, variables, x):
    loss = functools.partial(train_loss, tokenizer, variables, x)
    return jax.grad(loss)(variables["params"])


def test_one_interface_for_all(case):
    tokenizer, variables, x = case
    found = evaluate(tokenizer, variables, x)
    grid = tuple(side // 2 for side in x.shape[1:-1])
    assert tokenizer.factor == (2,) * (x.ndim - 2)
    width = tokenizer.latent_dim * (2 if tokenizer.variational else 1)
    assert found["z"].shape == (3, *grid, width)
    assert found["latents"].shape == (3, *grid, tokenizer.latent_dim)
    assert found["quantized"].latents.shape == (3, *grid, tokenizer.latent_dim)
    x_hat, quantized = found["whole"]
    assert x_hat.shape == x.shape
    # Whatever the layers' dtype: what meets a loss or a codebook is float32.
    assert {x_hat.dtype, found["z"].dtype} == {jnp.dtype("float32")}
    # The whole is its parts.
    np.testing.assert_array_equal(x_hat, found["decoded"])
    np.testing.assert_array_equal(quantized.latents, found["quantized"].latents)


def test_decoding_codes_equals_decoding_latents(case):
    tokenizer, variables, x = case
    found = evaluate(tokenizer, variables, x)
    if tokenizer.quantizer is None:
        assert found["quantized"].codes is None
        codes = jnp.zeros((1, 2, 2, 1), jnp.int32)
        with pytest.raises(ValueError, match="continuous"):
            tokenizer.apply(variables, codes, method="decode")
    else:
        assert found["quantized"].codes.shape == (*found["z"].shape[:-1], 1)
        np.testing.assert_array_equal(found["from codes"], found["decoded"])


@pytest.mark.parametrize("name", ["2-D", pytest.param("KL", marks=pytest.mark.slow)])
def test_gradient_reaches_every_parameter_and_is_finite_on_an_all_zero_batch(name):
    tokenizer, dims = TOKENIZERS[name]
    variables, x = start(tokenizer, dims), signal(dims)
    for gradient in jax.tree.leaves(gradients(tokenizer, variables, 0 * x)):
        assert np.isfinite(gradient).all()
    for path, gradient in jax.tree.leaves_with_path(gradients(tokenizer, variables, x)):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), name
        # A key's bias moves all scores of a query alike: softmax does not see it.
        assert (gradient != 0).any() or "'key']['bias'" in name, name


def test_variational_latents_are_sampled_in_training_only():
    tokenizer = build(dim=4, variational=True)
    variables, x = start(tokenizer, 2), signal(2)

    @jax.jit
    def run(z):
        ask = lambda train: tokenizer.apply(
            variables, z, train=train, key=KEY, method="quantize"
        )
        return ask(True), ask(False)

    z = evaluate(tokenizer, variables, x)["z"]
    mean, log_variance = jnp.split(z, 2, axis=-1)
    drawn, still = run(z)
    np.testing.assert_array_equal(still.latents, mean)
    eps = jax.random.normal(KEY, mean.shape)
    expected = mean + jnp.exp(0.5 * log_variance) * eps
    np.testing.assert_allclose(drawn.latents, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        evaluate(tokenizer, variables, x)["latents"], mean, rtol=1e-6
    )

    # KL(N(1, 2) || N(0, 1)) = (1 + 2 - 1 - ln 2) / 2 for each of 4 x 8 latents.
    known = jnp.concatenate([jnp.ones_like(mean), jnp.full_like(mean, np.log(2))], -1)
    expected = 0.5 * (2 - np.log(2)) * mean[0].size
    np.testing.assert_allclose(run(known)[1].losses["kl"], expected, rtol=1e-5)
    # The standard normal is free, and no variance overflows.
    assert run(jnp.zeros_like(z))[1].losses["kl"] == 0
    assert np.isfinite(run(jnp.full_like(z, 1e4))[0].losses["kl"])


def test_variational_training_needs_a_key():
    tokenizer = build(dim=4, variational=True)
    call = lambda x: tokenizer.apply(start(tokenizer, 2), x, train=True)
    with pytest.raises(ValueError, match="pass key="):
        jax.eval_shape(call, signal(2))


@pytest.mark.parametrize("shape", [(1, 5, 8, 3), (1, 8, 3), (1, 4, 4, 4, 3)])
def test_wrong_sides_and_axes_are_refused(shape):
    tokenizer = build(dim=4)
    with pytest.raises(ValueError, match=r"factor \(2, 2\)|dims=2"):
        jax.eval_shape(tokenizer.init, KEY, jnp.zeros(shape))


@pytest.mark.parametrize(
    "quantizer,fields,message",
    [
        (None, {}, "dim=None: write its channels"),
        (None, {"dim": 0}, "dim=0: write at least 1"),
        (FSQ((3, 3)), {"dim": 2}, "leave it out"),
        (FSQ((3, 3)), {"variational": True}, "quantizer=None"),
    ],
)
def test_impossible_fields_are_refused(quantizer, fields, message):
    with pytest.raises(ValueError, match=message):
        build(quantizer, **fields)


def test_encoder_and_decoder_of_different_factors_are_refused():
    encoder, decoder = ConvEncoder(multipliers=(1, 1)), ConvDecoder(multipliers=(1,))
    with pytest.raises(
        ValueError, match=r"shrinks by \(2, 2\), the decoder grows by \(1, 1\)"
    ):
        Tokenizer(encoder, decoder, None, dim=2)


def test_latents_of_other_axes_are_refused():
    decoder = build(dim=2).decoder
    with pytest.raises(ValueError, match=r"dims=2 takes .* got \(1, 4, 6\)"):
        jax.eval_shape(decoder.init, KEY, jnp.zeros((1, 4, 6)))
    with pytest.raises(ValueError, match=r"dims=2 takes 2 axes, not \(4,\)"):
        build(dim=2).grid((4,))


def test_log_variances_are_bounded_and_have_a_loss_of_their_own():
    """KL of N(mean, variance) from N(0, 1), summed over an example's latents."""
    module = build(dim=2, variational=True)
    mean = np.array([[[[0.5, -1.0]]], [[[2.0, 0.0]]]], np.float32)
    log_variance = np.array([[[[0.3, -2.0]]], [[[50.0, -80.0]]]], np.float32)
    z = jnp.asarray(np.concatenate([mean, log_variance], -1))
    found = module.apply({}, z, method="quantize")
    np.testing.assert_array_equal(found.latents, mean)
    bounded = log_variance.clip(-30, 20).astype(np.float64)
    each = 0.5 * (mean**2 + np.exp(bounded) - 1 - bounded)
    kl = each.sum((1, 2, 3)).mean()
    np.testing.assert_allclose(found.losses["kl"], kl, rtol=1e-5)
    one = module.apply({}, z[:1], method="quantize")
    np.testing.assert_allclose(one.losses["kl"], each[0].sum(), rtol=1e-5)
    drawn = module.apply({}, z, train=True, key=KEY, method="quantize")
    eps = jax.random.normal(KEY, mean.shape)
    expected = mean + np.exp(bounded / 2) * eps
    np.testing.assert_allclose(drawn.latents, expected, rtol=1e-4, atol=1e-5)


def test_attention_flags_are_one_a_level():
    tokenizer = build(dim=2, attention=(True,))
    with pytest.raises(ValueError, match="1 flags for 2 levels"):
        jax.eval_shape(tokenizer.init, KEY, signal(2))
    names = jax.eval_shape(build(dim=2, attention=(False, True)).init, KEY, signal(2))[
        "params"
    ]
    assert "down_1_attention_0" in names["encoder"]
    assert "down_0_attention_0" not in names["encoder"]
    assert {"up_1_attention_0", "up_1_attention_1"} <= set(names["decoder"])


def test_down_sampling_is_padded_after_not_around():
    """As published: output i sees inputs 2i, 2i + 1 and 2i + 2, so that the first
    input reaches the first output only."""
    encoder = ConvEncoder(
        channels=4, multipliers=(1, 1), blocks=0, mid_attention=False, out=4, dims=1
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 4)), jnp.float32)
    params = quick.parameters(jax.eval_shape(encoder.init, KEY, x)["params"])
    _, seen = encoder.apply({"params": params}, x, capture_intermediates=True)
    h, down = (
        np.asarray(seen["intermediates"][name]["__call__"][0][0])
        for name in ("conv_in", "down_0_conv")
    )
    h = np.pad(h, ((0, 1), (0, 0)))
    kernel, bias = params["down_0_conv"]["kernel"], params["down_0_conv"]["bias"]
    for i in range(4):
        expected = np.einsum("kc,kco->o", h[2 * i : 2 * i + 3], kernel) + bias
        np.testing.assert_allclose(down[i], expected, atol=1e-5)


def shapes(tokenizer, *shape):
    """Parameter path -> shape."""
    held = jax.eval_shape(tokenizer.init, KEY, jnp.zeros((1, *shape)))["params"]
    flat = flax.traverse_util.flatten_dict(held, sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}


def test_published_projections_can_be_written():
    """Stable Diffusion's VAE: 8 -> 8 moments in, 4 -> 4 out, any widths."""
    part = {"widths": (4, 6), "blocks": 0, "mid_attention": False, "groups": 2}
    encoder, decoder = ConvEncoder(**part, out=8), ConvDecoder(**part, out=3)
    vae = Tokenizer(encoder, decoder, dim=4, variational=True, back=4)
    held = shapes(vae, 4, 4, 3)
    assert held["into/kernel"] == (8, 8) and held["out_of/kernel"] == (4, 4)
    assert held["encoder/conv_in/kernel"] == (3, 3, 3, 4)
    assert held["decoder/conv_in/kernel"] == (3, 3, 4, 6)
    # EnCodec: none, so that the encoder's channels are the quantizer's.
    bare = Tokenizer(encoder, decoder, FSQ((3,) * 8), into=None, back=None)
    held = shapes(bare, 4, 4, 3)
    assert not any("into" in path or "out_of" in path for path in held)
    assert held["decoder/conv_in/kernel"] == (3, 3, 8, 6)
    # What files without the fields mean.
    plain = shapes(Tokenizer(encoder, decoder, dim=4), 4, 4, 3)
    assert plain["into/kernel"] == (8, 4) and plain["out_of/kernel"] == (4, 8)


@pytest.mark.slow
def test_without_projections_latents_are_what_the_encoder_returns():
    module = build(dim=6, into=None, back=None)
    variables, x = start(module, 2), signal(2)
    found = evaluate(module, variables, x)
    held = {"params": variables["params"]["encoder"]}
    z = jax.jit(module.encoder.apply)(held, x)
    np.testing.assert_allclose(found["z"], z, rtol=1e-5, atol=1e-6)
    held = {"params": variables["params"]["decoder"]}
    y = jax.jit(module.decoder.apply)(held, found["z"])
    np.testing.assert_allclose(found["decoded"], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"into": None}, "into=None: gives the quantizer 6 channels, and it takes 4"),
        ({"into": 5}, "into=5: gives the quantizer 5 channels, and it takes 4"),
        ({"back": 0}, "back=0: write at least 1 or one of encoder or None"),
    ],
)
def test_projections_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build(dim=4, **fields)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"widths": (8, 12), "channels": 8}, "write widths, or channels and mult"),
        ({"widths": (8, 12), "groups": 8}, "does not divide the widths .*groups=4"),
        ({"channels": 8, "multipliers": (1,), "groups": 0}, "groups=0: write at least"),
        ({"widths": (8, 0)}, "each at least 1"),
    ],
)
def test_impossible_widths_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ConvEncoder(**fields)


def test_old_files_keep_the_groups_that_their_widths_had():
    """32 channels had 8 groups before the number was a field, 64 had 32."""
    for channels, multipliers, groups in ((32, (1, 1), 8), (64, (1, 2), 32)):
        new = ConvEncoder(channels, multipliers, groups=groups)
        stored = describe(new)
        del stored["fields"]["groups"]
        assert build_value(stored) == new
    stored = describe(ConvEncoder(16, (1, 2)))  # 4 groups, and 8
    del stored["fields"]["groups"]
    assert build_value(stored).groups is None


def test_attention_block_is_softmax_over_all_sites():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2, 8)), jnp.float32)
    y, variables = jax.jit(AttentionBlock().init_with_output)(KEY, x)
    params = jax.device_get(variables["params"])
    grouped = np.asarray(x).reshape(2, 6, 2, 4)
    mean, std = grouped.mean((1, 3), keepdims=True), grouped.std((1, 3), keepdims=True)
    h = ((grouped - mean) / std).reshape(2, 6, 8)
    q, k, v = (h @ params[name]["kernel"] for name in ("query", "key", "value"))
    scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(8))
    out = scores / scores.sum(-1, keepdims=True) @ v @ params["out"]["kernel"]
    np.testing.assert_allclose(y, x + out.reshape(x.shape), atol=1e-4)
