"""The type and the place of a trained model's arrays."""

import dataclasses
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.platform import automatic
from vqdit.values import field_names

M = TypeVar("M", bound=nn.Module)
COMPUTED = ("float32", "bfloat16")  # what networks compute in
STAYS = "quantizer"  # what codes mean does not depend on the type


@dataclasses.dataclass(frozen=True)
class Placement:
    """dtype, device: of `vqdit.load`; None for as they are, and where JAX has them."""

    dtype: Any = None
    device: jax.Device | jax.sharding.Sharding | None = None

    def __post_init__(self):
        name = self.dtype
        if name is not None and not isinstance(name, str):
            name = jnp.dtype(name).name
        if name not in (None, *COMPUTED):
            raise ValueError(f"dtype={name}: write {' or '.join(COMPUTED)}")
        object.__setattr__(self, "dtype", name)

    def module(self, module: M) -> M:
        """One that computes in the type, as do the modules in it but for quantizers."""
        if self.dtype is None:
            return module
        changed: dict[str, Any] = {}
        for name in field_names(module):
            value = getattr(module, name)
            if name == "dtype":
                changed[name] = self.dtype
            elif isinstance(value, nn.Module) and name != STAYS:
                changed[name] = self.module(value)
        return module.clone(**changed) if changed else module

    def variables(self, variables: dict) -> dict:
        """Floating parameters cast, but for a quantizer's; all in its place."""
        if self.dtype is None:
            return self.placed(variables)
        params = {
            name: part if name == STAYS else jax.tree.map(self._cast, part)
            for name, part in variables.get("params", {}).items()
        }
        return self.placed({**variables, "params": params})

    def placed(self, arrays: Any) -> Any:
        """The arrays, in their place."""
        if self.device is None:
            return arrays
        return jax.device_put(arrays, automatic(self.device))

    def _cast(self, leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.dtype(self.dtype)) if floating else leaf
