"""A run's folder is its own: who may train in it, and on from what."""

import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import pytest

from tests.train import toy
from tests.train.experiments import TOKENIZER
from tests.train.processes import noting
from train.config.override import replaced
from train.config.workdir import read_config, save_config
from train.errors import BadInput
from train.runtime import hosts
from train.runtime import launch as launching
from train.runtime.checkpoint import Checkpoints
from train.runtime.launch import claimed, fits, launch
from train.runtime.lock import FILE, locked, sweep
from train.runtime.log import Logger, read_metrics
from train.runtime.loop import Hook
from vqdit.values import describe

EXPERIMENT = replaced(
    TOKENIZER,
    {"run.steps": 6, "run.batch": 16, "run.save_every": 2, "run.log_every": 4},
)
COSINE = replaced(EXPERIMENT, {"optimizer.schedule": "cosine", "optimizer.warmup": 1})
PROBES = {"image": {"records": 2, "some": [[0.1, 0.5, 3], [0.2, 0.4, 1]]}}
CALM = {"optimizer.schedule": "constant", "optimizer.warmup": 0}


def run(workdir, experiment=EXPERIMENT, hooks=(), depends=None, lost="", **how):
    with claimed(workdir, experiment, **how) as folder:
        return launch(
            experiment,
            folder,
            toy.new_state,
            toy.new_step(),
            toy.RULES,
            lambda position, rows: toy.batches(position),
            lambda logger: hooks,
            lambda state: f"a line of {state.params['up']['bias'].size}",
            depends,
            reschedule=how.get("reschedule", False),
            lost=lost,
        )


