import dataclasses
import sys

import nibabel
import numpy as np
import pytest

from tests.train.fresh import batches, fresh
from train.errors import BadInput, Unreadable
from train.modalities.record import Record
from train.modalities.transforms.augment import VolumeAugment
from train.modalities.volume import Volumes, fit_volume, resample
from train.pipeline import whole

SMALL = Volumes(size=(8, 12, 16), examples=24, threads=0)


def counted(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def over(folder, **fields) -> Volumes:
    given = {"size": (4, 4, 4), "threads": 0, "holdout": 0.0} | fields
    return Volumes(name="folder", data_dir=str(folder), **given)


def raw(volumes: Volumes, part: bool = True) -> np.ndarray:
    examples = fresh(volumes, part)
    found = whole(volumes, part)["x"].astype(np.float64)
    return found * examples.scale + examples.offset


def test_phantoms_come_normalised_to_the_range_of_training():
    train, test = fresh(SMALL, True), fresh(SMALL, False)
    assert (len(train), len(test)) == (24, 3)
    batch = train.take(np.arange(24))
    found, truth = batch["x"], batch["truth"]
    assert found.shape == (24, *SMALL.shape) and found.dtype == np.float32
    np.testing.assert_allclose([found.min(), found.max()], [-1, 1], rtol=1e-5)
    error = (found - truth) * train.scale[0]
    np.testing.assert_allclose(error.std(), 0.03, rtol=0.05)
    assert test.offset == train.offset


@pytest.mark.parametrize("form", ["npy", "npz", "nii", "nii.gz"])
def test_every_file_form_gives_the_same_voxels(tmp_path, form):
    x = counted(4, 4, 4) / 7
    path = tmp_path / f"scan.{form}"
    if form == "npy":
        np.save(path, x)
    elif form == "npz":
        np.savez(path, volume=x, spacing=np.ones(3))
    else:
        # Stored x first, as NIfTI has it.
        nibabel.save(nibabel.Nifti1Image(x.swapaxes(0, 2), np.eye(4)), path)
    np.testing.assert_allclose(raw(over(tmp_path))[0, ..., 0], x, atol=1e-5)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_arrays_of_every_version_of_their_format_are_read(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, counted(4, 5, 6), version)
    read = Volumes("folder").read(tmp_path / "a.npy")
    np.testing.assert_array_equal(read.values[..., 0], counted(4, 5, 6))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-1])
    with pytest.raises(Unreadable, match=r"cut short: \[4, 5, 6\] in 479 bytes"):
        Volumes("folder").read(tmp_path / "a.npy")


def nifti(path, x, affine, codes=1):
    """x is (z, y, x) in the patient's axes: right, front, up."""
    turned = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.io_orientation(affine)
    )
    stored = nibabel.orientations.apply_orientation(x.swapaxes(0, 2), turned)
    image = nibabel.Nifti1Image(stored, affine)
    image.set_sform(affine, codes)
    image.set_qform(affine, codes)
    nibabel.save(image, path)


AFFINES = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LAS": np.diag([-1.0, 1, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1, 1]),
    "AIL": np.array([[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]),
}


def test_scans_are_oriented_alike_however_they_are_stored(tmp_path):
    x = counted(4, 5, 6)
    for name, affine in AFFINES.items():
        nifti(tmp_path / f"{name}.nii", x, affine)
        read = Volumes("folder").read(tmp_path / f"{name}.nii")
        np.testing.assert_allclose(read.values[..., 0], x, atol=1e-4)
        assert read.more["orientation"] == name
    found = fresh(over(tmp_path, size=(4, 5, 6)), True).findings
    assert found["orientation"] == [f"1 of {name}" for name in sorted(AFFINES)]
    assert found["spacing"] == ["4 of 1 x 1 x 1"]


