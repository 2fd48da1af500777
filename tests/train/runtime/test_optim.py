import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import SGD, Adafactor, Muon, Optimizer
from train.errors import BadInput
from train.runtime.optim import learning_rate, make


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("cooldown", [0, 20])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_root"])
def test_learning_rate_is_its_formula(schedule, warmup, cooldown):
    peak, steps = 3e-3, 50
    if cooldown and schedule == "cosine":
        pytest.skip("a cosine has its own end")
    rate = learning_rate(Optimizer(peak, schedule, warmup, cooldown=cooldown), steps)
    for i in range(steps + 1):
        expected = peak
        if i < warmup:
            expected = peak * (i + 1) / (warmup + 1)
        elif schedule == "cosine":
            part = (i - warmup) / (steps - warmup)
            expected = peak * 0.5 * (1 + np.cos(np.pi * part))
        elif schedule == "inverse_root" and i:
            expected = peak * np.sqrt(max(warmup, 1) / i)
        if cooldown and i > steps - cooldown:
            expected *= (steps - i) / cooldown
        # float32: 1e-7 of the peak is two roundings.
        np.testing.assert_allclose(rate(i), expected, atol=2e-7 * peak, rtol=1e-5)


def test_only_kernels_decay_scanned_biases_do_not():
    params = {
        "dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
        "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
        "blocks": {"kernel": jnp.ones((4, 3, 2)), "bias": jnp.ones((4, 2))},
        "norm": {"scale": jnp.ones(2)},
        "label": {"table": jnp.ones((10, 2))},
        "codebook": jnp.ones((8, 2)),
    }
    tx = make(Optimizer(peak_lr=0.1, weight_decay=0.5, clip=None), steps=10)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    names = {"dense", "conv", "blocks"}
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        is_kernel = path[0].key in names and path[-1].key == "kernel"
        # No gradient: what moves is the decay, peak_lr * weight_decay.
        np.testing.assert_allclose(update, -0.05 if is_kernel else 0.0, rtol=1e-6)


def test_first_update_is_adams_and_clipping_bounds_the_gradient():
    """Adam's first step is lr * g / (|g| + eps), whatever the scale of g."""
    params = {"kernel": jnp.zeros((2, 2))}
    grads = {"kernel": jnp.array([[3.0, -4.0], [0.0, 12.0]])}  # norm 13
    tx = make(Optimizer(peak_lr=0.1, clip=1.0), steps=10)
    updates, opt = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [[-0.1, 0.1], [0.0, -0.1]], rtol=1e-5)
    moment = optax.tree.get(opt, "mu")["kernel"]
    np.testing.assert_allclose(moment, 0.1 * grads["kernel"] / 13, rtol=1e-5)
    _, opt = make(Optimizer(clip=None), steps=10).update(
        grads, make(Optimizer(clip=None), steps=10).init(params), params
    )
    moment = optax.tree.get(opt, "mu")["kernel"]
    np.testing.assert_allclose(moment, 0.1 * grads["kernel"], rtol=1e-5)


def updates_of(optimizer, params, grads, steps=1):
    tx = make(optimizer, steps=10)
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(grads, state, params)
    return updates


def test_moments_forget_as_they_are_told():
    """After gradients 1 and 3: m = b1 (1 - b1) + 3 (1 - b1), and so of squares."""
    tx, params = make(Optimizer(b1=0.5, b2=0.75, clip=None), 10), {"a": jnp.zeros(())}
    state = tx.init(params)
    for value in (1.0, 3.0):
        _, state = tx.update({"a": jnp.float32(value)}, state, params)
    mu, nu = (float(optax.tree.get(state, name)["a"]) for name in ("mu", "nu"))
    assert (mu, nu) == (0.5 * 0.5 + 0.5 * 3, 0.75 * 0.25 + 0.25 * 9)


def test_nesterov_looks_ahead():
    """g + m (g + m g) after the second of equal gradients g."""
    params = {"kernel": jnp.zeros(2)}
    optimizer = Optimizer(0.1, clip=None, rule=SGD(momentum=0.5, nesterov=True))
    (update,) = updates_of(optimizer, params, {"kernel": jnp.full(2, 2.0)}, 2).values()
    np.testing.assert_allclose(update, -0.1 * (2 + 0.5 * 3), rtol=1e-6)


def test_adafactor_forgets_by_its_exponent_and_is_clipped():
    """At its second step 2^-decay of the mean is new; updates that have a root mean
    square of more than 1 are brought to it."""
    params = {"a": jnp.zeros(2)}
    tx = make(Optimizer(1.0, clip=None, rule=Adafactor(decay=2.0)), 10)
    _, state = tx.update({"a": jnp.ones(2)}, tx.init(params), params)
    for values, clipped in (([0.5, 0.25], False), ([0.5, 3.0], True)):
        updates, _ = tx.update({"a": jnp.array(values)}, state, params)
        wanted = values / np.sqrt(0.75 + 0.25 * np.square(values))
        size = np.sqrt(np.mean(wanted**2))
        assert (size > 1) == clipped
        np.testing.assert_allclose(updates["a"], -wanted / max(1, size), rtol=1e-5)


