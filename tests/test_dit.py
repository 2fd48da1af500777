import functools

import flax.traverse_util
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from vqdit import sums
from vqdit.dit import DiT
from vqdit.nn import Block, Continuous, Discrete, TimeEmbedding
from vqdit.values import build, describe

IMAGE = Continuous("image", (4, 6), 3, patch=2)
TEXT = Discrete("text", (5,), vocab=7, books=2)
SMALL = {"width": 16, "depth": 2, "block": Block(2, qk_norm="rms"), "classes": 4}
ONE = DiT((IMAGE,), **SMALL)
TWO = DiT((IMAGE, TEXT), **SMALL)


def inputs(model, batch=2):
    """(streams, times, labels) of random values."""
    draw = np.random.default_rng(0)
    streams, times = {}, {}
    for s in model.streams:
        shape = (batch, *s.shape)
        if isinstance(s, Continuous):
            streams[s.name] = jnp.asarray(draw.normal(size=shape), jnp.float32)
        else:  # the mask among them
            codes = draw.integers(0, s.vocab + 1, shape)
            streams[s.name] = jnp.asarray(codes, jnp.int32)
        ends = (batch, 2) if model.intervals else (batch,)
        times[s.name] = jnp.asarray(draw.uniform(size=ends), jnp.float32)
    return streams, times, jnp.arange(batch, dtype=jnp.int32) % 4


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), *inputs(model, 1))["params"]


def start(model, seed=0):
    """Parameters nowhere zero: at init the network ignores most of its input."""
    return {"params": quick.parameters(shapes(model), seed)}


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, streams, times, label, known=None):
    return model.apply(variables, streams, times, label, known)


@functools.partial(jax.jit, static_argnums=0)
def gradients(model, variables, streams, times, label):
    """(outputs, gradients of a loss on all of them)."""

    def loss(variables):
        outputs = model.apply(variables, streams, times, label)
        return sum(jnp.square(y).mean() for y in jax.tree.leaves(outputs)), outputs

    found, outputs = jax.grad(loss, has_aux=True)(variables)
    return outputs, found


def close(a, b, atol=1e-5):
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=atol)
    jax.tree.map(compare, a, b)


def restacked(variables, depth):
    """Parameters of an unrolled model as a scanned one has them."""
    params = dict(variables["params"])
    blocks = [params.pop(f"block_{i:02d}") for i in range(depth)]
    params["blocks"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    return {"params": params}


# Width, depth, heads, patch and millions of parameters (arXiv:2212.09748; those of
# patch 2 with a table of positions, which is no parameter here).
PUBLISHED = {
    "S/2": (384, 12, 6, 2, 32.96),
    "S/8": (384, 12, 6, 8, 33.14),
    "B/4": (768, 12, 12, 4, 130.43),
    "L/8": (1024, 24, 16, 8, 458.58),
    "XL/2": (1152, 28, 16, 2, 675.13),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    width, depth, heads, patch, millions = PUBLISHED[name]
    stream = Continuous("image", (32, 32), 4, patch, outputs=2)
    model = DiT((stream,), width, depth, Block(heads), classes=1000, scan=True)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))
    if patch == 2:
        count += 256 * width
    assert round(count / 1e6, 2) == millions


