"""A trained tokenizer in use: signals to codes and latents, and back, jitted."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.platform import in_32_bits
from vqdit.quantizers import Quantized
from vqdit.shapes import AnyArray, Array, Float, Num, Shaped
from vqdit.signal import to_signal
from vqdit.signal.grids import blocks_of, fold, unfold
from vqdit.signal.rows import by_chunks
from vqdit.signal.tiles import Tiling
from vqdit.tokenizer import Tokenizer, decode_chunks, encode_chunks
from vqdit.trained import inputs
from vqdit.trained.contract import LatentContract
from vqdit.trained.extractor import CodecExtractor


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables"],
    meta_fields=["module", "contract"],
)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Codec:
    """A tokenizer with its variables and latent contract; a pytree of its variables.

    module, variables, contract: as stored in the bundle.

    Signals may have other sides than the contract's wherever the tokenizer decodes what
    it encodes of them. Given values are checked before anything compiles, and not at
    all inside a jit, where they are not known.
    """

    module: Tokenizer
    variables: dict
    contract: LatentContract

    def __post_init__(self):
        place = lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x
        object.__setattr__(self, "variables", jax.tree.map(place, self.variables))

    def __repr__(self) -> str:
        module, contract = self.module, self.contract
        parts = (module.encoder, module.quantizer, module.decoder)
        names = ", ".join(type(part).__name__ for part in parts if part is not None)
        size = sum(x.size for x in jax.tree.leaves(self.variables.get("params", {})))
        held = f"{contract.channels} channels"
        if contract.codes:
            books = ", ".join(f"{k:,}" for k in contract.codes)
            held = f"codes of {books}, {contract.bits:,.0f} bits"
        return (
            f"Codec({contract.kind} {contract.shape} <-> {contract.code_grid} {held}: "
            f"{names}, {size:,} parameters)"
        )

    @in_32_bits
    def from_raw(self, raw: Num[AnyArray, "*b c"]) -> Float[Array, "*b c"]:
        """Raw values in their own unit -> the signal that `encode` takes.

        Without a normalisation uint8 means pixels, and floats are the signal already.
        What is not finite stays so: clean it first.
        """
        if not self.contract.scale:
            return to_signal(raw)
        offset, scale = _float32(self.contract.offset, self.contract.scale)
        return (jnp.asarray(raw, jnp.float32) - offset) / scale

    @in_32_bits
    def to_raw(self, x: Float[AnyArray, "*b c"]) -> Float[Array, "*b c"]:
        """The inverse of `from_raw`, as floats."""
        if not self.contract.scale:
            return jnp.asarray(x, jnp.float32)
        offset, scale = _float32(self.contract.offset, self.contract.scale)
        return jnp.asarray(x, jnp.float32) * scale + offset

    def stream(self, kind: Literal["latents", "codes"]) -> dict[str, Any]:
        """Fields of the stream that holds its latents, or its codes."""
        return self.contract.stream(kind)

    def codewords(self) -> Float[np.ndarray, "m k d"]:
        """What each code of each book adds to the latent of its place, less the mean
        of the book: codes that mean nearly the same are near.

        Raises ValueError where codes are none, or not one place's each (of several
        scales).
        """
        contract = self.contract
        if contract.code_grid != contract.grid or not contract.codes:
            raise ValueError("codewords are of codes that are each of one latent")
        count, books = self.stream("codes")["vocab"], len(contract.codes)
        codes = np.zeros((books, count, *(1,) * len(contract.grid), books), np.int32)
        for book in range(books):
            codes[book, ..., book] = np.arange(count).reshape(codes.shape[1:-1])
        each = jnp.asarray(codes.reshape(-1, *codes.shape[2:]))
        z = self.module.apply(self.variables, each, method="decode_codes")
        z = np.asarray(z, np.float32).reshape(books, count, -1)
        return z - z.mean(1, keepdims=True)

    @in_32_bits
    def encode(self, x: Float[AnyArray, "b *shape c"]) -> Quantized:
        """x in [-1, 1] -> quantized latents (b, *grid, d) and codes (b, *grid, m)."""
        return _run("quantized", self, inputs.signal(self.module, self.contract, x))

    @in_32_bits
    def latents(self, x: Float[AnyArray, "b *shape c"]) -> Float[Array, "b *grid d"]:
        """What a continuous stream models: (z - mean) / std, z before quantization."""
        return _run("latents", self, inputs.signal(self.module, self.contract, x))

    @in_32_bits
    def decode(self, q: Shaped[AnyArray, "b *grid d"]) -> Float[Array, "b *shape c"]:
        """Codes (integers) or quantized latents (floats) -> the signal."""
        return _run("decode", self, inputs.tokens(self.contract, q))

    def encode_tiles(
        self,
        x: Float[AnyArray, "b *size c"],
        overlap: int,
        *,
        around: int | None = None,
        batch: int = 32,
    ) -> Quantized:
        """Signals of any size as tiles of the contract's: (b, tiles, *grid, d) and m.

        NumPy arrays, `batch` tiles computed at once. overlap: samples that neighbours
        share along every axis, which hide the seams. around: the axis that is a circle.
        """
        x = inputs.values(self.contract, x)
        tiling = self._tiling(x.shape[1:-1], overlap, around)
        inputs.count("batch", batch)
        found = []
        for signal in np.asarray(x):
            for start in range(0, len(tiling), batch):
                tiles = tiling.cut(signal, start, start + batch)
                found.append(by_chunks(self._coded, tiles, batch))
        whole = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
        rows = lambda v: v.reshape(len(x), len(tiling), *v.shape[1:])
        latents, codes = jax.tree.map(rows, whole)
        return Quantized(latents, codes, {}, {})

    def _coded(self, x):
        quantized = _run("quantized", self, x)
        return quantized.latents, quantized.codes

    def decode_tiles(
        self,
        q: Shaped[AnyArray, "b tiles *grid d"],
        size: tuple[int, ...],
        overlap: int,
        *,
        batch: int = 32,
    ) -> Float[np.ndarray, "b *size c"]:
        """`decode` for `encode_tiles`: overlaps are blended, and no seam is left.

        Raises ValueError for other tiles than a signal of this size has.
        """
        tiling = self._tiling(size, overlap)
        inputs.count("batch", batch)
        q = inputs.array(q)
        if q.ndim < 3 or q.shape[1] != len(tiling):
            raise ValueError(
                f"{size} with overlap={overlap} has {len(tiling)} tiles; got {q.shape}"
            )
        q = np.asarray(q)
        inputs.tokens(self.contract, q.reshape(-1, *q.shape[2:]))

        def tiles(rows):
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                yield from by_chunks(lambda q: _run("decode", self, q), part, batch)

        return np.stack(
            [tiling.join(tiles(rows), self.contract.shape[-1]) for rows in q]
        )

    def _tiling(self, size, overlap, around=None):
        return Tiling(tuple(size), self.contract.shape[:-1], overlap, around)

    def encode_long(self, x: Float[AnyArray, "b l *rest"], chunk: int) -> Quantized:
        """`encode` of audio or video of any length, `chunk` samples or frames a time.

        NumPy arrays, equal to `encode` of the whole to rounding. A length that does not
        fit is padded at the end, audio by zeros, video by its last frame. Raises
        ValueError for a tokenizer whose latents depend on the whole signal.
        """
        x = inputs.values(self.contract, x)
        return encode_chunks(self.module, self.variables, x, chunk)

    def decode_long(
        self,
        q: Shaped[AnyArray, "b n *rest"],
        chunk: int,
        length: int | None = None,
    ) -> Float[np.ndarray, "b l *rest2"]:
        """`decode` for `encode_long`: to a NumPy array, cropped to `length`."""
        q = inputs.tokens(self.contract, q)
        x = decode_chunks(self.module, self.variables, q, chunk, length)
        return _clipped(self.contract, x)

    @in_32_bits
    def decode_latents(self, z: Float[AnyArray, "b *grid d"]) -> Array:
        """The inverse of `latents`: restores the scale and quantizes before decoding.

        As in latent diffusion (arXiv:2112.10752) the quantizer belongs to the decoder,
        so what is decoded always lies on the codebook.
        """
        return _run("decode_latents", self, inputs.latents(self.contract, z))

    @in_32_bits
    def known_latents(self, known: Shaped[AnyArray, "b *shape c"]) -> AnyArray:
        """What is known of a signal, as its latents, bool (b, *grid).

        A latent is where anything is of the block that it stands for. Of a tokenizer
        whose latents stand for no blocks, or whose codes for no latents, (b,): where
        anything is.
        """
        known = inputs.mask(known, (*self.contract.shape[:-1], "c"))
        there: Any = (known > 0).any(-1)
        borders, patches = self._blocks(there.shape[1:])
        if patches is None:
            return there.any(tuple(range(1, there.ndim)))
        return fold(there[..., None], patches, borders).any(-1)

    @in_32_bits
    def known_signal(self, known: Shaped[AnyArray, "b *grid"]) -> AnyArray | None:
        """The blocks of a signal that these latents stand for, bool (b, *sides); None
        where `known_latents` knows none."""
        borders, patches = self._blocks(self.contract.shape[:-1])
        if patches is None:
            return None
        known = inputs.mask(known, self.contract.grid)
        each = (known > 0)[..., None].repeat(math.prod(patches), -1)
        return unfold(each, patches, borders)[..., 0]

    def _blocks(self, sides):
        """(borders, sites that a latent and its codes stand for), an axis each."""
        contract, encoder = self.contract, self.module.encoder
        # Of circles and zeros a block is the same, and some do not tell their axes.
        borders = getattr(encoder, "borders", ()) if encoder.causal else ()
        placed = getattr(encoder, "placed", True)
        if not placed or contract.code_grid != contract.grid:
            return borders, None
        trained = tuple(sides) == contract.shape[:-1]
        grid = contract.grid if trained else self.module.grid(tuple(sides))
        return borders, blocks_of(sides, grid, borders)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of what `extractor` gives, in their order."""
        return CodecExtractor(self, ()).outer

    def extractor(
        self, layers: str | Sequence[str] = "latents", pool: str = "mean"
    ) -> CodecExtractor:
        """Features of signals, jitted; raises ValueError for a layer that is none."""
        return CodecExtractor(self, inputs.names("layers", layers), pool)

    @in_32_bits
    def apply(self, name: str, variables: dict, x: Array):
        """One of `PURE` on given variables, for use inside a jit."""
        return PURE[name](dataclasses.replace(self, variables=variables), x)


