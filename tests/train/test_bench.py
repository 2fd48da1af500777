"""The suite of rates: on a bare machine, within its time, whatever fails."""

import json
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from configs import digits_joint
from tests.train.devices import only_one
from train import bench
from train.config import replaced
from train.errors import BadInput
from train.objectives import costs, machine
from train.objectives.costs import of_streams, stream_costs
from vqdit.diffusion import Mixture
from vqdit.dit import DiT
from vqdit.nn import Block

one_device = pytest.fixture(only_one)

# What a machine with jax, flax, optax and orbax alone lacks.
BARE = """
import sys

LACKS = {"grain", "tensorflow_datasets", "tensorflow", "array_record", "sklearn",
         "soundfile", "av", "matplotlib", "tensorboardX", "constriction"}


class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKS:
            raise ModuleNotFoundError(f"a bare machine has no {name}", name=name)


sys.meta_path.insert(0, Lacking())
from train import bench
from train.errors import run

run(bench.main)
"""


@pytest.mark.slow
def test_the_suite_runs_on_a_bare_machine():
    words = ["--suite", "--small", "--only=product bfloat16,copy,search 256"]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["rows"]) == [
        *("product bfloat16", "copy", "search 256 x 8", "whole search 256 x 8")
    ]
    assert all(row["rate"] > 0 for row in found["rows"].values()), done.stderr
    assert all(name in done.stderr for name in found["rows"])


@pytest.mark.slow
def test_a_row_that_fails_says_why_and_the_others_run():
    def refuse():
        raise MemoryError("out of\n memory")

    fine = lambda: {"rate": 4.0, "unit": "GFLOP/s"}
    half = lambda: {"rate": 1.0, "unit": "samples/s", "gflops": 2.0, "of": "a"}
    items = {"a": fine, "b": refuse, "c": half}
    rows = machine.suite(items=items)["rows"]
    assert rows["a"]["rate"] == 4.0 and rows["c"]["share"] == 0.5
    assert rows["b"]["failed"] == "MemoryError: out of memory"
    late = machine.suite(1e-9, items=items)["rows"]
    assert {row["failed"] for row in late.values()} == {"the 1e-09 minutes were over"}
    assert list(machine.suite(only=("c",), items=items)["rows"]) == ["c"]


@pytest.mark.slow
def test_every_row_has_a_rate_or_a_kernel_that_a_cpu_lacks(one_device):
    rows = machine.suite(60.0, ("DiT-B/2", "VQ-16"), small=True)["rows"]
    failed = {name: row["failed"] for name, row in rows.items() if "failed" in row}
    assert all("cudnn" in name or "flash" in name for name in failed), failed
    assert len(rows) == 4 + 1 + 1 + 4


@pytest.mark.slow
def test_streams_are_timed_beside_models_of_some_of_them(one_device):
    small = {"model": DiT(width=8, depth=1, block=Block(2)), "run.batch": 2}
    experiment = replaced(digits_joint.CONFIG, small)
    found = stream_costs(experiment, 1, 2)
    steps = found["train_step"]
    assert list(steps) == [
        *("all", "all, no mask", "image alone", "name alone", "sum alone")
    ]
    for key in ("ms", "cpu_ms", "bytes"):
        alone = steps["image alone"][key] + steps["name alone"][key]
        assert steps["sum alone"][key] == pytest.approx(alone) and steps["all"][key] > 0
    assert list(found["draw"]) == [
        f"{pair}, of {of}"
        for pair in ("image from name", "name from image")
        for of in ("all", "two")
    ]


