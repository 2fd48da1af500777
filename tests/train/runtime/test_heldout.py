"""The loss on held-out batches: of the average, the same noise every time."""

import json

import jax
import numpy as np
import pytest

from tests.train import toy
from train.config import Mesh, Run
from train.errors import BadInput
from train.runtime.heldout import (
    MOST,
    Best,
    Figures,
    HeldOut,
    heldout_loss,
    scored,
)
from train.runtime.sharding import batch_sharding, make_mesh, state_sharding


class Lines(list):
    def scalars(self, step, metrics):
        self.append((step, metrics))


def test_it_is_the_objectives_mean_over_held_out_batches():
    mesh = make_mesh(Mesh(2, 2, 2))
    state = toy.new_state()
    # Other weights than the average, which is what is measured.
    state = state.replace(params=jax.tree.map(lambda x: x + 9, state.params))
    placed = jax.device_put(state, state_sharding(state, toy.RULES, mesh))
    lines, opened = Lines(), []

    def batches():
        opened.append(True)
        yield from toy.batches(100, 3)

    still = lambda *a: toy.objective(*a, noise=0.0)
    hook = heldout_loss(still, batches, 5, lines, batch_sharding(mesh))
    assert hook.due(5, 12) and hook.due(12, 12) and not hook.due(6, 12)
    before = jax.tree.map(np.asarray, placed.params)
    hook.run(5, placed)
    hook.run(10, placed)
    ((step, first), (_, second)) = lines
    assert step == 5 and len(opened) == 2 and first == second
    found = [still(state.ema, state.stats, batch, state.key, 0) for batch in batches()]
    expected = np.mean([loss for loss, _ in found])
    np.testing.assert_allclose(first["heldout_loss"], expected, rtol=1e-5)
    spread = np.mean([metrics["spread"] for _, (_, metrics) in found])
    np.testing.assert_allclose(first["heldout_spread"], spread, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, before, placed.params)


def test_noise_is_the_same_every_time_and_another_for_each_batch():
    mesh = make_mesh(Mesh())
    lines = Lines()
    same = lambda: (toy.new_batch(0) for _ in range(2))
    one = lambda: iter([toy.new_batch(0)])
    for batches in (same, one, same):
        hook = heldout_loss(toy.objective, batches, 1, lines, batch_sharding(mesh))
        hook.run(1, toy.new_state())
    twice, once, again = (line["heldout_loss"] for _, line in lines)
    assert twice == again != once


def test_no_more_than_so_many_batches():
    seen = []
    endless = (seen.append(1) or toy.new_batch() for _ in range(10 * MOST))
    sharding = batch_sharding(make_mesh(Mesh()))
    heldout_loss(toy.objective, lambda: endless, 1, Lines(), sharding).run(
        1, toy.new_state()
    )
    assert len(seen) == MOST


def test_the_best_is_kept_and_known_to_a_run_that_goes_on(tmp_path):
    note = tmp_path / "best.json"

    def kept(figure, *evaluations, since=0):
        found = []
        best = Best(figure, found.append, note, since)
        for step, value in evaluations:
            best.shown(step, step, {"heldout_loss": value, "heldout_psnr": 9.0})
        return found

    falls = (1, 5.0), (2, 3.0), (3, 4.0), (4, float("nan")), (5, 2.0)
    assert kept("heldout_loss", *falls) == [1, 2, 5]
    assert json.loads(note.read_text()) == (
        {"figure": "heldout_loss", "value": 2.0, "step": 5}
    )
    assert kept("heldout_loss", (6, 2.5), (7, 1.0)) == [7]
    # Continued from a checkpoint before that: what was kept comes again.
    assert kept("heldout_loss", (6, 2.5), (7, 1.0)) == [6, 7]
    # Another figure begins anew, and so does one of a note that is no note.
    assert kept("-heldout_loss", *falls, since=1) == [2, 3]
    assert kept("heldout_psnr", (8, 0.0)) == [8]
    note.write_text("[]")
    assert kept("heldout_psnr", (9, 0.0)) == [9]
    assert kept("evaluation_psnr", (10, 0.0)) == []  # another evaluation has it


def test_figures_are_logged_and_the_best_of_them_kept(tmp_path):
    lines, kept = Lines(), []
    best = Best("-evaluation_usage", kept.append, tmp_path / "best.json")
    found = iter([{"usage": 0.5, "psnr": None}, {"usage": 0.75, "psnr": 3.0}])
    hook = scored(Figures(["usage", "psnr"], lambda state: next(found), 4), lines, best)
    assert hook.due(4, 9) and not hook.due(5, 9) and not hook.changes
    hook.run(4, "a")
    hook.run(8, "b")
    assert kept == ["a", "b"]
    (_, first), second = lines
    assert np.isnan(first["evaluation_psnr"])
    assert second == (8, {"evaluation_usage": 0.75, "evaluation_psnr": 3.0})


def test_a_misspelt_figure_and_unreadable_data_are_refused_with_nothing_computed():
    state, opened = jax.eval_shape(toy.new_state), []

    def broken(rows):
        opened.append(rows.tolist())
        yield toy.new_batch(size=4)
        raise BadInput("the second batch")

    def check(best, batches=lambda rows: iter([toy.new_batch(size=4)]), **run):
        figures = Figures(["psnr_db"], None, 3)
        heldout = HeldOut(toy.objective, batches, None, loss="part", figures=figures)
        heldout.check(Run(steps=9, batch=4, best=best, **run), state)

    check("-evaluation_psnr_db")
    check("heldout_part", heldout_every=2)
    check("heldout_spread", heldout_every=2)
    for name, near in (
        ("evaluation_psnr", "evaluation_psnr_db"),
        ("heldout_sprad", "heldout_spread"),
        ("heldout_loss", "write heldout_part"),
    ):
        with pytest.raises(BadInput, match=f"no figure of this run; .*{near}"):
            check(name, heldout_every=2)
    with pytest.raises(BadInput, match="the second batch"):
        check("", broken, heldout_every=2)
    assert opened == [[0, 1, 2, 3]]
    check("", broken)
