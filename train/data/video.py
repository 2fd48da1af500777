"""Video: moving digits made on the fly, or a folder of clips and of frames."""

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from train.data.augment import Draws, ImageAugment
from train.data.clips import read_frames
from train.data.files import check_choices, check_sizes, check_split, open_files
from train.data.generated import digit_pictures, moving_digits, rng
from train.data.images import Unreadable, fit
from train.data.signals import Batch, Signals
from train.data.sources import chance
from train.errors import BadInput

Name = Literal["moving_digits", "moving_mnist", "folder"]
EXTENSIONS = frozenset(".gif .mp4 .webm .mov .mkv .avi".split(" "))
VIDEO, TRAIN, TEST, START = 64, 1, 2, 65  # words of the draws behind generated clips


@dataclasses.dataclass(frozen=True)
class Video(Signals):
    """Clips of an experiment, uint8 (frames, size, size, channels).

    name:      "moving_digits" (scikit-learn's digits, which need no download),
               "moving_mnist" (of a prepared TFDS set in data_dir), or "folder".
    data_dir:  for "folder": GIF and video files, or folders that hold the frames of a
               clip as pictures, in the order of their names; classes are sub-folders.
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

    name: Name = "moving_digits"
    data_dir: str = ""
    frames: int = 16
    size: int = 64
    channels: int = 1
    rate: float = 0.0
    stride: int = 0
    digits: int = 2
    examples: int = 10_000
    seed: int = 0
    boxes: bool = False
    augment: ImageAugment | None = None
    train_split: str = "train"
    test_split: str = "test"
    holdout: float = 0.2
    bad_share: float = 0.01
    threads: int = 4

    def __post_init__(self):
        check_choices(self, name=Name)
        check_sizes(self, frames=1, size=1, stride=0, digits=1, examples=10, rate=0)
        if self.channels not in (1, 3):
            raise BadInput(f"data.channels={self.channels}: write 1 (grey) or 3 (RGB)")
        if self.boxes and self.name == "folder":
            raise BadInput("data.boxes=True: only generated clips know their boxes")
        check_split(self)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(frames, size, size, channels)."""
        return (self.frames, self.size, self.size, self.channels)

    def open(self, train: bool) -> "Moving | Clips":
        return Clips(self, train) if self.name == "folder" else Moving(self, train)


class Moving:
    """Examples of digits that bounce off the walls, made when they are asked for.

    The label is the digit's where there is one, else -1.
    """

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __init__(self, video: Video, train: bool):
        self.video, self._part = video, TRAIN if train else TEST
        source = "mnist" if video.name == "moving_mnist" else "digits"
        self._pictures, self._labels = digit_pictures(source, video.data_dir, train)
        alone = video.digits == 1
        self.class_names = tuple("0123456789") if alone else ()
        self.classes = len(self.class_names)

    def __len__(self) -> int:
        return self.video.examples if self._part == TRAIN else self.video.examples // 10

    def take(self, indices: np.ndarray) -> Batch:
        return self._made(indices, np.ones(len(indices)))

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        augment = self.video.augment
        if augment is None:
            return self.take(indices)
        draws = Draws(seed, epochs, indices)
        return augment(self._made(indices, augment.paces(draws)), "video", draws)

    def _made(self, indices: np.ndarray, paces: np.ndarray) -> Batch:
        video = self.video
        clips = np.empty((len(indices), *video.shape), np.uint8)
        boxes = np.empty((len(indices), video.frames, video.digits, 4), np.float32)
        label = np.full(len(indices), -1, np.int32)
        for row, (index, pace) in enumerate(zip(indices, paces, strict=True)):
            clip, boxes[row], first = moving_digits(
                self._pictures,
                video.size,
                np.arange(video.frames) * pace,
                video.digits,
                rng(VIDEO, video.seed, self._part, int(index)),
            )
            clips[row] = clip[..., None]  # grey, the same in every channel
            if video.digits == 1:
                label[row] = self._labels[first]
        batch = {"video": clips, "label": label}
        return batch | {"boxes": boxes} if video.boxes else batch


class Clips:
    """Examples cut from the files of a folder."""

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __init__(self, video: Video, train: bool):
        self.video = video
        read = functools.partial(read_clip, video=video)
        self.files = open_files(video, EXTENSIONS, train, read, folders=True)
        self.class_names = self.files.class_names
        self.classes = len(self.class_names)
        self.refused, self.found = self.files.refused, self.files.found
        step = video.stride or video.frames
        self._clips = np.array(
            [
                (i, start)
                for i in range(len(self.files))
                for start in range(0, len(self.files[i]) - video.frames + 1, step)
            ]
        )

    def __len__(self) -> int:
        return len(self._clips)

    def take(self, indices: np.ndarray) -> Batch:
        return self._cut(indices, np.arange(self.video.frames)[None])

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        augment, frames = self.video.augment, self.video.frames
        if augment is None:
            return self.take(indices)
        draws = Draws(seed, epochs, indices)
        at = augment.paces(draws)[:, None] * np.arange(frames)
        batch = self._cut(indices, at, chance(START, seed, epochs, indices))
        return augment(batch, "video", draws)

    def _cut(self, indices, at, place=None) -> Batch:
        """Frames `at` after the start of each clip, the nearest there are.

        Where that reaches beyond the file the start moves back, and where even that is
        not enough the pace is brought down to what the file has.
        """
        out = np.empty((len(indices), *self.video.shape), np.uint8)
        rows = self._clips[indices]
        for i, (file, start) in enumerate(rows):
            clip, way = self.files[int(file)], at[i % len(at)]
            last = len(clip) - 1
            way = way * min(1.0, last / max(way[-1], 1e-9))
            first = min(float(start), last - way[-1])
            if place is not None and way[-1] < self.video.frames - 1:
                # Slower than recorded: any part of the clip's time, not its beginning.
                first += place[i] * min(
                    self.video.frames - 1 - way[-1], last - first - way[-1]
                )
            out[i] = clip[np.floor(first + way + 0.5).astype(int)]
        return {"video": out, "label": self.files.labels[rows[:, 0]]}


def read_clip(path: Path, video: Video) -> UInt8[np.ndarray, "n s s c"]:
    """All frames of a file or folder, fitted to the size; Unreadable if too few."""
    frames, rate = read_frames(path)
    if video.rate and rate and frames:
        count = max(1, round(len(frames) * video.rate / rate))
        at = np.floor(np.arange(count) * rate / video.rate + 0.5).astype(int)
        frames = [frames[i] for i in np.minimum(at, len(frames) - 1)]
    elif video.rate and not rate:
        raise Unreadable(f"states no frame rate, and data.rate={video.rate:g} needs it")
    if len(frames) < video.frames:
        raise Unreadable(f"{len(frames)} frames, fewer than data.frames={video.frames}")
    return np.stack([fit(frame, video.size, video.channels) for frame in frames])
