"""What a step's end and a pass over the data do to a codebook, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import Adafactor, Optimizer
from train.modalities import Images
from train.objectives import codebook
from train.objectives.codebook import all_of, chunk_size, with_revival
from train.pipeline import open_examples
from train.runtime.optim import make
from train.runtime.step import init_state

DIGITS = Images(name="digits", size=8, channels=1, threads=0)


def tree(value):
    """Two books of one quantizer, and a leaf that has only their name."""
    book = lambda: {"codewords": jnp.full((3, 2), value)}
    return {"quantizer": {"book_0": book(), "book_1": book()}, "other": book()}


def test_a_revived_row_is_fresh_wherever_it_is_kept_and_remembers_nothing():
    plans = {
        f"book_{i}": {
            "dead": jnp.array([False, i == 0, i == 1]),
            "fresh": jnp.full((3, 2), 7.0 + i),
        }
        for i in range(2)
    }
    stats = {"revival": {"quantizer": plans}, "usage": jnp.ones(3)}
    state = init_state(jax.random.key(0), {"params": tree(1.0)}, optax.adam(1.0))
    state = state.replace(stats=stats, ema=tree(2.0))
    moments = state.opt[0]._replace(mu=tree(3.0), nu=tree(4.0))
    state = state.replace(opt=(moments, *state.opt[1:]))
    found, metrics = with_revival(lambda state, batch: (state, batch))(state, "metrics")
    assert metrics == "metrics"
    kept = ((found.params, 1, 7), (found.ema, 2, 7))
    for new, old, fresh in (*kept, (found.opt[0].mu, 3, 0), (found.opt[0].nu, 4, 0)):
        for i in range(2):
            expected = np.full((3, 2), old)
            expected[1 + i] = fresh and fresh + i
            leaf = new["quantizer"][f"book_{i}"]["codewords"]
            np.testing.assert_array_equal(leaf, expected)
        np.testing.assert_array_equal(new["other"]["codewords"], np.full((3, 2), old))
    # Done once: the plan is empty, and what else is kept beside it stays.
    assert not any(map(jnp.any, jax.tree.leaves(found.stats["revival"])))
    assert found.stats["usage"].all() and found.opt[0].count == 0
    plain = state.replace(stats={"usage": stats["usage"]})
    assert with_revival(lambda *of: of)(plain, {})[0] is plain


@pytest.mark.parametrize("factored", [2, 128])
def test_what_adafactor_keeps_of_a_codebook_stays_as_it_is_shaped(factored):
    """Sums over an axis, or one number where there are none, have no rows to revive."""
    plans = {"dead": jnp.array([False, True, False]), "fresh": jnp.full((3, 2), 7.0)}
    params = {"quantizer": {"codewords": jnp.ones((3, 2))}}
    tx = make(Optimizer(rule=Adafactor(factored=factored)), 10)
    state = init_state(jax.random.key(0), {"params": params}, tx)
    _, opt = tx.update(params, state.opt, params)
    state = state.replace(opt=opt, stats={"revival": {"quantizer": plans}})
    found, _ = with_revival(lambda *of: of)(state, {})
    shapes = lambda of: jax.tree.map(jnp.shape, of)
    assert shapes(found) == shapes(state)
    codewords = found.params["quantizer"]["codewords"]
    np.testing.assert_array_equal(codewords, [[1, 1], [7, 7], [1, 1]])
    whole = lambda of: [x for x in jax.tree.leaves(of) if x.shape == (3, 2)]
    assert len(whole(found.opt)) == (factored > 3)
    for old, new in zip(whole(state.opt), whole(found.opt), strict=True):
        expected = old.at[1].set(0)
        assert old.all()
        np.testing.assert_array_equal(new, expected)


def test_what_is_large_is_encoded_a_few_at_a_time():
    """256 at most, 2**24 values at most, and one at least."""
    sizes = ((8, 8, 1), (256, 256), (256, 257), (4096, 4096), (4096, 4096, 3))
    assert [chunk_size(shape) for shape in sizes] == [256, 256, 255, 1, 1]


@pytest.mark.parametrize("most, count", [(None, 1437), (7, 7)])
def test_processes_look_at_stretches_that_are_the_whole(most, count, monkeypatch):
    examples = open_examples(DIGITS, True)
    whole, found, said, made = examples.spaced(most), [], [], []
    monkeypatch.setattr(codebook, "progress", lambda of, *how: said.append(how) or of)
    for i in range(3):
        monkeypatch.setattr(codebook.hosts, "share", lambda i=i: (i, 3))
        mine = list(all_of(examples, "looking", most))
        made.append(("looking", len(mine), "batch"))
        for batch in mine:
            index = batch["index"][batch["valid"]]
            np.testing.assert_array_equal(
                batch["x"][batch["valid"]], examples.take(index)["x"]
            )
            found.append(index)
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert len(whole) == count and said == made
