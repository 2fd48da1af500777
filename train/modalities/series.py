"""Sensor series: windows of recordings, cleaned, with what is known of them."""

import dataclasses
import operator
from collections import Counter
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from train.errors import BadInput, Unreadable
from train.modalities.draws import Draws
from train.modalities.files.clocks import CALLED, Duplicates, one_clock
from train.modalities.files.recordings import (
    read_recording,
    time_and_names,
    write_recording,
)
from train.modalities.files.separated import is_number
from train.modalities.files.stored import percent
from train.modalities.files.tables import read_columns
from train.modalities.modality import EightOrMore, Modality
from train.modalities.record import Batch, Record
from train.modalities.transforms.augment import SeriesAugment
from train.modalities.transforms.gaps import UNCLEANED, Cleaning, clean, fill
from train.modalities.transforms.normalise import Scaling
from vqdit.fields import Count, Decay, Natural, NonNegative, Seed, TwoOrMore

StrokesName = Literal["digit_strokes", "mnist_strokes"]
DrivingName = Literal["driving", "driving_faults"]
SeriesName = Literal["generated", StrokesName, DrivingName, "folder", "webdataset"]
STROKES, DRIVING = get_args(StrokesName), get_args(DrivingName)
GENERATED = ("generated", *STROKES, *DRIVING)
TOLD = 0.01  # of a channel that cleaning may change without a word
STRETCHED = 10  # steps between samples that nobody means to fill
OTHERS = 3  # orders of columns, at most, that are told


