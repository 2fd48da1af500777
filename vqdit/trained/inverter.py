"""The noise of a signal: a sampler walked backwards."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vqdit.platform import in_32_bits
from vqdit.shapes import Array, Int, Key
from vqdit.trained import conditions, inputs
from vqdit.trained.sampler import Sampler


@dataclasses.dataclass(frozen=True, eq=False)
class Inverter:
    """Called as `inverter(key, ids, x, label=, ...)`; made by `Generator.inverter`.

    sampler: walks from data to noise by `ImplicitEuler`, and returns latents. What it
        takes of noise, guidance and conditions is a Sampler's.

    What it returns is the `noise=` from which `sampler(steps, solver=Euler())`, under
    the same label, given streams and guidance, draws x again: but for what the
    tokenizer loses, and for the iteration's error, which more `rounds` and more steps
    make smaller, and strong guidance larger. Under another label it is an edit of x.
    """

    sampler: Sampler

    @in_32_bits
    def invert(
        self,
        variables: Any,
        key: Key[Array, ""],
        ids: Int[Array, "b"],
        x: Mapping[str, Array],
        **how: Any,
    ) -> dict[str, Array]:
        """The noise; pure, and checks nothing, for use inside a jit of your own.

        variables: as `generator.arrays`. All else is that of a call.
        """
        generator = self.sampler.generator
        noise = {name: generator.encode(name, variables, v) for name, v in x.items()}
        return self.sampler.draw(variables, key, ids, noise=noise, **how)

    @in_32_bits
    def __call__(
        self,
        key: Key[Array, ""],
        ids: Any,
        x: Any,
        label: Any = None,
        given: Mapping[str, Any] | None = None,
        guidance: Any = None,
        interval: tuple[Any, Any] | None = None,
        known: Mapping[str, Any] | None = None,
        params: Any = None,
    ) -> dict[str, Array]:
        """The noise of each stream, (b, *grid, d) float32, jitted.

        x: stream -> signals, of all the streams that are inverted. The others are
            those of a Sampler's call.

        Raises ValueError before anything compiles.
        """
        generator, wanted = self.sampler.generator, self.sampler.want
        if not isinstance(x, Mapping) or set(x) != set(wanted):
            names = sorted(x) if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(f"x holds {names}; write signals of {sorted(wanted)}")
        if both := set(inputs.by_stream("given", given)) & set(wanted):
            raise ValueError(f"{sorted(both)} is inverted and given: leave it out")
        signals = {"x": conditions.arrays("x", x)}
        conditions.check(generator, conditions.whole(ids), signals, {})
        codecs = generator.codecs
        noise = {n: codecs[n].latents(v) if n in codecs else v for n, v in x.items()}
        how = {"label": label, "given": given, "guidance": guidance, "known": known}
        how |= {"interval": interval, "noise": noise, "params": params}
        return self.sampler(key, ids, **how)
