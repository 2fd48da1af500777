"""The types of arrays in signatures, with their shapes: `Float[Array, "b n d"]`.

They are jaxtyping's, and no more than words of the signature outside the tests. Where
jaxtyping is not installed each is the array's type, whatever its shape.
"""

import numpy as np

try:
    from jaxtyping import (
        Array,
        Bool,
        Complex,
        Float,
        Float64,
        Int,
        Integer,
        Key,
        Num,
        Shaped,
        UInt8,
    )
except ModuleNotFoundError:
    from jax import Array

    class _OfAnyShape:
        def __class_getitem__(cls, array_and_shape):
            return array_and_shape[0]

    Bool = Complex = Float = Float64 = Int = Integer = _OfAnyShape  # type: ignore
    Key = Num = Shaped = UInt8 = _OfAnyShape  # type: ignore

# JAX's, or NumPy's on the host.
AnyArray = Array | np.ndarray

__all__ = ["Array", "Bool", "Complex", "Float", "Float64", "Int", "Integer", "Key"]
__all__ += ["AnyArray", "Num", "Shaped", "UInt8"]
