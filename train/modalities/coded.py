"""Files of any size, through a tokenizer of one size."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from train.errors import BadInput
from train.modalities.files.stored import File
from train.modalities.record import Record


class Coded:
    """What a modality does with a file that is coded, decoded and written again; its
    other fields and methods are those of `Modality`."""

    suffixes: ClassVar[tuple[str, ...]]
    sides: ClassVar[tuple[str, ...]]

    # What a kind without such a field has; of `rate`, samples a second, 0 for none.
    rate: Any = 0.0
    normalise: Any = None
    augment: Any = None

    def read(self, path: File) -> Record:
        """A file as it is stored; Unreadable, or BadInput, says why not."""
        raise NotImplementedError

    @classmethod
    def of(cls, channels: int, rate: float = 0.0, **preparation: Any) -> Self:
        """The modality of a tokenizer's bundle: files are prepared as in its training.

        channels, rate: that the tokenizer takes. preparation: of the names in `takes`.
        """
        made: Any = cls  # a Modality, which has a name
        return made(name="folder", **preparation)

    def sized(self, shape: tuple[int, ...], rate: float) -> Self:
        """With examples of this shape and rate, if it has one."""
        fields: dict[str, Any] = dict(zip(self.sides, shape, strict=False))
        own: Any = self  # a Modality, which is a dataclass
        if rate and "rate" in {field.name for field in dataclasses.fields(own)}:
            fields["rate"] = type(self.rate)(rate)
        return dataclasses.replace(own, **fields)

    def at_peak(self, peak: float) -> Self:
        """With recordings brought to another level than in training; 0 leaves them."""
        raise BadInput(f"--peak={peak:g}: of sounds, write a level; leave it out")

    def write(self, record: Record) -> bytes | dict[str, bytes]:
        """The inverse of `read`, in the format of record.suffix: a file, or a folder's
        files."""
        raise NotImplementedError

    def new(self, values: np.ndarray, rate: float, names: Sequence[str] = ()) -> Record:
        """A record, for `write`, of a signal that was drawn and is of no file. names:
        of its channels, where they are known."""
        return Record(values, rate, suffix=self.suffixes[0])

    def reread(self, path: Path, record: Record) -> np.ndarray:
        """Values of the file that `write` made of the record, as many as it has."""
        return self.read(path).values

    def dropped(self, path: Path, record: Record) -> Iterable[str]:
        """In words, what a file holds, and one that is coded and decoded does not, for
        another reason than its tokenizer. record: what was read of it."""
        return ()

    def planes(self, values: np.ndarray, channels: int) -> np.ndarray:
        """(p, *axes, channels): what a tokenizer of as many channels is given."""
        if values.shape[-1] != channels:
            raise BadInput(
                f"it has {values.shape[-1]} channels, and the bundle takes {channels}"
            )
        return values[None]

    def count(self, channels: int, taken: int) -> int:
        """How many planes a signal of `channels` is to a tokenizer of `taken`."""
        return 1

    def merge(self, planes: np.ndarray, channels: int) -> np.ndarray:
        """The inverse of `planes`, of a signal that had, or is to have, `channels`."""
        return planes[0]

    def resample(self, values: np.ndarray, rate: float, to: float) -> np.ndarray:
        """The same signal at another rate along its first axis."""
        raise BadInput(f"it has a rate of {rate:g}, the bundle {to:g}")

    def regrid(self, record: Record, to: float) -> Record:
        """The signal at another rate, as training brings files to its own."""
        values = self.resample(record.values, record.rate, to)
        return dataclasses.replace(record, values=values, rate=to)

    def regridded(self, values: np.ndarray, rate: float, record: Record) -> np.ndarray:
        """The inverse of `regrid` for values at `rate`: as many as the record has, at
        its times."""
        values = self.resample(values, rate, record.rate)
        return values[np.minimum(np.arange(len(record.values)), len(values) - 1)]

    def prepare(self, record: Record) -> Record:
        """The signal, at its rate in training, as files were prepared there."""
        return record

    def restore(self, values: np.ndarray, extra: bytes) -> np.ndarray:
        """The inverse of `prepare` as far as there is one, by its record's extra."""
        return values

    def measure(self, original: np.ndarray, decoded: np.ndarray) -> float:
        """How near the decoded values are, in dB: PSNR over all channels, each in units
        of its own range, which is its peak.

        A channel that never changes has none and does not count; nan where all are so
        and something differs.
        """
        axes = tuple(range(original.ndim - 1))
        error = np.square(original.astype(np.float64) - decoded).mean(axes)
        low, high = (of(original, axes).astype(np.float64) for of in (np.min, np.max))
        varies = high > low
        if not varies.any():
            return np.nan if error.any() else np.inf
        with np.errstate(divide="ignore"):
            share = error[varies] / np.square(high - low)[varies]
            return float(-10 * np.log10(share.mean()))

    def units(self, values: np.ndarray, rate: float) -> float:
        """What bits are divided by to be in `unit`."""
        return values.size
