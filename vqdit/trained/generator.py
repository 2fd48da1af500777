"""A trained diffusion transformer in use: jitted samplers of signals."""

import dataclasses
import functools
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import diffusion
from vqdit.diffusion import Grid, ImplicitEuler, Process, Reversed, Solver, Steps
from vqdit.dit import DiT
from vqdit.nn.streams import Continuous, Discrete
from vqdit.shapes import Array
from vqdit.trained import conditions, inputs, labels
from vqdit.trained.codec import Codec
from vqdit.trained.inverter import Inverter
from vqdit.trained.sampler import WHOLE, Sampler
from vqdit.trained.scorer import Scorer
from vqdit.trained.stream_extractor import StreamExtractor, stream_extractor
from vqdit.trained.streams import check_stream


@jax.tree_util.register_pytree_node_class
class Generator:
    """A DiT with its parameters, processes and tokenizers.

    module, params, processes: as stored in the bundle; one process a stream.
    tokenizers:  stream -> Codec, or a value that is born discrete, such as Bytes, which
        works on the host; a stream without one is drawn as it is. `codecs` and `values`
        hold the two kinds apart.
    class_names: of the labels, where known.
    untrained: labels that no training example had, `classes` where "none" was never
        trained: what the network says to these means nothing, and is refused.
    left_out: streams that some training examples lacked. Neither wanted nor given, they
        are out of the sequence, where they cost nothing; another one stands there as
        noise at t = 1 (UniDiffuser, arXiv:2303.06555).
    parts:  streams that were trained with some of their places given, as data at t = 0.
    solvers: stream -> what it is drawn by where a sampler is told nothing of it; of one
        that is not here its process's own step, `Plain`.
    """

    def __init__(
        self,
        module: DiT,
        params: dict,
        processes: Mapping[str, Process],
        tokenizers: Mapping[str, Any],
        class_names: tuple[str, ...] = (),
        untrained: Sequence[int] = (),
        left_out: Sequence[str] = (),
        parts: Sequence[str] = (),
        solvers: Mapping[str, Solver] | None = None,
    ):
        self.left_out, self.parts = tuple(left_out), tuple(parts)
        self.module, self.processes = module, dict(processes)
        for field, found in (("left_out", left_out), ("parts", parts)):
            if set(found) - set(self.streams):
                raise ValueError(f"{field}={found}: the streams are {[*self.streams]}")
        self.solvers = dict(solvers or {})
        inputs.for_each(tuple(self.streams), self.solvers, "solvers")
        self.params = jax.tree.map(jnp.asarray, params)
        self.class_names, self.untrained = tuple(class_names), tuple(untrained)
        learned = {n: isinstance(each, Codec) for n, each in tokenizers.items()}
        self.codecs = {n: each for n, each in tokenizers.items() if learned[n]}
        self.values = {n: each for n, each in tokenizers.items() if not learned[n]}
        for stream in module.streams:
            self.processes[stream.name] = check_stream(
                stream, self.processes, tokenizers
            )
        for name, solver in self.solvers.items():
            diffusion.solver_for(self.processes[name], solver, name)

    def __repr__(self):
        streams = ", ".join(
            f"{s.name} {s.shape} by {self.processes[s.name]}"
            f"{' through its tokenizer' if s.name in self.tokenizers else ''}"
            for s in self.module.streams
        )
        size = sum(x.size for x in jax.tree.leaves(self.params))
        classes = f", {self.module.classes} classes" if self.module.classes else ""
        return f"Generator({streams}{classes}, {size:,} parameters)"

    def tree_flatten(self):
        """Its arrays are the parameters and the tokenizers'."""
        processes, values = tuple(self.processes.items()), tuple(self.values.items())
        names = self.class_names, self.untrained, self.left_out, self.parts
        static = self.module, processes, values, tuple(self.solvers.items()), *names
        return (self.params, self.codecs), static

    @classmethod
    def tree_unflatten(cls, static, children):
        """The inverse; leaves may be anything that JAX puts there."""
        self = object.__new__(cls)
        self.module, processes, values, solvers, *names = static
        self.class_names, self.untrained, self.left_out, self.parts = names
        self.processes, self.solvers = dict(processes), dict(solvers)
        self.params, self.codecs = children
        self.values = dict(values)
        return self

    @property
    def streams(self) -> dict[str, Continuous | Discrete]:
        """Name -> what the network reads of that name."""
        return {stream.name: stream for stream in self.module.streams}

    @property
    def trained_labels(self) -> np.ndarray:
        """Those that can be asked for, without "none"."""
        return np.setdiff1d(np.arange(self.module.classes), self.untrained)

    @property
    def tokenizers(self) -> dict[str, Any]:
        """Stream -> its tokenizer, learned or not."""
        return {**self.codecs, **self.values}

    @property
    def arrays(self) -> dict:
        """All arrays: {"params": ..., "tokenizers": {name: ...}}."""
        codecs = {name: codec.variables for name, codec in self.codecs.items()}
        return {"params": self.params, "tokenizers": codecs}

    def sampler(
        self,
        steps: int | None = None,
        guidance: float | Mapping[str, float] | None = None,
        interval: tuple[float, float] = WHOLE,
        solver: Solver | Mapping[str, Solver] | None = None,
        want: str | tuple[str, ...] | None = None,
        shift: float | None = None,
        trajectory: bool = False,
        decode: bool = True,
        grid: Grid | Mapping[str, Grid] | Sequence[float] | None = None,
        before: str | tuple[str, ...] = (),
    ) -> Sampler:
        """A jitted sampler; see Sampler for how it is called, and the other fields.

        steps, shift: of the grid of times that `diffusion.Steps` makes; 50 and 1.
        grid:   another one, for all streams or one a stream, or the times themselves.
        solver: for all streams, or one a stream; else the stream's of `solvers`.
        want:   streams to draw (default all); each call gives any of the others.
        before: streams that are drawn first, and then given to the others, and guided
                by: a word, then its picture. Each turn takes all its steps.

        Raises ValueError on streams, solvers or grids that do not fit, before anything
        compiles.
        """
        names = tuple(self.streams)
        want = names if want is None else inputs.names("want", want)
        if not want or set(want) - set(names):
            raise ValueError(
                f"want={','.join(want)}: the streams are {inputs.listed(names)}; write "
                "some"
            )
        if grid is not None and (steps is not None or shift is not None):
            raise ValueError("steps and shift are a grid's: write them in grid=")
        even = Steps(50 if steps is None else steps, 1.0 if shift is None else shift)
        if isinstance(grid, Mapping):
            grid = {name: inputs.grid(each) for name, each in grid.items()}
        elif grid is not None:
            grid = inputs.grid(grid)
        rising = grid.values() if isinstance(grid, Mapping) else [grid]
        if any(isinstance(each, Reversed) for each in rising):
            raise ValueError(
                "grid is Reversed, from data to noise: write one that falls, here and "
                "in inverter(), which reverses it"
            )
        before = inputs.names("before", before)
        if set(before) - set(names) or set(want) <= set(before):
            raise ValueError(
                f"before={','.join(before)}: write some of {inputs.listed(names)}, and "
                f"want one that is not among them; wanted is {inputs.listed(want)}"
            )
        drawn = tuple(dict.fromkeys((*want, *before)))
        grids = inputs.for_each(drawn, grid or even, "grids", even)
        solvers = inputs.for_each(drawn, solver, "solvers")
        solvers = {n: each or self.solvers.get(n) for n, each in solvers.items()}
        conditions.interval(interval)
        ends = interval[0], interval[1]
        if guidance is None and ends != WHOLE:
            raise ValueError(f"interval={ends} is guidance's: write a scale, too")
        alone = set(drawn) == set(names) and not before
        if guidance is not None and not self.module.classes and alone:
            raise ValueError(
                "guidance needs a condition: this model has no classes and no stream "
                "is given; leave it out"
            )
        solvers = {
            name: diffusion.solver_for(self.processes[name], one, name)
            for name, one in solvers.items()
        }
        labels.check_guidance(self, conditions.scales(guidance))
        if isinstance(guidance, Mapping):
            outside = {*names} - set(drawn) | {*before}
            outside |= {"label"} if self.module.classes else set()
            if not guidance or set(guidance) - outside:
                raise ValueError(
                    f"guidance of {inputs.listed(sorted(guidance))}: write a scale for "
                    f"each of {inputs.listed(sorted(outside))} that is given, or one "
                    "for all"
                )
        how = guidance, ends, trajectory, decode, before
        sampler = Sampler(self, want, grids, solvers, *how)
        for turn in sampler.turns:
            jax.eval_shape(functools.partial(sampler.times, turn))
        return sampler

    def inverter(
        self,
        steps: int | None = None,
        guidance: float | Mapping[str, float] | None = None,
        interval: tuple[float, float] = WHOLE,
        of: str | tuple[str, ...] | None = None,
        shift: float | None = None,
        grid: Grid | Mapping[str, Grid] | Sequence[float] | None = None,
        rounds: int = 4,
    ) -> Inverter:
        """The noise that leads to given signals of some streams (default all), jitted.

        rounds: of the iteration that undoes a step; see ImplicitEuler. The others are
            those of the `sampler` by which the noise is to lead there.

        Raises ValueError as `sampler` does; streams of codes have no such noise.
        """
        sampler = self.sampler(
            steps,
            guidance,
            interval,
            ImplicitEuler(rounds),
            want=of,
            shift=shift,
            decode=False,
            grid=grid,
        )
        for name, each in sampler.grids.items():
            if len(each(self.processes[name])) < 3:
                raise ValueError(
                    "one step has no inverse, since at pure noise all signals are "
                    "alike: write steps=2 or more"
                )
        grids = {name: Reversed(each) for name, each in sampler.grids.items()}
        return Inverter(dataclasses.replace(sampler, grids=grids))

    def scorer(
        self, of: str | tuple[str, ...] | None = None, draws: int = 32
    ) -> Scorer:
        """A jitted bound on -log p of some streams (default all); see Scorer.

        Raises ValueError where a stream is none, or its process has no bound.
        """
        of = tuple(self.streams) if of is None else inputs.names("of", of)
        if not of or set(of) - set(self.streams) or len(set(of)) < len(of):
            streams = inputs.listed(self.streams)
            raise ValueError(f"of={','.join(of)}: write some of the streams {streams}")
        if not isinstance(draws, numbers.Integral) or draws < 2:
            raise ValueError(f"draws={draws}: write 2 or more, a whole number")
        for name in of:
            if not hasattr(self.processes[name], "bound"):
                kind = type(self.processes[name]).__name__
                raise ValueError(f"stream {name!r}: {kind} has no bound on -log p")
        return Scorer(self, of, draws)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of what `extractor` gives, in their order."""
        return stream_extractor(self, (), 0.0, "mean", next(iter(self.streams))).outer

    def extractor(
        self,
        layers: str | Sequence[str] | None = None,
        time: float | Mapping[str, float] = 0.0,
        pool: str = "mean",
        of: str | None = None,
    ) -> StreamExtractor:
        """Features of the tokens of a stream at a time, jitted; see StreamExtractor.

        layers: by default what leaves each block. of: needed where there are several.

        Raises ValueError for a layer, stream or time that is none.
        """
        return stream_extractor(self, layers, time, pool, of)

    def encode(self, name: str, variables: dict, x: Array) -> Array:
        """A signal as its stream models it; for use inside a jit."""
        return self._through("", name, variables, x)

    def decode(self, name: str, variables: dict, x: Array) -> Array:
        """The inverse of `encode`."""
        return self._through("decode_", name, variables, x)

    def _through(self, way, name, variables, x):
        if name not in self.codecs:
            return x
        how = f"{way}{self.processes[name].kind}"
        return self.codecs[name].apply(how, variables["tokenizers"][name], x)
