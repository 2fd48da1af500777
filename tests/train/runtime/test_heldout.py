"""The loss on held-out batches: of the average, the same noise every time."""

import jax
import numpy as np

from tests.train import toy
from train.config import Mesh
from train.runtime.heldout import MOST, heldout_loss
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
