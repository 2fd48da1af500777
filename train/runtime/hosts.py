"""The processes of a run, one a host or several on one. No other file names a process.

A program is started once for every process, on a folder that all of them see. What a
process does alone (reading its rows, writing a file) it does between the calls of this
file that all make together; one that fails alone leaves through `together`.
"""

import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from train import progress
from train.errors import BadInput, one_line
from train.progress import as_called

# Flag -> the variable that says the same.
ENVIRONMENT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "processes": "JAX_NUM_PROCESSES",
    "process": "JAX_PROCESS_ID",
}
WAITING = 60  # seconds until processes that have not come are given up


def start(asked: Mapping[str, Any]) -> None:
    """Joins the processes of this run; before anything asks for a device.

    asked: coordinator "HOST:PORT", where process 0 listens; processes; process, from 0.
        Without them the environment's JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
        JAX_PROCESS_ID; without those whatever launcher JAX knows (SLURM, Open MPI, a
        TPU VM, GKE, an indexed job of Kubernetes where the package `kubernetes` is);
        and without one, or of one process and nothing else said, this one is alone.
    Raises BadInput for some without the others, and where the others do not come.
    """
    stay_in_32_bits()
    found = dict(asked) or {
        name: os.environ[variable] if name == "coordinator" else _number(variable)
        for name, variable in ENVIRONMENT.items()
        if variable in os.environ
    }
    if jax.distributed.is_initialized():
        return
    if found == {"processes": 1}:  # alone, whatever a launcher says
        return
    if found:
        _check(found)
        if found["processes"] == 1:
            return
        _initialize(
            coordinator_address=found["coordinator"],
            num_processes=found["processes"],
            process_id=found["process"],
            cluster_detection_method="deactivate",
        )
    elif launched(os.environ):
        _initialize()


def alone() -> None:
    """Raises BadInput where this is one of several: the program is for one process."""
    stay_in_32_bits()
    if _told(os.environ) or os.environ.get("JAX_NUM_PROCESSES", "1") != "1":
        raise BadInput(
            "this program is for one process, and several were started; start it once, "
            "as with srun --ntasks=1"
        )


def stay_in_32_bits() -> None:
    """Programs compute in 32 bits or fewer, and say so where JAX was told otherwise:
    of 64 there would be other draws, and other parameters than a checkpoint has."""
    if jax.config.read("jax_enable_x64"):
        jax.config.update("jax_enable_x64", False)
        progress.say(
            "JAX_ENABLE_X64 is not followed: what is trained and drawn has 32 bits"
        )


def _initialize(**found) -> None:
    try:
        jax.distributed.initialize(initialization_timeout=WAITING, **found)
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise BadInput(f"the processes did not find each other: {line}") from error


def _number(variable: str) -> int:
    try:
        return int(os.environ[variable])
    except ValueError:
        raise BadInput(f"{variable}={os.environ[variable]}: write a number") from None


def _check(found: Mapping[str, Any]) -> None:
    if missing := [name for name in ENVIRONMENT if name not in found]:
        raise BadInput(
            f"--{missing[0]} is missing: write --coordinator=HOST:PORT --processes=N "
            f"--process=I together, or {', '.join(ENVIRONMENT.values())}"
        )
    host, _, port = found["coordinator"].rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"--coordinator={found['coordinator']}: write HOST:PORT")
    if found["processes"] < 1:
        raise BadInput(f"--processes={found['processes']}: write 1 or more")
    if not 0 <= found["process"] < found["processes"]:
        raise BadInput(
            f"--process={found['process']}: write 0 to {found['processes'] - 1}"
        )


