"""What a machine does: products, copies, training, searches and a sampler, as rates."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp

from train.config import Experiment
from train.config.command import parse
from train.config.validate import validate
from train.errors import BadInput, briefly
from train.objectives.costs.rehearsal import Rehearsal
from train.progress import say
from train.runtime.timing import copy_rate, matrix_rate, median_ms, peak_bytes
from vqdit.nn.attention import Implementation
from vqdit.quantizers import nearest
from vqdit.trained import Generator
from vqdit.values import near

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


def suite(
    minutes: float = 8.0,
    only: tuple[str, ...] = ("",),
    small: bool = False,
    items: dict[str, Callable[[], dict]] | None = None,
) -> dict:
    """The rows of the suite by name, the most telling first, as printed.

    Of each the rate with its unit, share of the machine's own rate, memory in GiB and
    seconds; or "failed", with the reason in one line. Raises BadInput for a word of
    `only` that no row has.
    """
    items = items or _items(small)
    for word in only:
        if not any(word in name for name in items):
            raise BadInput(f"--only={word}: no row has it; {near(word, items)}")
    end = time.monotonic() + 60 * minutes
    rows: dict[str, dict[str, Any]] = {}
    for name, item in items.items():
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
                rows[name] = {"failed": f"{type(error).__name__}: {briefly(error)}"}
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
    product = partial(_rate, "GFLOP/s", matrix_rate)
    items: dict[str, Callable[[], dict]] = {
        "product bfloat16": partial(product, "bfloat16", None, sides),
        "product float32": partial(product, "float32", None, sides),
        "product float32 exact": partial(product, "float32", "highest", sides),
        "copy": partial(_rate, "GB/s", copy_rate, 4096 if small else None),
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
    n, few, many = (64, 256, 4096) if small else (32_768, 16_384, 262_144)
    for k, d in ((few, 8), (many, 8), (many, 256)):
        items[f"search {k:,} x {d}"] = partial(_search, n, k, d)
    # Beside it, all scores at once: they need n x k floats.
    items[f"whole search {few:,} x 8"] = partial(_search, n, few, 8, _whole)
    items["sampler DiT-B/2 50 steps"] = partial(_sampling, small)
    for name in DITS:
        for implementation in get_args(Implementation):
            dit(name, "whole", implementation)
    return items


def _rate(unit, of, *how):
    return {"rate": of(*how), "unit": unit}


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
