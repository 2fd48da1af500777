import dataclasses

import numpy as np
import pytest

from train.errors import BadInput
from train.modalities import Images, Ranges, Video, Volumes
from train.modalities.draws import Draws, Version, Word
from train.modalities.transforms.augment import (
    YIQ,
    ImageAugment,
    RangeAugment,
    SeriesAugment,
    VolumeAugment,
    stretches,
)
from train.modalities.transforms.warp import move_boxes, warp, without_slivers
from train.pipeline import open_examples as prepare

EVERYTHING = ImageAugment(
    rotate=30,
    crop=0.3,
    shift=0.1,
    flip=True,
    brightness=0.2,
    contrast=0.2,
    saturation=0.3,
    hue=20,
    noise=0.05,
)


def draws(n: int, seed: int = 0, epoch: int = 0, first: int = 0) -> Draws:
    return Draws(seed, np.full(n, epoch), first + np.arange(n))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def matrix(*rows) -> np.ndarray:
    return np.array([rows], float)


@pytest.mark.parametrize("size", [7, 8])
def test_quarter_turns_whole_steps_and_mirrors_are_exact(size):
    x = pictures(1, 2, size, size, 3)
    # Reads at (y, x) -> (x, -y): a quarter turn, of both frames.
    turned = warp(x, matrix([0, 1, 0], [-1, 0, 0]))
    np.testing.assert_array_equal(turned, np.rot90(x, axes=(2, 3)))
    moved = warp(x, matrix([1, 0, 2], [0, 1, -1]))
    np.testing.assert_array_equal(moved[:, :, :-2, 1:], x[:, :, 2:, :-1])
    np.testing.assert_array_equal(moved[:, :, -1, 1:], x[:, :, -1, :-1])  # held
    beyond = np.pad(x, [(0, 0), (0, 0), (2, 0), (1, 0), (0, 0)], "edge")
    back = warp(x, matrix([1, 0, -2], [0, 1, -1]))  # so are the other two
    np.testing.assert_array_equal(back, beyond[:, :, :size, :size])
    np.testing.assert_array_equal(
        warp(x, matrix([1, 0, 0], [0, -1, 0])), x[:, :, :, ::-1]
    )


def test_half_a_step_is_the_mean_of_two():
    x = np.array([0.0, 2, 6, 8]).reshape(1, 1, 4, 1)
    half = warp(x, matrix([1, 0, 0], [0, 1, 0.5]))
    np.testing.assert_allclose(half.ravel(), [1, 4, 7, 8])


def test_turning_there_and_back_is_nearly_nothing_inside():
    y, x = np.mgrid[:48, :48]
    smooth = (127 + 60 * np.sin(x / 7) + 60 * np.cos(y / 9))[None, ..., None]
    angle = np.radians(33)
    c, s = np.cos(angle), np.sin(angle)
    there = warp(smooth, matrix([c, -s, 0], [s, c, 0]))
    back = warp(there, matrix([c, s, 0], [-s, c, 0]))
    inside = (slice(None), slice(14, 34), slice(14, 34))
    assert abs(there - smooth)[inside].max() > 50
    assert abs(back - smooth)[inside].max() < 2


def test_an_example_is_a_function_of_seed_epoch_and_index_alone():
    x = pictures(6, 12, 12, 3)
    whole = EVERYTHING({"x": x}, draws(6))["x"]
    part = EVERYTHING({"x": x[3:5]}, draws(2, first=3))["x"]
    np.testing.assert_array_equal(part, whole[3:5])
    for other in (draws(6, seed=1), draws(6, epoch=1), draws(6, first=1)):
        changed = EVERYTHING({"x": x}, other)["x"]
        assert (changed != whole).any((1, 2, 3)).all()


