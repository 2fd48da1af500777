"""Joint training as a whole: one device as eight, and a stream that is added."""

import types

import chex
import jax
import numpy as np
import pytest

from tests import quick
from tests.train.experiments import JOINT
from train.config import SGD, Mesh
from train.config.network import network
from train.config.override import replaced
from train.objectives import streams
from train.runtime.sharding import (
    DIT_RULES,
    batch_sharding,
    make_mesh,
    state_sharding,
)
from vqdit.diffusion import Around, Case, Mixture, Scattered

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


@pytest.mark.parametrize(
    "sizes", [pytest.param((8, 1, 1), marks=pytest.mark.slow), (2, 2, 2)]
)
def test_one_device_equals_eight_with_streams_missing_unevenly(sizes):
    model, processes = network(MIXED, {})
    init, step = streams.build_step(MIXED, model, processes)
    shapes = jax.eval_shape(init)
    one = init().replace(params=quick.parameters(shapes.params))
    mesh = make_mesh(Mesh(*sizes))
    layout = state_sharding(one, DIT_RULES, mesh)
    many = jax.device_put(one, layout)
    spread = jax.jit(step, out_shardings=(layout, None))
    for _ in range(2):
        one, metrics = jax.jit(step)(one, batch())
        many, found = spread(many, jax.device_put(batch(), batch_sharding(mesh)))
        chex.assert_trees_all_close(*jax.device_get((found, metrics)), rtol=1e-4)
    chex.assert_trees_all_close(*jax.device_get((many.params, one.params)), atol=1e-4)
