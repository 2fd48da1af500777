import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import P

from tests import quick
from tests.nn.test_block import BLOCKS
from tests.train import toy
from train.config import SGD, Adafactor, Mesh, Muon, Optimizer
from train.errors import BadInput
from train.runtime import hosts
from train.runtime.sharding import (
    DIT_RULES,
    TOKENIZER_RULES,
    Rule,
    along_batch,
    batch_sharding,
    by_example,
    create_state,
    make_mesh,
    mesh_in_words,
    replicated,
    shardings,
    specs,
    spread,
    state_sharding,
)
from train.runtime.step import init_state, make_step
from vqdit.diffusion.objectives import known_mean
from vqdit.dit import DiT
from vqdit.nn import Block, Continuous, Discrete
from vqdit.nn.products import convolution
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
from vqdit.signal import istft, stft
from vqdit.signal.spectra import magnitude
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

MESHES = [Mesh(8, 1, 1), Mesh(2, 2, 2), Mesh(1, 4, 2), Mesh(2, -1, 1), Mesh(1, 1, 8)]


@pytest.mark.parametrize(
    "mesh,sizes",
    [
        (Mesh(), (8, 1, 1)),
        (Mesh(-1, 2, 2), (2, 2, 2)),
        (Mesh(2, -1, 1), (2, 4, 1)),
        (Mesh(1, 1, 8), (1, 1, 8)),
    ],
)
def test_mesh_takes_what_is_left(mesh, sizes):
    made = make_mesh(mesh)
    assert made.devices.shape == sizes and made.axis_names == ("data", "fsdp", "tensor")
    assert all(kind == jax.sharding.AxisType.Auto for kind in made.axis_types)


@pytest.mark.parametrize(
    "mesh",
    [Mesh(3), Mesh(4), Mesh(-1, 3), Mesh(-1, -1), Mesh(0), Mesh(-1, -2), Mesh(16)],
)
def test_mesh_that_is_not_the_devices_is_refused(mesh):
    with pytest.raises(BadInput, match="mesh"):
        make_mesh(mesh)


def test_a_mesh_in_words_and_where_rows_go():
    mesh = make_mesh(Mesh(2, 2, 2))
    assert mesh_in_words(mesh) == "8 cpu (data 2, fsdp 2, tensor 2)"
    assert mesh_in_words(make_mesh(Mesh(1, 8))) == "8 cpu (fsdp 8)"
    assert mesh_in_words(make_mesh(Mesh(), jax.devices()[:1])) == "1 cpu"
    whole, one = jax.NamedSharding(mesh, P()), jax.sharding.SingleDeviceSharding
    place = jax.NamedSharding(mesh, P("tensor"))
    assert along_batch(place, 12) == batch_sharding(mesh)  # four parts
    assert along_batch(place, 6) == replicated(place) == whole
    place = one(jax.devices()[3])
    assert along_batch(place, 6) is replicated(place) is place


def test_each_device_draws_its_part_of_the_samples(monkeypatch):
    """Six by four parts, which are filled up."""
    mesh, seen = make_mesh(Mesh(2, 2, 2)), []

    def draw(key, ids, label, scale):
        seen.append((ids, label))
        return {"x": scale * ids, "word": list(map(str, ids.tolist()))}

    split = spread(draw, jax.NamedSharding(mesh, P()))
    found = split(None, np.arange(6), label=np.arange(6) + 1, scale=3)
    assert found["x"].tolist() == [0, 3, 6, 9, 12, 15] and found["word"][5:] == ["5"]
    ids, label = seen[0]
    assert ids.sharding == label.sharding == batch_sharding(mesh)
    assert ids.tolist() == [0, 1, 2, 3, 4, 5, 5, 5] and label[7] == 6
    split(None, np.arange(8), label=None, scale=3)
    assert seen[1][1] is None and seen[1][0].sharding == batch_sharding(mesh)
    assert spread(draw, jnp.zeros(()).sharding) is draw
    # Nor is anything split on one device, or by one of several processes.
    alone = jax.NamedSharding(make_mesh(Mesh(), jax.devices()[:1]), P())
    assert spread(draw, alone) is by_example(draw, alone) is draw
    assert by_example(draw, jnp.zeros(()).sharding) is draw
    monkeypatch.setattr(hosts, "several", lambda: True)
    assert spread(draw, jax.NamedSharding(mesh, P())) is draw


