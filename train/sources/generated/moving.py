"""Clips of digits that bounce off the walls, made as they are asked for."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import numpy as np

from train.modalities.draws import Word
from train.modalities.image import Images
from train.modalities.record import Record
from train.modalities.video import Video
from train.sources.arrays import digits
from train.sources.catalogue import open_prepared
from train.sources.generated.signals import Generated, rng
from vqdit.shapes import Float, UInt8

# Actions: clockwise on the screen, and in shares of the side a frame.
DIRECTIONS = tuple(
    "right,down right,down,down left,left,up left,up,up right".split(",")
)
SPEEDS = {"slow": (0.03, 0.042), "fast": (0.065, 0.08)}
ACTIONS = tuple(f"{way} {speed}" for way in DIRECTIONS for speed in SPEEDS)
SPREAD = np.radians(10)  # about a direction, whose neighbours are 45 degrees away
FREE = 4  # frames in which no wall is met, so that they show the action
Event = Literal["none", "jump", "vanish", "reverse"]
EVENTS: tuple[Event, ...] = ("none", "jump", "vanish", "reverse")


def moving(data: Video, train: bool) -> Generated:
    """Digits that bounce off the walls: data.examples of training digits, and a tenth
    as many of test digits. A record makes its frames at any time; its label is the
    digit's where there is one.
    """
    name = "mnist" if data.name == "moving_mnist" else "digits"
    pictures, labels = digit_pictures(name, data.data_dir, train)
    alone = data.digits == 1

    def make(data, part, row) -> Record:
        words = (Word.VIDEO, data.seed, part, row)
        first = chosen(rng(*words), pictures, data.digits)
        label = int(labels[first[0]]) if alone else -1

        def at(times):
            how = (data.size, times, data.digits, rng(*words))
            clip, boxes = moving_digits(pictures, *how)
            classes = np.broadcast_to(labels[first][:, None], (*boxes.shape[:2], 1))
            return clip, np.concatenate([boxes, classes], -1, dtype=np.float32)

        return Record(np.empty(0, np.uint8), label=label, more={"at": at})

    names = tuple("0123456789") if alone else ()
    count = data.examples if train else data.examples // 10
    return Generated(data, train, make, count, names)


def moving_actions(data: Video, train: bool) -> Generated:
    """One digit that acts: its label is the action, its caption the digit and action.
    As many as `moving` has, of the same pictures."""
    return _acting(data, train, ACTIONS, lambda row, action: ("none", action))


def moving_events(data: Video, train: bool) -> Generated:
    """The same, whose label says which event, if any: none in every other clip."""

    def planted(row: int, action: int) -> tuple[Event, int]:
        which = row % 2 * (1 + row // 2 % (len(EVENTS) - 1))
        return EVENTS[which], which

    return _acting(data, train, EVENTS, planted)


def _acting(
    data: Video,
    train: bool,
    names: tuple[str, ...],
    planted: Callable[[int, int], tuple[Event, int]],
) -> Generated:
    """planted: of (row, action) the event, and the label."""
    pictures, digits = digit_pictures("digits", "", train)

    def make(data, part, row) -> Record:
        draw = rng(Word.ACTION, data.seed, part, row)
        first = int(chosen(draw, pictures, 1)[0])
        action = int(draw.integers(len(ACTIONS)))
        event, label = planted(row, action)
        acting = act(pictures[first], data.size, data.frames, action, draw, event)

        def at(times):
            clip, boxes = acting.at(times, data.size)
            seen = ~np.isnan(boxes[..., :1])
            classes = np.where(seen, np.float32(digits[first]), np.float32(-1))
            return clip, np.concatenate([np.nan_to_num(boxes), classes], -1)

        caption = f"{digits[first]} {ACTIONS[action]}"
        more = {"at": at, "caption": caption}
        return Record(np.empty(0, np.uint8), label=label, more=more)

    count = data.examples if train else data.examples // 10
    return Generated(data, train, make, count, names)


@functools.lru_cache(maxsize=4)
def digit_pictures(
    name: str, data_dir: str, train: bool
) -> tuple[UInt8[np.ndarray, "n h w"], np.ndarray]:
    """(pictures, labels) of "digits" (scikit-learn) or "mnist" (TFDS, data_dir)."""
    size, open_part = {"digits": (8, digits), "mnist": (28, open_prepared)}[name]
    source = open_part(Images(name=name, data_dir=data_dir, size=size), train)
    found = source.take(range(len(source)))
    pictures = np.stack([record.values[..., 0] for record in found])
    return pictures, np.array([record.label for record in found])


def moving_digits(
    pictures: UInt8[np.ndarray, "n h w"],
    size: int,
    times: Float[np.ndarray, "f"],
    digits: int,
    draw: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "f s s"], Float[np.ndarray, "f k 4"]]:
    """(frames, boxes): digits that bounce off the walls.

    As Moving MNIST (Srivastava et al. 2015, arXiv:1502.04681): each digit has its own
    place, direction and speed, 3 to 8 % of the side a frame, and overlapping ink is as
    bright as the brighter. times: in frames, need not be whole. A digit is enlarged to
    about 7/16 of the side. Boxes: x0, y0, x1, y1 of its ink in shares of the side.
    """
    frames = np.zeros((len(times), size, size), np.uint8)
    boxes = np.empty((len(times), digits, 4), np.float32)
    for k, index in enumerate(chosen(draw, pictures, digits)):
        picture = enlarged(pictures[index], size * 7 // 16, size)
        angle, speed = draw.uniform(0, 2 * np.pi), draw.uniform(0.03, 0.08) * size
        room = size - np.array(picture.shape, float)
        start = draw.uniform(0, 1, 2) * room
        way = velocity_of(angle, speed) * times[:, None]
        places = bounced(start, way, room)
        boxes[:, k] = drawn_into(frames, picture, places)
    return frames, boxes


def enlarged(
    picture: UInt8[np.ndarray, "h w"], side: int, most: int
) -> UInt8[np.ndarray, "h2 w2"]:
    """The ink of a picture that was enlarged, by a whole factor, to about `side`."""
    factor = max(1, side // picture.shape[0])
    picture = picture.repeat(factor, 0).repeat(factor, 1)[:most, :most]
    rows, columns = (np.flatnonzero(picture.any(1 - axis)) for axis in (0, 1))
    if not rows.size:  # a blank one has no ink to bounce by
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def velocity_of(angle: float, speed: float) -> Float[np.ndarray, "2"]:
    """Down and to the right, of an angle clockwise from the right."""
    return speed * np.array([np.sin(angle), np.cos(angle)])


def bounced(
    start: Float[np.ndarray, "*f 2"],
    way: Float[np.ndarray, "f 2"],
    room: Float[np.ndarray, "2"],
) -> Float[np.ndarray, "f 2"]:
    """Top and left after these ways down and to the right, from 0 <= start <= room,
    reflected at the walls: a triangle wave, so a frame needs none of those before."""
    there = np.where(room > 0, room, 1)  # in no room nothing moves
    at = np.mod(start + way, 2 * there)
    return np.where(room > 0, np.where(at > there, 2 * there - at, at), 0)


def drawn_into(
    frames: UInt8[np.ndarray, "f s s"],
    picture: UInt8[np.ndarray, "h w"],
    places: Float[np.ndarray, "f 2"],
) -> Float[np.ndarray, "f 4"]:
    """Puts a picture into frames, in place; its box in each, NaN where it is not."""
    height, width = picture.shape
    boxes = np.full((len(frames), 4), np.nan, np.float32)
    for frame, box, place in zip(frames, boxes, places, strict=True):
        if np.isnan(place).any():
            continue
        top, left = np.round(place).astype(int)
        part = frame[top : top + height, left : left + width]
        np.maximum(part, picture, out=part)
        box[:] = np.array([left, top, left + width, top + height]) / len(frame)
    return boxes


def chosen(draw: np.random.Generator, pictures: np.ndarray, digits: int) -> np.ndarray:
    """Which pictures move; the first draw of a clip."""
    return draw.integers(0, len(pictures), digits)


@dataclasses.dataclass(frozen=True, eq=False)
class Action:
    """A digit that sets out in one of eight directions, slowly or fast.

    Its action is how it sets out: it meets no wall for FREE frames, and may bounce
    after them. event: what breaks the motion at the time `when`: "jump" to a place
    that is a quarter of the side away or more, "vanish" for good, or "reverse", back
    along the way that it came.
    """

    picture: UInt8[np.ndarray, "h w"]
    room: Float[np.ndarray, "2"]
    start: Float[np.ndarray, "2"]
    velocity: Float[np.ndarray, "2"]
    event: Event = "none"
    when: float = np.inf
    leap: Float[np.ndarray, "2"] | tuple[float, float] = (0.0, 0.0)

    def at(
        self, times: Float[np.ndarray, "f"], size: int
    ) -> tuple[UInt8[np.ndarray, "f s s"], Float[np.ndarray, "f 1 4"]]:
        """(frames, boxes) at these times, in frames, NaN where there is none."""
        late = times >= self.when
        if self.event == "reverse":
            times = np.where(late, 2 * self.when - times, times)
        places = bounced(self.start, self.velocity * times[:, None], self.room)
        if self.event == "jump":
            places = bounced(places, np.where(late[:, None], self.leap, 0.0), self.room)
        if self.event == "vanish":
            places[late] = np.nan
        frames = np.zeros((len(times), size, size), np.uint8)
        return frames, drawn_into(frames, self.picture, places)[:, None]


def act(
    picture: UInt8[np.ndarray, "h w"],
    size: int,
    frames: int,
    action: int,
    draw: np.random.Generator,
    event: Event = "none",
) -> Action:
    """An action, one of ACTIONS, of a digit enlarged to about half of the side; its
    event comes in the second half of so many frames, and not in the last two."""
    ink = enlarged(picture, size // 2, size)
    room = size - np.array(ink.shape, float)
    way, pace = divmod(action, len(SPEEDS))
    angle = way * np.pi / 4 + draw.uniform(-SPREAD, SPREAD)
    speed = draw.uniform(*tuple(SPEEDS.values())[pace]) * size
    velocity = velocity_of(angle, speed)
    low, high = np.maximum(0, -FREE * velocity), np.minimum(0, -FREE * velocity) + room
    start = low + draw.uniform(0, 1, 2) * np.maximum(high - low, 0)
    found = Action(ink, room, start, velocity)
    if event == "none":
        return found
    last = max(frames - 2, 1)
    when = int(draw.integers(min(frames // 2 + 1, last - 1), last))
    before = bounced(start, velocity * np.full((1, 1), when), room)[0]
    for _ in range(100):  # nearly always one of the first few
        leap = draw.uniform(0, 1, 2) * room - before
        if np.hypot(*leap) >= size / 4:
            break
    return dataclasses.replace(found, event=event, when=when, leap=leap)
