"""Joint training as a whole: one device as eight, and a stream that is added."""

import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import vqdit
from tests import quick, toys
from tests.train.experiments import JOINT
from train.config import SGD, Mesh, Optimizer, Run, StageTwo, Stream
from train.config.network import network
from train.config.override import replaced
from train.errors import BadInput
from train.objectives import denoising, streams
from train.objectives.transfer import Transfer
from train.runtime.sharding import (
    DIT_RULES,
    batch_sharding,
    make_mesh,
    state_sharding,
)
from vqdit.diffusion import Around, Case, Gaussian, Masking, Mixture, Scattered
from vqdit.dit import DiT
from vqdit.nn import Block, Discrete

B = 16
CASES = (
    Case(),
    Case(given=0.4, absent=0.4, together=True),
    Case(parts={"image": Around(), "text": Scattered()}),
)
MIXED = replaced(
    JOINT,
    {
        "mixture": Mixture(CASES),
        "balance": True,
        "model.block.own": ("mlp", "modulation"),
        "optimizer.rule": SGD(),  # Adam divides gradients near 0 by their size
        "optimizer.peak_lr": 0.1,
        "model.depth": 1,
        "run.batch": B,
    },
)


def batch():
    """Pictures that the first examples lack, texts that the last lack or end early."""
    draw = np.random.default_rng(0)
    ends = np.minimum(np.arange(B)[::-1], 6)
    return {
        "streams": {
            "image": draw.normal(size=(B, 4, 4, 4)).astype(np.float32),
            "text": draw.integers(0, 32, (B, 6, 1)).astype(np.int32),
        },
        "known": {
            "image": (np.arange(B) >= 5).astype(np.float32),
            "text": np.arange(6) < ends[:, None],
        },
        "label": np.arange(B, dtype=np.int32) % 10,
    }


def test_a_stream_that_some_examples_lack_is_left_out_of_draws():
    """And no other: the picture beside it always was there."""
    guided = Mixture((Case(given=("text",), weight=9.0), Case(absent=("text",))))
    experiment = replaced(MIXED, {"mixture": guided})
    source = types.SimpleNamespace(class_names=(), absent=())
    opened = streams.Streams(experiment, *network(experiment, {}), {}, source)
    assert opened.generator({}).left_out == ("text",)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
def test_one_device_equals_eight_with_streams_missing_unevenly(sizes):
    model, processes = network(MIXED, {})
    init, step = denoising.build_step(MIXED, model, processes)
    shapes = jax.eval_shape(init)
    one = jax.jit(init)().replace(params=quick.parameters(shapes.params))
    mesh = make_mesh(Mesh(*sizes))
    layout = state_sharding(one, DIT_RULES, mesh)
    many = jax.device_put(one, layout)
    spread = jax.jit(step, out_shardings=(layout, None))
    for _ in range(2):
        one, metrics = jax.jit(step)(one, batch())
        many, found = spread(many, jax.device_put(batch(), batch_sharding(mesh)))
        chex.assert_trees_all_close(*jax.device_get((found, metrics)), rtol=1e-4)
    chex.assert_trees_all_close(*jax.device_get((many.params, one.params)), atol=1e-4)


IMAGE = {"image": Stream(Gaussian(), patch=2, shape=(4, 4, 2))}
WORD = {"word": Stream(Masking(), shape=(2, 1), codes=5)}


def experiment(names, **fields):
    return StageTwo(
        name="grown",
        model=DiT(width=16, depth=1, block=fields.pop("block", Block(2))),
        streams=names,
        run=Run(steps=4, batch=4),
        **fields,
    )


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "generator"
    made = toys.generator([toys.PICTURE], {"image": Gaussian()})
    vqdit.save(path, made)
    return made, str(path)


