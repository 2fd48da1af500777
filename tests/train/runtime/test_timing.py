"""Times and rates, by a clock and by programs that are known."""

import types

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
    assert found == {"a": (2000, 500), "b": (4000, 1000)} and calls == ["a", "b"] * 4
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


def test_rates_are_of_a_second(monkeypatch):
    """Of functions that take a millisecond each: the largest product is the fastest."""
    monkeypatch.setattr(timing, "median_ms", lambda run, _: dict.fromkeys(run, 1.0))
    assert timing.matrix_rate("float32", None, (2, 10)) == pytest.approx(2e-3)
    assert timing.copy_rate(4000) == pytest.approx(8e-3)
