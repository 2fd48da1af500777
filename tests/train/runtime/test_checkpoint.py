import gc
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.members import marked
from tests.train import toy
from train.config import Mesh
from train.errors import BadInput, some
from train.runtime.checkpoint import Checkpoints, NonFinite, SaveFailed
from train.runtime.sharding import make_mesh, state_sharding

# Orbax abandons its other reads when one fails; nothing of ours is lost with them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def a_state(step=0):
    """Every kind of leaf: floats of two widths, integers, bools, a typed key."""
    state = toy.new_state(seed=step)
    extra = {
        "half": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3) / 7,
        "used": jnp.array([True, False]),
        "counts": jnp.arange(3),
        "table": jax.random.normal(jax.random.key(step), (64, 64)),
    }
    return state.replace(step=jnp.int32(step), stats=state.stats | {"extra": extra})


def write(directory, steps, **options):
    with Checkpoints(directory, **options) as checkpoints:
        checkpoints.restore_latest(a_state())
        for step in steps:
            checkpoints.save(step, a_state(step), position=step * 2, meta={"n": step})


def restore(directory, like=None, report=None, **options):
    said = [] if report is None else report
    say = mock.patch("train.runtime.checkpoint.checkpoints.say", said.append)
    with say, Checkpoints(directory, **options) as checkpoints:
        found = checkpoints.restore_latest(a_state() if like is None else like)
    gc.collect()  # so that what Orbax left hanging shows in the test it belongs to
    return found


@pytest.mark.slow
def test_every_bit_comes_back(tmp_path):
    meta = {"name": "toy", "diff": {"a.b": [1, 0.1]}, "none": None}
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_latest(a_state()) is None
        checkpoints.save(5, a_state(5), position=17, meta=meta)
        checkpoints.wait()
        assert checkpoints.committed == 5
    state, position, back = restore(tmp_path / "c")
    toy.same(state, a_state(5))
    assert (position, back) == (17, meta)


def test_state_can_be_donated_while_it_is_written(tmp_path):
    like = {"x": jax.random.normal(jax.random.key(0), (1000, 1000))}
    expected = np.asarray(like["x"])
    add = jax.jit(lambda s: {"x": s["x"] + 1}, donate_argnums=0)
    state = add({"x": like["x"] - 1})
    expected = np.asarray(jnp.copy(state["x"]))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state, position=1)
        for _ in range(3):
            state = add(state)
    found, _, _ = restore(tmp_path / "c", like)
    np.testing.assert_array_equal(found["x"], expected)


@pytest.mark.slow
def test_restores_onto_another_mesh(tmp_path):
    state = toy.new_state(seed=3)
    layouts = [
        state_sharding(state, toy.RULES, make_mesh(mesh))
        for mesh in (Mesh(2, 4, 1), Mesh(1, 2, 4))
    ]
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, jax.device_put(state, layouts[0]), position=1)
    shapes = jax.eval_shape(toy.new_state)
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        layouts[1],
    )
    found, _, _ = restore(tmp_path / "c", like)
    toy.same(found, state)
    placed = jax.tree.map(lambda x, s: x.sharding == s, found, layouts[1])
    assert all(jax.tree.leaves(placed))
    toy.same(restore(tmp_path / "c", shapes)[0], state)  # shapes alone: one device


def test_the_newest_are_kept(tmp_path):
    write(tmp_path / "c", [1, 2, 3, 10, 20], keep=2)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["10", "20"]
    with pytest.raises(BadInput, match="keep=0"):
        Checkpoints(tmp_path / "c", keep=0)


def largest(folder):
    """The file with the arrays' data: `table` makes it so."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return max(files, key=lambda p: p.stat().st_size)


def flip(step):
    path = largest(step / "state")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(step):
    path = largest(step / "state")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def move_position(step):
    path = largest(step / "manifest")
    manifest = json.loads(path.read_text())
    manifest["position"] += 1
    path.write_text(json.dumps(manifest))


def swap_states(step):
    """Two whole states under each other's name."""
    other = step.parent / "1"
    shutil.rmtree(step / "state")
    shutil.copytree(other / "state", step / "state")