def test_what_nobody_writes_is_as_published():
    """DiT-S's width, depth and heads, and adaLN-Zero."""
    model = {"width": 384, "depth": 12, "classes": 0, "positions": "sincos"}
    model |= {"time_scale": 1000.0, "intervals": False, "dtype": "float32"}
    model |= {"remat": None, "scan": False, "block": Block()}
    block = {"heads": 6, "mlp": "gelu_tanh", "mlp_ratio": 4, "norm": "layer"}
    block |= {"norm_scale": False, "qk_norm": None, "modulation": "zero"}
    block |= {"shift": True, "layer_scale": None, "own": ()}
    latents = {"patch": 1, "outputs": 1, "kind": "latents", "dtype": "float32"}
    codes = {"books": 1, "kind": "codes", "dtype": "int32"}
    for value, fields in (
        (DiT(), model),
        (Block(), block),
        (Continuous("x", (4,), 2), latents),
        (Discrete("y", (4,), 3), codes),
        (TimeEmbedding(8), {"scale": 1000.0, "features": 256, "dtype": "float32"}),
    ):
        assert {name: getattr(value, name) for name in fields} == fields
    for make, message in (
        (lambda: Continuous("x", (4,), 0), "channels=0: write at least 1"),
        (lambda: Continuous("x", (4, 6), 2, patch=4), r"patch=4: does not divide"),
        (lambda: Discrete("y", (4,), 1), "vocab=1: write at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    assert Continuous("x", (4, 6), 3, patch=2, outputs=2).out_width == 24
    assert Continuous("x", (4, 6), 3, patch=2).coarse == (2, 3)
    assert Continuous("x", (4, 6), 3).most(False) is None
    text = Discrete("y", (4,), 5, books=2)
    assert (text.out_width, text.shape, text.coarse) == (10, (4, 2), (4,))
    assert (text.most(True), text.most(False)) == (5, 4)


def test_at_init_the_output_is_zero():
    """Final projection and every gate start at 0, as published."""
    arguments = inputs(TWO)
    outputs, _ = jax.jit(TWO.init_with_output)(jax.random.key(0), *arguments)
    assert outputs["image"].shape == (2, 4, 6, 3)
    assert outputs["text"].shape == (2, 5, 2, 7)  # logits, none for the mask
    assert not any(np.any(y) for y in outputs.values())


def test_initial_scales_are_the_published_ones():
    model = DiT((IMAGE,), width=64, depth=1, block=Block(2), classes=500)
    params = jax.jit(model.init)(jax.random.key(0), *inputs(model))["params"]
    xavier = lambda fan_in, fan_out: np.sqrt(2 / (fan_in + fan_out))
    expected = {
        ("image_in", "kernel"): xavier(12, 64),
        ("block_00", "attn", "qkv", "kernel"): xavier(64, 192),
        ("block_00", "mlp", "up", "kernel"): xavier(64, 256),
        ("time", "up", "kernel"): 0.02,
        ("time", "down", "kernel"): 0.02,
        ("label", "table"): 0.02,
    }
    for path, std in expected.items():
        leaf = functools.reduce(lambda tree, key: tree[key], path, params)
        # At least 768 draws: a standard error of 2.6 %.
        np.testing.assert_allclose(leaf.std(), std, rtol=0.12, err_msg=str(path))
    for name in ("final_modulation", "image_out"):
        assert not np.any(params[name]["kernel"])


def test_initial_scales_of_codes_streams_and_shared_modulation():
    """Of books a sum as large as one; PixArt-alpha's tables, of 1 / sqrt(width)."""
    streams = Continuous("x", (16,), 3), Discrete("y", (12,), vocab=40, books=4)
    block = Block(2, modulation="single")
    model = DiT(streams, 64, 1, block, positions="learned")
    params = jax.jit(model.init)(jax.random.key(0), *inputs(model, 1)[:2])["params"]
    expected = {
        ("y_in", "table"): 0.5 / 2,
        ("x_positions",): 0.02,
        ("y_positions",): 0.02,
        ("stream",): 0.02,
        ("modulation", "kernel"): 0.02,
        ("block_00", "modulation_table"): 1 / 8,
        ("final_modulation_table",): 1 / 8,
        ("block_00", "attn", "out", "kernel"): np.sqrt(2 / 128),
        ("block_00", "mlp", "down", "kernel"): np.sqrt(2 / 320),
    }
    for path, std in expected.items():
        leaf = functools.reduce(lambda tree, key: tree[key], path, params)
        # 128 draws at the least: a standard error of 6 %.
        np.testing.assert_allclose(leaf.std(), std, rtol=0.25, err_msg=str(path))
    assert params["y_in"]["table"].shape == (4 * 41, 64)


@pytest.mark.slow
def test_scan_equals_unrolled_blocks():
    """With the same weights restacked; and with recomputation inside."""
    variables, arguments = start(TWO), inputs(TWO)
    outputs, expected = gradients(TWO, variables, *arguments)
    stacked = restacked(variables, 2)
    scanned = TWO.clone(scan=True)
    sizes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
    assert sizes(stacked["params"]) == sizes(shapes(scanned))
    close(apply(scanned, stacked, *arguments), outputs)
    mine = gradients(scanned.clone(remat="whole"), stacked, *arguments)
    close(mine, (outputs, restacked(expected, 2)))


def test_recomputing_changes_no_gradient():
    variables, arguments = start(TWO), inputs(TWO)
    plain = gradients(TWO, variables, *arguments)
    close(gradients(TWO.clone(remat="whole"), variables, *arguments), plain)


def test_what_is_recomputed():
    """Products: none, those of attention, or all of the forward pass, once more."""
    block = Block(2, implementation="plain")
    model, variables, arguments = TWO.clone(block=block), start(TWO), inputs(TWO)

    def products(remat):
        model_ = model.clone(remat=remat)
        loss = lambda v: sum(y.sum() for y in model_.apply(v, *arguments).values())
        return str(jax.make_jaxpr(jax.grad(loss))(variables)).count("dot_general")

    kept = products(None)
    assert products("dots_saveable") == kept
    # A block has two products inside attention, and five with a matrix of its own.
    assert products("dots_with_no_batch_dims_saveable") == kept + 2 * 2
    assert products("whole") == kept + 2 * 7


def test_layers_of_a_scan_start_different():
    model = ONE.clone(scan=True)
    params = jax.jit(model.init)(jax.random.key(0), *inputs(model))["params"]
    for name, part in (("attn", "qkv"), ("mlp", "up")):
        first, second = params["blocks"][name][part]["kernel"]
        assert np.abs(first - second).min() < np.abs(first - second).max()


def test_every_parameter_matters():
    _, found = gradients(TWO, start(TWO), *inputs(TWO))
    for path, gradient in jax.tree.leaves_with_path(found):
        assert np.isfinite(gradient).all() and np.any(gradient), path


def test_no_label_is_the_null_class():
    variables, (streams, times, label) = start(ONE), inputs(ONE)
    absent = apply(ONE, variables, streams, times, None)
    null = apply(ONE, variables, streams, times, jnp.full_like(label, 4))
    close(absent, null, atol=0)
    given = apply(ONE, variables, streams, times, label)
    assert np.abs(given["image"] - null["image"]).max() > 0.01


def test_without_classes_there_is_no_table():
    model = ONE.clone(classes=0)
    assert "label" not in shapes(model)
    streams, times, _ = inputs(model)
    apply(model, start(model), streams, times, None)


def test_a_stream_sees_another_only_by_attention():
    """Its time, above all: with attention shut, B's time and data move B alone."""
    streams, times, label = inputs(TWO)
    variables = start(TWO)
    later = {**times, "text": 1 - times["text"]}
    other = {**streams, "text": 7 - streams["text"]}

    def change(variables, name, streams_, times_):
        before = apply(TWO, variables, streams, times, label)[name]
        after = apply(TWO, variables, streams_, times_, label)[name]
        return np.abs(after - before).max()

    shut = jax.tree.map(lambda leaf: leaf, variables)
    for i in range(2):
        shut["params"][f"block_{i:02d}"]["attn"]["out"]["kernel"] *= 0
    for moved in ((streams, later), (other, times)):
        assert change(variables, "image", *moved) > 0.01
        assert change(variables, "text", *moved) > 0.01
        assert change(shut, "image", *moved) == 0
        assert change(shut, "text", *moved) > 0.01


def test_streams_of_one_kind_are_told_apart():
    """Equal data at equal times, and equal projections, but a vector of their own."""
    pair = (Continuous("a", (3,), 2), Continuous("b", (3,), 2))
    model = DiT(pair, width=16, depth=1, block=Block(2))
    variables = start(model)
    params = variables["params"]
    for part in ("in", "out"):
        params[f"b_{part}"] = params[f"a_{part}"]
    x, t = jnp.ones((1, 3, 2)), jnp.ones(1) / 2
    run = lambda: apply(model, variables, {"a": x, "b": x}, {"a": t, "b": t}, None)
    y = run()
    assert np.abs(y["a"] - y["b"]).max() > 0.01
    params["stream"] = jnp.zeros_like(params["stream"])
    y = run()
    close(y["a"], y["b"])


def test_codes_are_embedded_per_book_and_summed():
    """A model whose only stream is codes, cut to its embedding."""
    model = DiT((TEXT,), width=16, depth=1, block=Block(2))
    table = shapes(model)["text_in"]["table"]
    assert table.shape == (2 * 8, 16)  # two books of seven codes and a mask
    variables, (streams, times, _) = start(model), inputs(model)
    codes = streams["text"]
    first = codes.at[..., 0].set((codes[..., 0] + 1) % 8)
    swapped = codes[..., ::-1]
    y = apply(model, variables, streams, times, None)["text"]
    for other in (first, swapped):
        moved = apply(model, variables, {"text": other}, times, None)["text"]
        assert np.abs(moved - y).max() > 0.01


@pytest.mark.parametrize(
    "positions",
    [
        "sincos_rotary",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("learned", "sincos", "rotary")
        ),
    ],
)
def test_it_differentiates_forward_over_reverse_with_positions_of_each_kind(positions):
    """A jvp by data and times inside a grad, against differences of its values."""
    block = Block(2, implementation="plain")
    model = DiT((IMAGE,), 16, 1, block, positions=positions, time_scale=1.0)
    (x, t, _), variables = inputs(model), start(model)
    way = start(model, seed=1)

    @jax.jit
    def slope(variables):
        def loss(variables):
            call = lambda x, t: model.apply(variables, x, t)["image"]
            ones = jax.tree.map(jnp.ones_like, (x, t))
            y, dy = jax.jvp(call, (x, t), ones)
            return (jnp.sin(y) * dy).sum()

        return jax.value_and_grad(loss)(variables)

    moved = lambda h: jax.tree.map(lambda v, w: v + h * w, variables, way)
    values = [float(slope(moved(h))[0]) for h in (4e-3, -4e-3)]
    _, found = slope(variables)
    total = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, found, way)))
    np.testing.assert_allclose(total, (values[0] - values[1]) / 8e-3, rtol=5e-3)


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
def test_places_matter_and_outputs_are_float32_in_bfloat16(positions):
    model = TWO.clone(positions=positions)
    variables, (streams, times, label) = start(model), inputs(model)
    y = apply(model, variables, streams, times, label)
    # Turned by half a turn in place; without positions the tokens would just move.
    turned = {**streams, "text": streams["text"][:, ::-1]}
    moved = apply(model, variables, turned, times, label)
    assert np.abs(moved["text"][:, ::-1] - y["text"]).max() > 1e-3

    low = model.clone(dtype="bfloat16")
    for path, leaf in jax.tree.leaves_with_path(shapes(low)):
        assert leaf.dtype == jnp.float32, path
    rough = apply(low, variables, streams, times, label)
    for name, value in rough.items():
        assert value.dtype == jnp.float32
        scale = np.abs(y[name]).max()
        np.testing.assert_allclose(value, y[name], atol=0.05 * scale)
        assert np.abs(value - y[name]).max() > 0


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
def test_any_number_of_axes(positions):
    """Video, sound, and a single token without any axis, in one model."""
    model = DiT(
        (
            Continuous("video", (2, 2, 4), 1, patch=2, outputs=2),
            Continuous("sound", (6,), 2, patch=3),
            Discrete("answer", (), 5),
        ),
        width=24,
        depth=1,
        block=Block(2),
        positions=positions,
    )
    streams, times, _ = inputs(model)
    y = apply(model, start(model), streams, times, None)
    assert {name: value.shape for name, value in y.items()} == {
        "video": (2, 2, 2, 4, 2),
        "sound": (2, 6, 2),
        "answer": (2, 1, 5),
    }