def test_rules_are_aligned_to_the_right():
    rules = (Rule(r"kernel$", P("fsdp", "tensor")), Rule(r"bias$"))
    tree = {
        "one": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
        "scanned": {"kernel": jnp.ones((3, 4, 2))},
    }
    made = specs(tree, rules)
    assert made["one"]["kernel"] == P("fsdp", "tensor")
    assert made["scanned"]["kernel"] == P(None, "fsdp", "tensor")
    assert made["one"]["bias"] == P(None)


def test_every_variable_has_a_rule_and_every_rule_a_variable():
    tree = {"params": {"up": {"kernel": jnp.ones((4, 2))}}}
    rule = Rule(r"^params/up/kernel$", P("fsdp", None))
    specs(tree, (rule, Rule("gone", optional=True)))
    with pytest.raises(ValueError, match=r"match nothing: \['gone'\]"):
        specs(tree, (rule, Rule("gone")))
    with pytest.raises(ValueError, match=r"params/up/kernel\(4, 2\): no sharding rule"):
        specs(tree, (Rule("gone"),))
    with pytest.raises(ValueError, match=r"params/up/kernel\(4, 2\): rule"):
        specs(tree, (Rule("kernel", P(None, None, "fsdp")),))


def test_an_axis_that_does_not_divide_is_named():
    tree = {"params": {"kernel": jnp.ones((4, 6))}}
    rules = (Rule("kernel", P(None, "fsdp")),)
    with pytest.raises(ValueError, match=r"kernel\(4, 6\): mesh axis 'fsdp' of 4"):
        shardings(tree, rules, make_mesh(Mesh(2, 4, 1)))


def test_moments_and_average_live_with_their_parameter():
    mesh = make_mesh(Mesh(2, 2, 2))
    state = toy.new_state()
    layout = state_sharding(state, toy.RULES, mesh)
    assert jax.tree.structure(layout) == jax.tree.structure(state)
    wanted = jax.NamedSharding(mesh, P("fsdp", "tensor"))
    moments = [optax.tree.get(layout.opt, name) for name in ("mu", "nu")]
    for tree in (layout.params, layout.ema, *moments):
        assert tree["up"]["kernel"] == wanted
    counters = optax.tree.get_all_with_path(layout.opt, "count")
    for leaf in (layout.step, layout.key, *(leaf for _, leaf in counters)):
        assert leaf == jax.NamedSharding(mesh, P())
    assert layout.stats["averages"]["mean"].spec == P(None)


def test_optimizer_state_of_unknown_shape_is_refused():
    state = toy.new_state()
    state = state.replace(opt=(state.opt, {"row": jnp.ones(3)}))
    with pytest.raises(ValueError, match=r"opt/1/row\(3,\): neither"):
        state_sharding(state, toy.RULES, make_mesh(Mesh()))


RULES = {
    "adam": toy.OPTIMIZER,
    "adafactor": Optimizer(1e-2, ema=0.99, rule=Adafactor(factored=4)),
    "muon": Optimizer(1e-2, ema=0.99, rule=Muon(), rates=(("up/bias", 0.0),)),
    "sgd": Optimizer(1e-2, ema=0.99, rule=SGD()),
}


@functools.cache
def on_one_device(rule):
    """(step, first state, state and metrics three steps on)."""
    optimizer = RULES[rule]
    step = toy.new_step(optimizer)
    first = toy.new_state(optimizer=optimizer)
    state, single = first, jax.jit(step)
    for i in range(3):
        state, metrics = single(state, toy.new_batch(i))
    return step, first, state, metrics


