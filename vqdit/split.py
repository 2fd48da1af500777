"""What the compiler, left to itself, would compute of all rows on every device.

On a mesh (`jax.set_mesh`) rows are split by Flax's rules for the axis "batch"; without
one nothing is.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax

from vqdit.shapes import Array, Shaped


def parts(rows: int, axis: str = "batch") -> int:
    """Devices that hold equal runs of so many rows; 1 where each holds all.

    axis: the name that the rules know.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return 1
    (axes,) = nn.logical_to_mesh_axes((axis,)) or (None,)
    axes = axes if isinstance(axes, tuple) else (axes,) if axes else ()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if any(kinds.get(each) != jax.sharding.AxisType.Auto for each in axes):
        return 1  # a mesh of the caller's own, who splits by other rules
    count = math.prod(mesh.shape[each] for each in axes)
    return 1 if rows % count else count


def by_row(
    function: Callable[[Array], Array], x: Shaped[Array, "n *row"]
) -> Shaped[Array, "n *found"]:
    """function(x), where each row of it is one of x's alone: of its own on each device.

    For what XLA splits along no axis, such as an FFT.
    """
    if x.ndim < 2 or parts(len(x)) == 1:
        return function(x)
    place = nn.logical_to_mesh_axes(("batch",))
    return jax.shard_map(function, in_specs=place, out_specs=place)(x)


def whole_table(table: Array, reads: int) -> Array:
    """A table on every device, of which so many rows are read.

    Of a split one what is read would be sent around, and so it stays where that is less
    than the table has.
    """
    if reads <= len(table):
        return table
    return nn.with_logical_constraint(table, (None,) * table.ndim)
