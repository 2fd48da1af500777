"""What is in a state, in a few words an array: enough to know if a bit has changed."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.runtime.sharding import path_name, replicated


def fingerprints(state: Any) -> dict[str, dict]:
    """Path -> shape, dtype, fingerprint, finite. Waits for the device.

    state: a tree of JAX arrays, typed keys among them.
    """
    named, _ = jax.tree_util.tree_flatten_with_path(state)
    # Each is waited for: where arrays span devices a digest is a collective, and those
    # that start two of them in different orders wait for each other for ever.
    digests = [
        np.asarray(_digest_to(replicated(leaf.sharding))(leaf)) for _, leaf in named
    ]
    return {
        path_name(path): {
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "fingerprint": f"{digest[0]:08x}{digest[1]:08x}",
            "finite": not digest[2],
        }
        for (path, leaf), digest in zip(named, digests, strict=True)
    }


def _digest(x: jax.Array) -> jax.Array:
    """(3,) uint32: a fingerprint in two words, and whether any value is not finite.

    Integers only, summed modulo 2**32: the same on any mesh. Each element is mixed with
    its index, so order counts. At most 2**32 elements.
    """
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    finite = jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.inexact) else True
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    words = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}
    u = jax.lax.bitcast_convert_type(x, words[x.dtype.itemsize]).astype(jnp.uint32)
    index = jax.lax.iota(jnp.uint32, u.size).reshape(u.shape)
    h = (u ^ (index * jnp.uint32(2654435761))) * jnp.uint32(2246822519)
    h = (h ^ (h >> 15)) * jnp.uint32(3266489917)
    h = h ^ (h >> 13)
    again = h ^ ((h >> 7) * jnp.uint32(668265263))
    broken = jnp.uint32(1) - jnp.asarray(finite, jnp.uint32)
    return jnp.stack([h.sum(dtype=jnp.uint32), again.sum(dtype=jnp.uint32), broken])


@functools.cache
def _digest_to(sharding: jax.sharding.Sharding) -> Callable:
    # One small program per shape: far quicker to compile than one for the whole state.
    return jax.jit(_digest, out_shardings=sharding)
