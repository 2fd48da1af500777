"""Finite scalar quantization (arXiv:2309.15505): a grid instead of a codebook."""

import math
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from vqdit.fields import FILLED, TwoOrMore
from vqdit.quantizers.codebook.book import Book
from vqdit.quantizers.codebook.estimators import Estimator
from vqdit.quantizers.codebook.health import MOST_CODES, Window
from vqdit.shapes import Array, Float, Int


class Few:
    """That a tuple of levels makes no more codes than can be counted one by one."""

    def holds(self, levels: Any) -> bool:
        return math.prod(levels) <= MOST_CODES

    def __str__(self):
        return f"of at most {MOST_CODES} codes in all (more are groups of books)"


# Of each channel, at least 2.
Levels = Annotated[tuple[TwoOrMore, ...], FILLED, Few()]


class FSQ(Book):
    """Bounds every channel and rounds it to one of levels[i] values in [-1, 1].

    The product of the levels is the number of codes; a code is the mixed-radix number
    of its channels' levels, first channel fastest (the paper's appendix A.1). Departs
    from its listing in the shift of even levels: atanh, which centres the bounded
    range as the text says, where the listing has tan; and in the bound's margin of a
    thousandth, which is added where the listing takes it off: that of two levels has
    no such shift, and of more than a thousand the outermost are out of reach.

    levels: values of each channel, such as (8, 5, 5, 5).
    signs: two levels are the sign of z. The paper's bound, False, cuts them at -3.8,
        where its slope is 0.001: a channel says nothing, and learns next to nothing.
    symmetric: levels from -1 to 1 at equal distances, and tanh(z) rounded to the
        nearest (arXiv:2411.19842, section 3.2), also of an even count, which the paper
        above has one more of below 0 than above.
    """

    levels: Levels
    window: Window | None = None
    estimator: Estimator = "straight_through"
    signs: bool = True
    symmetric: bool = False

    def __post_init__(self):
        super().__post_init__()
        advice = "it is of the paper's bound; leave it out beside symmetric=True"
        self.check("signs", self.signs or not self.symmetric, advice)

    @staticmethod
    def upgraded(fields: dict[str, Any]) -> dict[str, Any]:
        """Files of before have two levels of the paper's bound."""
        signs = 2 not in fields.get("levels", ())
        return {"signs": signs, **Book.upgraded(fields)}

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def num_codes(self) -> int:
        return math.prod(self.levels)

    def project(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """The bound of the paper's equation 1 and its listing, in units of 1."""
        if self.symmetric:
            return jnp.tanh(z)
        return bound(z, self.levels, self.signs)

    def search(self, u: Float[Array, "n d"]) -> Int[Array, "n"]:
        """The code of the nearest level of every channel."""
        levels = np.array(self.levels)
        if self.symmetric:
            digits = jnp.floor((u + 1) / 2 * (levels - 1).astype(np.float32) + 0.5)
            digits = jnp.clip(digits.astype(jnp.int32), 0, levels - 1)
            return radix_number(digits, self.levels)
        half = levels // 2
        digits = jnp.round(u * half.astype(np.float32)).astype(jnp.int32) + half
        # The bound's margin of a thousandth is more than a level when they are many.
        return radix_number(jnp.clip(digits, 0, levels - 1), self.levels)

    def look_up(self, index: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        if self.symmetric:
            last = np.array(self.levels, np.float32) - 1
            return digits_of(index, self.levels) * 2.0 / last - 1.0
        half = np.array(self.levels) // 2
        return (digits_of(index, self.levels) - half) / half.astype(np.float32)


def bound(
    z: Float[Array, "*b d"], levels: tuple[int, ...], signs: bool
) -> Float[Array, "*b d"]:
    """z squashed to the range of its levels, of which the middle one is 0.

    Where two levels are signs their border is z = 0.
    """
    count = np.array(levels)
    half = (count - 1) * (1 + 1e-3) / 2
    offset = np.where(count % 2 == 0, 0.5, 0.0)
    shift = np.where(signs & (count == 2), 0.0, np.arctanh(offset / half))
    return (jnp.tanh(z + shift) * half - offset) / (count // 2).astype(np.float32)


def radix_number(
    digits: Int[Array, "*b d"], levels: tuple[int, ...]
) -> Int[Array, "*b"]:
    """Digits -> mixed-radix number, first digit fastest."""
    return (digits * _basis(levels)).sum(-1).astype(jnp.int32)


def digits_of(index: Int[Array, "*b"], levels: tuple[int, ...]) -> Int[Array, "*b d"]:
    """The inverse of `radix_number`."""
    return index[..., None] // _basis(levels) % np.array(levels)


def _basis(levels):
    return np.concatenate([[1], np.cumprod(levels[:-1])]).astype(np.int32)
