"""Which streams of a training example are given, absent or noised, and at which times.

A network that has met them all answers any question about its streams: one from others
(UniDiffuser, arXiv:2303.06555), one alone, all at once, or the rest of a stream from
parts of it (Diffusion Forcing, arXiv:2407.01392). How often each is asked for has to be
chosen, as for masked models of three kinds of signal (arXiv:2602.21472): what is seldom
asked for is learnt late.
"""

import dataclasses
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.diffusion.process import against, joined, named
from vqdit.diffusion.times import stratified
from vqdit.fields import FILLED, Checked, Positive, Share
from vqdit.shapes import Array, Bool, Float, Key
from vqdit.values import near

# Of a token: more than float32 is off by, of 1 - 0.9 say, in a share of whole tokens.
ROUNDED = 1e-3


@dataclasses.dataclass(frozen=True)
class _Part(Checked):
    """Places of a stream that are given, while the others are noised.

    low, high: between what the share that is given is drawn, evenly. Whole tokens are
        given, and never all of them.
    """

    low: Share = 0.0
    high: Share = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.check("low", self.low <= self.high, f"write at most high, {self.high}")

    def share(self, key: Key[Array, ""], batch: int) -> Float[Array, "b"]:
        return self.low + (self.high - self.low) * stratified(key, batch)

    def __call__(
        self, key: Key[Array, ""], batch: int, coarse: tuple[int, ...]
    ) -> Bool[Array, "b *lead"]:
        """True at the tokens of a coarse grid, or of its first axis, that are given."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Prefix(_Part):
    """The first ones along the first axis: frames to go on from, a text's beginning."""

    def __call__(self, key, batch, coarse):
        count = jnp.floor(self.share(key, batch) * coarse[0] + ROUNDED)
        return jnp.arange(coarse[0]) < jnp.minimum(count, coarse[0] - 1)[:, None]


@dataclasses.dataclass(frozen=True)
class Around(_Part):
    """All but a box at any place: a hole in a picture, a gap in a sound. The share is
    rounded towards the hole."""

    def __call__(self, key, batch, coarse):
        share_key, *keys = jax.random.split(key, 1 + len(coarse))
        side = (1 - self.share(share_key, batch)) ** (1 / len(coarse))
        inside = jnp.ones((batch, *coarse), bool)
        for axis, (size, own) in enumerate(zip(coarse, keys, strict=True)):
            length = jnp.clip(jnp.ceil(side * size - ROUNDED), 1, size)
            start = jnp.floor(stratified(own, batch) * (size - length + 1))
            place = jnp.arange(size) - start[:, None]
            within = (place >= 0) & (place < length[:, None])
            shape = [batch] + [1] * len(coarse)
            shape[1 + axis] = size
            inside &= within.reshape(shape)
        return ~inside


@dataclasses.dataclass(frozen=True)
class Scattered(_Part):
    """Each by itself: a text with blanks, a picture of which single places are seen."""

    def __call__(self, key, batch, coarse):
        share_key, place_key = jax.random.split(key)
        u = jax.random.uniform(place_key, (batch, *coarse))
        axes = tuple(range(1, u.ndim))
        share = self.share(share_key, batch).reshape(-1, *[1] * len(coarse))
        return (u < share) & (u < u.max(axes, keepdims=True))


def _names(field) -> tuple[str, ...]:
    """Streams that a case's field names."""
    return tuple(field) if isinstance(field, tuple | dict) else ()


@dataclasses.dataclass(frozen=True)
class Case(Checked):
    """One way in which an example is shown; as it stands, all noised, each at its time.

    One stream of what the example has, each alike, is noised for sure. Each of the
    others is given, absent, or noised too.

    given:    the chance that a stream is given: it stands at its data and at t = 0, and
        has no loss. Or the names of the streams that are, and no others.
    absent:   the same of being absent: no other stream sees it, and it has no loss.
    together: what is noised is so at one draw of time, which each stream's law of times
        makes its own of; else each at a draw of its own.
    parts:    stream -> the places of it that are given where it is noised.
    weight:   share of the examples, beside those of the other cases.
    """

    given: Share | tuple[str, ...] = 0.0
    absent: Share | tuple[str, ...] = 0.0
    together: bool = False
    parts: dict[str, Prefix | Around | Scattered] = dataclasses.field(
        default_factory=dict
    )
    weight: Positive = 1.0

    def __post_init__(self):
        super().__post_init__()
        twice = set(_names(self.given)) & set(_names(self.absent))
        self.check("absent", not twice, f"{', '.join(twice)}: is given; write one")
        if not _names(self.given) and not _names(self.absent):
            both = (self.given or 0) + (self.absent or 0)
            self.check("absent", both <= 1, f"write at most {1 - self.given:g}")
        whole = ", ".join(filter(self.fixed, self.parts))
        self.check("parts", not whole, f"{whole}: is given or absent as a whole")

    def chances(self, name: str) -> tuple[float, float]:
        """(of being given, of being absent) of a stream that may be noised or not."""
        shares = []
        for field, other in ((self.given, self.absent), (self.absent, self.given)):
            if isinstance(field, tuple):
                shares.append(float(name in field))
            else:
                shares.append(0.0 if name in _names(other) else float(field))
        return shares[0], shares[1]

    def fixed(self, name: str) -> bool:
        """Whether it is never noised, unless an example has nothing else."""
        return name in _names(self.given) or name in _names(self.absent)


