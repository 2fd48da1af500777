import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from tests import quick
from train.objectives.costs.ahead import chips
from vqdit.nn import Attention, attend, attention, rotary_table


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def start(module, x):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return quick.parameters(shapes)


@functools.partial(jax.jit, static_argnums=0)
def apply(module, variables, x, rotary=None):
    return module.apply(variables, x, rotary)


def softmax_attention(params, x, heads, qk_norm=False):
    """The same in NumPy, in float64."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    qkv = x @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    q, k, v = qkv.reshape(n, heads, 3, d // heads).transpose(2, 1, 0, 3)
    if qk_norm:
        square = lambda x: np.sqrt(np.square(x).mean(-1, keepdims=True))
        q = q / square(q) * params["query_norm"]["scale"]
        k = k / square(k) * params["key_norm"]["scale"]
    scores = q @ k.swapaxes(1, 2) / np.sqrt(d // heads)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = weights / weights.sum(-1, keepdims=True) @ v
    y = y.transpose(1, 0, 2).reshape(n, d)
    return y @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize("qk_norm", [None, "rms"])
def test_it_is_softmax_attention(qk_norm):
    x, module = draw(2, 5, 12), Attention(3, qk_norm)
    variables = start(module, x)
    y = apply(module, variables, x)
    for i in range(2):
        params = jax.device_get(variables["params"])
        expected = softmax_attention(params, x[i], 3, qk_norm)
        np.testing.assert_allclose(y[i], expected, atol=1e-5)


@pytest.mark.parametrize("qk_norm,epsilon", [("rms", 1e-6), ("layer", 1e-5)])
def test_faint_queries_are_normalised_as_published(qk_norm, epsilon):
    """Of about epsilon's size, where it is felt; "layer" takes the mean off."""
    x, module = draw(1, 5, 12), Attention(3, qk_norm)
    params = start(module, x)["params"]
    params["qkv"] = jax.tree.map(lambda leaf: 2e-3 * leaf, params["qkv"])
    capture = lambda v: module.apply(v, x, capture_intermediates=True)[1]
    seen = jax.jit(capture)({"params": params})["intermediates"]
    qkv = np.asarray(seen["qkv"]["__call__"][0], np.float64).reshape(1, 5, 3, 3, 4)
    for i, name in enumerate(("query_norm", "key_norm")):
        h = qkv[..., i, :]
        if qk_norm == "layer":
            h = h - h.mean(-1, keepdims=True)
        h = h / np.sqrt(np.square(h).mean(-1, keepdims=True) + epsilon)
        h = h * params[name]["scale"] + params[name].get("bias", 0.0)
        found = seen[name]["__call__"][0]
        np.testing.assert_allclose(found, h, rtol=1e-3, atol=1e-4)


def test_it_does_not_see_the_order_of_tokens_without_positions():
    x, module = draw(1, 6, 8), Attention(2)
    variables = start(module, x)
    order = np.array([3, 0, 5, 1, 4, 2])
    y = apply(module, variables, x)
    np.testing.assert_allclose(
        apply(module, variables, x[:, order]), y[:, order], atol=1e-5
    )


@pytest.mark.parametrize("qk_norm", [None, "rms", "layer"])
def test_with_rotary_it_sees_relative_places_only(qk_norm):
    """Also behind a norm's scales, which turned channels would not share."""
    x, module = draw(1, 6, 8), Attention(2, qk_norm)
    variables = start(module, x)
    table = lambda first: rotary_table(first + np.arange(6)[:, None], 4)
    y = apply(module, variables, x, table(0))
    np.testing.assert_allclose(apply(module, variables, x, table(40)), y, atol=1e-4)
    assert np.abs(y - apply(module, variables, x)).max() > 0.01


def test_normalised_scores_are_bounded():
    """A million times larger tokens leave the weights as they were: no overflow."""
    x, module = draw(1, 4, 8), Attention(2, qk_norm="rms")
    variables = start(module, x)
    params = variables["params"]
    params["qkv"]["bias"] = jnp.zeros_like(params["qkv"]["bias"])
    params["out"]["bias"] = jnp.zeros_like(params["out"]["bias"])
    y = apply(module, variables, x)
    np.testing.assert_allclose(apply(module, variables, 1e6 * x), 1e6 * y, rtol=1e-3)


def test_softmax_is_float32_in_bfloat16():
    """512 equal tokens weigh 1/512 each, though a bfloat16 sum of ones stops at 256."""
    x = jnp.broadcast_to(draw(1, 1, 8), (1, 512, 8))
    module = Attention(1)
    variables = start(module, x)
    y, y_low = (
        apply(module, variables, x),
        apply(module, variables, x.astype("bfloat16")),
    )
    assert y_low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y_low, np.float32), y, atol=0.05)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="5 heads do not divide the width 12"):
        jax.eval_shape(Attention(5).init, jax.random.key(0), draw(1, 2, 12))


def drawn_heads(n, width, batch=2, heads=2, dtype="float32"):
    return [draw(batch, n, heads, width, seed=i).astype(dtype) for i in range(3)]


