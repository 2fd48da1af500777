"""Samples of a generator: a value that says how, and a pure function inside it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import diffusion
from vqdit.diffusion import Grid, Solver
from vqdit.diffusion.sampling import steps_of
from vqdit.platform import in_32_bits
from vqdit.shapes import Array, Float, Int, Key
from vqdit.trained import conditions, inputs, labels

WHOLE = (0.0, 1.0)  # the interval of guidance at every time


@dataclasses.dataclass(frozen=True, eq=False)
class Sampler(inputs.Jitted):
    """Called as `sampler(key, ids, label=, given=, ...)`; made by `Generator.sampler`.

    want:       streams that are drawn; of the others, each call gives some or all, and
        those that it does not give are absent. One program for each set that is given.
    grids:      stream -> its grid of times. solvers: stream -> its solver.
    guidance:   default scale, 1 means none; None for a cheaper sampler that cannot.
    interval:   times [low, high] in which the scale applies; outside of them a step
        asks the network once, not with the batch beside itself.
    trajectory: also return, under NAME_path, x_t at every time, undecoded.
    decode:     return signals; else the streams themselves.
    before:     streams that are drawn first, all their steps, and then given to the
        others; what is not wanted of them is not returned.
    """

    generator: Any  # a Generator, which makes these
    want: tuple[str, ...]
    grids: Mapping[str, Grid]
    solvers: Mapping[str, Solver]
    guidance: float | Mapping[str, float] | None = None
    interval: tuple[float, float] = WHOLE
    trajectory: bool = False
    decode: bool = True
    before: tuple[str, ...] = ()

    @property
    def drawn(self) -> tuple[str, ...]:
        """Streams that are drawn, wanted or not."""
        return tuple(dict.fromkeys((*self.want, *self.before)))

    @property
    def turns(self) -> tuple[tuple[str, ...], ...]:
        """Streams that are drawn together, turn after turn."""
        after = tuple(name for name in self.want if name not in self.before)
        return (self.before, after) if self.before else (after,)

    def times(self, want: tuple[str, ...]) -> dict[str, Float[Array, "steps"]]:
        """Stream -> its times, of streams that are drawn together. Raises ValueError
        where their grids do not fit."""
        processes = self.generator.processes
        # Streams that are drawn together start together.
        start = min(processes[name].start for name in want)
        times = {name: self.grids[name](processes[name], start) for name in want}
        steps_of(times)
        return times

    @in_32_bits
    def draw(
        self,
        variables: Any,
        key: Key[Array, ""],
        ids: Int[Array, "b"],
        label: Int[Array, "b"] | None = None,
        given: Mapping[str, Array] | None = None,
        known: Mapping[str, Array] | None = None,
        noise: Mapping[str, Array] | None = None,
        guidance: Any = None,
        interval: tuple[Any, Any] | None = None,
    ) -> dict[str, Array]:
        """The samples; pure, and checks nothing, for use inside a jit of your own.

        variables: as `generator.arrays`. All else is that of a call.
        """
        model, known = self.generator, dict(known or {})
        # By name, as a jit sorts them: guidance by each goes in this order.
        given = dict(sorted((given or {}).items()))
        keys = diffusion.example_keys(key, ids)
        streams = {name: model.encode(name, variables, x) for name, x in given.items()}
        found: dict[str, Array] = {}
        paths: dict[str, Array] = {}
        for want in self.turns:
            how = label, streams, known, noise or {}, guidance, interval
            turn: Any = self._turn(want, variables["params"], keys, *how)
            x, path = turn if self.trajectory else (turn, {})
            found, paths, streams = found | x, paths | path, streams | x
            known = {name: v for name, v in known.items() if name not in want}
        out = {name: found[name] for name in self.want}
        if self.decode:
            out = {name: model.decode(name, variables, x) for name, x in out.items()}
        return out | {f"{n}_path": v for n, v in paths.items() if n in self.want}

    def _turn(
        self, want, params, keys, label, streams, known, noise, guidance, interval
    ):
        """Draws streams that are drawn together, given others as they are modelled."""
        model, streams, known = self.generator, dict(streams), dict(known)
        # Known in part: what is drawn around it. The rest conditions from outside.
        fixed = {n: (streams.pop(n), known.pop(n)) for n in want if n in known}
        parts = {
            name: conditions.whole_tokens(s, fixed[name][1])
            for name, s in model.streams.items()
            if name in fixed and name in model.parts
        }
        mask = conditions.on_grids(known, model)
        shown = (*want, *streams)
        network = conditions.conditioned(model, params, keys, shown, mask)
        predict = diffusion.unguided(network, label)
        # What is known of a stream that is drawn later is seen, and guides nothing.
        later = {n for n in self.drawn if n in known}
        guides = {n: x.shape[1:] for n, x in streams.items() if n not in later}
        # What comes before all others may have no condition to be guided by.
        if self.guidance is not None and (guides or label is not None):
            absent = diffusion.priors(model.processes, guides, keys)
            classes = model.module.classes
            if label is None and classes:
                label = jnp.full(keys.shape, classes, jnp.int32)
            scale = self.guidance if guidance is None else guidance
            if isinstance(scale, Mapping):  # which a jit has sorted
                scale = {n: scale[n] for n in (*guides, "label") if n in scale}
            if interval is None and self.interval != WHOLE:
                interval = self.interval
            predict = diffusion.guided(
                network,
                model.processes,
                label,
                classes,
                absent,
                scale,
                interval,
                left_out=[n for n in model.left_out if n in absent],
            )
        shapes = {n: s.shape for n, s in model.streams.items() if n in want}
        return diffusion.sample(
            model.processes,
            self.solvers,
            predict,
            keys,
            shapes,
            self.times(want),
            streams,
            self.trajectory,
            {name: x for name, x in noise.items() if name in want},
            fixed,
            parts,
        )

    @functools.cached_property
    def _jitted(self):
        return jax.jit(self.draw)

    @in_32_bits
    def __call__(
        self,
        key: Key[Array, ""],
        ids: Any,
        label: Any = None,
        given: Mapping[str, Any] | None = None,
        guidance: Any = None,
        interval: tuple[Any, Any] | None = None,
        known: Mapping[str, Any] | None = None,
        noise: Mapping[str, Any] | None = None,
        params: Any = None,
    ) -> dict[str, Any]:
        """Draws, jitted. Raises ValueError before anything compiles.

        ids:      (b,) whole numbers; sample i is a function of (key, ids[i]).
        label:    a class, as a number or its name, or one for each sample.
        given:    signals of streams that are not drawn, any of them: what is not given
            is absent. Of what is born discrete texts, labels or rows, or their codes
            (b, *grid, 1). Drawn, it comes as these, within a jit of your own as codes.
            Of a stream that is drawn, rows, whose gaps are filled: their numbers come
            back as given, and those of codes as the values of their bins.
        known:    of a given stream, (b,), (b, *grid) or the first axes of it, as the
            frames of a clip: 0 where it is absent. Of one that is drawn: 1 where
            `given` holds it and it stays: any places are taken, and drawn around as
            well as `Mixture.parts` showed such ones in training. Streams that are
            drawn before it see these places, too.
        guidance: a scale, one for each sample (b,), or {condition: scale}, where a
            condition is a given stream, by name, one of `before`, or "label", in this
            order: each pulls away from those before it (arXiv:2211.09800, eq. 3).
        noise:    streams at their first time, instead of a draw of their prior.
        params:   of the network, instead of the generator's.
        """
        ids = conditions.whole(ids)
        guidance = self.guidance if guidance is None else guidance
        guidance = conditions.scales(guidance, ids.shape)
        values = inputs.by_stream("given", given)
        given, known = conditions.encoded(self.generator, values, known)
        noise = conditions.arrays("noise", noise)
        self._check(ids, given, known, noise, guidance, interval)
        given = conditions.typed(self.generator, given)
        noise = conditions.typed(self.generator, noise, signals=False)
        label = labels.check_label(self.generator, label, ids)
        labels.check_guidance(self.generator, guidance)
        variables = conditions.parameters(self.generator, params)
        outside = given.keys() - set(self.drawn) | set(self.before)
        if self.guidance is not None and label is None and not outside:
            raise ValueError(
                "guidance needs a condition: give a label or a stream, or draw without "
                "a scale"
            )
        scale, ends = None, None
        if self.guidance is not None:
            number = lambda v: jnp.asarray(v, jnp.float32)
            scale = jax.tree.map(number, guidance)
            if interval is not None:
                ends = tuple(map(number, interval))
        x = self._jitted(variables, key, ids, label, given, known, noise, scale, ends)
        if self.decode:
            for name, tokenizer in self.generator.values.items():
                # Within a transformation it has no values to decode.
                if name in self.want and not isinstance(x[name], jax.core.Tracer):
                    x[name] = tokenizer.decode(np.asarray(x[name])[..., 0])
                    value = values.get(name)
                    if name in given and conditions.is_value(
                        self.generator, name, value
                    ):
                        stays = np.asarray(known[name]) > 0
                        x[name] = tokenizer.kept(x[name], value, stays)
        return x

    def _check(self, ids, given, known, noise, guidance, interval):
        signals = {"given": given, "noise": noise}
        conditions.check(self.generator, ids, signals, known)
        if both := set(given) & set(self.drawn) - set(known):
            raise ValueError(
                f"{sorted(both)} is drawn and given: leave it out of one of the two, "
                f"or say in known= which of its places stay"
            )
        if set(noise) - set(self.drawn):
            raise ValueError(f"noise of {sorted(noise)}: {self.drawn} are drawn")
        if self.guidance is None and (guidance is not None or interval is not None):
            raise ValueError(
                "this sampler was built without guidance: write "
                "sampler(guidance=1.0), whose scale each call may change"
            )
        if isinstance(guidance, Mapping):
            wanted = set(given) - set(self.drawn) | set(self.before)
            wanted |= {"label"} if self.generator.module.classes else set()
            if set(guidance) != wanted:
                raise ValueError(
                    f"guidance of {inputs.listed(sorted(guidance))}: write a scale for "
                    f"each of {inputs.listed(sorted(wanted))}, or one for all"
                )
        if interval is not None:
            conditions.interval(interval, ids.shape)