def test_a_model_of_one_token_has_rotary_positions_too():
    model = DiT((Discrete("answer", (), 5),), 8, 1, Block(2), positions="rotary")
    assert "answer_in" in shapes(model)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda x, t: ({}, t), "got streams"),
        (lambda x, t: (x, {**t, "text": t["image"]}), "times"),
        (lambda x, t: ({"image": x["image"][:, :2]}, t), r"\(b, 4, 6, 3\)"),
        (lambda x, t: (x, {"image": t["image"][:, None]}), "intervals=False"),
        (lambda x, t: (x, {"image": jnp.zeros((2, 6))}), r"first axes of its grid"),
        (lambda x, t: (x, t, None, {"text": t["image"]}), "known of"),
        (lambda x, t: (x, t, None, {"image": t["image"][:1]}), r"is \(2,\) or"),
    ],
)
def test_streams_that_are_not_its_own_are_refused(change, message):
    streams, times, _ = inputs(ONE)
    call = functools.partial(ONE.init, jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, *change(streams, times))


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: Continuous("x", (4, 6), 3, patch=4), "patch=4: does not divide"),
        (lambda: Continuous("x", (4,), 0), "channels=0: write at least 1"),
        (lambda: Discrete("x", (4,), 1), "vocab=1: write at least 2"),
        (
            lambda: shapes(ONE.clone(block=Block(3))),
            "3 heads do not divide the width 16",
        ),
        (lambda: shapes(DiT((IMAGE, IMAGE))), "its own name"),
        (lambda: shapes(DiT(())), "at least one stream"),
    ],
)
def test_impossible_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_stream_that_is_left_out_is_as_if_unknown():
    """By leaving it out, by known = 0 for all of it, and with anything in its place."""
    variables, (streams, times, label) = start(TWO), inputs(TWO)
    alone = {"image": streams["image"]}, {"image": times["image"]}
    y = apply(TWO, variables, *alone, label)
    assert set(y) == {"image"}
    known = {"text": jnp.zeros(2, bool)}
    masked = apply(TWO, variables, streams, times, label, known)
    close(masked["image"], y["image"])
    other = {**streams, "text": 7 - streams["text"]}
    moved = apply(TWO, variables, other, times, label, known)
    np.testing.assert_array_equal(moved["image"], masked["image"])
    assert np.isfinite(masked["text"]).all()
    whole = apply(TWO, variables, streams, times, label)
    assert np.abs(whole["image"] - y["image"]).max() > 0.01