@pytest.mark.parametrize("first", [True, False])
def test_a_package_that_the_log_needs_is_missed_before_the_run(monkeypatch, first):
    """By who reports; the folder is not claimed by then, and nothing compiled."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(launching.hosts, "first", lambda: first)
    reporting = replaced(EXPERIMENT, {"run.wandb": "project"})
    if not first:
        fits(reporting, toy.new_state, toy.RULES)
        return
    with pytest.raises(BadInput, match="run.wandb='project' needs a package"):
        fits(reporting, toy.new_state, toy.RULES)


@pytest.mark.parametrize("opens", [True, False])
def test_the_log_fails_and_ends_where_one_of_several_does(tmp_path, monkeypatch, opens):
    """The first alone has it, and an error ends a process at once: closed by then."""
    order = []

    class Log(Logger):
        def __init__(self, *of):
            if not opens:
                raise BadInput("no log")
            super().__init__(*of)

        def close(self):
            order.append("closed")
            super().close()

    def train(*_, **how):
        raise BadInput("no data")

    monkeypatch.setattr(launching.hosts, "fail_fast", noting(order))
    monkeypatch.setattr(launching, "Logger", Log)
    monkeypatch.setattr(launching, "train", train)
    with pytest.raises(BadInput):
        run(tmp_path)
    assert order == (["closed", "no data"] if opens else ["no log"])


@pytest.mark.parametrize("call", ["create_state", "train"])
def test_a_device_without_room_is_one_line(tmp_path, monkeypatch, call):
    def full(*_, **how):
        raise jax.errors.JaxRuntimeError(f"{code}: Out of memory\n{'of much ' * 99}")

    code = "RESOURCE_EXHAUSTED"
    monkeypatch.setattr(launching, call, full)
    with pytest.raises(launching.OutOfMemory, match="EXHAUSTED: .*a smaller run.batch"):
        run(tmp_path)
    code = "INTERNAL"
    with pytest.raises(jax.errors.JaxRuntimeError):
        run(tmp_path)


@pytest.mark.slow
def test_a_run_says_what_it_is_before_it_is_silent(tmp_path, capfd):
    run(tmp_path)
    err = capfd.readouterr().err
    first, second = err.splitlines()[:2]
    # Two layers of 4 and 16: kernels and biases.
    assert first == (
        f"{EXPERIMENT.name}: {2 * 64 + 20} parameters, computed in float32; "
        "a line of 16"
    )
    assert second == "6 steps of 16 on 8 cpu (data 8)"
    assert "a step needs 0.00 GiB on each device" in err


def test_the_loop_gets_all_that_a_run_has(tmp_path, monkeypatch, capfd):
    """Of the options, and of the checkpoint that it goes on from."""
    options = {"run.keep": 2, "run.sample_every": 5, "run.wandb": "project"}
    experiment = replaced(EXPERIMENT, options)
    asked, logged, measured = [], [], []
    drawn = [Hook(lambda *_: None, every=5)]
    hook = Hook(lambda step, state: measured.append((step, int(state.step))), every=3)

    class Written(Logger):
        def __init__(self, workdir, step, wandb):
            logged.append((workdir, step, wandb))
            super().__init__(workdir, step)

        def text(self, *of):
            logged.append(of)

    class Kept(Checkpoints):
        def __init__(self, *of):
            logged.append(of)
            super().__init__(*of)

    def train(state, step_fn, batches, **how):
        asked.append((state, step_fn, batches, how))
        meta, state = how["meta"] | {"window": {"steps": 1}}, made(state)
        how["checkpoints"].save(int(state.step), state, position=40, meta=meta)
        return state

    @jax.jit
    def made(state):
        return state.replace(step=state.step + 2)

    def heldout_hooks(*of):
        asked.append(of)
        return iter([hook])

    monkeypatch.setattr(launching, "Logger", Written)
    monkeypatch.setattr(launching, "Checkpoints", Kept)
    monkeypatch.setattr(launching, "train", train)
    step_fn, about = toy.new_step(), lambda state: "about it"

    def launched(lost):
        return launch(
            experiment,
            tmp_path,
            toy.new_state,
            step_fn,
            toy.RULES,
            lambda position, rows: (position, rows.tolist()),
            lambda logger: asked.append(logger) or drawn,
            about,
            {"tokenizer": "of then"},
            lambda sharding: ("encode", sharding),
            heldout=SimpleNamespace(hooks=heldout_hooks),
            lost=lost,
            made_of=lambda: dict(PROBES),
        )

    with pytest.raises(BadInput, match="^there is no init$"):
        launched("there is no init")
    assert not asked
    assert int(launched("").step) == 2
    assert int(launched("no matter, once it has begun").step) == 4
    logger, of, (state, same, batches, how), *_ = asked
    sharding = how["batch_sharding"]
    assert of[:2] == (experiment.run, tmp_path) and of[2].tolist() == list(range(16))
    assert of[3:] == (logger, sharding) and sharding.mesh.size == 8
    assert same.__wrapped__ is step_fn and int(state.step) == 0
    assert batches == (0, list(range(16)))
    about_run = {"experiment": describe(experiment), "tokenizer": "of then"}
    about_run["data"] = PROBES
    known = {
        "steps": 6,
        "checkpoints": how["checkpoints"],
        "logger": logger,
        "log_every": 4,
        "save_every": 2,
        "batch_sharding": sharding,
        "encode": ("encode", sharding),
        "meta": about_run,
        "hooks": [*drawn, hook],
    }
    assert how == known | {"position": 0, "window": None}
    *_, (state, _, batches, how) = asked
    assert batches[0] == how["position"] == 40 and how["window"] == {"steps": 1}
    assert measured == [(0, 0)]  # of what begins, and not once more where it goes on
    _, kept, begun, (step, name, text), _, again, _ = logged
    assert kept == (tmp_path / "checkpoints", 2) and again == (tmp_path, 2, "project")
    assert begun == (tmp_path, 0, "project") and (step, name) == (0, "experiment")
    lines = text.splitlines()
    assert "    run.batch=16" in lines and "    name='tokenizer'" in lines
    assert all(line.startswith("    ") for line in lines)
    err = capfd.readouterr().err
    size = 2 * 64 + 20  # two layers of 4 and 16: kernels and biases
    opening = f"tokenizer: {size} parameters, computed in float32; about it\n"
    assert f"{opening}6 steps of 16 on 8 cpu (data 8)\n" in err
    assert f"{tmp_path}: continuing from step 2\n" in err


def test_a_run_that_goes_on_has_its_state_once(tmp_path, monkeypatch):
    """None that begins is beside it, nor is one computed."""
    run(tmp_path, replaced(EXPERIMENT, {"run.steps": 2}))
    monkeypatch.setattr(launching, "create_state", None)
    assert int(run(tmp_path).step) == 6


def test_what_cannot_be_measured_is_refused_before_the_run():
    """And a state that the mesh does not divide, with nothing computed."""
    asked = []
    heldout = SimpleNamespace(check=lambda *of: asked.append(of))
    launching.fits(EXPERIMENT, toy.new_state, toy.RULES, heldout)
    ((of, state),) = asked
    assert of is EXPERIMENT.run
    assert state.params["up"]["kernel"].shape == (4, 16)
    wide = replaced(EXPERIMENT, {"mesh.data": 1, "mesh.fsdp": 8})
    with pytest.raises(BadInput, match="'fsdp' of 8 does not divide 4"):
        launching.fits(wide, toy.new_state, toy.RULES)


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_refused_run_touches_nothing_and_names_who_is_there(tmp_path):
    """--force too: what is moved aside would be the live run's."""
    longer = replaced(EXPERIMENT, {"run.steps": 9})
    other = replaced(EXPERIMENT, {"run.seed": 3})
    with claimed(tmp_path, EXPERIMENT):
        before = everything(tmp_path)
        for experiment, how in ((longer, {}), (other, {"force": True})):
            line = rf"training in .* \({os.getpid()} on .+, since 20.*\); wait for it"
            with pytest.raises(BadInput, match=line):
                with claimed(tmp_path, experiment, **how):
                    raise AssertionError("it was let in")
        assert everything(tmp_path) == before
    with claimed(tmp_path, other, force=True):
        assert (tmp_path / "config.json.replaced-1").exists()
    assert read_config(tmp_path / "config.json") == other
    with pytest.raises(BadInput, match="another experiment"):
        with claimed(tmp_path / "new", EXPERIMENT), claimed(tmp_path, EXPERIMENT):
            pass
    for wrong, message in ((tmp_path / FILE, "a file"), ("", "write --workdir=DIR")):
        with pytest.raises(BadInput, match=message):
            with claimed(wrong, EXPERIMENT):
                pass


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_goes_with_its_process(tmp_path):
    """Of whatever version it is: one of 0.1.0 wrote no name there."""
    assert FILE == "checkpoints.lock"
    words = [sys.executable, "-c", HOLD, str(tmp_path / FILE)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=f"training in {tmp_path}; wait for it"):
            with locked(tmp_path):
                pass
        holder.kill()
    (tmp_path / FILE).write_text("of one that was killed, and had more to say" * 9)
    with locked(tmp_path):
        held = json.loads((tmp_path / FILE).read_text())
        assert (held["process"], held["host"]) == (os.getpid(), socket.gethostname())
        since = datetime.datetime.fromisoformat(held["since"])
        assert abs(since.timestamp() - time.time()) < 60
    assert (tmp_path / FILE).read_text() == ""
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(BadInput, match=f"{FILE} is a pipe, and a file is"):
        with locked(tmp_path):
            pass
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).touch()
    with pytest.raises(BadInput, match="--workdir=.*x cannot be written: "):
        with locked(tmp_path / FILE / "x"):
            pass


