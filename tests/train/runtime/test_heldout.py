"""The loss on held-out batches: of the average, the same noise every time."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import toy
from train.config import Mesh, Run
from train.errors import BadInput
from train.runtime import hosts
from train.runtime.heldout import (
    MOST,
    Best,
    HeldOut,
    HeldOutFigures,
    losses_of,
    measured,
)
from train.runtime.sharding import batch_sharding, make_mesh, state_sharding
from vqdit.quantizers.codebook.health import UsageWindow, over_books


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

    split = []

    def still(*a):
        split.append(toy.by_example())
        return toy.objective(*a, noise=0.0)

    of = losses_of(still, batches, batch_sharding(mesh))
    hook = measured("heldout", of, 5, lines)
    assert hook.due(5, 12) and hook.due(12, 12) and not hook.due(6, 12)
    before = jax.tree.map(np.asarray, placed.params)
    hook.run(5, placed)
    hook.run(10, placed)
    ((step, first), (_, second)) = lines
    assert step == 5 and len(opened) == 2 and first == second and split == [True]
    found = [still(state.ema, state.stats, batch, state.key, 0) for batch in batches()]
    expected = np.mean([loss for loss, _ in found])
    np.testing.assert_allclose(first["heldout_loss"], expected, rtol=1e-5)
    spread = np.mean([metrics["spread"] for _, (_, metrics) in found])
    np.testing.assert_allclose(first["heldout_spread"], spread, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, before, placed.params)


def test_nothing_is_said_of_the_codes_of_training():
    """A tokenizer trained for three steps on one code of four has used it alone, and
    a held-out batch beside that window would hardly show."""
    window = UsageWindow(4, 64)
    codes = jnp.zeros(16, jnp.int32)
    variables = window.init(jax.random.key(0), codes, True, method="observe")

    def objective(params, stats, batch, key, step):
        found, stats = window.apply(
            {**stats, "usage": variables["usage"]},
            codes,
            True,
            method="observe",
            mutable="usage",
        )
        found = over_books([found | {"revived": jnp.zeros(())}]) | {"psnr": 1.0}
        return jnp.zeros(()), (stats, found)

    state = toy.new_state()
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batches = lambda: iter(toy.batches(100, 1))
    found = losses_of(objective, batches, sharding)(state)
    assert found == {"loss": 0.0, "psnr": 1.0}
    run = Run(1, batch=1, heldout_every=1, best="heldout_perplexity")
    held = HeldOut(objective, lambda rows: batches(), lambda *_: None)
    with pytest.raises(BadInput, match="run.best='heldout_perplexity' is no figure"):
        held.check(run, state)


def test_noise_is_the_same_every_time_and_another_for_each_batch():
    sharding = batch_sharding(make_mesh(Mesh()))
    found, state = [], toy.new_state()
    same = lambda: (toy.new_batch(0) for _ in range(2))
    one = lambda: iter([toy.new_batch(0)])
    for batches in (same, one, same):
        found.append(losses_of(toy.objective, batches, sharding)(state)["loss"])
    twice, once, again = found
    assert twice == again != once


def test_no_more_than_so_many_batches():
    seen = []
    endless = (seen.append(1) or toy.new_batch() for _ in range(10 * MOST))
    sharding = batch_sharding(make_mesh(Mesh()))
    losses_of(toy.objective, lambda: endless, sharding)(toy.new_state())
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
    # The same step comes again, as after a kill; of equal ones the first is best.
    assert kept("heldout_loss", (7, 1.0), (8, 1.0)) == [7]
    # Another figure begins anew, and so does one of a note that is no note.
    assert kept("-heldout_loss", *falls, (6, float("inf")), since=1) == [2, 3]
    assert kept("heldout_psnr", (8, 0.0)) == [8]
    note.write_text("[]")
    assert kept("heldout_psnr", (9, 0.0)) == [9]
    assert kept("evaluation_psnr", (10, 0.0)) == []  # another evaluation has it


def test_training_outlives_a_best_that_the_disk_does_not_take(
    tmp_path, capsys, monkeypatch
):
    """What is noted is there. Several processes end: one may wait for others."""
    note, kept = tmp_path / "best.json", []
    Best("psnr", kept.append, note).shown(1, "old", {"psnr": 2.0})
    before = note.read_bytes()

    def full(state):
        raise OSError(28, "No space left", "best")

    best = Best("psnr", full, note)
    best.shown(2, "new", {"psnr": 1.0})
    best.keep, written = kept.append, best.note
    best.note = note / "no folder"
    best.shown(3, "newer", {"psnr": 1.0})
    *_, first, second = capsys.readouterr().err.splitlines()
    assert first == (
        "step 2: the best so far is not kept: [Errno 28] No space left: 'best'"
    )
    assert second.startswith("step 3: the best so far is not kept: [Errno")
    assert note.read_bytes() == before
    best.note = written
    best.shown(4, "newest", {"psnr": 1.5})  # there is room again
    assert kept == ["old", "newer", "newest"]
    monkeypatch.setattr(hosts, "several", lambda: True)
    with pytest.raises(OSError):
        Best("psnr", full, tmp_path / "none").shown(5, "state", {"psnr": 0.0})


def test_figures_are_logged_and_the_best_of_them_kept(tmp_path):
    lines, kept = Lines(), []
    best = Best("-evaluation_usage", kept.append, tmp_path / "best.json")
    found = iter([{"usage": 0.5, "psnr": None}, {"usage": 0.75, "psnr": 3.0}])
    hook = measured("evaluation", lambda state: next(found), 4, lines, best)
    assert hook.due(4, 9) and not hook.due(5, 9) and not hook.changes
    hook.run(4, "a")
    hook.run(8, "b")
    assert kept == ["a", "b"]
    (_, first), second = lines
    assert np.isnan(first["evaluation_psnr"])
    assert second == (8, {"evaluation_usage": 0.75, "evaluation_psnr": 3.0})


def test_what_a_run_asks_for_is_measured_and_its_best_kept(tmp_path, capsys):
    """The hooks of a stage: the loss by its name, of encoded rows, and the figures."""
    kept, asked, lines = [], [], Lines()

    def batches(rows):
        asked.append(rows)
        return iter([toy.new_batch(3)])

    def encoder(sharding):
        asked.append(sharding)
        return lambda batch: {"x": batch["x"] + 1}

    heldout = HeldOut(
        lambda *of: toy.objective(*of, noise=0.0),
        batches,
        lambda *of: kept.append(of),
        since=2,
        encoder=encoder,
        loss="part",
        figures=HeldOutFigures(["psnr"], lambda state: {"psnr": 3.0}, 5),
    )
    sharding, state = batch_sharding(make_mesh(Mesh())), toy.new_state()

    def hooks(**changes):
        run = Run(steps=9, batch=16, **changes)
        return list(heldout.hooks(run, tmp_path, "rows", lines, sharding))

    loss, figures = hooks(heldout_every=4, best="heldout_part")
    assert (loss.every, figures.every) == (4, 5)
    loss.run(2, state)
    assert not kept and not (tmp_path / "best.json").exists()
    loss.run(4, state)
    figures.run(5, state)
    assert kept == [(state, tmp_path / "best")] and asked == [sharding, "rows", "rows"]
    wanted, _ = toy.objective(
        state.params, state.stats, {"x": toy.new_batch(3)["x"] + 1}, state.key, 0, 0.0
    )
    (_, _), (step, found), figure = lines
    assert found.keys() == {"heldout_part", "heldout_spread"} and step == 4
    np.testing.assert_allclose(found["heldout_part"], wanted, rtol=1e-5)
    assert figure == (5, {"evaluation_psnr": 3.0})
    note = json.loads((tmp_path / "best.json").read_text())
    assert note == {"figure": "heldout_part", "value": found["heldout_part"], "step": 4}
    value = f"{found['heldout_part']:.4g}"
    said = f"step 4: heldout_part {value} is the best so far\n"
    assert capsys.readouterr().err == said
    # Where no loss is asked for, the figures alone; no encoder is made for it.
    (figures,) = hooks(best="-evaluation_psnr")
    figures.run(3, state)
    assert len(kept) == 2 and len(asked) == 3
    (figures,) = hooks()
    figures.run(6, state)
    assert len(kept) == 2
    assert hooks(heldout_every=4)[0].run(6, state) is None and len(kept) == 2


def test_weights_without_an_average_are_measured_themselves():
    state = toy.new_state()
    batches = lambda: iter([toy.new_batch()])
    of = losses_of(toy.objective, batches, batch_sharding(make_mesh(Mesh())))
    assert of(state) == of(state.replace(ema={}))


def test_what_the_objective_sees_is_what_is_encoded():
    """By its shapes: nothing is read but what may not be readable."""
    asked = []

    def objective(params, stats, batch, key, step):
        asked.append(batch["x"].shape)
        return toy.objective(params, stats, batch, key, step)

    heldout = HeldOut(
        objective,
        lambda rows: iter([toy.new_batch(size=4)]),
        None,
        encode=lambda batch: {"x": batch["x"][:2]},
    )
    run = Run(steps=9, batch=4, heldout_every=2, best="heldout_loss")
    heldout.check(run, jax.eval_shape(toy.new_state))
    assert asked == [(2, 4)]


def test_a_misspelt_figure_and_unreadable_data_are_refused_with_nothing_computed(
    monkeypatch,
):
    state, opened = jax.eval_shape(toy.new_state), []

    def broken(rows):
        opened.append(rows.tolist())
        yield toy.new_batch(size=4)
        raise BadInput("the second batch")

    def check(best, batches=lambda rows: iter([toy.new_batch(size=4)]), **run):
        figures = HeldOutFigures(["psnr_db"], None, 3)
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
    monkeypatch.setattr(hosts, "share", lambda: (1, 2))
    with pytest.raises(BadInput, match="the second batch"):
        check("", broken, heldout_every=2)
    assert opened[1] == [1, 3], "the second of two processes reads its own"
    monkeypatch.setattr(hosts, "share", lambda: (4, 8))
    check("", broken, heldout_every=2)  # has none of the four
