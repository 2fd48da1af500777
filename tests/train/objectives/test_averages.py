"""Both stages average the weights as the experiment says."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.train.experiments import JOINT, TOKENIZER
from tests.train.objectives.test_keys import Decoder, Encoder
from tests.train.test_stages import GRADIENT, tokenizer
from train.config import SGD
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
    """And its optimizer at the rate that it tells, which is over the whole run."""
    given = []
    monkeypatch.setattr(module, "make_step", lambda *of, **_: given.extend(of))
    how = {"schedule": "cosine", "peak_lr": 0.1, "clip": None}
    how |= {"ema": 0.125, "rule": SGD(0.0)}
    changes = {f"optimizer.{name}": value for name, value in how.items()}
    build(replaced(experiment, changes | {"run.steps": 4}))
    _, tx, ema, rate = given
    assert ema == 0.125
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose([rate(i) for i in range(4)], expected, rtol=1e-5)
    slope, sizes = {"kernel": np.ones((2, 2), np.float32)}, []
    state = tx.init(slope)
    for _ in range(4):
        update, state = tx.update(slope, state, slope)
        sizes.append(-update["kernel"][0, 0])
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)


def test_weights_and_their_average_get_one_codebook_from_the_training_part(
    monkeypatch, capsys
):
    experiment = tokenizer(GRADIENT)
    # Of 16 latents an example: four are the fewest with as many.
    how = {"kmeans.step": 1, "kmeans.samples": 49, "kmeans.iterations": 2}
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
    assert (
        "step 1: codebook set by k-means over 64 latents; " in capsys.readouterr().err
    )
    later = codebook.codebook_from_data(experiment, 2, state).params["quantizer"]
    assert (later["codewords"] != found.params["quantizer"]["codewords"]).any()
    ready = [each.stats["codebook"]["quantizer"]["ready"] for each in (state, found)]
    assert ready == [False, True]
    table, average = (tree.pop("quantizer") for tree in (found.params, found.ema))
    assert (table["codewords"] != state.params["quantizer"]["codewords"]).any()
    np.testing.assert_array_equal(average["codewords"], table["codewords"])
    # The rest of each stays what it was.
    assert found.params.keys() == found.ema.keys()
    assert {*found.params, "quantizer"} == {*state.params}
    for name in found.params:
        jax.tree.map(np.testing.assert_array_equal, found.ema[name], state.ema[name])
        of = found.params[name], state.params[name]
        jax.tree.map(np.testing.assert_array_equal, *of)
