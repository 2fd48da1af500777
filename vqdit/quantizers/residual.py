"""Residual vector quantization (SoundStream, arXiv:2107.03312, section III-C)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.fields import Count, Positive, Share
from vqdit.quantizers.codebook.book import Book, Quantizer
from vqdit.quantizers.codebook.estimators import estimate
from vqdit.quantizers.codebook.health import over_books
from vqdit.quantizers.fsq import FSQ
from vqdit.quantizers.quantized import Quantized
from vqdit.shapes import Array, Float, Int, Key
from vqdit.values import field_names


class Composite(Quantizer):
    """A quantizer made of a `book`, or of copies of it."""

    @property
    def dim(self) -> int:
        """Channels of z."""
        return self.book.dim

    @property
    def start(self) -> str:
        """Of the book: "kmeans" where it waits for `from_data`."""
        return getattr(self.book, "start", "normal")


class ResidualQuantizer(Composite):
    """`count` books in a row: each quantizes what those before it have left (alg. 1).

    count:   books.
    book:    any quantizer of one book but FSQ, whose residuals are `ResidualFSQ`'s. Its
        copies are the submodules books_0, books_1, ...
    dropout: share of examples (the first axis of z) that training rebuilds from a
        prefix of the books, of a length drawn from 1 to `count` alike, so that any
        prefix decodes well. Departs from the paper, where the books left out do not
        learn either: here they do, from residuals that do not depend on the draw.
    shrink:  codewords of book i count shrink^i of what they are. None is the book's
        own: 1, and 1/2 where codewords have one length (signs, and cosine codes).

    The estimator is applied once, to the sum: with one per book the gradient would be
    `count` times too large. For that reason the gradients of books that have their own
    are averaged. Losses are means over books, in units of each book.
    """

    book: nn.Module
    count: Count
    dropout: Share = 0.0
    shrink: Positive | None = None

    def __post_init__(self):
        super().__post_init__()
        check_book(self)
        advice = "bounds a residual as if it were z; write ResidualFSQ(levels, count)"
        self.check("book", not isinstance(self.book, FSQ), advice)

    @property
    def code_counts(self) -> tuple[int, ...]:
        return self.book.code_counts * self.count

    def setup(self):
        self.books = [copy_of(self.book) for _ in range(self.count)]

    def _size(self, i):
        shrink = self.book.shrink if self.shrink is None else self.shrink
        return shrink**i

    def decode(self, codes: Int[Array, "*b m"]) -> Float[Array, "*b d"]:
        """Codes of the first m books -> latents, float32; ValueError for no such m."""
        if not 1 <= codes.shape[-1] <= self.count:
            raise ValueError(
                f"codes are {codes.shape}: the last axis has 1 to {self.count} books"
            )
        total = self.books[0].look_up(codes[..., 0])
        for i in range(1, codes.shape[-1]):
            total = total + self._size(i) * self.books[i].look_up(codes[..., i])
        return total

    def quantized(self, z: Array, train: bool, key: Any) -> Quantized:
        draws = train and self.dropout > 0
        if draws and key is None:
            raise ValueError("quantizer dropout draws books: pass key= in training")
        keys: Any = [None] * (self.count + 1)
        if key is not None:
            keys = jax.random.split(key, self.count + 1)
        depth_key, *keys = keys
        u = self.books[0].project(z)
        depth = jnp.full((z.shape[0],) if z.ndim > 1 else (), self.count)
        if draws:
            depth = _depths(depth_key, depth.shape, self.count, self.dropout)
        depth = depth.reshape(depth.shape + (1,) * (z.ndim - depth.ndim))

        left, parts = u, []
        total = out = jnp.zeros(())
        for i, (book, key) in enumerate(zip(self.books, keys, strict=True)):
            rows = left.reshape(-1, self.dim) / self._size(i)
            part = book.quantize(rows, train=train, key=key)
            parts.append(part)
            q = (self._size(i) * jax.lax.stop_gradient(part.q)).reshape(z.shape)
            left = left - q
            total = total + jnp.where(depth > i, q, 0)
            ours = (self._size(i) * part.out).reshape(z.shape)
            out = out + jnp.where(depth > i, ours, 0)
        index = [part.index.reshape(z.shape[:-1]) for part in parts]
        codes = jnp.stack(index, -1)
        if not train:
            latents = self.decode(codes)
        elif self.book.estimator:
            latents = estimate(self.book.estimator, u, total)
        else:
            value = jax.lax.stop_gradient(out)
            latents = value + (out - value) / depth
        latents = jnp.where(self.books[0].ready(), latents, u)
        return Quantized(
            latents=latents,
            codes=codes,
            losses=over_books([part.losses for part in parts]),
            metrics=over_books([part.metrics for part in parts]),
        )

    def from_data(
        self, variables: dict, key: Key[Array, ""], z: Array, iterations: int = 25
    ) -> tuple[dict, dict[str, Array]]:
        """The books by k-means, one after another, each on what those before leave."""
        book = copy_of(self.book)
        left = book.project(jnp.asarray(z, jnp.float32).reshape(-1, self.dim))
        found = []
        for i in range(self.count):
            rows, name = left / self._size(i), f"books_{i}"
            own_key = jax.random.fold_in(key, i)
            variables, metrics = set_book(
                book, variables, name, own_key, rows, iterations
            )
            own = _own_of(variables, name)
            left = left - self._size(i) * _snapped(book, own, rows)
            found.append(metrics)
        return variables, over_books(found)


@partial(jax.jit, static_argnums=0)
def _snapped(book, variables, u):
    return book.apply(variables, u, method=lambda m, u: m.look_up(m.search(u)))


def _depths(key, shape, count, dropout):
    """How many books each example is rebuilt from."""
    which_key, depth_key = jax.random.split(key)
    short = jax.random.uniform(which_key, shape) < dropout
    depth = jax.random.randint(depth_key, shape, 1, count + 1)
    return jnp.where(short, depth, count)


def copy_of(book: nn.Module) -> nn.Module:
    """A module of its own, and so are those in its fields: a clone shares them."""
    fields = {name: getattr(book, name) for name in field_names(book)}
    own: dict[str, Any] = {
        n: copy_of(v) for n, v in fields.items() if isinstance(v, nn.Module)
    }
    return book.clone(parent=None, name=None, **own)


def check_book(owner: Quantizer) -> None:
    """Raises ValueError where `book` has not one book."""
    advice = "write a quantizer of one book, such as VectorQuantizer(num_codes, dim)"
    owner.check("book", isinstance(owner.book, Book), advice)


def set_book(
    book: nn.Module, variables: dict, name: str, key: Any, z: Array, iterations: int
) -> tuple[dict, dict[str, Array]]:
    """`from_data` of the submodule of that name, among the variables of its owner."""
    own, metrics = book.from_data(_own_of(variables, name), key, z, iterations)
    variables = {
        collection: {**tree, name: own[collection]} if name in tree else tree
        for collection, tree in variables.items()
    }
    return variables, metrics


def _own_of(variables, name):
    return {collection: tree.get(name, {}) for collection, tree in variables.items()}
