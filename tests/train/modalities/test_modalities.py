"""What every modality promises; a place in MODALITIES is the price of entry."""

import dataclasses
import json

import numpy as np
import pytest

from tests.members import missing
from tests.train.fresh import batches, fresh
from train import modalities
from train.modalities import (
    Audio,
    AudioCleaning,
    Cleaning,
    ImageAugment,
    Images,
    RangeAugment,
    Ranges,
    Record,
    Series,
    SeriesAugment,
    Video,
    VolumeAugment,
    Volumes,
)
from train.modalities.draws import Draws, Word
from train.modalities.kinds import modality_of
from train.modalities.modality import Modality
from train.pipeline import whole
from vqdit.values import build, describe

WAVES = SeriesAugment(shift=5, gain=3.0, noise=0.1, hide=0.2)
MODALITIES = {
    "image": Images(size=8, flip=True, crop="random", augment=ImageAugment(rotate=20)),
    "audio": Audio(rate=2000, length=128, crop="random", augment=WAVES),
    "video": Video(frames=3, size=16, examples=40, augment=ImageAugment(pace=0.5)),
    "series": Series(length=32, channels=2, examples=40, augment=WAVES),
    "masks": Series(length=32, examples=40, mask_channels=True, augment=WAVES),
    "volume": Volumes(
        size=(4, 6, 8), examples=16, augment=VolumeAugment(rotate=20, flip=True)
    ),
    "range": Ranges(
        rows=4, azimuth=16, examples=16, augment=RangeAugment(roll=True, noise=0.1)
    ),
}
# Records as files of theirs hold them, for tokenizers of as many channels and a rate.
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (3, 6, 5, 3)).astype(np.uint8)
SERIES = (RNG.standard_normal((30, 2)) + 5).astype(np.float32)
HOLES = RNG.uniform(1, 50, (4, 8, 1)).astype(np.float32)
HOLES[1, 2] = np.nan
SUFFIXED = {
    "image": Record(BYTES[0], suffix=".png"),
    "audio": Record(SERIES / 20, 8000.0, suffix=".flac"),
    "video": Record(BYTES, suffix=""),
    "series": Record(SERIES, known=np.ones((30, 2), bool), suffix=".npz", extra=b"\0"),
    "volume": Record(SERIES.reshape(3, 4, 5, 1), suffix=".npy", extra=b"\1"),
    "range": Record(HOLES, suffix=".npy", extra=b"\0"),
}
OF = {
    "image": {},
    "audio": {"dc": True, "peak": None, "loudness": -20.0},
    "video": {},
    "series": {"cleaning": tuple(dataclasses.asdict(Cleaning()).items())},
    "volume": {"window": (4.0, 6.0)},
    "range": {"far": 80.0},
}
every = pytest.mark.parametrize("data", MODALITIES.values(), ids=list(MODALITIES))
each = pytest.mark.parametrize("kind", SUFFIXED)


def test_no_modality_is_left_out():
    belongs = lambda kind: issubclass(kind, Modality)
    members = map(type, MODALITIES.values())
    assert missing(modalities, belongs, members) == {"Modality", "Pixels", "Tables"}
    # Tables have no signal that a tokenizer would learn.
    kinds = {data.kind for data in MODALITIES.values()}
    assert kinds == SUFFIXED.keys() == OF.keys()


@every
def test_shapes_labels_and_masks_are_as_said(data):
    data = dataclasses.replace(data, threads=0)
    batch = next(batches(data, True, 4, seed=0))
    assert batch["x"].shape == (4, *data.shape)
    assert batch["x"].dtype == (np.uint8 if data.pixels else np.float32)
    assert batch["label"].shape == (4,) and batch["label"].dtype == np.int32
    assert ("known" in batch) == data.masked
    if data.masked:
        assert batch["known"].shape == batch["x"].shape
        assert set(np.unique(batch["known"])) <= {0, 1}
    assert modality_of(data.kind) is type(data)