def test_a_stream_alone_is_turned_as_beside_the_others():
    """Text of one axis, with and without the picture of two, which nobody sees."""
    model = TWO.clone(positions="rotary")
    variables, (streams, times, label) = start(model), inputs(model)
    alone = {"text": streams["text"]}, {"text": times["text"]}
    y = apply(model, variables, *alone, label)["text"]
    known = {"image": jnp.zeros(2, bool)}
    close(apply(model, variables, streams, times, label, known)["text"], y)


def test_a_stream_that_is_left_out_costs_nothing():
    text = next(s for s in TWO.streams if s is TEXT)
    alone, variables = TWO.clone(streams=(text,)), start(TWO)
    streams, times, label = inputs(TWO)

    def products(model, variables):
        call = lambda: model.apply(
            variables, {"text": streams["text"]}, {"text": times["text"]}, label
        )
        return str(jax.make_jaxpr(call)()).count("dot_general")

    assert products(TWO, variables) == products(alone, start(alone))


def test_unknown_places_influence_nothing():
    """Not even where they share a patch with what is known, nor as infinities."""
    variables, (streams, times, label) = start(TWO), inputs(TWO)
    # Whole patches, a part of one, and in the second example nothing at all.
    image = np.zeros((2, 4, 6), bool)
    image[0, :2, :3] = image[0, 3, 5] = True
    text = np.array([[1, 0, 1, 1, 0], [0] * 5], bool)
    known = {"image": jnp.asarray(image), "text": jnp.asarray(text)}
    other = {
        "image": jnp.where(image[..., None], streams["image"], jnp.inf),
        "text": jnp.where(text[..., None], streams["text"], 0),
    }
    y = apply(TWO, variables, streams, times, label, known)
    moved = apply(TWO, variables, other, times, label, known)
    for name in y:
        assert np.isfinite(y[name]).all()
        np.testing.assert_array_equal(y[name], moved[name])
    # What is known is seen, by the stream itself and by the other.
    there = {**streams, "image": streams["image"].at[0, 3, 5].add(1.0)}
    moved = apply(TWO, variables, there, times, label, known)
    for name in y:
        assert np.abs(moved[name][0] - y[name][0]).max() > 1e-3

    def loss(variables):
        outputs = TWO.apply(variables, streams, times, label, known)
        return sum(jnp.square(y).mean() for y in outputs.values())

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables)):
        assert np.isfinite(leaf).all()


