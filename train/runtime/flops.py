"""Multiply-accumulates of a function, counted from its jaxpr.

XLA's own cost analysis counts a scanned stack of layers once; this does not. Only
matrix products and convolutions count, which is the convention of the published figures
(DiT-XL/2 at 256 tokens: 118.62 GMACs). Elementwise work, softmax and norms are free.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def macs(function: Callable, *shapes: Any) -> int:
    """Multiply-accumulates of function(*shapes); arrays or ShapeDtypeStructs.

    A loop of unknown length (`while`) counts once; a branch counts as its dearest arm.
    """
    return _count(jax.make_jaxpr(function)(*shapes).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            out = math.prod(equation.outvars[0].aval.shape)
            total += out * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            spec = params["dimension_numbers"].rhs_spec
            # Input channels times the window; grouped kernels already hold their share.
            window = math.prod(kernel[axis] for axis in spec[1:])
            total += math.prod(equation.outvars[0].aval.shape) * window
        else:
            inner = [_count(each) for each in _jaxprs(params)]
            if name == "scan":
                total += params["length"] * sum(inner)
            elif name == "cond":
                total += max(inner, default=0)
            else:
                total += sum(inner)
    return total


def _jaxprs(params):
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each
