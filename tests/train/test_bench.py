"""The suite of rates: on a bare machine, within its time, whatever fails."""

import json
import subprocess
import sys

import pytest

from configs import digits_joint
from tests.train.devices import only_one
from train import bench
from train.config import replaced
from train.errors import BadInput
from train.objectives.costs import of_streams, stream_costs
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
    rows = bench.suite(items=items)["rows"]
    assert rows["a"]["rate"] == 4.0 and rows["c"]["share"] == 0.5
    assert rows["b"]["failed"] == "MemoryError: out of memory"
    late = bench.suite(1e-9, items=items)["rows"]
    assert {row["failed"] for row in late.values()} == {"the 1e-09 minutes were over"}
    assert list(bench.suite(only=("c",), items=items)["rows"]) == ["c"]


@pytest.mark.slow
def test_every_row_has_a_rate_or_a_kernel_that_a_cpu_lacks(one_device):
    rows = bench.suite(60.0, ("DiT-B/2", "VQ-16"), small=True)["rows"]
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


def test_a_model_of_one_stream_has_nothing_to_compare():
    with pytest.raises(BadInput, match="several streams, and the model has one"):
        stream_costs(of_streams(digits_joint.CONFIG, ("image",)))
    with pytest.raises(BadInput, match="--streams is of an experiment of stage two"):
        bench.main(["--config=demo_tokenizer", "--streams=True"])
