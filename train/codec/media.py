"""Files of pictures, sounds and clips as arrays, and back, for the codec.

What every kind of signal has to the codec is `Kind`; `train.codec.tables` and
`train.codec.arrays` have the kinds whose files hold numbers. Values are (*axes, c),
uint8 for pixels and float32 for all else. What a reader cannot read it refuses with
Unreadable or BadInput, in words that a program puts behind the file's name.
"""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from train.data.clean_audio import decode_audio, resampled
from train.data.clips import read_frames
from train.data.images import Unreadable, decode, opaque
from train.errors import BadInput
from train.report.pictures import png
from vqdit.metrics.audio import si_sdr

PIXELS = ("image", "video")
RATE = 10.0  # frames a second of a clip that does not say, as browsers have it
PEAK = 0.9  # as sounds are trained on, see train.data.clean_audio


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """What a file holds.

    rate:   samples or frames a second; 0 where the file does not say.
    suffix: of the file that the values become again; "" for a folder.
    extra:  what the kind's `write` and `restore` need besides values and rate.
    known:  as values, False where a gap was filled; None where none could be.
    """

    values: np.ndarray
    rate: float = 0.0
    suffix: str = ""
    extra: bytes = b""
    known: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """How a kind of signal is read, prepared, written and measured.

    preparation: what the tokenizer's training files went through before they were
        normalised, by name; the kind does the same.
    channels: that the tokenizer takes, for a kind that has to guess what in a file is
        signal; 0: unknown.
    """

    preparation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    channels: int = 0

    suffixes: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[bool] = False  # whether a folder of pictures is a signal
    takes: ClassVar[tuple[str, ...]] = ()  # names in `preparation`
    score: ClassVar[str] = "PSNR"
    unit: ClassVar[str] = "bits per value"

    def read(self, path: Path) -> Signal:
        """The file as an array."""
        raise NotImplementedError

    def write(self, signal: Signal) -> bytes | dict[str, bytes]:
        """The inverse, in the format of signal.suffix: a file, or a folder's files."""
        raise NotImplementedError

    def planes(self, values: np.ndarray, channels: int) -> np.ndarray:
        """(p, *axes, channels): what a tokenizer of as many channels is given."""
        if values.shape[-1] != channels:
            raise BadInput(
                f"it has {values.shape[-1]} channels, and the bundle takes {channels}"
            )
        return values[None]

    def count(self, channels: int, taken: int) -> int:
        """How many planes a signal of `channels` is to a tokenizer of `taken`."""
        return 1

    def merge(self, planes: np.ndarray, channels: int) -> np.ndarray:
        """The inverse of `planes`, of a signal that had, or is to have, `channels`."""
        return planes[0]

    def resample(self, values: np.ndarray, rate: float, to: float) -> np.ndarray:
        """The same signal at another rate along its first axis."""
        raise BadInput(f"it has a rate of {rate:g}, the bundle {to:g}")

    def regrid(self, signal: Signal, to: float) -> Signal:
        """The signal at another rate, as training brings files to its own."""
        values = self.resample(signal.values, signal.rate, to)
        return dataclasses.replace(signal, values=values, rate=to)

    def prepare(self, signal: Signal) -> Signal:
        """The signal, at its rate in training, as files were prepared there."""
        return signal

    def restore(self, values: np.ndarray, extra: bytes) -> np.ndarray:
        """The inverse of `prepare` as far as there is one, by its signal's extra."""
        return values

    def measure(self, original: np.ndarray, decoded: np.ndarray) -> float:
        """How near the decoded values are, in dB."""
        peak = float(original.max()) - float(original.min())
        return decibels(np.square(peak), original, decoded)

    def units(self, values: np.ndarray, rate: float) -> float:
        """What bits are divided by to be in `unit`."""
        return values.size


class Pictures(Kind):
    """PNG, JPEG and others that Pillow reads, to PNG. Alpha is laid on white."""

    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
    unit = "bits per pixel"

    def read(self, path):
        values = opaque(decode(path.read_bytes(), upright=True))
        return Signal(np.ascontiguousarray(values), 0.0, ".png")

    def write(self, signal):
        return png(signal.values)

    def planes(self, values, channels):
        if channels == 1 and values.shape[-1] == 3:
            return _luma(values)[None]
        if channels == 3 and values.shape[-1] == 1:
            return np.repeat(values, 3, axis=-1)[None]
        return super().planes(values, channels)

    def merge(self, planes, channels):
        values = planes[0]
        if channels == 1 and values.shape[-1] == 3:
            return _luma(values)
        return values

    def measure(self, original, decoded):
        return decibels(255.0**2, original, decoded)

    def units(self, values, rate):
        return values.size / values.shape[-1]