@every
def test_augmentation_is_a_function_of_seed_epoch_and_index(data):
    examples = fresh(data, True)
    rows, epochs = np.array([3, 0, 3, 7]), np.array([0, 0, 1, 2])
    one = examples.augmented(rows, epochs, 5)["x"]
    turned = fresh(data, True).augmented(rows[::-1], epochs[::-1], 5)["x"]
    np.testing.assert_array_equal(one, turned[::-1])
    assert (one[0] != one[2]).any(), "another epoch, another draw"
    assert (one != examples.augmented(rows, epochs, 6)["x"]).any()
    # Evaluation draws nothing.
    np.testing.assert_array_equal(
        examples.take(rows)["x"], whole(data, True)["x"][rows]
    )


PLAIN = {
    "squares": Images(),
    "clips": Audio(rate=2000, length=128, augment=SeriesAugment(gain=3.0)),
    "frames": Video(frames=3, size=16, examples=40, augment=ImageAugment(rotate=9)),
    "windows": Series(length=32, examples=40, augment=SeriesAugment(noise=0.1)),
    "scans": Volumes(size=(4, 6, 8), examples=16, resize=True),
    "cuts": Volumes(size=(4, 6, 8), examples=16),
}


@pytest.mark.parametrize("data", (MODALITIES | PLAIN).values())
def test_only_what_is_drawn_is_cut_differently_in_training(data):
    """For the other examples are kept. Of records longer than an example."""
    longer = data
    if data.kind in ("audio", "series"):
        longer = dataclasses.replace(data, length=2 * data.length)
    if data.kind == "volume" and not data.resize:
        longer = dataclasses.replace(data, size=(8, 6, 8))
    records = fresh(longer, True).source.take(range(8))
    if data.kind == "image" and data.crop == "random":
        records = [Record(np.repeat(each.values, 2, 0)) for each in records]
    draws = Draws(0, np.arange(8), np.arange(8))
    still, moved = (data.cut(records, [0] * 8, each)["x"] for each in (None, draws))
    assert data.drawn != (still == moved).all()


@every
def test_it_is_a_value_that_json_holds(data):
    text = json.dumps(describe(data))
    assert build(json.loads(text), ("train",)) == data and hash(data)
    assert {name for name, _ in data.preparation} <= set(data.takes)
    fields = {field.name for field in dataclasses.fields(data)}
    assert {*data.sides, *data.made} <= fields


@every
def test_examples_are_shown_as_pictures(data):
    x = whole(data, False, count=2)["x"]
    shown = data.show(x)
    assert shown.dtype == np.uint8 and shown.ndim == 4 and len(shown) == 2
    assert shown.shape[-1] in (1, 3) and shown.std() > 0
    np.testing.assert_array_equal(data.show(x[1:])[0], shown[1])


def files(data, record, folder):
    content = data.write(record)
    path = folder / f"a{record.suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.mkdir()
        for name, each in content.items():
            (path / name).write_bytes(each)
    return path


@each
def test_what_is_written_is_read_again(kind, tmp_path):
    record = SUFFIXED[kind]
    data = modality_of(kind).of(record.values.shape[-1], record.rate, **OF[kind])
    again = data.read(files(data, record, tmp_path))
    # 16-bit samples of sound.
    np.testing.assert_allclose(again.values, record.values, atol=2**-15)
    assert (again.rate, again.suffix) == (record.rate, record.suffix)
    assert data.measure(record.values, record.values) > 100
    worse = np.nan_to_num(np.roll(record.values, 1, axis=0))
    assert data.measure(record.values, worse) < 60
    assert data.units(record.values, record.rate or 1.0) > 0


