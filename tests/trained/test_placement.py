"""`vqdit.load` in another type, on another device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import vqdit
from tests import quick, toys
from tests.tokenizer.test_contract import BACKBONES, module_of
from vqdit import Codec, Judge, PerFrame, VectorQuantizer
from vqdit.features.classifier import Classifier
from vqdit.trained.contract import contract_of
from vqdit.trained.placement import Placement


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A generator whose tokenizer has codewords that are learned."""
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = toys.codec()
    module = tokenizer.module.clone(quantizer=VectorQuantizer(5, 2))
    variables = toys.drawn(module, jnp.zeros((1, 4, 4, 1)))
    signal = {"kind": "image", "shape": (4, 4, 1)}
    contract = contract_of(module, signal, (2, 2), (0.1, -0.2), (1.5, 0.5), variables)
    generator = toys.any_to_any()
    tokenizers = {"image": Codec(module, variables, contract)}
    parts = generator.module, generator.params, generator.processes, tokenizers
    vqdit.save(folder, vqdit.Generator(*parts))
    return folder


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def test_in_bfloat16_networks_compute_and_are_held_and_codes_mean_the_same(saved):
    whole, low = vqdit.load(saved), vqdit.load(saved, dtype="bfloat16")
    assert dtypes(whole.params) == {"float32"} and dtypes(low.params) == {"bfloat16"}
    assert low.module == whole.module.clone(dtype="bfloat16")
    codec, exact = low.codecs["image"], whole.codecs["image"]
    own = codec.module
    assert own.encoder.dtype == own.decoder.dtype == "bfloat16"
    params = dict(codec.variables["params"])
    assert dtypes(params.pop("quantizer")) == {"float32"}
    assert dtypes(params) == {"bfloat16"}
    state = {n: v for n, v in codec.variables.items() if n != "params"}
    for name, part in state.items():
        jax.tree.map(np.testing.assert_array_equal, part, exact.variables[name])
    held = (
        codec.variables["params"]["quantizer"],
        exact.variables["params"]["quantizer"],
    )
    jax.tree.map(np.testing.assert_array_equal, *held)
    assert own.quantizer == exact.module.quantizer


@pytest.mark.slow
def test_in_bfloat16_a_network_says_nearly_the_same(saved):
    whole, low = vqdit.load(saved), vqdit.load(saved, dtype="bfloat16")
    image = jnp.linspace(-2, 2, 16).reshape(2, 2, 2, 2)
    x = {"image": image, "word": jnp.ones((2, 3, 1), int)}
    times = {name: jnp.full(2, 0.3) for name in x}
    found, near = (
        quick.apply(g.module, {"params": g.params}, x, times)["image"]
        for g in (low, whole)
    )
    assert found.dtype == jnp.float32
    error = jnp.abs(found - near).max() / jnp.abs(near).max()
    assert 1e-5 < error < 0.05


def test_float32_is_what_a_model_of_bfloat16_can_be_brought_to(saved, tmp_path):
    vqdit.save(tmp_path / "low", vqdit.load(saved, dtype=jnp.bfloat16))
    again = vqdit.load(tmp_path / "low")
    assert again.module.dtype == "bfloat16" and dtypes(again.params) == {"bfloat16"}
    again = vqdit.load(tmp_path / "low", dtype=np.float32)
    assert again.module.dtype == "float32" and dtypes(again.params) == {"float32"}


def test_modules_within_modules_compute_in_the_type():
    inner = toys.codec().module.encoder
    assert Placement("bfloat16").module(PerFrame(inner)).dtype == "bfloat16"
    own = vqdit.LogMel(8000, 64, 32, bands=16)
    assert Placement("bfloat16").module(own) == own


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_computes_so(name):
    """Traced alone: what goes in and comes out stays float32."""
    x = jax.ShapeDtypeStruct((2, *BACKBONES[name][1], 2), jnp.float32)
    how = Placement("bfloat16")
    module = how.module(module_of(name))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    low = jax.eval_shape(how.variables, shapes)
    assert dtypes(low) == {"bfloat16"}
    both = lambda module, x: (module.encode(x), module(x)[0])
    program = jax.make_jaxpr(lambda v, x: module.apply(v, x, method=both))(low, x)
    assert [out.dtype.name for out in program.out_avals] == ["float32"] * 2
    assert program.out_avals[1].shape == x.shape
    products = [
        w for w in str(program).splitlines() if " = dot_gen" in w or " = conv_" in w
    ]
    assert any(":bf16[" in line for line in products)


