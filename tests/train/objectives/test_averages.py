"""Both stages average the weights as the experiment says."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.train.experiments import JOINT, TOKENIZER
from tests.train.objectives.test_keys import Decoder, Encoder
from tests.train.test_stages import GRADIENT, tokenizer
from train.config.network import network
from train.config.override import replaced
from train.objectives import codebook, denoising, start
from vqdit.tokenizer import Tokenizer


def stage_one(experiment):
    return start.build_step(experiment, start.Start(None, {}, {}, False))


def stage_two(experiment):
    return denoising.build_step(experiment, *network(experiment, {}))


@pytest.mark.parametrize(
    "module, build, experiment",
    [(start, stage_one, TOKENIZER), (denoising, stage_two, JOINT)],
    ids=["tokenizer", "generator"],
)
def test_a_step_is_made_with_the_decay_that_is_asked_for(
    module, build, experiment, monkeypatch
):
    given = []
    monkeypatch.setattr(module, "make_step", lambda *of, **_: given.extend(of))
    build(replaced(experiment, {"optimizer.ema": 0.125}))
    assert given[2] == 0.125


def test_weights_and_their_average_get_one_codebook_from_the_training_part(monkeypatch):
    experiment = tokenizer(GRADIENT)
    how = {"kmeans.step": 1, "kmeans.samples": 64, "kmeans.iterations": 2}
    experiment = dataclasses.replace(
        replaced(experiment, how), model=Tokenizer(Encoder(), Decoder(), GRADIENT)
    )
    init, _ = start.build_step(experiment, start.open_start(experiment))
    state = jax.jit(init)()
    state = state.replace(ema=jax.tree.map(lambda x: 2 * x, state.ema))
    opened, asked = codebook.open_examples, []
    monkeypatch.setattr(
        codebook, "open_examples", lambda *of: asked.append(of[1]) or opened(*of)
    )
    found = codebook.codebook_from_data(experiment, 1, state)
    assert asked == [True]
    table, average = (tree.pop("quantizer") for tree in (found.params, found.ema))
    assert (table["codewords"] != state.params["quantizer"]["codewords"]).any()
    np.testing.assert_array_equal(average["codewords"], table["codewords"])
    # The rest of each stays what it was.
    for name in found.params:
        jax.tree.map(np.testing.assert_array_equal, found.ema[name], state.ema[name])
        of = found.params[name], state.params[name]
        jax.tree.map(np.testing.assert_array_equal, *of)
