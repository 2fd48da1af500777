"""What every quantizer keeps. Joining QUANTIZERS is the price of entry of a new one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests import quick
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer

WINDOW = 64
QUANTIZERS = {
    "vq": VectorQuantizer(12, 4, window=WINDOW),
    "vq_cosine": VectorQuantizer(12, 4, cosine=True, window=WINDOW),
    "ema": EMAVectorQuantizer(12, 4, window=WINDOW),
    "ema_cosine": EMAVectorQuantizer(12, 4, cosine=True, window=WINDOW),
    "fsq": FSQ((4, 3, 7, 5), window=WINDOW),
}
KEY = jax.random.key(3)
SHAPE = (8, 2, 2)  # of the vectors in every test, so that programs are shared


@pytest.fixture(params=QUANTIZERS)
def quantizer(request):
    return QUANTIZERS[request.param]


def vectors(quantizer, seed=0, scale=1.0, dtype="float32"):
    z = np.random.default_rng(seed).normal(0, scale, (*SHAPE, quantizer.dim))
    return jnp.asarray(z, dtype)


@functools.cache
def start(quantizer):
    return quick.jit(quantizer.init)(jax.random.key(7), vectors(quantizer))


def state_of(variables):
    return {name: value for name, value in variables.items() if name != "params"}


def evaluate(quantizer, variables, z):
    """(Quantized, state afterwards, the codes decoded)."""
    mutable = list(state_of(variables))
    quantized, state = quantizer.apply(variables, z, mutable=mutable)
    decoded = quantizer.apply(variables, quantized.codes, method="decode")
    return quantized, dict(state), decoded


def train(quantizer, variables, z):
    """(Quantized, state afterwards)."""
    mutable = list(state_of(variables))
    quantized, state = quantizer.apply(
        variables, z, train=True, key=KEY, mutable=mutable
    )
    return quantized, dict(state)


jit_evaluate = quick.jit(evaluate, static_argnums=0)
jit_train = quick.jit(train, static_argnums=0)


def assert_same(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    compare = (
        functools.partial(np.testing.assert_allclose, **tolerance)
        if tolerance
        else np.testing.assert_array_equal
    )
    jax.tree.map(lambda x, y: compare(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoded_codes_are_the_latents_bit_for_bit(quantizer, dtype):
    z = vectors(quantizer, scale=2.0, dtype=dtype)
    quantized, _, decoded = jit_evaluate(quantizer, start(quantizer), z)
    assert decoded.dtype == jnp.float32
    assert_same(decoded.astype(dtype), quantized.latents)


def test_every_code_decodes_to_a_vector_of_its_own(quantizer):
    (count,) = quantizer.code_counts
    codes = jnp.arange(count, dtype=jnp.int32)[:, None]
    decode = quick.jit(lambda v, codes: quantizer.apply(v, codes, method="decode"))
    latents = decode(start(quantizer), codes)
    assert latents.shape == (count, quantizer.dim)
    assert len(np.unique(latents, axis=0)) == count


@pytest.mark.parametrize("scale", [0.0, 100.0])
def test_codes_are_in_range(quantizer, scale):
    z = vectors(quantizer, scale=scale)
    codes = jit_evaluate(quantizer, start(quantizer), z)[0].codes
    assert codes.shape == (*SHAPE, 1) and codes.dtype == jnp.int32
    assert codes.min() >= 0 and codes.max() < quantizer.code_counts[0]


def test_gradient_reaches_every_z_and_is_finite_at_zero(quantizer):
    variables, z = start(quantizer), vectors(quantizer)
    weight = vectors(quantizer, seed=1)

    @quick.jit
    def gradients(z):
        def score(z):
            return (train(quantizer, variables, z)[0].latents * weight).sum()

        def loss(z):
            return sum(train(quantizer, variables, z)[0].losses.values(), z.sum())

        return jax.grad(score)(z), jax.grad(loss)(z)

    gradient = gradients(z)[0]
    assert np.isfinite(gradient).all() and (gradient != 0).all()
    if isinstance(quantizer, FSQ) or quantizer.cosine:
        # Through the bound, or on the sphere: same side, other size.
        assert (gradient * weight).sum() > 0
    else:
        assert_same(gradient, weight, rtol=1e-6)
    for gradient in gradients(jnp.zeros_like(z)):
        assert np.isfinite(gradient).all()


def test_eval_changes_no_state(quantizer):
    """Neither before training nor after it."""
    variables = start(quantizer)
    _, state, _ = jit_evaluate(quantizer, variables, vectors(quantizer))
    assert_same(state, state_of(variables))
    _, trained = jit_train(quantizer, variables, vectors(quantizer))
    variables = {**variables, **trained}
    _, state, _ = jit_evaluate(quantizer, variables, vectors(quantizer, seed=1))
    assert_same(state, trained)


def test_training_counts_every_vector_once(quantizer):
    """Initialising, which also sees a batch, counts none."""
    variables = start(quantizer)
    assert variables["usage"]["usage"]["counts"].sum() == 0
    _, state = jit_train(quantizer, variables, vectors(quantizer))
    assert state["usage"]["usage"]["counts"].sum() == np.prod(SHAPE)


def test_losses_and_metrics_are_named_scalars(quantizer):
    quantized, _ = jit_train(quantizer, start(quantizer), vectors(quantizer))
    assert {"usage", "perplexity"} <= set(quantized.metrics)
    for value in (*quantized.losses.values(), *quantized.metrics.values()):
        assert value.shape == ()


def test_bfloat16_in_bfloat16_out_and_float32_inside(quantizer):
    """The codes, losses and state are those of the same vectors in float32."""
    variables, z = start(quantizer), vectors(quantizer, dtype="bfloat16")
    low, low_state = jit_train(quantizer, variables, z)
    high, state = jit_train(quantizer, variables, z.astype(jnp.float32))
    assert low.latents.dtype == jnp.bfloat16
    assert_same(low.replace(latents=None), high.replace(latents=None), rtol=1e-6)
    assert_same(low_state, state, rtol=1e-6, atol=1e-7)
    leaves, same = jax.tree.leaves(low_state), jax.tree.leaves(state)
    assert [leaf.dtype for leaf in leaves] == [leaf.dtype for leaf in same]
    evaluated, _, _ = jit_evaluate(quantizer, variables, z)
    assert evaluated.latents.dtype == jnp.bfloat16


def test_jit_changes_nothing(quantizer):
    variables, z = start(quantizer), vectors(quantizer)
    eager = evaluate(quantizer, variables, z)
    jitted = jit_evaluate(quantizer, variables, z)
    assert_same(jitted, eager, rtol=1e-5, atol=1e-6)
    assert_same(eager[2], eager[0].latents)


def test_one_device_equals_eight(quantizer):
    """Four batches of half a window, so that codes die and are revived."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def run(place, everywhere):
        variables = jax.device_put(start(quantizer), everywhere)
        answers = []
        for seed in range(4):
            z = jax.device_put(vectors(quantizer, seed=seed, scale=0.3), place)
            quantized, state = jit_train(quantizer, variables, z)
            variables = {**variables, **state}
            answers.append(quantized)
        return jax.device_get((answers, state_of(variables)))

    one = run(jax.devices()[0], jax.devices()[0])
    eight = run(NamedSharding(mesh, P("data")), NamedSharding(mesh, P()))
    assert_same(eight, one, rtol=1e-5, atol=1e-6)
    if not isinstance(quantizer, FSQ):
        assert sum(quantized.metrics["revived"] for quantized in one[0]) > 0


def test_wrong_width_is_refused(quantizer):
    with pytest.raises(ValueError, match=str(quantizer.dim)):
        jax.eval_shape(quantizer.init, KEY, jnp.zeros((2, quantizer.dim + 1)))


def test_equal_quantizers_are_equal_values(quantizer):
    """A module is a config and a cache key: clones compare and hash alike."""
    clone = quantizer.clone()
    assert clone == quantizer and hash(clone) == hash(quantizer)


def test_params_and_codebook_are_all_that_a_trained_one_needs(quantizer):
    """A bundle holds no more: usage and revival belong to training."""
    variables, z = start(quantizer), vectors(quantizer)
    kept = {n: v for n, v in variables.items() if n in ("params", "codebook")}
    quantized = quantizer.apply(kept, z)
    whole = jit_evaluate(quantizer, variables, z)[0].latents
    assert_same(quantized.latents, whole, rtol=1e-6)  # jit may round otherwise
    np.testing.assert_array_equal(
        quantizer.apply(kept, quantized.codes, method="decode"), quantized.latents
    )
