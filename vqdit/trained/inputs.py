"""What a model is given, checked at the door: in one line, before anything compiles.

Inside a jit shapes and types alone are checked, since values are not known there. The
checks return what they were given, a list as an array, and raise ValueError.
"""

import functools
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.diffusion import Grid, Times
from vqdit.fields import told
from vqdit.nn.streams import Continuous, Discrete
from vqdit.platform import automatic
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
    x, shape = array(x), contract.shape
    wanted = f"this tokenizer takes (b, {', '.join(map(str, shape))})"
    if x.ndim != 1 + len(shape) or x.shape[-1] != shape[-1]:
        raise ValueError(f"{wanted} in [-1, 1], or other sides; got {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"this tokenizer takes floats in [-1, 1]; got {x.dtype}: for uint8 "
            f"write x / 127.5 - 1"
        )
    if not x.size:
        raise ValueError(f"{wanted}; got no values, {x.shape}")
    ends = extremes(x)
    low, high = ends.min(), ends.max()
    if low >= 0 and high > 2 and not contract.scale:
        raise ValueError(
            f"this tokenizer takes floats in [-1, 1]; got {low:g} to {high:g}: for "
            f"0 to 255 write x / 127.5 - 1"
        )
    return x


def example(contract: LatentContract, x: Any) -> Any:
    """As `values`, of the contract's sides alone: what a stream is made of."""
    x = array(x)
    if x.shape[1:] != contract.shape:
        sides = ", ".join(map(str, contract.shape))
        raise ValueError(f"it is {x.shape}; write (b, {sides}), cut or padded to these")
    return values(contract, x)


def tokens(contract: LatentContract, q: Any) -> Any:
    """Codes that the books have, or finite latents."""
    q = array(q)
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
    for book, (low, high) in enumerate(zip(*extremes(q), strict=True)):
        if low < 0 or high >= contract.codes[book]:
            raise ValueError(
                f"codes of book {book} are 0 to {contract.codes[book] - 1}; got "
                f"{low:g} to {high:g}"
            )
    return q


def latents(contract: LatentContract, z: Any) -> Any:
    """Finite floats with the channels of a latent."""
    z, channels = array(z), contract.channels
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"latents are floats, and codes integers; got {z.dtype}")
    if z.ndim != 2 + len(contract.grid) or z.shape[-1] != channels:
        raise ValueError(
            f"latents are (b, {', '.join(map(str, contract.grid))}, {channels}), or of "
            f"other sides; got {z.dtype} {z.shape}: codes are integers"
        )
    if not z.size:
        raise ValueError(f"got no latents, {z.shape}")
    extremes(z)
    return z


def stream(stream: Continuous | Discrete, x: Any, masked: bool) -> None:
    """Finite latents, or codes that there are; `masked`: their mask is one of them."""
    if x.shape[1:] != stream.shape:
        raise ValueError(f"it is {x.shape}; write (b, *{stream.shape})")
    if jnp.issubdtype(x.dtype, jnp.floating) != (stream.kind == "latents"):
        raise ValueError(f"its {stream.kind} are {stream.dtype}; got {x.dtype}")
    ends, most = extremes(x), stream.most(masked)
    if most is not None and (ends.min() < 0 or ends.max() > most):
        raise ValueError(f"codes are 0 to {most}; got {ends.min():g} to {ends.max():g}")


class Jitted:
    """What keeps its programs, of `_jitted`, and is pickled without them."""

    _jitted: Any

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in vars(self).items() if name != "_jitted"}

    def compilations(self) -> int:
        """Programs made so far; new keys, labels, scales or signals need no new one.

        The first interval that a sampler is given does, if none was given before.
        """
        return self._jitted._cache_size()


def names(what: str, value: Any) -> tuple[str, ...]:
    """One name or several, as a tuple. Raises ValueError for what is none."""
    found = (value,) if isinstance(value, str) else value
    found = tuple(found) if isinstance(found, Iterable) else (found,)
    if not all(isinstance(each, str) for each in found):
        raise ValueError(f"{what}={_spelled(value)}: write a name, or several")
    return found


def listed(names: Iterable[str]) -> str:
    """As a command line writes them, where refusals are read, too."""
    return ", ".join(names) or "none"


