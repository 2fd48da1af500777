"""The diffusion transformer over streams.

Peebles & Xie 2022, arXiv:2212.09748 (adaLN-Zero), with one time per stream as in
UniDiffuser (arXiv:2303.06555): a stream at t = 0 is given, at t = 1 absent. The network
holds no loss and no schedule.
"""

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vqdit.nn import block as blocks
from vqdit.nn import embedding, rotary
from vqdit.nn.fused import norm_modulate
from vqdit.nn.patching import patchify, unpatchify

__all__ = ["Continuous", "DiT", "Discrete"]

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()


@dataclasses.dataclass(frozen=True)
class Continuous:
    """A stream of latents, (b, *grid, channels).

    patch:   side of the cube of positions that makes one token.
    outputs: values returned per channel; 2 for a learned variance (see Gaussian).
    """

    name: str
    grid: tuple[int, ...]
    channels: int
    patch: int = 1
    outputs: int = 1

    def __post_init__(self):
        if self.channels < 1 or self.outputs < 1:
            raise ValueError(f"stream {self.name!r}: channels and outputs start at 1")
        if self.patch < 1 or any(size % self.patch for size in self.grid):
            raise ValueError(
                f"stream {self.name!r}: patch {self.patch} does not divide the grid "
                f"{self.grid}; write a patch that divides every side"
            )

    @property
    def coarse(self) -> tuple[int, ...]:
        """The grid of tokens."""
        return tuple(size // self.patch for size in self.grid)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return (*self.grid, self.channels)

    @property
    def in_width(self) -> int:
        """Values in one token."""
        return self.patch ** len(self.grid) * self.channels

    @property
    def out_width(self) -> int:
        """Values predicted for one token."""
        return self.in_width * self.outputs


@dataclasses.dataclass(frozen=True)
class Discrete:
    """A stream of codes, (b, *grid, books) int32 in [0, vocab]; `vocab` is the mask.

    The network returns logits (b, *grid, books, vocab): it never predicts the mask.
    """

    name: str
    grid: tuple[int, ...]
    vocab: int
    books: int = 1

    def __post_init__(self):
        if self.vocab < 2 or self.books < 1:
            raise ValueError(
                f"stream {self.name!r}: a vocabulary starts at 2 codes, books at 1"
            )

    @property
    def coarse(self) -> tuple[int, ...]:
        """The grid of tokens."""
        return self.grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return (*self.grid, self.books)

    @property
    def out_width(self) -> int:
        """Values predicted for one token."""
        return self.books * self.vocab


Stream = Continuous | Discrete


class DiT(nn.Module):
    """Maps a dict of corrupted streams and their times to a dict of predictions.

    classes:   0 for none; label `classes` is the null class that guidance uses.
    positions: "sincos" adds fixed tables to the tokens, as DiT; "rotary" turns queries
               and keys instead.
    dtype:     of activations and matrix products; parameters, norms' statistics,
               softmax and outputs are float32.
    remat:     recompute each block in the backward pass.
    scan:      one compiled block for all depths; parameters gain a leading axis.
    """

    streams: tuple[Stream, ...]
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: int = 4
    classes: int = 0
    positions: Literal["sincos", "rotary"] = "sincos"
    qk_norm: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    scan: bool = False

    @nn.compact
    def __call__(
        self,
        streams: dict[str, Array],
        times: dict[str, Float[Array, "b"]],
        label: Int[Array, "b"] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """streams: name -> (b, *grid, c) latents or (b, *grid, m) codes.

        times: name -> (b,). label: (b,) in [0, classes]; None is the null class.
        Returns name -> (b, *grid, c * outputs) or logits (b, *grid, m, vocab), float32.
        Raises ValueError on streams that are not the module's own.
        """
        del train  # no dropout: the DiT recipe has none
        self._check(streams, times)
        tokens = [self._embed(s, streams[s.name]) for s in self.streams]
        lengths = tuple(math.prod(s.coarse) for s in self.streams)
        x = jnp.concatenate(tokens, axis=1)
        c = self._condition(times, label, x.shape[0])
        table = self._rotary() if self.positions == "rotary" else None

        x = self._stack(x, c, lengths, table)

        mods = nn.Dense(
            2 * self.width, kernel_init=zeros, dtype=self.dtype, name="final_modulation"
        )(nn.silu(c))
        shift, scale = jnp.split(blocks.per_token(mods, lengths), 2, axis=-1)
        x = norm_modulate(x, shift, scale)

        parts = jnp.split(x, np.cumsum(lengths)[:-1], axis=1)
        outputs = zip(self.streams, parts, strict=True)
        return {s.name: self._read(s, part) for s, part in outputs}

    def _embed(self, stream, x):
        if isinstance(stream, Continuous):
            x = patchify(x.astype(self.dtype), stream.patch)
            dense = nn.Dense(
                self.width,
                kernel_init=xavier,
                dtype=self.dtype,
                name=f"{stream.name}_in",
            )
            x = dense(x)
        else:
            # One table per book, all in one array; row vocab is the mask token.
            init = nn.initializers.normal(stream.books**-0.5 * 0.5)
            x = _Codes(
                stream.vocab + 1,
                stream.books,
                self.width,
                init,
                name=f"{stream.name}_in",
            )(x)
            x = x.astype(self.dtype)
        if self.positions == "sincos":
            x = x + embedding.sincos_positions(stream.coarse, self.width).astype(
                x.dtype
            )
        return x

    def _condition(self, times, label, batch):
        t = jnp.stack([times[s.name] for s in self.streams], axis=1)
        c = embedding.TimeEmbedding(self.width, dtype=self.dtype, name="time")(t)
        if len(self.streams) > 1:
            shape = (len(self.streams), self.width)
            c = c + self.param("stream", embedding.normal, shape).astype(c.dtype)
        if self.classes:
            if label is None:
                label = jnp.full((batch,), self.classes, jnp.int32)
            embed = embedding.LabelEmbedding(self.classes, self.width, name="label")
            c = c + embed(label)[:, None].astype(c.dtype)
        return c

    def _rotary(self):
        axes = max(1, *(len(s.grid) for s in self.streams))
        positions = []
        for s in self.streams:
            n = math.prod(s.coarse)
            index = np.indices(s.coarse, int).reshape(len(s.coarse), n).T
            positions.append(np.pad(index, ((0, 0), (0, axes - index.shape[1]))))
        width = self.width // self.heads
        return jnp.asarray(rotary.rotary_table(np.concatenate(positions), width))

    def _stack(self, x, c, lengths, table):
        block = blocks.Block
        if self.remat:
            block = nn.remat(block, static_argnums=(3,), prevent_cse=not self.scan)
        fields = (self.heads, self.mlp_ratio, self.qk_norm, self.dtype)
        if not self.scan:
            for i in range(self.depth):
                x = block(*fields, name=f"block_{i:02d}")(x, c, lengths, table)
            return x
        stack = nn.scan(
            lambda module, x, _: (module(x, c, lengths, table), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        return stack(block(*fields, name="blocks"), x, None)[0]

    def _read(self, stream, x):
        # The head runs in float32: it is small, and its output meets the loss.
        x = nn.Dense(
            stream.out_width,
            kernel_init=zeros,
            dtype="float32",
            name=f"{stream.name}_out",
        )(x)
        if isinstance(stream, Continuous):
            return unpatchify(x, stream.grid, stream.patch)
        return x.reshape(x.shape[0], *stream.grid, stream.books, stream.vocab)

    def _check(self, streams, times):
        names = {s.name for s in self.streams}
        if len(names) != len(self.streams) or not names:
            raise ValueError("DiT.streams needs at least one stream, each its own name")
        if set(streams) != names or set(times) != names:
            raise ValueError(
                f"the DiT's streams are {sorted(names)}; got streams {sorted(streams)} "
                f"and times {sorted(times)}"
            )
        for s in self.streams:
            if streams[s.name].shape[1:] != s.shape:
                raise ValueError(
                    f"stream {s.name!r} is (b, {', '.join(map(str, s.shape))}); "
                    f"got {streams[s.name].shape}"
                )
        if self.width % self.heads:
            raise ValueError(
                f"{self.heads} heads do not divide the width {self.width}; "
                f"write a number of heads that does"
            )


class _Codes(nn.Module):
    """The sum over books of one embedding each."""

    vocab: int
    books: int
    width: int
    init: jax.nn.initializers.Initializer

    @nn.compact
    def __call__(self, codes: Int[Array, "b *grid m"]) -> Float[Array, "b n d"]:
        table = self.param("table", self.init, (self.books * self.vocab, self.width))
        offsets = jnp.arange(self.books) * self.vocab
        flat = codes.reshape(codes.shape[0], -1, self.books)
        return table[flat + offsets].sum(axis=2)