class Roles(NamedTuple):
    """What a mixture has drawn for a batch. What may never be is left out.

    given:    stream -> (b, *lead), true where it is; `lead` are the first axes of its
        grid, or none.
    absent:   stream -> (b,), true where it is.
    together: (b,), whether all are noised at one draw of time; None where none are.
    """

    given: dict[str, Bool[Array, "b *lead"]]
    absent: dict[str, Bool[Array, "b"]]
    together: Bool[Array, "b"] | None


@dataclasses.dataclass(frozen=True)
class Mixture(Checked):
    """Cases by their weights, which a batch holds to within one example.

    Chances hold in expectation, whatever an example lacks, and are stratified over the
    batch as times are.
    """

    cases: Annotated[tuple[Case, ...], FILLED] = (Case(),)

    def check_names(self, names: Collection[str]) -> None:
        """Raises ValueError, in one line, for streams that there are not, and for a
        case in which nothing is noised."""
        for i, case in enumerate(self.cases):
            for field in ("given", "absent", "parts"):
                for name in _names(getattr(case, field)):
                    if name not in names:
                        raise ValueError(
                            f"cases.{i}.{field}: there is no stream {name!r}; "
                            f"{near(name, names)}"
                        )
            if all(map(case.fixed, names)):
                raise ValueError(
                    f"cases.{i}: every stream is given or absent, so nothing is "
                    "noised; leave one out"
                )

    def leaves_out(self, name: str) -> bool:
        """Whether some examples are shown without this stream."""
        return any(case.chances(name)[1] for case in self.cases)

    @property
    def parts(self) -> tuple[str, ...]:
        """Streams of which some examples are given places."""
        return tuple(sorted({name for case in self.cases for name in case.parts}))

    def draw(
        self, key: Key[Array, ""], streams: Sequence, known: Mapping[str, Array]
    ) -> Roles:
        """streams: of the transformer. known: stream -> (b,), whether an example has
        anything of it, of all of them."""
        names = [stream.name for stream in streams]
        there = jnp.stack([known[name] for name in names], axis=1)
        batch = len(there)
        weights = np.cumsum([case.weight for case in self.cases])
        ends = jnp.asarray(weights[:-1] / weights[-1], jnp.float32)
        which = jnp.searchsorted(ends, stratified(named(key, "case"), batch), "right")

        # The one that is noised for sure: the rank-th of those that may be.
        free = np.array([[not c.fixed(name) for name in names] for c in self.cases])
        may = there & jnp.asarray(free)[which]
        may = jnp.where(may.any(axis=1, keepdims=True), may, there)
        rank = jnp.floor(stratified(named(key, "sure"), batch) * may.sum(axis=1))
        sure = jnp.argmax(jnp.cumsum(may, axis=1) > rank[:, None], axis=1)

        given, absent = {}, {}
        for i, stream in enumerate(streams):
            name, own = stream.name, named(key, f"stream {stream.name}")
            u = stratified(jax.random.fold_in(own, 0), batch)
            chances = np.array([case.chances(name) for case in self.cases])
            low, high = jnp.asarray(np.cumsum(chances, axis=1), jnp.float32)[which].T
            if chances[:, 0].any():
                given[name] = (sure != i) & (u < low)
            if chances[:, 1].any():
                absent[name] = (sure != i) & (u >= low) & (u < high)
            for k, case in enumerate(self.cases):
                if name in case.parts:
                    part_key = jax.random.fold_in(own, 1 + k)
                    part = case.parts[name](part_key, batch, stream.coarse)
                    part &= against(which == k, part)
                    part = _on_places(part, stream.patch)
                    given[name] = joined(operator.or_, given.get(name), part)
        together = np.array([case.together for case in self.cases])
        one = jnp.asarray(together)[which] if together.any() else None
        return Roles(given, absent, one)


def _on_places(tokens, patch):
    """(b, *lead) of a coarse grid, on the grid."""
    for axis in range(1, tokens.ndim):
        tokens = jnp.repeat(tokens, patch, axis=axis)
    return tokens