def test_everything_is_on_the_device_that_is_named(saved):
    device = jax.devices()[3]
    found = vqdit.load(saved, device=device)
    arrays = jax.tree.leaves(found)
    assert len(arrays) > 20
    assert {at for leaf in arrays for at in leaf.devices()} == {device}
    codec, x = found.codecs["image"], np.zeros((2, 4, 4, 1), np.float32)
    codes = codec.encode(x).codes
    assert codes.devices() == {device}
    there = vqdit.load(saved).codecs["image"].encode(x).codes
    np.testing.assert_array_equal(codes, there)


def test_a_sharding_lays_out_every_array(saved):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    replicated = NamedSharding(mesh, P())
    found = vqdit.load(saved, dtype="bfloat16", device=replicated)
    assert {leaf.sharding for leaf in jax.tree.leaves(found)} == {replicated}


def test_axes_that_make_mesh_has_made_explicit_are_taken(saved):
    """As it does unasked: of a sampler, a codec, and in a jit of one's own."""
    mesh = jax.make_mesh((8,), ("data",))
    batch, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    ids, x = np.arange(8), np.zeros((8, 4, 4, 1), np.float32)
    for device in (None, everywhere):
        found = vqdit.load(saved, device=device)
        draw, codec = found.sampler(want="image", steps=2), found.codecs["image"]
        expected = draw(jax.random.key(0), ids)["image"]
        drawn = lambda ids, draw=draw: draw(jax.random.key(0), ids)["image"]
        there = jax.device_put(ids, batch)
        for each in (drawn(there), jax.jit(drawn)(there)):
            assert (
                len(each.sharding.device_set) == 8 and each.sharding.spec[0] == "data"
            )
            np.testing.assert_allclose(each, expected, atol=1e-5)
        codes = codec.encode(jax.device_put(x, batch)).codes
        np.testing.assert_array_equal(codes, codec.encode(x).codes)
    signals = jax.device_put(x, batch)
    with jax.set_mesh(mesh):  # what comes back is of its axes
        in_jit = jax.jit(lambda ids: drawn(ids) + 1)(there)
        np.testing.assert_allclose(in_jit - 1, expected, atol=1e-5)
        np.testing.assert_array_equal(codec.encode(signals).codes + 0, codes)
        slopes = jax.grad(lambda x: jnp.square(codec.encode(x).latents).sum())(x)
        assert np.isfinite(slopes).all()


def test_a_classifier_keeps_its_type_and_takes_its_place(tmp_path):
    network = Classifier(10, (4, 6), dim=5)
    params = toys.drawn(network, jnp.zeros((1, 8, 8, 1)))["params"]
    held = {"count": 3, "means": (0.5, 1.5)}
    judge = Judge(network, params, (8, 8, 1), {"seed": 0}, held_out=held)
    vqdit.save(tmp_path / "judge", judge)
    device = jax.devices()[2]
    found = vqdit.load(tmp_path / "judge", dtype="bfloat16", device=device)
    assert found.held_out == held and found.protocol == {"seed": 0}
    assert dtypes(found.params) == {"float32"}
    assert {at for v in jax.tree.leaves(found.params) for at in v.devices()} == {device}


@pytest.mark.parametrize("dtype", ["int8", "float16", np.float64, "half"])
def test_a_type_that_no_network_computes_in_is_refused(dtype, tmp_path):
    with pytest.raises(ValueError, match="^dtype=.*: write float32 or bfloat16$"):
        vqdit.load(tmp_path / "nothing", dtype=dtype)
