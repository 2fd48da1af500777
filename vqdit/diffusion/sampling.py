"""Reverse-time sampling of a dict of streams."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vqdit.diffusion.guidance import Predictor
from vqdit.diffusion.process import against, named
from vqdit.shapes import Array, Float, Int, Key


def example_keys(key: Key[Array, ""], ids: Int[Array, "b"]) -> Key[Array, "b"]:
    """One key per sample, a function of (key, id) alone.

    Raises ValueError for what is no typed key. jax.random.PRNGKey makes numbers, of
    which the batch would have an axis more.
    """
    kind, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if kind is None or not jnp.issubdtype(kind, jax.dtypes.prng_key) or shape:
        got = repr(key) if kind is None else f"{kind} {shape}"
        raise ValueError(f"key is {got}; write one typed key, jax.random.key(0)")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def priors(
    processes: Mapping, shapes: Mapping[str, tuple[int, ...]], keys: Key[Array, "b"]
) -> dict[str, Array]:
    """Every stream at t = 1, one draw per key."""

    def draw(name):
        prior = lambda key: processes[name].prior(key, shapes[name])
        return _each(keys, name, 0, prior)

    return {name: draw(name) for name in shapes}


def sample(
    processes: Mapping,
    solvers: Mapping,
    predict: Predictor,
    keys: Key[Array, "b"],
    shapes: Mapping[str, tuple[int, ...]],
    times: Float[Array, "steps"] | Mapping[str, Float[Array, "steps"]],
    given: Mapping[str, Array] | None = None,
    trajectory: bool = False,
    noise: Mapping[str, Array] | None = None,
    fixed: Mapping[str, tuple[Array, Array]] | None = None,
    parts: Mapping[str, Array] | None = None,
) -> dict[str, Array] | tuple[dict[str, Array], dict[str, Array]]:
    """Draws the streams in `shapes`, given those in `given` at t = 0.

    times run from near 1 down to 0, for all streams or for each its own, equally many.
    noise: streams at their first time; the others start from their prior.
    fixed: drawn stream -> (data, (b, *grid) mask): where the mask is 1 the stream is
    the data, corrupted anew to every time (arXiv:2011.13456, appendix I.2), but for
    masked codes, which are seen as they are.
    parts: stream of `fixed` -> (b, *grid) bool, where the data stands at t = 0 beside
    the places that are drawn, for networks that were trained with such.
    Sample i is a function of keys[i] (and its condition) alone: batch size, order and
    mesh do not matter. With `trajectory` also returns every x_t, name -> (steps + 1, b,
    ...). Raises ValueError where streams have not equally many times.
    """
    given = dict(given or {})
    if not isinstance(times, Mapping):
        times = dict.fromkeys(shapes, times)
    times = {name: jnp.asarray(times[name]) for name in shapes}
    steps = steps_of(times)
    stages = max(solvers[name].stages for name in shapes)
    fixed, parts, words = dict(fixed or {}), dict(parts or {}), (stages + 1) * steps

    def ask(x, now):
        now = now | dict.fromkeys(given, jnp.float32(0))
        now = {name: jnp.broadcast_to(t, keys.shape) for name, t in now.items()}
        for name, mask in parts.items():
            now[name] = jnp.where(mask, 0.0, against(now[name], mask))
            x = x | {name: keep(name, x[name])}
        # Whatever the network computes in: Gumbel draws of bfloat16 are so coarse that
        # the first codes come too often.
        wide = lambda y: y.astype(jnp.promote_types(y.dtype, jnp.float32))
        return jax.tree.map(wide, predict({**x, **given}, now))

    def begin(name, x, memory, i):
        solver, process = solvers[name], processes[name]
        t, s = times[name][i], times[name][i + 1]
        one = lambda key, x, memory: solver.begin(process, x, t, s, key, memory)
        return _each(keys, name, i + 1 + stages * steps, one, x, memory)

    def step(name, stage, output, x_t, x, memory, i):
        solver, process = solvers[name], processes[name]
        t, s = times[name][i], times[name][i + 1]

        def one(key, output, x_t, x, memory):
            return solver.step(stage, process, output, x_t, x, t, s, key, memory)

        words = i + 1 + stage * steps
        return _each(keys, name, words, one, output, x_t, x, memory)

    def now(name, stage, i):
        t, s = times[name][i], times[name][i + 1]
        if stage >= solvers[name].stages:
            return s
        return solvers[name].time(stage, processes[name], t, s)

    def hold(name, x, i):
        """x with what is fixed as it is at time i."""
        if name not in fixed:
            return x
        data, mask = fixed[name]
        held = lambda key, x0: processes[name].held(x0, times[name][i], key)
        held = _each(keys, name, 1 + i + words, held, data)
        x = jnp.where(against(mask, x) > 0, held.astype(x.dtype), x)
        return keep(name, x) if name in parts else x

    def keep(name, x):
        """x with what stands at t = 0 as it is."""
        return jnp.where(against(parts[name], x), fixed[name][0].astype(x.dtype), x)

    def body(carry, i):
        x, memory = carry
        x = x_t = {name: begin(name, x[name], memory[name], i) for name in x}
        for stage in range(stages):
            outputs = ask(x, {name: now(name, stage, i) for name in x})
            x, memory = dict(x), dict(memory)
            for name in x:
                if stage < solvers[name].stages:
                    x[name], memory[name] = step(
                        name, stage, outputs[name], x_t[name], x[name], memory[name], i
                    )
        x = {name: hold(name, v, i + 1) for name, v in x.items()}
        return (x, memory), (x if trajectory else None)

    first = dict(noise or {})
    drawn = {name: shape for name, shape in shapes.items() if name not in first}
    start = {**priors(processes, drawn, keys), **first}
    start = {name: hold(name, x, 0) for name, x in start.items()}
    memory = {name: jax.vmap(solvers[name].memory)(x) for name, x in start.items()}
    (x, _), path = jax.lax.scan(body, (start, memory), jnp.arange(steps))
    if not trajectory:
        return x
    path = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, path)
    return x, path


def steps_of(times: Mapping[str, Array]) -> int:
    """Of streams that are drawn together. Raises ValueError unless they are as many."""
    steps = {name: len(t) - 1 for name, t in times.items()}
    if len(set(steps.values())) > 1:
        each = ", ".join(f"{count} of {name!r}" for name, count in steps.items())
        raise ValueError(
            f"steps are {each}: streams that are drawn together take equally many"
        )
    return next(iter(steps.values()))


def _each(keys, name, word, function, *arrays):
    """function(key, *arrays) of every example, its key of a word of the stream."""

    def one(key, *each):
        return function(jax.random.fold_in(named(key, name), word), *each)

    return jax.vmap(one)(keys, *arrays)
