"""Range images: sweeps of a turning lidar."""

import dataclasses
import math
import zlib
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from train.errors import Unreadable
from train.modalities.files.arrays import (
    as_stored,
    check_finite,
    one_array,
    with_channels,
)
from train.modalities.files.stored import percent, stored
from train.modalities.modality import EightOrMore, Modality
from train.modalities.record import Record
from train.modalities.shown import Axis
from train.modalities.transforms.augment import RangeAugment
from train.modalities.transforms.normalise import Scaling
from vqdit.fields import Count, NonNegative, Positive, Seed
from vqdit.shapes import Float

INCOMPLETE = (
    "beams have a distance, and another value that is not finite; they are taken for "
    "such as did not return"
)
UNSAID = {"far": None, "elevation": ()}  # in a bundle
StreetName = Literal["scenes", "driving", "driving_faults"]
RangeName = Literal[StreetName, "folder", "webdataset"]
STREETS = get_args(StreetName)


@dataclasses.dataclass(frozen=True)
class Ranges(Modality):
    """Sweeps, float32 (rows, azimuth, channels), in about [-1, 1].

    name:      "scenes" (a street of boxes and walls, rays cast), "driving" and
               "driving_faults" (another, which a camera sees, too), or "folder" of .npy
               and .npz files (array "range", or the only one): (rows, azimuth) or
               (rows, azimuth, channels), range in metres first, and of KITTI's sweeps
               of points (.bin), which `projected` makes so, with their reflectance
               as a second channel. Azimuth wraps around.
    rows, azimuth: beams of a sweep, from the top down, and directions around.
    channels:  values of a place: 1 for the range alone.
    elevation: degrees of the lower edge of the lowest row and of the upper edge of the
               highest, of sweeps of points; points beyond are left out.
    far:       metres that stand where a beam did not return: 0 or less in the first
               channel, or a value in any that is not finite. Other channels are 0
               there, and the mask is 0 in all. None: every value is finite, and stays
               as it is.
    normalise: see train.modalities.transforms.normalise; fitted on what returned in
               training.
    examples, noise, seed: of streets: `examples` to train on, an eighth to test on.
    """

    kind: ClassVar[str] = "range"
    sides: ClassVar[tuple[str, ...]] = ("rows", "azimuth", "channels")
    made: ClassVar[tuple[str, ...]] = ("examples", "noise", "seed")
    measures: ClassVar[str] = "sweeps"
    masked: ClassVar[bool] = True
    wide: ClassVar[bool] = True
    around: ClassVar[int | None] = 1
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz", ".bin")
    takes: ClassVar[tuple[str, ...]] = ("far", "rows", "azimuth", "elevation")

    name: RangeName = "scenes"
    rows: Count = 32
    azimuth: Count = 256
    channels: Count = 1
    elevation: tuple[float, ...] = (-25.0, 3.0)
    far: Positive | None = 80.0
    normalise: Scaling = "range"
    examples: EightOrMore = 512
    noise: NonNegative = 0.02
    seed: Seed = 0
    augment: RangeAugment | None = None

    def __post_init__(self):
        super().__post_init__()
        ends = self.name != "scenes" or self.far is not None
        self.check("far", ends, "write the metres at which a street ends")
        alone = self.name not in STREETS or self.channels == 1
        self.check("channels", alone, f"{self.name} has 1")
        up = self.elevation
        rises = not up or len(up) == 2 and -90 <= up[0] < up[1] <= 90
        self.check("elevation", rises, "write (low, high) in degrees")
        beams = up or not self.name.startswith("driving")
        self.check("elevation", beams, "beams need it; write (low, high) in degrees")

    @property
    def preparation(self) -> tuple[tuple[str, Any], ...]:
        far = () if self.far is None else (("far", self.far),)
        names = ("rows", "azimuth", "elevation")
        return (*far, *((name, getattr(self, name)) for name in names))

    def read(self, path):
        if path.suffix.lower() == ".bin":
            return self._sweep(stored(path))
        values, extra = with_channels(one_array(path, "range")[0], 2)
        return Record(values, suffix=".npy", extra=extra)

    def _sweep(self, content):
        """A range image of points (x, y, z, reflectance), with the shares of these that
        lie beyond its rows, and that are hidden behind others of their cell."""
        if not content or len(content) % 16:
            raise Unreadable(f"is {len(content)} bytes, and no points of four float32")
        if not self.elevation:
            raise Unreadable("is a sweep, and the bundle does not say of which rows")
        if self.channels > 2:
            raise Unreadable(
                "has a range and a reflectance; write data.channels=1 or 2"
            )
        points = np.frombuffer(content, "<f4").reshape(-1, 4)
        image, beyond = projected(points, self.rows, self.azimuth, self.elevation)
        hidden = len(points) - beyond - np.count_nonzero(image[..., 0])
        values, extra = with_channels(image[..., : self.channels], 2)
        more = {"beyond": beyond / len(points), "hidden": hidden / len(points)}
        return Record(values, more=more, suffix=".npy", extra=extra)

    def findings(self, records):
        """Shares of the points of sweeps that no image shows; of the beams of files
        those that did not return, and those that did, without all of their values."""
        shares = {}
        for name in ("beyond", "hidden", "not_returned", "incomplete"):
            found = [each.more[name] for each in records if name in each.more]
            if found:
                shares[f"{name}_share"] = [float(np.mean(found))]
        return shares

    def changes(self, findings):
        for name, what in (
            ("beyond", "points lie beyond data.elevation, and are left out"),
            ("hidden", "points are behind another one in their cell, and are left out"),
            ("not_returned", f"beams did not return, and are {self.far or 0:g} m"),
            ("incomplete", INCOMPLETE),
        ):
            (share,) = findings.get(f"{name}_share", [0])
            if share and (name != "not_returned" or self.name not in STREETS):
                yield f"{percent(share)} of the {what}"

    def dropped(self, path, record):
        if path.suffix.lower() == ".bin":
            yield "its list of points; it comes back as an image of ranges"
            yield from self.changes(self.findings([record]))
        _, hit = split_sweep(record.values, self.far)
        share = lost_beams(record.values, hit)["incomplete"]
        yield from self.changes({"incomplete_share": [share]})

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
        more = record.more | lost_beams(record.values, hit)
        return dataclasses.replace(record, values=values, known=hit, more=more)

    @classmethod
    def of(cls, channels, rate=0.0, **preparation):
        # A bundle that does not say knew no beams that did not return, and no sweeps.
        return cls(name="folder", channels=channels, **UNSAID | preparation)

    @classmethod
    def axes(cls, x, units):
        return Axis(0, 360, "°"), None, units.greys("m")

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


