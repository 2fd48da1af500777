"""Sums of rows by code, in one block of codes or several, and their adjoint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import sums

INDEX = np.array([2, 0, 2, 129, 2])
ROWS = np.arange(10, dtype=np.float32).reshape(5, 2)


def test_blocks_are_powers_of_two_that_hold_the_scores():
    """At least 128 codes each; as many blocks as the codes need."""
    assert sums.code_blocks(60, 300, 60 * 128) == (3, 128)
    assert sums.code_blocks(4, 1000, 4 * 600) == (2, 512)
    assert sums.code_blocks(4, 1024, 4 * 512) == (2, 512)
    assert sums.code_blocks(10, 128, 1) == (1, 128)
    assert sums.code_blocks(0, 5, 1 << 8) == (1, 256)
    assert sums.on_cpu() and sums.most_scores(None) == 2**22
    assert sums.most_scores(7) == 7


@pytest.mark.parametrize(
    "adding, scores", [("scatter", None), ("product", None), ("product", 1)]
)
def test_each_code_has_the_sum_of_its_rows(adding, scores):
    """Of 200 codes in one block or in two; the look-up has it for its gradient."""
    expected = np.zeros((200, 2), np.float32)
    np.add.at(expected, INDEX, ROWS)
    table = np.linspace(0, 1, 400, dtype=np.float32).reshape(200, 2)
    last = np.array([2, 0, 2, -71, 2])  # from the end, too

    @jax.jit
    def run():
        added = sums.sums_by_code(
            jnp.asarray(INDEX), jnp.asarray(ROWS), 200, adding, scores
        )
        taken = lambda table: sums.take(table, jnp.asarray(last), adding, scores)
        found, pull = jax.vjp(taken, jnp.asarray(table))
        return added, found, pull(jnp.asarray(ROWS))[0]

    added, found, slope = run()
    np.testing.assert_array_equal(added, expected)
    np.testing.assert_array_equal(found, table[last])
    np.testing.assert_array_equal(slope, expected)
    assert added.dtype == jnp.float32
