"""Scores of a generator: a bound on -log p of some streams, given any others."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit import diffusion
from vqdit.diffusion.process import against, named
from vqdit.platform import in_32_bits
from vqdit.shapes import Array, Float, Int, Key
from vqdit.trained import conditions, inputs, labels


class Score(NamedTuple):
    """Of each example, float32.

    nats:  the bound on -log p.
    error: its standard error, of the draws of times and noise; at most, since times are
        stratified.
    bits:  nats / log 2, of a code or of a channel of a latent: of what is known of the
        streams that are scored.
    """

    nats: Float[Array, "b"]
    error: Float[Array, "b"]
    bits: Float[Array, "b"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer(inputs.Jitted):
    """Called as `scorer(key, ids, x, label=, given=, ...)`; made by `Generator.scorer`.

    of:    streams that are scored, by the chain rule: each given what is given and
        those before it. What is neither scored nor given is absent, as in a Sampler.
    draws: of time and noise, for each example and stream.

    What is bounded is -log p of a stream as the transformer has it: of codes, a
    probability; of latents, in their normalised unit, a density, whose bound may be
    below 0. What a process can say is its `bound`; the process says too where it is
    exact. Compare scores of one model, not of models of other tokenizers.
    """

    generator: Any  # a Generator, which makes these
    of: tuple[str, ...]
    draws: int

    @in_32_bits
    def score(
        self,
        variables: Any,
        key: Key[Array, ""],
        ids: Int[Array, "b"],
        x: Mapping[str, Array],
        label: Int[Array, "b"] | None = None,
        given: Mapping[str, Array] | None = None,
        known: Mapping[str, Array] | None = None,
        shown: Mapping[str, Array] | None = None,
    ) -> Score:
        """The scores; pure, and checks nothing, for use inside a jit of your own.

        variables: as `generator.arrays`. All else is that of a call.
        """
        model, keys = self.generator, diffusion.example_keys(key, ids)
        encoded = {**(given or {}), **x}
        seen = {name: model.encode(name, variables, v) for name, v in encoded.items()}
        masks = conditions.on_grids(known or {}, model)
        parts = {
            name: conditions.whole_tokens(model.streams[name], v)
            for name, v in (shown or {}).items()
        }
        values, there = 0, list(given or {})
        nats = variance = jnp.zeros(())
        for name in self.of:
            there.append(name)
            streams = {n: seen[n] for n in there}
            mask = {n: masks[n] for n in there if n in masks}
            whole = jnp.ones(seen[name].shape[:-1], bool)
            scored = masks.get(name, whole) & ~parts.get(name, ~whole)
            how = (name, variables, keys, streams, label, mask, scored)
            found = self._draws(*how, part=parts.get(name))
            nats += found.mean(0)
            variance += found.var(0, ddof=1) / self.draws
            places = scored.reshape(len(keys), -1).sum(1)
            values += places * seen[name].shape[-1]
        bits = nats / jnp.maximum(values, 1) / math.log(2)
        return Score(nats, jnp.sqrt(variance), bits)

    def _draws(self, name, variables, keys, streams, label, masks, scored, part):
        """(draws, b) nats of what is scored of a stream, given the other ones and the
        part of it that is shown, at t = 0, or None."""
        model, process = self.generator, self.generator.processes[name]
        x0, shown = streams[name], tuple(streams)
        given = {n: v for n, v in streams.items() if n != name}

        def draw(i):
            fresh = jax.vmap(lambda key: jax.random.fold_in(named(key, name), i))(keys)
            network = conditions.conditioned(
                model, variables["params"], fresh, shown, masks
            )

            def query(key, x0, mask):
                place_key, noise_key = jax.random.split(key)
                u = (i + jax.random.uniform(place_key)) / self.draws
                return process.query(x0, u, noise_key, mask)

            x_t, t = jax.vmap(query)(fresh, x0, scored)
            times = dict.fromkeys(given, jnp.zeros(len(keys))) | {name: t}
            if part is not None:
                x_t = jnp.where(part[..., None], x0.astype(x_t.dtype), x_t)
                times[name] = jnp.where(part, 0.0, against(t, part))
            output = network({**given, name: x_t}, times, label)[name]
            return jax.vmap(process.bound)(output, x0, x_t, t, scored)

        return jax.lax.map(draw, jnp.arange(self.draws))

    @functools.cached_property
    def _jitted(self):
        return jax.jit(self.score)

    @in_32_bits
    def __call__(
        self,
        key: Key[Array, ""],
        ids: Any,
        x: Mapping[str, Any],
        label: Any = None,
        given: Mapping[str, Any] | None = None,
        known: Mapping[str, Any] | None = None,
        params: Any = None,
        shown: Mapping[str, Any] | None = None,
    ) -> Score:
        """Scores, jitted. Raises ValueError before anything compiles.

        x:     signals of the streams that are scored; all else is that of a Sampler's
            call. What is not `known` of them is neither seen nor scored.
        shown: scored stream -> (b, *grid) or the first axes of it: 1 where it is given,
            and the rest is scored, as the later frames of a clip after its first. Of
            streams that training gave in parts (`Mixture.parts`); whole tokens.
        Score i is a function of (key, ids[i]) and of the signals: the same key and ids
        compare what is given, or what is scored, under the same noise.
        """
        ids, model = conditions.whole(ids), self.generator
        x, given = inputs.by_stream("x", x), inputs.by_stream("given", given)
        if set(x) != set(self.of):
            raise ValueError(f"{list(self.of)} are scored; got {sorted(x)}")
        if both := set(x) & set(given):
            raise ValueError(f"{sorted(both)} is scored and given; leave it out of one")
        x, known = conditions.encoded(model, x, known)
        given, known = conditions.encoded(model, given, known)
        conditions.check(model, ids, {"scored": x, "given": given}, known)
        x, given = (conditions.typed(model, each) for each in (x, given))
        shown = conditions.arrays("shown", shown)
        self._check_shown(ids, shown)
        label = labels.check_label(model, label, ids)
        variables = conditions.parameters(model, params)
        return self._jitted(variables, key, ids, x, label, given, known, shown)

    def _check_shown(self, ids, shown):
        for name, part in shown.items():
            if name not in self.of or name not in self.generator.parts:
                usable = [n for n in self.of if n in self.generator.parts]
                raise ValueError(
                    f"shown {name!r}: write one that is scored and that training gave "
                    f"in parts, {usable}"
                )
            grid = self.generator.streams[name].grid
            if part.ndim < 2 or part.shape != (len(ids), *grid)[: part.ndim]:
                raise ValueError(
                    f"shown {name!r} is {part.shape}; write (b, *{grid}), or its first "
                    "axes"
                )