def by_stream(what: str, values: Any) -> Mapping[str, Any]:
    """As it came; nothing of None. Raises ValueError for what has no names."""
    if not isinstance(values, Mapping | None):
        kind = type(values).__name__
        raise ValueError(f"{what} is a {kind}; write {{stream: ...}}")
    return values or {}


def grid(value: Any) -> Grid:
    """A grid, or times that are written down. Raises ValueError for what is none."""
    if isinstance(value, Grid) and not isinstance(value, type):
        return value
    try:
        times = [float(t) for t in value]
    except (TypeError, ValueError):
        raise ValueError(
            f"grid={_spelled(value)}: write a grid, as Steps(50), or its times"
        ) from None
    return Times(tuple(times))


def for_each(
    want: tuple[str, ...], given: Any, what: str, default: Any = None
) -> dict[str, Any]:
    """Stream -> its own, of one for all or a dict of some."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(want, given)
    if set(given) - set(want):
        wrong = listed(sorted(set(given) - set(want)))
        raise ValueError(f"{what} for {wrong}: the streams drawn are {listed(want)}")
    return {name: given.get(name, default) for name in want}


def number(what: str, value: Any, each: tuple[int, ...] = ()) -> Any:
    """A finite number, or of `each` shape one of each example, as an array. Raises
    ValueError for anything else; inside a jit values are not known."""
    found = array(value)
    fits = found.shape in ((), each) and is_real(found)
    if fits and not isinstance(found, jax.core.Tracer):
        fits = bool(np.isfinite(np.asarray(found, np.float64)).all())
    if not fits:
        said = f"{found.dtype} {found.shape}" if found.ndim else _spelled(value)
        several = f", one or {each[0]} of them" if each else ""
        raise ValueError(f"{what}={said}: write finite numbers{several}")
    return found


def mask(known: Any, sides: tuple[int | str, ...]) -> Any:
    """With so many axes behind that of the batch."""
    known = array(known)
    if known.ndim != 1 + len(sides):
        wanted = ", ".join(map(str, sides))
        raise ValueError(f"known is {known.shape}; write (b, {wanted})")
    return known


def count(what: str, value: Any) -> None:
    """Raises ValueError for what is no whole number of one or more."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"{what}={value!r}: write a whole number, 1 or more")


def is_real(x: Any) -> bool:
    """Whether it is of whole numbers or floats."""
    kinds = np.integer, np.floating
    return any(jnp.issubdtype(x.dtype, kind) for kind in kinds)


def array(x: Any) -> Any:
    """As it came, or of lists an array. Raises ValueError where they are ragged.

    Of 64 bits where JAX computes in 32: of so many. Sharded along axes that
    `jax.make_mesh` has made explicit, with which layers fail: the same, automatic.
    """
    if isinstance(x, jax.Array):
        if any(jax.typeof(x).sharding.spec):
            place = jax.typeof(x) if isinstance(x, jax.core.Tracer) else x
            x = jax.device_put(x, automatic(place.sharding))
        return x.astype(jax.dtypes.canonicalize_dtype(x.dtype))
    if hasattr(x, "shape"):
        return x
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x)):
        return jnp.asarray(x)
    try:
        return np.asarray(x)
    except ValueError:  # numpy's words are of its own inside
        raise ValueError("it holds rows of several lengths; write equal ones") from None


def _spelled(value):
    return told(" ".join(repr(value).split()))


def extremes(x: Any) -> np.ndarray:
    """(least, greatest) of each channel. Raises ValueError where one is not finite.

    Zeros inside a jit, where values are not known.
    """
    if isinstance(x, jax.core.Tracer):
        return np.zeros((2, x.shape[-1]))
    with jax.ensure_compile_time_eval():  # what is no argument of a jit is known there
        ends = _jitted_ends(x) if isinstance(x, jax.Array) else _ends(x)
        ends = np.stack([np.asarray(end) for end in ends]).astype(np.float64)
    if not np.isfinite(ends).all():
        raise ValueError(
            f"values of {x.shape} are not all finite; set what was not observed to 0"
        )
    return ends


def _ends(x):
    axes = tuple(range(x.ndim - 1))
    return x.min(axes), x.max(axes)


_jitted_ends = jax.jit(_ends)


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
