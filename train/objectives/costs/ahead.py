"""An experiment's train step compiled for TPUs that are not here."""

import contextlib
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from train.config import Experiment
from train.errors import BadInput, briefly
from train.objectives.costs.rehearsal import Rehearsal
from train.runtime.sharding import mesh_in_words
from train.runtime.timing import peak_bytes

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
CALL = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-done)?\(")
CHANNEL = re.compile(r"channel_id=\d+")
ARRAY = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")
# Without these the compiler asks a cloud's server what machine it is on, and waits.
ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def chips(topology: str) -> Sequence[jax.Device]:
    """The devices of a topology, such as "v5e:4x4" or "v4:2x2x1"; none need be here.

    Raises BadInput for one that the TPU's compiler does not know, and where this
    compiler, which needs no TPU, is not installed.
    """
    if not importlib.util.find_spec("libtpu"):
        raise BadInput(
            f"--topology={topology}: a TPU's compiler is not installed; it needs no "
            f"TPU: pip install 'vqdit[tpu]'"
        )
    kind, _, sides = topology.partition(":")
    how: dict[str, Any] = {"topology_name": topology}
    if kind == "v4":  # else its chips are halves
        how["chip_config_name"] = "megacore"
    if set(sides) <= {"1", "x"}:
        how["chips_per_host_bounds"] = [1, 1, 1]
    with _alone():
        try:
            found = topologies.get_topology_desc(platform="tpu", **how)
        except Exception as error:  # of the compiler's own kinds
            raise BadInput(
                f"--topology={topology}: {briefly(error)}; write one such as v5e:4x4"
            ) from error
        return found.devices


def ahead(experiment: Experiment, topology: str) -> dict:
    """What the train step needs of each chip of a topology, as printed.

    Bytes and FLOP are a chip's. Collectives are those written in the compiled program,
    with the bytes they return; layers of a scan are there once.

    Raises BadInput for what `chips` does, and where the program does not fit.
    """
    with _alone():
        rehearsal = Rehearsal(experiment, chips(topology))
        try:
            program, seconds, state = rehearsal.ahead()
        except jax.errors.JaxRuntimeError as error:
            if "memory" not in str(error):
                raise
            raise BadInput(
                f"{experiment.name} does not fit {topology}: {briefly(error)}; "
                f"write a smaller run.batch, another mesh, or remat"
            ) from error
    memory: Any = program.memory_analysis()
    text = program.as_text() or ""
    flop = (program.cost_analysis() or {}).get("flops")
    return {
        "experiment": experiment.name,
        "topology": topology,
        "devices": mesh_in_words(rehearsal.mesh),
        "dtype": rehearsal.dtype,
        "batch": experiment.run.batch,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "compile_seconds": seconds,
        "chip_bytes": {
            "arguments": memory.argument_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
            "all": peak_bytes(program),
        },
        "chip_gflop": None if flop is None else flop / 1e9,
        "kernels": text.count("tpu_custom_call"),
        "collectives": collectives(text),
        "jax": jax.__version__,
    }


def collectives(program: str) -> dict[str, dict[str, int]]:
    """Kind -> "count" and "bytes", in the text of a compiled program."""
    found = {name: {"count": 0, "bytes": 0} for name in COLLECTIVES}
    seen = set()
    for line in program.splitlines():
        if call := CALL.search(line):
            # What is fused with one is written in several places.
            if (channel := CHANNEL.search(line)) and channel[0] in seen:
                continue
            seen |= {channel[0]} if channel else set()
            found[call[2]]["count"] += 1
            found[call[2]]["bytes"] += sum(
                _bytes(*array) for array in ARRAY.findall(call[1])
            )
    return found


def _bytes(kind, bits, shape):
    """Of an array such as bf16[2,3]; "pred", which states no bits, takes a byte."""
    sides = [int(side) for side in shape.split(",") if side]
    return max(int(bits or 8) // 8, 1) * math.prod(sides)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ALONE}
    os.environ.update({n: v for n, v in ALONE.items() if before[n] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