@pytest.mark.slow
@pytest.mark.parametrize("own", [(), ("mlp", "modulation")], ids=["shared", "own"])
def test_a_stream_is_added_to_a_trained_model(old, own):
    """The old one says what it said, bit for bit or to rounding, while the new learns
    and all else is held still."""
    made, path = old
    optimizer = Optimizer(peak_lr=0.05, rates=((r"(^|/)word_", 1.0), (".", 0.0)))
    chosen = experiment(
        WORD | IMAGE, init=path, block=Block(2, own=own), optimizer=optimizer
    )
    model, processes = network(chosen, {})
    transfer = Transfer(path, model)
    news = transfer.check({"params": _shapes(model)})
    assert news == ["word_in/table", "word_out/bias", "word_out/kernel"]
    init, step = denoising.build_step(chosen, model, processes, transfer)
    state, x = jax.jit(init)(), jax.random.normal(jax.random.key(0), (4, 4, 4, 2))
    t = jnp.linspace(0.1, 0.9, 4)

    @jax.jit
    def alone(params):
        return model.apply({"params": params}, {"image": x}, {"image": t})["image"]

    expected = made.module.apply({"params": made.params}, {"image": x}, {"image": t})
    np.testing.assert_allclose(alone(state.params), expected["image"], atol=1e-5)
    before = alone(state.params)
    first = flatten_dict(jax.device_get(state.params), sep="/")
    data = {"image": x, "word": jnp.arange(8).reshape(4, 2, 1) % 5}
    update = jax.jit(step)
    losses = []
    for _ in range(8):
        state, metrics = update(state, {"streams": data, "label": jnp.full(4, -1)})
        losses.append(float(metrics["loss_word"]))
    np.testing.assert_array_equal(alone(state.params), before)
    for params in (state.params, state.ema):
        for name, leaf in flatten_dict(jax.device_get(params), sep="/").items():
            moved = "word_" in name
            assert np.any(leaf != first[name]) == moved, name
    if own:
        kernel = first["block_00/word_mlp/up/kernel"]
        np.testing.assert_array_equal(
            kernel, made.params["block_00"]["mlp"]["up"]["kernel"]
        )


@pytest.mark.slow
def test_rows_of_streams_follow_their_names(old, tmp_path):
    """Of two streams whose order changes, and one more."""
    made = toys.generator(
        [toys.PICTURE, Discrete("word", (2,), 5)],
        {"image": Gaussian(), "word": Masking(5)},
    )
    vqdit.save(tmp_path / "two", made)
    more = {"text": WORD["word"]} | WORD | IMAGE
    chosen = experiment(more, init=str(tmp_path / "two"))
    model, processes = network(chosen, {})
    transfer = Transfer(chosen.init, model)
    fresh = denoising.build_step(chosen, model, processes)[0]().params["stream"]
    rows = denoising.build_step(chosen, model, processes, transfer)[0]().params[
        "stream"
    ]
    np.testing.assert_array_equal(rows[1:], made.params["stream"][::-1])
    np.testing.assert_array_equal(rows[0], fresh[0])
    assert not any(
        name == "stream" for name in transfer.check({"params": _shapes(model)})
    )


def test_a_new_stream_whose_name_is_taken_is_refused(old):
    taken = {"image": WORD["word"]}
    model, _ = network(experiment(taken), {})
    with pytest.raises(
        BadInput, match="has a stream 'image' already, latents .*name of"
    ):
        Transfer(old[1], model).check({"params": _shapes(model)})


def _shapes(model):
    call = model.init
    return jax.eval_shape(call, jax.random.key(0), *denoising.example(model, 1))[
        "params"
    ]


def test_a_run_says_how_many_parameters_each_stream_has():
    shapes = {
        "block_00": {"mlp": {"up": np.zeros(5)}, "a_mlp": {"up": np.zeros((2, 2))}},
        "a_b_in": {"table": np.zeros(3)},
        "a_out": {"bias": np.zeros(2)},
        "final_modulation": {"bias": np.zeros(1)},
        "a_final_modulation": {"bias": np.zeros(10)},
    }
    told = streams._shares(shapes, ["a", "a_b"])
    assert told == "shared 6, a 16, a_b 3"