def test_angles_are_even_between_their_bounds():
    augment, n = ImageAugment(rotate=40), 4000
    m = augment.placements(draws(n), 8, 8)
    angle = np.degrees(np.arctan2(m[:, 1, 0], m[:, 0, 0]))
    assert abs(angle).max() <= 40
    assert abs(angle.mean()) < 5 * 40 / (3 * n) ** 0.5
    np.testing.assert_allclose(angle.std(), 40 / 3**0.5, rtol=5 * 0.45 / n**0.5)


def test_a_crop_lies_anywhere_within_the_picture_and_a_shift_moves_it_further():
    """What is read of 10 x 20 pixels: its middle, and half of its sides."""
    sides, n = np.array([10, 20]), 4000
    for crop, shift in ((0.6, 0.0), (0.0, 0.25), (0.6, 0.25)):
        found = ImageAugment(crop=crop, shift=shift).placements(draws(n), *sides)
        kept = found[:, 0, 0]
        np.testing.assert_array_equal(found[:, 1, 1], kept)
        assert not found[:, [0, 1], [1, 0]].any()
        assert 1 - crop <= kept.min() < 1 - crop + 0.01 and 0.99 < kept.max() <= 1
        edge = (abs(found[..., 2]) + kept[:, None] * sides / 2) / sides
        assert edge.max() <= 0.5 + shift + 1e-9
        reached = (abs(found[..., 2]) / sides).max(0) - (crop / 2 + shift)
        assert (abs(reached) < 0.02).all()
        assert abs(found[..., 2].mean(0) / sides).max() < 5 * 0.55 / (3 * n) ** 0.5


def test_all_frames_of_a_clip_and_its_boxes_get_one_draw():
    """Each clip shows one bright rectangle; after turning, its ink is in its box."""
    clip = np.zeros((8, 3, 64, 64, 1), np.uint8)
    clip[:, :, 20:30, 24:44] = 255
    box = [24 / 64, 20 / 64, 44 / 64, 30 / 64, 2]
    boxes = np.broadcast_to(np.array(box), (8, 3, 1, 5))
    augment = ImageAugment(rotate=60, crop=0.3, shift=0.05, flip=True)
    batch = {"x": clip, "boxes": boxes.astype(np.float32)}
    out = augment(batch, draws(8))
    for frames, found in zip(out["x"], out["boxes"], strict=True):
        np.testing.assert_array_equal(frames, np.broadcast_to(frames[:1], frames.shape))
        assert (found == found[0]).all()
        rows, columns = np.nonzero(frames[0, ..., 0] > 127)
        ink = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(ink, found[0, 0, :4] * 64, atol=1.5)
        assert (found[..., 4] == 2).all()
    assert len(np.unique(out["boxes"][:, 0, 0], axis=0)) == 8
    assert (batch["x"] == clip).all() and (batch["boxes"] == boxes).all()


def test_a_mirrored_box_is_its_mirror_image_and_stays_in_the_picture():
    box = np.array([[[0.1, 0.2, 0.4, 0.9]]], np.float32)
    found = move_boxes(box, matrix([1, 0, 0], [0, -1, 0]), 10, 20)
    np.testing.assert_allclose(found, [[[0.6, 0.2, 0.9, 0.9]]], atol=1e-6)
    gone = move_boxes(box, matrix([1, 0, 0], [0, 1, 16]), 10, 20)  # all but 0 left
    np.testing.assert_allclose(gone, [[[0, 0.2, 0, 0.9]]], atol=1e-6)


def test_a_box_of_which_no_more_than_a_sliver_is_left_is_absent():
    edge = [[0.2, 1 - 5e-5, 0.8, 1, 2], [1, 0, 1, 1, 2], [0.3, 0.3, 0.3, 0.9, 0]]
    kept = [[0.9998, 0.2, 1, 0.4, 2], [0, 0, 2e-4, 1, 0]]
    none = [[0.0, 0, 0, 0, -1]]
    found = without_slivers(np.array(edge + kept + none, np.float32))
    np.testing.assert_array_equal(found, np.array(none * 3 + kept + none, np.float32))