@pytest.mark.parametrize(
    "mesh,rule",
    [(mesh, "adam") for mesh in MESHES] + [(Mesh(2, 2, 2), rule) for rule in RULES][1:],
)
def test_step_is_the_same_on_any_mesh(mesh, rule):
    """Noise, moving averages and clipping included."""
    step, first, one, one_metrics = on_one_device(rule)
    mesh = make_mesh(mesh)
    layout = state_sharding(first, toy.RULES, mesh)
    many = jax.device_put(jax.tree.map(jnp.copy, first), layout)
    spread = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
    for i in range(3):
        placed = jax.device_put(toy.new_batch(i), batch_sharding(mesh))
        many, metrics = spread(many, placed)
    chex.assert_trees_all_close(metrics, one_metrics, rtol=1e-5)
    for name in ("params", "stats", "ema", "opt"):
        chex.assert_trees_all_close(
            jax.device_get(getattr(many, name)),
            getattr(one, name),
            rtol=1e-4,
            atol=1e-6,
        )
    same = jax.tree.map(lambda x, s: x.sharding == s, many, layout)
    assert all(jax.tree.leaves(same))


def test_state_is_born_in_place_with_the_same_values():
    mesh = make_mesh(Mesh(1, 4, 2))
    born = create_state(toy.new_state, toy.RULES, mesh)
    assert born.params["up"]["kernel"].sharding.spec == P("fsdp", "tensor")
    toy_state = jax.jit(toy.new_state)()
    # Two programs of one initialisation: another partition may round otherwise.
    toy.same(born, toy_state, atol=1e-7)
    # Its average is not the parameters' own buffer: it can be donated.
    jax.jit(lambda s: jax.tree.map(lambda x: x, s), donate_argnums=0)(born)


STREAMS = (Continuous("image", (4, 4), 4, patch=2), Discrete("text", (4,), 7, books=2))


EVERYTHING = {
    "scan": True,
    "remat": "whole",
    "block": Block(2, qk_norm="rms"),
    "positions": "rotary",
}


@pytest.mark.parametrize(
    "mesh,options",
    [
        (Mesh(1, 4, 2), {"depth": 1}),
        pytest.param(Mesh(2, 2, 2), EVERYTHING, marks=pytest.mark.slow),
    ],
)
def test_dit_step_is_the_same_on_any_mesh(mesh, options):
    """The real table on the real model: a joint one, so that every rule is used, of
    which the first examples lack a stream and the last much of the other."""
    model = DiT(
        STREAMS, width=16, classes=7, **{"depth": 2, "block": Block(2)} | options
    )
    batch = {
        "image": np.random.default_rng(0).normal(size=(8, 4, 4, 4)).astype(np.float32),
        "text": np.random.default_rng(1).integers(0, 7, (8, 4, 2)).astype(np.int32),
        "label": np.arange(8, dtype=np.int32) % 7,
        "known": {
            "image": np.arange(8) >= 3,
            "text": np.arange(4) < np.arange(8)[::-1, None],
        },
    }

    def objective(params, stats, batch, key, step):
        t = jax.random.uniform(key, (batch["label"].shape[0],))
        streams = {name: batch[name] for name in ("image", "text")}
        times, more = {"image": t, "text": 1 - t}, (batch["label"], batch["known"])
        out = model.apply({"params": params}, streams, times, *more)
        losses = {
            "image": jnp.square(out["image"] - 1 - batch["image"]).mean(-1),
            "text": optax.losses.softmax_cross_entropy_with_integer_labels(
                out["text"], batch["text"]
            ).mean(-1),
        }
        loss = sum(known_mean(losses[n], batch["known"][n]) for n in losses)
        return loss, (stats, {})

    tx = optax.adam(1e-2, eps=1e-3)  # else it divides gradients near 0 by their size
    # Gates that start at zero would hide the blocks.
    variables = quick.parameters(dit_shapes(model)[0])
    one, mesh = init_state(jax.random.key(2), variables, tx), make_mesh(mesh)
    layout = state_sharding(one, DIT_RULES, mesh)
    many = jax.device_put(one, layout)
    step = make_step(objective, tx)
    split = by_example(step, batch_sharding(mesh))  # as training does
    spread = jax.jit(split, out_shardings=(layout, None))
    single = jax.jit(step)
    for _ in range(2):
        one, one_metrics = single(one, batch)
        many, metrics = spread(many, jax.device_put(batch, batch_sharding(mesh)))
    chex.assert_trees_all_close(
        jax.device_get(metrics), jax.device_get(one_metrics), rtol=1e-4
    )
    chex.assert_trees_all_close(
        jax.device_get(many.params), jax.device_get(one.params), atol=2e-4
    )


