"""The contract of a block, over a list of them: to add a switch, add a row."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit.nn import Block, rotary_table
from vqdit.nn.block import Mlp, by_stream, per_token

BLOCKS = {
    "dit": Block(2),
    "rms": Block(2, norm="rms"),
    "gelu": Block(2, mlp="gelu", mlp_ratio=2),
    "swiglu": Block(2, mlp="swiglu", mlp_ratio=8 / 3),
    "qk_rms": Block(2, qk_norm="rms"),
    "qk_layer": Block(2, qk_norm="layer"),
    "single": Block(2, modulation="single"),
    "layer_scale": Block(2, layer_scale=0.1),
    "lightning": Block(
        2, "swiglu", 8 / 3, norm="rms", norm_scale=True, qk_norm="rms", shift=False
    ),
    "all": Block(
        *(2, "swiglu", 2, "layer", True, "layer"),
        modulation="single",
        shift=False,
        layer_scale=0.1,
    ),
}
ALL = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
ROTARY = rotary_table(np.arange(5)[:, None], 6)
LENGTHS = (2, 3)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs(block):
    """(x, c) of five tokens in two streams, of width 12."""
    width = 12 * (block.parts if block.modulation == "single" else 1)
    return draw(2, 5, 12), 0.5 * draw(2, 2, width, seed=1)


def start(block, seed=0):
    call = functools.partial(block.init, lengths=LENGTHS)
    shapes = jax.eval_shape(call, jax.random.key(0), *inputs(block))
    return quick.parameters(shapes, seed)


@functools.partial(jax.jit, static_argnums=(0, 4))
def apply(block, variables, x, c, lengths=LENGTHS, rotary=None, known=None):
    return block.apply(variables, x, c, lengths, rotary, known)


def textbook(block, params, x, c):
    """One example in NumPy and float64, from the papers' formulas."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    linear = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    std = lambda x: np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-12)
    centred = lambda x: x - x.mean(-1, keepdims=True)

    def norm(kind, x):
        return centred(x) / std(centred(x)) if kind == "layer" else x / std(x)

    def attention(x):
        n, d = x.shape
        p = params["attn"]
        qkv = x @ p["qkv"]["kernel"] + p["qkv"]["bias"]
        q, k, v = qkv.reshape(n, 2, 3, d // 2).transpose(2, 1, 0, 3)
        if block.qk_norm:
            q, k = (
                norm(block.qk_norm, z) * p[name]["scale"] + p[name].get("bias", 0)
                for z, name in ((q, "query_norm"), (k, "key_norm"))
            )
        weights = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(d // 2))
        y = weights / weights.sum(-1, keepdims=True) @ v
        y = y.transpose(1, 0, 2).reshape(n, d)
        return y @ p["out"]["kernel"] + p["out"]["bias"]

    def mlp(x):
        p = params["mlp"]
        up = x @ p["up"]["kernel"] + p["up"]["bias"]
        if block.mlp == "swiglu":
            gate = x @ p["gate"]["kernel"] + p["gate"]["bias"]
            h = gate * sigmoid(gate) * up
        else:
            h = np.asarray(jax.nn.gelu(up, approximate=block.mlp == "gelu_tanh"))
        return h @ p["down"]["kernel"] + p["down"]["bias"]

    c = np.asarray(c, np.float64)
    if block.modulation == "single":
        mods = c + params["modulation_table"].ravel()
    else:
        mods = linear("modulation", c * sigmoid(c))
    mods = np.repeat(mods, LENGTHS, axis=0).reshape(5, block.parts, 12)
    x = np.asarray(x, np.float64)
    for i, (name, branch) in enumerate((("attn", attention), ("mlp", mlp))):
        *shift, scale, gate = np.split(mods, 2, axis=1)[i].transpose(1, 0, 2)
        own = params[f"{name}_norm"]["scale"] if block.norm_scale else 1
        h = norm(block.norm, x) * own * (1 + scale) + (shift[0] if shift else 0)
        x = x + gate * params.get(f"{name}_scale", 1) * branch(h)
    return x


@ALL
def test_it_is_the_textbooks(block):
    (x, c), variables = inputs(block), start(block)
    y = apply(block, variables, x, c, LENGTHS, None, jnp.ones((2, 5), bool))
    for i in range(2):
        expected = textbook(block, variables["params"], x[i], c[i])
        np.testing.assert_allclose(y[i], expected, rtol=2e-4, atol=2e-5)


@ALL
def test_the_plain_one_differentiates_forward_over_reverse(block):
    """A jvp inside a grad, as MeanFlow's loss has it, against finite differences."""
    block = block.clone(implementation="plain")
    (x, c), variables = inputs(block), start(block)
    dx, dc, step = (
        draw(2, 5, 12, seed=2),
        draw(*c.shape, seed=3),
        draw(2, 5, 12, seed=4),
    )

    def slope(x, c, dx, dc, variables):
        call = lambda x, c: block.apply(variables, x, c, LENGTHS)
        y, dy = jax.jvp(call, (x, c), (dx, dc))
        return (jnp.sin(y) * dy).sum(), y

    with jax.enable_x64(True):
        double = functools.partial(
            jax.tree.map, lambda leaf: np.asarray(leaf, "float64")
        )
        x, step, *rest = double((x, step, c, dx, dc, variables))
        both = jax.jit(jax.value_and_grad(slope, has_aux=True))
        (_, y), found = both(x, *rest)
        ends = [float(both(x + h * step, *rest)[0][0]) for h in (1e-3, -1e-3)]
    expected = textbook(block, variables["params"], x[0], c[0])
    np.testing.assert_allclose(y[0], expected, rtol=2e-4, atol=2e-5)
    slopes = (ends[0] - ends[1]) / 2e-3
    np.testing.assert_allclose(np.vdot(found, step), slopes, rtol=5e-3)


FIELDS = {
    "mlp": ("gelu_tanh", "gelu", "swiglu"),
    "norm": ("layer", "rms"),
    "norm_scale": (False, True),
    "qk_norm": (None, "rms", "layer"),
    "modulation": ("zero", "single"),
    "shift": (True, False),
    "layer_scale": (None, 0.1),
    "own": ((), ("mlp",), ("modulation",), ("mlp", "modulation")),
}
CALL = {
    "rotary": (None, jnp.asarray(ROTARY)),
    "known": (None, jnp.arange(5) < jnp.array([[5], [3]])),
}


def every_three_together(values):
    """Rows of a value for each name, in which any three names meet in all theirs."""
    rows = list(np.ndindex(*map(len, values.values())))
    axes = list(itertools.combinations(range(len(values)), 3))
    seen = set()
    for i in np.random.default_rng(0).permutation(len(rows)):
        met = {(at, *(rows[i][axis] for axis in at)) for at in axes}
        if met - seen:
            seen |= met
            chosen = zip(values.values(), rows[i], strict=True)
            yield dict(zip(values, [those[k] for those, k in chosen], strict=True))


@pytest.mark.slow
def test_any_three_fields_differentiate_forward_over_reverse_together():
    """Traced alone: what has no derivative is refused there."""
    key, count = jax.random.key(0), 0
    for row in every_three_together(FIELDS | CALL):
        call = {name: row.pop(name) for name in CALL}
        call |= {"lengths": LENGTHS, "owners": ("a", "b")}
        block = Block(2, mlp_ratio=2, implementation="plain", **row)
        run = functools.partial(block.init_with_output, key, **call)

        def slope(x, c, run=run):
            y, dy = jax.jvp(lambda x, c: run(x, c)[0], (x, c), (x, c))
            return (jnp.sin(y) * dy).sum()

        x, c = inputs(block)
        found = jax.make_jaxpr(jax.grad(slope, argnums=(0, 1)))(x, c).out_avals
        assert [leaf.shape for leaf in found] == [x.shape, c.shape], block
        count += 1
    assert count >= 4 * 3 * 3  # as many as the three longest have


@pytest.mark.parametrize("name", ["dit", "all"])
def test_implementations_have_the_same_gradients(name):
    @functools.partial(jax.jit, static_argnums=0)
    def gradients(block, variables, x, c, known):
        def loss(variables, x, c):
            y = block.apply(variables, x, c, LENGTHS, jnp.asarray(ROTARY), known)
            return jnp.sin(y).sum()

        return jax.grad(loss, argnums=(0, 1, 2))(variables, x, c)

    block, known = BLOCKS[name], jnp.arange(5) != jnp.array([[1], [9]])
    (x, c), variables = inputs(block), start(block)
    plain, fused = (
        gradients(block.clone(implementation=name), variables, x, c, known)
        for name in ("plain", "fused")
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, fused, plain)


@ALL
def test_what_is_not_known_is_not_seen(block):
    """Whatever stands there, bit for bit; and nobody is known in the second example."""
    (x, c), variables = inputs(block), start(block)
    known = jnp.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    other = jnp.where(known[..., None], x, 7 * x + 1)
    y, moved = (apply(block, variables, z, c, LENGTHS, None, known) for z in (x, other))
    np.testing.assert_array_equal(y[0, known[0]], moved[0, known[0]])
    assert np.isfinite(y).all()
    whole = apply(block, variables, x, c, LENGTHS, None, jnp.ones_like(known))
    assert np.abs(whole - y)[0, known[0]].max() > 1e-3


def test_without_the_unknown_tokens_the_others_are_the_same():
    block = BLOCKS["dit"]
    (x, c), variables = inputs(block), start(block)
    rows = np.array([0, 2, 3])
    known = jnp.zeros((2, 5), bool).at[:, rows].set(True)
    y = apply(block, variables, x, c[:, :1], (5,), None, known)[:, rows]
    cut = apply(block, variables, x[:, rows], c[:, :1], (3,))
    np.testing.assert_allclose(y, cut, atol=1e-5)


@pytest.mark.parametrize("name", ["dit", "all"])
def test_it_computes_in_the_type_of_its_input(name):
    block = BLOCKS[name]
    (x, c), variables = inputs(block), start(block)
    known = jnp.ones((2, 5), bool)
    y = apply(block, variables, x, c, LENGTHS, None, known)
    low = [z.astype("bfloat16") for z in (x, c)]
    low = apply(block, variables, *low, LENGTHS, None, known)
    assert low.dtype == jnp.bfloat16 and y.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(low.astype("float32"), y, atol=0.1 * np.abs(y).max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["dit", "lightning"])
def test_at_init_every_gate_is_0_so_the_block_is_the_identity(name, dtype):
    x, c = draw(2, 5, 8).astype(dtype), draw(2, 1, 8, seed=1).astype(dtype)
    y, variables = jax.jit(BLOCKS[name].init_with_output, static_argnums=3)(
        jax.random.key(0), x, c, (5,)
    )
    np.testing.assert_array_equal(y, x)
    # Its parts are not: only the gates hold them back.
    for name in ("qkv", "out"):
        assert np.any(variables["params"]["attn"][name]["kernel"])


def test_each_stream_is_modulated_by_its_own_vector():
    mods = jnp.arange(2 * 3 * 1.0).reshape(2, 3, 1)
    rows = per_token(mods, (2, 1, 3))
    np.testing.assert_array_equal(rows[0, :, 0], [0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(rows[1, :, 0], [3, 3, 4, 5, 5, 5])
    assert per_token(mods[:, :1], (6,)).shape == (2, 1, 1)  # broadcasts


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"heads": 0}, "heads=0: write at least 1"),
        ({"mlp_ratio": 0}, "mlp_ratio=0: write at least 1 or above 0"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Block(**fields)


def test_what_training_starts_from():
    """A factor of its own for each branch, norms' scales of 1, and widths by hand."""
    block = Block(2, layer_scale=0.1, norm_scale=True, mlp="swiglu", mlp_ratio=8 / 3)
    x, c = jnp.zeros((1, 3, 12)), jnp.zeros((1, 1, 5))
    params = jax.jit(lambda x, c: block.init(jax.random.key(0), x, c, (3,)))(x, c)
    params = params["params"]
    for branch in ("attn", "mlp"):
        np.testing.assert_allclose(params[f"{branch}_scale"], [0.1] * 12, rtol=1e-6)
        np.testing.assert_array_equal(params[f"{branch}_norm"]["scale"], [1.0] * 12)
    assert params["mlp"]["up"]["kernel"].shape == (12, 32)
    assert params["mlp"]["gate"]["kernel"].shape == (12, 32)
    assert params["modulation"]["kernel"].shape == (5, 72)
    assert not params["modulation"]["kernel"].any()
    limit = np.sqrt(6 / (12 + 32))  # Xavier's, uniform
    assert 0.9 * limit < np.abs(params["mlp"]["up"]["kernel"]).max() < limit
    wide = jax.eval_shape(Mlp(8 / 3).init, jax.random.key(0), jnp.zeros((1, 1, 1152)))
    assert wide["params"]["up"]["kernel"].shape == (1152, 3072)
    low = jax.eval_shape(Mlp(0.7).init, jax.random.key(0), jnp.zeros((1, 1, 9)))
    assert low["params"]["down"]["kernel"].shape == (6, 9)


def test_rows_are_repeated_for_the_tokens_that_they_stand_for():
    rows = jnp.arange(4.0).reshape(1, 4, 1)
    found = per_token(rows, (1, 1, 3, 2))[0, :, 0]
    assert found.tolist() == [0, 1, 2, 2, 2, 3, 3]
    assert per_token(rows, (2, 2, 2, 2))[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert per_token(rows, (1, 1, 1, 1)) is rows
    one = rows[:, :1]
    assert per_token(one, (5,)) is one


def test_what_a_stream_has_of_its_own_sees_its_rows_alone():
    """Those of a stream together, whatever the lengths of its rows."""
    x = jnp.arange(7.0).reshape(1, 7, 1)
    seen = {}

    def call(name, rows):
        seen[name] = rows[0, :, 0].tolist()
        return rows + 10 * len(seen)

    out = by_stream(call, x, ("a", "a", "b"), (1, 2, 4), True)
    assert seen == {"a_": [0, 1, 2], "b_": [3, 4, 5, 6]}
    assert out[0, :, 0].tolist() == [10, 11, 12, 23, 24, 25, 26]
    by_stream(call, x, ("a", "a", "b"), (1, 2, 4), False)
    assert seen[""] == [0, 1, 2, 3, 4, 5, 6]
