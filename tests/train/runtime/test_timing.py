"""Times and rates, by a clock and by programs that are known."""

import types

import jax
import jax.numpy as jnp
import pytest

from train.runtime import timing


def test_the_median_is_over_rounds_behind_the_first(monkeypatch):
    """Which compiles; and in turn, so that what slows the machine slows all."""
    now, calls = [0.0], []
    clock = types.SimpleNamespace(
        perf_counter=lambda: now[0], process_time=lambda: now[0] / 4
    )
    monkeypatch.setattr(timing, "time", clock)

    def function(name, *seconds):
        left = iter(seconds)

        def call():
            calls.append(name)
            now[0] += next(left)

        return call

    functions = {"a": function("a", 100, 1, 9, 2), "b": function("b", 0, 4, 4, 4)}
    found = timing.medians(functions, 3)
    assert found["a"] == {"ms": 2000, "cpu_ms": 500} and calls == ["a", "b"] * 4
    assert found["b"] == {"ms": 4000, "cpu_ms": 1000}
    some = {"a": function("a", 100, 3, 1)}
    assert timing.median_ms(some, 2) == {"a": pytest.approx(2000)}


def test_what_is_donated_is_held_once():
    sizes = types.SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=90,
        alias_size_in_bytes=80,
        temp_size_in_bytes=7,
    )
    program = types.SimpleNamespace(memory_analysis=lambda: sizes)
    assert timing.peak_bytes(program) == 100 + 10 + 7
    silent = types.SimpleNamespace(memory_analysis=lambda: None)
    assert timing.peak_bytes(silent) == 0, "a backend need not say it"


def test_rates_are_of_a_second(monkeypatch):
    """Of functions that take a millisecond each: the largest product is the fastest."""
    times = lambda run, repeats: dict.fromkeys(run, 5.0 / repeats)
    monkeypatch.setattr(timing, "median_ms", times)
    assert timing.matrix_rate("float32", None, (2, 10)) == pytest.approx(2e-3)
    assert timing.copy_rate(4000) == pytest.approx(8e-3)


def test_products_are_of_a_machines_own_sides(monkeypatch):
    """Of another machine's where it is not known; in the type that is asked for."""
    monkeypatch.setattr(timing, "SIDES", {"cpu": (2, 4), "gpu": (3,)})
    asked, real = [], jnp.matmul
    matmul = lambda *of, **how: asked.append(how) or real(*of, **how)
    monkeypatch.setattr(timing.jnp, "matmul", matmul)
    found = timing.matrix_products("bfloat16", "highest")
    assert {name: flop for name, (_, flop) in found.items()} == {"2": 16, "4": 128}
    assert asked == [{"precision": "highest"}] * 2
    for name, (run, _) in found.items():
        assert run().shape == (int(name), int(name)) and run().dtype == "bfloat16"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert list(timing.matrix_products("float32")) == ["3"]
    assert list(timing.matrix_products("float32", sides=(5, 6))) == ["5", "6"]
    monkeypatch.setattr(jax, "default_backend", lambda: "other")
    assert list(timing.matrix_products("float32")) == ["2", "4"]
    sizes = []
    monkeypatch.setattr(
        timing.jnp, "zeros", lambda n: sizes.append(n) or jnp.float32(0)
    )
    monkeypatch.setattr(timing, "COPIED", {"cpu": 400})
    monkeypatch.setattr(timing, "median_ms", lambda run, _: dict.fromkeys(run, 1.0))
    rates = [timing.copy_rate(size) for size in (None, 4000)]
    assert sizes == [2**28, 1000] and rates == pytest.approx([2**31 / 1e6, 8e-3])
