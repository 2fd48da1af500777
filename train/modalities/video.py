"""Video: clips of one square size and length."""

import dataclasses
from collections import Counter
from typing import Annotated, ClassVar, Literal

import numpy as np

from train.errors import Unreadable
from train.modalities.draws import Version, Word
from train.modalities.files import dropped
from train.modalities.files.clips import (
    RATE,
    alike,
    is_gif,
    pack_times,
    rate_of,
    read_clip,
    shown,
    unpack_times,
    write_gif,
    write_mp4,
)
from train.modalities.files.index import open_clip
from train.modalities.files.stored import check_growth, listed
from train.modalities.image import Pixels, fit_square
from train.modalities.record import Batch, Record
from train.modalities.shown import grid, png
from train.modalities.transforms.augment import ImageAugment
from vqdit.fields import Bound, Count, Natural, NonNegative, Seed

VideoName = Literal[
    "moving_digits",
    "moving_mnist",
    "moving_actions",
    "moving_events",
    "folder",
    "webdataset",
    "huggingface",
]


@dataclasses.dataclass(frozen=True)
class Video(Pixels):
    """Clips, uint8 (frames, size, size, channels).

    name:      "moving_digits" (scikit-learn's digits, which need no download),
               "moving_mnist" (of a prepared TFDS set in data_dir), "moving_actions" (a
               digit in one of 8 directions, slowly or fast, which is the class),
               "moving_events" (the same; in every other clip it jumps, vanishes or
               turns back, and that is the class), or "folder" of GIF
               and video files, or of folders that hold the frames of a clip as
               pictures, in the order of their names; classes are sub-folders. Of MP4,
               MOV, Matroska, WebM and AVI only what an example needs is decoded; of
               what has no index few frames are kept, and many are decoded up to it.
    size:      of a side of a frame, in pixels.
    channels:  1 for grey clips, 3 for colour.
    stride:    frames between clips of one file; 0: as many as `frames`, so that they do
               not overlap.
    frames:    of one example. A longer file gives several clips.
    rate:      frames a second. 0 takes those that are stored; otherwise the nearest
               stored frame is taken for each moment, not of a folder of frames.
    digits, examples, seed: of generated clips. There are `examples` to train on, and a
               tenth as many, of test digits, to test on.
    boxes:     generated clips come with "boxes", float32 (frames, digits, 5): x0, y0,
               x1, y1 in shares of the side, and which digit; -1 where it is not there.
    """

    kind: ClassVar[str] = "video"
    sides: ClassVar[tuple[str, ...]] = ("frames", "size", "size", "channels")
    made: ClassVar[tuple[str, ...]] = ("digits", "examples", "seed")
    measures: ClassVar[str] = "clips"
    judged: ClassVar[int] = 600
    folders: ClassVar[bool] = True
    feature: ClassVar[str] = "Video"
    wide: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        ".gif .mp4 .m4v .webm .mov .mkv .avi .mpg .mpeg .ogv .3gp".split()
    )

    name: VideoName = "moving_digits"
    frames: Count = 16
    size: Count = 64
    channels: int = 1
    rate: NonNegative = 0.0
    stride: Natural = 0
    digits: Count = 2
    examples: Annotated[int, Bound(at_least=10)] = 10_000
    seed: Seed = 0
    boxes: bool = False
    augment: ImageAugment | None = None

    def __post_init__(self):
        super().__post_init__()
        known = not self.boxes or self.name.startswith("moving")
        self.check("boxes", known, "only generated clips know their boxes")
        several = self.digits > 1 and self.name in ("moving_actions", "moving_events")
        self.check("digits", not several, "one digit acts; write 1")

    def load(self, path, share=(0.0, 1.0)):
        clip = open_clip(path, self._fit)
        at = np.arange(len(clip))
        if self.rate:
            if clip.times is None:
                raise Unreadable(
                    f"states no frame rate, and data.rate={self.rate:g} needs it"
                )
            count = clip.times[-1] * self.rate
            check_growth(count, len(at), f"states {clip.times[-1]:g} s of frames")
            moments = np.arange(max(1, round(count))) / self.rate
            at = shown(clip.times, moments)
        if len(at) < self.frames:
            raise Unreadable(f"{len(at)} frames, fewer than data.frames={self.frames}")
        rate = self.rate or rate_of(clip.times)
        if clip.kept is None:
            blank = np.empty(0, np.uint8)
            return Record(blank, rate, more={"shown": at, "index": clip})
        used, at = np.unique(at, return_inverse=True)
        return Record(self._fitted(clip, used), rate, more={"shown": at})

    def _fitted(self, clip, rows):
        """These frames of a clip, (n, size, size, c)."""
        used, at = np.unique(rows, return_inverse=True)
        frames = clip.pick(used.tolist())
        return np.stack([self._fit(frame) for frame in frames])[at]

    def _fit(self, frame):
        return fit_square(frame, self.size, self.channels)

    def findings(self, records):
        """Frames a second, of files that state them and are taken as they are, the most
        frequent first."""
        rates = Counter(f"{each.rate:.3g}" for each in records if each.rate)
        if self.rate or not rates:
            return {}
        return {"rate": [f"{n} of {rate}" for rate, n in rates.most_common()]}

    def changes(self, findings):
        if len(rates := findings.get("rate", ())) > 1:
            yield (
                f"clips are taken frame by frame, {listed(rates)} a second, as if all "
                "were of one rate; data.rate makes it so"
            )

    def starts(self, record):
        if "at" in record.more:  # made as it is asked for
            return (0,)
        last = len(record.more["shown"]) - self.frames
        return range(0, last + 1, self.stride or self.frames)

    @property
    def drawn(self):
        return bool(self.augment and self.augment.pace)

    def cut(self, records, starts, draws) -> Batch:
        draws = draws or Version((), 0, len(records))
        augment, place = self.augment or ImageAugment(), draws(Word.START)
        paces = augment.paces(draws)
        clips = np.empty((len(records), *self.shape), np.uint8)
        boxes = np.empty((len(records), self.frames, self.digits, 5), np.float32)
        for i, (record, pace) in enumerate(zip(records, paces, strict=True)):
            at = np.arange(self.frames) * pace
            if "at" in record.more:
                clip, boxes[i] = record.more["at"](at)
                clips[i] = clip[..., None]  # grey, the same in every channel
            else:
                moments = self._moments(record.more["shown"], starts[i], at, place[i])
                index = record.more.get("index")
                clips[i] = (
                    self._fitted(index, moments) if index else record.values[moments]
                )
        return {"x": clips} | ({"boxes": boxes} if self.boxes else {})

    def _moments(self, clip, start, at, place):
        """Which frames are `at` after the start of a clip, the nearest there are.

        Where that reaches beyond the file the start moves back, and where even that is
        not enough the pace is brought down to what the file has.
        """
        last = len(clip) - 1
        at = at * min(1.0, last / max(at[-1], 1e-9))
        first = min(float(start), last - at[-1])
        if at[-1] < self.frames - 1:
            # Slower than recorded: any part of the clip's time, not its beginning.
            first += place * min(self.frames - 1 - at[-1], last - first - at[-1])
        return clip[np.floor(first + at + 0.5).astype(int)]

    def read(self, path):
        """All frames, and when each is shown; of a folder of pictures, which become a
        folder of PNG again, nothing says it."""
        clip = read_clip(path)
        values = alike(clip.frames)
        if path.is_dir():
            return Record(values)
        suffix = ".gif" if is_gif(path) else ".mp4"
        extra = pack_times(clip.times)
        return Record(values, rate_of(clip.times) or RATE, suffix=suffix, extra=extra)

    def dropped(self, path, record):
        yield from record.more.get("dropped", ())
        yield from dropped.of_clip(path)

    def new(self, values, rate, names=()):
        return super().new(values, rate or RATE)

    def write(self, record):
        if not record.suffix:
            digits = max(6, len(str(len(record.values) - 1)))
            return {
                f"{i:0{digits}d}.png": png(frame)
                for i, frame in enumerate(record.values)
            }
        frames = np.repeat(record.values, 4 - record.values.shape[-1], -1)[..., :3]
        times = unpack_times(record.extra, len(frames), record.rate)
        return (write_gif if record.suffix == ".gif" else write_mp4)(frames, times)

    def reread(self, path, record):
        values = super().reread(path, record)
        times = read_clip(path).times
        if times is None:
            return np.broadcast_to(values, (len(record.values), *values.shape[1:]))
        # A frame that is equal to the one before is no frame of a GIF, but that one
        # is shown for longer: each is looked at in the middle of its time.
        own = unpack_times(record.extra, len(record.values), record.rate)
        return values[shown(times, (own[1:] + own[:-1]) / 2)]

    def regrid(self, record, to):
        times = unpack_times(record.extra, len(record.values), record.rate)
        count = max(1, round(times[-1] * to))
        check_growth(count, len(times), f"lasts {times[-1]:g} s")
        moments = np.arange(count) / to
        values = record.values[shown(times, moments)]
        return dataclasses.replace(record, values=values, rate=to)

    def regridded(self, values, rate, record):
        times = unpack_times(record.extra, len(record.values), record.rate)
        at = np.rint(times[:-1] * rate).astype(int)
        return values[np.minimum(at, len(values) - 1)]

    @classmethod
    def axes(cls, x, units):
        return (units.along(len(x)) if units.rate else None), None, ""

    @classmethod
    def show(cls, x):
        """All frames of a clip in a row."""
        return super().show(np.stack([grid(clip, len(clip)) for clip in x]))
