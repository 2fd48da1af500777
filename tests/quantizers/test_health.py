import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import UsageWindow, usage_metrics
from vqdit.quantizers.health import over_books, replacements


def start(num_codes, window):
    module = UsageWindow(num_codes, window)
    return module, module.init(jax.random.key(0), method="metrics")


@functools.partial(jax.jit, static_argnums=0)
def _push(module, variables, codes, count):
    _, state = module.apply(variables, codes, count, method="update", mutable="usage")
    return state


def push(module, variables, codes, count=True):
    return _push(module, variables, jnp.asarray(codes, jnp.int32), jnp.array(count))


def test_window_holds_the_last_codes_whatever_the_batches():
    """Against a deque, with batches smaller and larger than the window."""
    window, num_codes = 10, 6
    module, variables = start(num_codes, window)
    draw = np.random.default_rng(0)
    recent = collections.deque(maxlen=window)
    for size in (4, 4, 4, 10, 4, 25, 4):
        codes = draw.integers(0, num_codes, size)
        recent.extend(codes.tolist())
        variables = push(module, variables, codes)
        usage = variables["usage"]
        held = np.asarray(usage["recent"])
        counts = np.bincount(np.array(recent), minlength=num_codes)
        np.testing.assert_array_equal(usage["counts"], counts)
        assert sorted(held[held >= 0]) == sorted(recent)


def test_window_does_not_depend_on_the_batch_size():
    module, variables = start(5, 8)
    codes = np.random.default_rng(1).integers(0, 5, 12)
    whole, parts = push(module, variables, codes), variables
    for part in np.split(codes, 3):
        parts = push(module, parts, part)
    np.testing.assert_array_equal(whole["usage"]["counts"], parts["usage"]["counts"])


def test_a_code_dies_after_a_whole_window_without_it():
    module, variables = start(3, 6)
    dead = lambda v: list(np.asarray(module.apply(v, method="dead")))
    variables = push(module, variables, [0, 1, 1])
    assert dead(variables) == [False, False, False]
    variables = push(module, variables, [1, 1, 1])
    assert dead(variables) == [False, False, True]  # 2 was never used
    variables = push(module, variables, [1, 1, 1])
    assert dead(variables) == [True, False, True]
    variables = push(module, variables, [2, 1, 1])
    assert dead(variables) == [True, False, False]


def test_a_revived_code_has_a_window_of_time():
    module, variables = start(3, 6)
    for _ in range(2):
        variables = push(module, variables, [1, 1, 1])
    dead = module.apply(variables, method="dead")
    _, variables = module.apply(variables, dead, method="revived", mutable="usage")
    variables = push(module, variables, [1, 1, 1])
    assert not module.apply(variables, method="dead").any()
    variables = push(module, variables, [1, 1, 1])
    assert list(module.apply(variables, method="dead")) == [True, False, True]


def test_idle_count_does_not_overflow():
    module, variables = start(2, 4)
    for _ in range(5):
        variables = push(module, variables, [0, 0, 0])
    assert list(variables["usage"]["idle"]) == [0, 4]


def test_nothing_is_counted_where_told_so():
    module, variables = start(4, 6)
    variables = push(module, variables, [0, 1])
    after = push(module, variables, [2, 2], False)
    jax.tree.map(np.testing.assert_array_equal, after, variables)


@pytest.mark.parametrize("used", [1, 3, 8])
def test_perplexity_of_evenly_used_codes_is_their_number(used):
    counts = jnp.zeros(8, jnp.int32).at[:used].set(5)
    metrics = usage_metrics(counts)
    np.testing.assert_allclose(metrics["perplexity"], used, rtol=1e-5)
    np.testing.assert_allclose(metrics["usage"], used / 8)


def test_perplexity_of_uneven_counts():
    """exp(-sum p log p) at p = (1/2, 1/4, 1/4): 2^1.5."""
    metrics = usage_metrics(jnp.array([2, 1, 1, 0]))
    np.testing.assert_allclose(metrics["perplexity"], 2**1.5, rtol=1e-5)


def test_metrics_of_an_empty_window_are_finite():
    metrics = usage_metrics(jnp.zeros(4, jnp.int32))
    assert metrics["usage"] == 0 and metrics["perplexity"] == 1


def test_metrics_of_books_are_means_but_for_the_revived_and_the_worst():
    found = [
        {"usage": jnp.float32(0.5), "revived": jnp.int32(3)},
        {"usage": jnp.float32(0.25), "revived": jnp.int32(2)},
    ]
    assert over_books(found) == {"usage": 0.375, "revived": 5, "usage_min": 0.25}
    # Books of several books have a worst of their own.
    worst = (jnp.float32(0.125), jnp.float32(1.0))
    nested = [{"usage": each, "usage_min": each} for each in worst]
    assert over_books(nested)["usage_min"] == 0.125
    uncounted = [{"other": jnp.float32(1)}, {"other": jnp.float32(2)}]
    assert over_books(uncounted) == {"other": 1.5}


def test_replacements_are_vectors_of_the_batch_without_repeats():
    z = jnp.arange(20.0).reshape(10, 2)
    fresh = np.asarray(replacements(jax.random.key(0), z, 8))
    assert len(np.unique(fresh, axis=0)) == 8
    assert {tuple(row) for row in fresh} <= {tuple(row) for row in np.asarray(z)}


def test_replacements_repeat_only_when_the_batch_is_used_up():
    z = jnp.arange(6.0).reshape(3, 2)
    fresh = np.asarray(replacements(jax.random.key(0), z, 7))
    _, counts = np.unique(fresh, axis=0, return_counts=True)
    assert sorted(counts) == [2, 2, 3]


def test_window_is_a_module_without_parameters():
    module, variables = start(3, 4)
    assert isinstance(module, nn.Module) and set(variables) == {"usage"}