@pytest.mark.parametrize("end", ["nii", "nii.gz"])
def test_a_scan_comes_back_where_it_was(tmp_path, end):
    """As training reads it: turned, and each voxel at the place that it had."""
    data, tilt = Volumes("folder"), np.eye(4)
    tilt[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    for name, axes in AFFINES.items():
        affine = tilt @ axes @ np.diag([1.5, 2.0, 0.5, 1])
        affine[:3, 3] = 7, -9, 30
        nifti(tmp_path / f"{name}.{end}", counted(4, 5, 6), affine)
        read = data.read(tmp_path / f"{name}.{end}")
        back = tmp_path / f"back.{read.suffix[1:]}"
        back.write_bytes(data.write(read))
        again = data.read(back)
        assert again.suffix == f".{end}" and again.extra == read.extra
        np.testing.assert_array_equal(again.values, read.values)
        np.testing.assert_allclose(again.more["spacing"], read.more["spacing"])
        scan = nibabel.load(back)
        old = nibabel.as_closest_canonical(nibabel.load(tmp_path / f"{name}.{end}"))
        np.testing.assert_allclose(scan.affine, old.affine, atol=1e-5)
        assert scan.header["sform_code"] == 1
    several = np.stack([counted(4, 5, 6), -counted(4, 5, 6)], 0)
    image = nibabel.Nifti1Image(several.T, np.diag([0.002, 0.003, 0.004, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / f"several.{end}")
    read = data.read(tmp_path / f"several.{end}")
    back.write_bytes(data.write(read))
    again = data.read(back)
    assert again.values.shape == (4, 5, 6, 2)
    np.testing.assert_array_equal(again.values, read.values)
    np.testing.assert_allclose(again.more["spacing"], [4, 3, 2])
    assert nibabel.load(back).header.get_xyzt_units()[0] == "mm"


def test_a_scan_that_is_drawn_has_the_spacing_of_its_data(tmp_path):
    trained = over(tmp_path, spacing=(3.0, 2.0, 1.0), window=(-1.0, 1.0))
    assert dict(trained.preparation)["spacing"] == (3.0, 2.0, 1.0)
    data = Volumes.of(1, **dict(trained.preparation))
    record = data.new(counted(4, 5, 6)[..., None], 0.0)
    (tmp_path / f"a{record.suffix}").write_bytes(data.write(record))
    again = data.read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.values, record.values)
    assert again.more["spacing"].tolist() == [3, 2, 1]
    assert again.more["orientation"] == "RAS"
    # Of scans of one size there is none that all have, and of others it is not known.
    resized = dataclasses.replace(trained, resize=True)
    assert "spacing" not in dict(resized.preparation)
    for data in (Volumes.of(2), Volumes.of(2, **dict(resized.preparation))):
        unsaid = data.new(np.ones((4, 5, 6, 2), np.float32), 0.0)
        assert unsaid.suffix == ".npy"
        (tmp_path / "b.npy").write_bytes(data.write(unsaid))
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), unsaid.values)


def test_what_nifti_cannot_hold_is_refused_in_a_line():
    data = Volumes.of(1, spacing=(1.0, 1.0, 1.0))
    record = data.new(np.zeros((1, 2, 32_768, 1), np.float32), 0.0)
    with pytest.raises(BadInput, match="of .1, 2, 32768. is no NIfTI file.* 32,767;"):
        data.write(record)
    assert len(data.write(data.new(record.values[:, :, 1:], 0.0))) > 352


