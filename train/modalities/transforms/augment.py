"""Augmentation: batched NumPy, each example's a function of (seed, epoch, index).

Pictures and video are moved, turned, coloured; series and sound are shifted, scaled and
masked in time and frequency; volumes and sweeps are turned. What belongs together is
drawn once: all frames of a clip, and its boxes with them. 0 and False leave out.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from train.modalities.draws import Draws, Word
from train.modalities.record import Batch
from train.modalities.settings import DataSettings
from train.modalities.transforms.warp import move_boxes, warp, without_slivers
from vqdit.fields import Decay, Natural, NonNegative
from vqdit.shapes import Float, Int

# RGB to luma and two chroma axes (ITU-R 601 luma, NTSC's I and Q), where a hue is an
# angle and a saturation a radius.
YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.595716, -0.274453, -0.321263],
        [0.211456, -0.522591, 0.311135],
    ]
)


class Augment(DataSettings):
    """Whose fields leave out what they say while they have their defaults.

    mirrors: words of the draws by which `flip` mirrors, each half of the time.
    """

    called = "augment"
    mirroring: ClassVar[tuple[int, ...]] = (Word.MIRROR,)

    @property
    def mirrors(self) -> tuple[int, ...]:
        return self.mirroring if getattr(self, "flip", False) else ()

    @property
    def others(self) -> dict[str, Any]:
        """Fields that draw anything else -> their defaults."""
        of: Any = type(self)  # a dataclass, as all that are derived from this are
        defaults = {each.name: each.default for each in dataclasses.fields(of)}
        defaults.pop("flip", None)
        return {n: to for n, to in defaults.items() if getattr(self, n) != to}

    def paces(self, draws: Draws) -> Float[np.ndarray, "b"]:
        """How much faster than recorded each example is played; see `pace`."""
        return (1 + getattr(self, "pace", 0.0)) ** draws.between(Word.PACE, 1)


@dataclasses.dataclass(frozen=True)
class ImageAugment(Augment):
    """For images and video; every frame gets the same draw.

    rotate:     degrees, up to which a picture is turned either way.
    crop:       share of the side that may be cut away; the rest, anywhere, is enlarged.
    shift:      share of the side by which it may move.
    flip:       mirrored left to right half of the time. Not for digits and text.
    brightness, contrast, saturation: 0.2 multiplies by 0.8 to 1.2 (brightness adds 20 %
                of white).
    hue:        degrees on the colour circle.
    noise:      standard deviation, as a share of white; fresh for every frame.
    pace:       video: 0.5 plays it at 1/1.5 to 1.5 times its frame rate.
    """

    rotate: NonNegative = 0.0
    crop: Decay = 0.0
    shift: NonNegative = 0.0
    flip: bool = False
    brightness: NonNegative = 0.0
    contrast: Decay = 0.0
    saturation: Decay = 0.0
    hue: NonNegative = 0.0
    noise: NonNegative = 0.0
    pace: NonNegative = 0.0

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """The batch with "x", uint8 (b, *frames, h, w, c), and "boxes" changed.

        boxes: (b, ..., 5), x0, y0, x1, y1 in shares of width and height, and a class;
        of a turned box the upright hull, cut at the borders.
        """
        x = batch["x"]
        height, width = x.shape[-3:-1]
        if self.moves:
            matrix = self.placements(draws, height, width)
            x = warp(x, matrix)
            if "boxes" in batch:
                edges, more = np.split(batch["boxes"], [4], -1)
                edges = move_boxes(edges, matrix, height, width)
                boxes = np.concatenate([edges, more], -1)
                batch = {**batch, "boxes": without_slivers(boxes)}
        return {**batch, "x": self._coloured(x, draws)}

    @property
    def moves(self) -> bool:
        """Whether what is in a picture is elsewhere afterwards."""
        return bool(self.rotate or self.crop or self.shift or self.flip)

    def placements(
        self, draws: Draws, height: int, width: int
    ) -> Float[np.ndarray, "b 2 3"]:
        """Where in the source each output pixel is read: (y, x) about the centre."""
        angle = np.radians(draws.between(Word.ANGLE, self.rotate))
        kept = 1 - self.crop * draws(Word.ZOOM)
        cos, sin = kept * np.cos(angle), kept * np.sin(angle)
        mirror = np.where(draws(Word.MIRROR) < 0.5, -1.0, 1.0) if self.flip else 1.0
        slack = (1 - kept) / 2
        down = draws.between(Word.DOWN, 1) * (slack + self.shift) * height
        across = draws.between(Word.ACROSS, 1) * (slack + self.shift) * width
        rows = [cos, -sin * mirror, down], [sin, cos * mirror, across]
        return np.stack([np.stack(np.broadcast_arrays(*row), -1) for row in rows], 1)

    def _coloured(self, x: np.ndarray, draws: Draws) -> np.ndarray:
        colours = x.shape[-1] == 3 and (self.saturation or self.hue)
        if not (self.brightness or self.contrast or colours or self.noise):
            return x
        b = len(x)
        flat = x.reshape(b, -1, x.shape[-1]).astype(np.float32)
        gain = 1 + draws.between(Word.CONTRAST, self.contrast)
        add = 255 * draws.between(Word.BRIGHT, self.brightness)
        if colours:
            turn = np.radians(draws.between(Word.HUE, self.hue))
            radius = 1 + draws.between(Word.SATURATION, self.saturation)
            cos, sin = radius * np.cos(turn), radius * np.sin(turn)
            chroma = np.zeros((b, 3, 3))
            chroma[:, 0, 0] = 1
            chroma[:, 1, 1] = chroma[:, 2, 2] = cos
            chroma[:, 1, 2], chroma[:, 2, 1] = -sin, sin
            mixed = np.linalg.inv(YIQ) @ chroma @ YIQ
            flat = flat @ mixed.swapaxes(1, 2).astype(np.float32)
        mean = flat.mean((1, 2))
        flat *= gain[:, None, None].astype(np.float32)
        flat += (mean * (1 - gain) + add)[:, None, None].astype(np.float32)
        if self.noise:
            flat += 255 * self.noise * draws.normal(Word.NOISE, flat.shape[1:])
        return np.clip(np.rint(flat), 0, 255).astype(np.uint8).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class SeriesAugment(Augment):
    """For series and sound, (b, l, c).

    shift:  samples by which a window may move within its recording.
    gain:   decibels up or down.
    noise:  standard deviation, in units of the signal.
    hide:   longest stretch, a share of the length, that is set to 0.
    mute:   widest band, a share of all frequencies, that is taken out.
    pace:   sound: 0.1 plays it at 1/1.1 to 1.1 times its speed, to the hundredth, so
            that its pitch moves, too (Ko et al. 2015, Audio augmentation for speech
            recognition). A recording is resampled whole.
    """

    shift: Natural = 0
    gain: NonNegative = 0.0
    noise: NonNegative = 0.0
    hide: Decay = 0.0
    mute: Decay = 0.0
    pace: NonNegative = 0.0

    def shifts(self, draws: Draws) -> Int[np.ndarray, "b"]:
        """Samples that each window moves; for the one who cuts them."""
        return (
            np.floor(draws(Word.SHIFT) * (2 * self.shift + 1)).astype(int) - self.shift
        )

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """The batch with "x", (b, l, c), changed, but for the shift."""
        x, length = batch["x"], batch["x"].shape[1]
        if self.mute:
            bands = np.fft.rfft(x, axis=1)
            width = self.mute * draws(Word.MUTED)
            bands[stretches(bands.shape[1], width, draws(Word.MUTE))] = 0
            x = np.fft.irfft(bands, n=length, axis=1).astype(x.dtype)
        if self.gain:
            factor = 10 ** (draws.between(Word.GAIN, self.gain) / 20)
            x = x * factor[:, None, None].astype(x.dtype)
        if self.noise:
            x = x + self.noise * draws.normal(Word.NOISE, x.shape[1:])
        if self.hide:
            gone = stretches(length, self.hide * draws(Word.HIDDEN), draws(Word.HIDE))
            x = np.where(gone[..., None], x.dtype.type(0), x)
        return {**batch, "x": x.astype(np.float32, copy=False)}


def stretches(
    length: int, width: Float[np.ndarray, "b"], place: Float[np.ndarray, "b"]
) -> np.ndarray:
    """bool (b, length): one run of True each, `width` of the length long.

    place in [0, 1) slides it from the start to the end. Along time it masks samples,
    along frequency bands, of a spectrogram too (SpecAugment, arXiv:1904.08779).
    """
    count = np.floor(width * length + 1e-9).astype(int)
    first = np.floor(place * (length - count + 1)).astype(int)
    at = np.arange(length)
    return (at >= first[:, None]) & (at < (first + count)[:, None])


@dataclasses.dataclass(frozen=True)
class VolumeAugment(Augment):
    """For volumes, (b, d, h, w, c).

    rotate: degrees about the depth axis.
    gain: 0.1 multiplies by 0.9 to 1.1.
    noise: standard deviation, in units of the signal.
    flip: half of the time along each of the last two axes.
    """

    mirroring = (Word.MIRROR, Word.FLIP)

    rotate: NonNegative = 0.0
    flip: bool = False
    gain: Decay = 0.0
    noise: NonNegative = 0.0

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """The batch with "x" changed."""
        x = batch["x"]
        if self.rotate:
            turned = ImageAugment(rotate=self.rotate)
            x = warp(x, turned.placements(draws, *x.shape[2:4]))
        if self.flip:
            for word, axis in zip(self.mirroring, (3, 2), strict=True):
                half = (draws(word) < 0.5)[:, None, None, None, None]
                x = np.where(half, np.flip(x, axis), x)
        if self.gain:
            factor = 1 + draws.between(Word.GAIN, self.gain)
            x = x * factor[:, None, None, None, None].astype(x.dtype)
        if self.noise:
            x = x + self.noise * draws.normal(Word.NOISE, x.shape[1:])
        return {**batch, "x": x.astype(np.float32, copy=False)}


@dataclasses.dataclass(frozen=True)
class RangeAugment(Augment):
    """For sweeps, (b, rows, azimuth, c).

    roll: any turn of the sensor about its axis, exact since azimuth wraps around.
    flip: mirrored along azimuth half of the time.
    noise: standard deviation, in units of the signal, on what was measured.
    """

    roll: bool = False
    flip: bool = False
    noise: NonNegative = 0.0

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Turns "x" and what is "known" of it alike."""
        x, known = batch["x"], batch["known"]
        if self.roll or self.flip:
            columns = np.arange(x.shape[2])[None]
            if self.flip:
                mirror = (draws(Word.MIRROR) < 0.5)[:, None]
                columns = np.where(mirror, columns[:, ::-1], columns)
            if self.roll:
                turn = np.floor(draws(Word.ROLL) * x.shape[2]).astype(int)
                columns = (columns + turn[:, None]) % x.shape[2]
            columns = np.broadcast_to(columns, (len(x), x.shape[2]))
            at = columns[:, None, :, None]
            x = np.take_along_axis(x, at, axis=2)
            known = np.take_along_axis(known, at, axis=2)
        if self.noise:
            x = x + self.noise * draws.normal(Word.NOISE, x.shape[1:]) * (known > 0)
        return {**batch, "x": x.astype(np.float32), "known": known}