DAMAGES = [
    flip,
    truncate,
    move_position,
    swap_states,
    lambda step: largest(step / "state").unlink(),
    lambda step: shutil.rmtree(step / "state"),
    lambda step: shutil.rmtree(step / "manifest"),
    lambda step: largest(step / "manifest").write_text("{"),
]


@pytest.mark.parametrize(
    "damage", marked(DAMAGES, DAMAGES[3:]), ids=lambda d: d.__name__
)
def test_damage_falls_back_to_the_newest_whole_one(tmp_path, damage):
    directory, said = tmp_path / "c", []
    write(directory, [1, 2, 3])
    damage(directory / "3")
    state, position, _ = restore(directory, report=said)
    toy.same(state, a_state(2))
    assert position == 4
    assert str(directory / "3") in said[0] and "rejected" in said[0]
    # Moved, not deleted, and out of the way: step 3 can be written again.
    assert (tmp_path / "c.rejected" / "3-0").is_dir()
    write(directory, [3])
    toy.same(restore(directory)[0], a_state(3))


def test_what_is_damaged_stays_on_the_disk_where_a_link_leads(tmp_path):
    """No rename crosses to another disk."""
    write(tmp_path / "large_disk/c", [1, 2])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/c").symlink_to(tmp_path / "large_disk/c")
    flip(tmp_path / "large_disk/c/2")
    state, _, _ = restore(tmp_path / "run/c")
    toy.same(state, a_state(1))
    assert (tmp_path / "large_disk/c.rejected/2-0").is_dir()
    assert (tmp_path / "run/c").is_symlink()
    shutil.rmtree(tmp_path / "large_disk")  # as it is while it is not mounted
    with pytest.raises(BadInput, match="run/c leads to .*large_disk/c, which is not "):
        restore(tmp_path / "run/c")
    assert not (tmp_path / "large_disk").exists()


def test_damage_of_several_and_of_all(tmp_path):
    directory = tmp_path / "c"
    write(directory, [1, 2, 3])
    flip(directory / "3")
    truncate(directory / "2")
    flip(directory / "1")
    # To start anew without a word would bury the run: nothing is touched.
    with pytest.raises(BadInput, match="step 3: altered on disk: .*step 2: .*step 1: "):
        restore(directory)
    assert all((directory / name).exists() for name in "123")


@pytest.mark.slow
def test_flips_anywhere_in_the_data_do_not_pass(tmp_path):
    """What is restored is the right step or an older one, never silently another."""
    rng = np.random.default_rng(0)
    write(tmp_path / "c", [1, 2])
    outcomes = []
    for i in range(12):
        copy = tmp_path / str(i)
        shutil.copytree(tmp_path / "c", copy)
        path = largest(copy / "2" / "state")
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        state, _, meta = restore(copy)
        toy.same(state, a_state(meta["n"]))
        outcomes.append(meta["n"])
    assert outcomes.count(1) > 6


def test_strays_are_ignored(tmp_path):
    directory = tmp_path / "c"
    write(directory, [1, 2])
    for name in ("notes", "2.orbax-checkpoint-tmp", "007", "-5"):
        (directory / name).mkdir()
    (directory / "77").write_text("a file")
    (directory / "99").mkdir()
    said = []
    toy.same(restore(directory, report=said)[0], a_state(2))
    assert "99" in said[0] and "no manifest" in said[0]
    write(directory, [3], keep=2)
    left = {p.name for p in directory.iterdir()}
    assert {"2", "3", "77", "notes", "007"} <= left
    assert not {"1", "99", "2.orbax-checkpoint-tmp"} & left


def test_another_model_is_refused_and_nothing_moved(tmp_path):
    directory = tmp_path / "c"
    write(directory, [1, 2])
    state = a_state()
    others = [
        state.replace(params=jax.tree.map(lambda x: x[..., :2], state.params)),
        # Orbax would cast this one silently.
        state.replace(ema=jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.ema)),
        state.replace(stats={}),
        state.replace(stats=state.stats | {"more": jnp.ones(2)}),
        state.replace(key=jax.random.key(0, impl="rbg")),
    ]
    parts = ["params/", "ema/", "extra/counts", "more", "key is"]
    for other, part in zip(others, parts, strict=True):
        with pytest.raises(BadInput, match=f"another model: .*{part}"):
            restore(directory, other)
    assert {p.name for p in directory.iterdir()} == {"1", "2"}


