"""Range images: sweeps of a turning lidar, from files or of a generated street."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from train.data.augment import Draws, RangeAugment
from train.data.files import (
    Files,
    check_choices,
    check_sizes,
    check_split,
    load_arrays,
    open_files,
)
from train.data.generated import rng, scene
from train.data.images import Unreadable
from train.data.normalise import Rule
from train.data.parts import Made, Part
from train.data.signals import Batch, Signals
from train.errors import BadInput

Name = Literal["scenes", "folder"]
EXTENSIONS = frozenset((".npy", ".npz"))
RANGE = 96


@dataclasses.dataclass(frozen=True)
class Ranges(Signals):
    """Sweeps of an experiment, float32 (rows, azimuth, channels), about [-1, 1].

    name:      "scenes" (a street of boxes and walls, rays cast), or "folder" of .npy
               and .npz files (array "range", or the only one): (rows, azimuth) or
               (rows, azimuth, channels), range in metres first. Azimuth wraps around.
    far:       metres that stand where a beam did not return: NaN, 0 or less in the
               first channel. Other channels are 0 there, and the mask is 0 in all.
    normalise: see train.data.normalise; fitted on what returned in the training sweeps.
    examples, noise, seed: of scenes: `examples` to train on, an eighth to test on.
    """

    kind: ClassVar[str] = "range"
    masked: ClassVar[bool] = True

    name: Name = "scenes"
    data_dir: str = ""
    rows: int = 32
    azimuth: int = 256
    channels: int = 1
    far: float = 80.0
    normalise: Rule = "range"
    examples: int = 512
    noise: float = 0.02
    seed: int = 0
    augment: RangeAugment | None = None
    train_split: str = "train"
    test_split: str = "test"
    holdout: float = 0.2
    bad_share: float = 0.01
    threads: int = 4

    def __post_init__(self):
        check_choices(self, name=Name, normalise=Rule)
        check_sizes(self, rows=1, azimuth=1, channels=1, examples=8, noise=0)
        if not self.far > 0:
            raise BadInput(f"data.far={self.far}: write metres, above 0")
        if self.name == "scenes" and self.channels != 1:
            raise BadInput(f"data.channels={self.channels}: scenes have 1")
        check_split(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, azimuth, channels)."""
        return (self.rows, self.azimuth, self.channels)

    @property
    def preparation(self) -> tuple[tuple[str, float], ...]:
        return (("far", self.far),)

    def open(self, train: bool) -> "Sweeps":
        return Sweeps(self, train)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What returned in the training sweeps, for the statistics."""
        sweeps = _sweeps(self, True)
        for i in range(len(sweeps)):
            x, mask = split_sweep(sweeps[i], self.far)
            yield x.reshape(-1, self.channels), mask.reshape(-1, self.channels) > 0

    def identity(self) -> str:
        return _sweeps(self, True).identity


class Scenes(Made):
    """Generated sweeps, kept once made."""

    def __init__(self, ranges: Ranges, train: bool):
        super().__init__(ranges, train)
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, index: int) -> Float[np.ndarray, "rows azimuth c"]:
        if index not in self._kept:
            r = self.data
            draw = rng(RANGE, r.seed, self.part, index)
            x = scene(r.rows, r.azimuth, draw, r.far, r.noise)
            self._kept[index] = x.astype(np.float32)[..., None]
        return self._kept[index]


@functools.lru_cache(maxsize=4)
def _sweeps(ranges: Ranges, train: bool) -> "Files | Scenes":
    if ranges.name == "scenes":
        return Scenes(ranges, train)
    read = functools.partial(read_sweep, ranges=ranges)
    return open_files(ranges, EXTENSIONS, train, read)


class Sweeps(Part):
    """Examples of one part, normalised: take() gives "range" and "mask", 1 where a beam
    returned."""

    def __init__(self, ranges: Ranges, train: bool):
        super().__init__(ranges, _sweeps(ranges, train))

    def take(self, indices: np.ndarray) -> Batch:
        pairs = [split_sweep(self.items[int(i)], self.data.far) for i in indices]
        x, mask = (np.stack(part) for part in zip(*pairs, strict=True))
        label = self.items.labels[indices]
        return {"range": self.normaliser(x), "mask": mask, "label": label}

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        batch = self.take(indices)
        if self.data.augment is None:
            return batch
        return self.data.augment(batch, "range", Draws(seed, epochs, indices))


def split_sweep(sweep: np.ndarray, far: float) -> tuple[np.ndarray, np.ndarray]:
    """(values without holes, mask), of one shape."""
    with np.errstate(invalid="ignore"):
        hit = np.isfinite(sweep).all(-1, keepdims=True) & (sweep[..., :1] > 0)
    rest = np.zeros(sweep.shape[-1], np.float32)
    rest[0] = far
    x = np.where(hit, sweep, rest).astype(np.float32)
    return x, np.broadcast_to(hit, sweep.shape).astype(np.float32)


def read_sweep(path: Path, ranges: Ranges) -> Float[np.ndarray, "rows azimuth c"]:
    """One sweep; Unreadable where it is not of the stated size."""
    arrays = load_arrays(path)
    sweep = arrays.get("range", next(iter(arrays.values()), None))
    if sweep is None or ("range" not in arrays and len(arrays) > 1):
        raise Unreadable(f"no array 'range', only {sorted(arrays)}")
    if sweep.ndim == 2:
        sweep = sweep[..., None]
    if sweep.shape != ranges.shape:
        raise Unreadable(
            f"is {list(sweep.shape)}, where data.rows, azimuth and channels ask for "
            f"{list(ranges.shape)}"
        )
    sweep = np.asarray(sweep, np.float32)
    with np.errstate(invalid="ignore"):
        if not (np.isfinite(sweep[..., 0]) & (sweep[..., 0] > 0)).any():
            raise Unreadable("no beam returned")
    return sweep
