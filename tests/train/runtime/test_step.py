import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.train import toy
from train.runtime.step import beside, init_state, make_step


def line(params, stats, batch, key, step):
    """Loss a * x, so the gradient is the mean of x; counts its own calls."""
    del key
    loss = (params["a"] * batch["x"]).mean()
    return loss, ({"calls": stats["calls"] + 1}, {"largest": batch["x"].max()})


def line_state(tx, a=1.0):
    variables = {"params": {"a": jnp.float32(a)}, "calls": jnp.int32(0)}
    return init_state(jax.random.key(0), variables, tx)


def test_one_update_by_hand():
    tx = optax.sgd(0.5)
    step = make_step(line, tx, ema_decay=0.5, learning_rate=lambda i: 0.5 + i)
    state, metrics = step(line_state(tx, 4.0), {"x": jnp.array([1.0, 3.0])})
    assert state.step == 1 and state.stats["calls"] == 1
    assert float(state.params["a"]) == 4 - 0.5 * 2
    expected = {"loss": 8.0, "grad_norm": 2.0, "largest": 3.0, "learning_rate": 0.5}
    assert {name: float(v) for name, v in metrics.items()} == expected


def test_moving_average_starts_as_a_copy_and_its_decay_is_ramped():
    tx = optax.sgd(1.0)
    step = jax.jit(make_step(line, tx, ema_decay=0.3))
    state = line_state(tx)
    assert state.ema["a"] is not state.params["a"]
    ema = 1.0
    for i in range(5):
        state, _ = step(state, {"x": jnp.ones(2)})
        decay = min(0.3, (1 + i) / (10 + i))
        ema = decay * ema + (1 - decay) * (1.0 - (i + 1))
        np.testing.assert_allclose(state.ema["a"], ema, rtol=1e-6)
    # Late in a run it is as slow as was asked for, 0.9999 where nothing was.
    late = line_state(tx).replace(step=jnp.int32(10**6))
    state, _ = make_step(line, tx)(late, {"x": jnp.full(2, 1000.0)})
    np.testing.assert_allclose(state.ema["a"], 1 - 1e-4 * 1000, rtol=1e-5)


def test_the_average_of_what_is_frozen_is_what_it_was():
    """Bit for bit: it is what a bundle holds, and what was trained before."""
    tx = optax.sgd(0.0)
    late = line_state(tx).replace(step=jnp.int32(10**6))
    weights = {"a": jnp.linspace(0.1, 1.0, 64)}
    state = late.replace(params=weights, ema=weights)
    step = jax.jit(make_step(line, tx))
    for _ in range(20):
        state, _ = step(state, {"x": jnp.ones(64)})
    np.testing.assert_array_equal(state.ema["a"], weights["a"])


def test_state_is_arrays_whatever_the_module_began_with():
    variables = {"params": {"a": jnp.ones(2)}, "codebook": {"ready": False, "n": 3}}
    state = init_state(jax.random.key(0), variables, optax.adam(1.0))
    assert set(state.stats) == {"codebook"} and "codebook" not in state.params
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_a_fresh_state_can_be_donated():
    step = jax.jit(toy.new_step(), donate_argnums=0)
    state = toy.new_state()
    first = state.params["up"]["kernel"]
    state, _ = step(state, toy.new_batch())
    assert first.is_deleted() and state.step == 1


def test_each_update_has_its_own_noise_and_each_example_too():
    seen = []

    def spy(params, stats, batch, key, step):
        seen.append(jax.random.normal(key, (4,)))
        return jnp.float32(0) * params["a"], (stats, {})

    tx = optax.sgd(1.0)
    step = make_step(spy, tx)
    state = line_state(tx)
    for _ in range(3):
        state, _ = step(state, {"x": jnp.ones(4)})
    assert len(np.unique(np.concatenate(seen))) == 12
    again = jax.random.normal(jax.random.fold_in(state.key, 1), (4,))
    np.testing.assert_array_equal(seen[1], again)


def test_what_is_beside_the_steps_has_the_keys_that_it_had():
    """A run that goes on draws what it would have drawn; no step has such a key."""
    root = jax.random.key(0)
    words = {"heldout": [1403804397, 537093733], "k-means": [1503783849, 4064903951]}
    for word, key in words.items():
        assert jax.random.key_data(beside(root, word)).tolist() == key
    steps = [jax.random.key_data(jax.random.fold_in(root, i)) for i in range(20)]
    assert not {*map(tuple, np.array(steps).tolist())} & {*map(tuple, words.values())}


def test_the_toy_learns():
    """Finite from the start, and falling on one repeated batch."""
    step, state = jax.jit(toy.new_step()), toy.new_state()
    losses = []
    for _ in range(60):
        state, metrics = step(state, toy.new_batch())
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