@pytest.mark.parametrize("data, shape", [(Ranges(), (32, 64)), (Volumes(), (8, 9, 30))])
def test_a_channel_of_small_values_is_measured_as_any_other(data, shape):
    """A reflectance beside metres: each in units of its own range."""
    far, dim = np.random.default_rng(0).uniform((5, 0), (70, 1), (*shape, 2)).T
    x = np.stack([far, dim], -1)
    inverted = np.stack([far, dim.max() + dim.min() - dim], -1)
    turned = np.stack([far.max() + far.min() - far, dim], -1)
    assert data.measure(x, inverted) < 10
    assert data.measure(x, inverted) == pytest.approx(data.measure(x, turned), abs=1)
    # One that never changes does not count.
    still = np.stack([far, np.full_like(far, 3.0)], -1)
    alone = data.measure(far[..., None], far[..., None] + 1)
    assert data.measure(still, still + 1) == pytest.approx(alone)
    assert np.isnan(data.measure(still[..., 1:], still[..., 1:] + 1))
    assert data.measure(still[..., 1:], still[..., 1:]) == np.inf


@each
def test_restore_undoes_prepare_but_for_what_is_lost(kind):
    record = SUFFIXED[kind]
    data = modality_of(kind).of(record.values.shape[-1], record.rate, **OF[kind])
    ready = data.prepare(record)
    assert np.isfinite(ready.values).all()
    back = data.restore(ready.values, ready.extra)
    wanted = record.values
    if kind == "volume":  # clipped for good
        wanted = wanted.clip(4, 6)
    np.testing.assert_allclose(back, wanted, atol=1e-4)


@each
@pytest.mark.parametrize("taken", [1, 2, 3])
def test_planes_merge_to_the_signal(kind, taken):
    values = SUFFIXED[kind].values
    data = modality_of(kind).of(taken, 1.0, **OF[kind])
    channels = values.shape[-1]
    try:
        planes = data.planes(values, taken)
    except ValueError:
        assert taken != channels
        return
    assert planes.shape[0] == data.count(channels, taken)
    assert planes.shape[-1] == taken
    if taken >= channels or kind == "audio":
        merged = data.merge(planes, channels)
        np.testing.assert_allclose(merged[..., :channels], values, rtol=1e-6)


def test_grey_pictures_and_colour_are_coded_by_tokenizers_of_the_other():
    grey, colour = BYTES[0, ..., :1], BYTES[0]
    three, one = Images.of(3), Images.of(1)
    planes = three.planes(grey, 3)
    np.testing.assert_array_equal(planes, np.stack([grey[..., 0]] * 3, -1)[None])
    np.testing.assert_array_equal(three.merge(planes, 1), grey)
    weighed = colour @ [0.299, 0.587, 0.114]  # ITU-R 601
    for found in (one.planes(colour, 1)[0], three.merge(colour[None], 1)):
        np.testing.assert_allclose(found[..., 0], weighed, atol=0.51)


def test_sound_of_one_channel_is_coded_by_a_tokenizer_of_two():
    data, mono = Audio.of(2, 8000.0), SERIES[:, :1]
    planes = data.planes(mono, 2)
    assert planes.shape == (1, 30, 2) and (planes == mono).all()
    apart = planes + [0.25, -0.25]  # as decoded: their mean is the signal
    np.testing.assert_allclose(data.merge(apart, 1), mono, rtol=1e-6)


def test_the_fields_that_all_share_are_refused_by_all():
    for data in MODALITIES.values():
        for field, value in (("holdout", 1.0), ("bad_share", -0.1), ("threads", -1)):
            with pytest.raises(ValueError, match=rf"^data\.{field}.*write"):
                dataclasses.replace(data, **{field: value})


def test_cleaning_of_a_bundle_that_says_nothing():
    assert Audio.of(1).clean == AudioCleaning(dc=False, peak=0.9)
    assert Ranges.of(1).far is None
    assert Series.of(2).cleaning == Cleaning(fill="linear", outliers="keep")


def test_no_two_kinds_of_draws_share_a_word():
    words = {n: w for n, w in vars(Word).items() if not n.startswith("_")}
    del words["TONES"]  # with no seed behind it, unlike that of series
    assert len(set(words.values())) == len(words)
