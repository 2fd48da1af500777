"""Volumes: scans from .npy, .npz and NIfTI files, or phantoms made on the fly."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from train.data.augment import Draws, VolumeAugment
from train.data.files import (
    Files,
    check_choices,
    check_sizes,
    check_split,
    load_arrays,
    open_files,
)
from train.data.generated import phantom, rng
from train.data.images import Unreadable
from train.data.normalise import Rule
from train.data.parts import Made, Part
from train.data.signals import Batch, Signals
from train.data.sources import chance
from train.errors import BadInput

Name = Literal["phantoms", "folder"]
EXTENSIONS = frozenset((".npy", ".npz", ".nii", ".gz"))
VOLUME, CORNER = 66, 67


@dataclasses.dataclass(frozen=True)
class Volumes(Signals):
    """Scans of an experiment, float32 (d, h, w, channels), in about [-1, 1].

    name:      "phantoms" (nested ellipsoids with noise), or "folder" of .npy, .npz
               (array "volume", or the only one) and NIfTI files (.nii, .nii.gz; needs
               nibabel); (d, h, w) or (d, h, w, c). Classes are sub-folders.
    size:      (d, h, w) of an example. A larger scan is cut at its centre, in training
               anywhere; a smaller one is padded with its least value. With resize=True
               the whole scan is resampled to it instead (linear, antialiased).
    window:    (low, high) that intensities are clipped to first, such as (-160, 240)
               for soft tissue in Hounsfield units; (): not clipped.
    normalise: see train.data.normalise; fitted on the training scans.
    examples, noise, seed: of phantoms: `examples` to train on, an eighth to test on.
    """

    kind: ClassVar[str] = "volume"

    name: Name = "phantoms"
    data_dir: str = ""
    size: tuple[int, int, int] = (32, 32, 32)
    channels: int = 1
    window: tuple[float, ...] = ()
    resize: bool = False
    normalise: Rule = "range"
    examples: int = 512
    noise: float = 0.03
    seed: int = 0
    augment: VolumeAugment | None = None
    train_split: str = "train"
    test_split: str = "test"
    holdout: float = 0.2
    bad_share: float = 0.01
    threads: int = 4

    def __post_init__(self):
        check_choices(self, name=Name, normalise=Rule)
        if len(self.size) != 3 or min(self.size) < 1:
            raise BadInput(f"data.size={self.size}: write (d, h, w), each at least 1")
        if self.window and (len(self.window) != 2 or self.window[0] >= self.window[1]):
            raise BadInput(
                f"data.window={self.window}: write (low, high), low below high"
            )
        check_sizes(self, channels=1, examples=8, noise=0)
        if self.name == "phantoms" and self.channels != 1:
            raise BadInput(f"data.channels={self.channels}: phantoms have 1")
        check_split(self)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(d, h, w, channels)."""
        return (*self.size, self.channels)

    @property
    def preparation(self) -> tuple[tuple[str, tuple[float, ...]], ...]:
        return (("window", self.window),) if self.window else ()

    def open(self, train: bool) -> "Scans":
        return Scans(self, train)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Voxels of the training scans, one scan at a time, for the statistics."""
        scans = _scans(self, True)
        for i in range(len(scans)):
            values = scans[i].reshape(-1, self.channels)
            yield values, np.isfinite(values)

    def identity(self) -> str:
        return _scans(self, True).identity


class Phantoms(Made):
    """Generated scans."""

    def truth(self, index: int) -> Float[np.ndarray, "d h w c"]:
        """Without the noise."""
        return self._made(index)[0][..., None]

    def __getitem__(self, index: int) -> Float[np.ndarray, "d h w c"]:
        return self._made(index)[1].astype(np.float32)[..., None]

    def _made(self, index: int):
        v = self.data
        return phantom(v.size, rng(VOLUME, v.seed, self.part, index), v.noise)


# Statistics and both parts read the same scans; reading them once is enough.
@functools.lru_cache(maxsize=4)
def _scans(volumes: Volumes, train: bool) -> "Files | Phantoms":
    if volumes.name == "phantoms":
        return Phantoms(volumes, train)
    read = functools.partial(read_scan, volumes=volumes)
    return open_files(volumes, EXTENSIONS, train, read)


class Scans(Part):
    """Examples of one part: scans cut or resampled to one size, normalised."""

    def __init__(self, volumes: Volumes, train: bool):
        super().__init__(volumes, _scans(volumes, train))

    def take(self, indices: np.ndarray) -> Batch:
        return self._cut(indices, np.full((len(indices), 3), 0.5))

    def truth(self, indices: np.ndarray) -> Float[np.ndarray, "b d h w c"]:
        """Phantoms without their noise, normalised as the examples are."""
        if not isinstance(self.items, Phantoms):
            raise BadInput("data.name=folder: only phantoms know their truth")
        return self.normaliser(np.stack([self.items.truth(int(i)) for i in indices]))

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        place = [chance(CORNER + axis, seed, epochs, indices) for axis in range(3)]
        batch = self._cut(indices, np.stack(place, -1))
        if self.data.augment is not None:
            x = self.data.augment(batch["volume"], Draws(seed, epochs, indices))
            batch["volume"] = x.astype(np.float32)
        return batch

    def _cut(self, indices: np.ndarray, place: np.ndarray) -> Batch:
        cut = [
            fit_volume(self.items[int(i)], self.data.size, at)
            for i, at in zip(indices, place, strict=True)
        ]
        x = self.normaliser(np.stack(cut))
        return {"volume": x, "label": self.items.labels[indices]}


def read_scan(path: Path, volumes: Volumes) -> Float[np.ndarray, "d h w c"]:
    """One scan, windowed; Unreadable where it is not one of these channels."""
    if path.suffix.lower() in (".nii", ".gz"):
        try:
            scan = read_nifti(path)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
    else:
        arrays = load_arrays(path)
        scan = arrays.get("volume", next(iter(arrays.values()), None))
        if scan is None or ("volume" not in arrays and len(arrays) > 1):
            raise Unreadable(f"no array 'volume', only {sorted(arrays)}")
    if scan.ndim == 3:
        scan = scan[..., None]
    if scan.ndim != 4 or 0 in scan.shape or scan.shape[-1] != volumes.channels:
        raise Unreadable(
            f"is {list(scan.shape)}; data.channels={volumes.channels} asks for "
            f"(d, h, w, {volumes.channels}), or (d, h, w) of one channel"
        )
    scan = filled(scan)
    if volumes.window:
        scan = np.clip(scan, *volumes.window)
    return resample(scan, volumes.size) if volumes.resize else scan


def filled(scan: np.ndarray) -> np.ndarray:
    """float32, with the least there is where it is not finite.

    That is a scanner's padding outside of its circle: air.
    """
    scan = np.array(scan, np.float32)
    known = np.isfinite(scan)
    if not known.any():
        raise Unreadable("holds no finite value")
    scan[~known] = scan[known].min()
    return scan


def read_nifti(path: Path) -> Float[np.ndarray, "d h w *c"]:
    """(z, y, x), and what other axes it has, in the header's units.

    Raises BadInput without nibabel, and Unreadable for what it cannot read.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise Unreadable("not a .nii.gz file")
    try:
        import nibabel  # an extra: few need it
    except ImportError as error:
        raise BadInput(
            "NIfTI files need nibabel; pip install 'vqdit[nifti]', or write .npy files"
        ) from error
    try:
        # (x, y, z) as stored, with the header's slope and intercept applied.
        return np.asarray(nibabel.load(path).get_fdata(dtype=np.float32)).swapaxes(0, 2)
    except Exception as error:  # nibabel raises many kinds on a damaged file
        raise Unreadable(f"not a whole NIfTI file ({error})") from error


