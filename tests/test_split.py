"""Rows on a mesh: how many devices hold them, and functions of each row alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from vqdit.split import by_row, parts, whole_table

RULES = (
    ("batch", "data"),
    ("heads", "model"),
    ("both", ("data", "model")),
    ("all", None),
)


def meshed(kind=AxisType.Auto):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))


def test_parts_are_the_devices_that_hold_equal_runs():
    """One where each holds all: without a mesh, rules, or as many rows as divide."""
    assert parts(8) == 1
    with nn.logical_axis_rules(RULES):
        assert parts(8) == 1
    with jax.set_mesh(meshed()):
        assert parts(8) == 1
        with nn.logical_axis_rules(RULES):
            found = [parts(8), parts(6), parts(8, "heads"), parts(3, "heads")]
            found += [parts(16, "both"), parts(12, "both"), parts(8, "all")]
    assert found == [4, 1, 2, 1, 8, 1, 1]
    with jax.set_mesh(meshed(AxisType.Explicit)), nn.logical_axis_rules(RULES):
        assert parts(8) == 1


def test_a_function_of_rows_is_given_those_of_its_device():
    seen, x = [], np.arange(24.0, dtype=np.float32).reshape(8, 3)

    def twice(x):
        seen.append(x.shape)
        return 2 * x

    with jax.set_mesh(meshed()), nn.logical_axis_rules(RULES):
        for each, shape in ((x, (2, 3)), (x[:6], (6, 3)), (x[:, 0], (8,))):
            found = jax.jit(lambda x: by_row(twice, x))(each)
            np.testing.assert_array_equal(found, 2 * each)
            assert set(seen) == {shape}
            seen.clear()
    np.testing.assert_array_equal(by_row(twice, jnp.asarray(x)), 2 * x)
    assert seen == [(8, 3)]


def test_a_table_is_whole_where_it_is_read_more_often_than_it_has_rows():
    mesh = meshed()
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        table = jax.device_put(jnp.arange(16.0).reshape(8, 2), split)
        assert whole_table(table, 8) is table
        found = jax.jit(lambda table: whole_table(table, 9))(table)
    assert found.sharding.is_fully_replicated
    assert not table.sharding.is_fully_replicated
    np.testing.assert_array_equal(found, table)