class Clips(Pictures):
    """GIF and MP4, each to its own; a GIF's palette and H.264 lose a little more. A
    folder of pictures is the frames of one clip, and becomes a folder of PNG."""

    suffixes = (".gif", ".mp4")
    folders = True

    def read(self, path):
        frames, rate = read_frames(path)
        if path.is_dir():
            return Signal(_alike(frames))
        return Signal(np.stack(frames), rate or RATE, path.suffix.lower())

    def write(self, signal):
        if not signal.suffix:
            digits = max(6, len(str(len(signal.values) - 1)))
            return {
                f"{i:0{digits}d}.png": png(frame)
                for i, frame in enumerate(signal.values)
            }
        frames = np.repeat(signal.values, 4 - signal.values.shape[-1], -1)[..., :3]
        file = io.BytesIO()
        if signal.suffix == ".gif":
            pictures = [Image.fromarray(frame) for frame in frames]
            # GIF counts in hundredths; players take less than two for a mistake.
            duration = max(20, round(1000 / signal.rate / 10) * 10)
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
                "libx264", fps=float(signal.rate), pixel_format="yuv444p"
            )
            out._video_stream.options = {"crf": "10"}
            for frame in frames:
                out.write_frame(frame)
        return file.getvalue()

    def resample(self, values, rate, to):
        count = max(1, round(len(values) * to / rate))
        places = np.round(np.arange(count) * rate / to).astype(int)
        return values[np.minimum(places, len(values) - 1)]


class Sound(Kind):
    """WAV, FLAC and OGG to 16-bit WAV or FLAC. Each channel is a signal of its own for
    a tokenizer of one channel; one channel is doubled for a tokenizer of two.

    Their mean is taken off ("dc") and they are brought to a level ("peak", "loudness")
    as `train.data.clean_audio` does it; gain and means go into extra.
    """

    suffixes = (".wav", ".flac", ".ogg")
    takes = ("dc", "peak", "loudness")
    score, unit = "SI-SDR", "kbps"

    def read(self, path):
        values, rate = decode_audio(path.read_bytes())
        check(values)
        suffix = ".flac" if path.suffix.lower() == ".flac" else ".wav"
        return Signal(values, float(rate), suffix)

    def write(self, signal):
        import soundfile

        file = io.BytesIO()
        name = signal.suffix[1:].upper()
        values = np.clip(signal.values, -1, 1)
        soundfile.write(file, values, round(signal.rate), format=name, subtype="PCM_16")
        return file.getvalue()

    def planes(self, values, channels):
        if channels == 1:
            return np.ascontiguousarray(values.T)[..., None]
        if values.shape[-1] == 1:
            return np.repeat(values, channels, axis=-1)[None]
        return super().planes(values, channels)

    def count(self, channels, taken):
        return channels if taken == 1 else 1

    def merge(self, planes, channels):
        if planes.shape[-1] == 1:
            return planes[..., 0].T
        return planes[0].mean(-1, keepdims=True) if channels == 1 else planes[0]

    def resample(self, values, rate, to):
        columns = [resampled(column, rate, to) for column in values.T]
        return np.stack(columns, axis=-1).astype(np.float32)

    def prepare(self, signal):
        # What is not said is as a bundle meant it before bundles said anything.
        how = {"dc": False, "peak": PEAK, "loudness": None} | self.preparation
        values = signal.values
        means = np.zeros(values.shape[-1], np.float32)
        if how["dc"]:
            means = values.mean(0, dtype=np.float64).astype(np.float32)
            values = values - means
        top, gain = float(np.abs(values).max()), 1.0
        if top >= 1e-9 and how["peak"]:
            gain = how["peak"] / top
        elif top >= 1e-9 and how["loudness"] is not None:
            level = np.sqrt(np.square(values, dtype=np.float64).mean())
            gain = min(10 ** (how["loudness"] / 20) / level, 1 / top)
        undo = np.array([gain, *means] if means.any() else [gain], "<f4")
        if not means.any() and gain == 1:
            return signal
        values = values * undo[0]
        return dataclasses.replace(signal, values=values, extra=undo.tobytes())

    def restore(self, values, extra):
        if not extra:
            return values
        gain, *means = np.frombuffer(extra, "<f4")
        values = values / gain
        return values + np.array(means, np.float32) if means else values

    def measure(self, original, decoded):
        """Mean over channels that are not silent; nan where all are."""
        ratios = si_sdr(original.T, decoded.T)
        return float(np.nanmean(ratios)) if np.isfinite(ratios).any() else np.nan

    def units(self, values, rate):
        return 1000 * len(values) / rate


def _luma(values):
    """ITU-R 601, as Pillow's; a grey picture in RGB comes back as it was."""
    weights = np.array([19595, 38470, 7471], np.uint32)  # of 2**16
    grey = (values.astype(np.uint32) @ weights + 2**15) >> 16
    return grey.astype(np.uint8)[..., None]


def decibels(peak_squared: float, original: np.ndarray, decoded: np.ndarray) -> float:
    """Peak signal to noise; inf where nothing differs."""
    error = np.square(original.astype(np.float64) - decoded).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(peak_squared / error)) if error else np.inf


def check(values: np.ndarray) -> None:
    """Raises Unreadable for nothing at all, and for NaN and infinities."""
    if not values.size:
        raise Unreadable("it is empty")
    if not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite")


def _alike(frames) -> np.ndarray:
    """Pictures of a folder as one clip: opaque, and grey only where all are."""
    frames = [opaque(frame) for frame in frames]
    sizes = {frame.shape[:2]: None for frame in frames}
    if len(sizes) > 1:
        (a, b), (c, d), *_ = sizes
        raise Unreadable(f"it has frames of {a}x{b} and of {c}x{d}; write one size")
    channels = max(frame.shape[-1] for frame in frames)
    grown = [np.repeat(f, channels // f.shape[-1], axis=-1) for f in frames]
    return np.stack(grown)
