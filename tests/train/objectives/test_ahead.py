"""Programs compiled for TPUs that are not here: what they need, and what is refused."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from tests import toys
from tests.train.devices import only_one
from train import bench
from train.config import Mesh
from train.errors import BadInput
from train.objectives.costs.ahead import chips, collectives
from train.runtime.sharding import batch_sharding, by_example, make_mesh, replicated
from vqdit.diffusion import Confidence, Gaussian, Masking
from vqdit.nn import Continuous, Discrete

one_device = pytest.fixture(only_one)
LACKING = importlib.util.find_spec("libtpu") is None

PROGRAM = """
  %a = bf16[4,8]{1,0} all-gather(bf16[2,8]{1,0} %x), channel_id=3, dimensions={0}
  %f = bf16[4,8]{1,0} all-gather(bf16[2,8]{1,0} %x), channel_id=3, dimensions={0}
  %b = (f32[3]{0}, s32[]) all-reduce(f32[3]{0} %y, s32[] %z), to_apply=%all-gather.1
  %c = (f32[2]{0}, f32[8]{0}) all-gather-start(f32[2]{0} %y), channel_id=4
  %d = f32[8]{0} all-gather-done((f32[2]{0}, f32[8]{0}) %c)
  ROOT %e = pred[5]{0} collective-permute(pred[5]{0} %p)
"""


def test_collectives_are_counted_with_the_bytes_they_return():
    none = {"count": 0, "bytes": 0}
    assert collectives(PROGRAM) == {
        "all-gather": {"count": 2, "bytes": 2 * 32 + 4 * 8},
        "all-reduce": {"count": 1, "bytes": 4 * 3 + 4},
        "reduce-scatter": none,
        "all-to-all": none,
        "collective-permute": {"count": 1, "bytes": 5},
    }


@pytest.mark.skipif(not LACKING, reason="the extra vqdit[tpu] is installed")
def test_without_the_compiler_it_says_what_to_install():
    words = ["--config=imagenet_dit", "--variant=s_2", "--topology=v5e:2x2"]
    with pytest.raises(BadInput, match=r"^--topology=v5e:2x2: .*pip install 'vqdit\["):
        bench.main(words)


@pytest.mark.parametrize("more", ["--streams", "--repeats=3"])
def test_what_is_timed_is_no_part_of_it(more):
    words = ["--config=imagenet_dit", "--variant=s_2", "--topology=v5e:2x2", more]
    with pytest.raises(BadInput, match=f"^{more[:9].rstrip('=')}.* drop one$"):
        bench.main(words)


def compiled(*words):
    """What the program prints, in a process of its own: TPU's flags are not a CPU's."""
    command = [sys.executable, "-m", "train.bench", *words]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


DIT = ("--config=imagenet_dit", "--variant=s_2", "--config.model.depth=2")


@pytest.mark.slow
@pytest.mark.skipif(LACKING, reason="the extra vqdit[tpu] is not installed")
@pytest.mark.parametrize(
    "words",
    [
        (*DIT, "--config.mesh.fsdp=4"),
        ("--config=demo_tokenizer", "--config.mesh.fsdp=2"),
        ("--config=spoken_written", "--config.mesh.fsdp=4"),
    ],
    ids=lambda words: "-".join(words).replace("--config", ""),
)
def test_a_train_step_compiles_for_a_pod(words):
    done = compiled(*words, "--topology=v5e:2x2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"].startswith("4 TPU v5 lite")
    sent = {name: row["bytes"] for name, row in found["collectives"].items()}
    # Less than the parameters and their gradients, three times over, and by Muon the
    # averages that it makes orthogonal: no activation.
    times = 4 if "--config=spoken_written" in words else 3
    assert 0 < sum(sent.values()) < times * 4 * found["parameters"]
    assert sent["all-gather"] > 0
    assert found["kernels"] >= (2 if "--config=imagenet_dit" in words else 0)
    needed = found["chip_bytes"]
    assert needed["all"] >= needed["temporary"] > 0 and found["chip_gflop"] > 0


@pytest.mark.slow
@pytest.mark.skipif(LACKING, reason="the extra vqdit[tpu] is not installed")
@pytest.mark.parametrize(
    "more, message",
    [
        (("--topology=v5e:3x3",), "--topology=v5e:3x3: "),
        (("--topology=abacus:2x2",), "--topology=abacus:2x2: "),
        (
            ("--topology=v5e:2x2", "--config.run.batch=16384"),
            "dit_s_2 does not fit v5e:2x2: ",
        ),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), "mesh"),
    ],
)
def test_what_a_pod_does_not_take_is_one_line(more, message):
    done = compiled(*DIT, *more)
    *_, line = done.stderr.splitlines()
    assert done.returncode == 2 and message in line, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(LACKING, reason="the extra vqdit[tpu] is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, Confidence()], ids=["flow", "masked"])
def test_a_sampler_compiles_for_a_tpu(solver):
    """Of one chip, by its attention kernel."""
    mesh = make_mesh(Mesh(), chips("v5e:1x1"))
    place = lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=replicated(batch_sharding(mesh))
    )
    stream, process = Continuous("x", (16, 8), 4), Gaussian()
    if solver is not None:
        stream, process = Discrete("x", (16, 8), 16), Masking()
    made = toys.generator((stream,), {"x": process}, classes=3)
    draw = made.sampler(steps=4, guidance=2.0, solver=solver)
    call = lambda params, key, ids, label: draw(key, ids, label=label, params=params)
    ids = jnp.arange(4)
    of = (made.params, jax.random.key(0), ids, ids % 3)
    program = jax.jit(by_example(call, batch_sharding(mesh)))
    text = program.lower(*jax.tree.map(place, of)).compile().as_text()
    assert "tpu_custom_call" in text
