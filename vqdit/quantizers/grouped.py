"""Grouped quantization: a book for every part of the channels (product VQ)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.fields import Count
from vqdit.quantizers.codebook.health import over_books
from vqdit.quantizers.quantized import Quantized
from vqdit.quantizers.residual import Composite, copy_of, set_book
from vqdit.shapes import Array, Float, Int, Key


class GroupedQuantizer(Composite):
    """`count` quantizers side by side, each of its own equal part of z's channels.

    Product quantization (Jegou et al. 2011, eq. 8), as in vq-wav2vec (arXiv:1910.05453,
    section 3.3): the codes of all groups together choose one of their product.

    book: any quantizer of vectors, of several books too; z has `count` times its
        channels. Its copies are the submodules books_0, books_1, ... and their codes
        stand side by side. Losses are means over the groups.

    count: groups.
    """

    book: nn.Module
    count: Count

    def __post_init__(self):
        whole = hasattr(self.book, "code_grid")  # it has codes of a grid, not a vector
        advice = "write a quantizer of vectors, such as VectorQuantizer(num_codes, dim)"
        self.check("book", hasattr(self.book, "code_counts") and not whole, advice)
        super().__post_init__()

    @property
    def dim(self) -> int:
        return self.book.dim * self.count

    @property
    def code_counts(self) -> tuple[int, ...]:
        return self.book.code_counts * self.count

    def setup(self):
        self.books = [copy_of(self.book) for _ in range(self.count)]

    def decode(self, codes: Int[Array, "*b m"]) -> Float[Array, "*b d"]:
        """Codes of all books -> latents, float32; ValueError for fewer or more."""
        if codes.shape[-1] != len(self.code_counts):
            raise ValueError(
                f"codes are {codes.shape}: the last axis has {len(self.code_counts)}"
            )
        parts = jnp.split(codes, self.count, axis=-1)
        return jnp.concatenate(
            [book.decode(part) for book, part in zip(self.books, parts, strict=True)],
            axis=-1,
        )

    def quantized(self, z: Array, train: bool, key: Any) -> Quantized:
        keys: Any = [None] * self.count
        if key is not None:
            keys = jax.random.split(key, self.count)
        parts = [
            book(part, train=train, key=key)
            for book, part, key in zip(
                self.books, jnp.split(z, self.count, axis=-1), keys, strict=True
            )
        ]
        return Quantized(
            latents=jnp.concatenate([part.latents for part in parts], -1),
            codes=jnp.concatenate([part.codes for part in parts], -1),
            losses=over_books([part.losses for part in parts]),
            metrics=over_books([part.metrics for part in parts]),
        )

    def from_data(
        self, variables: dict, key: Key[Array, ""], z: Array, iterations: int = 25
    ) -> tuple[dict, dict[str, Array]]:
        """Every group's books from its channels of z (n, d)."""
        found = []
        for i, part in enumerate(jnp.split(jnp.asarray(z), self.count, axis=-1)):
            own_key = jax.random.fold_in(key, i)
            variables, metrics = set_book(
                self.book, variables, f"books_{i}", own_key, part, iterations
            )
            found.append(metrics)
        return variables, over_books(found)
