"""Programs make their mesh of all devices; some tests want one."""

from collections.abc import Iterator

import jax
import pytest


def only_one() -> Iterator[None]:
    """For a fixture of any scope: as long as it lives there is one device."""
    devices = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: devices)
        patch.setattr(jax, "device_count", lambda *_: 1)
        yield