def test_all_known_is_as_not_saying():
    variables, arguments = start(TWO), inputs(TWO)
    known = {"image": jnp.ones(2), "text": jnp.ones((2, 5), bool)}
    close(apply(TWO, variables, *arguments, known), apply(TWO, variables, *arguments))


def test_the_scale_of_time_is_a_field():
    """SiT's t is a thousandth of DiT's."""
    variables, (streams, times, label) = start(ONE), inputs(ONE)
    slow = ONE.clone(time_scale=1.0)
    y = apply(slow, variables, streams, {"image": 100 * times["image"]}, label)
    small = {"image": times["image"] / 10}
    close(y, apply(ONE, variables, streams, small, label), atol=1e-4)


def test_both_ends_of_an_interval_matter():
    model = ONE.clone(intervals=True)
    variables, (streams, times, label) = start(model), inputs(model)
    t = times["image"][:, 0]
    run = lambda t, s: apply(
        model, variables, streams, {"image": jnp.stack([t, s], 1)}, label
    )["image"]
    y = run(t, t / 2)
    assert np.abs(run(t, t / 3) - y).max() > 1e-3
    assert np.abs(run(t / 2, t / 2 - t / 2) - y).max() > 1e-3  # as long, but earlier


@pytest.mark.parametrize("positions", ["learned", "sincos_rotary"])
def test_places_matter_with_other_positions(positions):
    model = TWO.clone(positions=positions)
    variables, (streams, times, label) = start(model), inputs(model)
    y = apply(model, variables, streams, times, label)
    turned = {**streams, "text": streams["text"][:, ::-1]}
    moved = apply(model, variables, turned, times, label)
    assert np.abs(moved["text"][:, ::-1] - y["text"]).max() > 1e-3
    added = {name for name in shapes(model) if name.endswith("_positions")}
    learned = {"image_positions", "text_positions"}
    assert added == (learned if positions == "learned" else set())


