import functools
import itertools
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import survivor, toy
from train.config import Mesh
from train.errors import BadInput
from train.runtime import loop
from train.runtime.checkpoint import Checkpoints, SaveFailed
from train.runtime.log import Logger, read_metrics
from train.runtime.loop import Hook, TrainingDiverged, train
from train.runtime.sharding import batch_sharding, make_mesh, state_sharding
from train.runtime.window import LogWindow


def run(workdir, steps, batches=None, *, step_fn=None, place=None, **options):
    """Starts or resumes; batches: position -> iterable."""
    state = toy.new_state()
    if place is not None:
        state = place(state)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        found = checkpoints.restore_latest(state)
        position = 0
        if found is not None:
            state, position, _ = found
        with Logger(workdir, int(state.step)) as logger:
            return train(
                state,
                step_fn or toy.new_step(),
                (batches or toy.batches)(position),
                steps=steps,
                checkpoints=checkpoints,
                logger=logger,
                position=position,
                **{"log_every": 4, "save_every": 5} | options,
            )


@functools.cache
def plain_step():
    """Metrics leave as one array, as the loop's do: else XLA may round otherwise."""
    step, names = toy.new_step(), []

    def stacked(state, batch):
        state, metrics = step(state, batch)
        names[:] = sorted(metrics)
        return state, jnp.stack([jnp.asarray(metrics[n], jnp.float32) for n in names])

    return jax.jit(stacked), names


def by_hand(steps, change=None):
    """The same training, as plainly as it can be written."""
    state, seen = toy.new_state(), []
    step, names = plain_step()
    for i in range(steps):
        state, row = step(state, toy.new_batch(i))
        seen.append(dict(zip(names, np.asarray(row), strict=True)))
        if change:
            state = change(i + 1, state)
    return state, seen


def saved(workdir):
    names = (p.name for p in (workdir / "checkpoints").iterdir())
    return sorted(int(name) for name in names if name.isdecimal())


def test_it_is_plain_training(tmp_path):
    expected, seen = by_hand(11)
    toy.same(run(tmp_path, 11), expected)
    assert saved(tmp_path) == [5, 10, 11]
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [4, 8, 11]
    for row, window in zip(rows, (seen[:4], seen[4:8], seen[8:]), strict=True):
        for name in ("loss", "grad_norm", "spread"):
            mean = np.mean([float(metrics[name]) for metrics in window])
            np.testing.assert_allclose(row[name], mean, rtol=1e-6)
        assert row["step_seconds"] > 0 and row["examples_per_second"] > 0


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_resuming_equals_never_stopping(tmp_path, stop):
    run(tmp_path, stop)
    toy.same(run(tmp_path, 11), by_hand(11)[0])


def test_a_wrong_position_in_the_data_is_not_the_same(tmp_path):
    """So that the comparison above is known to be able to fail."""
    run(tmp_path, 5)
    wrong = run(tmp_path, 11, lambda position: toy.batches(position + 1))
    with pytest.raises(AssertionError):
        toy.same(wrong, by_hand(11)[0])


