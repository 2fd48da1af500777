"""Sensor series: CSV, Parquet and .npz files, or generated ones with a known truth."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from train.data.augment import Draws, SeriesAugment
from train.data.clean import UNCLEANED, Cleaned, Cleaning, clean
from train.data.files import Files, check_choices, check_sizes, check_split, open_files
from train.data.generated import rng, sensor_series
from train.data.normalise import Rule
from train.data.parts import Made, Part
from train.data.signals import Batch, Signals
from train.data.tables import EXTENSIONS, read_columns
from train.errors import BadInput

Name = Literal["generated", "folder"]
SERIES = 80


@dataclasses.dataclass(frozen=True)
class Series(Signals):
    """Windows of sensor recordings, float32 (length, channels), about [-1, 1].

    name:      "generated" (sinusoids with harmonics and drift, and what a poor sensor
               makes of them), or "folder" of .csv, .parquet and .npz files, one
               recording each. data_dir may also be one file, whose last share, as large
               as holdout, is then the held-out part. Classes are sub-folders.
    columns:   of the files, in this order; (): all of them, but for `time`.
    time:      the column of a table that holds the times: seconds, or dates. An .npz
               names the times of its array X "X_time", or its rate "X_rate".
    rate:      samples a second of the one clock that everything is brought to. 0: rows
               are samples of one clock already.
    longest_gap: seconds between samples that interpolation onto the clock may bridge;
               0: 2.5 steps.
    stride:    samples between windows; 0: `length`, so that they do not overlap.
    cleaning:  see train.data.clean; None does nothing but to write 0 into gaps.
    normalise: see train.data.normalise; fitted on the known values of the training
               recordings.
    mask_channels: a channel of 1 (known) and -1 (filled) behind those of the signal,
               for each of them.
    examples, missing, spikes, noise, seed: of generated series: `examples` to train on
               and an eighth to test on, the share missing, the share of spikes, the
               white noise.
    """

    kind: ClassVar[str] = "series"
    masked: ClassVar[bool] = True

    name: Name = "generated"
    data_dir: str = ""
    length: int = 256
    channels: int = 3
    columns: tuple[str, ...] = ()
    time: str = ""
    rate: float = 0.0
    longest_gap: float = 0.0
    stride: int = 0
    cleaning: Cleaning | None = Cleaning()
    normalise: Rule = "standard"
    mask_channels: bool = False
    examples: int = 2048
    missing: float = 0.1
    spikes: float = 0.01
    noise: float = 0.1
    seed: int = 0
    augment: SeriesAugment | None = None
    train_split: str = "train"
    test_split: str = "test"
    holdout: float = 0.2
    bad_share: float = 0.01
    threads: int = 4

    def __post_init__(self):
        check_choices(self, name=Name, normalise=Rule)
        check_sizes(self, length=2, channels=1, stride=0, examples=8, rate=0, noise=0)
        for field in ("missing", "spikes"):
            if not 0 <= getattr(self, field) < 1:
                raise BadInput(
                    f"data.{field}={getattr(self, field)}: write a share in [0, 1)"
                )
        if self.time and not self.rate:
            raise BadInput(
                f"data.time={self.time!r} needs data.rate, the samples a second of the "
                "clock that the series are brought to"
            )
        if self.columns and self.name == "generated":
            raise BadInput("data.columns: generated series have none; leave it out")
        check_split(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(length, channels), twice the channels with mask_channels."""
        return (self.length, self.channels * (1 + self.mask_channels))

    @property
    def preparation(self) -> tuple[tuple[str, Any], ...]:
        cleaning = dataclasses.asdict(self.cleaning or UNCLEANED)
        return (
            ("columns", self.columns),
            ("time", self.time),
            ("cleaning", tuple(cleaning.items())),
            ("mask_channels", self.mask_channels),
            *((("longest_gap", self.longest_gap),) if self.longest_gap else ()),
        )

    def open(self, train: bool) -> "Windows":
        return Windows(self, train)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cleaned training recordings, for the statistics: known values only."""
        recordings = _recordings(self, True)
        for i in range(len(recordings)):
            yield recordings[i].values, recordings[i].known

    def identity(self) -> str:
        return _recordings(self, True).identity


class Generated(Made):
    """Generated recordings of one window each.

    truth: (n, length, channels) without noise, gaps and spikes.
    """

    def __init__(self, series: Series, train: bool):
        super().__init__(series, train)
        made = [
            sensor_series(
                series.length,
                series.channels,
                rng(SERIES, series.seed, self.part, i),
                series.missing,
                series.spikes,
                series.noise,
            )
            for i in range(self.found)
        ]
        self.truth = np.stack([truth for truth, _ in made]).astype(np.float32)
        self._cleaned = [
            clean(measured, series.cleaning or UNCLEANED) for _, measured in made
        ]

    def __getitem__(self, index: int) -> Cleaned:
        return self._cleaned[index]


# Statistics and both parts read the same recordings; reading them once is enough.
@functools.lru_cache(maxsize=4)
def _recordings(series: Series, train: bool) -> "Files | Generated":
    if series.name == "generated":
        return Generated(series, train)
    share = (0.0, 1.0)
    if Path(series.data_dir).expanduser().is_file():
        share = (0.0, 1 - series.holdout) if train else (1 - series.holdout, 1.0)
        if not train and not series.holdout:
            raise BadInput(
                "data.holdout=0 keeps nothing for testing; write for example 0.1"
            )
    read = functools.partial(_recording, series=series, share=share)
    return open_files(series, EXTENSIONS, train, read, single=True)


def _recording(path: Path, series: Series, share: tuple[float, float]) -> Cleaned:
    raw = read_columns(path, series, share)
    return clean(raw, series.cleaning or UNCLEANED)


class Windows(Part):
    """Examples of one part: cleaned windows, normalised.

    take() gives "series" and "mask", 1 where the value was measured and believed, and
    of generated series "truth", normalised alike.

    findings: what `train.inspect` says of the recordings as they were stored.
    """

    def __init__(self, series: Series, train: bool):
        super().__init__(series, _recordings(series, train))
        masks = (0.5,) * series.channels if series.mask_channels else ()
        self.offset, self.scale = self.offset + masks, self.scale + masks
        step = series.stride or series.length
        self._windows = np.array(
            [
                (i, start)
                for i in range(len(self.items))
                for start in range(
                    0, len(self.items[i].values) - series.length + 1, step
                )
            ]
        )

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def findings(self) -> dict:
        count = len(self.items)
        all_of = [self.items[i] for i in range(count)]
        weights = np.array([len(each.values) for each in all_of], float)
        weights /= weights.sum()
        missing = weights @ np.array([each.missing for each in all_of])
        outliers = weights @ np.array([each.outliers for each in all_of])
        constant = np.array([each.constant for each in all_of]).sum(0)
        return {
            "recordings": count,
            "missing_share": missing.tolist(),
            "outlier_share": outliers.tolist(),
            "recordings_where_constant": constant.tolist(),
        }

    def take(self, indices: np.ndarray) -> Batch:
        batch, values = self._cut(indices, np.zeros(len(indices), int))
        batch["series"] = self._signal(self.normaliser(values), batch["mask"])
        batch["mask"] = self._mask(batch["mask"])
        if isinstance(self.items, Generated):
            rows = self._windows[indices, 0]
            batch["truth"] = self.normaliser(self.items.truth[rows])
        return batch

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        augment = self.data.augment or SeriesAugment()
        draws = Draws(seed, epochs, indices)
        batch, values = self._cut(indices, augment.shifts(draws))
        x = augment(self.normaliser(values), draws).astype(np.float32)
        batch["series"] = self._signal(x, batch["mask"])
        batch["mask"] = self._mask(batch["mask"])
        return batch

    def _cut(self, indices: np.ndarray, shifts: np.ndarray) -> tuple[Batch, np.ndarray]:
        length = self.data.length
        values = np.empty((len(indices), length, self.data.channels), np.float32)
        mask = np.empty(values.shape, np.float32)
        rows = self._windows[indices]
        for i, ((which, start), shift) in enumerate(zip(rows, shifts, strict=True)):
            recording = self.items[int(which)]
            first = min(max(start + shift, 0), len(recording.values) - length)
            values[i] = recording.values[first : first + length]
            mask[i] = recording.known[first : first + length]
        return {"mask": mask, "label": self.items.labels[rows[:, 0]]}, values

    def _signal(self, x: Float[np.ndarray, "b l c"], mask: np.ndarray) -> np.ndarray:
        if not self.data.mask_channels:
            return x
        return np.concatenate([x, 2 * mask - 1], -1)

    def _mask(self, mask: np.ndarray) -> np.ndarray:
        """What is known of every channel: of whether a value is known, always."""
        if not self.data.mask_channels:
            return mask
        return np.concatenate([mask, np.ones_like(mask)], -1)