def test_colour_keeps_grey_grey_and_turns_the_hue():
    grey = np.repeat(pictures(4, 5, 5, 1), 3, -1)
    turned = ImageAugment(saturation=0.9, hue=180)({"x": grey}, draws(4))
    np.testing.assert_allclose(turned["x"].astype(int), grey.astype(int), atol=1)
    soft = 100 + pictures(4, 5, 5, 3) // 8
    found = ImageAugment(hue=90)({"x": soft}, draws(4))["x"]
    before, after = (p.astype(float) @ YIQ.T for p in (soft, found))
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=1)  # luma
    angle = np.arctan2(after[..., 2], after[..., 1]) - np.arctan2(
        before[..., 2], before[..., 1]
    )
    strong = np.hypot(before[..., 1], before[..., 2]) > 8
    wanted = np.radians(draws(4).between(Word.HUE, 90))
    apart = np.angle(np.exp(1j * (angle - wanted[:, None, None])))
    assert abs(apart[strong]).max() < 0.2


def test_saturation_is_how_far_colours_are_from_grey():
    soft = 100 + pictures(20, 5, 5, 3) // 8
    found = ImageAugment(saturation=0.5)({"x": soft}, draws(20))["x"]
    before, after = (p.astype(float) @ YIQ.T for p in (soft, found))
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=1)  # luma
    of = lambda x: np.square(x[..., 1:]).sum((1, 2, 3)) ** 0.5
    factor = of(after) / of(before)
    assert 0.48 < factor.min() < 0.65 and 1.35 < factor.max() < 1.52
    slope = [
        np.sum(a[..., 1:] * b[..., 1:]) for a, b in zip(after, before, strict=True)
    ]
    np.testing.assert_allclose(slope / of(before) ** 2, factor, atol=0.02)  # no turn


def test_brightness_adds_and_contrast_spreads_about_the_mean():
    x = 100 + pictures(50, 6, 6, 1) // 8
    lit = ImageAugment(brightness=0.1)({"x": x}, draws(50))["x"]
    change = lit.astype(int) - x
    assert (change == change[:, :1, :1]).all()
    assert -26 <= change.min() < -15 and 15 < change.max() <= 26
    spread = ImageAugment(contrast=0.5)({"x": x}, draws(50))["x"]
    ratio = spread.std((1, 2, 3)) / x.std((1, 2, 3))
    assert 0.45 < ratio.min() < 0.7 and 1.3 < ratio.max() < 1.55
    np.testing.assert_allclose(spread.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=0.5)


def test_noise_has_its_deviation_and_is_fresh_for_every_frame():
    x = np.full((4, 5, 40, 40, 1), 128, np.uint8)
    noisy = ImageAugment(noise=0.05)({"x": x}, draws(4))["x"]
    away = noisy.astype(float) - 128
    n = away.size
    np.testing.assert_allclose(away.std(), 0.05 * 255, rtol=5 / (2 * n) ** 0.5 + 0.01)
    flat = away.reshape(20, -1)
    assert abs(np.corrcoef(flat) - np.eye(20)).max() < 5 / 40


@pytest.mark.parametrize(
    "augment, shape",
    [
        (SeriesAugment(noise=0.3), (20, 50, 2)),
        (VolumeAugment(noise=0.3), (20, 4, 5, 5, 1)),
        (RangeAugment(noise=0.3), (20, 5, 10, 2)),
    ],
)
def test_noise_is_added_in_units_of_the_signal(augment, shape):
    x = np.full(shape, 3.0, np.float32)
    away = augment({"x": x, "known": np.ones_like(x)}, draws(20))["x"] - 3
    assert away.dtype == np.float32
    np.testing.assert_allclose(away.std(), 0.3, rtol=5 / (2 * x.size) ** 0.5)
    assert abs(away.mean()) < 5 * 0.3 / x.size**0.5
    flat = away.reshape(20, -1)  # of each example its own
    assert abs(np.corrcoef(flat) - np.eye(20)).max() < 5 / flat.shape[1] ** 0.5


