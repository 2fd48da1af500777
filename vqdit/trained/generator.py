"""A trained diffusion transformer in use: jitted samplers of signals."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from vqdit import diffusion
from vqdit.diffusion import Gaussian, Masking, Process, Solver
from vqdit.dit import DiT
from vqdit.nn import Continuous
from vqdit.trained.codec import Codec


class Generator:
    """A DiT with its parameters, processes and tokenizers.

    module, params, processes: as stored in the bundle; one process a stream.
    tokenizers:  stream -> Codec; a stream without one is drawn as it is.
    class_names: of the labels, where known.
    """

    def __init__(
        self,
        module: DiT,
        params: dict,
        processes: Mapping[str, Process],
        tokenizers: Mapping[str, Codec],
        class_names: tuple[str, ...] = (),
    ):
        self.module, self.processes = module, dict(processes)
        self.params = jax.tree.map(jnp.asarray, params)
        self.tokenizers, self.class_names = dict(tokenizers), tuple(class_names)
        for stream in module.streams:
            check_stream(stream, self.processes, self.tokenizers)

    def sampler(
        self,
        steps: int = 50,
        guidance: float | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
        solver: Solver | Mapping[str, Solver] | None = None,
        want: tuple[str, ...] | None = None,
        shift: float = 1.0,
        trajectory: bool = False,
        decode: bool = True,
    ) -> Callable[..., dict[str, Array]]:
        """A jitted `draw(key, ids, label=, given=, guidance=, interval=)`.

        steps:    of the solver. solver: one for all streams, or one a stream; by
            default Euler for latents and Unmask for codes.
        guidance: scale, 1 means none; None builds a cheaper sampler that cannot guide.
        interval: times [low, high] in which the scale applies.
        want:     streams to draw (default all); the others must be `given` as signals.
        shift:    see `diffusion.time_grid`.
        trajectory: also return, under NAME_path, x_t at every time, undecoded.
        decode:   return signals; else the streams themselves.

        draw's ids (b,) int number the samples: sample i is a function of (key, ids[i]).
        label (b,) int in [0, classes). New keys, labels, scales, intervals and given
        signals of the same shapes do not recompile. Raises ValueError on streams,
        solvers or labels that do not fit, before anything compiles.
        """
        names = tuple(s.name for s in self.module.streams)
        want = names if want is None else tuple(want)
        if not want or set(want) - set(names):
            raise ValueError(f"want={want}: the streams are {names}")
        if isinstance(solver, Mapping) and set(solver) - set(want):
            raise ValueError(
                f"solvers for {sorted(solver)}: the streams drawn are {want}"
            )
        solvers = {name: _solver(self.processes[name], solver, name) for name in want}
        shapes = {s.name: s.shape for s in self.module.streams if s.name in want}
        start = min(self.processes[name].start for name in want)
        times = diffusion.time_grid(steps, start, shift)
        given_names = tuple(name for name in names if name not in want)
        classes, can_guide = self.module.classes, guidance is not None
        if not can_guide and tuple(interval) != (0.0, 1.0):
            raise ValueError(
                f"interval={tuple(interval)} is guidance's: write guidance= too"
            )
        if can_guide and not classes and not given_names:
            raise ValueError(
                "guidance needs a condition: this model has no classes and no stream "
                "is given; write guidance=None"
            )

        def draw(variables, key, ids, label, given, scale, low, high):
            params, codecs = variables
            keys = diffusion.example_keys(key, ids)
            streams = {name: self._encode(name, codecs, x) for name, x in given.items()}

            def network(x, t, y):
                return self.module.apply({"params": params}, x, t, y)

            if can_guide:
                lengths = {n: x.shape[1:] for n, x in streams.items()}
                absent = diffusion.priors(self.processes, lengths, keys)
                if label is None and classes:
                    label = jnp.full(ids.shape, classes, jnp.int32)
                predict = diffusion.guided(
                    network, self.processes, label, classes, absent, scale, (low, high)
                )
            else:
                predict = diffusion.plain(network, label)
            out = diffusion.sample(
                self.processes,
                solvers,
                predict,
                keys,
                shapes,
                times,
                streams,
                trajectory,
            )
            x, path = out if trajectory else (out, {})
            if decode:
                x = {name: self._decode(name, codecs, v) for name, v in x.items()}
            return x | {f"{name}_path": v for name, v in path.items()}

        jitted = jax.jit(draw)
        default_scale, default_interval = guidance, interval

        def call(
            key: Key[Array, ""],
            ids: Int[Array | np.ndarray, "b"],
            label: Int[Array | np.ndarray, "b"] | None = None,
            given: Mapping[str, Array | np.ndarray] | None = None,
            guidance: Any = None,
            interval: tuple[Any, Any] | None = None,
        ) -> dict[str, Array]:
            given = dict(given or {})
            if set(given) != set(given_names):
                raise ValueError(
                    f"this sampler is given {sorted(given_names)}; got {sorted(given)}"
                )
            if not can_guide and (guidance is not None or interval is not None):
                raise ValueError(
                    "this sampler was built without guidance: write "
                    "sampler(guidance=1.0), whose scale each call may change"
                )
            scale = default_scale if guidance is None else guidance
            if can_guide and label is None and not given:
                raise ValueError(
                    "guidance needs a condition: pass label=, or build the sampler "
                    "with guidance=None"
                )
            low, high = default_interval if interval is None else interval
            if not isinstance(low, jax.Array) and low > high:
                raise ValueError(f"interval {(low, high)}: write (low, high)")
            scalar = lambda v: jnp.asarray(0.0 if v is None else v, jnp.float32)
            ids = jnp.asarray(ids, jnp.int32)
            for name, x in given.items():
                if x.shape[:1] != ids.shape:
                    raise ValueError(
                        f"given {name!r} is {x.shape}; ids are {ids.shape}"
                    )
            codecs = {name: codec.variables for name, codec in self.tokenizers.items()}
            return jitted(
                (self.params, codecs),
                key,
                ids,
                self.check_label(label, ids),
                given,
                scalar(scale),
                scalar(low),
                scalar(high),
            )

        call.compilations = jitted._cache_size
        return call

    def check_label(self, label, ids) -> Array | None:
        """The label as (b,) int32. Raises ValueError when it does not fit."""
        if label is None:
            return None
        classes = self.module.classes
        if not classes:
            raise ValueError("this model has no classes: leave label out")
        values = np.asarray(label)
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"label is {values.dtype}; write integers")
        if values.shape != ids.shape:
            raise ValueError(f"label is {values.shape}, ids are {ids.shape}")
        if values.size and (values.min() < 0 or values.max() > classes):
            raise ValueError(
                f"label {int(values.max() if values.max() > classes else values.min())}"
                f" is outside the classes: write 0 to {classes - 1}, or {classes} for "
                f"none"
            )
        return jnp.asarray(values, jnp.int32)

    def _encode(self, name, codecs, x):
        codec = self.tokenizers.get(name)
        if codec is None:
            return x
        if isinstance(self.processes[name], Gaussian):
            return codec.apply("latents", codecs[name], x)
        return codec.apply("quantized", codecs[name], x).codes

    def _decode(self, name, codecs, x):
        codec = self.tokenizers.get(name)
        if codec is None:
            return x
        what = "decode"
        if isinstance(self.processes[name], Gaussian):
            what = "decode_latents"
        return codec.apply(what, codecs[name], x)


def check_stream(stream, processes: Mapping, tokenizers: Mapping) -> None:
    """Raises ValueError when a stream, its process and its tokenizer do not fit."""
    name = stream.name
    process = processes.get(name)
    if process is None:
        raise ValueError(
            f"stream {name!r} has no process; the processes are {sorted(processes)}"
        )
    if isinstance(stream, Continuous) != isinstance(process, Gaussian):
        raise ValueError(
            f"stream {name!r} is {type(stream).__name__} but its process is "
            f"{type(process).__name__}: Continuous goes with Gaussian, Discrete with "
            f"Masking"
        )
    if isinstance(process, Gaussian) and process.outputs != stream.outputs:
        raise ValueError(
            f"stream {name!r}: its process reads outputs={process.outputs} values a "
            f"channel; the stream says outputs={stream.outputs}"
        )
    if isinstance(process, Masking) and process.vocab != stream.vocab:
        raise ValueError(
            f"stream {name!r}: Masking.vocab {process.vocab} is not the stream's "
            f"vocab {stream.vocab}"
        )
    if name not in tokenizers:
        return
    contract = tokenizers[name].contract
    if isinstance(stream, Continuous):
        mine, theirs = (
            (stream.grid, stream.channels),
            (contract.grid, contract.channels),
        )
        what = "grid and channels"
    else:
        mine = (stream.grid, (stream.vocab,) * stream.books)
        theirs = (contract.code_grid, contract.codes)
        what = "grid and codes a book"
    if mine != theirs:
        raise ValueError(
            f"the tokenizer does not fit stream {name!r}: {what} are {theirs} in the "
            f"tokenizer, {mine} in the model; write the tokenizer's in the model"
        )


def _solver(process, solver, name):
    if isinstance(solver, Mapping):
        solver = solver.get(name)
    if solver is None:
        return (
            diffusion.Euler() if isinstance(process, Gaussian) else diffusion.Unmask()
        )
    if isinstance(solver, type) or not isinstance(solver, Solver):
        raise ValueError(
            f"stream {name!r}: {solver!r} is no solver; write a value, as Heun()"
        )
    if not isinstance(process, solver.kind):
        raise ValueError(
            f"stream {name!r}: {type(solver).__name__} is a solver for "
            f"{solver.kind.__name__}, the stream's process is {type(process).__name__}"
        )
    return solver
