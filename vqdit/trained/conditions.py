"""What a generator is given beside the streams that are drawn or scored.

The network with it, and what is checked at the door: samplers and scorers alike.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import diffusion
from vqdit.diffusion.process import joined
from vqdit.nn.patching import on_grid, patchify, unpatchify
from vqdit.shapes import Array, Key
from vqdit.trained import inputs, labels


def conditioned(
    generator: Any,
    params: Any,
    keys: Key[Array, "b"],
    shown: tuple[str, ...],
    known: Mapping[str, Array],
    apply: Callable | None = None,
) -> Callable:
    """The network, (streams, times, label, there={}) -> outputs of these streams.

    shown: streams of every call. All others are absent, as the generator was trained to
        have each (its `left_out`): left out of the sequence, or drawn of its prior and
        at t = 1.
    known: stream of every call -> bool (b,) or (b, *grid), false where nothing is seen.
    apply: the transformer, (streams, times, label, known=) -> outputs, where it is not
        the generator's with these parameters.
    there: stream -> bool, one for each example of this call: false where it is absent.

    A call may hold the batch several times, one copy after another.
    """
    module, processes = generator.module, generator.processes
    gone = {*shown, *generator.left_out}
    others = {n: s.shape for n, s in generator.streams.items() if n not in gone}
    noise = diffusion.priors(processes, others, keys)

    apply = apply or functools.partial(module.apply, {"params": params})

    def masked(streams, times, label, mask):
        fields = {"known": mask} if mask else {}
        return apply(streams, times, label, **fields)

    ask = diffusion.preconditioned(masked, processes)

    def network(streams, times, label, there=None):
        size = len(next(iter(streams.values())))
        copied = lambda x: jnp.concatenate([x] * (size // len(keys)))
        mask = {name: copied(known[name]) for name in known}
        for name, present in (there or {}).items():
            mask[name] = joined(operator.and_, mask.get(name), present)
        late = dict.fromkeys(others, jnp.ones(size))
        noised = {name: copied(noise[name]) for name in others}
        outputs = ask({**streams, **noised}, {**times, **late}, label, mask)
        return {name: outputs[name] for name in streams}

    return network


def encoded(
    generator: Any, given: Any, known: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(signals, and of what is born discrete its codes (b, *grid, 1); what is known of
    them, without the gaps of a value). Of values that are known entry by entry it is
    always said, so that gaps or none are one program. Raises ValueError for no values.
    """
    found, masks = {}, arrays("known", known)
    for name, x in inputs.by_stream("given", given).items():
        if not is_value(generator, name, x):
            found[name] = x
            continue
        tokenizer = generator.values[name]
        if not isinstance(x, list | tuple | np.ndarray | jax.Array) or not _shape(x):
            raise ValueError(f"given {name!r} is {x!r}; write a list, one a sample")
        if tokenizer.source == "label":
            x = labels.class_numbers(list(x), generator.class_names)
        try:
            found[name] = tokenizer.encode(x)[..., None]
            there = tokenizer.known(x)
        except ValueError as error:
            raise ValueError(f"given {name!r}: {error}") from error
        if there.ndim > 1 or not there.all():
            mask = masks.get(name, there)
            axes = min(mask.ndim, there.ndim)
            if not axes or mask.shape[:axes] != there.shape[:axes]:
                raise ValueError(
                    f"known {name!r} is {mask.shape}; what is given of it {there.shape}"
                )
            both = map(jnp.asarray, (mask > 0, there))
            masks[name] = joined(operator.and_, *both)
    return arrays("given", found), masks


def is_value(generator: Any, name: str, x: Any) -> bool:
    """Whether what is given of a stream is to be encoded; else signals or codes."""
    tokenizer, shape = generator.values.get(name), _shape(x)
    codes = shape[1:] == getattr(generator.streams.get(name), "shape", None)
    return tokenizer is not None and not codes and (len(shape) < 2 or tokenizer.wide)


def _shape(x):
    try:
        return np.shape(x)
    except ValueError:  # rows of several lengths
        return (len(x),)