def test_nothing_asked_is_nothing_done():
    x = pictures(3, 6, 6, 3)
    assert ImageAugment()({"x": x}, draws(3))["x"] is x
    series = np.ones((2, 8, 1), np.float32)
    assert SeriesAugment()({"x": series}, draws(2))["x"] is series
    assert VolumeAugment()({"x": series}, draws(2))["x"] is series


def test_masks_in_time_and_frequency_are_runs_of_their_width():
    n = 3000
    place = draws(n)(1)
    runs = stretches(20, np.full(n, 0.25), place)
    assert (runs.sum(1) == 5).all()
    starts = runs.argmax(1)
    assert (np.diff(runs.astype(int), axis=1) == 1).sum(1).max() <= 1
    counts = np.bincount(starts, minlength=16)
    assert len(counts) == 16 and abs(counts - n / 16).max() < 5 * (n / 16) ** 0.5
    assert stretches(20, np.array([0.0, 0.999999]), np.zeros(2)).sum(1).tolist() == [
        0,
        19,
    ]


def test_a_muted_band_takes_out_its_tones_and_no_other():
    t = np.arange(256) / 256
    tones = np.stack([np.sin(2 * np.pi * k * t) for k in range(1, 128)]).sum(0)
    x = np.repeat(tones[None, :, None], 20, 0)
    quiet = SeriesAugment(mute=0.3)({"x": x}, draws(20))["x"]
    power = abs(np.fft.rfft(quiet[..., 0], axis=1)) / 128
    on = power[:, 1:128]
    np.testing.assert_allclose(np.minimum(on, abs(1 - on)), 0, atol=1e-6)
    odd = SeriesAugment(mute=0.3)({"x": x[:, 1:]}, draws(20))["x"]
    assert odd.shape == (20, 255, 1)
    muted = (on < 0.5).sum(1)
    assert muted.max() <= 0.3 * 129 and muted.max() > 25 and muted.min() < 10


def test_gain_is_in_decibels_and_shifts_are_even():
    x = np.ones((500, 4, 2), np.float32)
    louder = SeriesAugment(gain=6)({"x": x}, draws(500))["x"]
    levels = 20 * np.log10(louder[:, 0, 0])
    assert abs(levels).max() <= 6 and levels.min() < -5.5 and levels.max() > 5.5
    shifts = SeriesAugment(shift=3).shifts(draws(7000))
    counts = np.bincount(shifts + 3)
    assert len(counts) == 7 and abs(counts - 1000).max() < 5 * 1000**0.5
    ones = {"x": np.ones((50, 40, 2), np.float32)}
    hidden = SeriesAugment(hide=0.5)(ones, draws(50))["x"]
    assert (hidden[..., 0] == hidden[..., 1]).all()
    assert 0 < (hidden[..., 0] == 0).sum(1).max() <= 20


def test_a_sweep_rolls_with_its_mask():
    x = np.random.default_rng(1).random((6, 3, 10, 2)).astype(np.float32)
    mask = (x > 0.5).astype(np.float32)
    out = RangeAugment(roll=True)({"x": x, "known": mask}, draws(6))
    np.testing.assert_array_equal(out["known"], out["x"] > 0.5)
    turns = [
        [k for k in range(10) if (np.roll(b, -k, 1) == a).all()]
        for a, b in zip(out["x"], x, strict=True)
    ]
    assert all(len(t) == 1 for t in turns) and len({t[0] for t in turns}) > 2
    both = RangeAugment(roll=True, flip=True, noise=0.1)
    out = both({"x": x, "known": mask}, draws(6))
    quiet = dataclasses.replace(both, noise=0.0)
    still = quiet({"x": x, "known": mask}, draws(6))
    assert ((out["x"] != still["x"]) == (out["known"] > 0)).all()
    mirrored = (draws(6)(Word.MIRROR) < 0.5)[0]
    row = still["x"][0, 0, :, 0]
    there = np.concatenate([x[0, 0, :, 0]] * 2)[:: -1 if mirrored else 1]
    assert any((there[k : k + 10] == row).all() for k in range(11))


