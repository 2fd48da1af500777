"""A train step on random data: what it is given, and what becomes of its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import toy
from tests.train.experiments import JOINT, TOKENIZER
from tests.train.objectives.test_keys import Decoder, Encoder
from train.config import Mesh
from train.config.override import replaced
from train.objectives.costs import rehearsal
from train.objectives.costs.rehearsal import Rehearsal
from train.runtime.sharding import batch_sharding, make_mesh
from vqdit.tokenizer import Tokenizer


def test_each_step_takes_the_state_of_the_one_before_and_keeps_one(monkeypatch):
    split = []
    by_example = lambda step, sharding: split.append(sharding) or step
    monkeypatch.setattr(rehearsal, "by_example", by_example)
    made = Rehearsal.__new__(Rehearsal)
    made._made = (toy.new_state, toy.new_step())
    made._rules, made.mesh = toy.RULES, make_mesh(Mesh())
    made.batch = toy.new_batch()
    program, seconds, state, step = made.train_step()
    assert 0 < seconds < 300 and split == [batch_sharding(made.mesh)]
    layout = jax.tree.map(lambda x: x.sharding, state)
    assert program.output_shardings[0] == layout
    first, second = step()["loss"], step()["loss"]
    assert first != second
    # Donated: memory for a second state is never asked for.
    assert all(x.is_deleted() for x in jax.tree.leaves(state))
    held = program.memory_analysis()
    assert held.alias_size_in_bytes > sum(
        x.nbytes for x in jax.tree.leaves(toy.new_state().params)
    )


@pytest.mark.parametrize("classes", [0, 3])
def test_a_batch_of_streams_is_of_values_that_any_of_them_takes(classes):
    """Ones and zeros, of which both occur, and labels of all classes."""
    changes = {"run.batch": 64, "model.classes": classes}
    made = Rehearsal(replaced(JOINT, changes))
    batch, (streams, times, label) = made.batch, made.arguments
    assert batch["streams"]["image"].dtype == jnp.float32
    assert batch["streams"]["text"].dtype == jnp.int32
    for name, shape in (("image", (4, 4, 4)), ("text", (6, 1))):
        x = np.asarray(batch["streams"][name])
        assert x.shape == streams[name].shape == (64, *shape)
        assert set(np.unique(x)) == {0, 1} and times[name].shape == (64,)
    assert set(np.unique(batch["label"])) == set(range(max(classes, 1)))
    assert (label is None) == (classes == 0)
    assert made.dtype == "float32"


def test_a_batch_of_signals_fills_their_range():
    plain = Tokenizer(Encoder(), Decoder(out=3), None, 2)
    changes = {"run.batch": 8, "model": plain, "kmeans": None}
    experiment = replaced(TOKENIZER, changes)
    made = Rehearsal(experiment)
    (x,) = made.arguments
    np.testing.assert_array_equal(made.batch["streams"]["x"], x)
    assert x.shape == (8, *experiment.data.shape)
    assert -1 <= x.min() < -0.9 and 0.9 < x.max() <= 1
    shown = made.model.init_with_output
    (whole, _), variables = jax.eval_shape(shown, jax.random.key(0), x)
    assert jax.eval_shape(made.forward, variables, x) == whole


def test_products_are_counted_whatever_computes_the_attention(monkeypatch):
    """A block of width d over n tokens has 12 n d^2 in its four projections and its
    MLP, 2 n n d between its tokens, and 6 d^2 in the modulation of each stream."""
    n, d = 4 + 6, 32
    of = lambda depth: Rehearsal(replaced(JOINT, {"model.depth": depth}))
    block = of(2).macs() - of(1).macs()
    assert block == JOINT.run.batch * (12 * n * d**2 + 2 * n**2 * d + 2 * 6 * d**2)
    # A kernel of its own hides them: what is counted has none.
    monkeypatch.setattr(rehearsal, "macs", lambda apply, *_: apply.__self__)
    fused = Rehearsal(replaced(JOINT, {"model.block.implementation": "fused"}))
    assert fused.macs().block == JOINT.model.block.clone(implementation="plain")