def dit_shapes(model, batch=1):
    """Shapes of its variables, and of the arguments of a call."""
    streams = {
        s.name: jax.ShapeDtypeStruct(
            (batch, *s.shape), jnp.float32 if isinstance(s, Continuous) else jnp.int32
        )
        for s in model.streams
    }
    times = {name: jax.ShapeDtypeStruct((batch,), jnp.float32) for name in streams}
    shapes = jax.eval_shape(model.init, jax.random.key(0), streams, times)
    return shapes, (streams, times)


OWN = {"own": Block(2, own=("mlp", "modulation"), mlp="swiglu")}
OWN["own single"] = OWN["own"].clone(modulation="single")


@pytest.mark.parametrize("block", (BLOCKS | OWN).values(), ids=BLOCKS | OWN)
def test_dit_table_covers_every_switch(block):
    """By shape alone; a rule without a parameter raises, and the reverse."""
    for fields in (
        {"streams": STREAMS[:1]},
        {"streams": STREAMS[1:], "classes": 10, "scan": True, "positions": "learned"},
        {"streams": STREAMS, "classes": 10, "positions": "learned"},
    ):
        model = DiT(width=24, depth=2, block=block, **fields)
        placed = shardings(dit_shapes(model)[0], DIT_RULES, make_mesh(Mesh(1, 4, 2)))
        for path, place in jax.tree_util.tree_leaves_with_path(placed):
            small = re.search(r"bias|_?scale|_table|stream", path[-1].key)
            whole = bool(small) and path[-1].key != "table"
            assert any(place.spec) != whole, path


def test_where_the_parameters_of_a_dit_live():
    """The table, written out: what is replicated by a slip costs memory in silence."""
    block = Block(2, "swiglu", qk_norm="layer")
    model = DiT(STREAMS, 16, 1, block, classes=7, positions="learned", intervals=True)
    times = {s.name: jnp.zeros((1, 2)) for s in STREAMS}
    example = {s.name: jnp.zeros((1, *s.shape), int) for s in STREAMS}
    variables = jax.eval_shape(model.init, jax.random.key(0), example, times)
    flat = jax.tree_util.tree_leaves_with_path(specs(variables, DIT_RULES))
    found = {
        jax.tree_util.keystr(path[1:], simple=True, separator="/"): tuple(spec)
        for path, spec in flat
        if any(spec)
    }
    assert found == {
        "block_00/attn/qkv/kernel": ("fsdp", "tensor"),
        "block_00/attn/out/kernel": ("tensor", "fsdp"),
        "block_00/mlp/up/kernel": ("fsdp", "tensor"),
        "block_00/mlp/gate/kernel": ("fsdp", "tensor"),
        "block_00/mlp/down/kernel": ("tensor", "fsdp"),
        "block_00/modulation/kernel": (("fsdp", "tensor"), None),
        "final_modulation/kernel": (("fsdp", "tensor"), None),
        "time/up/kernel": (None, "fsdp"),
        "time/down/kernel": (None, "fsdp"),
        "duration/up/kernel": (None, "fsdp"),
        "duration/down/kernel": (None, "fsdp"),
        "label/table": (None, "fsdp"),
        "image_in/kernel": (None, "fsdp"),
        "text_in/table": (None, "fsdp"),
        "image_positions": (None, "fsdp"),
        "text_positions": (None, "fsdp"),
        "image_out/kernel": ("fsdp", None),
        "text_out/kernel": ("fsdp", None),
    }
    assert batch_sharding(make_mesh(Mesh(2, 2, 2))).spec == P(("data", "fsdp"))


