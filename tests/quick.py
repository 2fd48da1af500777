"""Compiling is most of a test's time: programs and parameters that come quickly."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def apply(module, variables, *x, **how):
    """`module.apply` as one program: not one for each operation."""
    return module.apply(variables, *x, **how)


def parameters(shapes: Any, seed: int = 0) -> Any:
    """Arrays for a tree of shapes, as `jax.eval_shape` of an init gives.

    Kernels of unit gain, the rest around its usual value, and nothing left at zero,
    where an untrained network would hide what it does.
    """
    draw = np.random.default_rng(seed)

    def leaf(path, shape):
        name = getattr(path[-1], "key", "")
        fan_in = np.prod(shape.shape[-4:-1]) if name == "kernel" else 25.0
        x = draw.normal(0, fan_in**-0.5, shape.shape)
        return jnp.asarray((x + (name == "scale")).astype(shape.dtype))

    return jax.tree_util.tree_map_with_path(leaf, shapes)
