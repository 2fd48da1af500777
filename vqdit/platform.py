"""What a program that is traced is for, and its numbers' size."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import AxisType, PartitionSpec

P = ParamSpec("P")
T = TypeVar("T")


def in_32_bits(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which computes in 32 bits or fewer where `jax_enable_x64` is set,
    too: with 64 JAX draws other numbers, and a sample would depend on who asks. Where a
    mesh is set whose axes are explicit it sees them as `automatic`, and its caller
    gets what it returns on them, of a jit whole on each device."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        mesh = jax.sharding.get_abstract_mesh()
        with jax.enable_x64(False):
            if AxisType.Explicit not in mesh.axis_types:
                return function(*args, **kwargs)
            own = _automatic(mesh)
            leaves, tree = jax.tree.flatten((args, kwargs))
            traced = [i for i, x in enumerate(leaves) if _is_traced(x, mesh)]

            def on_own(*moved):
                seen = list(map(_on_axes_of(own), leaves))
                for i, x in zip(traced, moved, strict=True):
                    seen[i] = x
                args, kwargs = tree.unflatten(seen)
                return function(*args, **kwargs)

            if traced:  # by JAX's own way, of which there are gradients
                whole = jax.sharding.auto_axes(on_own, out_sharding=PartitionSpec())
                return whole(*(leaves[i] for i in traced))
            with jax.sharding.use_abstract_mesh(own):
                found = on_own()
            return jax.tree.map(_on_axes_of(mesh), found)

    return run


def platform() -> str:
    """ "cpu", "gpu" or "tpu": of the mesh that is set (`jax.set_mesh`), which may be
    of devices that are not here, or else of the default backend."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def automatic(place: Any) -> Any:
    """A device, or a sharding whose axes the compiler works out, where those of
    `jax.make_mesh` are explicit: layers that say no `out_sharding` fail with such."""
    mesh = getattr(place, "mesh", None)
    if mesh is None:
        return place
    return place.update(mesh=_automatic(mesh))


def _automatic(mesh):
    return mesh.update(axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def _is_traced(x, mesh):
    if not isinstance(x, jax.core.Tracer):
        return False
    own = jax.typeof(x).sharding.mesh
    return own.empty or own.axis_types == mesh.axis_types


def _on_axes_of(mesh):
    """Lays an array of the same mesh out along its axes; all else stays as it is."""

    def put(x):
        place = jax.typeof(x) if isinstance(x, jax.core.Tracer) else x
        place = getattr(place, "sharding", None)
        own = getattr(place, "mesh", None)
        if own is None or own.axis_names != mesh.axis_names:
            return x
        kinds = own.update(axis_types=mesh.axis_types)
        return jax.device_put(x, place.update(mesh=kinds))

    return put
