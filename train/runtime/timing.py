"""Times of programs, and the rates of the machine they run on."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

# Sides of the square matrix products tried; the best is the machine's rate.
SIDES = {"cpu": (1024, 2048, 3072), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)}
COPIED = {"cpu": 1 << 26}  # bytes; elsewhere a gibibyte, which no cache holds


def medians(
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, dict[str, float]]:
    """Medians of the functions' times in milliseconds: "ms" of the clock and "cpu_ms"
    of this process's processors, which other work on the machine stretches less. All
    are interleaved, after one round of warming up; each waits for its own results."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for i in range(repeats + 1):
        for name, function in functions.items():
            start, used = time.perf_counter(), time.process_time()
            jax.block_until_ready(function())
            if i:
                passed = (time.perf_counter() - start, time.process_time() - used)
                times[name].append(passed)
    middle = lambda rows: [1e3 * statistics.median(x) for x in zip(*rows, strict=True)]
    names = ("ms", "cpu_ms")
    return {n: dict(zip(names, middle(x), strict=True)) for n, x in times.items()}


def median_ms(
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Those of the clock alone."""
    return {name: found["ms"] for name, found in medians(functions, repeats).items()}


def matrix_products(
    dtype: str, precision: str | None = None, sides: tuple[int, ...] = ()
) -> dict[str, tuple[Callable[[], object], int]]:
    """Name -> (function, FLOP of a call), of square products."""
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for side in sides or SIDES.get(jax.default_backend(), SIDES["cpu"]):
        a = jax.random.normal(jax.random.key(side), (side, side)).astype(dtype)
        times_itself = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
        product = times_itself.lower(a).compile()
        found[f"{side}"] = (functools.partial(product, a), 2 * side**3)
    return found


def matrix_rate(
    dtype: str, precision: str | None = None, sides: tuple[int, ...] = ()
) -> float:
    """GFLOP/s of the best square product."""
    products = matrix_products(dtype, precision, sides)
    ms = median_ms({name: run for name, (run, _) in products.items()}, 5)
    return max(flop / ms[name] / 1e6 for name, (_, flop) in products.items())


def copy_rate(size: int | None = None) -> float:
    """GB/s read and written by a copy of `size` bytes; None for more than a cache."""
    size = size or COPIED.get(jax.default_backend(), 1 << 30)
    x = jnp.zeros(size // 4)
    add = jax.jit(lambda x: x + 1).lower(x).compile()
    return 2 * size / median_ms({"copy": lambda: add(x)}, 5)["copy"] / 1e6


def peak_bytes(program: jax.stages.Compiled) -> int:
    """Memory that a program needs at once, a donated argument once; 0 where the backend
    does not say."""
    m = program.memory_analysis()
    if m is None:
        return 0
    held = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    return held + m.temp_size_in_bytes
