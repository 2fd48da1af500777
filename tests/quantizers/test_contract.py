"""What every quantizer keeps. Joining QUANTIZERS is the price of entry of a new one."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.members import marked, missing
from train.runtime.sharding import TOKENIZER_RULES, path_name
from vqdit import quantizers
from vqdit.quantizers import (
    BSQ,
    FSQ,
    IBQ,
    LFQ,
    EMAVectorQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    MultiScaleQuantizer,
    Projected,
    ResidualFSQ,
    ResidualQuantizer,
    SimVQ,
    VectorQuantizer,
)
from vqdit.values import build, describe

WINDOW = 120  # of 12 codes, the shortest
EMA = EMAVectorQuantizer(12, 4, window=WINDOW)
QUANTIZERS = {
    "vq": VectorQuantizer(12, 4, window=WINDOW),
    "vq_cosine": VectorQuantizer(12, 4, cosine=True, window=WINDOW),
    "vq_terms": VectorQuantizer(
        12,
        4,
        window=WINDOW,
        start="uniform",
        start_scale=12.0,
        revive="split",
        estimator="rotation",
        entropy=True,
        orthogonal=True,
    ),
    "ema": EMA,
    "ema_cosine": EMAVectorQuantizer(12, 4, cosine=True, window=WINDOW),
    "ema_split": EMA.clone(revive="split"),
    "simvq": SimVQ(12, 4, window=WINDOW),
    "simvq_revived": SimVQ(12, 4, window=WINDOW, revive="batch"),
    "ibq": IBQ(12, 4, window=WINDOW, orthogonal=True),
    "ibq_revived": IBQ(12, 4, window=WINDOW, by="distance", revive="batch"),
    "gumbel": GumbelQuantizer(12, 4, window=WINDOW, decay_steps=4),
    "gumbel_soft": GumbelQuantizer(12, 4, hard=False, window=WINDOW),
    "fsq": FSQ((4, 3, 7, 5), window=4200),
    "fsq_symmetric": FSQ((4, 3, 2), symmetric=True, window=240),
    "lfq": LFQ(5, group=3, window=320),
    "bsq": BSQ(5, window=320),
    "residual": ResidualQuantizer(EMA, 3, dropout=0.5),
    "residual_bits": ResidualQuantizer(LFQ(4, window=160), 2),
    "residual_fsq": ResidualFSQ((3, 4), 3, window=WINDOW),
    "grouped": GroupedQuantizer(VectorQuantizer(12, 3, window=WINDOW), 2),
    "grouped_residual": GroupedQuantizer(
        ResidualQuantizer(BSQ(3, entropy=False, window=WINDOW), 2), 2
    ),
    "projected": Projected(VectorQuantizer(12, 3, cosine=True, window=WINDOW), 5),
    "multi_scale": MultiScaleQuantizer(EMA, (1, 2)),
}
# Whose latents in training have the gradient of another thing than the identity.
OWN_GRADIENT = ("projected", "ibq", "ibq_revived", "gumbel", "gumbel_soft", "vq_terms")
BENT = (
    "fsq",
    "fsq_symmetric",
    "residual_fsq",
    "bsq",
    "grouped_residual",
    "vq_cosine",
    "ema_cosine",
)
REVIVES = ("vq", "vq_cosine", "vq_terms", "ema", "ema_cosine", "ema_split")
REVIVES += (
    "projected",
    "residual",
    "grouped",
    "multi_scale",
    "simvq_revived",
    "ibq_revived",
)
KEY = jax.random.key(3)
SHAPE = (8, 2, 2)  # of the vectors in every test, so that programs are shared


# Near relatives of another member.
SLOW = (
    "bsq",
    "residual_fsq",
    "grouped",
    "projected",
    "vq",
    "simvq",
    "ibq",
    "vq_cosine",
    "ema_cosine",
    "ema_split",
    "gumbel_soft",
    "residual_bits",
    "grouped_residual",
)
# One of each way to find codes and of each way to use several books.
ALONE = ("vq_cosine", "simvq", "fsq", "bsq", "residual", "grouped", "multi_scale")


@pytest.fixture(params=marked(QUANTIZERS, SLOW))
def name(request):
    return request.param


@pytest.fixture
def quantizer(name):
    return QUANTIZERS[name]


def test_no_quantizer_is_left_out():
    belongs = lambda kind: hasattr(kind, "code_counts")
    members = map(type, QUANTIZERS.values())
    bases = {"Bits", "Book", "NearestBook", "ParameterBook"}
    assert missing(quantizers, belongs, members) == bases


NEAREST = {"start": "normal", "start_scale": 1.0, "entropy_temperature": 1.0}
STRAIGHT = {"estimator": "straight_through"}
BITS = STRAIGHT | {"entropy": True, "temperature": 1.0, "group": 9}
BITS |= {"sample_entropy": 1.0, "codebook_entropy": 1.0}
LEARNED = NEAREST | STRAIGHT | {"entropy": False, "cosine": False, "revive": "batch"}


@pytest.mark.parametrize(
    "book, fields",
    [
        (VectorQuantizer(4, 2), LEARNED | {"orthogonal": False}),
        (EMAVectorQuantizer(4, 2), LEARNED | {"decay": 0.99}),
        (SimVQ(4, 2), NEAREST | STRAIGHT | {"entropy": False, "revive": "none"}),
        (
            IBQ(4, 2),
            NEAREST
            | {"revive": "none", "orthogonal": False}
            | {"by": "product", "entropy": True},
        ),
        (
            GumbelQuantizer(4, 2),
            {"hard": True, "temperature": 1.0, "least": 1 / 16, "decay_steps": 0},
        ),
        (LFQ(4), BITS),
        (BSQ(4), BITS),
        (FSQ((3,)), STRAIGHT | {"signs": True, "symmetric": False}),
        (ResidualFSQ((3,), 2), STRAIGHT),
        (ResidualQuantizer(LFQ(4), 2), {"dropout": 0.0, "shrink": None}),
        (MultiScaleQuantizer(LFQ(4), (1, 2)), {"phis": 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_nobody_writes_is_as_published(book, fields):
    assert {name: getattr(book, name) for name in fields} == fields
    assert getattr(book, "window", None) is None


def code_shape(quantizer):
    grid = getattr(quantizer, "code_grid", SHAPE[1:])
    return (SHAPE[0], *grid, len(quantizer.code_counts))


def vectors(quantizer, seed=0, scale=1.0, dtype="float32"):
    z = np.random.default_rng(seed).normal(0, scale, (*SHAPE, quantizer.dim))
    return jnp.asarray(z, dtype)


@functools.cache
def start(quantizer):
    return jax.jit(quantizer.init)(jax.random.key(7), vectors(quantizer))


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


jit_evaluate = jax.jit(evaluate, static_argnums=0)
jit_train = jax.jit(train, static_argnums=0)


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
    count = quantizer.code_counts[0]
    if len(quantizer.code_counts) > 1 or hasattr(quantizer, "code_grid"):
        pytest.skip("a code alone is no vector")
    codes = jnp.arange(count, dtype=jnp.int32)[:, None]
    decode = jax.jit(lambda v, codes: quantizer.apply(v, codes, method="decode"))
    latents = decode(start(quantizer), codes)
    assert latents.shape == (count, quantizer.dim)
    assert len(np.unique(latents, axis=0)) == count


@pytest.mark.parametrize("scale", [0.0, 100.0])
def test_codes_are_in_range(quantizer, scale):
    z = vectors(quantizer, scale=scale)
    codes = jit_evaluate(quantizer, start(quantizer), z)[0].codes
    assert codes.shape == code_shape(quantizer) and codes.dtype == jnp.int32
    assert codes.min() >= 0 and (codes < np.array(quantizer.code_counts)).all()


def test_gradient_reaches_every_z_and_is_finite_at_zero(name, quantizer):
    variables, z = start(quantizer), vectors(quantizer)
    weight = vectors(quantizer, seed=1)

    @jax.jit
    def gradients(z):
        def both(z):
            quantized, _ = train(quantizer, variables, z)
            losses = sum(quantized.losses.values(), z.sum())
            return jnp.stack([(quantized.latents * weight).sum(), losses])

        return jax.jacrev(both)(z)

    gradient = gradients(z)[0]
    assert np.isfinite(gradient).all() and (gradient != 0).all()
    if name in BENT:
        # Through the bound, or on the sphere: same side, other size.
        assert (gradient * weight).sum() > 0
    elif name not in OWN_GRADIENT:
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
    assert [counts.sum() for counts in all_counts(variables)] == [0] * books(quantizer)
    _, state = jit_train(quantizer, variables, vectors(quantizer))
    each = np.prod(code_shape(quantizer)[:-1])
    assert [counts.sum() for counts in all_counts(state)] == [each] * books(quantizer)


def books(quantizer):
    return len(quantizer.code_counts)


def all_counts(state):
    named = jax.tree_util.tree_leaves_with_path(state["usage"])
    return [leaf for path, leaf in named if path[-1].key == "counts"]


def test_losses_and_metrics_are_named_scalars(quantizer):
    quantized, _ = jit_train(quantizer, start(quantizer), vectors(quantizer))
    assert {"usage", "perplexity", "entropy_bits"} <= set(quantized.metrics)
    assert ("usage_min" in quantized.metrics) == (books(quantizer) > 1)
    names = {"commit", "codebook", "kl", "entropy", "orthogonal"}
    assert set(quantized.losses) <= names  # the trainer has a weight for each
    for value in (*quantized.losses.values(), *quantized.metrics.values()):
        assert value.shape == ()


def test_losses_are_of_training_alone(quantizer):
    """Outside of it not even a softmax over all codes is taken."""
    variables, z = start(quantizer), vectors(quantizer)
    assert jit_evaluate(quantizer, variables, z)[0].losses == {}
    used = jax.make_jaxpr(functools.partial(quantizer.apply, in_use(variables)))(z)
    # A perplexity's is of one number.
    assert not re.search(r":f32\[\d[^\]]*\] = exp ", str(used))


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


def in_use(variables):
    """What a bundle holds: usage and revival belong to training."""
    return {n: v for n, v in variables.items() if n in ("params", "codebook")}


def test_params_and_codebook_are_all_that_a_trained_one_needs(quantizer):
    variables, z = start(quantizer), vectors(quantizer)
    quantized, _, decoded = jit_evaluate(quantizer, in_use(variables), z)
    np.testing.assert_array_equal(decoded, quantized.latents)
    whole = jit_evaluate(quantizer, variables, z)[0]
    assert_same(quantized, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_jit_changes_nothing(name):
    """Every operation compiled alone; jit may round otherwise."""
    quantizer = QUANTIZERS[name]
    variables, z = in_use(start(quantizer)), vectors(quantizer)
    quantized = quantizer.apply(variables, z)
    decoded = quantizer.apply(variables, quantized.codes, method="decode")
    np.testing.assert_array_equal(decoded, quantized.latents)
    whole = jit_evaluate(quantizer, variables, z)[0]
    assert_same(quantized, whole, rtol=1e-5, atol=1e-6)


def test_one_device_equals_eight(name, quantizer):
    """Four batches, a window and a bit, so that codes die and are revived."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def run(place=None, everywhere=None):
        variables = jax.device_put(start(quantizer), everywhere)
        answers = []
        for seed in range(4):
            # To one side, where even directions leave codes unused.
            z = vectors(quantizer, seed=seed, scale=0.3) + 0.3
            quantized, state = jit_train(quantizer, variables, jax.device_put(z, place))
            variables = {**variables, **state}
            answers.append(quantized)
        return jax.device_get((answers, state_of(variables)))

    one = run()
    eight = run(NamedSharding(mesh, P("data")), NamedSharding(mesh, P()))
    assert_same(eight, one, rtol=1e-5, atol=1e-6)
    if name in REVIVES:
        assert sum(quantized.metrics["revived"] for quantized in one[0]) > 0


def test_wrong_width_is_refused(quantizer):
    with pytest.raises(ValueError, match=str(quantizer.dim)):
        jax.eval_shape(quantizer.init, KEY, jnp.zeros((2, quantizer.dim + 1)))


def test_equal_quantizers_are_equal_values(quantizer):
    """A module is a config and a cache key: clones compare and hash alike."""
    for clone in (
        quantizer.clone(),
        build(json.loads(json.dumps(describe(quantizer)))),
    ):
        assert clone == quantizer and hash(clone) == hash(quantizer)


def test_every_variable_has_a_sharding_rule(quantizer):
    """Codebooks and all else of a quantizer are on every device."""
    variables = {name: {"quantizer": tree} for name, tree in start(quantizer).items()}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = path_name(path)
        spec = next(r.spec for r in TOKENIZER_RULES if re.search(r.pattern, name))
        assert len(spec) <= leaf.ndim and not any(spec), name
