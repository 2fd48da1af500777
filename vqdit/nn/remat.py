"""What of a block the backward pass computes again instead of keeping it."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax

# The whole block, or all of it but what this one of `jax.checkpoint_policies` keeps.
Remat = Literal["whole", "dots_saveable", "dots_with_no_batch_dims_saveable"]


def recomputed(call: Callable, remat: Remat | None, **how: Any) -> Callable:
    """A module class or a function of a module, under `nn.remat`; itself for None."""
    if remat is None:
        return call
    policy = None if remat == "whole" else getattr(jax.checkpoint_policies, remat)
    return nn.remat(call, policy=policy, **how)


def remat_by_word(fields: dict[str, Any]) -> dict[str, Any]:
    """A module's fields as files have them, where `remat` was True or False once."""
    if not isinstance(fields.get("remat"), bool):
        return fields
    return {**fields, "remat": "whole" if fields["remat"] else None}