@pytest.mark.parametrize("suffix", [".nii", ".npy"])
def test_a_scan_keeps_the_channels_that_it_has(tmp_path, suffix):
    """Also where it says that its file had no axis of them."""
    data = Volumes.of(1, spacing=(1.0, 1.0, 1.0))
    flat = data.new(counted(2, 3, 4, 1), 0.0)
    for channels, shape in ((1, (2, 3, 4)), (2, (2, 3, 4, 2))):
        values = counted(2, 3, 4, channels)
        record = dataclasses.replace(flat, values=values, suffix=suffix)
        (tmp_path / f"a{suffix}").write_bytes(data.write(record))
        back = data.read(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(back.values, values)
        if suffix == ".npy":
            assert np.load(tmp_path / "a.npy").shape == shape


def test_a_scan_that_states_no_orientation_is_left(tmp_path):
    nifti(tmp_path / "a.nii", counted(4, 5, 6), np.eye(4), codes=0)
    read = Volumes("folder").read(tmp_path / "a.nii")
    np.testing.assert_allclose(read.values[..., 0], counted(4, 5, 6), atol=1e-4)
    assert read.more["orientation"] == "unknown"
    (tmp_path / "b.nii").write_bytes(Volumes("folder").write(read))
    again = Volumes("folder").read(tmp_path / "b.nii")
    assert again.more["orientation"] == "unknown"
    np.testing.assert_array_equal(again.values, read.values)


def test_scans_are_brought_to_one_spacing(tmp_path):
    """A ball of 8 mm is one of 8 voxels, whatever lay between them."""
    for i, mm in enumerate(((1.0, 1.0, 1.0), (2.0, 1.0, 0.5))):
        sides = np.round(16 / np.array(mm)).astype(int)
        axes = [
            (np.arange(n) - (n - 1) / 2) * d for n, d in zip(sides, mm, strict=True)
        ]
        ball = np.linalg.norm(np.meshgrid(*axes, indexing="ij"), axis=0) < 4
        affine = np.diag([-mm[2], mm[1], mm[0], 1])
        nifti(tmp_path / f"{i}.nii.gz", ball.astype(np.float32), affine)
    # Stored along other axes than the patient's, which keep their spacings.
    sagittal = AFFINES["AIL"] @ np.diag([mm[1], mm[0], mm[2], 1])
    nifti(tmp_path / "3.nii.gz", ball.astype(np.float32), sagittal)
    np.savez(tmp_path / "2.npz", volume=ball.astype(np.float32), spacing=mm)
    scans = over(tmp_path, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0))
    found = raw(scans)[..., 0]
    assert found.shape == (4, 16, 16, 16)
    for scan in found:
        assert np.abs(scan - found[-1]).mean() < 0.04
        assert abs(scan.sum() - 268) < 30  # 4/3 pi 4^3
    np.save(tmp_path / "4.npy", ball)
    with pytest.raises(BadInput, match="4.npy: states no spacing"):
        fresh(scans, True)
    np.savez(tmp_path / "4.npz", volume=ball, spacing=[1e3, 1e3, 1e3])
    (tmp_path / "4.npy").unlink()
    with pytest.raises(BadInput, match="states a spacing of 1e.03 x"):
        fresh(scans, True)


