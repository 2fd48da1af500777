import dataclasses

import numpy as np
import pytest

from train.errors import BadInput
from train.modalities import Images
from train.modalities.draws import chance
from train.sources import open_source
from train.sources.split import divided, part_rows, ruled


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return Images(name="npz", data_dir=str(path), size=4)


def numbered(n: int) -> np.ndarray:
    """Pictures that tell their own index in the first pixel."""
    image = np.zeros((n, 4, 4, 1), np.uint8)
    image[:, 0, 0, 0] = np.arange(n)
    return image


def test_digits_are_scikit_learns_in_a_stratified_split():
    from sklearn.datasets import load_digits

    train, test = (open_source(Images(), part) for part in (True, False))
    assert (len(train), len(test)) == (1437, 360)
    assert train.classes == test.classes == 10
    assert train.class_names == tuple("0123456789")
    shares = [np.bincount(s.labels, minlength=10) / len(s) for s in (train, test)]
    assert abs(shares[0] - shares[1]).max() < 2 / 360
    # Together they are the whole set, each picture with its own label.
    seen = sorted(
        (e.values.tobytes(), e.label)
        for s in (train, test)
        for e in map(s.__getitem__, range(len(s)))
    )
    data = load_digits()
    image = np.array(
        [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    )
    expected = sorted(
        (image[picture.astype(int)].astype(np.uint8).tobytes(), int(label))
        for picture, label in zip(data.images, data.target, strict=True)
    )
    assert seen == expected
    assert train[0].values.shape == (8, 8, 1) and train[0].values.dtype == np.uint8


def test_npz_parts_are_disjoint_whole_and_keep_their_labels(tmp_path):
    images = write_npz(tmp_path / "a.npz", image=numbered(50), label=np.arange(50) % 7)
    parts = [open_source(images, part) for part in (True, False)]
    indices = [[int(s[i].values[0, 0, 0]) for i in range(len(s))] for s in parts]
    assert sorted(indices[0] + indices[1]) == list(range(50))
    assert 3 <= len(indices[1]) <= 20
    for source, found in zip(parts, indices, strict=True):
        assert [source[i].label for i in range(len(source))] == [i % 7 for i in found]
        assert source.classes == 7


def test_npz_folder_holds_one_file_a_split_and_one_class_count(tmp_path):
    write_npz(tmp_path / "train.npz", image=numbered(3), label=np.array([0, 1, 1]))
    write_npz(tmp_path / "val.npz", image=numbered(2), label=np.array([0, 2]))
    images = Images(name="npz", data_dir=str(tmp_path), size=4, test_split="val")
    train, test = open_source(images, True), open_source(images, False)
    assert (len(train), len(test)) == (3, 2)
    assert train.classes == test.classes == 3
    # A rule would hold out nothing of what these files say.
    ruled = dataclasses.replace(images, holdout="name:0.3")
    with pytest.raises(BadInput, match="data.holdout='name:0.3': .* a file of each"):
        open_source(ruled, True)
    one = dataclasses.replace(images, train_split="val")
    assert [len(open_source(one, part)) for part in (True, False)] == [1, 1]


def test_many_classes_that_have_examples_are_taken(tmp_path):
    label = np.arange(6000)
    images = write_npz(tmp_path / "a.npz", image=numbered(6000)[:, :1], label=label)
    assert open_source(images, True).classes == 6000
    few = write_npz(tmp_path / "b.npz", image=numbered(9), label=np.arange(9) * 100)
    assert open_source(few, True).classes == 801  # as of a part of a known set


def test_npz_without_labels_and_without_channels(tmp_path):
    images = write_npz(tmp_path / "a.npz", image=numbered(5)[..., 0])
    source = open_source(images, True)
    assert source.classes == 0 and source[0].label == -1
    assert source[0].values.shape == (4, 4, 1)


@pytest.mark.parametrize(
    "arrays,message",
    [
        ({"picture": numbered(3)}, r"holds {'picture': .*; write np.savez"),
        ({"image": numbered(3).astype(np.float32)}, "float32; write uint8"),
        ({"image": numbered(3)[0, 0]}, "write .n, h, w, c."),
        ({"image": np.zeros((3, 4, 4, 5), np.uint8)}, "write .n, h, w, c."),
        ({"image": numbered(0)}, r"holds {'image': .0, 4"),
        ({"image": numbered(3), "label": np.arange(2)}, "one integer an example"),
        ({"image": numbered(3), "label": np.ones(3)}, "one integer an example"),
        ({"image": numbered(3), "label": np.array([0, -2, 1])}, r"label\[1\] = -2"),
        (
            {"image": numbered(3), "label": np.array([0.5, 2, 1])},
            "float64.*0.5 is no",
        ),
        (
            {"image": numbered(3), "label": np.array([3, 999_999, 3])},
            "label goes to 999999, and 2 values are different.*1,000,000 classes.*uniq",
        ),
        (
            {"image": numbered(2), "label": np.array([1, 2**64 - 1], np.uint64)},
            "label goes to 18446744073709551615; number classes from 0",
        ),
        ({"image": np.array([None, None])}, "plain arrays"),
        ({"image": numbered(1)}, "cannot be divided"),
    ],
)
def test_npz_that_does_not_hold_pictures_is_refused(tmp_path, arrays, message):
    images = write_npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=message) as caught:
        open_source(images, True)
    assert "\n" not in str(caught.value)


