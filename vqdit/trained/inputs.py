"""What a codec is given, checked at the door: in one line, before anything compiles.

Inside a jit shapes and types alone are checked, since values are not known there. The
checks return what they were given, a list as an array, and raise ValueError.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.nn.streams import Continuous, Discrete
from vqdit.tokenizer import Tokenizer
from vqdit.trained.contract import LatentContract


def signal(module: Tokenizer, contract: LatentContract, x: Any) -> Any:
    """Finite floats in [-1, 1] of sides that the tokenizer takes, as they came."""
    x = values(contract, x)
    if x.shape[1:] != contract.shape:
        _check_sides(module, x.shape[1:], contract.shape)
    return x


def values(contract: LatentContract, x: Any) -> Any:
    """Finite floats in [-1, 1] with the right axes and channels, of whatever sides."""
    x, shape = _array(x), contract.shape
    wanted = f"this tokenizer takes (b, {', '.join(map(str, shape))})"
    if x.ndim != 1 + len(shape) or x.shape[-1] != shape[-1]:
        raise ValueError(f"{wanted} in [-1, 1], or other sides; got {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"this tokenizer takes floats in [-1, 1]; got {x.dtype}: for uint8 "
            f"write x / 127.5 - 1"
        )
    if not x.shape[0]:
        raise ValueError(f"{wanted}; got an empty batch, {x.shape}")
    ends = _extremes(x)
    low, high = ends.min(), ends.max()
    if low >= 0 and high > 2 and not contract.scale:
        raise ValueError(
            f"this tokenizer takes floats in [-1, 1]; got {low:g} to {high:g}: for "
            f"0 to 255 write x / 127.5 - 1"
        )
    return x


def example(contract: LatentContract, x: Any) -> Any:
    """As `values`, of the contract's sides alone: what a stream is made of."""
    x = _array(x)
    if x.shape[1:] != contract.shape:
        raise ValueError(
            f"it is {x.shape}; write (b, *{contract.shape}), cut or padded to its sides"
        )
    return values(contract, x)


def tokens(contract: LatentContract, q: Any) -> Any:
    """Codes that the books have, or finite latents."""
    q = _array(q)
    if not jnp.issubdtype(q.dtype, jnp.integer):
        return latents(contract, q)
    if not contract.codes:
        raise ValueError("this tokenizer is continuous: decode latents, not codes")
    books = len(contract.codes)
    axes = 2 + len(contract.code_grid)
    if q.ndim != axes or not 1 <= q.shape[-1] <= books or not q.size:
        raise ValueError(
            f"codes are (b, {', '.join(map(str, contract.code_grid))}, {books}), "
            f"or of other sides or fewer books; got {q.shape}"
        )
    for book, (low, high) in enumerate(zip(*_extremes(q), strict=True)):
        if low < 0 or high >= contract.codes[book]:
            raise ValueError(
                f"codes of book {book} are 0 to {contract.codes[book] - 1}; got "
                f"{low:g} to {high:g}"
            )
    return q


def latents(contract: LatentContract, z: Any) -> Any:
    """Finite floats with the channels of a latent."""
    z, channels = _array(z), contract.channels
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"latents are floats, and codes integers; got {z.dtype}")
    if z.ndim != 2 + len(contract.grid) or z.shape[-1] != channels:
        raise ValueError(
            f"latents are (b, {', '.join(map(str, contract.grid))}, "
            f"{channels}), or of other sides; got {z.dtype} {z.shape}: codes are "
            f"integers"
        )
    if not z.size:
        raise ValueError(f"got no latents, {z.shape}")
    _extremes(z)
    return z


def stream(stream: Continuous | Discrete, x: Any, masked: bool) -> None:
    """Finite latents, or codes that there are; `masked`: their mask is one of them."""
    if x.shape[1:] != stream.shape:
        raise ValueError(f"it is {x.shape}; write (b, *{stream.shape})")
    if jnp.issubdtype(x.dtype, jnp.floating) != (stream.kind == "latents"):
        raise ValueError(f"its {stream.kind} are {stream.dtype}; got {x.dtype}")
    ends, most = _extremes(x), stream.most(masked)
    if most is not None and (ends.min() < 0 or ends.max() > most):
        raise ValueError(f"codes are 0 to {most}; got {ends.min():g} to {ends.max():g}")


def _array(x):
    return x if isinstance(x, jax.Array | np.ndarray) else np.asarray(x)


def _extremes(x):
    """(least, greatest) of each channel, raising where one is not finite.

    Zeros inside a jit, where values are not known.
    """
    if isinstance(x, jax.core.Tracer):
        return np.zeros((2, x.shape[-1]))
    ends = _ends(x) if isinstance(x, jax.Array) else _ends.__wrapped__(x)
    ends = np.stack([np.asarray(end) for end in ends]).astype(np.float64)
    if not np.isfinite(ends).all():
        raise ValueError(
            f"values of {x.shape} are not all finite; set what was not observed to 0"
        )
    return ends


@jax.jit
def _ends(x):
    axes = tuple(range(x.ndim - 1))
    return x.min(axes), x.max(axes)


@functools.lru_cache(maxsize=256)
def _check_sides(module, shape, trained):
    """Raises ValueError unless signals of this shape come back as what they were."""
    module.grid(shape[:-1])
    both = lambda m, x: (m.features(x), m(x)[0])
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    init = functools.partial(module.init_with_output, method=both)
    try:
        (features, found), _ = jax.eval_shape(init, jax.random.key(0), x)
        why = f"of {features.shape[1:]} it gives {found.shape[1:]} back"
        fits = features.shape == found.shape
    except ValueError as error:
        why, fits = str(error), False
    if not fits:
        raise ValueError(
            f"this tokenizer is bound to the sides {trained[:-1]} of its training "
            f"({why}); for {shape[:-1]} use encode_tiles"
        )