def test_single_modulation_is_one_projection_for_all_blocks():
    model = ONE.clone(block=Block(2, modulation="single"))
    parameters = shapes(model)
    assert parameters["modulation"]["kernel"].shape == (16, 96)
    assert parameters["block_01"]["modulation_table"].shape == (6, 16)
    variables, arguments = start(model), inputs(model)
    _, found = gradients(model, variables, *arguments)
    for path, gradient in jax.tree.leaves_with_path(found):
        assert np.any(gradient), path


def test_files_of_the_time_when_the_block_was_no_value_load():
    fields = describe(ONE)["fields"]
    fields = {name: fields[name] for name in ("streams", "width", "classes", "dtype")}
    fields |= {"heads": 2, "mlp_ratio": 3, "qk_norm": True, "remat": True}
    old = build({"class": "vqdit.dit.DiT", "fields": fields})
    block = Block(2, mlp_ratio=3, qk_norm="rms")
    assert old == ONE.clone(depth=12, block=block, remat="whole")
    fields |= {"qk_norm": False, "remat": False}
    old = build({"class": "vqdit.dit.DiT", "fields": fields})
    assert old.block == Block(2, mlp_ratio=3) and old.remat is None
    assert build(describe(old)) == old


def test_frames_and_places_have_times_of_their_own():
    """Equal ones are as one; a token is as late as its latest place, and its own time
    alone moves it where attention is shut."""
    variables, (streams, times, label) = start(TWO), inputs(TWO)
    y = apply(TWO, variables, streams, times, label)
    full = {"image": (2, 4, 6), "text": (2, 5)}
    for lead in ({"image": (2, 4), "text": (2,)}, full):
        spread = lambda t, shape: jnp.broadcast_to(
            t.reshape(-1, *[1] * (len(shape) - 1)), shape
        )
        same = {name: spread(times[name], shape) for name, shape in lead.items()}
        close(apply(TWO, variables, streams, same, label), y)

    for i in range(2):
        variables["params"][f"block_{i:02d}"]["attn"]["out"]["kernel"] *= 0
    still = {"image": jnp.full((2, 4, 6), 0.5), "text": jnp.full((2, 5), 0.5)}
    run = lambda t: apply(TWO, variables, streams, t, label)
    before = run(still)
    earlier = run(still | {"image": still["image"].at[:, 2, 3].set(0.25)})
    close(earlier, before)
    later = run(still | {"image": still["image"].at[:, 2, 3].set(0.75)})
    moved = np.abs(later["image"] - before["image"]).max((0, 3)) > 1e-3
    assert np.argwhere(moved).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    later = run(still | {"text": still["text"].at[:, 4].set(0.75)})
    moved = np.abs(later["text"] - before["text"]).max((0, 2, 3)) > 1e-3
    assert moved.tolist() == [False] * 4 + [True]


