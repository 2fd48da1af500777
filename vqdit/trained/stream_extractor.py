"""Features of a transformer over streams: its tokens, at any time, behind any block."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit import diffusion
from vqdit.diffusion.process import named
from vqdit.nn.patching import patchify
from vqdit.platform import in_32_bits
from vqdit.shapes import Array, Float, Int, Key
from vqdit.trained import conditions, inputs, labels
from vqdit.trained.extractor import Extractor, Hidden, captured, pooled, traced
from vqdit.trained.streams import call_of


@dataclasses.dataclass(frozen=True, eq=False)
class StreamExtractor(Extractor):
    """Of a transformer: the tokens of one stream, as they leave a block.

    of:   the stream.
    time: at which it stands, 0 data and 1 noise, or {stream: time} of those that a call
        gives, which are data where none is said. A call may say another.

    A call gives that stream, and any others; those that it does not give are absent, as
    in a Sampler.
    """

    of: str = ""
    time: Any = 0.0

    @functools.cached_property
    def known(self):
        model = self.model
        streams, times = call_of(model.module, 2)
        module, params = unrolled(model.module, model.params, model.module.depth)
        capture = lambda params, *args: captured(
            module, {"params": params}, None, *args
        )
        found, sizes = traced(capture, params, streams, times), _sizes(model, streams)
        return {
            layer: (sizes[self.of], channels)
            for layer, (tokens, channels) in found.items()
            if tokens == sum(sizes.values()) or self._own(layer)
        }

    @property
    def outer(self):
        outer = re.compile(r"embedded|block_\d+|final_norm")
        return tuple(layer for layer in self.known if outer.fullmatch(layer))

    def _own(self, layer) -> bool:
        """Whether it is of the stream's tokens alone."""
        parts = layer.split("/")
        return any(re.match(rf"{re.escape(self.of)}_(in|out|mlp)$", p) for p in parts)

    @property
    def variables(self):
        return self.model.arrays

    @in_32_bits
    def features(
        self,
        variables: Any,
        x: Mapping[str, Array],
        key: Key[Array, ""] | None = None,
        ids: Int[Array, "b"] | None = None,
        label: Int[Array, "b"] | None = None,
        known: Mapping[str, Array] | None = None,
        time: Any = None,
    ) -> dict[str, Float[Array, "b *d"]]:
        """The features; pure, and checks nothing, for use inside a jit of your own.

        variables: as `extractor.variables`. All else is that of a call; without a key
        every time is 0, and none is written as an array.
        """
        model, batch = self.model, len(next(iter(x.values())))
        ids = jnp.arange(batch) if ids is None else ids
        key = jax.random.key(0) if key is None else key
        keys = diffusion.example_keys(key, ids)
        streams = {name: model.encode(name, variables, v) for name, v in x.items()}
        masks = conditions.on_grids(known or {}, model)
        times = {}
        for name, t in self._times(time, streams).items():
            still = isinstance(t, int | float) and t == 0
            times[name] = jnp.broadcast_to(jnp.asarray(t, jnp.float32), (batch,))
            if not still:
                own_keys = jax.vmap(functools.partial(named, name=name))(keys)
                noised = jax.vmap(model.processes[name].noised)
                streams[name] = noised(streams[name], times[name], own_keys)
        module, params = unrolled(
            model.module, variables["params"], _depth(model.module, self.layers)
        )
        found: Hidden = {}

        def apply(*args, **fields):
            found.update(
                captured(module, {"params": params}, self.layers, *args, **fields)
            )
            return args[0]  # outputs, which nobody reads

        network = conditions.conditioned(
            model, params, keys, tuple(streams), masks, apply
        )
        network(streams, times, label)
        there = [n for n in model.streams if n in streams or n not in model.left_out]
        sizes = _sizes(model, there)
        start = sum(sizes[name] for name in there[: there.index(self.of)])
        own = slice(start, start + sizes[self.of])
        seen = None
        if self.of in masks:
            own_mask = masks[self.of][..., None]
            seen = patchify(own_mask, model.streams[self.of].patch).any(-1)
        return {
            layer: pooled(h if self._own(layer) else h[:, own], self.pool, seen)
            for layer, h in found.items()
        }

    def _times(self, time, streams) -> dict[str, Any]:
        """Stream -> its time, 0 where none is said."""
        time = self.time if time is None else time
        said = time if isinstance(time, Mapping) else {self.of: time}
        if others := set(said) - set(streams):
            raise ValueError(f"time of {sorted(others)}: given are {sorted(streams)}")
        return dict.fromkeys(streams, 0.0) | dict(said)

    @in_32_bits
    def __call__(
        self,
        x: Mapping[str, Any],
        key: Key[Array, ""] | None = None,
        ids: Any = None,
        label: Any = None,
        known: Mapping[str, Any] | None = None,
        time: Any = None,
        params: Any = None,
    ) -> dict[str, Float[Array, "b *d"]]:
        """Features, jitted. Raises ValueError before anything compiles.

        x:     signals of the stream, and of others that are given.
        key, ids: of the noise; features i are a function of (key, ids[i]) and of the
            signals. Not needed where every time is 0 and no absent stream stands there
            as noise. ids are 0, 1, ... where none are written.
        label, known, params: as of a Sampler's call. The mean is of what is known.
        time:  instead of the extractor's: for all, (b,), or {stream: ...}.
        New times, keys, labels and masks need no new program.
        """
        model = self.model
        x, known = conditions.encoded(model, inputs.by_stream("x", x), known)
        if self.of not in x:
            raise ValueError(f"features are of {self.of!r}; got {sorted(x)}")
        batch = len(x[self.of])
        ids = conditions.whole(np.arange(batch) if ids is None else ids)
        conditions.check(model, ids, {"x": x}, known)
        x = conditions.typed(model, x)
        label = labels.check_label(model, label, ids)
        times = self._times(time, x)
        times = {name: _within(name, t, batch) for name, t in times.items()}
        noise = [n for n in model.streams if n not in x and n not in model.left_out]
        late = [n for n, t in times.items() if isinstance(t, jax.Array) or t.any()]
        if key is None:
            if noise or late:
                which = f"{noise[0]!r} is absent" if noise else f"{late[0]!r} is late"
                raise ValueError(f"{which}, and stands there as noise: pass key=")
            key = jax.random.key(0)
        times = {name: jnp.asarray(t, jnp.float32) for name, t in times.items()}
        variables = conditions.parameters(model, params)
        return self._jitted(variables, x, key, ids, label, known, times)


