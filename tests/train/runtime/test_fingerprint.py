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
