"""Attention by JAX's flash kernel for TPUs, split over examples and heads.

The compiler cannot split a Pallas kernel by itself. So on a mesh (`jax.set_mesh`) each
device runs it on its own part, by Flax's rules for the axes "batch" and "heads".
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import flash_attention as kernel

from vqdit.shapes import Array, Bool, Float
from vqdit.split import parts

TILE = 128  # tokens, and channels of wide heads, come in multiples of it


def usable() -> bool:
    """Whether the kernel would run on this backend's devices as things are."""
    return jax.device_count() == 1 or not jax.sharding.get_abstract_mesh().empty


def attend(
    q: Float[Array, "b n h k"],
    k: Float[Array, "b n h k"],
    v: Float[Array, "b n h k"],
    known: Bool[Array, "b n"] | None = None,
) -> Float[Array, "b n h k"]:
    """`nn.attention.attend`, which says what the arguments are."""
    inputs = [x.transpose(0, 2, 1, 3) for x in (q, k, v)]
    inputs += [] if known is None else [known.astype(jnp.int32)]
    function = _attend
    if not jax.sharding.get_abstract_mesh().empty:
        batch = "batch" if parts(len(q)) > 1 else None
        heads = "heads" if parts(q.shape[2], "heads") > 1 else None
        whole = nn.logical_to_mesh_axes((batch, heads, None, None))
        places = (*3 * (whole,), nn.logical_to_mesh_axes((batch, None)))
        function = jax.shard_map(
            _attend, in_specs=places[: len(inputs)], out_specs=whole, check_vma=False
        )
    return function(*inputs).transpose(0, 2, 1, 3)


def _attend(q, k, v, known=None):
    """Heads first. The tokens that see each other are those of the same segment."""
    n, width = q.shape[2:]
    tile = next(size for size in (512, 256, TILE) if n % size == 0)
    sides = (field.name for field in dataclasses.fields(kernel.BlockSizes))
    sizes = dict.fromkeys(sides, tile) | {"block_b": 1}
    segments = None
    if known is not None:
        segments = kernel.SegmentIds(q=jnp.ones_like(known), kv=known)
    return kernel.flash_attention(
        *(q, k, v, None, segments),
        sm_scale=width**-0.5,
        block_sizes=kernel.BlockSizes(**sizes),
    )
