"""The noise of a signal: a sampler walked backwards."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vqdit.shapes import Array, Int, Key
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

    def __call__(
        self, key: Key[Array, ""], ids: Any, x: Mapping[str, Any], **how: Any
    ) -> dict[str, Array]:
        """The noise of each stream, (b, *grid, d) float32, jitted.

        x:   signals of the streams that are inverted, all of them.
        how: label, given, guidance, interval and params, as a Sampler takes them. What
            is given keeps its draw of (key, ids[i]) where a model needs one.

        Raises ValueError before anything compiles.
        """
        wanted = self.sampler.want
        if set(x) != set(wanted):
            raise ValueError(f"x holds {sorted(x)}; write signals of {sorted(wanted)}")
        codecs = self.sampler.generator.codecs
        noise = {n: codecs[n].latents(v) if n in codecs else v for n, v in x.items()}
        return self.sampler(key, ids, noise=noise, **how)