def test_position_counts_batches_from_where_it_was(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints, Logger(tmp_path) as logger:
        train(
            toy.new_state(),
            toy.new_step(),
            toy.batches(1000),
            steps=3,
            checkpoints=checkpoints,
            logger=logger,
            position=1000,
            meta={"name": "toy"},
        )
        _, position, meta = checkpoints.restore_latest(toy.new_state())
    assert (position, meta) == (1003, {"name": "toy"})


def test_no_more_batches_are_drawn_than_needed(tmp_path):
    run(tmp_path, 3, lambda position: toy.batches(position, 3))
    assert saved(tmp_path) == [3]


def test_the_step_is_traced_once(tmp_path, monkeypatch, capsys):
    """And says what it takes, where that is known."""
    monkeypatch.setattr(loop, "peak_bytes", lambda program: 5 * 2**29)
    traces = []

    def step(state, batch):
        traces.append(1)
        return toy.new_step()(state, batch)

    run(tmp_path, 11, step_fn=step)
    assert len(traces) == 1
    assert "a step needs 2.50 GiB on each device\n" in capsys.readouterr().err


@pytest.mark.slow
def test_it_keeps_its_layout_on_a_mesh(tmp_path):
    mesh = make_mesh(Mesh(2, 2, 2))
    layout = state_sharding(toy.new_state(), toy.RULES, mesh)
    options = {
        "place": lambda state: jax.device_put(state, layout),
        "batch_sharding": batch_sharding(mesh),
    }
    whole = run(tmp_path / "whole", 7, **options)
    run(tmp_path / "parts", 5, **options)
    resumed = run(tmp_path / "parts", 7, **options)
    toy.same(resumed, whole)
    kept = jax.tree.map(lambda x, s: x.sharding == s, resumed, layout)
    assert all(jax.tree.leaves(kept))
    one = by_hand(7)[0]
    np.testing.assert_allclose(
        whole.params["up"]["kernel"], one.params["up"]["kernel"], rtol=1e-4
    )


def poisoned(at):
    def batches(position):
        for i, batch in enumerate(toy.batches(position), position):
            yield {"x": batch["x"] * np.nan} if i == at else batch

    return batches


def test_a_first_step_that_is_bad_blames_no_rate(tmp_path):
    """No update came before it."""
    with pytest.raises(TrainingDiverged, match="at step 1, .* look at the data"):
        run(tmp_path, 5, poisoned(0))
    with pytest.raises(TrainingDiverged, match="at step 2, .* a lower optimizer.peak"):
        run(tmp_path, 5, poisoned(1))


@pytest.mark.parametrize("at,good", [(2, "none"), (7, "5"), (10, "10")])
def test_the_first_bad_step_is_named_and_never_saved(tmp_path, at, good):
    """Whatever the log's rhythm: update i makes step i + 1."""
    match = rf"(loss|grad_norm) is nan at step {at + 1}, .*checkpoint is .*{good};"
    with pytest.raises(TrainingDiverged, match=match):
        run(tmp_path, 20, poisoned(at), log_every=6)
    assert saved(tmp_path) == [step for step in (5, 10) if step <= at]
    toy.same(run(tmp_path, 11), by_hand(11)[0])


def test_weights_that_break_under_a_finite_loss_are_not_saved(tmp_path):
    def step(state, batch):
        state, metrics = toy.new_step()(state, batch)
        broken = jnp.where(state.step == 5, jnp.nan, 1.0)
        return state.replace(ema=jax.tree.map(lambda x: x * broken, state.ema)), metrics

    with pytest.raises(TrainingDiverged, match="step 5 is not finite .*ema/"):
        run(tmp_path, 20, step_fn=step)
    assert saved(tmp_path) == []


def test_data_that_ends_early_is_named_and_the_work_kept(tmp_path):
    with pytest.raises(
        BadInput, match="ended after 7 batches, at step 7 of run.steps=11"
    ):
        run(tmp_path, 11, lambda position: toy.batches(position, 7))
    assert saved(tmp_path) == [5, 7]
    with pytest.raises(BadInput, match="ended after 0 batches"):
        run(tmp_path / "none", 11, lambda position: [])


def test_an_error_in_the_data_loses_no_work(tmp_path):
    def batches(position):
        yield from toy.batches(position, 9)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run(tmp_path, 20, batches)
    # Two batches are drawn ahead: the error comes when the tenth is asked for.
    assert saved(tmp_path) == [5, 7]
    toy.same(run(tmp_path, 20), by_hand(20)[0])


def test_a_batch_of_another_shape_is_an_error_not_a_compile(tmp_path):
    def batches(position):
        yield from toy.batches(position, 3)
        yield toy.new_batch(3, size=8)

    with pytest.raises((TypeError, ValueError)):
        run(tmp_path, 5, batches)
    assert saved(tmp_path) == [3]


def test_hooks_come_when_due_and_resuming_repeats_none(tmp_path):
    calls = []

    def change(step, state):
        calls.append(f"change {step}")
        params = jax.tree.map(lambda x: x * 0.5, state.params)
        return state.replace(params=params)

    def draw(name):
        def hook(step, state):
            assert int(state.step) == step
            calls.append(f"{name} {step}")

        return hook

    hooks = [
        Hook(draw("often"), every=4),
        Hook(draw("end")),
        Hook(change, at=(5, 6), changes=True),
    ]
    run(tmp_path, 5, hooks=hooks)
    first = ["often 4", "change 5", "often 5", "end 5"]
    assert calls == first
    final = run(tmp_path, 9, hooks=hooks)
    assert calls[4:] == ["change 6", "often 8", "often 9", "end 9"]

    def halved(step, state):
        return change(step, state) if step in (5, 6) else state

    toy.same(final, by_hand(9, halved)[0])
    calls.clear()
    run(tmp_path, 9, hooks=hooks)  # finished: the last pictures once more, no training
    assert calls == ["often 9", "end 9"]


def test_a_failing_picture_loses_no_work_a_failing_change_is_not_saved(tmp_path):
    def fail(step, state):
        raise OSError("no room for the picture")

    with pytest.raises(OSError):
        run(tmp_path, 9, hooks=[Hook(fail, every=3)])
    assert saved(tmp_path) == [3]
    with pytest.raises(OSError):
        run(tmp_path, 9, hooks=[Hook(fail, at=(4,), changes=True)])
    assert saved(tmp_path) == [3]


def test_seconds_are_those_of_training_alone(tmp_path, monkeypatch):
    """By a clock that only goes on where it is looked at, and in hooks and saves."""
    now = itertools.count()
    hours = [0]
    clock = lambda: next(now) + hours[0]
    monkeypatch.setattr("train.runtime.window.time.perf_counter", clock)

    def sleep(step, state):
        hours[0] += 3600

    hooks = [
        Hook(sleep, every=2),
        Hook(lambda *of: sleep(*of) or of[1], at=(3, 5), changes=True),
    ]
    run(tmp_path, 5, hooks=hooks, save_every=3)
    run(tmp_path, 11, hooks=hooks, save_every=3)
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [4, 5, 8, 11]
    for row in rows:
        assert 0 < row["step_seconds"] < 20
        rate = row["examples_per_second"] * row["step_seconds"]
        assert rate == pytest.approx(16)


def test_a_window_that_a_stop_cut_has_the_seconds_of_both_parts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("train.runtime.window.time.perf_counter", lambda: now[0])
    begun, names = None, ["loss", "grad_norm"]
    for step, start in enumerate((0.0, 1000.0)):
        now[0] = start
        window = LogWindow(step, names, 16, None, begun)
        window.add(jnp.array([1.0 + step, 3.0]))
        now[0] += 2 + step
        window.check()
        begun = json.loads(json.dumps(window.pending()))
    means = {"loss": 1.5, "grad_norm": 3.0}
    assert window.close() == means | {"step_seconds": 2.5, "examples_per_second": 6.4}


@pytest.mark.parametrize(
    "begun",
    [
        {},
        [],
        {"sums": {"other": "9.0"}, "steps": 1, "seconds": 9.0},
        {"sums": {"grad_norm": "9.0", "loss": "9.0"}, "steps": 1, "seconds": 9.0},
        {"sums": {"loss": "9.0", "grad_norm": "9.0"}, "steps": 0, "seconds": 9.0},
        {"sums": {"loss": "9.0", "grad_norm": "x"}, "steps": 1, "seconds": 9.0},
    ],
)
def test_a_window_of_other_metrics_is_left_out(begun, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("train.runtime.window.time.perf_counter", lambda: now[0])
    window = LogWindow(3, ["loss", "grad_norm"], 16, None, begun)
    assert window.pending() is None
    window.add(jnp.array([1.0, 3.0]))
    now[0] += 2
    window.check()
    means = {"loss": 1.0, "grad_norm": 3.0}
    assert window.close() == means | {"step_seconds": 2.0, "examples_per_second": 8.0}
    assert window.pending() is None


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_either_figure_that_is_not_finite_is_named(name):
    names, checkpoints = ["other", "loss", "grad_norm"], SimpleNamespace(good="c/5")
    window = LogWindow(6, names, 16, checkpoints, None)
    window.add(jnp.array([jnp.nan, 1.0, 1.0]))
    window.add(jnp.array([1.0, *(jnp.inf if n == name else 1.0 for n in names[1:])]))
    said = rf"^{name} is inf at step 8, which was not saved; .*checkpoint is c/5; write"
    with pytest.raises(TrainingDiverged, match=said):
        window.check()


def signalling(number, at):
    def batches(position):
        for i, batch in enumerate(toy.batches(position), position):
            if i == at:
                os.kill(os.getpid(), number)
            yield batch

    return batches


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_continues(tmp_path, capsys, number, code):
    before = signal.getsignal(number)
    hooks = [
        Hook(lambda step, state: state.replace(step=state.step), at=(7,), changes=True)
    ]
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, 11, signalling(number, 8), hooks=hooks)
    assert stop.value.code == code
    assert signal.getsignal(number) is before
    step = saved(tmp_path)[-1]
    assert step in (6, 7)  # the batch of step 9 is drawn while step 6 or 7 runs
    err = capsys.readouterr().err
    assert f"step {step} of 11 is saved; the same command continues" in err
    toy.same(run(tmp_path, 11, hooks=hooks), by_hand(11)[0])


def test_a_signal_is_seen_while_the_step_is_compiled(monkeypatch):
    """By the main thread, to which no compiler returns for one."""
    program = toy.new_step(), toy.new_state(), toy.new_batch(), None
    seen = threading.Event()

    def compile():
        assert threading.current_thread() is not threading.main_thread()
        os.kill(os.getpid(), signal.SIGUSR1)
        return seen.wait(10)

    lowered = SimpleNamespace(lower=lambda *_: SimpleNamespace(compile=compile))
    monkeypatch.setattr(jax, "jit", lambda *_, **how: lowered)
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.set())
    try:
        assert loop._compile(*program) == (True, [])
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_second_signal_is_obeyed(tmp_path):
    def batches(position):
        for batch in toy.batches(position):
            # Two that are pending at once are one: until the second has been seen.
            while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)
            yield batch

    # Python's own; a test runner's workers ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 5, batches)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_metrics_are_scalars(tmp_path):
    def step(state, batch):
        state, metrics = toy.new_step()(state, batch)
        return state, metrics | {"image": jnp.ones(3)}

    with pytest.raises(ValueError, match="metric 'image' is not a scalar"):
        run(tmp_path, 5, step_fn=step)