def test_where_voxels_lie_says_how_far_they_are_apart(tmp_path):
    """A header's spacing of 1 beside an affine of 2 is one that nobody filled in."""
    scan = nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([2, 2, 2, 1.0]))
    scan.to_filename(path := tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    content[80:92] = np.ones(3, "<f4").tobytes()
    path.write_bytes(bytes(content))
    assert over(tmp_path).read(path).more["spacing"].tolist() == [2, 2, 2]
    found = raw(over(tmp_path, size=(8, 8, 8), spacing=(1.0, 1.0, 1.0)))
    assert found.shape == (1, 8, 8, 8, 1) and (found == 1).all()


@pytest.mark.parametrize(
    "values, told",
    [
        (np.ones((4, 4, 4), np.complex64), "holds complex64, not numbers"),
        (np.ones((4, 4, 4), [(c, "u1") for c in "RGB"]), "holds .*'R'.*, not numbers"),
        (np.ones((4, 4), np.float32), r"is \[4, 4\]; write 3 axes"),
    ],
    ids=["complex", "colours", "flat"],
)
def test_scans_of_which_a_part_would_be_read_are_refused(tmp_path, values, told):
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(path := tmp_path / "a.nii.gz")
    with pytest.raises(Unreadable, match=told):
        over(tmp_path).read(path)


@pytest.mark.parametrize("apart", [1.0, 2.0])
def test_an_array_is_brought_to_another_spacing_by_its_own(apart):
    """Heights in millimetres stay those of their places."""
    scan = np.zeros((8, 4, 16, 1), np.float32) + np.arange(8).reshape(8, 1, 1, 1) * 2.0
    record = Record(scan, more={"spacing": np.array([2.0, 4.0, 1.0])})
    found = Volumes("folder", spacing=(apart,) * 3).adapt(record).values
    sides = 16 / apart
    assert found.shape == (sides, sides, sides, 1)
    heights = (np.arange(sides) + 0.5) * apart - 1  # from the middle of the first
    np.testing.assert_allclose(found[2:-2, 0, 0, 0], heights[2:-2], atol=1e-5)
    np.testing.assert_allclose(found, found[:, :1, :1] + 0 * found, atol=1e-5)


def test_nifti_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.nii").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(BadInput, match=r"need nibabel; pip install nibabel"):
        fresh(over(tmp_path), True)


def test_larger_scans_are_cut_and_smaller_ones_padded_with_their_least():
    x = counted(6, 4, 3)[..., None] + 5
    cut = fit_volume(x, (4, 4, 5))
    np.testing.assert_array_equal(cut[:, :, 1:4], x[1:5])
    assert (cut[:, :, [0, 4]] == 5).all()
    np.testing.assert_array_equal(fit_volume(x, (4, 4, 3), (0.0, 0.5, 0.5)), x[:4])
    np.testing.assert_array_equal(fit_volume(x, (4, 4, 3), (0.99, 0.5, 0.5)), x[2:])


def test_every_channel_is_padded_and_filled_with_its_own_least(tmp_path):
    """Each has a unit of its own: air in a CT is no activity in a PET."""
    x = np.stack([counted(4, 4, 4) - 1000, counted(4, 4, 4) + 5], -1)
    padded = fit_volume(x, (4, 4, 6))
    np.testing.assert_array_equal(padded[:, :, 1:5], x)
    assert (padded[:, :, [0, 5]] == [-1000, 5]).all()
    x[3, 3, 3] = np.nan
    x = np.concatenate([x, np.full((4, 4, 4, 1), np.inf, np.float32)], -1)
    np.save(tmp_path / "a.npy", x)
    found = over(tmp_path, channels=3).read(tmp_path / "a.npy").values
    assert found[3, 3, 3].tolist() == [-1000, 5, 0] and not found[..., 2].any()
    np.testing.assert_array_equal(found[:3, ..., :2], x[:3, ..., :2])
    assert found.dtype == np.float32


def test_training_cuts_anywhere_and_evaluation_at_the_centre(tmp_path):
    np.save(tmp_path / "a.npy", counted(8, 4, 4))
    volumes = over(tmp_path)
    np.testing.assert_allclose(
        raw(volumes)[0, ..., 0], counted(8, 4, 4)[2:6], atol=1e-3
    )
    examples = fresh(volumes, True)
    out = examples.augmented(np.zeros(200, int), np.arange(200), 0)["x"]
    first = (out[:, 0, 0, 0, 0] * examples.scale[0] + examples.offset[0]) / 16
    counts = np.bincount(np.round(first).astype(int))
    assert len(counts) == 5 and abs(counts - 40).max() < 5 * 40**0.5


def test_resampling_keeps_a_ramp_and_the_mean_and_reduces_noise():
    ramp = np.broadcast_to(np.arange(20.0)[:, None, None, None], (20, 5, 5, 1))
    up = resample(ramp, (40, 5, 5))[1:-1, 2, 2, 0]
    np.testing.assert_allclose(up, (np.arange(40) + 0.5)[1:-1] / 2 - 0.5, atol=1e-5)
    down = resample(ramp, (10, 5, 5))[1:-1, 2, 2, 0]
    np.testing.assert_allclose(down, (np.arange(10) + 0.5)[1:-1] * 2 - 0.5, atol=1e-5)
    noise = np.random.default_rng(0).standard_normal((40, 40, 40, 1))
    small = resample(noise, (10, 10, 10))
    assert small.std() < 0.15 and abs(small.mean()) < 0.02
    assert resample(noise, (40, 40, 40)) is noise


def test_intensities_are_windowed_first(tmp_path):
    np.save(tmp_path / "a.npy", counted(4, 4, 4) * 100 - 1000)
    volumes = over(tmp_path, window=(-160.0, 240.0))
    examples = fresh(volumes, True)
    assert (examples.offset, examples.scale) == ((40.0,), (200.0,))
    found = examples.take(np.array([0]))["x"]
    assert found.min() == -1 and found.max() == 1
    assert (found == -1).sum() == 9  # -1000, -900, ..., -200


def test_scans_that_cannot_be_used_are_named_and_refused_above_a_share(tmp_path):
    for i in range(6):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i}.npy", counted(4, 5, 6) + i)
    np.save(tmp_path / "a" / "flat.npy", counted(4, 4))
    np.save(tmp_path / "a" / "nothing.npy", np.full((4, 4, 4), np.nan))
    np.savez(tmp_path / "a" / "two.npz", x=counted(4, 4, 4), y=counted(4, 4, 4))
    (tmp_path / "a" / "fake.nii").write_text("no scan")
    volumes = over(tmp_path, bad_share=0.5)
    examples = fresh(volumes, True)
    why = dict(examples.refused)
    assert len(examples) == 6 and examples.class_names == ("a", "b")
    assert "is [4, 4]" in why["a/flat.npy"]
    assert "no finite value" in why["a/nothing.npy"]
    assert "no array 'volume', only ['x', 'y']" in why["a/two.npz"]
    assert "not a whole NIfTI" in why["a/fake.nii"]
    with pytest.raises(BadInput, match="4 of 10 files unreadable"):
        fresh(over(tmp_path), True)


