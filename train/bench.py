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

python -m train.bench --suite [--minutes=8] [--only=DiT-B/2,search] [--small]

What a new machine does, in one command: its matrix and copy rates, training of two DiTs
by each attention and each rematerialisation and of LlamaGen's VQ-16, searches for the
nearest code, and a sampler; each with its rate, the share of the machine's own and the
memory it needs. A row that fails says why, and those after it run; once `minutes` are
over, no further row begins. Prints JSON and, on stderr, a table.
"""

import json
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp

from train.config import Experiment, StageTwo
from train.config.command import OF_RUN, parse
from train.config.validate import validate
from train.errors import BadInput, run
from train.objectives.costs import stream_costs
from train.objectives.rehearsal import Rehearsal
from train.progress import say
from train.runtime import hosts
from train.runtime.timing import (
    copy_rate,
    matrix_products,
    matrix_rate,
    median_ms,
    peak_bytes,
)
from vqdit.fields import Count, Positive
from vqdit.nn.attention import Implementation
from vqdit.quantizers import nearest
from vqdit.trained import Generator

SUITE = {
    "suite": (bool, "what a new machine does, instead of one experiment"),
    "minutes": (Positive, "of the suite: after so many no further row begins (8)"),
    "only": (tuple[str, ...], "of the suite: rows whose name has one of these words"),
    "small": (bool, "of the suite: tiny sizes, to see that everything runs"),
}
FLAGS = OF_RUN | {
    "repeats": (Count, "calls of each program, interleaved (10)"),
    "streams": (bool, "of several streams: the model beside those of some of them"),
    **SUITE,
}
# Keeps matrix products, so that only what is cheap is computed again.
POLICY = "dots_with_no_batch_dims_saveable"
# Variant of configs/imagenet_dit.py, and a batch that fits the memory of one card.
DITS = {"DiT-B/2": ("b_2", 256), "DiT-XL/2": ("xl_2", 64)}
DIT, VQ, VQ_BATCH = "imagenet_dit", "llamagen_vq16", 16
# What --small makes of them.
SMALL_DIT = (
    "--config.model.depth=1",
    "--config.model.width=48",
    "--config.model.block.heads=2",
    "--config.run.batch=2",
)
SMALL_VQ = (
    "--config.adversarial=None",
    "--config.data.size=32",
    "--config.run.batch=1",
    *(
        f"--config.model.{net}.{field}"
        for net in ("encoder", "decoder")
        for field in ("channels=32", "multipliers=(1,1)", "attention=()", "blocks=1")
    ),
)


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


def suite(
    minutes: float = 8.0,
    only: tuple[str, ...] = ("",),
    small: bool = False,
    items: dict[str, Callable[[], dict]] | None = None,
) -> dict:
    """The rows of the suite by name, the most telling first, as printed.

    Of each the rate with its unit, share of the machine's own rate, memory in GiB and
    seconds; or "failed", with the reason in one line.
    """
    end = time.monotonic() + 60 * minutes
    rows: dict[str, dict[str, Any]] = {}
    for name, item in (items or _items(small)).items():
        if not any(word in name for word in only):
            continue
        began = time.monotonic()
        if began > end:
            rows[name] = {"failed": f"the {minutes:g} minutes were over"}
        else:
            try:
                row = rows[name] = item()
                if "of" in row:
                    own = rows.get(row["of"], {}).get("rate")
                    row["share"] = row.pop("gflops") / own if own else None
            # Out of memory, a kernel that does not take these shapes, no such file.
            except Exception as error:  # noqa: BLE001
                line = " ".join(str(error).split())
                rows[name] = {"failed": f"{type(error).__name__}: {line}"[:300]}
            rows[name]["seconds"] = round(time.monotonic() - began, 1)
            jax.clear_caches()
        say(_line(name, rows[name]))
    device = jax.devices()[0].device_kind
    return {"backend": device, "jax": jax.__version__, "small": small, "rows": rows}


def _line(name, row):
    if "failed" in row:
        return f"{name:34} {row['failed']}"
    share = f"{100 * row['share']:5.1f} % of {row['of']}" if row.get("share") else ""
    memory = f"{row['gib']:8.2f} GiB" if "gib" in row else f"{'':12}"
    return f"{name:34} {row['rate']:12,.1f} {row['unit']:11} {memory}  {share}"


def _items(small: bool) -> dict[str, Callable[[], dict]]:
    """Name -> function that gives its row, with "gflops" beside the product that they
    are a share "of"."""
    sides = (256,) if small else ()
    items = {
        "product bfloat16": partial(_product, "bfloat16", None, sides),
        "product float32": partial(_product, "float32", None, sides),
        "product float32 exact": partial(_product, "float32", "highest", sides),
        "copy": partial(_copy, 4096 if small else None),
    }

    def dit(name, remat, implementation=None, scan=True):
        variant, batch = DITS[name]
        words = (
            f"--config.model.scan={scan}",
            f"--variant={variant}",
            f"--config.model.remat={remat}",
            f"--config.model.block.implementation={implementation}",
            *(SMALL_DIT if small else (f"--config.run.batch={batch}",)),
        )
        what = f"{implementation or 'own'} attention remat {remat or 'none'}"
        what += "" if scan else " no scan"
        items[f"{name} {what}"] = partial(_training, DIT, words)

    for name in DITS:
        for remat in ("whole", POLICY, None):
            dit(name, remat)
        dit(name, None, scan=False)
    words = SMALL_VQ if small else (f"--config.run.batch={VQ_BATCH}",)
    items["VQ-16"] = partial(_training, VQ, words)
    n, less = (64, 64) if small else (32_768, 1)
    for k, d in ((16_384 // less, 8), (262_144 // less, 8), (262_144 // less, 256)):
        items[f"search {k:,} x {d}"] = partial(_search, n, k, d)
    # Beside it, all scores at once: they need n x k floats.
    k = 16_384 // less
    items[f"whole search {k:,} x 8"] = partial(_search, n, k, 8, _whole)
    items["sampler DiT-B/2 50 steps"] = partial(_sampling, small)
    for name in DITS:
        for implementation in get_args(Implementation):
            dit(name, "whole", implementation)
    return items


def _product(dtype, precision, sides):
    return {"rate": matrix_rate(dtype, precision, sides), "unit": "GFLOP/s"}


def _copy(size):
    return {"rate": copy_rate(size), "unit": "GB/s"}


def _opened(path, words) -> Rehearsal:
    experiment = parse([f"--config={path}", *words], Experiment).experiment
    validate(experiment, jax.device_count(), tokenizers=False)
    return Rehearsal(experiment)


def _training(path, words):
    rehearsal = _opened(path, words)
    program, _, _, step = rehearsal.train_step()
    ms = median_ms({"step": step}, 5)["step"]
    return {
        "rate": 1e3 * rehearsal.experiment.run.batch / ms,
        "unit": "examples/s",
        "gflops": 6 * rehearsal.macs() / ms / 1e6 / jax.device_count(),
        "of": f"product {rehearsal.dtype}",
        "gib": peak_bytes(program) / 2**30,
    }


def _whole(z, codewords):
    dots = jnp.matmul(z, codewords.T, precision="highest")
    return (dots - 0.5 * jnp.square(codewords).sum(-1)).argmax(-1)


def _search(n, k, d, find=nearest):
    z_key, e_key = jax.random.split(jax.random.key(0))
    z, e = jax.random.normal(z_key, (n, d)), jax.random.normal(e_key, (k, d))
    program = jax.jit(find).lower(z, e).compile()
    ms = median_ms({"search": lambda: program(z, e)}, 3)["search"]
    return {
        "rate": n / ms,
        "unit": "vectors/ms",
        "gflops": 2 * n * k * d / ms / 1e6,
        "of": "product float32 exact",
        "gib": peak_bytes(program) / 2**30,
    }


def _sampling(small):
    words = ("--config.model.remat=None", *(SMALL_DIT if small else ()))
    rehearsal = _opened(DIT, (f"--variant={DITS['DiT-B/2'][0]}", *words))
    model, n = rehearsal.model, 2 if small else 64
    params = jax.jit(model.init)(jax.random.key(0), *rehearsal.arguments)["params"]
    generator = Generator(model, params, rehearsal.processes, {})
    draw = generator.sampler(steps=50, guidance=4.0, decode=False)
    ids, label = jnp.arange(n), jnp.zeros(n, jnp.int32)
    call = lambda: draw(jax.random.key(0), ids, label=label)
    ms = median_ms({"draw": call}, 3)["draw"]
    # Guidance asks the network twice a step.
    macs = 100 * n * rehearsal.macs() / rehearsal.experiment.run.batch
    return {
        "rate": 1e3 * n / ms,
        "unit": "samples/s",
        "gflops": 2 * macs / ms / 1e6,
        "of": f"product {rehearsal.dtype}",
    }


def main(argv):
    hosts.alone()
    if "--suite" in argv and not {"--help", "-h"} & set(argv):
        flags = parse(argv, None, SUITE).flags
        only = flags.get("only", ("",))
        found = suite(flags.get("minutes", 8.0), only, flags.get("small", False))
        print(json.dumps(found, indent=1))
        return
    if "--search" in argv:
        raise BadInput("--search is a part of the suite: write --suite --only=search")
    command = parse(argv, Experiment, FLAGS)
    for name in command.flags.keys() & SUITE:
        raise BadInput(f"--{name} is of the suite: write --suite too")
    validate(command.experiment, jax.device_count(), tokenizers=False)
    say(f"compiling {command.experiment.name}")
    flags = dict(command.flags)
    streams = flags.pop("streams", False)
    if streams and not isinstance(command.experiment, StageTwo):
        raise BadInput("--streams is of an experiment of stage two; drop it")
    measure = stream_costs if streams else bench
    print(json.dumps(measure(command.experiment, **flags), indent=1))


if __name__ == "__main__":
    run(main)
