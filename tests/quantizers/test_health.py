import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import (
    FSQ,
    IBQ,
    LFQ,
    GumbelQuantizer,
    ResidualFSQ,
    UsageWindow,
    VectorQuantizer,
    usage_metrics,
)
from vqdit.quantizers.codebook.health import over_books, replacements, window_of
from vqdit.values import build


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


def fresh_rows(z, dead, apart=0.01):
    rows = replacements(
        jax.random.key(0), jnp.asarray(z), jnp.asarray(dead), jnp.float32(apart)
    )
    return np.asarray(rows)[dead]


def test_replacements_are_vectors_of_the_batch_without_repeats():
    """Of 10 vectors for 8 dead codes of 40, wherever these are."""
    z, dead = np.arange(20.0, dtype=np.float32).reshape(10, 2), np.zeros(40, bool)
    dead[[0, 10, 11, 20, 25, 30, 31, 39]] = True
    fresh = fresh_rows(z, dead)
    assert len(np.unique(fresh, axis=0)) == 8
    assert {tuple(row) for row in fresh} <= {tuple(row) for row in z}


def test_replacements_beyond_the_batch_are_near_its_vectors_and_no_two_are_alike():
    z, dead = np.arange(6.0, dtype=np.float32).reshape(3, 2), np.ones(7, bool)
    fresh = fresh_rows(z, dead)
    assert len(np.unique(fresh, axis=0)) == 7
    apart = np.abs(fresh[:, None] - z).max(-1)
    assert np.bincount(apart.argmin(1)).tolist() in ([2, 2, 3], [2, 3, 2], [3, 2, 2])
    assert (apart.min(1) == 0).sum() == 3 and apart.min(1).max() < 0.05


def test_window_is_a_module_without_parameters():
    module, variables = start(3, 4)
    assert isinstance(module, nn.Module) and set(variables) == {"usage"}


def share_dead(codes, window, seed=0):
    """Of evenly used codes, those that are not among the last `window`."""
    drawn = np.random.default_rng(seed).integers(0, codes, window)
    return 1 - len(np.unique(drawn)) / codes


@pytest.mark.parametrize("codes", [1024, 6553, 6554, 16_384, 262_144])
def test_evenly_used_codes_are_not_dead_whatever_their_number(codes):
    """And the window can tell how many are used: 65,536 of 262,144 said 22 %."""
    assert share_dead(codes, window_of(codes)) <= np.exp(-10) + 2 / codes
    assert share_dead(codes, 65_536) == pytest.approx(np.exp(-65_536 / codes), abs=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda **fields: VectorQuantizer(16_384, 8, **fields),
        lambda **fields: IBQ(16_384, 8, **fields),
        lambda **fields: GumbelQuantizer(16_384, 8, **fields),
        lambda **fields: LFQ(14, **fields),
        lambda **fields: FSQ((16, 16, 64), **fields),
        lambda **fields: ResidualFSQ((128, 128), 2, **fields),
    ],
)
def test_a_window_that_is_too_short_is_refused(make):
    with pytest.raises(ValueError, match="window=65536: of 16384 codes .* 163840, or"):
        make(window=65_536)
    assert make(window=163_840).window == 163_840
    assert make() == make(window=262_144)  # one value, one form


def test_a_window_that_is_too_short_in_an_old_file_becomes_long_enough():
    fields = {"num_codes": 16_384, "dim": 4, "window": 65_536}
    old = build({"class": "vqdit.VectorQuantizer", "fields": fields})
    assert old == VectorQuantizer(16_384, 4)
    for kind in ({"bits": 20}, {"levels": [16, 16, 64, 8]}):
        name = "LFQ" if "bits" in kind else "FSQ"
        old = build({"class": f"vqdit.{name}", "fields": {**kind, "window": 65_536}})
        assert old.window is None
