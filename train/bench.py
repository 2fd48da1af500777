"""How fast an experiment runs here, and what share of this machine that is.

python -m train.bench --config=configs/imagenet_dit.py --variant=s_2 \\
    --config.run.batch=8 --config.model.dtype=float32 --config.model.remat=None \\
    --config.model.scan=False

Times the train step as the loop runs it (donated, one program) and the forward pass,
on random data, as medians over interleaved repeats, beside the best matrix product of
the same precision that this machine does in the same minutes. Prints JSON.

python -m train.bench --config=configs/spoken_written.py --streams=True

What streams cost: a step of the model of several beside one of each, and of the same
without masks; drawing one stream from another beside a model of these two; memory.

python -m train.bench --config=configs/imagenet_dit.py --variant=xl_2 --topology=v5e:4x4

What the train step needs of each chip of TPUs that are not here: compiled ahead by
their own compiler (`pip install 'vqdit[tpu]'`), its memory, work, kernels and
collectives on the experiment's mesh; or one line where it does not fit.

python -m train.bench --suite [--minutes=8] [--only=DiT-B/2,search] [--small]

What a new machine does, in one command: its matrix and copy rates, training of two DiTs
by each attention and each rematerialisation and of LlamaGen's VQ-16, searches for the
nearest code, and a sampler; each with its rate, the share of the machine's own and the
memory it needs. A row that fails says why, and those after it run; once `minutes` are
over, no further row begins. Prints JSON and, on stderr, a table.
"""

import json
import resource

import jax
import jax.numpy as jnp

from train.config import Experiment, StageTwo
from train.config.command import OF_RUN, parse
from train.config.validate import validate
from train.errors import BadInput, arguments, run
from train.objectives.costs.ahead import ahead, chips
from train.objectives.costs.machine import suite
from train.objectives.costs.rehearsal import Rehearsal
from train.objectives.costs.streams import stream_costs
from train.progress import say
from train.runtime import hosts
from train.runtime.timing import matrix_products, median_ms
from vqdit.fields import Count, Names, Positive

SUITE = {
    "suite": (bool, "what a new machine does, instead of one experiment"),
    "minutes": (Positive, "of the suite: after so many no further row begins (8)"),
    "only": (Names, "of the suite: rows whose name has one of these words"),
    "small": (bool, "of the suite: tiny sizes, to see that everything runs"),
}
FLAGS = OF_RUN | {
    "repeats": (Count, "calls of each program, interleaved (10)"),
    "streams": (bool, "of several streams: the model beside those of some of them"),
    "topology": (str, "TPUs that need not be here, such as v5e:4x4: what they need"),
    **SUITE,
}


def bench(experiment: Experiment, repeats: int = 10) -> dict:
    """The figures of one experiment, as printed."""
    rehearsal = Rehearsal(experiment)
    program, compile_seconds, state, step = rehearsal.train_step()
    # Copies: the step donates the state's.
    variables = jax.tree.map(jnp.copy, {"params": state.params, **state.stats})
    arguments = rehearsal.arguments
    forward = jax.jit(rehearsal.forward).lower(variables, *arguments).compile()

    products = matrix_products(rehearsal.dtype)
    functions = {"step": step, "forward": lambda: forward(variables, *arguments)}
    functions |= {name: function for name, (function, _) in products.items()}
    ms = median_ms(functions, repeats)

    devices, rows = jax.device_count(), experiment.run.batch
    best = max(flop / ms[name] / 1e6 for name, (_, flop) in products.items())
    # A backward pass is two products for each forward one; recomputation and the
    # optimizer are work that the count does not credit.
    macs = rehearsal.macs()
    gflops = {
        "forward": 2 * macs / ms["forward"] / 1e6 / devices,
        "step": 6 * macs / ms["step"] / 1e6 / devices,
    }
    memory = program.memory_analysis()
    peak = jax.devices()[0].memory_stats() or {}
    return {
        "experiment": experiment.name,
        "backend": jax.devices()[0].device_kind,
        "devices": devices,
        "dtype": rehearsal.dtype,
        "batch": rows,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "forward_gmacs_per_example": macs / rows / 1e9,
        "compile_seconds": compile_seconds,
        "step_ms": ms["step"],
        "forward_ms": ms["forward"],
        "examples_per_second": 1e3 * rows / ms["step"],
        "step_gflop_per_second_per_device": gflops["step"],
        "forward_gflop_per_second_per_device": gflops["forward"],
        "matrix_product_gflop_per_second": best,
        "step_share_of_matrix_product": gflops["step"] / best,
        "forward_share_of_matrix_product": gflops["forward"] / best,
        "program_bytes": memory  # where the backend says it
        and {
            "arguments": memory.argument_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
        },
        "peak_bytes_of_device": peak.get("peak_bytes_in_use"),
        "peak_bytes_of_process": 1024
        * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "repeats": repeats,
        "jax": jax.__version__,
    }


def main(argv=None):
    argv = arguments(argv)
    hosts.alone()
    names = {word.partition("=")[0] for word in argv}
    if "--suite" in names and not {"--help", "-h"} & names:
        flags = parse(argv, None, SUITE).flags
        if not flags["suite"]:
            raise BadInput("--suite=False: leave it out")
        only = flags.get("only", ("",))
        found = suite(flags.get("minutes", 8.0), only, flags.get("small", False))
        print(json.dumps(found, indent=1))
        return
    if "--search" in names:
        raise BadInput("--search is a part of the suite: write --suite --only=search")
    command = parse(argv, Experiment, FLAGS)
    for name in command.flags.keys() & SUITE:
        raise BadInput(f"--{name} is of the suite: write --suite too")
    flags = dict(command.flags)
    streams, topology = flags.pop("streams", False), flags.pop("topology", None)
    if topology is not None:
        for name in command.flags.keys() & {"streams", "repeats"}:
            raise BadInput(f"--{name} times calls, and --topology makes none; drop one")
    if streams and not isinstance(command.experiment, StageTwo):
        raise BadInput("--streams is of an experiment of stage two; drop it")
    count = jax.device_count() if topology is None else len(chips(topology))
    validate(command.experiment, count, tokenizers=False)
    say(f"compiling {command.experiment.name}")
    if topology is not None:
        print(json.dumps(ahead(command.experiment, topology), indent=1))
        return
    measure = stream_costs if streams else bench
    print(json.dumps(measure(command.experiment, **flags), indent=1))


if __name__ == "__main__":
    run(main)