def test_implementations_are_the_same():
    """The TPU's kernel is interpreted here. The second example knows nothing."""
    qkv, weights = drawn_heads(128, 8), draw(2, 128, 2, 8, seed=3)
    known = jnp.stack([jnp.arange(128) % 3 > 0, jnp.zeros(128, bool)])

    @functools.partial(jax.jit, static_argnums=0)
    def both(implementation, q, k, v):
        call = lambda *x: attend(*x, known, implementation=implementation)
        y, backward = jax.vjp(call, q, k, v)
        return y, backward(weights)

    expected = both("plain", *qkv)
    with pltpu.force_tpu_interpret_mode():
        found = {"flash": both("flash", *qkv), "fused": both("fused", *qkv)}
    for name, values in found.items():
        for mine, other in zip(*map(jax.tree.leaves, (values, expected)), strict=True):
            np.testing.assert_allclose(mine, other, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("width", [64, 72, 88, 128])
def test_in_bfloat16_scores_are_scaled_in_float32(width):
    """No less exact than JAX's own, also where the scale is no power of 2."""
    qkv = drawn_heads(64, width, dtype="bfloat16")

    @jax.jit
    def errors(*qkv):
        exact = jax.nn.dot_product_attention(*(x.astype("float32") for x in qkv))
        rms = lambda y: jnp.sqrt(jnp.square(y.astype("float32") - exact).mean())
        ours = [attend(*qkv, implementation=name) for name in ("plain", "fused")]
        return rms(jax.nn.dot_product_attention(*qkv)), *map(rms, ours)

    theirs, *ours = errors(*qkv)
    assert max(ours) <= 1.02 * theirs


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"implementation": "cudnn"}, "bfloat16 or float16, not float32"),
        ({"implementation": "flash"}, "a multiple of 128 tokens, not 5"),
        ({"implementation": "flash", "block": 2}, "no order of blocks"),
    ],
)
def test_what_an_implementation_does_not_take_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        attend(*drawn_heads(5, 8), **fields)


@pytest.mark.parametrize(
    "name,n,width,block,message",
    [
        ("cudnn", 6, 12, 0, "a head width up to 128 that 8 divides, not 12"),
        ("cudnn", 6, 136, 0, "a head width up to 128 that 8 divides, not 136"),
        ("cudnn", 5, 128, 2, "a mask over an even number of tokens, not 5"),
        ("cudnn", 5, 8, 0, ""),
        ("cudnn", 6, 8, 2, ""),
        ("flash", 192, 8, 0, "a multiple of 128 tokens, not 192"),
        ("flash", 256, 136, 0, "a head width below 128 or a multiple of it, not 136"),
        ("flash", 256, 256, 0, ""),
        ("flash", 256, 120, 0, ""),
        ("fused", 5, 12, 3, ""),
        ("plain", 5, 12, 3, ""),
    ],
)
def test_what_an_implementation_takes(name, n, width, block, message):
    for dtype in ("bfloat16", "float16"):
        q = jax.ShapeDtypeStruct((1, n, 2, width), dtype)
        assert attention._obstacle(name, q, None, block) == message
    if name == "cudnn" and n % 2:
        known = jnp.ones((1, n), bool)
        assert "even number" in attention._obstacle(name, q, known, 0) or width % 8


def test_each_backend_has_an_implementation_of_its_own(monkeypatch):
    assert attention.choose(None) == "fused" and attention.choose("plain") == "plain"
    for backend, count, name in (
        ("gpu", 1, "cudnn"),
        ("tpu", 1, "flash"),
        ("tpu", 4, "plain"),  # without a mesh no kernel can be split
        ("rocket", 1, "plain"),
    ):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        monkeypatch.setattr(jax, "device_count", lambda count=count: count)
        assert attention.choose(None) == name
        assert attention.choose("fused") == "fused"


def test_tokens_see_those_of_their_block_and_before_that_are_known():
    known = jnp.array([[True, False, True, True, True]])
    seen = attention._mask(5, known, 2)[0, 0].astype(int).tolist()
    assert seen == [[1, 0, 0, 0, 0]] * 2 + [[1, 0, 1, 1, 0]] * 2 + [[1, 0, 1, 1, 1]]
    assert attention._mask(5, None, 0) is None
    assert attention._mask(5, known, 0).shape == (1, 1, 1, 5)


def test_a_kernel_of_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match="'flash' takes a TPU"):
        attend(*drawn_heads(128, 8), implementation="flash")


def test_the_default_takes_everything_on_any_backend(monkeypatch):
    """What the backend's own does not take is plain."""
    qkv = drawn_heads(5, 8)
    for backend in ("gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        call = functools.partial(attend, block=2)
        traced = str(jax.make_jaxpr(call)(*qkv))
        assert "softmax" in traced or "exp" in traced
        assert "custom_vjp" not in traced and "pallas" not in traced
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert "pallas" in str(jax.make_jaxpr(attend)(*drawn_heads(128, 8)))


@pytest.mark.parametrize("width", [64, 72])
def test_flash_compiles_for_a_tpu_and_splits_over_examples_and_heads(width):
    """Ahead of time, for four chips that are not there: forward and backward."""
    pytest.importorskip("libtpu", reason="the extra vqdit[tpu] is not installed")
    devices = np.array(chips("v5e:2x2")).reshape(1, 2, 2)
    auto = (jax.sharding.AxisType.Auto,) * 3
    mesh = jax.sharding.Mesh(devices, ("data", "fsdp", "tensor"), axis_types=auto)
    rules = (("batch", ("data", "fsdp")), ("heads", "tensor"))
    place = lambda *spec: jax.NamedSharding(mesh, jax.P(("data", "fsdp"), *spec))
    x = jax.ShapeDtypeStruct(
        (4, 256, 4, width), jnp.bfloat16, sharding=place(None, "tensor")
    )
    known = jax.ShapeDtypeStruct((4, 256), bool, sharding=place())

    def loss(q, k, v, known):
        return attend(q, k, v, known, implementation="flash").astype("float32").sum()

    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        program = gradient.lower(x, x, x, known).compile().as_text()
    assert program.count("custom-call(") >= 2
    assert "all-gather" not in program
