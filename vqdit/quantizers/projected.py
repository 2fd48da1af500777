"""Factorised codes: a book that looks its codes up in fewer channels than it returns.

ViT-VQGAN (arXiv:2110.04627, section 3.2) for one book; DAC (arXiv:2306.06546, section
3.2) for every book of a residual: ResidualQuantizer(Projected(book, dim), count).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from vqdit.fields import Count
from vqdit.quantizers.codebook.book import Book, Lookup
from vqdit.quantizers.residual import check_book, set_book
from vqdit.shapes import Array, Float, Int, Key


class Projected(Book):
    """A linear layer into the book's space before it, and one back after it.

    Codewords have the gradient of the layer back, so in a residual every book's output
    keeps its own.

    book: any quantizer of one book.
    dim: channels of z.
    """

    book: nn.Module
    dim: Count

    def __post_init__(self):
        super().__post_init__()
        check_book(self)

    @property
    def num_codes(self) -> int:
        return self.book.num_codes

    @property
    def start(self) -> str:
        """Of the book: "kmeans" where it waits for `from_data`."""
        return getattr(self.book, "start", "normal")

    def setup(self):
        dense = lambda width, name: nn.Dense(width, precision="highest", name=name)
        self.project_in = dense(self.book.dim, "into")
        self.project_out = dense(self.dim, "out_of")

    def ready(self) -> Any:
        """False while the book waits for data."""
        return self.book.ready()

    def search(self, u: Float[Array, "n d"]) -> Int[Array, "n"]:
        return self.book.search(self.book.project(self.project_in(u)))

    def look_up(self, index: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        # Rows, so that decoding codes of any shape rounds as quantizing does.
        rows = self.project_out(self.book.look_up(index.reshape(-1)))
        return rows.reshape(*index.shape, self.dim)

    def quantize(self, u: Float[Array, "n d"], *, train: bool, key: Any) -> Lookup:
        """The book's share, with losses in its space and latents in z's."""
        v = self.book.project(self.project_in(u))
        part = self.book.quantize(v, train=train, key=key)
        back = self.project_out
        return dataclasses.replace(part, q=back(part.q), out=back(part.out))

    def from_data(
        self, variables: dict, key: Key[Array, ""], z: Array, iterations: int = 25
    ) -> tuple[dict, dict[str, Array]]:
        """The book by k-means over projected z (n, d)."""
        project = lambda m, z: m.book.project(m.project_in(z))
        v = jax.jit(lambda h, z: self.apply(h, z, method=project))(
            variables, z.reshape(-1, self.dim)
        )
        return set_book(self.book, variables, "book", key, v, iterations)