def stream_extractor(
    model: Any, layers: Sequence[str] | str | None, time: Any, pool: str, of: str | None
) -> StreamExtractor:
    """Of a generator: see `Generator.extractor`."""
    streams = tuple(model.streams)
    known = inputs.listed(streams)
    if of is None and len(streams) > 1:
        raise ValueError(f"of: write one of the streams {known}")
    of = streams[0] if of is None else of
    if of not in streams:
        raise ValueError(f"of={of}: the streams are {known}")
    if layers is None:
        layers = [f"block_{i:02d}" for i in range(model.module.depth)]
    for name, t in (time if isinstance(time, Mapping) else {of: time}).items():
        if name not in streams:
            raise ValueError(f"time of {name!r}: the streams are {known}")
        _within(name, t, 0)
    return StreamExtractor(model, inputs.names("layers", layers), pool, of, time)


def unrolled(module: nn.Module, params: Any, depth: int) -> tuple[nn.Module, Any]:
    """The first blocks of a DiT, one after the other, and parameters of these names: of
    a scan all would be run, and kept."""
    if module.scan:
        params = dict(params)
        stacked = params.pop("blocks")
        for i in range(depth):
            params[f"block_{i:02d}"] = jax.tree.map(lambda x, i=i: x[i], stacked)
    return module.clone(scan=False, depth=depth), params


def _depth(module, layers) -> int:
    """Blocks that these layers need."""
    found = [re.match(r"block_(\d+)(/|$)", layer) for layer in layers]
    ends = [1 + int(each[1]) if each else 0 for each in found]
    before = [end or at == "embedded" for end, at in zip(ends, layers, strict=True)]
    return max(1, *ends) if all(before) else module.depth


def _sizes(model, names) -> dict[str, int]:
    return {name: math.prod(model.streams[name].coarse) for name in names}


def _within(name: str, t: Any, batch: int) -> Any:
    """A time or one of each example. Raises ValueError for what is none."""
    if isinstance(t, jax.core.Tracer):
        return t
    try:
        t = np.asarray(t, np.float32)
    except (TypeError, ValueError):
        raise ValueError(
            f"time of {name!r} is {t!r}; write 0 (data) to 1 (noise)"
        ) from None
    if t.shape not in ((), (batch,)) or not ((t >= 0) & (t <= 1)).all():
        raise ValueError(
            f"time of {name!r} is {t if t.ndim == 0 else t.shape}; write 0 (data) to 1 "
            f"(noise), or one for each of {batch}"
        )
    return t
