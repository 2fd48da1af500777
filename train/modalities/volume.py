"""Volumes: scans cut or resampled to one size."""

import dataclasses
import functools
import math
from collections import Counter
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np

from train.errors import Unreadable
from train.modalities.draws import Word
from train.modalities.files.arrays import as_flat, as_stored, one_array, with_channels
from train.modalities.files.scans import Affine, read_nifti, write_nifti
from train.modalities.files.stored import check_growth, percent
from train.modalities.modality import EightOrMore, Modality
from train.modalities.record import Record
from train.modalities.transforms.augment import VolumeAugment
from train.modalities.transforms.normalise import Scaling
from vqdit.fields import Bound, Count, NonNegative, Seed
from vqdit.shapes import Float

NIFTI = (".nii.gz", ".nii")
TOLD = 0.1  # of examples that may lie around the scans without a word
SLICES = 8  # of a scan beside each other, to be looked at
GeneratedName = Literal["phantoms", "patients", "planted_patients"]
VolumeName = Literal[GeneratedName, "folder", "webdataset"]
GENERATED = get_args(GeneratedName)

# Of a window, which may be open on one side.
End = Annotated[float, Bound(at_least=-math.inf, at_most=math.inf)]


@dataclasses.dataclass(frozen=True)
class Volumes(Modality):
    """Scans, float32 (d, h, w, channels), in about [-1, 1].

    name:      "phantoms" (nested ellipsoids with noise), "patients" (phantoms with a
               lesion or none, a finding and a record; "planted_patients" with kinds of
               lesions among the held-out ones that are not trained on), or "folder" of
               .npy, .npz
               (array "volume", or the only one) and NIfTI files (.nii, .nii.gz; needs
               nibabel); (d, h, w) or (d, h, w, c). Classes are sub-folders. NIfTI is
               turned so that d goes up, h to the front and w to the right (RAS).
    size:      (d, h, w) of an example. A larger scan is cut at its centre, in training
               anywhere; a smaller one is padded with the least value of each channel,
               which stands for what is not finite, too. With resize=True
               the whole scan is resampled to it instead (linear, antialiased).
    channels:  values of a voxel.
    resize:    whether scans are resampled to `size` instead.
    spacing:   millimetres (d, h, w) between voxels that scans are resampled to, from
               their own: that of a NIfTI file, or of an array "spacing" (3,) of an
               .npz; (): as they are.
    window:    (low, high) that intensities are clipped to first, such as (-160, 240)
               for soft tissue in Hounsfield units; (): not clipped.
    normalise: see train.modalities.transforms.normalise; fitted on the training scans.
    examples, noise, seed: of phantoms: `examples` to train on, an eighth to test on.
    """

    kind: ClassVar[str] = "volume"
    made: ClassVar[tuple[str, ...]] = ("examples", "noise", "seed")
    measures: ClassVar[str] = "volumes"
    judged: ClassVar[int] = 600
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz", *NIFTI)
    takes: ClassVar[tuple[str, ...]] = ("window", "spacing")

    name: VolumeName = "phantoms"
    size: tuple[int, int, int] = (32, 32, 32)
    channels: Count = 1
    spacing: tuple[float, ...] = ()
    window: tuple[End, ...] = ()
    resize: bool = False
    normalise: Scaling = "range"
    examples: EightOrMore = 512
    noise: NonNegative = 0.03
    seed: Seed = 0
    augment: VolumeAugment | None = None

    def __post_init__(self):
        super().__post_init__()
        sides = len(self.size) == 3 and min(self.size) >= 1
        self.check("size", sides, "write (d, h, w), each at least 1")
        apart = not self.spacing or len(self.spacing) == 3 and min(self.spacing) > 0
        self.check("spacing", apart, "write (d, h, w), each above 0")
        stored = self.name not in GENERATED or not self.spacing
        self.check("spacing", stored, "phantoms have none; leave it out")
        pair = len(self.window) == 2 and self.window[0] < self.window[1]
        rises = not self.window or pair
        self.check("window", rises, "write (low, high), low below high")
        alone = self.name not in GENERATED or self.channels == 1
        self.check("channels", alone, "phantoms have 1")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (*self.size, self.channels)

    @property
    def preparation(self):
        spacing = () if self.resize else self.spacing
        fields = {"window": self.window, "spacing": spacing}
        return tuple((name, value) for name, value in fields.items() if value)

    @classmethod
    def axes(cls, x, units):
        return None, None, units.greys()

    @classmethod
    def slices(cls, x):
        """From the lowest to the highest, evenly spaced."""
        rows = np.linspace(0, len(x) - 1, min(len(x), SLICES))
        return cls.show(x[np.rint(rows).astype(int)])

    def read(self, path):
        """What is not finite is taken for the least in its channel, and comes back
        so."""
        suffix, affine = ".npy", b""
        if path.suffix.lower() in (".nii", ".gz"):
            scan, more = read_nifti(path)
            suffix = ".nii" if path.suffix.lower() == ".nii" else ".nii.gz"
            affine = more.pop("affine").packed()
        else:
            scan, spacing = one_array(path, "volume", "spacing")
            more = {} if spacing is None else {"spacing": spacing}
        values, extra = with_channels(scan, 3)
        more["filled"] = (~np.isfinite(values)).mean((0, 1, 2))
        return Record(filled(values), more=more, suffix=suffix, extra=extra + affine)

    def write(self, record):
        if record.suffix not in NIFTI:
            return as_stored(record.values, record.extra)
        values = as_flat(record.values, record.extra)
        affine = Affine.of(record.extra[1:])
        return write_nifti(values, affine, record.suffix == ".nii.gz")

    def new(self, values, rate, names=()):
        """In NIfTI, oriented as scans that are read, where their spacing is known; else
        an array, which says nothing of it."""
        if not self.spacing:
            return super().new(values, rate)
        affine = Affine.along(self.spacing)
        extra = bytes([values.shape[-1] == 1]) + affine.packed()
        return Record(values, rate, suffix=NIFTI[0], extra=extra)

    def reread(self, path, record):
        # A NIfTI file holds float32 as they are.
        exact = record.suffix in NIFTI
        return record.values if exact else super().reread(path, record)

    def dropped(self, path, record):
        if path.suffix.lower() in (".nii", ".gz"):
            yield "its header's description; it comes back turned (RAS), in float32"
        elif "spacing" in record.more:
            yield "its spacing"
        if filled := float(np.mean(record.more["filled"])):
            yield f"{percent(filled)} of its values, which are not finite, and filled"
        if self.window:
            low, high = self.window
            if share := np.mean((record.values < low) | (record.values > high)):
                yield f"{percent(share)} of its values, beyond {low:g} to {high:g}"

    def prepare(self, record):
        """Intensities are clipped for good."""
        if not self.window:
            return record
        values = np.clip(record.values, *map(np.float32, self.window))
        return dataclasses.replace(record, values=values)

    def sized(self, shape, rate):
        *size, channels = shape
        return dataclasses.replace(self, size=tuple(size), channels=channels)

    def adapt(self, record):
        scan = record.values
        if scan.shape[-1] != self.channels:
            raise Unreadable(
                f"is {list(scan.shape)}; data.channels={self.channels} asks for "
                f"(d, h, w, {self.channels}), or (d, h, w) of one channel"
            )
        scan = self.prepare(record).values
        if self.spacing:
            scan = self._spaced(scan, record.more.get("spacing", np.zeros(3)))
        if self.resize:
            scan = resample(scan, self.size)
        return dataclasses.replace(record, values=scan)

    def _spaced(self, scan, own):
        own = np.asarray(own, np.float64).reshape(-1)
        if own.shape != (3,) or not (np.isfinite(own) & (own > 0)).all():
            raise Unreadable(
                "states no spacing, and data.spacing needs it; write an .npz of volume "
                "and spacing"
            )
        sides = scan.shape[:3] * own / self.spacing
        said = f"states a spacing of {_row(own)} mm"
        check_growth(float(sides.prod()), math.prod(scan.shape[:3]), said)
        return resample(scan, tuple(np.maximum(1, np.rint(sides)).astype(int).tolist()))

    def findings(self, records):
        """Share that was not finite, per channel, and of examples what lies around
        scans that are smaller; of files that state them, spacings and how they were
        oriented, the most frequent first."""
        none, whole = np.zeros(self.channels), math.prod(self.size)
        read = [(each.more, each.values.shape[:3]) for each in records]
        mores, sides = zip(*read, strict=True)
        lost = np.mean([more.get("filled", none) for more in mores], 0)
        inside = np.minimum(sides, self.size).prod(1).mean() / whole
        found = {"filled_share": lost.tolist(), "padded_share": [float(1 - inside)]}
        for name in ("spacing", "orientation"):
            stated = (more[name] for more in mores if name in more)
            texts = (x if isinstance(x, str) else _row(x) for x in stated)
            if counts := Counter(texts):
                found[name] = [f"{n} of {text}" for text, n in counts.most_common()]
        return found

    def changes(self, findings):
        for channel, share in enumerate(findings["filled_share"]):
            if share:
                yield (
                    f"channel {channel}: {percent(share)} is not finite, and filled "
                    "with the least there is of it in a scan"
                )
        if (share := findings["padded_share"][0]) > TOLD:
            yield (
                f"{percent(share)} of the examples is padding: scans are smaller than "
                f"data.size={self.size}"
            )

    @property
    def drawn(self):
        return not self.resize

    def pieces(self, records, starts, draws):
        place = np.stack([draws(Word.CORNER + axis) for axis in range(3)], -1)
        return [functools.partial(fit_volume, size=self.size, place=at) for at in place]


