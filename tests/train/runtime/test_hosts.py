"""Two processes on this machine compute what one does."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from train.config import Mesh
from train.errors import BadInput
from train.pipeline import LatentCache
from train.runtime import hosts
from train.runtime.sharding import batch_sharding, make_mesh

ROOT = Path(__file__).parents[3]


def started(count, words, module="tests.train.runtime.two"):
    """The processes, each with its own device; they listen to no launcher of ours."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("SLURM")}
    environment |= {"JAX_PLATFORMS": "cpu"}
    # These programs are too small for their speed to matter.
    unoptimized = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    )
    environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {unoptimized}"
    among = [f"--coordinator=localhost:{port}", f"--processes={count}"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *words, *among, f"--process={i}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


def ended(processes, timeout=280):
    """(exit status, what it printed, what it said) of each; none is left behind."""
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of what one process makes."""
    folder = tmp_path_factory.mktemp("one")
    ((status, _, said),) = ended(started(1, [str(folder), "data"]), 800)
    assert status == 0, said
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("axis", ["data", "fsdp", "tensor"])
def test_two_processes_equal_one(axis, alone, tmp_path):
    """Both stages to their bundles; with a cache too, and their scores."""
    found = ended(started(2, [str(tmp_path), axis]), 800)
    for status, _, said in found:
        assert status == 0, said
    for run in ("tok", "direct", *(["cached"] if axis != "tensor" else [])):
        files = (folder / run / "bundle" for folder in (alone, tmp_path))
        one, two = (
            safetensors.numpy.load_file(bundle / "model.safetensors")
            for bundle in files
        )
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)
        rows = [_rows(folder / run) for folder in (alone, tmp_path)]
        assert [row["step"] for row in rows[1]] == [2, 4, 6]
        for a, b in zip(*rows, strict=True):
            np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-5)
            np.testing.assert_allclose(b["grad_norm"], a["grad_norm"], rtol=1e-4)
    contracts = [
        json.loads((folder / "tok/bundle/config.json").read_text())["contract"]
        for folder in (alone, tmp_path)
    ]
    for name in ("mean", "std"):
        a, b = (contract["fields"][name] for contract in contracts)
        np.testing.assert_allclose(b, a, atol=1e-5)
    if axis != "tensor":
        _same_cache(alone, tmp_path)
    if axis == "data":
        # The first alone prints figures. Both print a line of the collectives' library.
        assert ["psnr_db" in printed for _, printed, _ in found] == [True, False]
        for run in ("tok", "direct"):
            a, b = (
                json.loads((folder / run / "evaluation.json").read_text())
                for folder in (alone, tmp_path)
            )
            _close(b, a)


def _same_cache(alone, shared):
    caches = [LatentCache(folder / "cache") for folder in (alone, shared)]
    a, b = (each.take(np.arange(len(each))) for each in caches)
    np.testing.assert_array_equal(b["label"], a["label"])
    np.testing.assert_allclose(b["latents"], a["latents"], atol=1e-5)
    assert (b["codes"] == a["codes"]).mean() > 0.999  # the weights differ by rounding
    # Each process has written its own examples.
    for folder, count in ((alone, 1), (shared, 2)):
        assert len(list((folder / "cache").glob("*.array_record"))) == count


def _rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _close(found, wanted):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted.keys() - {"fingerprint"}:
            _close(found[name], wanted[name])
    elif isinstance(wanted, list):
        for a, b in zip(found, wanted, strict=True):
            _close(a, b)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    else:
        assert found == wanted


@pytest.mark.parametrize("begin", [hosts.alone, lambda: hosts.start({})])
def test_programs_compute_in_32_bits(begin, capsys):
    """Of 64 a run drew otherwise, and its checkpoints fitted no other run."""
    begin()
    assert capsys.readouterr().err == ""
    jax.config.update("jax_enable_x64", True)
    try:
        begin()
        assert not jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", False)
    assert "JAX_ENABLE_X64 is not followed" in capsys.readouterr().err


def test_alone_nothing_changes():
    x = np.arange(6.0).reshape(3, 2)
    assert hosts.first() and not hosts.several() and hosts.share() == (0, 1)
    np.testing.assert_array_equal(hosts.total(x), x)
    np.testing.assert_array_equal(hosts.joined(x), x)
    assert hosts.own(x) is x
    # Left on one device it would go to the others again in every step.
    whole = jax.NamedSharding(make_mesh(Mesh()), jax.P())
    assert hosts.everywhere({"x": jnp.asarray(x)}, whole)["x"].sharding == whole
    found = hosts.gather({"x": jnp.asarray(x)})["x"]
    assert isinstance(found, np.ndarray) and found.tolist() == x.tolist()
    own = BadInput("no")
    with pytest.raises(BadInput) as caught, hosts.together():
        raise own
    assert caught.value is own  # of whatever kind it is


@pytest.mark.parametrize("axis", ["data", "fsdp", "tensor"])
def test_rows_are_those_of_the_devices(axis):
    """With one process all of them, whichever way the mesh lies."""
    mesh = make_mesh(Mesh(**{"data": 1, axis: 8} if axis != "data" else {}))
    np.testing.assert_array_equal(hosts.rows(16, batch_sharding(mesh)), np.arange(16))


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"processes": 2}, "--coordinator is missing: write --coordinator=HOST:PORT"),
        ({"coordinator": "here:1", "processes": 2}, "--process is missing"),
        ({"coordinator": "here", "processes": 2, "process": 0}, "write HOST:PORT"),
        ({"coordinator": "here:x", "processes": 2, "process": 0}, "write HOST:PORT"),
        ({"coordinator": ":1", "processes": 2, "process": 0}, "write HOST:PORT"),
        ({"coordinator": "here:1", "processes": 0, "process": 0}, "write 1 or more"),
        ({"coordinator": "here:1", "processes": 2, "process": 2}, "write 0 to 1"),
    ],
)
def test_what_was_asked_is_checked(asked, message):
    with pytest.raises(BadInput, match=message):
        hosts.start(asked)


def test_the_environment_says_it_too(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(BadInput, match="JAX_NUM_PROCESSES=two: write a number"):
        hosts.start({})
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(BadInput, match="--coordinator is missing"):
        hosts.start({})


HERE = {"coordinator": "here:1", "processes": 2, "process": 1}
ASKED = {
    "coordinator_address": "here:1",
    "num_processes": 2,
    "process_id": 1,
    "cluster_detection_method": "deactivate",  # no launcher is asked
}
TOLD = {
    "JAX_COORDINATOR_ADDRESS": "here:1",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.mark.parametrize(
    "asked, environment, launched, joined",
    [
        (HERE, {}, True, ASKED),
        (HERE, {"JAX_NUM_PROCESSES": "7"}, False, ASKED),
        ({}, TOLD, True, ASKED),
        ({}, {}, True, {}),
        ({}, {}, False, None),
        (HERE | {"processes": 1, "process": 0}, {}, True, None),
        ({"processes": 1}, {}, True, None),
        ({}, {"JAX_NUM_PROCESSES": "1"}, True, None),
    ],
)
def test_processes_are_joined_as_they_were_told(
    asked, environment, launched, joined, monkeypatch
):
    """Flags before the environment, and that before a launcher."""
    calls, here = [], [False]
    monkeypatch.setattr(hosts.os, "environ", environment)
    monkeypatch.setattr(hosts, "launched", lambda _: launched)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: here[0])
    initialize = lambda **how: calls.append(how)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    hosts.start(asked)
    wait = {"initialization_timeout": 60}
    assert calls == ([] if joined is None else [wait | joined])
    here[0] = True
    hosts.start(asked)  # once is enough
    assert len(calls) == (joined is not None)


def test_processes_that_do_not_come_are_one_line(monkeypatch):
    def initialize(**_):
        raise RuntimeError("DEADLINE\n  exceeded")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(BadInput, match="did not find each other: DEADLINE exceeded$"):
        hosts.start(HERE)


STEP = {"SLURM_STEP_NODELIST": "a[1-2]"}


@pytest.mark.parametrize(
    "environment, several",
    [
        ({}, False),
        ({"JAX_NUM_PROCESSES": "1"}, False),
        ({"JAX_NUM_PROCESSES": "2"}, True),
        (STEP | {"SLURM_NTASKS": "1"}, False),
        (STEP | {"SLURM_NTASKS": "2"}, True),
    ],
)
def test_a_program_for_one_is_refused_to_several(environment, several, monkeypatch):
    monkeypatch.setattr(hosts.os, "environ", environment)
    if not several:
        return hosts.alone()
    with pytest.raises(BadInput, match="for one process, and several were started"):
        hosts.alone()


@pytest.mark.parametrize(
    "environment, several",
    [
        ({}, False),
        (STEP | {"SLURM_NTASKS": "1"}, False),
        (STEP | {"SLURM_NTASKS": "2"}, True),
        ({"SLURM_NTASKS": "2"}, False),  # in a batch script, outside srun
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1", "TPU_WORKER_HOSTNAMES": "a"}, True),
        ({"MEGASCALE_COORDINATOR_ADDRESS": "a"}, True),
        (STEP, False),
        ({"OMPI_MCA_orte_hnp_uri": "a"}, False),
        ({"OMPI_MCA_orte_hnp_uri": "a", "OMPI_COMM_WORLD_SIZE": "2"}, True),
    ],
)
def test_launchers_are_seen(environment, several):
    assert hosts.launched(environment) == several


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


@pytest.mark.parametrize(
    "environment, package, several",
    [
        (POD, True, True),
        (POD, False, False),  # JAX does not ask without it
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True, False),  # of no indexed job
        (POD | {"TPU_WORKER_HOSTNAMES": "a"}, True, False),
    ],
)
def test_pods_of_a_job_of_kubernetes_are_seen(
    environment, package, several, monkeypatch
):
    """Whose count only its server knows: a program for one is not refused there."""
    find = lambda name: object() if package and name == "kubernetes" else None
    monkeypatch.setattr(hosts.importlib.util, "find_spec", find)
    monkeypatch.setattr(hosts.os, "environ", environment)
    assert hosts.launched(environment) == several
    hosts.alone()


TOKENIZER = [f"--config={ROOT / 'tests/train/runtime/two_configs/tokenizer.py'}"]


def trained_for_a_while(workdir):
    """Two processes of a long run that have made some steps."""
    words = [*TOKENIZER, f"--workdir={workdir}", "--config.run.steps=100000"]
    words += ["--config.run.log_every=1"]
    processes = started(2, words, "train.stage_one")
    lines = workdir / "metrics.jsonl"
    while all(process.poll() is None for process in processes):
        if lines.exists() and lines.read_text().count("\n") > 3:
            break
        time.sleep(0.2)
    return processes


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signal_to_one_stops_both_at_one_step(tmp_path):
    processes = trained_for_a_while(tmp_path / "run")
    processes[1].send_signal(signal.SIGTERM)
    (one, _, said), (two, *_) = ended(processes)
    assert (one, two) == (143, 143), said
    assert "is saved; the same command continues" in said
    step = max(int(path.name) for path in (tmp_path / "run/checkpoints").iterdir())
    words = [f"--workdir={tmp_path / 'run'}", f"--config.run.steps={step + 2}"]
    (one, _, said), (two, *_) = ended(started(2, words, "train.stage_one"))
    assert (one, two) == (0, 0) and f"continuing from step {step}" in said
    assert (tmp_path / "run/bundle/config.json").exists()
    assert [row["step"] for row in _rows(tmp_path / "run")][-1] == step + 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_that_is_killed_ends_the_other(tmp_path):
    processes = trained_for_a_while(tmp_path / "run")
    processes[1].kill()
    started_waiting = time.monotonic()
    (status, *_), _ = ended(processes)
    assert status != 0 and time.monotonic() - started_waiting < 150


@pytest.mark.slow
def test_what_one_refuses_all_refuse(tmp_path):
    words = [*TOKENIZER, f"--workdir={tmp_path / 'run'}"]
    (tmp_path / "run").write_text("a file")
    found = ended(started(2, words, "train.stage_one"))
    for status, _, said in found:
        assert status == 2 and "is a file; write a folder" in said


@pytest.fixture
def two(monkeypatch):
    """This process is the second of two, and the first has what `others` says."""
    others = []

    def process_allgather(x, tiled=False):
        first = np.asarray(others.pop(0), np.asarray(x).dtype)
        return (np.concatenate if tiled else np.stack)([first, np.asarray(x)])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", process_allgather)
    return others


def as_sent(x, length=None):
    """The bytes in which an array is sent, filled up to a length."""
    rows = np.zeros((length or len(x), *x.shape[1:]), x.dtype)
    rows[: len(x)] = x
    return np.frombuffer(rows.tobytes(), np.uint8)


def test_what_all_say_is_heard_in_their_order(two):
    assert hosts.several() and not hosts.first() and hosts.share() == (1, 2)
    ours = np.array([[1.0, 1 / 3]])  # which has no float32
    theirs = np.array([[2.0, 3.0], [4.0, 5.0]])
    two += [2, as_sent(theirs)]
    for found, wanted in zip(hosts.exchanged(ours), (theirs, ours), strict=True):
        np.testing.assert_array_equal(found, wanted, strict=True)
    two += [1, as_sent(ours, 2)]
    np.testing.assert_array_equal(hosts.joined(theirs), [*ours, *theirs])
    two += [1, as_sent(ours)]
    np.testing.assert_array_equal(hosts.total(ours[0] * 2), ours[0] * 3)
    two += [len("né".encode()), np.frombuffer("né".encode(), np.uint8)]
    assert hosts.said_by_all("oui") == ["né", "oui"]
    assert not two


def test_one_line_refuses_all(two, monkeypatch):
    said = []
    monkeypatch.setattr(hosts, "said_by_all", lambda text: [*said, text])
    with hosts.together():
        pass
    with pytest.raises(BadInput, match="^ours$"), hosts.together():
        raise BadInput("ours")
    said.append("theirs")
    with pytest.raises(BadInput, match="^theirs$"), hosts.together():
        pass
    with pytest.raises(BadInput, match="^theirs$"), hosts.together():
        raise BadInput("ours")  # the first that refuses is heard


def test_what_the_system_refuses_one_all_refuse(two, monkeypatch):
    """And a defect of ours, which has a traceback, none but the one that has it."""
    said = []
    monkeypatch.setattr(hosts, "said_by_all", lambda text: said.append(text) or said)
    full = OSError(28, "No space left", "bundle")
    with pytest.raises(BadInput, match="No space left: 'bundle'"), hosts.together():
        raise full
    for defect in (OSError("of a library"), ValueError("defect")):
        with pytest.raises(type(defect)) as caught, hosts.together():
            raise defect
        assert caught.value is defect
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    with pytest.raises(OSError) as caught, hosts.together():
        raise full
    assert caught.value is full and len(said) == 1


@pytest.mark.parametrize(
    "error, status, said",
    [
        (BadInput("a\n b"), 2, "error: a b\n"),
        (ValueError("a defect"), 1, "ValueError: a defect\n"),
    ],
)
def test_an_error_ends_one_of_several_at_once(error, status, said, two, monkeypatch):
    """Of one process alone it goes on as always."""
    ended, stream = [], io.StringIO()
    monkeypatch.setattr(hosts.os, "_exit", ended.append)
    monkeypatch.setattr(sys, "stderr", stream)
    with hosts.fail_fast():
        raise error
    assert ended == [status] and stream.getvalue().endswith(said)
    assert ("Traceback" in stream.getvalue()) == (status == 1)
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    with pytest.raises(type(error)), hosts.fail_fast():
        raise error
    assert len(ended) == 1


def test_rows_of_a_process_become_arrays_over_all_devices(monkeypatch):
    """Here all devices are this process's, and so are all rows."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    sharding = batch_sharding(make_mesh(Mesh(2, 2, 2)))
    batch = {"x": np.arange(16.0).reshape(8, 2), "y": np.arange(16)}
    placed = hosts.place(batch, sharding)
    for name, x in batch.items():
        assert placed[name].sharding == sharding
        np.testing.assert_array_equal(placed[name], x)
    back = hosts.own(placed)
    assert all(type(x) is np.ndarray for x in back.values())
    whole = jax.NamedSharding(sharding.mesh, jax.P())
    found = hosts.everywhere({"z": batch["x"]}, whole)["z"]
    assert found.sharding == whole
    np.testing.assert_array_equal(found, batch["x"])


def test_it_is_fine_where_every_process_says_so(monkeypatch):
    for said in ([True, True], [True, False], [False, True]):
        parts = [np.array([one]) for one in said]
        monkeypatch.setattr(hosts, "exchanged", lambda x, parts=parts: parts)
        assert hosts.agreed(said[0]) == (said == [True, True])
