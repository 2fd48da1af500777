"""Sound: which recordings an experiment reads, and how they become (length, 1)."""

import dataclasses
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float

from train.data.augment import Draws, SeriesAugment
from train.data.clean_audio import AudioCleaning
from train.data.files import check_sizes
from train.data.recordings import open_recordings
from train.data.signals import Batch, Signals
from train.data.sources import PLACE
from train.errors import BadInput

Crop = Literal["start", "center", "random"]


@dataclasses.dataclass(frozen=True)
class Audio(Signals):
    """Recordings of an experiment, float32 (length, 1) in about [-1, 1].

    name:     "tones" (generated), "folder" of WAV, FLAC and OGG files, "npz", or a
              prepared TFDS set with one feature of sound, such as "spoken_digit".
    data_dir: the folder, the .npz file, or the TFDS data directory ("": TFDS's own).
    rate:     samples a second; recordings of another are resampled. Several channels
              are averaged.
    length:   samples of an example. A longer recording is cut, a shorter one has zeros
              put around it.
    crop:     where the window lies while training: "random" is anywhere it fits.
              Evaluation takes the start with "start", else the centre.
    clean:    see AudioCleaning.
    augment:  while training; `shift` moves the window further, over zeros if need be.
    train_split, test_split: TFDS splits, or sub-folders (.npz files) of data_dir; where
              those are missing, holdout divides the data.
    holdout:  share kept for testing, by a hash of the file name or index. Or a rule
              over names such as 7_jackson_32.wav: "takes:0-4", "speaker:theo".
    bad_share: share of unreadable files that is skipped rather than refused.
    threads:  workers that read and decode; 0 reads in the caller's own thread.
    download: may TFDS use the network to prepare a missing set.
    """

    kind: ClassVar[str] = "audio"
    channels: ClassVar[int] = 1

    name: str = "tones"
    data_dir: str = ""
    rate: int = 8000
    length: int = 8192
    crop: Crop = "center"
    clean: AudioCleaning = AudioCleaning()
    augment: SeriesAugment | None = None
    train_split: str = "train"
    test_split: str = "test"
    holdout: float | str = 0.2
    bad_share: float = 0.01
    threads: int = 4
    download: bool = False

    def __post_init__(self):
        if not self.name:
            raise BadInput("data.name is empty: write tones, folder, npz or a TFDS set")
        if self.crop not in get_args(Crop):
            raise BadInput(
                f"data.crop={self.crop!r}: write {', '.join(get_args(Crop))}"
            )
        check_sizes(self, rate=1, length=1, threads=0)
        for field in ("holdout", "bad_share"):
            value = getattr(self, field)
            if not isinstance(value, str) and not 0 <= value < 1:
                raise BadInput(f"data.{field}={value}: write a share in [0, 1)")
        if self.name == "tones" and isinstance(self.holdout, str):
            raise BadInput(
                f"data.holdout={self.holdout!r}: tones have no names; write a share"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(length, 1)."""
        return (self.length, 1)

    @property
    def preparation(self) -> tuple[tuple[str, bool | float | None], ...]:
        clean = self.clean
        return (
            ("dc", clean.dc),
            ("peak", clean.peak),
            ("loudness", clean.loudness),
        )

    def open(self, train: bool) -> "Sounds":
        return Sounds(self, train)


class Sounds:
    """Examples of one part: recordings cut or padded to one length.

    findings: what `train.inspect` says of the recordings as they were: the shares that
        are shorter than an example, longer, and silent throughout.
    """

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __init__(self, audio: Audio, train: bool):
        self.audio = audio
        self.clips, self.class_names = open_recordings(audio, train)
        self.classes = len(self.class_names)
        self.refused, self.found = self.clips.refused, self.clips.found

    def __len__(self) -> int:
        return len(self.clips)

    def lengths(self) -> np.ndarray:
        """Samples of every recording, at the data's rate."""
        return np.array([len(self.clips[i]) for i in range(len(self))])

    @property
    def findings(self) -> dict[str, list[float]]:
        lengths = self.lengths()
        silent = [not self.clips[i].any() for i in range(len(self))]
        return {
            "shorter_share": [float((lengths < self.audio.length).mean())],
            "longer_share": [float((lengths > self.audio.length).mean())],
            "silent_share": [float(np.mean(silent))],
        }

    def take(self, indices: np.ndarray) -> Batch:
        at = 0.0 if self.audio.crop == "start" else 0.5
        return self._cut(indices, np.full(len(indices), at))

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        draws, augment = Draws(seed, epochs, indices), self.audio.augment
        if self.audio.crop == "random":
            place = draws(PLACE)
        else:
            at = 0.0 if self.audio.crop == "start" else 0.5
            place = np.full(len(indices), at)
        if augment is None:
            return self._cut(indices, place)
        batch = self._cut(indices, place, augment.shifts(draws))
        return batch | {"audio": augment(batch["audio"], draws).astype(np.float32)}

    def _cut(self, indices, place, shift=None) -> Batch:
        length = self.audio.length
        shift = np.zeros(len(indices), int) if shift is None else shift
        x = [
            window(self.clips[int(i)], length, at, by)
            for i, at, by in zip(indices, place, shift, strict=True)
        ]
        return {"audio": np.stack(x)[..., None], "label": self.clips.labels[indices]}


def window(
    x: Float[np.ndarray, "l"], length: int, place: float, shift: int = 0
) -> Float[np.ndarray, "length"]:
    """`length` samples of x, zeros where x has none.

    place in [0, 1) slides the window over a longer recording, or a shorter recording
    through the window; `shift` moves it on by as many samples.
    """
    slack = len(x) - length
    first = int(place * (abs(slack) + 1)) * (1 if slack >= 0 else -1) + shift
    out = np.zeros(length, x.dtype)
    low, high = max(0, -first), min(length, len(x) - first)
    if low < high:
        out[low:high] = x[first + low : first + high]
    return out