def filled(scan: Float[np.ndarray, "d h w c"]) -> Float[np.ndarray, "d h w c"]:
    """float32, with the least there is of its channel where it is not finite, 0 in a
    channel that never is.

    That is a scanner's padding outside of its circle: air. Raises Unreadable where
    nothing is finite.
    """
    scan = np.asarray(scan, np.float32)
    known = np.isfinite(scan)
    if not known.any():
        raise Unreadable("holds no finite value")
    if known.all():  # nearly always, and a scan may be large
        return scan
    # Each channel has a unit of its own.
    least = np.where(known, scan, np.inf).min((0, 1, 2))
    return np.where(known, scan, np.where(np.isfinite(least), least, 0))


def _row(values) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def fit_volume(
    scan: Float[np.ndarray, "d h w c"],
    size: tuple[int, int, int],
    place: Float[np.ndarray, "3"] | tuple[float, ...] = (0.5, 0.5, 0.5),
) -> Float[np.ndarray, "d2 h2 w2 c"]:
    """Cut to the size, at `place` in [0, 1) of what slack there is; padded in the
    middle with the least value of each channel where it is smaller."""
    lack = [max(0, n - have) for n, have in zip(size, scan.shape[:3], strict=True)]
    if any(lack):
        pads = [(short // 2, short - short // 2) for short in lack]
        channels = np.moveaxis(scan, -1, 0)
        grown = [np.pad(x, pads, constant_values=x.min()) for x in channels]
        scan = np.stack(grown, -1)
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
