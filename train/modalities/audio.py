"""Sound: recordings cut or padded to one length."""

import contextlib
import dataclasses
import functools
import io
import zlib
from typing import ClassVar, Literal

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.draws import Word
from train.modalities.files import dropped
from train.modalities.files.arrays import check_finite
from train.modalities.files.sound import STEP, STEPS, decode_audio
from train.modalities.files.stored import stored
from train.modalities.modality import Modality
from train.modalities.record import Record
from train.modalities.shown import DECIBELS, Axis, Panel, spectrogram
from train.modalities.transforms.augment import SeriesAugment
from train.modalities.transforms.sound import (
    AudioCleaning,
    alike_findings,
    alike_lines,
    one_channel,
    resampled,
)
from vqdit.fields import Count
from vqdit.metrics.audio import si_sdr
from vqdit.shapes import Float
from vqdit.tokenizer import LogMel

AudioCrop = Literal["start", "center", "random"]
FRAME = 0.032  # seconds under a window of the front end
LOUDEST = 128.0  # of floats that may be in [-1, 1] and louder; else of integers
# Of recordings in a tokenizer's training before its bundle said what was done to them.
UNSAID = {"dc": False, "peak": 0.9, "loudness": None}


@dataclasses.dataclass(frozen=True)
class Audio(Modality):
    """Recordings, float32 (length, 1) in about [-1, 1].

    name:     "tones" (generated), "folder" of WAV, FLAC, OGG, MP3 and other files
              that libsndfile reads, "webdataset", "huggingface", "npz", or a prepared
              TFDS set with one feature of sound, such as "spoken_digit".
    rate:     samples a second; recordings of another are resampled. Several channels
              are averaged.
    length:   samples of an example. A longer recording is cut, a shorter one has zeros
              put around it.
    crop:     where the window lies while training: "random" is anywhere it fits.
              Evaluation takes the start with "start", else the centre.
    clean:    see AudioCleaning.
    snr:      decibels of a recording above white noise that lies over all of its
              example, the same in every epoch; None: none does.
    augment:  while training; `shift` moves the window further, over zeros if need be.
    holdout:  a share, or a rule over names such as 7_jackson_32.wav: "takes:0-4",
              "speaker:theo".
    download: may TFDS use the network to prepare a missing set.
    """

    kind: ClassVar[str] = "audio"
    sides: ClassVar[tuple[str, ...]] = ("length",)
    measures: ClassVar[str] = "sound"
    feature: ClassVar[str] = "Audio"
    judged: ClassVar[int] = 600
    channels: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .caf .w64".split()
    )
    takes: ClassVar[tuple[str, ...]] = ("dc", "peak", "loudness")
    score: ClassVar[str] = "SI-SDR"
    unit: ClassVar[str] = "kbps"

    name: str = "tones"
    rate: Count = 8000
    length: Count = 8192
    crop: AudioCrop = "center"
    clean: AudioCleaning = AudioCleaning()
    snr: float | None = None
    augment: SeriesAugment | None = None
    download: bool = False

    def __post_init__(self):
        super().__post_init__()
        named = self.name != "tones" or not isinstance(self.holdout, str)
        self.check("holdout", named, "tones have no names; write a share")

    @property
    def shape(self) -> tuple[int, int]:
        return (self.length, 1)

    @property
    def preparation(self) -> tuple[tuple[str, bool | float | None], ...]:
        return tuple((name, getattr(self.clean, name)) for name in self.takes)

    @property
    def front(self):
        return ear(self.rate)

    @classmethod
    def panels(cls, x, units):
        """Its curve over its spectrogram."""
        (wave,) = super().panels(x, units)
        if not units.rate:
            return [wave]
        up = Axis(0, units.rate / 2, "Hz")
        heard = spectrogram(x[:, 0], units.rate)
        note = f"black -{DECIBELS} dB, white 0 dB"
        return [wave._replace(across=None), Panel(heard, units.along(len(x)), up, note)]

    def read(self, path):
        values, rate, step = decode_audio(stored(path))
        suffix = ".flac" if path.suffix.lower() == ".flac" else ".wav"
        return Record(values, float(rate), more={"step": step}, suffix=suffix)

    def adapt(self, record):
        x = one_channel(record.values)
        rate = record.rate or self.rate
        x = resampled(x, rate, self.rate)
        whole = record.values.dtype.kind != "f"
        step = record.more.get("step", STEP if whole else STEPS["FLOAT"])
        cleaned = self.clean(x, self.rate, step)
        was = {"cut": 1 - len(cleaned) / len(x)}
        was["mean"] = abs(float(x.mean())) if self.clean.dc else 0.0
        if rate != self.rate:
            was["rate"] = rate
        if record.values.ndim > 1 and record.values.shape[1] > 1:
            was["channels"] = record.values.shape[1]
        more = {**record.more, "was": was}
        values, rate = cleaned[:, None], float(self.rate)
        return dataclasses.replace(record, values=values, rate=rate, more=more)

    def signals_in(self, arrays):
        x = super().signals_in(arrays)
        if x.ndim not in (2, 3) or not (x.dtype.kind == "f" or x.dtype == np.int16):
            raise Unreadable(
                f"audio is {x.dtype} {list(x.shape)}; write np.savez(file, audio=...), "
                "(n, l) or (n, l, c), floats in [-1, 1] or int16"
            )
        if x.dtype.kind == "f" and (np.abs(x) > LOUDEST).any():
            raise Unreadable(f"audio has floats beyond {LOUDEST:g}; write [-1, 1]")
        return x

    @property
    def drawn(self):
        moved = self.augment and (self.augment.shift or self.augment.pace)
        return self.crop == "random" or bool(moved)

    def pieces(self, records, starts, draws):
        place = np.full(len(records), 0.0 if self.crop == "start" else 0.5)
        if self.crop == "random":
            place = draws(Word.PLACE)
        augment = self.augment or SeriesAugment()
        shift, pace = augment.shifts(draws), augment.paces(draws)

        def piece(x, place, shift, pace):
            return window(played(x, pace), self.length, place, shift)

        return [
            functools.partial(piece, place=at, shift=by, pace=of)
            for at, by, of in zip(place, shift, pace, strict=True)
        ]

    def cut(self, records, starts, draws):
        batch = super().cut(records, starts, draws)
        if self.snr is not None:
            x = batch["x"]
            batch["x"] = x + np.stack([self._hiss(r.values, x[0]) for r in records])
        return batch

    def _hiss(self, values, like):
        """Noise that belongs to the recording."""
        draw = np.random.default_rng((Word.HISS, zlib.crc32(values.tobytes())))
        power = np.square(values, dtype=np.float64).mean()
        scale = np.sqrt(power) * 10 ** (-self.snr / 20)
        return (scale * draw.standard_normal(like.shape)).astype(like.dtype)

    def findings(self, records):
        """Shares shorter than an example, longer, and silent throughout; of how many
        recordings, rates and channels that were others, the largest mean that was taken
        off, in parts of full scale, and the share of all that was cut off as silence.
        """
        found = [(len(each.values), each.values.any()) for each in records]
        lengths, heard = np.array(found).T
        told = {
            "shorter_share": [float((lengths < self.length).mean())],
            "longer_share": [float((lengths > self.length).mean())],
            "silent_share": [float(1 - heard.mean())],
        }
        return told | alike_findings([each.more.get("was", {}) for each in records])

    def changes(self, findings):
        """What was done to make recordings alike; their level is asked for."""
        return alike_lines(findings, self.rate)

    @classmethod
    def of(cls, channels, rate=0.0, **preparation):
        return cls(name="folder", clean=AudioCleaning(**UNSAID | preparation))

    def at_peak(self, peak):
        if not 0 <= peak <= 1:
            raise BadInput(f"--peak={peak:g}: of sounds, write a level in (0, 1], or 0")
        clean = dataclasses.replace(self.clean, peak=peak or None, loudness=None)
        return dataclasses.replace(self, clean=clean)

    def dropped(self, path, record):
        loud = record.suffix == ".wav" and np.abs(record.values).max() > 1
        return dropped.of_sound(path, bool(loud))

    def write(self, record):
        import soundfile  # slow to import

        file = io.BytesIO()
        name = record.suffix[1:].upper()
        loud = name == "WAV" and len(record.extra) % 4
        values = record.values if loud else np.clip(record.values, -1, 1)
        how = {"format": name, "subtype": "FLOAT" if loud else "PCM_16"}
        soundfile.write(file, values, round(record.rate), **how)
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
        return resampled(values, rate, to).astype(np.float32)

    def prepare(self, record):
        """Each channel is a signal of its own to a tokenizer of one; mean and level are
        those of training. Gain and means go into extra, for `restore`, and for `write`
        a byte where samples are beyond full scale, which take floats."""
        check_finite(record.values)
        values = record.values
        means = np.zeros(values.shape[-1], np.float32)
        if self.clean.dc:
            means = values.mean(0, dtype=np.float64).astype(np.float32)
            values = values - means
        gain = self.clean.gain(values, record.more.get("step", STEP))
        loud = b"\1" if np.abs(record.values).max() > 1 else b""
        undo = np.array([gain, *means] if means.any() else [gain], "<f4")
        if not means.any() and gain == 1:
            return dataclasses.replace(record, extra=loud)
        return dataclasses.replace(
            record, values=values * undo[0], extra=undo.tobytes() + loud
        )

    def restore(self, values, extra):
        if len(extra) < 4:
            return values
        gain, *means = np.frombuffer(extra, "<f4", len(extra) // 4)
        values = values / gain
        return values + np.array(means, np.float32) if means else values

    def measure(self, original, decoded):
        """Mean over channels that are not silent; nan where all are."""
        ratios = si_sdr(original.T, decoded.T)
        return np.nan if np.isnan(ratios).all() else float(np.nanmean(ratios))

    def units(self, values, rate):
        return 1000 * len(values) / rate


def ear(rate: int) -> LogMel:
    """The front end that clips are judged and compared through: windows of 32 ms every
    16 ms, 64 bands, or as many as have a bin at a low rate."""
    window = max(16, 4 * round(rate * FRAME / 4))
    for bands in (64, 32, 16, 8, 4):
        with contextlib.suppress(ValueError):
            return LogMel(rate, window, window // 2, bands)
    return LogMel(rate, window, window // 2, 2)


def played(x: Float[np.ndarray, "l c"], pace: float) -> Float[np.ndarray, "l2 c"]:
    """So many times as fast, to the hundredth, and so much higher."""
    return resampled(x, round(100 * pace), 100)


def window(
    x: Float[np.ndarray, "l *c"], length: int, place: float, shift: int = 0
) -> Float[np.ndarray, "length *c"]:
    """`length` samples of x, zeros where x has none.

    place in [0, 1) slides the window over a longer recording, or a shorter recording
    through the window; `shift` moves it on by as many samples.
    """
    slack = len(x) - length
    first = int(place * (abs(slack) + 1)) * (1 if slack >= 0 else -1) + shift
    out = np.zeros((length, *x.shape[1:]), x.dtype)
    low, high = max(0, -first), min(length, len(x) - first)
    if low < high:
        out[low:high] = x[first + low : first + high]
    return out