def fit_volume(
    scan: Float[np.ndarray, "d h w c"],
    size: tuple[int, int, int],
    place: Float[np.ndarray, "3"] | tuple[float, ...] = (0.5, 0.5, 0.5),
) -> Float[np.ndarray, "d2 h2 w2 c"]:
    """Cut to the size, at `place` in [0, 1) of what slack there is; padded in the
    middle with the least value where it is smaller."""
    lack = [max(0, n - have) for n, have in zip(size, scan.shape[:3], strict=True)]
    if any(lack):
        pads = [(short // 2, short - short // 2) for short in lack]
        scan = np.pad(scan, [*pads, (0, 0)], constant_values=scan.min())
    spare = [have - n for n, have in zip(size, scan.shape[:3], strict=True)]
    at = [int(p * (s + 1)) for p, s in zip(place, spare, strict=True)]
    cut = tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))
    return scan[cut]


def resample(
    scan: Float[np.ndarray, "d h w c"], size: tuple[int, int, int]
) -> Float[np.ndarray, "d2 h2 w2 c"]:
    """Linear along each axis; where it shrinks, over as many voxels as one covers."""
    for axis, n in enumerate(size):
        if scan.shape[axis] != n:
            weights = _triangle(scan.shape[axis], n).astype(np.float32)
            scan = np.moveaxis(np.tensordot(weights, scan, (1, axis)), 0, axis)
    return scan


def _triangle(have: int, want: int) -> Float[np.ndarray, "want have"]:
    """Weights of a triangle filter as wide as the larger of the two steps."""
    step = have / want
    center = (np.arange(want)[:, None] + 0.5) * step - 0.5
    reach = max(step, 1.0)
    at = np.clip(center, 0, have - 1) if math.isclose(reach, 1.0) else center
    weights = np.maximum(0, 1 - np.abs(np.arange(have)[None] - at) / reach)
    return weights / weights.sum(1, keepdims=True)