def _clipped(contract, x):
    """To [-1, 1]; a signal in units of its spread has no bounds to keep to."""
    return x if contract.scale else x.clip(-1, 1)


def _float32(*values):
    return [np.asarray(each, np.float32) for each in values]


def _quantized(codec, x):
    both = lambda m, x: m.quantize(m.encode(x))
    return codec.module.apply(codec.variables, x, method=both)


def _latents(codec, x):
    mean, std = _float32(codec.contract.mean, codec.contract.std)
    return (codec.module.apply(codec.variables, x, method="latents") - mean) / std


def _decoded(codec, q):
    x = codec.module.apply(codec.variables, q, method="decode")
    return _clipped(codec.contract, x)


def _decoded_latents(codec, z):
    mean, std = _float32(codec.contract.mean, codec.contract.std)
    q = z * std + mean
    if codec.module.quantizer is not None:
        q = codec.module.apply(codec.variables, q, method="quantize").latents
    return _decoded(codec, q)


# What a codec does, of itself and arrays.
PURE = {
    "quantized": _quantized,
    "latents": _latents,
    "codes": lambda codec, x: _quantized(codec, x).codes,
    "decode": _decoded,
    "decode_codes": _decoded,
    "decode_latents": _decoded_latents,
}


@functools.partial(jax.jit, static_argnums=0)
def _run(name, codec, x):
    return PURE[name](codec, x)