def test_checkpoints_of_another_experiment_are_not_continued(tmp_path, monkeypatch):
    """Of the very same shapes: another seed, rate, or batch. What one of several
    processes finds to be another, all refuse."""
    other = replaced(EXPERIMENT, {"optimizer.peak_lr": 0.5})
    run(tmp_path / "a")
    run(tmp_path / "b", other)
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "a" / "checkpoints")
    longer = replaced(EXPERIMENT, {"run.steps": 8})
    with pytest.raises(
        BadInput, match=r"a/checkpoints belongs .*peak_lr: 0.5 -> "
    ) as e:
        run(tmp_path / "a", longer)
    assert "\n" not in str(e.value) and "bring back the checkpoints" in str(e.value)
    assert not (tmp_path / "a" / "checkpoints" / "8").exists()
    run(tmp_path / "b", replaced(other, {"run.steps": 8, "run.keep": 1}))
    before = read_config(tmp_path / "b" / "config.json")
    left = []
    monkeypatch.setattr(launching.hosts, "together", noting(left))
    with pytest.raises(BadInput, match="trained with another tokenizer") as caught:
        run(tmp_path / "b", other, depends={"tokenizer": "of then"})
    assert left == [str(caught.value)]
    assert read_config(tmp_path / "b" / "config.json") == before != other


@pytest.mark.parametrize(
    "some,count,message",
    [
        ([[0.1, 0.5, 3], [0.2, 0.4, 1]], 3, "2 records and the data has 3"),
        ([[0.1, 0.5, 3], [0.2, 0.4, 2]], 2, "other records than the data has"),
        ([[0.1, 0.5, 3], [0.3, 0.4, 1]], 2, "other records than the data has"),
        ([[0.101, 0.499, 3], [0.2, 0.4, 1]], 2, ""),  # of another JPEG decoder
    ],
)
def test_a_run_does_not_go_on_with_other_records(tmp_path, some, count, message):
    """A file more is another order of all, and nothing said so of pictures."""
    now = {"image": {"records": count, "some": some}, "word": None}
    if not message:
        launching._refuse_other_data(tmp_path, PROBES, now)
        return
    with pytest.raises(BadInput, match=f"trained on {message} now; give the") as caught:
        launching._refuse_other_data(tmp_path, PROBES, now)
    assert "init" not in str(caught.value)  # which reads a bundle
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BadInput, match=f"--config.init={tmp_path}, for its weights$"):
        launching._refuse_other_data(tmp_path, PROBES, now)
    for before in (None, {}, {"image": None}, {"sound": PROBES["image"]}):
        launching._refuse_other_data(tmp_path, before, now)
    for damaged in ({"image": 3}, {"image": {"records": 2, "some": "x"}}):
        with pytest.raises(BadInput, match="what they were trained on is damaged"):
            launching._refuse_other_data(tmp_path, damaged, now)


