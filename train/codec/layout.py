"""How a signal of any size passes through a tokenizer of one size: in tiles, or whole.

Both give codes (parts, places, m) and take them back. A tokenizer of waveforms whose
outputs see a bounded stretch is run over the whole signal in pieces, equal to one pass
over it, without seams and with no more codes than its length asks for. All others work
on tiles of the contract's shape.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.codec.container import Header
from train.codec.prefixes import Prefixes, prefixes
from train.codec.prior import Prior
from train.modalities.modality import Modality
from train.modalities.record import Record
from vqdit.signal import to_uint8
from vqdit.signal.tiles import Tiling
from vqdit.trained.codec import Codec

# Tiles that run through the tokenizer at once, and values of them.
BATCH, VALUES = 32, 2**21
MOST_PLANES = 2**16  # that a signal of several channels is coded as
# Two rates are one where they differ by less than this share.
SAME_RATE = 1e-3


class InTiles:
    """Each plane as `count` tiles of the contract's shape."""

    def __init__(
        self,
        codec: Codec,
        shape: Sequence[int],
        overlap: int,
        batch: int,
        around: int | None = None,
    ):
        self.codec, self.batch = codec, batch
        self.size, self.overlap, self.around = tuple(shape[:-1]), overlap, around
        self.count = len(Tiling(self.size, codec.contract.shape[:-1], overlap))
        self.places = int(np.prod(codec.contract.code_grid))

    def encode(self, planes: np.ndarray) -> np.ndarray:
        """Raw planes (p, *axes, c) -> codes (p * count, places, m)."""
        x = (self.codec.from_raw(plane[None]) for plane in planes)
        how: dict[str, Any] = {"around": self.around, "batch": self.batch}
        codes = [self.codec.encode_tiles(one, self.overlap, **how).codes for one in x]
        return np.concatenate(codes).reshape(len(planes) * self.count, self.places, -1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes -> raw planes, float32."""
        contract = self.codec.contract
        # The first scales of a multi-scale tokenizer have fewer places, in a row.
        grid = contract.code_grid if codes.shape[1] == self.places else (-1,)
        planes = len(codes) // self.count
        codes = codes.reshape(planes, self.count, *grid, codes.shape[-1])
        x = self.codec.decode_tiles(codes, self.size, self.overlap, batch=self.batch)
        return np.asarray(self.codec.to_raw(x))


class Whole:
    """Each plane in one, at one code for every `factor` samples, rounded up. Computed
    on a few more, so that not every length is compiled for."""

    count = 1

    def __init__(self, codec: Codec, shape: Sequence[int]):
        self.codec, self.length = codec, shape[0]
        (self.factor,) = codec.module.factor
        self.chunk = codec.contract.shape[0]
        self.places = -(-self.length // self.factor)
        step = max(1, self.chunk // (4 * self.factor))
        self.computed = -(-self.places // step) * step

    def encode(self, planes: np.ndarray) -> np.ndarray:
        """Raw planes (p, l, c) -> codes (p, places, m)."""
        x = np.asarray(self.codec.from_raw(planes))
        x = np.pad(x, ((0, 0), (0, self.computed * self.factor - self.length), (0, 0)))
        return self.codec.encode_long(x, self.chunk).codes[:, : self.places]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes -> raw planes, float32."""
        extra = self.computed - self.places
        codes = np.pad(codes, ((0, 0), (0, extra), (0, 0)), mode="edge")
        x = self.codec.decode_long(codes, self.chunk, self.length)
        return np.asarray(self.codec.to_raw(x))


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A tokenizer's bundle as the codec uses it; `batch` tiles are coded at once."""

    codec: Codec
    prior: Prior | None
    data: Modality
    batch: int = BATCH

    @property
    def contract(self):
        return self.codec.contract

    @property
    def prefixes(self) -> Prefixes:
        """Which first parts of its codes decode."""
        return prefixes(self.codec)

    @property
    def whole(self) -> bool:
        """Whether signals go through in one."""
        module = self.codec.module
        if len(self.contract.shape) != 2 or module.front is not None:
            return False
        if self.contract.code_grid != self.contract.grid:
            return False  # a code is of the whole example, not of a stretch of it
        return None not in (module.encoder.context, module.decoder.context)

    def batched(self, most: int) -> "Opened":
        """For signals of up to `most` tiles: one compilation, no larger than needed."""
        bound = min(BATCH, max(1, VALUES // int(np.prod(self.contract.shape))))
        batch = min(bound, 1 << (most - 1).bit_length())
        return dataclasses.replace(self, batch=batch)

    def resampled(self, rate: float) -> bool:
        """Whether a signal of this rate has to change it."""
        own = self.contract.rate
        return bool(own and rate) and abs(rate - own) > SAME_RATE * own

    def layout(self, shape: Sequence[int], overlap: int, whole: bool):
        """Of a signal (*axes, c); ValueError where it does not fit the bundle."""
        if len(shape) != len(self.contract.shape) or whole and not self.whole:
            raise ValueError(f"a signal of {tuple(shape)} is not the bundle's kind")
        if whole:
            return Whole(self.codec, shape)
        return InTiles(self.codec, shape, overlap, self.batch, self.data.around)

    def check_channels(self, channels: int) -> None:
        """Raises ValueError where no signal of as many comes out of the tokenizer."""
        taken = self.contract.shape[-1]
        count = self.data.count(channels, taken)
        if count <= MOST_PLANES:
            one = np.zeros((count, *(1 for _ in self.contract.shape[:-1]), taken))
            if self.data.merge(one, channels).shape[-1] == channels:
                return
        raise ValueError(f"{channels} channels are not the bundle's")

    def layout_of(self, header: Header):
        """That of a file."""
        return self.layout(header.coded_shape, header.overlap, header.whole)

    def _check_rate(self, header: Header) -> None:
        """Raises ValueError unless the length as coded is that at the bundle's rate."""
        own, rate = self.contract.rate, header.rate
        low, high = sorted((header.length * rate, header.shape[0] * own))
        if high > 2 * low + 4 * max(own, rate):
            raise ValueError(
                f"{header.shape[0]} samples at {rate:g} a second are not "
                f"{header.length} at {own:g}"
            )

    def rebuild(self, header: Header, codes: np.ndarray) -> np.ndarray:
        """The values that a file's codes stand for, at its own size and rate, with what
        was done to prepare them undone."""
        planes = self.layout_of(header).decode(codes)
        if self.data.pixels:
            planes = np.asarray(to_uint8(planes))
        values = self.data.merge(planes, header.shape[-1])
        if header.length:
            self._check_rate(header)
            blank = np.broadcast_to(np.uint8(0), header.shape)
            own = Record(blank, header.rate, extra=header.extra)
            values = self.data.regridded(values, self.contract.rate, own)
        return self.data.restore(values, header.extra)
