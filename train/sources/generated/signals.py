"""Signals made on the fly with a known truth: series, phantoms, streets, tones.

Every one is a function of (its seeds) alone: example i is the same in any order, batch
and process.
"""

import dataclasses
import functools

import numpy as np

from train.modalities.audio import Audio
from train.modalities.draws import Word
from train.modalities.range import Ranges
from train.modalities.record import Record
from train.modalities.series import Series
from train.modalities.volume import Volumes
from train.sources.source import Source
from vqdit.shapes import Bool, Float

TRAIN, TEST = 1, 2  # words of the parts
TONES = 96  # to train on
PITCHES = (0.02, 0.03, 0.045, 0.07)  # of tones, in shares of the rate


def rng(*words: int) -> np.random.Generator:
    """A generator that belongs to these integers."""
    return np.random.default_rng(words)


class Generated(Source):
    """Generated records: `make(data, part, row)`, where part is TRAIN or TEST.

    count: None for data.examples, and an eighth of as many to test on.
    """

    def __init__(self, data, train, make, count=None, class_names=()):
        if count is None:
            count = data.examples if train else data.examples // 8
        super().__init__(count, class_names)
        self.data, self.make = data, make
        self.part = TRAIN if train else TEST
        self.identity = data.name

    def read(self, rows):
        made = (self.make(self.data, self.part, row) for row in rows)
        return [self.data.adapt(record) for record in made]


def sensor_window(data: Series, part: int, row: int) -> Record:
    """A series of one window, and its truth."""
    draw = rng(Word.SERIES, data.seed, part, row)
    truth = sensor_series(data.length, data.channels, draw)
    measured = poorly(truth, draw, data)
    return Record(measured, more={"truth": truth.astype(np.float32)})


def noisy_phantom(data: Volumes, part: int, row: int) -> Record:
    """A volume, and its truth without noise."""
    draw = rng(Word.VOLUME, data.seed, part, row)
    truth, _ = anatomy(data.size, draw)
    measured = truth + data.noise * draw.standard_normal(data.size)
    values = measured.astype(np.float32)[..., None]
    return Record(values, more={"truth": truth[..., None]})


def street(data: Ranges, part: int, row: int) -> Record:
    """A sweep of a street."""
    draw = rng(Word.RANGE, data.seed, part, row)
    assert data.far is not None  # as `Ranges` has checked
    x = scene(data.rows, data.azimuth, draw, data.far, data.noise)
    return Record(x.astype(np.float32)[..., None])


def tone(data: Audio, part: int, row: int) -> Record:
    """A clip whose class is a pitch, with harmonics that die away.

    As long as the data's `length`, and a function of (index, rate, length).
    """
    i = row if part == TRAIN else TONES + row
    random = rng(Word.TONES, i)
    t = np.arange(data.length) / data.rate
    whole = data.length / data.rate
    label = i % len(PITCHES)
    pitch = PITCHES[label] * data.rate * 2 ** random.uniform(-0.1, 0.1)
    start, fade = random.uniform(0, 0.3) * whole, random.uniform(3, 8) / whole
    swell = np.exp(-fade * np.maximum(t - start, 0)) * (t >= start)
    phases = random.uniform(0, 2 * np.pi, 4)
    x = sum(
        np.sin(2 * np.pi * k * pitch * t + phase) / k
        for k, phase in enumerate(phases, 1)
    )
    x = x * swell + 0.003 * random.standard_normal(data.length)
    return Record(0.3 * x, label=label)