OWN = TWO.clone(block=TWO.block.clone(own=("mlp", "modulation")))


def owned(variables, names=("image", "text")):
    """Parameters of a model whose streams share all, copied to each of its streams."""
    flat = flax.traverse_util.flatten_dict(variables)
    for path in list(flat):
        for i, part in enumerate(path):
            if part == "mlp" or "modulation" in part:
                leaf = flat.pop(path)
                for name in names:
                    flat[(*path[:i], f"{name}_{part}", *path[i + 1 :])] = leaf
                break
    return flax.traverse_util.unflatten_dict(flat)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"modulation": "single", "mlp": "swiglu"}])
def test_streams_with_equal_parts_of_their_own_are_as_if_they_shared(fields):
    one, own = (m.clone(block=m.block.clone(**fields)) for m in (TWO, OWN))
    variables, arguments = start(one), inputs(one)
    mine = owned(variables)
    sizes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
    assert sizes(mine["params"]) == sizes(shapes(own))
    y = apply(one, variables, *arguments)
    close(apply(own, mine, *arguments), y)
    # A stack, recomputed, with frames at times of their own.
    scanned = own.clone(scan=True, remat="whole")
    stacked = restacked(mine, 2)
    streams, times, label = arguments
    frames = times | {"image": jnp.tile(times["image"][:, None], 4)}
    close(apply(scanned, stacked, streams, frames, label), y)


def test_what_a_stream_has_of_its_own_moves_it_alone():
    variables, arguments = start(OWN), inputs(OWN)
    shut = jax.tree.map(lambda leaf: leaf, variables)
    for i in range(2):
        shut["params"][f"block_{i:02d}"]["attn"]["out"]["kernel"] *= 0
    y = apply(OWN, shut, *arguments)
    for part in (("block_00", "text_mlp", "up"), ("block_01", "text_modulation")):
        other = jax.tree.map(lambda leaf: leaf, shut)
        place = functools.reduce(lambda tree, key: tree[key], part, other["params"])
        place["kernel"] = 2 * place["kernel"]
        moved = apply(OWN, other, *arguments)
        np.testing.assert_array_equal(moved["image"], y["image"])
        assert np.abs(moved["text"] - y["text"]).max() > 1e-3
    # Without the other stream its parts are not asked.
    alone = {"image": arguments[0]["image"]}, {"image": arguments[1]["image"]}
    assert set(apply(OWN, variables, *alone, arguments[2])) == {"image"}


def test_without_a_time_an_interval_is_its_length_alone():
    """The time's own embedding set to 0, what is left is that of t - s."""
    model = ONE.clone(intervals=True)
    variables, (streams, times, label) = start(model), inputs(model)
    own = dict(variables["params"])
    own["time"] = jax.tree.map(jnp.zeros_like, own["time"])
    t = times["image"][:, 0]
    run = lambda t, s: apply(
        model, {"params": own}, streams, {"image": jnp.stack([t, s], 1)}, label
    )["image"]
    close(run(t, t / 2), run(t / 2, 0 * t), atol=1e-4)
    assert np.abs(run(t, t / 2) - run(t, t / 3)).max() > 1e-3


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from primitives(inner)


@pytest.mark.parametrize("cpu", [True, False])
def test_no_gradient_is_a_scatter_but_on_a_cpu(cpu, monkeypatch):
    """A GPU adds the rows of one in an order of its own every time."""
    monkeypatch.setattr(sums, "on_cpu", lambda: cpu)
    variables = jax.eval_shape(TWO.init, jax.random.key(0), *inputs(TWO, 1))
    loss = lambda v, *x: sum(y.sum() for y in TWO.apply(v, *x).values())
    found = set(primitives(jax.make_jaxpr(jax.grad(loss))(variables, *inputs(TWO))))
    assert ("scatter-add" in found) == cpu, found
