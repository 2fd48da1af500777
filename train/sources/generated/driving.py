"""Streets of known truth as three sensors of one car have them.

A camera sees what is ahead, a lidar measures ranges all around, and a receiver has the
way that the car came and the hour. A scene is a straight road between walls, with
vehicles and walkers on it, and each sensor leaves something open: at night the camera
sees little but the edges of the road; two or three beams hit a walker, and tell nothing
of light and colours; the way says how the car stands on the road, and by its speed how
far the vehicle ahead is, since it keeps its distance.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from train.modalities.draws import Word
from train.modalities.image import Images
from train.modalities.modality import Modality
from train.modalities.range import Ranges
from train.modalities.record import Record
from train.modalities.series import Series
from train.sources.generated.signals import TRAIN, Generated, hit, poorly, ranged, rng
from vqdit.shapes import Bool, Float

KINDS = ("vehicle", "walker")
FAULTS = ("none", "camera", "range", "position", "no camera", "no range", "no position")
MOST = 3  # boxes of a picture, the nearest ones
HEIGHT = 1.6  # metres of the sensors above the road
VIEW = np.radians(60)  # across a picture
SEEN = 0.3  # of a thing, at least, for it to have a box
PIXELS = 2.0  # across a box, at least
REACH = 60.0  # metres of the lidar
BACK = 2.0  # seconds of the way
AHEAD, GAP = 1.2, 3.0  # seconds, and metres at rest, that are kept to who is ahead
FREE = 9.0, 14.0  # metres a second where nobody is
DARK = 0.07  # of the light of day, at night


@dataclasses.dataclass(frozen=True, eq=False)
class Thing:
    """A box on the road, in the car's coordinates: ahead, to the left, up."""

    kind: int  # index of KINDS; -1 for a wall
    center: Float[np.ndarray, "3"]
    size: Float[np.ndarray, "3"]
    yaw: float
    colour: Float[np.ndarray, "3"]

    def hit(self, rays: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
        """Distance along each ray from the sensors; inf where it misses."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return hit(rays, self.center, self.size, self.yaw)


@dataclasses.dataclass(frozen=True, eq=False)
class Street:
    """A scene.

    aside, heading: of the car, metres left of the middle of the road, and radians that
        it is turned to the left of it.
    half: metres of the road's width. speed: metres a second. hour: of the day.
    things: walls last.
    """

    aside: float
    heading: float
    half: float
    speed: float
    hour: float
    things: tuple[Thing, ...]

    @property
    def light(self) -> float:
        """1 is that of day, from an hour or two after sunrise at six."""
        return float(np.clip(2 * np.sin((self.hour - 6) / 12 * np.pi), DARK, 1))

    def nearest(
        self, rays: Float[np.ndarray, "*n 3"]
    ) -> tuple[Float[np.ndarray, "*n"], np.ndarray, Float[np.ndarray, "k *n"]]:
        """(distance, which thing, -1 for the ground; the distance of each)."""
        each = np.stack([thing.hit(rays) for thing in self.things])
        with np.errstate(divide="ignore"):
            ground = np.where(rays[..., 2] < 0, -HEIGHT / rays[..., 2], np.inf)
        which, near = each.argmin(0), each.min(0)
        which = np.where(near < ground, which, -1)
        return np.minimum(near, ground), which, each


class Sensor(NamedTuple):
    """name: among FAULTS. record: of (data, scene, draw, whether the sensor is out)."""

    name: str
    record: Callable[[Any, Street, np.random.Generator, bool], Record]


def driving(sensor: Sensor, data: Modality, train: bool) -> Generated:
    """data.examples scenes to train on, an eighth as many held out, as one sensor has
    them. The same row of each is the same scene."""
    return Generated(data, train, functools.partial(_sensed, sensor))


def faults(sensor: Sensor, data: Modality, train: bool) -> Generated:
    """The same to train on; in every other held-out scene one sensor lies, and has what
    another scene would give, or is out: a black picture, the nearest beam alone, a way
    that stands still. The label says which."""

    def make(data, part, row):
        fault = row % 2 * (1 + row // 2 % (len(FAULTS) - 1))
        fault = 0 if part == TRAIN else fault
        record = _sensed(sensor, data, part, row, fault)
        return dataclasses.replace(record, label=fault)

    return Generated(data, train, make, None, FAULTS)


def _sensed(sensor: Sensor, data: Any, part: int, row: int, fault: int = 0) -> Record:
    at_fault = FAULTS[fault].removeprefix("no ") == sensor.name
    lies = at_fault and FAULTS[fault] == sensor.name
    # A scene that is nobody's: beyond those that have numbers.
    words = (Word.DRIVING, data.seed, part, row + lies * 2**40)
    scene = street(rng(*words, 0))
    draw = rng(*words, 1, sum(map(ord, sensor.name)))
    return sensor.record(data, scene, draw, at_fault and not lies)


def _camera(data: Images, scene: Street, draw, out: bool) -> Record:
    values, boxes = picture(scene, data.size, draw)
    values = values * (not out)
    if data.channels == 1:
        values = values.mean(-1, keepdims=True)
    return Record(values.astype(np.uint8), more={"boxes": boxes})


def _lidar(data: Ranges, scene: Street, draw, out: bool) -> Record:
    values = sweep(scene, data, draw)
    if out:  # the nearest beam alone returns, for a sweep is never empty
        values = np.where(values == np.nanmin(values), values, np.nan)
    return Record(values.astype(np.float32)[..., None])


def _receiver(data: Series, scene: Street, draw, out: bool) -> Record:
    truth, unit = way(scene, data.length), np.array([1.0, 1.0, 0.1, 0.1])
    values = unit * poorly(truth / unit, draw, data)
    values = np.tile(values[:1], (len(values), 1)) if out else values
    return Record(values, more={"truth": truth.astype(np.float32)})


# Which of them a kind of signal is.
SENSORS: dict[type[Modality], Sensor] = {
    Images: Sensor("camera", _camera),
    Ranges: Sensor("range", _lidar),
    Series: Sensor("position", _receiver),
}


def street(draw: np.random.Generator) -> Street:
    """A scene of one or two vehicles and up to two walkers, in the camera's view."""
    half = draw.uniform(4.0, 6.0)
    aside = draw.uniform(-0.5, 0.5) * half
    heading = np.radians(draw.uniform(-10, 10))
    things: list[Thing] = []
    for kind in (0,) * draw.integers(1, 3) + (1,) * draw.integers(0, 3):
        for _ in range(20):  # until it stands free
            along = draw.uniform(5, 16) if kind == 0 else draw.uniform(3.5, 9)
            across = draw.uniform(-1, 1) * (half - 1)
            thing = _standing(kind, along, across - aside, heading, draw)
            bearing = np.arctan2(thing.center[1], thing.center[0])
            apart = [np.hypot(*(thing.center - t.center)[:2]) for t in things]
            if abs(bearing) < 0.42 * VIEW and min(apart, default=9.0) > 2.5:
                things.append(thing)
                break
    lane = [
        t.center[0] - t.size[0] / 2
        for t in things
        if t.kind == 0 and abs(t.center[1] - np.tan(-heading) * t.center[0]) < 2.5
    ]
    free = draw.uniform(*FREE)
    speed = float(np.clip((min(lane, default=99.0) - GAP) / AHEAD, 0.0, free))
    for side in (-1, 1):
        far, high = half + draw.uniform(1.0, 3.0), draw.uniform(2.0, 6.0)
        grey = np.full(3, draw.uniform(0.35, 0.65)) * draw.uniform(0.85, 1.15, 3)
        wall = np.array([0.0, side * far - aside, high / 2 - HEIGHT])
        size = np.array([240.0, 0.4, high])
        things.append(Thing(-1, _turned(wall, -heading), size, -heading, grey))
    return Street(aside, heading, half, speed, draw.uniform(0, 24), tuple(things))


def _standing(kind, along, across, heading, draw) -> Thing:
    """A vehicle or walker at a place on the road, in the car's coordinates."""
    size = np.array([(4.2, 1.8, 1.5), (0.5, 0.6, 1.75)][kind])
    size = size * draw.uniform(0.85, 1.15, 3)
    place = np.array([along, across, size[2] / 2 - HEIGHT])
    yaw = draw.normal(0, np.radians(6 if kind == 0 else 60)) - heading
    colour = draw.uniform(0.1, 1.0, 3)
    return Thing(kind, _turned(place, -heading), size, yaw, colour)


def _turned(place: Float[np.ndarray, "*n 3"], angle: float) -> np.ndarray:
    """Turned to the left about the car."""
    c, s = np.cos(angle), np.sin(angle)
    return place @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


@functools.lru_cache(maxsize=8)
def _view(size: int) -> Float[np.ndarray, "s s 3"]:
    """Rays through the pixels of a picture, of length 1 along the axis."""
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * np.tan(VIEW / 2)
    across, down = np.meshgrid(at, at)
    return np.stack([np.ones_like(across), -across, -down], -1)


@functools.lru_cache(maxsize=8)
def _beams(
    rows: int, azimuth: int, elevation: tuple[float, ...]
) -> Float[np.ndarray, "rows azimuth 3"]:
    """Beams through the middles of the cells of `train.modalities.range.projected`."""
    low, high = np.radians(elevation)
    up = (high - (np.arange(rows) + 0.5) / rows * (high - low))[:, None]
    around = 2 * np.pi * (0.5 - (np.arange(azimuth)[None] + 0.5) / azimuth)
    each = np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)
    return np.stack(np.broadcast_arrays(*each), -1)