def test_what_is_not_finite_is_a_share_of_all_scans(tmp_path, caplog):
    for i in range(4):
        x = counted(4, 4, 4)
        x[: 2 * (i == 1)] = np.nan
        np.save(tmp_path / f"{i}.npy", x)
    found = fresh(over(tmp_path, size=(8, 2, 4)), True).findings
    assert found == {"filled_share": [0.125], "padded_share": [0.5]}
    said = "channel 0: 12.50% is not finite, and filled with the least there is"
    assert said in caplog.text and "50.00% of the examples is padding" in caplog.text
    few = {"filled_share": [0.0, 4e-6], "padded_share": [0.1]}
    (little,) = over(tmp_path).changes(few)
    assert little.startswith("channel 1: less than 0.01% is not finite")


def test_a_scan_is_looked_at_in_eight_slices_from_its_lowest_to_its_highest():
    steps = np.linspace(-1, 1, 36, dtype=np.float32)[:, None, None, None]
    found = Volumes.slices(np.broadcast_to(steps, (36, 3, 4, 1)))
    assert found.shape == (8, 3, 4, 1) and (found == found[:, :1, :1]).all()
    # Every fifth of 36.
    np.testing.assert_allclose(found[:, 0, 0, 0], np.arange(8) * 255 / 7, atol=1)
    assert len(Volumes.slices(np.zeros((5, 3, 4, 1), np.float32))) == 5


def test_volumes_go_through_the_pipeline_augmented():
    augment = VolumeAugment(rotate=20, flip=True, noise=0.1)
    volumes = dataclasses.replace(SMALL, augment=augment)
    one, again = (next(batches(volumes, True, 4, seed=0)) for _ in range(2))
    np.testing.assert_array_equal(one["x"], again["x"])
    assert one["x"].dtype == np.float32
    other = next(batches(volumes, True, 4, seed=1))
    assert (other["x"] != one["x"]).any()


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"name": "ct"}, "data.name='ct': write one of phantoms, "),
        ({"size": (8, 8)}, r"data.size=\(8, 8\): write \(d, h, w\)"),
        ({"size": (8, 0, 8)}, r"data.size=\(8, 0, 8\): write .*each at least 1"),
        ({"window": (3.0, 1.0)}, "data.window=.*low below high"),
        ({"channels": 2}, "data.channels=2: phantoms have 1"),
        ({"normalise": "x"}, "data.normalise='x'"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(BadInput, match=message):
        Volumes(**fields)