def test_a_last_save_that_fails_is_an_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    def break_disk(step, state):
        monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", refuse)

    with pytest.raises(SaveFailed, match="8 not written: .*No space .*checkpoints/5"):
        run(tmp_path, 8, hooks=[Hook(break_disk, at=(6,))])


def life(workdir, delay=0.0):
    """Starts the program in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # The server imports once what every life needs, and starts no device.
    context.set_forkserver_preload(["tests.train.survivor"])
    programs = jax.config.jax_compilation_cache_dir
    process = context.Process(target=survivor.main, args=(workdir, delay, programs))
    process.start()
    return process


def survived(process):
    process.join(120)
    return process.exitcode == 0


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same_bit_for_bit(tmp_path):
    """SIGKILL while starting, stepping or saving; data order included."""
    calm, hard = tmp_path / "calm", tmp_path / "hard"
    # First the calm one: it leaves its compiled programs to the others, whole.
    assert survived(life(calm))

    hard.mkdir()
    (hard / "checkpoints").mkdir()
    moments = random.Random()
    for kill in range(5):
        process, reached = life(hard, delay=0.02), saved(hard)
        if kill != 2:  # which dies wherever it is; the others once they got further
            while saved(hard)[-1:] == reached[-1:] and process.is_alive():
                time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    assert survived(life(hard))

    starts = [int(line) for line in (hard / "starts.txt").read_text().split()]
    assert starts == sorted(starts) and len(set(starts)) >= 4
    with np.load(calm / "final.npz") as a, np.load(hard / "final.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], strict=True)
    logs = (
        [(row["step"], row["loss"]) for row in read_metrics(w)] for w in (calm, hard)
    )
    assert next(logs) == next(logs)
