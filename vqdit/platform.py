"""What a program that is traced is for."""

import jax


def platform() -> str:
    """ "cpu", "gpu" or "tpu": of the mesh that is set (`jax.set_mesh`), which may be
    of devices that are not here, or else of the default backend."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
