"""The two kinds of stream that a transformer reads: latents and codes."""

import dataclasses
from typing import ClassVar

from vqdit.fields import Checked, Count, TwoOrMore


@dataclasses.dataclass(frozen=True)
class Continuous(Checked):
    """A stream of latents, (b, *grid, channels).

    patch:   side of the cube of positions that makes one token.
    outputs: values returned per channel; 2 for a learned variance (see Gaussian).
    """

    name: str
    grid: tuple[int, ...]
    channels: Count
    patch: Count = 1
    outputs: Count = 1

    kind: ClassVar[str] = "latents"
    dtype: ClassVar[str] = "float32"

    def __post_init__(self):
        super().__post_init__()
        divides = not any(size % self.patch for size in self.grid)
        advice = f"does not divide the grid {self.grid}; write one that does"
        self.check("patch", divides, advice)

    @property
    def coarse(self) -> tuple[int, ...]:
        return tuple(size // self.patch for size in self.grid)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.grid, self.channels)

    @property
    def out_width(self) -> int:
        """Values predicted for one token."""
        return self.patch ** len(self.grid) * self.channels * self.outputs

    def most(self, masked: bool) -> None:
        """Latents may be any numbers."""


@dataclasses.dataclass(frozen=True)
class Discrete(Checked):
    """A stream of codes, (b, *grid, books) int32 in [0, vocab]; `vocab` is the mask.

    The network returns logits (b, *grid, books, vocab): it never predicts the mask.
    """

    name: str
    grid: tuple[int, ...]
    vocab: TwoOrMore
    books: Count = 1

    kind: ClassVar[str] = "codes"
    dtype: ClassVar[str] = "int32"
    patch: ClassVar[int] = 1  # each place is a token

    @property
    def coarse(self) -> tuple[int, ...]:
        return self.grid

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.grid, self.books)

    @property
    def out_width(self) -> int:
        """Values predicted for one token."""
        return self.books * self.vocab

    def most(self, masked: bool) -> int:
        """The last code there is; `masked`: the mask is one of them."""
        return self.vocab - (not masked)
