"""The random key of a seed."""

import jax


def key_of(seed: int) -> jax.Array:
    """A key that differs for every whole number from 0 of up to 63 bits; without 64-bit
    numbers `jax.random.key` takes those that are alike in their lower 32 for one."""
    low, high = seed % 2**32, seed // 2**32
    key = jax.random.key(low)
    return jax.random.fold_in(key, high) if high else key