def launched(environment: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows has started several of us, or may have."""
    told = _told(environment)
    if told is not None:
        return told
    # Of an indexed job of Kubernetes only its server knows, and JAX asks it.
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= {*environment}
    if indexed and importlib.util.find_spec("kubernetes"):
        return True
    # On a TPU VM only its metadata server knows.
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    skipped = "TPU_SKIP_MDS_QUERY" in environment
    return bool(chips) and not skipped and bool(importlib.util.find_spec("libtpu"))


def _told(environment: Mapping[str, str]) -> bool | None:
    """Whether the environment names several; None where no launcher wrote it."""
    if "SLURM_STEP_NODELIST" in environment:
        return int(environment.get("SLURM_NTASKS", 1)) > 1
    if "OMPI_MCA_orte_hnp_uri" in environment:
        return int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
    if "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return True
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get(
        "TPU_WORKER_HOSTNAMES"
    )
    return None if workers is None else "," in workers


def first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


progress.speaks = first


def several() -> bool:
    """Whether the run has more than this process."""
    return jax.process_count() > 1


def share() -> tuple[int, int]:
    """(this process, how many there are), for work that is divided among them."""
    return jax.process_index(), jax.process_count()


def wait(name: str) -> None:
    """Until every process is here, with the same name."""
    if several():
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A part that each process does alone; all leave it, or none.

    What one refuses, or the system does, as a full disk, all refuse, with its line.
    Nothing inside may wait for the others.
    """
    refusal = ""
    try:
        yield
    except (BadInput, OSError) as error:
        if not several() or (isinstance(error, OSError) and error.errno is None):
            raise
        refusal = one_line(error)
    for line in said_by_all(refusal):
        if line:
            raise BadInput(line)


def said_by_all(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    return [
        each.tobytes().decode()
        for each in exchanged(np.frombuffer(text.encode(), np.uint8))
    ]


@contextlib.contextmanager
def fail_fast() -> Iterator[None]:
    """A part in which the processes wait for one another: an error ends this one here.

    Leaving as usual it would wait for the others, and they for it, for minutes.
    """
    try:
        yield
    except Exception as error:
        if not several():
            raise
        if isinstance(error, BadInput):
            print(f"error: {as_called(one_line(error))}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, BadInput) else 1)


def agreed(fine: bool) -> bool:
    """Whether it is fine on every process."""
    return all(part.item() for part in exchanged(np.asarray([fine])))


def exchanged(x: np.ndarray) -> list[np.ndarray]:
    """The arrays of all processes, of equal types and equal in all but their length."""
    if not several():
        return [x]
    lengths = multihost_utils.process_allgather(np.asarray(len(x)))
    rows = np.zeros((int(lengths.max()), *x.shape[1:]), x.dtype)
    rows[: len(x)] = x
    # As bytes: on its way through devices a float64 would become a float32.
    every = multihost_utils.process_allgather(np.frombuffer(rows.tobytes(), np.uint8))
    every = every.view(x.dtype).reshape(len(lengths), *rows.shape)
    return [each[:n] for each, n in zip(every, lengths, strict=True)]


def joined(x: np.ndarray) -> np.ndarray:
    """The rows of all processes, one process after another."""
    return np.concatenate(exchanged(x))


def total(x: np.ndarray) -> np.ndarray:
    """The sum over all processes, the same bits on each."""
    return np.sum(exchanged(np.asarray(x)[None]), axis=0)[0]


def rows(batch: int, sharding: jax.sharding.Sharding) -> np.ndarray:
    """Which of a batch's examples lie on this process's devices, in order."""
    slices = sharding.addressable_devices_indices_map((batch,)).values()
    return np.unique(np.concatenate([np.arange(batch)[index] for index in slices]))


def place(batch: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """A tree of this process's `rows` as one of arrays over all devices; None: the
    default one, of a single process."""
    if sharding is None or not several():
        return jax.device_put(batch, sharding)
    devices = len(sharding.device_set)
    mine = len(rows(devices, sharding))

    def put(x):
        count = len(x) * devices // mine
        held = rows(count, sharding)

        def part(index):
            low, high, _ = index[0].indices(count)
            here = np.searchsorted(held, low)
            return x[here : here + high - low]

        return jax.make_array_from_callback((count, *x.shape[1:]), sharding, part)

    return jax.tree.map(put, batch)


def everywhere(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Arrays that every process has, whole on every device of a replicated sharding."""
    if not several():
        return jax.device_put(tree, sharding)
    put = lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])
    return jax.tree.map(lambda x: put(np.asarray(x)), tree)


def gather(tree: Any) -> Any:
    """Arrays over all devices as NumPy arrays that every process has whole.

    One at a time: a device that waits for two collectives may wait for ever.
    """
    if not several():
        return jax.device_get(tree)
    take = lambda x: multihost_utils.process_allgather(x, tiled=True)
    local = lambda x: not isinstance(x, jax.Array) or x.is_fully_addressable
    return jax.tree.map(lambda x: np.asarray(x) if local(x) else take(x), tree)


def own(tree: Any) -> Any:
    """Arrays as this process can compute with them by itself."""
    return gather(tree) if several() else tree