def test_each_of_three_streams_is_drawn_from_the_one_before_it(monkeypatch):
    """By the model of all and by one of the two, in the order of the experiment."""
    experiment = types.SimpleNamespace(
        streams=dict.fromkeys("abc"), run=types.SimpleNamespace(batch=2)
    )
    of = lambda experiment, names: types.SimpleNamespace(streams=dict.fromkeys(names))
    asked = []

    def rehearsal(experiment):
        train_step = lambda: (None, None, None, "step")
        streams = "".join(experiment.streams)
        return types.SimpleNamespace(train_step=train_step, streams=streams)

    monkeypatch.setattr(costs, "of_streams", of)
    monkeypatch.setattr(costs, "Rehearsal", rehearsal)
    monkeypatch.setattr(costs, "peak_bytes", lambda program: 1)
    monkeypatch.setattr(costs, "_generator", lambda rehearsal: rehearsal.streams)
    monkeypatch.setattr(costs, "_draw", lambda *how: asked.append(how[:3]))
    monkeypatch.setattr(costs, "_timed", lambda each, _: {name: {} for name in each})
    found = stream_costs(experiment)["draw"]
    assert list(found)[::2] == [
        f"{pair}, of all" for pair in ("a from c", "b from a", "c from b")
    ]
    assert [draw for draw in asked if draw[0] != "abc"] == [
        *(("ac", "c", "a"), ("ab", "a", "b"), ("bc", "b", "c"))
    ]


def test_beside_it_stands_a_model_without_masks():
    """Of the same streams: nothing is given to it, or absent."""
    whole = digits_joint.CONFIG
    plain = of_streams(whole, tuple(whole.streams))
    assert plain == replaced(whole, {"mixture": Mixture(), "data": plain.data})
    assert plain.data == whole.sources and plain.mixture != whole.mixture


def test_a_model_of_one_stream_has_nothing_to_compare():
    with pytest.raises(BadInput, match="several streams, and the model has one"):
        stream_costs(of_streams(digits_joint.CONFIG, ("image",)))
    with pytest.raises(BadInput, match="--streams is of an experiment of stage two"):
        bench.main(["--config=demo_tokenizer", "--streams=True"])


def test_a_step_is_three_products_for_each_one_forward(monkeypatch):
    """One and two for its gradients, of two operations each: 4e9 products in a second
    are 24 GFLOP/s."""
    rehearsal = types.SimpleNamespace(
        experiment=types.SimpleNamespace(run=types.SimpleNamespace(batch=4)),
        dtype="float32",
        macs=lambda: 4 * 10**9,
        train_step=lambda: ("program", 0.0, None, "step"),
    )
    monkeypatch.setattr(machine, "_opened", lambda *_: rehearsal)
    monkeypatch.setattr(machine, "median_ms", lambda functions, _: {"step": 1e3})
    monkeypatch.setattr(machine, "peak_bytes", {"program": 2**31}.get)
    found = machine._training("x", ())
    assert found["gflops"] * jax.device_count() == 24
    assert found["rate"] == 4 and found["gib"] == 2


def test_a_guided_sampler_asks_its_network_twice_a_step(monkeypatch):
    """A network of 1e9 products an example, drawn from in a second: 50 steps of 2e9,
    twice, of the two that are drawn at once."""
    rehearsal = types.SimpleNamespace(
        experiment=types.SimpleNamespace(run=types.SimpleNamespace(batch=4)),
        model=types.SimpleNamespace(init=lambda key: {"params": jnp.zeros(1)}),
        arguments=(),
        processes={},
        dtype="float32",
        macs=lambda: 4 * 10**9,
    )
    asked = []

    def sampler(**how):
        asked.append(how)
        return lambda key, ids, label: ids

    made = types.SimpleNamespace(sampler=sampler)
    monkeypatch.setattr(machine, "_opened", lambda *_: rehearsal)
    monkeypatch.setattr(machine, "Generator", lambda *_: made)
    monkeypatch.setattr(machine, "median_ms", lambda functions, repeats: {"draw": 1e3})
    found = machine._sampling(True)
    assert asked == [{"steps": 50, "guidance": 4.0, "decode": False}]
    assert found["gflops"] == 50 * 2 * 2 * 2 and found["rate"] == 2
    assert found["of"] == "product float32"