def test_npz_that_is_missing_truncated_or_something_else_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    images = write_npz(path, image=numbered(20))
    data = path.read_bytes()
    for kept in (0, 30, len(data) // 2):
        path.write_bytes(data[:kept])
        with pytest.raises(BadInput, match="a.npz"):
            open_source(images, True)
    path.write_text("not arrays")
    with pytest.raises(BadInput, match="a.npz"):
        open_source(images, True)
    with path.open("wb") as file:
        np.save(file, numbered(3))
    with pytest.raises(BadInput, match="a single array"):
        open_source(images, True)
    path.unlink()
    with pytest.raises(BadInput, match="no such file"):
        open_source(images, True)
    with pytest.raises(BadInput, match="data.data_dir is empty"):
        open_source(Images(name="npz"), True)


@pytest.mark.parametrize("holdout", [1e-9, 0.3, 1 - 1e-9])
@pytest.mark.parametrize("n", [2, 3, 40])
def test_both_parts_get_an_example_whatever_the_share(n, holdout):
    draws = chance(0, np.arange(n))
    train, test = (part_rows(draws, holdout, part, "here") for part in (True, False))
    assert len(train) and len(test)
    assert sorted([*train, *test]) == list(range(n))


@pytest.mark.parametrize("holdout", [1e-9, 0.3, 1 - 1e-9])
def test_what_has_one_name_is_in_one_part(holdout):
    """As the rows of a patient, also where a part would be empty else."""
    draws = chance(0, np.arange(9) // 3)
    train, test = (part_rows(draws, holdout, part, "here") for part in (True, False))
    assert len(train) and len(test) and not set(train // 3) & set(test // 3)
    with pytest.raises(
        BadInput, match="here: 3 examples of one name cannot be divided"
    ):
        part_rows(draws[:3], holdout, True, "here")


def test_holdout_zero_keeps_everything_for_training():
    draws = chance(0, np.arange(3))
    np.testing.assert_array_equal(part_rows(draws, 0, True, "here"), [0, 1, 2])
    with pytest.raises(BadInput, match="data.holdout=0"):
        part_rows(draws, 0, False, "here")


def test_a_new_example_moves_no_other_across():
    few, many = (part_rows(chance(0, np.arange(n)), 0.2, False, "") for n in (100, 150))
    np.testing.assert_array_equal(many[many < 100], few)


def test_chance_is_uniform_and_independent_between_words():
    """Means and correlations of n draws, within 5 standard errors."""
    n = 40_000
    index = np.arange(n)
    draws = [chance(1, 0, 0, index), chance(1, 0, 1, index), chance(1, 1, 0, index)]
    draws += [chance(2, 0, 0, index), chance(1, 0, 0, index + 1)]
    for u in draws:
        assert u.min() >= 0 and u.max() < 1
        counts = np.histogram(u, 16, (0, 1))[0]
        assert ((counts - n / 16) ** 2 / (n / 16)).sum() < 45  # chi2(15): p = 1e-4
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert abs(correlation).max() < 5 / np.sqrt(n)


def test_labels_without_an_example_are_known(tmp_path):
    """Labels that start at 1, as MATLAB counts; "none" is the number behind them."""
    images = write_npz(
        tmp_path / "a.npz", image=numbered(30), label=1 + np.arange(30) % 3
    )
    source = open_source(images, True)
    assert source.classes == 4 and source.absent == (0, 4)
    bare = write_npz(tmp_path / "b.npz", image=numbered(9))
    assert open_source(bare, True).absent == ()


def test_a_part_under_another_name_is_shown(tmp_path):
    for name in ("train", "val"):
        write_npz(tmp_path / f"{name}.npz", image=numbered(3))
    images = Images(name="npz", data_dir=str(tmp_path), size=4)
    with pytest.raises(BadInput, match="test.npz: no such file.* there: train, val"):
        open_source(images, False)
    held = Images(name="npz", data_dir=str(tmp_path), size=4, test_split="val")
    assert len(open_source(held, False)) == 3


def test_files_of_one_name_go_together_whatever_their_folder():
    """But names that are not of files are drawn by all of them, and a regular
    expression sees the folders."""
    data = Images(name="folder", data_dir="x", holdout="name:0.3")
    paths = [f"{folder}/{i}.png" for folder in "ab" for i in range(40)]
    draws = np.zeros(80)
    files = divided(data, False, draws, "x", ruled(data, paths))
    names = divided(data, False, draws, "x", paths)
    assert {*files[files >= 40] - 40} == {*files[files < 40]}
    assert {*names[names >= 40] - 40} != {*names[names < 40]}
    data = dataclasses.replace(data, holdout="match:^b/")
    found = divided(data, False, draws, "x", ruled(data, paths))
    assert found.tolist() == list(range(40, 80))


def test_a_small_part_of_many_classes_is_no_list_of_identities(tmp_path):
    """Of 70,000 classes the test part has two; only both parts say how many there are.
    A set that has no more in either is refused."""
    for many, split in ((70_000, "train"), (2, "test")):
        label = np.arange(many) if many > 2 else np.array([3, 69_999])
        np.savez(tmp_path / f"{split}.npz", image=np.zeros((many, 1, 1, 1), np.uint8),
                 label=label)  # fmt: skip
    data = Images(name="npz", data_dir=str(tmp_path), size=1)
    for part in (True, False):
        assert len(open_source(data, part).class_names) == 70_000
    label = np.array([0, 69_999, 1])
    np.savez(tmp_path / "train.npz", image=numbered(3), label=label)
    with pytest.raises(BadInput, match="4 values are different"):
        open_source(dataclasses.replace(data, size=4), True)