def test_tensor_splits_heads_and_gathers_none():
    """Read in the compiled gradient: 2 examples and 4 of 8 heads to each device."""
    model = DiT((Continuous("image", (6, 6), 3),), 64, 2, Block(8))
    mesh, (variables, arguments) = make_mesh(Mesh(2, 2, 2)), dit_shapes(model, 8)
    layout = shardings(variables, DIT_RULES, mesh)
    place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
    variables = jax.tree.map(place, variables, layout)
    batch = batch_sharding(mesh)
    arguments = jax.tree.map(lambda x: place(x, batch), arguments)

    def loss(variables, streams, times):
        return jnp.square(model.apply(variables, streams, times)["image"] - 1).mean()

    program = jax.jit(jax.grad(loss), out_shardings=layout)
    text = program.lower(variables, *arguments).compile().as_text()
    scores = set(re.findall(r"f32\[([\d,]+),36,36\]", text))
    assert scores == {"2,4"}
    # Gathered are parameters, and vectors that hold no token.
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", text)
    assert gathered and not [shape for shape in gathered if "36" in shape.split(",")]
    # Shifts, scales and gates stay whole: no piece of them is sent to a neighbour.
    moved = r"= \w+\[([\d,]*)\]\S* (?:collective-permute|all-to-all)\("
    assert not {"2,1,32", "2,1,64", "2,1,384"} & set(re.findall(moved, text))


SENT = re.compile(
    r"= (.*?) (?:all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)\("
)


def sent(loss, variables, rules, mesh, *arguments):
    """Shapes of all that devices send each other to compute a loss and its gradient."""
    layout, batch = shardings(variables, rules, mesh), batch_sharding(mesh)
    place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
    arguments = jax.tree.map(lambda x: place(x, batch), arguments)
    variables = jax.tree.map(place, variables, layout)
    gradient = jax.jit(by_example(jax.grad(loss), batch), out_shardings=layout)
    text = gradient.lower(variables, *arguments).compile().as_text()
    shapes = re.findall(r"\[([\d,]+)\]", " ".join(SENT.findall(text)))
    return {tuple(map(int, shape.split(","))) for shape in shapes}


@pytest.mark.parametrize(
    "axes, stream",
    [((1, 4, 1), Continuous("x", (5, 7), 3)), ((2, 2, 1), Discrete("x", (35,), 9))],
)
def test_fsdp_gathers_the_parameters_of_a_transformer_and_no_token(axes, stream):
    """Of 8 examples of 35 tokens, 2 to each device."""
    model = DiT((stream,), 16, 2, Block(2), scan=True)
    variables, arguments = dit_shapes(model, 8)

    def loss(variables, streams, times):
        return jnp.square(model.apply(variables, streams, times)["x"] - 1).mean()

    mesh = make_mesh(Mesh(*axes), jax.devices()[:4])
    found = sent(loss, variables, DIT_RULES, mesh, *arguments)
    assert (16, 48) in found and (16, 64) in found  # qkv's kernel, and the MLP's
    assert not [shape for shape in found if {35, 2 * 35, 8 * 35} & set(shape)]


