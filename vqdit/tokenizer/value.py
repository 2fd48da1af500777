"""What is born discrete: tokenizers without a network, which work on the host."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.linalg

from vqdit.fields import Checked
from vqdit.shapes import Bool, Float, Int
from vqdit.values import field_names


class Value(Checked):
    """What all of them have; an example has one value, and None is none of it.

    source:     the entry of an example that it encodes.
    length:     codes of an example. code_count: how many there are.
    wide:       values may come as an array of more axes than the batch's.
    closed:     data may hold what the training part has never had; see `seen`.
    left:       fields that the training part settles where they are empty.
    """

    source: ClassVar[str]
    wide: ClassVar[bool] = False
    closed: ClassVar[bool] = False
    left: ClassVar[tuple[str, ...]] = ()

    length: int

    @property
    def code_count(self) -> int:
        raise NotImplementedError

    @property
    def grid(self) -> tuple[int, ...]:
        """Of an example's codes."""
        return (self.length,)

    @property
    def settled(self) -> bool:
        """Whether all is known of it; else the training part has yet to say it."""
        return True

    def settle(self, values: Sequence[Any]) -> "Value":
        """Itself, with what was left to the training part: all of its values."""
        del values
        return self

    def contradiction(self, settled: "Value") -> tuple[str, Any, Any] | None:
        """(field, what it is here, what there) of the first in which `settled`, of the
        same class, is not what this may be settled to; None where there is none."""
        return first_other(self, settled, self.left)

    def seen(self, values: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, int]]:
        """(values of data, what the training part has never had taken as missing; how
        much of it there was, by name)."""
        return values, {}

    def stream(self, kind: str) -> dict[str, object]:
        """Fields of the stream that holds its codes; ValueError for one of latents."""
        if kind != "codes":
            raise ValueError(
                f"{type(self).__name__} has codes and no latents; write a process of "
                "codes such as Masking()"
            )
        return {"grid": self.grid, "vocab": self.code_count, "books": 1}

    def encode(self, values: Any) -> Int[np.ndarray, "b *grid"]:
        """Codes int32, any where nothing is known. Raises ValueError, in one line."""
        raise NotImplementedError

    def most_codes(self, values: Any) -> Int[np.ndarray, "b"] | None:
        """How many codes each has at most, where that is known without making them; who
        has no more than `length` is sure to be encoded."""
        del values
        return None

    def known(self, values: Any) -> Bool[np.ndarray, "b *grid"]:
        """(b,) or (b, *grid): where there is something. What is not known is neither
        seen nor scored; of a stream that is drawn it is what is drawn."""
        raise NotImplementedError

    def decode(self, codes: Int[np.ndarray, "b *grid"]) -> Any:
        """The inverse of `encode`, of known codes."""
        raise NotImplementedError

    def codewords(self) -> Float[np.ndarray, "1 k d"]:
        """What its codes mean, of mean 0: such as mean nearly the same are near. Raises
        ValueError where they are symbols."""
        raise ValueError(
            f"the codes of {type(self).__name__} are symbols, none nearer than others"
        )

    def kept(
        self,
        drawn: Sequence[Any],
        given: Sequence[Any],
        known: Bool[np.ndarray, "b *n"],
    ) -> Sequence[Any]:
        """What was drawn around the places of `given` that are known, where codes lose
        some of it with these as they were given."""
        del given, known
        return drawn

    def said(self, values: Any) -> list[str]:
        """Values as texts, of a line each."""
        return list(map(str, values))


def first_other(
    own: Any, other: Any, left: Sequence[str] = ()
) -> tuple[str, Any, Any] | None:
    """(field, value, the other's value) of the first field in which two of a class
    differ; those that are `left` to the training part and empty are not compared."""
    for name in field_names(own):
        here, there = getattr(own, name), getattr(other, name)
        if here != there and not (name in left and not here):
            return name, here, there
    return None


def ordered(count: int) -> Float[np.ndarray, "k d"]:
    """Bins of one quantity: the further apart, the more of the edges between."""
    return np.tri(count, max(1, count - 1), -1, np.float32)


def side_by_side(*blocks: Float[np.ndarray, "_ _"]) -> Float[np.ndarray, "1 k d"]:
    """Codewords of codes of several kinds, each with channels of its own, about 0 and
    as long as the others'."""
    each = [block - block.mean(0) for block in blocks]
    size = [np.sqrt(np.square(block).sum(1).mean()) for block in each]
    each = [block / max(s, 1e-6) for block, s in zip(each, size, strict=True)]
    return scipy.linalg.block_diag(*each).astype(np.float32)[None]


def known_codes(codes: Any, count: int) -> np.ndarray:
    """The codes. Raises ValueError for one that is not among so many."""
    codes = np.asarray(codes)
    wrong = (codes < 0) | (codes >= count)
    if wrong.any():
        raise ValueError(f"code {codes[wrong][0]} is none of the {count} there are")
    return codes