@pytest.mark.parametrize(
    "part,value",
    [
        ("params", jnp.nan),
        pytest.param("ema", jnp.inf, marks=pytest.mark.slow),
        pytest.param("opt", jnp.nan, marks=pytest.mark.slow),
        ("stats", -jnp.inf),
    ],
)
def test_what_is_not_finite_is_never_saved(tmp_path, part, value):
    def poison(x):
        floating = jnp.issubdtype(x.dtype, jnp.floating) and x.size
        return x.at[(0,) * x.ndim].set(value) if floating else x

    state = a_state(2)
    bad = state.replace(**{part: jax.tree.map(poison, getattr(state, part))})
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, a_state(1), position=1)
        with pytest.raises(NonFinite, match=rf"step 2 .*{part}/.*last good .*c/1"):
            checkpoints.save(2, bad, position=2)
    toy.same(restore(tmp_path / "c")[0], a_state(1))


@contextmanager
def a_full_disk(limit=100_000):
    """No file may grow past the limit: a write fails as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_training_outlives_a_full_disk(tmp_path, capfd):
    def big(step):
        return {"x": jax.random.normal(jax.random.key(step), (300_000,))}

    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, big(1), position=1)
        checkpoints.wait()
        with a_full_disk():
            checkpoints.save(2, big(2), position=2)
            checkpoints.save(3, big(3), position=3)
            with pytest.raises(SaveFailed, match=r"c/3 not written: .*last good .*c/1"):
                checkpoints.wait()
        # What was half written would take the room that the next one needs.
        assert not list((tmp_path / "c").glob("*.orbax-checkpoint-tmp*"))
        said = capfd.readouterr().err
        assert [step for step in (2, 3) if f"c/{step} not written" in said]
        assert checkpoints.committed == 1
        checkpoints.save(4, big(4), position=4)
        checkpoints.wait()
        assert checkpoints.committed == 4
    toy.same(restore(tmp_path / "c", big(0))[0], big(4))
    assert {p.name for p in (tmp_path / "c").iterdir()} == {"4"}
    assert "Traceback" not in said + capfd.readouterr().err


def test_nothing_is_told_twice_of_a_full_disk(tmp_path, caplog):
    """asyncio told it at the end once more, in pages, of each array."""
    lost = "Task exception was never retrieved\nfuture: <Task coro=<write() {}:12>"
    with Checkpoints(tmp_path):
        logger = logging.getLogger("asyncio")
        logger.error(lost.format("/lib/orbax/serialization.py"))
        logger.error(lost.format("/home/orbit.py"))
        logger.error("of orbax alone")
    assert [record.getMessage() for record in caplog.records] == [
        lost.format("/home/orbit.py"),
        "of orbax alone",
    ]


def test_a_step_is_saved_only_when_it_is_committed(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.committed is None and checkpoints.good == "none"
        checkpoints.save(1, a_state(1), position=1)
        with monkeypatch.context() as slow:  # as a disk may be
            slow.setattr(checkpoints._manager, "is_saving_in_progress", lambda: True)
            assert checkpoints.committed is None
        checkpoints.save(1, a_state(1), position=1)  # again: nothing to do
        checkpoints.wait()
        assert checkpoints.committed == 1
        with pytest.raises(RuntimeError, match="newer than step 0"):
            checkpoints.save(0, a_state(0), position=0)


@pytest.mark.slow
@pytest.mark.timeout(700)  # thirty saves wait for the disk
@pytest.mark.parametrize("sizes", ["2 2 2", "1 8 1", "1 4 2"])
def test_many_saves_and_restores_on_a_mesh(sizes, tmp_path):
    """Collectives wait for one another: never two at a time."""
    environment = {n: v for n, v in os.environ.items() if n != "NPROC"}
    words = ["tests.train.runtime.many_saves", str(tmp_path / "run"), *sizes.split()]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_long_list_of_names_is_cut():
    assert some([*"abc"]) == "a, b, c"
    assert some([*"abcde"]) == "a, b, c and 2 more"
    assert some(["x" * 300]) == "x" * 200