def test_momentum_sums_gradients():
    """After n equal ones of the same size: g (1 - m^n) / (1 - m)."""
    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
    grads = jax.tree.map(lambda x: x + 2.0, params)
    optimizer = Optimizer(0.1, clip=None, rule=SGD(momentum=0.5))
    for update in jax.tree.leaves(updates_of(optimizer, params, grads, 3)):
        np.testing.assert_allclose(update, -0.1 * 2 * 1.75, rtol=1e-6)
    plain = Optimizer(0.1, clip=None, rule=SGD(momentum=0.0))
    for update in jax.tree.leaves(updates_of(plain, params, grads, 3)):
        np.testing.assert_allclose(update, -0.1 * 2, rtol=1e-6)


def test_adafactor_keeps_a_row_and_a_column():
    """Of squares that are an outer product both tell all: the update is the sign."""
    rows, columns = jnp.array([1.0, -2.0, 3.0]), jnp.array([0.5, 4.0])
    params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(5)}
    grads = {"kernel": jnp.outer(rows, columns), "bias": jnp.arange(1.0, 6.0)}
    optimizer = Optimizer(0.1, clip=None, rule=Adafactor(factored=2))
    updates = updates_of(optimizer, params, grads)
    np.testing.assert_allclose(
        updates["kernel"], -0.1 * jnp.sign(grads["kernel"]), rtol=1e-4
    )
    np.testing.assert_allclose(updates["bias"], -0.1, rtol=1e-4)
    state = make(optimizer, 10).init(params)
    sizes = sorted(x.size for x in jax.tree.leaves(state))
    assert sizes[-3:] == [2, 3, 5]  # no leaf is as large as the kernel


@pytest.mark.slow
def test_muon_makes_kernels_orthogonal_and_leaves_the_rest_to_adam():
    key = jax.random.key(0)
    shapes = {
        "dense": (24, 16),
        "blocks": (3, 16, 24),
        "conv": (3, 3, 4, 12),
        "x_in": (8, 16),
    }
    params = {name: {"kernel": jnp.zeros(shape)} for name, shape in shapes.items()}
    params["dense"]["bias"] = jnp.zeros(16)
    grads = jax.tree.map(lambda x: 5 * jax.random.normal(key, x.shape), params)
    updates = updates_of(Optimizer(0.1, clip=None, rule=Muon()), params, grads)

    def spread(matrix):
        """Singular values, of which the rule's root mean square is Adam's."""
        values = jnp.linalg.svd(matrix, compute_uv=False) / 0.1
        return values / (0.2 * max(matrix.shape) ** 0.5)

    matrices = [updates["dense"]["kernel"], updates["conv"]["kernel"].reshape(36, 12)]
    for matrix in (*matrices, *updates["blocks"]["kernel"]):
        # Five rounds leave singular values within about a third of 1.
        values = spread(matrix)
        assert 0.6 < values.min() and values.max() < 1.3
    for update, grad in (
        (updates["x_in"]["kernel"], grads["x_in"]["kernel"]),
        (updates["dense"]["bias"], grads["dense"]["bias"]),
    ):
        np.testing.assert_allclose(abs(update), 0.1, rtol=0.06)
        np.testing.assert_array_equal(jnp.sign(update), -jnp.sign(grad))


def test_rates_and_decay_by_path():
    params = {
        "encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "decoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    }
    grads = jax.tree.map(jnp.zeros_like, params)
    grads["encoder"]["kernel"] += 1e6  # frozen, and so not in the norm
    grads["decoder"]["bias"] += jnp.array([0.3, 0.4])
    optimizer = Optimizer(
        1.0,
        weight_decay=0.1,
        clip=0.5,
        rule=SGD(momentum=0.0),
        decay="decoder/.*",
        rates=(("encoder", 0.0), ("bias$", 0.5), ("decoder", 2.0)),
    )
    updates = updates_of(optimizer, params, grads)
    for update in jax.tree.leaves(updates["encoder"]):
        np.testing.assert_array_equal(update, 0)
    np.testing.assert_allclose(updates["decoder"]["kernel"], -0.2, rtol=1e-6)
    np.testing.assert_allclose(updates["decoder"]["bias"], [-0.2, -0.25], rtol=1e-6)
    with pytest.raises(BadInput, match="'decodr' is in the path of no parameter"):
        make(Optimizer(rates=(("decodr", 1.0),)), 10).init(params)


def test_a_decay_of_nothing_is_refused():
    """As rates of nothing are: a misspelt one left all weights as they were."""
    params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    line = "decay: 'kernal' is in the path of no parameter, such as dense/bias or "
    with pytest.raises(BadInput, match=line):
        make(Optimizer(weight_decay=0.1, decay="kernal"), 5).init(params)
    make(Optimizer(decay="kernal"), 5).init(params)  # of which there is none


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"schedule": "cosine", "cooldown": 3}, "write cooldown=0"),
        ({"rule": SGD(), "b1": 0.8}, "leave them out with rule=SGD"),
        ({"rates": (("(", 1.0),)}, "no regular expression"),
        ({"decay": "["}, "no regular expression"),
    ],
)
def test_what_an_optimizer_would_ignore_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Optimizer(**fields)
