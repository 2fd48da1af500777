"""Range images: sweeps of a turning lidar."""

import dataclasses
import zlib
from typing import ClassVar, Literal

import numpy as np

from train.errors import Unreadable
from train.modalities.augment import RangeAugment
from train.modalities.files import as_stored, check_finite, one_array, with_channels
from train.modalities.modality import EightOrMore, Modality, Record
from train.modalities.normalise import Scaling
from vqdit.fields import Count, NonNegative, Positive

Name = Literal["scenes", "folder"]


@dataclasses.dataclass(frozen=True)
class Ranges(Modality):
    """Sweeps, float32 (rows, azimuth, channels), in about [-1, 1].

    name:      "scenes" (a street of boxes and walls, rays cast), or "folder" of .npy
               and .npz files (array "range", or the only one): (rows, azimuth) or
               (rows, azimuth, channels), range in metres first. Azimuth wraps around.
    far:       metres that stand where a beam did not return: NaN, 0 or less in the
               first channel. Other channels are 0 there, and the mask is 0 in all.
               None: every value is finite, and stays as it is.
    normalise: see train.modalities.normalise; fitted on what returned in training.
    examples, noise, seed: of scenes: `examples` to train on, an eighth to test on.
    """

    kind: ClassVar[str] = "range"
    measures: ClassVar[str] = "sweeps"
    masked: ClassVar[bool] = True
    wide: ClassVar[bool] = True
    around: ClassVar[int | None] = 1
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz")
    takes: ClassVar[tuple[str, ...]] = ("far",)

    name: Name = "scenes"
    rows: Count = 32
    azimuth: Count = 256
    channels: Count = 1
    far: Positive | None = 80.0
    normalise: Scaling = "range"
    examples: EightOrMore = 512
    noise: NonNegative = 0.02
    seed: int = 0
    augment: RangeAugment | None = None

    def __post_init__(self):
        super().__post_init__()
        alone = self.name != "scenes" or self.channels == 1
        self.check("channels", alone, "scenes have 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.rows, self.azimuth, self.channels)

    @property
    def preparation(self) -> tuple[tuple[str, float], ...]:
        return () if self.far is None else (("far", self.far),)

    def read(self, path):
        values, extra = with_channels(one_array(path, "range"), 2)
        return Record(values, suffix=".npy", extra=extra)

    def write(self, record):
        return as_stored(record.values, record.extra)

    def adapt(self, record):
        if record.values.shape != self.shape:
            raise Unreadable(
                f"is {list(record.values.shape)}, where data.rows, azimuth and "
                f"channels ask for {list(self.shape)}"
            )
        if self.far is None:
            check_finite(record.values)
        values, hit = split_sweep(record.values, self.far)
        if not hit.any():
            raise Unreadable("no beam returned")
        return dataclasses.replace(record, values=values, known=hit)

    @classmethod
    def of(cls, channels, rate=0.0, **preparation):
        # A bundle that does not say knew no beams that did not return.
        return super().of(channels, rate, **{"far": None} | preparation)

    def prepare(self, record):
        """`far` stands for beams that did not return. Which these were is stored
        losslessly; they come back with the first one's value."""
        if self.far is None:
            check_finite(record.values)
            return record
        values, hit = split_sweep(record.values, self.far)
        lost = ~hit[..., 0]
        extra = record.extra
        if lost.any():
            extra += record.values[lost][0].astype("<f4").tobytes()
            extra += zlib.compress(np.packbits(lost).tobytes(), 9)
        return dataclasses.replace(record, values=values, extra=extra)

    def restore(self, values, extra):
        if len(extra) == 1:
            return values
        size = 1 + 4 * values.shape[-1]
        bits = np.frombuffer(zlib.decompress(extra[size:]), np.uint8)
        beams = values.shape[:-1]
        lost = np.unpackbits(bits, count=beams[0] * beams[1]).reshape(beams) > 0
        beam = np.frombuffer(extra[1:size], "<f4")
        return np.where(lost[..., None], beam, values)

    def measure(self, original, decoded):
        hit = split_sweep(original, 1.0)[1][..., 0]
        return super().measure(original[hit], decoded[hit]) if hit.any() else np.nan


def split_sweep(sweep: np.ndarray, far: float | None) -> tuple[np.ndarray, np.ndarray]:
    """(values without holes, bool which are measured), of one shape."""
    if far is None:
        return sweep.astype(np.float32), np.ones(sweep.shape, bool)
    with np.errstate(invalid="ignore"):
        hit = np.isfinite(sweep).all(-1, keepdims=True) & (sweep[..., :1] > 0)
    rest = np.zeros(sweep.shape[-1], np.float32)
    rest[0] = far
    x = np.where(hit, sweep, rest).astype(np.float32)
    return x, np.broadcast_to(hit, sweep.shape)
