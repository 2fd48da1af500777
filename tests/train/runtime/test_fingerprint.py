import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.config import Mesh
from train.runtime.checkpoint.fingerprint import fingerprints
from train.runtime.sharding import make_mesh


def prints(x):
    return fingerprints({"x": x})["x"]["fingerprint"]


def test_it_is_the_same_on_any_mesh():
    x = jax.random.normal(jax.random.key(0), (16, 8))
    mesh = make_mesh(Mesh(2, 2, 2))
    for spec in (jax.P(), jax.P("data"), jax.P(("data", "fsdp"), "tensor")):
        assert prints(jax.device_put(x, jax.NamedSharding(mesh, spec))) == prints(x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_every_bit_and_every_place_counts(dtype):
    rng = np.random.default_rng(0)
    x = np.asarray(jnp.asarray(rng.integers(0, 2, 64), dtype))
    seen = {prints(jnp.asarray(x))}
    raw = x.view(np.uint8)
    for bit in range(1 if dtype == "bool" else 8):
        for place in range(len(raw)):
            flipped = raw.copy()
            flipped[place] ^= 1 << bit
            seen.add(prints(jnp.asarray(flipped.view(x.dtype))))
    assert len(seen) == 1 + len(raw) * (1 if dtype == "bool" else 8)
    assert prints(jnp.asarray(x[::-1].copy())) not in seen


def test_order_and_sign_of_zero_count():
    assert prints(jnp.array([1.0, 2.0])) != prints(jnp.array([2.0, 1.0]))
    assert prints(jnp.array(0.0)) != prints(jnp.array(-0.0))
    assert prints(jax.random.key(1)) != prints(jax.random.key(2))


def test_what_is_not_finite_is_seen():
    tree = {"nan": jnp.array([1.0, jnp.nan]), "inf": jnp.array(-jnp.inf)}
    tree |= {"fine": jnp.ones(3), "whole": jnp.arange(3), "key": jax.random.key(0)}
    tree |= {"empty": jnp.zeros((0, 2))}
    found = {name: leaf["finite"] for name, leaf in fingerprints(tree).items()}
    assert {name for name, finite in found.items() if not finite} == {"nan", "inf"}


def test_it_is_the_one_that_checkpoints_on_disk_have():
    """In the words of NumPy: of each element's bits, its place and all their sum."""

    def by_hand(words):
        u = np.asarray(words, np.uint64)
        wrap = lambda x: x % 2**32
        h = wrap(
            (u ^ wrap(np.arange(len(u), dtype=np.uint64) * 2654435761)) * 2246822519
        )
        h = wrap((h ^ (h >> 15)) * 3266489917)
        h = h ^ (h >> 13)
        again = h ^ wrap((h >> 7) * 668265263)
        return f"{int(h.sum()) % 2**32:08x}{int(again.sum()) % 2**32:08x}"

    x = np.random.default_rng(0).normal(size=8).astype(np.float32)
    assert prints(jnp.asarray(x)) == by_hand(x.view(np.uint32))
    assert prints(jnp.array([1.0, -2.0], jnp.bfloat16)) == by_hand([0x3F80, 0xC000])
    assert prints(jnp.array([True, False, True])) == by_hand([1, 0, 1])
    assert prints(jnp.array([3, -1])) == by_hand([3, 2**32 - 1])
    assert prints(jax.random.key(7)) == by_hand([0, 7])
    pair = np.array([1 + 2j, 3 - 4j], np.complex64)
    assert prints(jnp.asarray(pair)) == by_hand(
        np.float32([1, 3, 2, -4]).view(np.uint32)
    )


def test_either_part_of_a_complex_number_is_seen():
    for broken in (complex(np.nan, 1), complex(1, np.inf)):
        assert not fingerprints({"x": jnp.array([1j, broken])})["x"]["finite"]
