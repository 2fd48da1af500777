"""Which first part of its codes a tokenizer decodes: books, or scales.

A residual tokenizer decodes the first few of its books, a multi-scale one the codes of
its first few scales. What is left is not read, so that a file can do without it.
"""

import dataclasses
import functools
import itertools
import math

import jax
import numpy as np
from flax.errors import FlaxError

from train.codec.coder import Alphabet
from train.codec.prior import Prior
from vqdit.quantizers import MultiScaleQuantizer
from vqdit.shapes import Int
from vqdit.trained.codec import Codec


@dataclasses.dataclass(frozen=True)
class Prefixes:
    """The prefixes of codes (*b, places, books).

    codes: code count of each book.
    ends:  places up to the end of each scale; () where books are counted.
    """

    codes: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def word(self) -> str:
        return "scales" if self.ends else "books"

    @property
    def count(self) -> int:
        return len(self.ends or self.codes)

    def cut(
        self, codes: Int[np.ndarray, "*b places m"], kept: int
    ) -> Int[np.ndarray, "*b places2 m2"]:
        """The first `kept` of them."""
        if self.ends:
            return codes[..., : self.ends[kept - 1], :]
        return codes[..., :kept]

    def places(self, places: int, kept: int) -> int:
        """How many places `cut` leaves."""
        return self.ends[kept - 1] if self.ends else places

    def alphabet(self, prior: Prior | None, kept: int) -> Alphabet:
        """Of what `cut` leaves; a prior of scales is cut to their places."""
        if not self.ends:
            return Alphabet(self.codes[:kept], prior)
        if prior is not None and kept < self.count:
            prior = _first_places(prior, self.ends[kept - 1])
        return Alphabet(self.codes, prior)


# One for all files: the tables that a prior computes are kept with it.
@functools.lru_cache(maxsize=8)
def _first_places(prior: Prior, end: int) -> Prior:
    counts = tuple(c[:end] if len(c) > 1 else c for c in prior.counts)
    return dataclasses.replace(prior, counts=counts)


def prefixes(codec: Codec) -> Prefixes:
    """Those of a tokenizer, which decode where `decodes_prefixes` says so."""
    quantizer = codec.module.quantizer
    ends: tuple[int, ...] = ()
    if isinstance(quantizer, MultiScaleQuantizer):
        ends = tuple(itertools.accumulate(map(math.prod, quantizer.grids)))
    return Prefixes(codec.contract.codes, ends)


def decodes_prefixes(codec: Codec) -> bool:
    """Whether the first few books, or scales, alone decode to a signal."""
    if isinstance(codec.module.quantizer, MultiScaleQuantizer):
        return True
    grid = codec.contract.code_grid
    one = jax.ShapeDtypeStruct((1, *grid, 1), np.int32)
    try:
        shape = jax.eval_shape(
            lambda codes: codec.apply("decode", codec.variables, codes), one
        ).shape
    except (ValueError, TypeError, IndexError, FlaxError):
        return False
    return shape == (1, *codec.contract.shape)
