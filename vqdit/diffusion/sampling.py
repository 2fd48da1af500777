"""Reverse-time sampling of a dict of streams."""

import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vqdit.diffusion.guidance import Predictor, broadcast


def time_grid(steps: int, start: float = 1.0, shift: float = 1.0) -> Array:
    """steps + 1 times from `start` down to 0.

    shift > 1 spends more of them near noise: t -> shift t / (1 + (shift - 1) t)
    (arXiv:2403.03206, eq. 23).
    """
    if steps < 1:
        raise ValueError(f"{steps} sampling steps; write at least 1")
    if shift <= 0:
        raise ValueError(f"time shift {shift}; write a positive number")
    t = jnp.linspace(1.0, 0.0, steps + 1)
    return start * shift * t / (1 + (shift - 1) * t)


def example_keys(key: Key[Array, ""], ids: Int[Array, "b"]) -> Key[Array, "b"]:
    """One key per sample, a function of (key, id) alone."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def priors(
    processes: Mapping, shapes: Mapping[str, tuple[int, ...]], keys: Key[Array, "b"]
) -> dict[str, Array]:
    """Every stream at t = 1, one draw per key."""

    def draw(name):
        prior = lambda k: processes[name].prior(_named(k, name, 0), shapes[name])
        return jax.vmap(prior)(keys)

    return {name: draw(name) for name in shapes}


def sample(
    processes: Mapping,
    solvers: Mapping,
    predict: Predictor,
    keys: Key[Array, "b"],
    shapes: Mapping[str, tuple[int, ...]],
    times: Float[Array, "steps"],
    given: Mapping[str, Array] | None = None,
    trajectory: bool = False,
) -> dict[str, Array] | tuple[dict[str, Array], dict[str, Array]]:
    """Draws the streams in `shapes`, given those in `given` at t = 0.

    times run from near 1 down to 0. Sample i is a function of keys[i] (and its
    condition) alone: batch size, order and mesh do not matter. With `trajectory` also
    returns every x_t, name -> (steps + 1, b, ...).
    """
    given, times = dict(given or {}), jnp.asarray(times)

    def at(x, t):
        now = {name: broadcast(t, x) for name in x}
        clean = {name: jnp.zeros_like(broadcast(t, x)) for name in given}
        return predict({**x, **given}, {**now, **clean})

    def body(x, i):
        t, s = times[i], times[i + 1]
        outputs = at(x, t)
        x_s = {}
        for name, x_t in x.items():
            step = lambda o, v, k, name=name: solvers[name].step(
                processes[name], o, v, t, s, _named(k, name, i + 1)
            )
            x_s[name] = jax.vmap(step)(outputs[name], x_t, keys)
        if any(solvers[name].order == 2 for name in x):
            outputs_s = at(x_s, s)
            for name in x:
                if solvers[name].order == 2:
                    correct = lambda o, p, v, w, name=name: solvers[name].correct(
                        processes[name], o, p, v, w, t, s
                    )
                    x_s[name] = jax.vmap(correct)(
                        outputs[name], outputs_s[name], x[name], x_s[name]
                    )
        return x_s, (x_s if trajectory else None)

    start = priors(processes, shapes, keys)
    x, path = jax.lax.scan(body, start, jnp.arange(len(times) - 1))
    if not trajectory:
        return x
    path = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, path)
    return x, path


def _named(key, name, i):
    """A key for step i of one stream; the stream's noise ignores its companions."""
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), i)