def picture(
    scene: Street, size: int, draw: np.random.Generator
) -> tuple[Float[np.ndarray, "s s 3"], Float[np.ndarray, "k 5"]]:
    """(values in 0..255, MOST boxes: x0, y0, x1, y1 in shares of the sides and an index
    of KINDS, -1 where there is none). Boxes have what is seen by a camera in daylight,
    and are of whole things, cut at the borders."""
    rays = _view(size)
    near, which, each = scene.nearest(rays)
    ground = rays * np.minimum(near, 300.0)[..., None]
    across = _turned(ground, scene.heading)[..., 1] + scene.aside
    on_road = np.abs(across) < scene.half
    sky = np.isinf(near)
    line = on_road & (np.abs(across) > scene.half - 0.35) & (which < 0) & ~sky
    colour = np.where(on_road[..., None], 0.3, (0.25, 0.45, 0.2))
    colour = np.where(line[..., None], 0.95, colour)
    for i, thing in enumerate(scene.things):
        colour = np.where((which == i)[..., None], thing.colour, colour)
    fade = np.exp(-np.where(sky, 0, near) / 60)[..., None]
    lit = np.where(sky[..., None], (0.55, 0.7, 0.95), colour * fade + 0.6 * (1 - fade))
    # What paints the road reflects the headlights.
    lit = lit * np.where(line[..., None], max(scene.light, 0.3), scene.light)
    noisy = 255 * lit + 4 * draw.standard_normal(lit.shape)
    return noisy.clip(0, 255), _boxes(scene, size, near, each)