def tones(data: Audio, train: bool) -> Generated:
    """96 clips to train on and 32 to test on."""
    names = [f"{pitch * data.rate:g} Hz" for pitch in PITCHES]
    return Generated(data, train, tone, TONES if train else TONES // 3, names)


def sensor_series(
    length: int, channels: int, draw: np.random.Generator
) -> Float[np.ndarray, "t c"]:
    """What a few faultless sensors on one machine would give: a fundamental with two
    harmonics, 2 to 6 periods long in the window, that every channel mixes in its own
    proportion and phase, and a slow drift (AR(1), smoothed)."""
    t = np.arange(length) / length
    pace = draw.uniform(2, 6)
    truth = np.zeros((length, channels))
    for harmonic, size in ((1, 1.0), (2, 0.5), (3, 0.3)):
        amplitude = size * draw.uniform(0.4, 1.0, channels)
        phase = draw.uniform(0, 2 * np.pi, channels)
        truth += amplitude * np.sin(2 * np.pi * harmonic * pace * t[:, None] + phase)
    knots = max(length // 32, 1) + 2
    drift = np.empty((knots, channels))
    drift[0] = draw.standard_normal(channels)
    for i in range(1, knots):  # an AR(1) of unit variance at the knots
        drift[i] = 0.8 * drift[i - 1] + 0.6 * draw.standard_normal(channels)
    places = np.linspace(0, knots - 1, length)
    low = places.astype(int).clip(max=knots - 2)
    weight = (1 - np.cos(np.pi * (places - low)))[:, None] / 2
    return truth + 0.3 * ((1 - weight) * drift[low] + weight * drift[low + 1])


def poorly(
    truth: Float[np.ndarray, "t c"], draw: np.random.Generator, data: Series
) -> Float[np.ndarray, "t c"]:
    """What a poor sensor makes of a series: white noise of the data's `noise`, spikes
    of 4 to 12 for the share `spikes`, and NaN in bursts of about 12 samples for the
    share `missing`."""
    measured = truth + data.noise * draw.standard_normal(truth.shape)
    wild = draw.random(truth.shape) < data.spikes
    sign = np.where(draw.random(truth.shape) < 0.5, -1, 1)
    measured += wild * sign * draw.uniform(4, 12, truth.shape)
    length, channels = truth.shape
    measured[bursts(length, channels, data.missing, 12.0, draw)] = np.nan
    return measured


def bursts(
    length: int, channels: int, share: float, mean: float, draw: np.random.Generator
) -> np.ndarray:
    """bool (length, channels): runs of True of this mean length, `share` of all.

    A two-state Markov chain that starts in its stationary distribution.
    """
    if share <= 0:
        return np.zeros((length, channels), bool)
    gaps, spells = 1 / mean, share / (1 - share) / mean
    gone = np.empty((length, channels), bool)
    for c in range(channels):
        first = draw.random() < share
        # Enough of both kinds to cover the series: each lasts at least one sample.
        lasting = np.stack(
            [draw.geometric(min(p, 1.0), length) for p in (gaps, spells)], -1
        )
        lasting = lasting if first else lasting[:, ::-1]
        ends = np.cumsum(lasting.reshape(-1))
        turn = np.searchsorted(ends, np.arange(length), side="right")
        gone[:, c] = (turn % 2 == 0) == first
    return gone


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """The inner ellipsoid of a phantom, in coordinates that are -1 and 1 at the sides.

    place: of every voxel. center, radii, turn: of the ellipsoid.
    """

    place: Float[np.ndarray, "d h w 3"]
    center: Float[np.ndarray, "3"]
    radii: Float[np.ndarray, "3"]
    turn: Float[np.ndarray, "3 3"]

    @functools.cached_property
    def mask(self) -> Bool[np.ndarray, "d h w"]:
        return inside(self.place, self.center, self.radii, self.turn)

    def within(self, draw: np.random.Generator) -> Float[np.ndarray, "3"]:
        """A place well inside it."""
        return self.center + self.turn @ (self.radii * draw.uniform(-0.5, 0.5, 3))


def anatomy(
    shape: tuple[int, int, int], draw: np.random.Generator
) -> tuple[Float[np.ndarray, "d h w"], Body]:
    """(intensities from 0 to 1, the body in them) of nested ellipsoids as in a
    Shepp-Logan phantom, 0 outside: a shell, within it a body, and two to four
    inclusions within that, each turned at random."""
    axes = [(np.arange(n) - (n - 1) / 2) * 2 / n for n in shape]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    truth = np.zeros(shape)
    turn = random_rotation(draw)
    center, radii = draw.uniform(-0.1, 0.1, 3), draw.uniform(0.65, 0.85, 3)
    truth[inside(place, center, radii, turn)] = draw.uniform(0.8, 1.0)
    inner = radii - draw.uniform(0.08, 0.15)
    body = Body(place, center, inner, turn)
    truth[body.mask] = draw.uniform(0.25, 0.45)
    for _ in range(draw.integers(2, 5)):
        middle = body.within(draw)
        size = inner.min() * draw.uniform(0.15, 0.45, 3)
        within = inside(place, middle, size, random_rotation(draw)) & body.mask
        truth[within] = draw.uniform(0.05, 0.9)
    return truth, body


def inside(place, center, radii, turn) -> Bool[np.ndarray, "d h w"]:
    """Which places are in an ellipsoid."""
    return np.square(((place - center) @ turn) / radii).sum(-1) <= 1


def random_rotation(draw: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """A turn in space, evenly distributed: a QR of normal numbers, its signs fixed."""
    q, r = np.linalg.qr(draw.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def scene(
    rows: int,
    azimuths: int,
    draw: np.random.Generator,
    reach: float = 80.0,
    noise: float = 0.02,
) -> Float[np.ndarray, "rows azimuths"]:
    """Ranges in metres that a turning lidar on a street would measure; NaN: no return.

    Beams from 3 degrees up (row 0) to 25 down, 1.73 m above flat ground, with boxes the
    size of cars and walls around it; the nearest hit within `reach`, plus noise.
    """
    up = np.radians(np.linspace(3, -25, rows))[:, None]
    around = 2 * np.pi * np.arange(azimuths)[None] / azimuths
    beams = np.stack(
        np.broadcast_arrays(
            np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)
        ),
        -1,
    )
    height = 1.73
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.where(beams[..., 2] < 0, -height / beams[..., 2], np.inf)
        for _ in range(draw.integers(6, 14)):
            wall = draw.random() < 0.3
            distance = draw.uniform(15, 60) if wall else draw.uniform(4, 40)
            size = (
                np.array([draw.uniform(8, 30), 0.5, draw.uniform(3, 10)])
                if wall
                else np.array([4.2, 1.8, 1.5]) * draw.uniform(0.8, 1.3)
            )
            bearing, yaw = draw.uniform(0, 2 * np.pi, 2)
            center = distance * np.array([np.cos(bearing), np.sin(bearing), 0])
            center[2] = size[2] / 2 - height
            near = np.minimum(near, hit(beams, center, size, yaw))
    return ranged(near, reach, noise, draw)


def ranged(near, reach, noise, draw):
    """Metres that are measured, 0.1 at least; NaN beyond the reach."""
    measured = near + noise * draw.standard_normal(near.shape)
    return np.where(near > reach, np.nan, np.maximum(measured, 0.1))


def hit(beams, center, size, yaw):
    """Distance along each beam from the origin to a box, by slabs; inf if it misses."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])  # into the box's own axes
    origin, ways = -turn @ center, beams @ turn.T
    low = (-size / 2 - origin) / ways
    high = (size / 2 - origin) / ways
    enter = np.minimum(low, high).max(-1)
    leave = np.maximum(low, high).min(-1)
    return np.where((enter <= leave) & (leave > 0) & (enter > 0), enter, np.inf)