def check(
    generator: Any,
    ids: Array,
    signals: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Any],
) -> None:
    """Raises ValueError for a name or an array that is not the generator's.

    signals: what they are called -> stream -> signals, or codes; of "noise", streams as
        the transformer has them, masks among their codes.
    """
    streams, present = generator.streams, set()
    for what, of in signals.items():
        if unknown := set(of) - set(streams):
            raise ValueError(f"{what} {sorted(unknown)}: the streams are {[*streams]}")
        present |= set() if what == "noise" else set(of)
    if lacking := set(known) - present:
        raise ValueError(
            f"known {sorted(lacking)} is of nothing that is given; given is "
            f"{sorted(present)}, and the streams are {[*streams]}"
        )
    for what, of in {**signals, "known": known}.items():
        for name, x in of.items():
            if x.shape[:1] != ids.shape:
                raise ValueError(f"{what} {name!r} is {x.shape}; ids are {ids.shape}")
    for name, x in known.items():
        grid = streams[name].grid
        if x.shape[1:] != grid[: x.ndim - 1]:
            raise ValueError(f"known {name!r} is {x.shape}; write (b,) or (b, *{grid})")
        if x.dtype != bool and not inputs.is_real(x):
            raise ValueError(f"known {name!r} is {x.dtype}; write 1 where it is, and 0")
    for what, of in signals.items():
        for name, x in of.items():
            codec = None if what == "noise" else generator.codecs.get(name)
            try:
                if codec is not None:
                    inputs.example(codec.contract, x)
                else:
                    inputs.stream(streams[name], x, masked=what == "noise")
            except ValueError as error:
                raise ValueError(f"{what} {name!r}: {error}") from error


def arrays(what: str, values: Any) -> dict[str, Any]:
    """Stream -> array, of lists too. Raises ValueError for what has no names."""
    values = inputs.by_stream(what, values)
    return {name: inputs.array(x) for name, x in values.items()}


def typed(generator: Any, values: Mapping, signals: bool = True) -> dict[str, Any]:
    """Streams in the type that the transformer reads; what a tokenizer encodes of
    `signals` as it came."""
    streams, encoded = generator.streams, generator.codecs if signals else ()
    return {
        n: x if n in encoded else jnp.asarray(x, streams[n].dtype)
        for n, x in values.items()
    }


def parameters(generator: Any, params: Any) -> dict[str, Any]:
    """The generator's arrays, with these parameters of its network where there are any.

    Raises ValueError unless they have its names and shapes; one that has none, of a run
    that draws while it trains, takes any.
    """
    arrays = generator.arrays
    if params is None:
        return arrays
    mine, theirs = map(_shapes, (arrays["params"] or params, params))
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            raise ValueError(
                f"params: {name} is {theirs.get(name, 'absent')}, and the generator's "
                f"{mine.get(name, 'absent')}; write parameters of its network"
            )
    return {**arrays, "params": params}


def _shapes(params):
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    path = lambda keys: "/".join(str(getattr(k, "key", k)) for k in keys)
    return {path(keys): np.shape(leaf) for keys, leaf in named}


def on_grids(known: Mapping[str, Array], model) -> dict[str, Array]:
    """`on_grid` of each stream of a generator."""
    return {name: on_grid(x, model.streams[name].grid) for name, x in known.items()}


def whole_tokens(stream, known: Array) -> Array:
    """(b, *grid) bool: the places of those tokens that are known to their last place.

    A token has one time.
    """
    mask, patch = on_grid(known, stream.grid), stream.patch
    tokens = patchify(mask[..., None], patch).all(-1, keepdims=True)
    return unpatchify(
        jnp.repeat(tokens, patch ** len(stream.grid), axis=-1), stream.grid, patch
    )[..., 0]


def whole(ids) -> Array:
    """ids as int32. Raises ValueError for what numbers no sample."""
    if not isinstance(ids, jax.core.Tracer):
        values = np.asarray(ids)
        if values.ndim != 1 or not values.size or values.dtype.kind not in "iu":
            raise ValueError(
                f"ids are {values.dtype} {values.shape}; write (b,) whole numbers"
            )
        wrong = values[(values < -(2**31)) | (values >= 2**31)]
        if wrong.size:
            raise ValueError(f"id {wrong[0]}: write ids from -2^31 to below 2^31")
    return inputs.array(jnp.asarray(ids, jnp.int32))


def scales(guidance: Any, each: tuple[int, ...] = ()) -> Any:
    """Of guidance its scale, or {condition: scale}, as arrays; None of none. Raises
    ValueError for what is no number, nor one of each example."""
    if guidance is None:
        return None
    if not isinstance(guidance, Mapping):
        return inputs.number("guidance", guidance, each)
    return {
        name: inputs.number(f"guidance of {name!r}", scale, each)
        for name, scale in guidance.items()
    }


def interval(ends: Any, each: tuple[int, ...] = ()) -> tuple[Any, Any]:
    """(low, high) of times. Raises ValueError for what is none."""
    try:
        low, high = ends
    except (TypeError, ValueError):
        raise ValueError(f"interval={ends!r}: write (low, high)") from None
    low, high = (inputs.number("interval", end, each) for end in (low, high))
    traced = any(isinstance(end, jax.core.Tracer) for end in (low, high))
    if not traced and np.any(np.asarray(low) > np.asarray(high)):
        raise ValueError(f"interval={tuple(ends)}: write (low, high)")
    return low, high
