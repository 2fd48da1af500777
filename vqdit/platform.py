"""What a program that is traced is for, and its numbers' size."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import AxisType

P = ParamSpec("P")
T = TypeVar("T")


def in_32_bits(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which computes in 32 bits or fewer where `jax_enable_x64` is set,
    too: with 64 JAX draws other numbers, and a sample would depend on who asks."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(False):
            return function(*args, **kwargs)

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
    kinds = (AxisType.Auto,) * len(mesh.axis_names)
    return place.update(mesh=mesh.update(axis_types=kinds))
