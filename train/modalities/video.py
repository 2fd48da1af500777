"""Video: clips of one square size and length."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from train.errors import Unreadable, reading
from train.modalities.augment import ImageAugment
from train.modalities.draws import Word
from train.modalities.files import natural, stored
from train.modalities.image import STILLS, Pixels, decode_picture, fit_square, opaque
from train.modalities.modality import Batch, Record
from train.modalities.shown import grid, png
from vqdit.fields import Bound, Count, Natural, NonNegative

Name = Literal["moving_digits", "moving_mnist", "folder"]
RATE = 10.0  # frames a second of a clip that does not say, as browsers have it


@dataclasses.dataclass(frozen=True)
class Video(Pixels):
    """Clips, uint8 (frames, size, size, channels).

    name:      "moving_digits" (scikit-learn's digits, which need no download),
               "moving_mnist" (of a prepared TFDS set in data_dir), or "folder" of GIF
               and video files, or of folders that hold the frames of a clip as
               pictures, in the order of their names; classes are sub-folders.
    frames:    of one example. A longer file gives several clips, `stride` frames apart
               (0: as many as `frames`, so that they do not overlap).
    rate:      frames a second. 0 takes those that are stored; otherwise the nearest
               stored frame is taken for each moment, not of a folder of frames.
    digits, examples, seed: of generated clips. There are `examples` to train on, and a
               tenth as many, of test digits, to test on.
    boxes:     generated clips come with "boxes", float32 (frames, digits, 4): x0, y0,
               x1, y1 in shares of the side.
    """

    kind: ClassVar[str] = "video"
    measures: ClassVar[str] = "clips"
    folders: ClassVar[bool] = True
    wide: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        ".gif .mp4 .m4v .webm .mov .mkv .avi .mpg .mpeg .ogv .3gp".split()
    )

    name: Name = "moving_digits"
    frames: Count = 16
    size: Count = 64
    channels: int = 1
    rate: NonNegative = 0.0
    stride: Natural = 0
    digits: Count = 2
    examples: Annotated[int, Bound(at_least=10)] = 10_000
    seed: int = 0
    boxes: bool = False
    augment: ImageAugment | None = None

    def __post_init__(self):
        super().__post_init__()
        known = not self.boxes or self.name != "folder"
        self.check("boxes", known, "only generated clips know their boxes")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.frames, self.size, self.size, self.channels)

    def load(self, path, share=(0.0, 1.0)):
        frames, rate = read_frames(path)
        if self.rate and rate and frames:
            count = max(1, round(len(frames) * self.rate / rate))
            at = np.floor(np.arange(count) * rate / self.rate + 0.5).astype(int)
            frames = [frames[i] for i in np.minimum(at, len(frames) - 1)]
        elif self.rate and not rate:
            raise Unreadable(
                f"states no frame rate, and data.rate={self.rate:g} needs it"
            )
        if len(frames) < self.frames:
            raise Unreadable(
                f"{len(frames)} frames, fewer than data.frames={self.frames}"
            )
        fitted = [fit_square(frame, self.size, self.channels) for frame in frames]
        return Record(np.stack(fitted), self.rate or rate)

    def starts(self, record):
        if "at" in record.more:  # made as it is asked for
            return (0,)
        last = len(record.values) - self.frames
        return range(0, last + 1, self.stride or self.frames)

    @property
    def drawn(self):
        return bool(self.augment and self.augment.pace)

    def cut(self, records, starts, draws) -> Batch:
        paces, place = np.ones(len(records)), np.full(len(records), None)
        if draws is not None and self.augment is not None:
            paces, place = self.augment.paces(draws), draws(Word.START)
        clips = np.empty((len(records), *self.shape), np.uint8)
        boxes = np.empty((len(records), self.frames, self.digits, 4), np.float32)
        for i, (record, pace) in enumerate(zip(records, paces, strict=True)):
            at = np.arange(self.frames) * pace
            if "at" in record.more:
                clip, boxes[i] = record.more["at"](at)
                clips[i] = clip[..., None]  # grey, the same in every channel
            else:
                clips[i] = self._clip(record.values, starts[i], at, place[i])
        return {"x": clips} | ({"boxes": boxes} if self.boxes else {})

    def _clip(self, clip, start, at, place):
        """Frames `at` after the start of a clip, the nearest there are.

        Where that reaches beyond the file the start moves back, and where even that is
        not enough the pace is brought down to what the file has.
        """
        last = len(clip) - 1
        at = at * min(1.0, last / max(at[-1], 1e-9))
        first = min(float(start), last - at[-1])
        if place is not None and at[-1] < self.frames - 1:
            # Slower than recorded: any part of the clip's time, not its beginning.
            first += place * min(self.frames - 1 - at[-1], last - first - at[-1])
        return clip[np.floor(first + at + 0.5).astype(int)]

    def read(self, path):
        """All frames; of a folder of pictures, which become a folder of PNG again."""
        frames, rate = read_frames(path)
        if path.is_dir():
            return Record(alike(frames))
        suffix = ".gif" if path.suffix.lower() == ".gif" else ".mp4"
        return Record(np.stack(frames), rate or RATE, suffix=suffix)

    def write(self, record):
        if not record.suffix:
            digits = max(6, len(str(len(record.values) - 1)))
            return {
                f"{i:0{digits}d}.png": png(frame)
                for i, frame in enumerate(record.values)
            }
        frames = np.repeat(record.values, 4 - record.values.shape[-1], -1)[..., :3]
        file = io.BytesIO()
        if record.suffix == ".gif":
            pictures = [Image.fromarray(frame) for frame in frames]
            # GIF counts in hundredths; players take less than two for a mistake.
            duration = max(20, round(1000 / record.rate / 10) * 10)
            pictures[0].save(
                file,
                "gif",
                save_all=True,
                append_images=pictures[1:],
                duration=duration,
                loop=0,
            )
            return file.getvalue()
        import imageio.v3 as imageio

        # Colour at full resolution, which also allows odd sizes.
        with imageio.imopen(file, "w", plugin="pyav", extension=".mp4") as out:
            out.init_video_stream(
                "libx264", fps=float(record.rate), pixel_format="yuv444p"
            )
            out._video_stream.options = {"crf": "10"}
            for frame in frames:
                out.write_frame(frame)
        return file.getvalue()

    def resample(self, values, rate, to):
        count = max(1, round(len(values) * to / rate))
        places = np.round(np.arange(count) * rate / to).astype(int)
        return values[np.minimum(places, len(values) - 1)]

    @classmethod
    def show(cls, x):
        """All frames of a clip in a row."""
        return super().show(np.stack([grid(clip, len(clip)) for clip in x]))


def read_frames(path: Path) -> tuple[list[UInt8[np.ndarray, "h w c"]], float]:
    """(frames as they are shown, frames a second, 0 where nothing says it).

    Raises Unreadable, of a folder naming the picture.
    """
    if path.is_dir():
        return [_picture(still) for still in stills(path)], 0.0
    frames, rate = (_gif if path.suffix.lower() == ".gif" else _stream)(path)
    if not frames:
        raise Unreadable("it holds no frame")
    return frames, rate


def stills(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their names and of numbers in them."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in STILLS and not path.name.startswith(".")
    )
    return sorted(found, key=lambda path: natural(path.name))


def _picture(path: Path) -> UInt8[np.ndarray, "h w c"]:
    try:
        return decode_picture(stored(path), upright=True)
    except Unreadable as error:
        raise Unreadable(f"{path.name}: {error}") from error


def _gif(path):
    frames, durations = [], []
    with reading("no GIF file"), Image.open(path, formats=("GIF",)) as picture:
        # Each frame of a GIF changes a part of the one before; Pillow puts it in.
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info.get("duration", 0))
    mean = float(np.mean(durations)) / 1000
    return frames, 1 / mean if mean else 0.0


def _stream(path):
    import imageio.v3 as imageio  # slow to import, and of use only here

    with reading("not a whole video"), imageio.imopen(path, "r", plugin="pyav") as file:
        rate = float(file.metadata().get("fps", 0.0))
        return list(file.iter(format="rgb24")), rate


def alike(frames: Sequence[np.ndarray]) -> UInt8[np.ndarray, "f h w c"]:
    """Pictures of a folder as one clip: opaque, and grey only where all are."""
    frames = [opaque(frame) for frame in frames]
    sizes = {frame.shape[:2]: None for frame in frames}
    if len(sizes) > 1:
        (a, b), (c, d), *_ = sizes
        raise Unreadable(f"it has frames of {a}x{b} and of {c}x{d}; write one size")
    channels = max(frame.shape[-1] for frame in frames)
    grown = [np.repeat(f, channels // f.shape[-1], axis=-1) for f in frames]
    return np.stack(grown)
