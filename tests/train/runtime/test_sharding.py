import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import P

from tests.train import toy
from train.config import Mesh
from train.errors import BadInput
from train.runtime.sharding import (
    DIT_RULES,
    TOKENIZER_RULES,
    Rule,
    batch_sharding,
    create_state,
    make_mesh,
    shardings,
    specs,
    state_sharding,
)
from train.runtime.step import init_state, make_step
from vqdit.dit import Continuous, Discrete, DiT
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
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


@pytest.mark.parametrize("mesh", MESHES)
def test_step_is_the_same_on_any_mesh(mesh):
    """Noise, moving averages, clipping and accumulation included."""
    step = toy.new_step(accumulate=2)
    one, state = toy.new_state(), toy.new_state()
    mesh = make_mesh(mesh)
    layout = state_sharding(state, toy.RULES, mesh)
    many = jax.device_put(state, layout)
    single = jax.jit(step)
    spread = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
    for i in range(3):
        one, one_metrics = single(one, toy.new_batch(i))
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


EVERYTHING = {"scan": True, "remat": True, "qk_norm": True, "positions": "rotary"}


@pytest.mark.parametrize(
    "mesh,options", [(Mesh(1, 4, 2), {"depth": 1}), (Mesh(2, 2, 2), EVERYTHING)]
)
def test_dit_step_is_the_same_on_any_mesh(mesh, options):
    """The real table on the real model: a joint one, so that every rule is used."""
    model = DiT(STREAMS, width=16, heads=2, classes=7, **{"depth": 2} | options)
    batch = {
        "image": np.random.default_rng(0).normal(size=(8, 4, 4, 4)).astype(np.float32),
        "text": np.random.default_rng(1).integers(0, 7, (8, 4, 2)).astype(np.int32),
        "label": np.arange(8, dtype=np.int32) % 7,
    }

    def apply(params, batch, times):
        streams = {name: batch[name] for name in ("image", "text")}
        return model.apply({"params": params}, streams, times, batch["label"])

    def objective(params, stats, batch, key):
        t = jax.random.uniform(key, (batch["label"].shape[0],))
        out = apply(params, batch, {"image": t, "text": 1 - t})
        target = 1 + batch["image"]
        loss = jnp.square(out["image"] - target).mean()
        loss += optax.losses.softmax_cross_entropy_with_integer_labels(
            out["text"], batch["text"]
        ).mean()
        return loss, (stats, {})

    tx = optax.adam(1e-2)

    def init():
        example = {name: jnp.asarray(value[:1]) for name, value in batch.items()}
        label = example.pop("label")
        times = {name: jnp.zeros(1) for name in example}
        variables = model.init(jax.random.key(0), example, times, label)
        # Gates that start at zero hide the blocks: give every parameter a value.
        waves = jax.tree.map(
            lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size).reshape(x.shape)), variables
        )
        return init_state(jax.random.key(2), waves, tx)

    mesh = make_mesh(mesh)
    many = create_state(init, DIT_RULES, mesh)
    one = jax.jit(init)()
    toy.same(many, one, atol=1e-6)
    layout = state_sharding(many, DIT_RULES, mesh)
    step = make_step(objective, tx)
    spread = jax.jit(step, out_shardings=(layout, None))
    single = jax.jit(step)
    for _ in range(2):
        one, one_metrics = single(one, batch)
        many, metrics = spread(many, jax.device_put(batch, batch_sharding(mesh)))
    chex.assert_trees_all_close(
        jax.device_get(metrics), jax.device_get(one_metrics), rtol=1e-4
    )
    # Adam divides by the gradient's own size, so near-zero gradients keep few digits.
    chex.assert_trees_all_close(
        jax.device_get(many.params), jax.device_get(one.params), atol=2e-4
    )


def test_dit_table_covers_every_switch():
    """By shape alone; a rule without a parameter raises, and the reverse."""
    models = [
        DiT(
            streams,
            width=32,
            depth=2,
            heads=2,
            classes=classes,
            scan=scan,
            qk_norm=norm,
        )
        for streams, classes, scan, norm in (
            (STREAMS[:1], 0, False, False),
            (STREAMS[1:], 10, True, False),
            (STREAMS, 10, False, True),
            (STREAMS, 0, True, True),
        )
    ]
    for model in models:
        streams = {
            s.name: jnp.zeros((1, *s.shape), jnp.float32 if s is STREAMS[0] else int)
            for s in model.streams
        }
        times = {name: jnp.zeros(1) for name in streams}
        init = jax.eval_shape(model.init, jax.random.key(0), streams, times)
        placed = shardings(init, DIT_RULES, make_mesh(Mesh(1, 4, 2)))
        split = [s.spec for s in jax.tree.leaves(placed) if any(s.spec)]
        assert len(split) >= 7


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
