"""Rows some at a time: what comes out is what all at once would give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.signal.rows import by_chunks, in_parts


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 7])
def test_chunks_are_of_one_size_and_come_back_in_order(rows):
    """The last is filled up with zeros, which are cut off again."""
    x, seen = 1.0 + np.arange(2.0 * rows).reshape(rows, 2), []

    def function(part):
        seen.append(part)
        return {"double": jnp.asarray(2 * part), "sum": part.sum(1)}

    found = by_chunks(function, x, 3)
    assert {part.shape for part in seen} == {(3, 2)}
    assert len(seen) == max(1, -(-rows // 3))
    assert not np.concatenate(seen)[rows:].any()
    np.testing.assert_array_equal(found["double"], 2 * x)
    np.testing.assert_array_equal(found["sum"], x.sum(1))
    assert {type(v) for v in found.values()} == {np.ndarray}


def test_parts_give_what_the_whole_gives_and_its_gradient():
    """Of trees of arrays, each row in its place; part i has every count-th row."""
    x = {"a": jnp.arange(12.0).reshape(6, 2), "b": jnp.arange(6.0)}
    y = jnp.arange(6.0) ** 2

    def function(x, y):
        assert len(y) == rows
        return {
            "out": x["a"].sum(1) * x["b"],
            "first": x["b"] + y,
            "part": 0 * y + y[0],
        }

    rows = 6
    assert in_parts(function, 1) is function
    whole = function(x, y)
    slope = jax.grad(lambda x: function(x, y)["out"].sum())(x)
    rows = 2
    parted = in_parts(function, 3)
    found, again = jax.jit(
        lambda: (parted(x, y), jax.grad(lambda x: parted(x, y)["out"].sum())(x))
    )()
    for name in ("out", "first"):
        np.testing.assert_array_equal(found[name], whole[name])
    np.testing.assert_array_equal(found["part"], [0, 1, 4, 0, 1, 4])
    jax.tree.map(np.testing.assert_array_equal, again, slope)
    with pytest.raises(ValueError, match="4 parts do not divide the batch of 6; write"):
        in_parts(function, 4)(x, y)
