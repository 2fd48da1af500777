"""Long audio and video through a tokenizer in pieces, as if in one.

Every piece is run with as many of its neighbours as its outputs see, the `context` that
encoder and decoder compute from their layers, and what the cut has touched is dropped.
Padding the pieces instead would not do: a network pads its activations, layer by layer,
only at the signal's true ends. So all pieces have one length, those at the ends too,
which lie further in and are cropped on one side: one program is compiled for all.
"""

import functools
import numbers
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from vqdit.quantizers import Quantized
from vqdit.shapes import AnyArray, Float, Shaped
from vqdit.tokenizer.tokenizer import Tokenizer


def encode_chunks(
    tokenizer: Tokenizer,
    variables: dict,
    x: Float[AnyArray, "b l *rest"],
    chunk: int,
) -> Quantized:
    """(b, l, c) or (b, f, h, w, c) of any length -> latents and codes, as NumPy arrays.

    Equal to `quantize(encode(x))` to rounding, in memory of `chunk` samples or frames
    and their context. A length that does not fit is padded at the end: audio by zeros,
    video by its last frame; `decode_chunks(..., length=l)` crops it. Raises ValueError
    for a tokenizer whose outputs depend on the whole signal.
    """
    time = _time_of(tokenizer)
    before, after = _context(tokenizer.encoder)
    reach = -(-before // time.factor), -(-after // time.factor)
    pieces = _pieces(time.latents(x.shape[1]), time.latents(chunk), *reach)
    encode, _ = _programs(tokenizer)

    def run(piece):
        start = piece.start * time.factor
        part = _take(x, start, start + time.length(piece.size), time.alone)
        return encode(variables, part)

    latents, codes = _joined(pieces, run, lambda n, piece: n - piece.start)
    return Quantized(latents, codes, {}, {})


def decode_chunks(
    tokenizer: Tokenizer,
    variables: dict,
    q: Shaped[AnyArray, "b n *rest"],
    chunk: int,
    length: int | None = None,
) -> Float[np.ndarray, "b l *rest2"]:
    """Codes (integers) or quantized latents (floats) -> signal, as a NumPy array.

    Equal to `decode(q)` to rounding, in memory of `chunk` samples or frames and their
    context; cropped to `length`.
    """
    time = _time_of(tokenizer)
    before, after = _context(tokenizer.decoder)
    # Alone, a piece's first latent gives one frame: it must be one that is dropped.
    before = max(before, int(time.alone))
    pieces = _pieces(q.shape[1], time.latents(chunk), before, after)
    _, decode = _programs(tokenizer)

    def run(piece):
        part = np.asarray(q[:, piece.start : piece.start + piece.size])
        return decode(variables, part)

    place = lambda n, piece: time.length(n) - piece.start * time.factor
    return _joined(pieces, run, place)[:, :length]


class _Time(NamedTuple):
    """How latents lie on the signal's first axis.

    alone: the first latent stands for a single frame.
    """

    factor: int
    alone: bool

    def length(self, latents):
        return max(latents * self.factor - (self.factor - 1) * self.alone, 0)

    def latents(self, length):
        """As many as cover the length."""
        return -(-(length + (self.factor - 1) * self.alone) // self.factor)


def _time_of(tokenizer):
    if tokenizer.front is not None:
        raise ValueError(
            f"a tokenizer behind {type(tokenizer.front).__name__} cannot work in chunks"
            f"; cut the signal where it is silent, and encode each part"
        )
    if hasattr(tokenizer.quantizer, "code_grid"):
        raise ValueError(
            f"{type(tokenizer.quantizer).__name__} has codes of the whole signal, not "
            f"one for each latent; it cannot work in chunks"
        )
    alone = getattr(tokenizer.encoder, "borders", ("",))[0] == "past"
    return _Time(tokenizer.factor[0], alone)


def _context(part):
    if part.context is None:
        raise ValueError(
            f"{type(part).__name__} cannot work in chunks: through its norms or its "
            f"attention an output depends on all of the signal; use WaveEncoder and "
            f"WaveDecoder, or CausalEncoder and CausalDecoder"
        )
    return part.context


class _Piece(NamedTuple):
    """Latents start .. start + size are run, and first .. last kept, ends excluded."""

    start: int
    size: int
    first: int
    last: int


def _pieces(count: int, chunk: int, before: int, after: int) -> Iterator[_Piece]:
    """Pieces of one size that cover `count` latents."""
    if not isinstance(chunk, numbers.Integral) or chunk < 1 or count < 1:
        raise ValueError(f"{count} latents in chunks of {chunk}: write at least 1 each")
    size = min(before + chunk + after, count)
    last = 0
    while last < count:
        first = last
        start = min(max(first - before, 0), count - size)
        last = count if start + size == count else start + size - after
        yield _Piece(start, size, first, last)


def _joined(pieces, run, place):
    """What run(piece) gives, one after another, without what the cuts have touched.

    place(n, piece): where among these latent n begins.
    """
    parts = []
    for piece in pieces:
        keep = slice(place(piece.first, piece), place(piece.last, piece))
        parts.append(jax.tree.map(lambda v, k=keep: np.asarray(v)[:, k], run(piece)))
    return jax.tree.map(lambda *found: np.concatenate(found, axis=1), *parts)


def _take(x, start, stop, repeat):
    part = np.asarray(x[:, start:stop])
    missing = stop - start - part.shape[1]
    if missing:
        widths = [(0, 0)] * part.ndim
        widths[1] = (0, missing)
        part = np.pad(part, widths, mode="edge" if repeat else "constant")
    return part


@functools.lru_cache(maxsize=16)
def _programs(tokenizer):
    def encode(m, x):
        quantized = m.quantize(m.encode(x))
        return quantized.latents, quantized.codes

    return (
        jax.jit(functools.partial(tokenizer.apply, method=encode)),
        jax.jit(functools.partial(tokenizer.apply, method="decode")),
    )