def projected(
    points: Float[np.ndarray, "n 4"],
    rows: int,
    azimuth: int,
    elevation: tuple[float, float],
) -> tuple[Float[np.ndarray, "rows azimuth 2"], int]:
    """(range in metres and reflectance, 0 where there is no point; how many of the
    points lie beyond the rows or at no distance) of points x to the front, y to
    the left and z up.

    As the sensor sees it: cells are even in elevation, the highest row first, and in
    azimuth, the front in the middle and the left on the left. Of several points in a
    cell the nearest counts. RangeNet++ (Milioto et al. 2019), eq. 1, which clips what
    lies beyond to the outer rows.
    """
    x, y, z, _ = points.T.astype(np.float64)
    low, high = elevation
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        distance = np.sqrt(x**2 + y**2 + z**2)
        up = np.degrees(np.arcsin(z / distance))
        row = np.floor((high - up) / (high - low) * rows)
        inside = np.isfinite(points).all(1) & (row >= 0) & (row < rows)
    nearest_last = np.flatnonzero(inside)[np.argsort(-distance[inside], kind="stable")]
    turn = 0.5 - np.arctan2(y, x)[nearest_last] / (2 * np.pi)
    column = np.floor(turn * azimuth).astype(int) % azimuth
    image = np.zeros((rows, azimuth, 2), np.float32)
    image[row[nearest_last].astype(int), column] = np.stack(
        [distance[nearest_last], points[nearest_last, 3]], -1
    )
    return image, int(np.count_nonzero(~inside))


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


def lost_beams(sweep: np.ndarray, hit: np.ndarray) -> dict[str, float]:
    """Shares of beams without a distance, and of those with one that are taken for
    such, since another value is not finite. hit: of `split_sweep`."""
    distance = sweep[..., 0][~hit[..., 0]]
    incomplete = np.count_nonzero(distance[np.isfinite(distance)] > 0)
    beams = math.prod(hit.shape[:-1])
    return {
        "not_returned": (len(distance) - incomplete) / beams,
        "incomplete": incomplete / beams,
    }
