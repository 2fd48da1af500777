"""Long audio and video through a tokenizer in pieces, as if in one.

Every piece is run with as many of its neighbours as its outputs see, the `context` that
encoder and decoder compute from their layers, and what the cut has touched is dropped.
Padding the pieces instead would not do: a network pads its activations, layer by layer,
only at the signal's true ends. So all pieces have one length, those at the ends too,
which lie further in and are cropped on one side: one program is compiled for all.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from vqdit.quantizers import Quantized
from vqdit.tokenizer.tokenizer import Tokenizer


def encode_chunks(
    tokenizer: Tokenizer,
    variables: dict,
    x: Float[Array | np.ndarray, "b l *rest"],
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
    run = _programs(tokenizer)[0]
    latents, codes = [], []
    count = time.latents(x.shape[1])
    reach = -(-before // time.factor), -(-after // time.factor)
    for piece in _pieces(count, time.latents(chunk), *reach):
        start = piece.start * time.factor
        part = _take(x, start, start + time.length(piece.size), time.alone)
        quantized = run(variables, part)
        keep = slice(piece.first - piece.start, piece.last - piece.start)
        latents.append(np.asarray(quantized.latents)[:, keep])
        if quantized.codes is not None:
            codes.append(np.asarray(quantized.codes)[:, keep])
    codes = np.concatenate(codes, axis=1) if codes else None
    return Quantized(np.concatenate(latents, axis=1), codes, {}, {})


def decode_chunks(
    tokenizer: Tokenizer,
    variables: dict,
    q: Shaped[Array | np.ndarray, "b n *rest"],
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
    run = _programs(tokenizer)[1]
    signal = []
    for piece in _pieces(q.shape[1], time.latents(chunk), before, after):
        part = np.asarray(q[:, piece.start : piece.start + piece.size])
        y = np.asarray(run(variables, part))
        start = piece.start * time.factor
        first, last = time.length(piece.first), time.length(piece.last)
        signal.append(y[:, first - start : last - start])
    return np.concatenate(signal, axis=1)[:, :length]


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
    if chunk < 1 or count < 1:
        raise ValueError(f"{count} latents in chunks of {chunk}: write at least 1 each")
    size = min(before + chunk + after, count)
    last = 0
    while last < count:
        first = last
        start = min(max(first - before, 0), count - size)
        last = count if start + size == count else start + size - after
        yield _Piece(start, size, first, last)


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
    encode = lambda m, x: m.quantize(m.encode(x))
    return (
        jax.jit(functools.partial(tokenizer.apply, method=encode)),
        jax.jit(functools.partial(tokenizer.apply, method="decode")),
    )
