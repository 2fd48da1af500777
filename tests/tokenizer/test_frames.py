"""An image tokenizer on every frame of a video."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.quantizers import FSQ
from vqdit.tokenizer import (
    CausalEncoder,
    ConvDecoder,
    ConvEncoder,
    PerFrame,
    TiTokEncoder,
    Tokenizer,
)

SHAPE = {"channels": 4, "multipliers": (1, 1), "blocks": 0, "mid_attention": False}


def test_every_frame_is_an_image():
    encoder, decoder = ConvEncoder(**SHAPE, out=3), ConvDecoder(**SHAPE, out=2)
    module = Tokenizer(PerFrame(encoder), PerFrame(decoder), FSQ((5, 5)))
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.uniform(-1, 1, (2, 3, 4, 6, 2)), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    params = quick.parameters(shapes["params"])
    state = {k: v for k, v in shapes.items() if k != "params"}
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
    variables = {"params": params, **state}
    y, quantized = jax.jit(module.apply)(variables, x)
    assert module.encoder.context == module.decoder.context == (0, 0)
    assert module.factor == (1, 2, 2) and module.grid((3, 4, 6)) == (3, 2, 3)
    assert quantized.codes.shape == (2, 3, 2, 3, 1) and y.shape == x.shape
    # The image tokenizer itself on one of them.
    images = Tokenizer(encoder, decoder, FSQ((5, 5)))
    for half in ("encoder", "decoder"):
        params = params | {half: params[half]["image"]}
    one, quantized_one = jax.jit(images.apply)({"params": params, **state}, x[:, 1])
    np.testing.assert_array_equal(quantized_one.codes, quantized.codes[:, 1])
    np.testing.assert_allclose(one, y[:, 1], rtol=1e-4, atol=1e-5)


def test_what_is_no_picture_is_refused():
    frames = PerFrame(ConvEncoder(**SHAPE))
    with pytest.raises(ValueError, match=r"tokenizer's factor \(2, 2\)"):
        frames.grid((3, 4, 5))
    with pytest.raises(ValueError, match="frames, height, width"):
        frames.grid((4, 4))
    with pytest.raises(ValueError, match="TiTokEncoder has a grid of 1 axes"):
        PerFrame(TiTokEncoder(4, patch=2)).grid((3, 4, 4))
    with pytest.raises(ValueError, match="a video has"):
        PerFrame(CausalEncoder(multipliers=(1,))).grid((3, 4, 4))