@pytest.mark.parametrize("mark", ["the same", "another", "", None])
def test_data_may_have_moved_where_their_mark_is_the_same(tmp_path, mark):
    """A checkpoint without one keeps the path, as one of 0.1.0 that of config.json."""
    probes = {"image": PROBES["image"] | {"mark": mark}, "word": {"mark": "x"}}
    stored = {n: {"mark": x["mark"] and "the same"} for n, x in probes.items()}
    stored["word"] = {"mark": "x"}
    borne_out = launching._moves(stored, probes)
    was = replaced(EXPERIMENT, {"data.data_dir": "a"})
    now = replaced(EXPERIMENT, {"data.data_dir": "b"})
    owners = [(describe(was), borne_out), (None, launching._moves([], probes))]
    save_config(was, tmp_path / "config.json")
    for owner, moves in owners[mark == "the same" :]:
        with pytest.raises(BadInput, match="data_dir: 'a' -> 'b'.; of what has moved"):
            launching._check_owner(tmp_path, owner, now, False, moves)
    if mark == "the same":
        launching._check_owner(tmp_path, describe(was), now, False, borne_out)


def test_data_may_not_have_moved_where_no_checkpoint_says_which_they_were(tmp_path):
    """Else a bundle whose checkpoints have been removed would be another data's."""
    moved = replaced(EXPERIMENT, {"data.data_dir": "b"})
    run(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(BadInput, match=r"data_dir: '' -> 'b'.*, or write --force"):
        run(tmp_path, moved)
    assert read_config(tmp_path / "config.json") == EXPERIMENT
    run(tmp_path, moved, force=True)
    assert read_config(tmp_path / "config.json") == moved


def test_checkpoints_that_do_not_say_whose_they_are_are_continued(
    tmp_path, monkeypatch
):
    """Those of 0.1.0, and their config.json decides."""
    monkeypatch.setattr("train.runtime.launch.describe", lambda _: None)
    run(tmp_path)
    monkeypatch.undo()
    longer = replaced(EXPERIMENT, {"run.steps": 8})
    toy.same(run(tmp_path, longer), run(tmp_path / "whole", longer))


def test_a_run_is_made_longer(tmp_path):
    """To the state and the log of one that was as long from the first, but for the line
    at the shorter one's end."""
    longer = replaced(EXPERIMENT, {"run.steps": 9})
    run(tmp_path / "a")
    toy.same(run(tmp_path / "a", longer), run(tmp_path / "b", longer))
    assert read_config(tmp_path / "a" / "config.json") == longer


@pytest.mark.parametrize("steps", [8, 4])
def test_another_length_of_a_cosine_takes_a_word(tmp_path, steps, monkeypatch):
    run(tmp_path, COSINE)
    changed = replaced(COSINE, {"run.steps": steps})
    before = everything(tmp_path)
    line = f"run.steps=6, where its schedule ends, and run.steps={steps} changes the "
    with pytest.raises(BadInput, match=f"{line}.*--reschedule") as caught:
        run(tmp_path, changed)
    assert "another experiment" not in str(caught.value)
    assert everything(tmp_path) == before
    # With config.json put right by hand, the checkpoints say it.
    config = (tmp_path / "config.json").read_bytes()
    save_config(changed, tmp_path / "config.json")
    with pytest.raises(BadInput, match=f"checkpoints was begun.*{line}"):
        run(tmp_path, changed)
    (tmp_path / "config.json").write_bytes(config)
    state = run(tmp_path, changed, reschedule=True)
    assert int(state.step) == max(6, steps)
    if steps > 6:
        run(tmp_path, changed)  # once said, it is
    with pytest.raises(BadInput, match="run.seed: .* -> 5"):
        run(tmp_path, replaced(COSINE, {"run.seed": 5}), reschedule=True)


def test_the_log_of_a_resumed_run_is_that_of_one_never_stopped(tmp_path):
    """Stopped where log_every does not divide: no step is left out of the means."""

    class Stopped(Exception):
        pass

    def stop(step, state):
        raise Stopped

    whole = replaced(EXPERIMENT, {"run.steps": 9})
    run(tmp_path / "a", whole)
    for step in (2, 6):  # each after its checkpoint
        with pytest.raises(Stopped):
            run(tmp_path / "b", whole, [Hook(stop, at=(step,))])
        # It was due at the step of a checkpoint, and so it is again.
        with pytest.raises(Stopped):
            run(tmp_path / "b", whole, [Hook(stop, at=(step,))])
    run(tmp_path / "b", whole)
    timed = ("time", "step_seconds", "examples_per_second")
    a, b = (read_metrics(tmp_path / name) for name in "ab")
    assert [row["step"] for row in b] == [4, 8, 9]
    for row in (*a, *b):
        times = {name: row.pop(name) for name in timed}
        whole = times["examples_per_second"] * times["step_seconds"]
        assert whole == pytest.approx(EXPERIMENT.run.batch)
    assert a == b


def test_a_picture_that_a_kill_prevented_is_drawn(tmp_path):
    drawn = []
    hooks = [Hook(lambda step, state: drawn.append(step), every=2)]
    run(tmp_path, hooks=hooks)
    assert drawn == [2, 4, 6]
    # As killed after the checkpoint of step 4, and before its picture.
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    run(tmp_path, hooks=hooks)
    assert drawn == [2, 4, 6, 4, 6]


@pytest.mark.parametrize("name", ["bundle", "best"])
def test_what_a_bundle_would_replace_is_known_before_the_training(tmp_path, name):
    """Notes beside the weights, or a file of that name."""
    (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "a" / name / "model.safetensors").write_text("x")
    (tmp_path / "a" / name / "notes.txt").write_text("x")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_text("x")
    more = f"^--workdir: .*would delete {name}/notes.txt"
    for run, said in (("a", more), ("b", f"{name} is a file, and a folder")):
        with pytest.raises(BadInput, match=said):
            with claimed(tmp_path / run, EXPERIMENT):
                raise AssertionError("it was let in")


def test_what_killed_runs_left_half_written_is_swept(tmp_path, capsys):
    run(tmp_path)
    mark = "0123456789abcdef" * 2
    (tmp_path / "samples").mkdir()
    left = [
        f".bundle.{mark}/model.safetensors",
        ".cache.17.new/cache.json",
        "config.json.4711.new",
        "samples/x_000002.png.99.new",
        ".cache.17.old/cache.json",
        f".bundle.old.{mark}/model.safetensors",
        f".bundle.old.{mark}/config.json",
    ]
    kept = ["cache/cache.json", "notes.new", f"data.{mark}", "samples/x.png"]
    for name in [*left, *kept]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    link = tmp_path / ".cache.18.old"
    link.symlink_to("cache")  # versions before moved a link aside, not where it leads
    with claimed(tmp_path, EXPERIMENT):
        assert not link.is_symlink()
        found = {str(p.relative_to(tmp_path)) for p in everything(tmp_path)}
        # Killed when the old bundle had made room and the new one had not come.
        back = {"bundle/config.json"}
        assert {*kept, *back} <= found and not found & set(left)
        assert (tmp_path / "bundle/config.json").read_text() == left[-1]
    said = f"{tmp_path}/bundle is back, as it was before a run was killed\n"
    assert said in capsys.readouterr().err
    sweep(tmp_path / "gone")


def test_a_checkpoint_of_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    stranger = {"class": "train.Gone", "fields": {}}
    monkeypatch.setattr("train.runtime.launch.describe", lambda _: stranger)
    run(tmp_path)
    with pytest.raises(BadInput, match="'train.Gone' is not .*use the version that"):
        run(tmp_path)
    # Nor is one of something else than an experiment.
    other = describe(EXPERIMENT.run)
    with pytest.raises(BadInput, match="cannot read: it is a Run; use the version"):
        launching._check_owner(tmp_path, other, EXPERIMENT, False, ())
    assert launching._check_owner(tmp_path, None, EXPERIMENT, False, ()) is None


def test_only_the_first_of_several_processes_holds_the_folder(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(hosts, "first", lambda: False)
    with claimed(folder, EXPERIMENT) as found:
        assert found == folder and not folder.exists()
    monkeypatch.undo()
    with claimed(folder, EXPERIMENT) as found:
        assert found == folder and (folder / FILE).exists()