def test_fsdp_gathers_the_parameters_of_a_tokenizer_and_no_activation():
    """Of 8 pictures of 14 x 22, 2 to each device."""
    model = Tokenizer(
        ConvEncoder(4, (1, 2), blocks=0, groups=2, mid_attention=False, out=8),
        ConvDecoder(4, (1, 2), blocks=0, groups=2, mid_attention=False),
        dim=4,
    )
    x = jax.ShapeDtypeStruct((8, 14, 22, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    mesh = make_mesh(Mesh(1, 4, 1), jax.devices()[:4])
    loss = lambda variables, x: jnp.square(model.apply(variables, x)[0] - x).mean()
    found = sent(loss, variables, TOKENIZER_RULES, mesh, x)
    assert (3, 3, 8, 8) in found  # a convolution's kernel
    assert not [shape for shape in found if {14, 22, 7, 11} & set(shape)]


@pytest.mark.parametrize("axes", [(1, 4, 1), (1, 2, 2)], ids=str)
def test_what_xla_splits_along_no_axis_stays_on_its_device(axes):
    """Of 8 sounds of 70 samples nothing is sent, neither there nor back."""
    mesh = make_mesh(Mesh(*axes), jax.devices()[:4])
    place = batch_sharding(mesh)
    x = jax.ShapeDtypeStruct((8, 70), jnp.float32, sharding=place)
    for function in (
        lambda x: magnitude(x, 14, 10),
        lambda x: istft(stft(x, 14, 10), 14, 10),
    ):
        slope = by_example(jax.grad(lambda x, f=function: f(x).sum()), place)
        text = jax.jit(slope, out_shardings=place).lower(x).compile().as_text()
        assert "fft(" in text and not SENT.findall(text)


def test_a_kernels_gradient_is_summed_of_what_each_device_has():
    """By products, of 8 pictures of 14 x 300, more sites than one product takes."""
    convolve = convolution("products")

    def loss(variables, x):
        how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        y = convolve(x, variables["kernel"], (1, 1), "SAME", **how)
        return jnp.square(y).sum()

    mesh = make_mesh(Mesh(1, 4, 1), jax.devices()[:4])
    variables = {"kernel": jax.ShapeDtypeStruct((3, 3, 2, 5), jnp.float32)}
    x = jax.ShapeDtypeStruct((8, 14, 300, 2), jnp.float32)
    assert sent(loss, variables, (Rule("kernel"),), mesh, x) == {(3, 3, 2, 5)}
    # And it is the same.
    draw = np.random.default_rng(0).normal
    variables, x = jax.tree.map(
        lambda x: draw(size=x.shape).astype(np.float32), (variables, x)
    )
    one = jax.jit(jax.grad(loss))(variables, x)
    split = by_example(jax.grad(loss), batch_sharding(mesh))
    many = jax.jit(split)(variables, jax.device_put(x, batch_sharding(mesh)))
    chex.assert_trees_all_close(jax.device_get(many), jax.device_get(one), rtol=1e-4)


def test_fsdp_gathers_the_tables_of_codes_and_labels():
    """Where they have fewer rows than are read: of codes 20 of 8 x 35 x 2, of labels 7
    of 8."""
    model = DiT((Discrete("x", (35,), 9, books=2),), 16, 1, Block(2), classes=6)
    variables, (streams, times) = dit_shapes(model, 8)
    label = jax.ShapeDtypeStruct((8,), jnp.int32)

    def loss(variables, streams, times, label):
        out = model.apply(variables, streams, times, label)["x"]
        return jnp.square(out - 1).mean()

    mesh = make_mesh(Mesh(1, 4, 1), jax.devices()[:4])
    found = sent(loss, variables, DIT_RULES, mesh, streams, times, label)
    assert (20, 16) in found and (7, 16) in found
    assert not [shape for shape in found if {35, 2 * 35, 8 * 35, 8} & set(shape)]


@pytest.mark.parametrize(
    "quantizer",
    [None, FSQ((5, 4)), VectorQuantizer(8, 2), EMAVectorQuantizer(8, 2)],
    ids=lambda q: type(q).__name__,
)
def test_tokenizer_table_covers_every_quantizer(quantizer):
    model = Tokenizer(
        ConvEncoder(8, (1, 2), blocks=1, attention=(False, True), out=16),
        ConvDecoder(8, (1, 2), blocks=1, attention=(False, True)),
        quantizer,
        dim=2 if quantizer is None else None,
        variational=quantizer is None,
    )
    x, keys = jnp.zeros((1, 4, 4, 3)), jax.random.key(0)
    shapes = jax.eval_shape(model.init, keys, x)
    placed = shardings(shapes, TOKENIZER_RULES, make_mesh(Mesh(1, 8, 1)))
    for path, place in jax.tree_util.tree_leaves_with_path(placed):
        assert ("fsdp" in place.spec) == (path[-1].key == "kernel")
