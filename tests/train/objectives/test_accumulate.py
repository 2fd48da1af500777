"""Microbatches change what a step holds in memory, and no number that it computes."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from tests.train.experiments import JOINT
from tests.train.objectives.test_adversarial import HOW, images, started
from tests.train.test_stages import tokenizer
from train.config.network import network
from train.config.override import replaced
from train.objectives import denoising
from vqdit.quantizers import (
    FSQ,
    LFQ,
    EMAVectorQuantizer,
    GumbelQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)

SHORT = {"window": 80, "start_scale": 20.0}  # codes die and are revived
QUANTIZERS = {
    "averages": EMAVectorQuantizer(8, 2, decay=0.9, **SHORT),
    "usage entropy": VectorQuantizer(8, 2, entropy=True, **SHORT),
    "bit entropy": LFQ(3),
    "temperature": GumbelQuantizer(8, 2, decay_steps=4),
    "dropout": ResidualQuantizer(EMAVectorQuantizer(8, 2, **SHORT), 2, dropout=0.5),
    "variational": None,
    "levels": FSQ((4, 4)),
}


def after(state, step, batches):
    step, rows = jax.jit(step), []
    for batch in batches:
        state, metrics = step(state, batch)
        rows.append(metrics)
    return state, rows


def assert_alike(found, expected):
    (state, rows), (wanted, wanted_rows) = jax.device_get((found, expected))
    keep = lambda s: {"params": s.params, "stats": s.stats, "opt": s.opt, "ema": s.ema}
    chex.assert_trees_all_close(rows, wanted_rows, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(keep(state), keep(wanted), rtol=2e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_tokenizer_is_the_same_in_microbatches(name):
    """Batch statistics, moving averages, revival, draws, temperatures: all of it."""
    quantizer = QUANTIZERS[name]
    batches = [images(seed) for seed in range(3)]

    def run(parts):
        chosen = tokenizer(quantizer or FSQ((4, 4)))
        if quantizer is None:
            plain = chosen.model.clone(quantizer=None, dim=2, variational=True)
            chosen = dataclasses.replace(chosen, model=plain)
        changes = {"optimizer.accumulate": parts, "losses.quantizer.entropy": 0.5}
        return after(*started(replaced(chosen, changes)), batches)

    whole = run(1)
    if name in ("averages", "dropout"):
        assert sum(row["revived"] for row in whole[1]) > 0
    for parts in (2, 4):
        assert_alike(run(parts), whole)


@pytest.mark.slow
def test_a_game_is_the_same_in_microbatches():
    """Moving averages of logits, the adaptive weight and matched features too."""
    how = dataclasses.replace(HOW, start=0, ramp=0)
    batches = [images(seed) for seed in range(2)]

    def run(parts):
        chosen = tokenizer(FSQ((4, 4)), adversarial=how)
        return after(
            *started(replaced(chosen, {"optimizer.accumulate": parts})), batches
        )

    wanted, wanted_rows = run(1)
    for parts in (2, 4):
        state, rows = run(parts)
        assert_alike((state, rows), (wanted, wanted_rows))
        assert_alike((state.discriminator, rows), (wanted.discriminator, wanted_rows))


def joint_step(parts, batch=8):
    """(init, step, a batch) of two streams, of which not all is known."""
    chosen = replaced(JOINT, {"optimizer.accumulate": parts, "run.batch": batch})
    model, processes = network(chosen, {})
    (latents, codes), draw = model.streams, np.random.default_rng(0)
    grid = (batch, *codes.grid)
    held = {
        "streams": {
            latents.name: jnp.asarray(draw.normal(size=(batch, *latents.shape)), "f4"),
            codes.name: jnp.asarray(draw.integers(0, codes.vocab, (*grid, 1)), "i4"),
        },
        # Examples know more or less: a mean of means is another number.
        "known": {codes.name: jnp.arange(codes.grid[0]) <= jnp.arange(batch)[:, None]},
        "label": jnp.zeros(batch, jnp.int32),
    }
    return *denoising.build_step(chosen, model, processes), held


@pytest.mark.slow
def test_a_transformer_is_the_same_in_microbatches():
    def run(parts):
        init, step, batch = joint_step(parts)
        shapes = jax.eval_shape(init)
        params = quick.parameters(shapes.params)
        return after(jax.jit(init)().replace(params=params), step, [batch])

    whole = run(1)
    for parts in (2, 4):
        assert_alike(run(parts), whole)


@pytest.mark.slow
def test_microbatches_hold_less():
    @functools.cache
    def needs(parts):
        init, step, batch = joint_step(parts, batch=256)
        shapes = jax.eval_shape(init)
        program = jax.jit(step).lower(shapes, batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert needs(8) < 0.4 * needs(1)


def test_microbatches_that_do_not_divide_the_batch_are_refused():
    init, step, batch = joint_step(3)
    with pytest.raises(ValueError, match="3 parts do not divide the batch of 8"):
        jax.eval_shape(step, jax.eval_shape(init), batch)