def _boxes(scene, size, near, each) -> Float[np.ndarray, "k 5"]:
    found = []
    for thing, own in zip(scene.things, each, strict=True):
        whole = np.isfinite(own)
        seen: Bool[np.ndarray, "s s"] = whole & (own <= near)
        if thing.kind < 0 or not seen.any() or seen.sum() < SEEN * whole.sum():
            continue
        corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T
        place = _turned(corners * thing.size, thing.yaw) + thing.center
        flat = -place[:, 1:] / place[:, :1] / np.tan(VIEW / 2) / 2 + 0.5
        low, high = flat.min(0).clip(0, 1), flat.max(0).clip(0, 1)
        if ((high - low) * size < PIXELS).any():
            continue
        found.append((thing.center[0], (*low, *high, thing.kind)))
    out = np.zeros((MOST, 5), np.float32)
    out[:, 4] = -1
    nearest = [box for _, box in sorted(found)[:MOST]]
    out[: len(nearest)] = np.reshape(nearest, (-1, 5))
    return out


def sweep(
    scene: Street, data: Ranges, draw: np.random.Generator
) -> Float[np.ndarray, "rows azimuth"]:
    """Metres that each beam measures, NaN where none returns."""
    near = scene.nearest(_beams(data.rows, data.azimuth, data.elevation))[0]
    return ranged(near, REACH, data.noise, draw)


def way(scene: Street, length: int) -> Float[np.ndarray, "l 4"]:
    """Metres along the road before now, metres left of its middle, radians, and the
    hour, in the last BACK seconds, in which the car has turned from straight ahead."""
    t = np.linspace(-BACK, 0, length)
    turned = scene.heading * (1 + t / BACK)
    step = scene.speed * BACK / (length - 1)
    back = lambda rate: np.append(np.cumsum((rate * step)[:0:-1])[::-1], 0.0)
    along, across = back(np.cos(turned)), back(np.sin(turned))
    hour = np.full(length, scene.hour)
    return np.stack([-along, scene.aside - across, turned, hour], -1)
