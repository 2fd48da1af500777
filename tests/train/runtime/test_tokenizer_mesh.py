"""A tokenizer's training step, codebook and revival included, on any mesh."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from tests.train.test_stages import EMA, GRADIENT, tokenizer
from train.config import Mesh
from train.objectives import start
from train.runtime.sharding import (
    TOKENIZER_RULES,
    batch_sharding,
    create_state,
    make_mesh,
)


def after_steps(quantizer, mesh, devices, steps=3):
    """(state on the host, last loss, codes revived) after a few steps from one seed."""
    experiment = tokenizer(quantizer)
    experiment = dataclasses.replace(
        experiment,
        model=experiment.model.clone(
            quantizer=quantizer.clone(
                num_codes=6, start="normal", start_scale=20.0, window=64
            )
        ),
    )
    mesh = make_mesh(mesh, devices)
    init, step = start.build_step(experiment, start.open_start(experiment))
    state = create_state(init, TOKENIZER_RULES, mesh)
    layout = jax.tree.map(lambda x: x.sharding, state)
    step = jax.jit(step, out_shardings=(layout, None))
    revived = 0
    for i in range(steps):
        image = np.random.default_rng(i).integers(0, 256, (16, 8, 8, 1), np.uint8)
        batch = {"streams": {"x": jax.device_put(image, batch_sharding(mesh))}}
        state, metrics = step(state, batch)
        revived += int(metrics["revived"])
    keep = {"params": state.params, "stats": state.stats, "ema": state.ema}
    return jax.device_get(keep), float(metrics["loss"]), revived


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantizer, shape",
    [(EMA, (8, 1)), pytest.param(GRADIENT, (2, 4), marks=pytest.mark.slow)],
    ids=["ema", "gradient"],
)
def test_step_is_the_same_on_any_mesh(quantizer, shape):
    """Codes are equal, so counts are; sums differ by the order of adding up."""
    one, one_loss, revived = after_steps(quantizer, Mesh(1), jax.devices()[:1])
    data, fsdp = shape
    many, loss, revived_on_many = after_steps(
        quantizer, Mesh(data, fsdp), jax.devices()[:8]
    )
    usage = ("recent", "counts", "idle", "place")
    for name in usage:
        np.testing.assert_array_equal(
            one["stats"]["usage"]["quantizer"]["usage"][name],
            many["stats"]["usage"]["quantizer"]["usage"][name],
        )
    # Some codes died in a window of 64 codes, or revival was not seen at all.
    assert revived == revived_on_many > 0
    np.testing.assert_allclose(loss, one_loss, rtol=1e-4)
    chex.assert_trees_all_close(many["stats"], one["stats"], atol=1e-4)
    chex.assert_trees_all_close(many["params"], one["params"], atol=2e-4)