@dataclasses.dataclass(frozen=True)
class Series(Modality):
    """Windows of sensor recordings, float32 (length, channels), about [-1, 1].

    name:      "generated" (sinusoids with harmonics and drift, and what a poor sensor
               makes of them); "digit_strokes" and "mnist_strokes", the way of a hand
               that writes the digits of scikit-learn or MNIST, as many as there are:
               across, down, and whether the pen is on the paper; "driving" and
               "driving_faults", the way that a car came, and the hour; or "folder" of
               .csv, .parquet and .npz files, one recording each. data_dir may be one
               file, whose last share, as large as holdout, is then the held-out part.
               Classes are sub-folders.
    length:    samples of a window, which an example is.
    channels:  values of a sample.
    columns:   of the files, in this order; (): all of them, but for `time`.
    time:      the column of a table that holds the times: seconds, dates, or milli-,
               micro- or nanoseconds since 1970. An .npz names the times of its array X
               "X_time", or its rate "X_rate".
    rate:      samples a second of the one clock that everything is brought to. 0: rows
               are samples of one clock already.
    duplicates: of several samples at one time the "first" counts, or their "mean".
    longest_gap: seconds between samples that interpolation onto the clock may bridge;
               0: 2.5 steps.
    stride:    samples between windows; 0: `length`, so that they do not overlap.
    cleaning:  see train.modalities.transforms.gaps; None does nothing but to write 0
               into gaps.
    normalise: see train.modalities.transforms.normalise; fitted on the known values of
               the training recordings.
    mask_channels: a channel of 1 (known) and -1 (filled) behind those of the signal,
               for each of them.
    examples, missing, spikes, noise, seed: of generated series: `examples` to train on
               and an eighth to test on, the share missing, the share of spikes, the
               standard deviation of white noise.
    """

    kind: ClassVar[str] = "series"
    sides: ClassVar[tuple[str, ...]] = ("length",)
    made: ClassVar[tuple[str, ...]] = ("examples", "missing", "spikes", "noise", "seed")
    measures: ClassVar[str] = "series"
    judged: ClassVar[int] = 600
    masked: ClassVar[bool] = True
    divides: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".parquet", ".npz")
    takes: ClassVar[tuple[str, ...]] = (
        *("columns", "time", "cleaning", "mask_channels", "longest_gap", "duplicates"),
    )
    score: ClassVar[str] = "SNR"

    name: SeriesName = "generated"
    length: TwoOrMore = 256
    channels: Count = 3
    columns: tuple[str, ...] = ()
    time: str = ""
    rate: NonNegative = 0.0
    duplicates: Duplicates = "first"
    longest_gap: NonNegative = 0.0
    stride: Natural = 0
    cleaning: Cleaning | None = Cleaning()
    normalise: Scaling = "standard"
    mask_channels: bool = False
    examples: EightOrMore = 2048
    missing: Decay = 0.1
    spikes: Decay = 0.01
    noise: NonNegative = 0.1
    seed: Seed = 0
    augment: SeriesAugment | None = None

    def __post_init__(self):
        super().__post_init__()
        clock = "write data.rate too, the samples a second of the one clock"
        self.check("time", self.rate or not self.time, clock)
        stored = self.name not in GENERATED or not self.columns
        self.check("columns", stored, "generated series have none; leave it out")
        drawn = self.name not in STROKES or self.channels == 3
        self.check("channels", drawn, "strokes have 3: across, down, pen")
        driven = self.name not in DRIVING or self.channels == 4
        self.check("channels", driven, "a way has 4: along, aside, heading, hour")
        paced = self.augment is not None and self.augment.pace
        self.check("augment", not paced, "series have no pace; leave it out")

    @property
    def shape(self) -> tuple[int, int]:
        """(length, channels), twice the channels with mask_channels."""
        return (self.length, self.channels * (1 + self.mask_channels))

    @property
    def quantities(self):
        return self.channels

    @property
    def preparation(self) -> tuple[tuple[str, Any], ...]:
        cleaning = dataclasses.asdict(self.cleaning or UNCLEANED)
        return (
            ("columns", self.columns),
            ("time", self.time),
            ("cleaning", tuple(cleaning.items())),
            ("mask_channels", self.mask_channels),
            *((("longest_gap", self.longest_gap),) if self.longest_gap else ()),
            *((("duplicates", "mean"),) if self.duplicates == "mean" else ()),
        )

    @classmethod
    def of(cls, channels, rate=0.0, **preparation):
        # A bundle that does not say filled gaps by straight lines, and no more.
        cleaning = dict(preparation.pop("cleaning", ())) or {"outliers": "keep"}
        masks = 1 + bool(preparation.get("mask_channels"))
        return cls(
            name="folder",
            channels=channels // masks,
            rate=rate,
            cleaning=Cleaning(**cleaning),
            **preparation,
        )

    def read(self, path):
        values, rate, extra, others = read_recording(
            path, self.columns, self.time, self.channels, self.duplicates
        )
        known = np.isfinite(values)
        if not known.any(0).all():
            channel = int(np.flatnonzero(~known.any(0))[0])
            raise Unreadable(f"channel {channel} has no value at all")
        values, suffix = self._filled(values, known), path.suffix.lower()
        more = {"others": others}
        return Record(values, rate, known, more=more, suffix=suffix, extra=extra)

    def dropped(self, path, record):
        if missing := 1 - float(record.known.mean()):
            yield f"{percent(missing)} of its values, gaps that are filled"
        raw = np.where(record.known, record.values, np.nan)
        found = self.adapt(dataclasses.replace(record, values=raw)).more["cleaned"]
        if beyond := float(np.mean(found.outliers)):
            yield f"{percent(beyond)} of its values, beyond the limits of cleaning"
        if names := record.more["others"]:
            yield f"its columns {', '.join(names)}"

    def write(self, record):
        return write_recording(record)

    def new(self, values, rate, names=()):
        names = list(names or self.columns)
        # A CSV's first row of numbers would be read as values.
        extra = time_and_names(None, [] if all(map(is_number, names)) else names)
        if self.time:  # a file without that column would not be read again
            names = names or [f"channel_{c}" for c in range(self.channels)]
            extra = time_and_names(0.0, [self.time, *names])
        return Record(values[:, : self.channels], rate, suffix=".csv", extra=extra)

    def _filled(self, values, known):
        rule = (self.cleaning or UNCLEANED).fill
        return fill(values, known, rule).astype(np.float32)

    def load(self, path, share=(0.0, 1.0)):
        values, more = read_columns(path, self, share)
        return self.adapt(Record(values, self.rate, more=more))

    def adapt(self, record):
        """(t, c) with NaN where a value is missing -> cleaned."""
        found = clean(record.values, self.cleaning or UNCLEANED)
        more = record.more | {"cleaned": found}
        return dataclasses.replace(
            record, values=found.values, known=found.known, more=more
        )

    def starts(self, record):
        last = len(record.values) - self.length
        return range(0, last + 1, self.stride or self.length)

    @property
    def drawn(self):
        return bool(self.augment and self.augment.shift)

    def pieces(self, records, starts, draws):
        shifts = (self.augment or SeriesAugment()).shifts(draws)
        last = [len(record.values) - self.length for record in records]
        lows = np.clip(np.asarray(starts) + shifts, 0, last).tolist()
        return [operator.itemgetter(slice(low, low + self.length)) for low in lows]

    def cut(self, records, starts, draws) -> Batch:
        batch = super().cut(records, starts, draws)
        if self.mask_channels:  # of these everything is known
            x, known = batch["x"], batch["known"]
            batch["x"] = np.concatenate([x, known], -1)
            batch["known"] = np.concatenate([known, np.ones_like(known)], -1)
        return batch

    def augmented(self, batch: Batch, draws: Draws) -> Batch:
        x, masks = np.split(batch["x"], [self.channels], -1)
        x = super().augmented({"x": x}, draws)["x"]
        return batch | {"x": np.concatenate([x, masks], -1)}

    def findings(self, records):
        """Shares missing and beyond the limit; in how many a channel is constant, and
        of how many the channels are called otherwise, or stand in another order."""
        mores = [record.more for record in records]  # each of which is read once
        found = [more["cleaned"] for more in mores]
        weights = np.array([len(each.values) for each in found], float)
        weights /= weights.sum()
        missing = weights @ np.array([each.missing for each in found])
        outliers = weights @ np.array([each.outliers for each in found])
        constant = np.array([each.constant for each in found]).sum(0)
        names = [f"channel {c}" for c in range(self.channels)]
        called = [tuple(more.get("names", self.columns or names)) for more in mores]
        told = {
            "channels": list(called[0]),
            "recordings": len(found),
            "missing_share": missing.tolist(),
            "outlier_share": outliers.tolist(),
            "recordings_where_constant": constant.tolist(),
            "repeated_times": sum(more.get("repeated", 0) for more in mores),
            "steps_apart": round(max(more.get("apart", 1.0) for more in mores), 3),
        }
        guessed = Counter(CALLED.get(more.get("ticks", 1)) for more in mores)
        if units := [{"unit": u, "recordings": n} for u, n in guessed.items() if u]:
            told["times_taken_for"] = units
        others = Counter(each for each in called if each != called[0])
        if others:
            told["called_otherwise"] = [
                {"channels": list(each), "recordings": n}
                for each, n in others.most_common(OTHERS)
            ]
        limits = np.array([each.limits for each in found if each.limits])
        if len(limits):
            low, high = limits[..., 0].min(0), limits[..., 1].max(0)
            told["within"] = [
                f"{a:.4g} to {b:.4g}" for a, b in zip(low, high, strict=True)
            ]
        return told

    def changes(self, findings):
        """What cleaning changed, a line each, channel by channel in its own unit."""
        how, channels = self.cleaning or UNCLEANED, ",".join(findings["channels"])
        bare = findings["channels"] == [f"channel {c}" for c in range(self.channels)]
        for found in findings.get("called_otherwise", ()):
            others = ", ".join(found["channels"])
            named = ",".join(found["channels"]) if bare else channels
            count = f"{found['recordings']} of {findings['recordings']}"
            yield (
                f"recordings of {others} are taken for {channels}, column by column: "
                f"{count}; data.columns={named} takes those of these names"
            )
        done = {"clip": "clipped to that", "missing": "taken for missing"}
        for c, name in enumerate(findings["channels"]):
            if missing := findings["missing_share"][c]:
                yield f"{name}: {percent(missing)} is missing, and filled ({how.fill})"
            share = findings["outlier_share"][c]
            if share > TOLD:
                within = findings["within"][c]
                yield (
                    f"{name}: {share:.2%} of what was measured lies beyond {within}, "
                    f"and is {done[how.outliers]}; data.cleaning.outliers=keep does not"
                )
        for found in findings.get("times_taken_for", ()):
            count = f"{found['recordings']} of {findings['recordings']} recordings"
            yield (
                f"times of {count} are taken for {found['unit']} since 1970, by their "
                "size; write seconds where they are not"
            )
        if count := findings["repeated_times"]:
            yield f"{count} samples have the time of another ({self.duplicates} counts)"
        if (apart := findings["steps_apart"]) > STRETCHED:
            yield (
                f"samples are {apart:,.0f} steps of data.rate={self.rate:g} apart, and "
                "between them are straight lines; write times in seconds, or less of it"
            )

    def prepare(self, record):
        raw = np.where(record.known, record.values, np.nan)
        found = self.adapt(dataclasses.replace(record, values=raw))
        values = found.values
        if self.mask_channels:
            values = np.concatenate([values, found.known.astype(np.float32)], axis=-1)
        return dataclasses.replace(record, values=values)

    def planes(self, values, channels):
        if values.shape[-1] != channels:
            masks = 1 + self.mask_channels
            raise BadInput(
                f"it has {values.shape[-1] // masks} columns, and the bundle takes "
                f"{channels // masks}"
            )
        return values[None]

    def merge(self, planes, channels):
        return planes[0][..., :channels]

    def resample(self, values, rate, to):
        count = max(1, round((len(values) - 1) * to / rate) + 1)
        at, old = np.arange(count) / to, np.arange(len(values)) / rate
        columns = [np.interp(at, old, column) for column in values.T]
        return np.stack(columns, axis=-1).astype(np.float32)

    def regrid(self, record, to):
        """By `one_clock`: gaps stay gaps, and are filled anew."""
        raw = np.where(record.known, record.values.astype(np.float64), np.nan)
        times = np.arange(len(raw)) / record.rate
        values, _ = one_clock([(times, raw)], to, self.longest_gap or None, ["it"])
        known = np.isfinite(values)
        values = self._filled(values, known)
        return dataclasses.replace(record, values=values, rate=to, known=known)

    def measure(self, original, decoded):
        """Signal to noise over all channels, each in units of its own spread.

        A channel that never changes has none and does not count; nan where all are so.
        """
        power = original.var(0, dtype=np.float64)
        error = np.square(original - decoded).mean(0)
        # Rounding of a value that does not change is no spread.
        moving = power > 1e-12 * np.square(np.abs(original).max(0, initial=0))
        if not moving.any():
            return np.nan
        with np.errstate(divide="ignore"):
            return float(-10 * np.log10((error[moving] / power[moving]).mean()))
