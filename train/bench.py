"""How fast an experiment runs here, and what share of this machine that is.

python -m train.bench --config=configs/imagenet_dit.py --variant=s_2 \\
    --config.run.batch=8 --config.model.dtype=float32 --config.model.remat=None \\
    --config.model.scan=False

Times the train step as the loop runs it (donated, one program) and the forward pass,
on random data, as medians over interleaved repeats, beside the best matrix product of
the same precision that this machine does in the same minutes. Prints JSON.

With --search instead: the nearest-code search beside the whole matrix of distances,
its options and figures those of train.bench_search.
"""

import json
import resource
import statistics
import time

import jax
import jax.numpy as jnp

from train.config import Experiment, StageOne
from train.config.command import parse
from train.config.validate import validate
from train.errors import BadInput, run
from train.objectives import start, streams
from train.runtime.flops import macs
from train.runtime.log import say
from train.runtime.sharding import (
    DIT_RULES,
    TOKENIZER_RULES,
    batch_sharding,
    create_state,
    make_mesh,
)
from vqdit.nn import Continuous

# Sides of the square matrix products tried; the best is the machine's rate.
SIDES = {"cpu": (1024, 2048, 3072), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)}


def random_batch(experiment: Experiment, key: jax.Array):
    """A training batch of the experiment's shapes."""
    rows = experiment.run.batch
    if isinstance(experiment, StageOne):
        data = experiment.data
        shape = (rows, *data.shape)
        if data.pixels:
            pixels = jax.random.randint(key, shape, 0, 256).astype(jnp.uint8)
            return {data.kind: pixels}
        return {data.kind: jax.random.uniform(key, shape, minval=-1.0)}
    streams = {}
    for i, stream in enumerate(experiment.model.streams):
        stream_key, shape = jax.random.fold_in(key, i), (rows, *stream.shape)
        if isinstance(stream, Continuous):
            streams[stream.name] = jax.random.normal(stream_key, shape)
        else:
            streams[stream.name] = jax.random.randint(
                stream_key, shape, 0, stream.vocab
            )
    classes = max(experiment.model.classes, 1)
    return {"streams": streams, "label": jax.random.randint(key, (rows,), 0, classes)}


def forward_of(experiment: Experiment):
    """(function, its arguments after the parameters): one pass of the network."""
    if isinstance(experiment, StageOne):
        x = jnp.zeros((experiment.run.batch, *experiment.data.shape))
        return lambda variables, x: experiment.model.apply(variables, x)[0], (x,)
    arguments = streams.example(experiment.model, experiment.run.batch)
    return experiment.model.apply, arguments


def median_ms(functions: dict, repeats: int) -> dict[str, float]:
    """Medians of the functions' times in milliseconds, all interleaved, after one
    round of warming up; each function waits for its own results."""
    times = {name: [] for name in functions}
    for i in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            if i:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def matrix_products(dtype: str) -> dict:
    """Name -> (function, FLOP of a call), of square products."""
    found = {}
    for side in SIDES.get(jax.default_backend(), SIDES["cpu"]):
        a = jax.random.normal(jax.random.key(side), (side, side)).astype(dtype)
        product = jax.jit(jnp.matmul).lower(a, a).compile()
        found[f"{side}"] = (lambda p=product, a=a: p(a, a), 2 * side**3)
    return found


def bench(experiment: Experiment, repeats: int = 10) -> dict:
    """The figures, as printed."""
    first = isinstance(experiment, StageOne)
    mesh = make_mesh(experiment.mesh)
    if first:
        init, step = start.build(experiment, start.open_start(experiment))
    else:
        init, step = streams.build(experiment)
    rules = TOKENIZER_RULES if first else DIT_RULES
    state = create_state(init, rules, mesh)
    batch = jax.device_put(
        random_batch(experiment, jax.random.key(0)), batch_sharding(mesh)
    )
    layout = jax.tree.map(lambda x: x.sharding, state)
    began = time.perf_counter()
    program = (
        jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
        .lower(state, batch)
        .compile()
    )
    compile_seconds = time.perf_counter() - began

    apply, arguments = forward_of(experiment)
    variables = {"params": jax.tree.map(jnp.copy, state.params), **state.stats}
    variables = jax.tree.map(jnp.copy, variables)  # the step donates the state's
    arguments = jax.device_put(arguments, batch_sharding(mesh))
    forward = jax.jit(apply).lower(variables, *arguments).compile()
    forward_macs = macs(apply, variables, *arguments)

    held = {"state": state}

    def one_step():
        held["state"], metrics = program(held["state"], batch)
        return metrics

    dtype = getattr(experiment.model, "dtype", None) or experiment.model.encoder.dtype
    products = matrix_products(dtype)
    functions = {"step": one_step, "forward": lambda: forward(variables, *arguments)}
    functions |= {name: function for name, (function, _) in products.items()}
    ms = median_ms(functions, repeats)

    devices, rows = jax.device_count(), experiment.run.batch
    rates = {name: flop / ms[name] / 1e6 for name, (_, flop) in products.items()}
    best = max(rates.values())
    # A backward pass is two products for each forward one; recomputation and the
    # optimizer are work that the count does not credit.
    gflops = {
        "forward": 2 * forward_macs / ms["forward"] / 1e6 / devices,
        "step": 6 * forward_macs / ms["step"] / 1e6 / devices,
    }
    memory = program.memory_analysis()
    peak = jax.devices()[0].memory_stats() or {}
    return {
        "experiment": experiment.name,
        "backend": jax.devices()[0].device_kind,
        "devices": devices,
        "dtype": dtype,
        "batch": rows,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "forward_gmacs_per_example": forward_macs / rows / 1e9,
        "compile_seconds": compile_seconds,
        "step_ms": ms["step"],
        "forward_ms": ms["forward"],
        "examples_per_second": 1e3 * rows / ms["step"],
        "step_gflop_per_second_per_device": gflops["step"],
        "forward_gflop_per_second_per_device": gflops["forward"],
        "matrix_product_gflop_per_second": best,
        "step_share_of_matrix_product": gflops["step"] / best,
        "forward_share_of_matrix_product": gflops["forward"] / best,
        "program_bytes": {
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
    if "--search" in argv:
        from train import bench_search

        return bench_search.main([word for word in argv if word != "--search"])
    command = parse(argv, Experiment, flags={"repeats": int})
    repeats = command.flags.get("repeats", 10)
    if repeats < 1:
        raise BadInput(f"--repeats={repeats}: write 1 or more")
    validate(command.experiment, jax.device_count(), tokenizers=False)
    say(f"compiling {command.experiment.name}")
    print(json.dumps(bench(command.experiment, repeats), indent=1))


if __name__ == "__main__":
    run(main)