def test_a_volume_turns_all_its_slices_alike():
    x = np.random.default_rng(2).random((3, 4, 8, 8, 1)).astype(np.float32)
    x[:, 1:] = x[:, :1]
    out = VolumeAugment(rotate=180, flip=True, gain=0.2)({"x": x}, draws(3))["x"]
    np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1], out.shape))
    assert (out != x).any((1, 2, 3, 4)).all()
    ones = np.ones((300, 2, 2, 2, 1), np.float32)
    louder = VolumeAugment(gain=0.2)({"x": ones}, draws(300))["x"]
    assert (louder == louder[:, :1, :1, :1]).all()
    assert 0.8 <= louder.min() < 0.82 and 1.18 < louder.max() <= 1.2


def test_the_versions_of_an_example_are_all_that_mirroring_draws():
    x = pictures(16, 4, 6, 8, 3)
    sweeps = {"x": x[:, 0].astype(np.float32), "known": x[:, 0, ..., :1] / 255}
    clips = Video(frames=4, size=8, channels=3, augment=ImageAugment(flip=True))
    for data, batch, count in (
        (Images(size=8, channels=3, flip=True), {"x": x[:, 0]}, 2),
        (clips, {"x": x}, 2),
        (Ranges(augment=RangeAugment(flip=True)), sweeps, 2),
        (Volumes(augment=VolumeAugment(flip=True)), {"x": x.astype(np.float32)}, 4),
        (Images(augment=ImageAugment(rotate=9)), {"x": x[:, 0]}, 1),
    ):
        words = sum(data.mirrors.values(), ())
        versions = [
            data.augmented(batch, Version(words, version, 16))
            for version in range(2 ** len(words))
        ]
        assert len({v["x"].tobytes() for v in versions}) == len(versions) == count
        np.testing.assert_array_equal(versions[0]["x"], batch["x"])
        drawn = draws(16).version(words)
        assert set(drawn) == set(range(count))
        if count == 1:
            continue  # what is drawn besides is no version
        for name, value in data.augmented(batch, draws(16)).items():
            wanted = [versions[v][name][i] for i, v in enumerate(drawn)]
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    "kind,field,value",
    [
        (ImageAugment, "rotate", -1.0),
        (ImageAugment, "crop", 1.0),
        (SeriesAugment, "hide", 1.5),
        (SeriesAugment, "gain", -3.0),
        (VolumeAugment, "gain", 1.0),
        (RangeAugment, "noise", -0.1),
    ],
)
def test_an_amplitude_out_of_range_is_named(kind, field, value):
    with pytest.raises(BadInput, match=rf"augment\.{field}=.*write at least 0"):
        kind(**{field: value})


def test_pictures_are_augmented_by_seed_epoch_and_index():
    augment = ImageAugment(rotate=30, crop=0.2, brightness=0.2, noise=0.05)
    images = Images(name="digits", size=8, augment=augment, threads=0)
    plain = prepare(Images(name="digits", size=8, threads=0), True)
    rows, epochs = np.arange(8), np.zeros(8, int)
    found = prepare(images, True).augmented(rows, epochs, 0)
    assert found["x"].dtype == np.uint8
    np.testing.assert_array_equal(
        found["x"],
        augment(plain.take(rows), Draws(0, epochs, rows))["x"],
    )
    assert (found["x"] != plain.take(rows)["x"]).any((1, 2, 3)).all()
    # What is kept in memory stays as it was read.
    np.testing.assert_array_equal(
        prepare(images, True).take(rows)["x"], plain.take(rows)["x"]
    )
    with pytest.raises(BadInput, match="data.augment.pace=0.5: pictures have no pace"):
        Images(augment=ImageAugment(pace=0.5))
