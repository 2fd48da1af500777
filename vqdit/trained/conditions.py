"""What a generator's network is shown beside the streams that are drawn or scored."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from vqdit import diffusion
from vqdit.diffusion import against


def conditioned(
    generator: Any,
    params: Any,
    keys: Key[Array, "b"],
    shown: tuple[str, ...],
    known: Mapping[str, Array],
) -> Callable:
    """The network, (streams, times, label, there={}) -> outputs of these streams.

    shown: streams of every call. All others are absent, as the generator was trained to
        have each (its `left_out`): left out of the sequence, or drawn of its prior and
        at t = 1.
    known: stream of every call -> bool (b,) or (b, *grid), false where nothing is seen.
    there: stream -> bool, one for each example of this call: false where it is absent.

    A call may hold the batch several times, one copy after another.
    """
    module, processes = generator.module, generator.processes
    gone = {*shown, *generator.left_out}
    others = {n: s.shape for n, s in generator.streams.items() if n not in gone}
    noise = diffusion.priors(processes, others, keys)

    def apply(streams, times, label, mask):
        fields = {"known": mask} if mask else {}
        return module.apply({"params": params}, streams, times, label, **fields)

    ask = diffusion.preconditioned(apply, processes)

    def network(streams, times, label, there=None):
        size = len(next(iter(streams.values())))
        copied = lambda x: jnp.concatenate([x] * (size // len(keys)))
        mask = {name: copied(known[name]) for name in known}
        for name, present in (there or {}).items():
            seen = mask.get(name, present)
            mask[name] = seen & against(present, seen)
        late = dict.fromkeys(others, jnp.ones(size))
        noised = {name: copied(noise[name]) for name in others}
        outputs = ask({**streams, **noised}, {**times, **late}, label, mask)
        return {name: outputs[name] for name in streams}

    return network
