import itertools
import types

import numpy as np
import pytest
from PIL import Image

from tests.train.fresh import batches, forget, fresh
from train.errors import BadInput
from train.modalities import Images, Record, Series
from train.pipeline import endless, examples, once, whole
from train.sources import open_source
from train.sources import source as sources

WIDE = 12  # pictures are 4 x 12, so a crop of 4 has nine places


@pytest.fixture
def images(tmp_path):
    """Ten pictures whose columns are numbered; label i, and value 20 i + column."""
    column = np.arange(WIDE) + 20 * np.arange(10)[:, None]
    image = np.repeat(column[:, None, :], 4, axis=1).astype(np.uint8)
    np.savez(tmp_path / "train.npz", image=image, label=np.arange(10))
    np.savez(tmp_path / "test.npz", image=image[:7], label=np.arange(7))
    return Images(name="npz", data_dir=str(tmp_path), size=4, threads=2)


def first(iterator, n: int) -> list:
    return list(itertools.islice(iterator, n))


def equal(a, b) -> bool:
    return all(
        x.keys() == y.keys() and all((x[name] == y[name]).all() for name in x)
        for x, y in zip(a, b, strict=True)
    )


def replaced(images, **fields):
    return Images(**{**vars(images), **fields})


def test_every_epoch_is_a_new_order_of_all_examples(images):
    labels = np.concatenate(
        [b["label"] for b in first(batches(images, True, 4, 0), 15)]
    )
    epochs = labels.reshape(6, 10)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(10), (6, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_images_travel_with_their_labels(images):
    for batch in first(batches(images, True, 4, 0), 5):
        assert batch["x"].shape == (4, 4, 4, 1) and batch["x"].dtype == np.uint8
        assert batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["x"][:, 0, 0, 0] // 20, batch["label"])


@pytest.mark.parametrize("crop,flip", [("center", True), ("random", True)])
@pytest.mark.parametrize("start", [1, 2, 7])
def test_starting_at_k_equals_never_stopping(images, crop, flip, start):
    images = replaced(images, crop=crop, flip=flip)
    run = first(batches(images, True, 4, 3), 9)
    assert equal(
        first(batches(images, True, 4, 3, start=start), 9 - start), run[start:]
    )


def test_threads_and_memory_change_nothing(images, monkeypatch):
    images = replaced(images, crop="random", flip=True)
    run = first(batches(images, True, 4, 3), 6)
    for threads in (0, 1, 5):
        other = replaced(images, threads=threads)
        assert equal(first(batches(other, True, 4, 3), 6), run)
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    monkeypatch.setattr(examples, "KEPT_BYTES", 0)
    monkeypatch.setattr(examples, "LIGHT_CHUNK", 3)
    forget()
    assert equal(first(batches(images, True, 4, 3), 6), run)
    centred = replaced(images, crop="center")
    forgetful = first(batches(centred, True, 4, 3), 6)
    forgetful_whole = whole(centred, True)
    monkeypatch.undo()
    forget()
    assert equal(first(batches(centred, True, 4, 3), 6), forgetful)
    assert equal([whole(centred, True)], [forgetful_whole])


def test_seeds_give_other_orders_and_no_epoch_is_shared(images):
    orders = [
        tuple(b["label"])
        for seed in range(6)
        for b in first(batches(images, True, 10, seed), 6)
    ]
    assert len(set(orders)) == 36


def test_processes_share_one_global_batch(images):
    images = replaced(images, crop="random", flip=True)
    run = first(batches(images, True, 6, 5, start=1), 4)
    parts = [
        first(batches(images, True, 6, 5, start=1, rows=np.arange(6)[i::3]), 4)
        for i in range(3)
    ]
    joined = [
        {
            name: np.stack([part[name] for part in at], 1).reshape(
                6, *at[0][name].shape[1:]
            )
            for name in at[0]
        }
        for at in zip(*parts, strict=True)
    ]
    assert equal(joined, run)
    test = first(batches(images, False, 4, 0, rows=np.arange(2, 4)), 9)
    np.testing.assert_array_equal(test[1]["label"], [6, 6])
    np.testing.assert_array_equal(test[1]["valid"], [True, False])


def test_augmentation_differs_by_epoch_and_covers_every_place(images):
    images = replaced(images, crop="random", flip=True)
    places, mirrors = set(), []
    for batch in first(batches(images, True, 10, 0), 60):
        row = batch["x"][:, 0, :, 0].astype(int)
        mirrors += list(row[:, 0] > row[:, 3])
        places |= set(row.min(1) % 20)
    assert places == set(range(WIDE - 4 + 1))
    # 600 fair coins: five standard errors are 0.1.
    assert abs(np.mean(mirrors) - 0.5) < 0.1
    # One picture over the epochs is not always mirrored alike.
    assert 0 < np.mean(np.array(mirrors)[:10]) < 1


def test_augmentation_belongs_to_the_example_and_not_to_the_batch_size(images):
    images = replaced(images, crop="random", flip=True)

    def epoch(batch: int) -> np.ndarray:
        run = first(batches(images, True, batch, 0), 10 // batch)
        return np.concatenate([b["x"] for b in run])

    np.testing.assert_array_equal(epoch(5), epoch(2))


def test_without_augmentation_every_picture_is_its_centre(images):
    for batch in first(batches(images, True, 10, 0), 2):
        np.testing.assert_array_equal(batch["x"][0, 0, :, 0] % 20, [4, 5, 6, 7])


def test_a_batch_may_be_larger_than_the_set(images):
    batch = next(batches(images, True, 25, 0))
    assert sorted(np.bincount(batch["label"])) == [2] * 5 + [3] * 5
    batch = next(batches(images, False, 16, 0))
    assert batch["valid"].sum() == 7 and batch["x"].shape[0] == 16


def test_evaluation_is_one_pass_in_order_with_padding_marked(images):
    images = replaced(images, flip=True, crop="random")
    run = list(batches(images, False, 3, seed=9))
    assert [len(b["label"]) for b in run] == [3, 3, 3]
    label, valid = (np.concatenate([b[n] for b in run]) for n in ("label", "valid"))
    np.testing.assert_array_equal(valid, [True] * 7 + [False] * 2)
    np.testing.assert_array_equal(label[valid], np.arange(7))
    image = np.concatenate([b["x"] for b in run])[valid]
    np.testing.assert_array_equal(image, whole(images, False)["x"])


def test_whole_is_every_example_centred(images):
    everything = whole(replaced(images, flip=True, crop="random"), True)
    np.testing.assert_array_equal(everything["label"], np.arange(10))
    assert everything["label"].dtype == np.int32
    np.testing.assert_array_equal(fresh(images, True).labels, np.arange(10))
    np.testing.assert_array_equal(everything["x"][:, 0, 0, 0], 20 * np.arange(10) + 4)
    some = whole(images, True, count=4)
    np.testing.assert_array_equal(some["label"], [0, 2, 5, 7])
    np.testing.assert_array_equal(some["x"], everything["x"][[0, 2, 5, 7]])
    assert len(whole(images, True, count=99)["label"]) == 10


def test_examples_are_made_once_where_they_fit(images, monkeypatch):
    """Each of ten, whether training or evaluation asked for it first."""
    asked = []
    cut = Images.cut

    def counted(self, records, starts, draws):
        asked.extend(record.label for record in records)
        return cut(self, records, starts, draws)

    monkeypatch.setattr(Images, "cut", counted)
    images = replaced(images, threads=0)  # threads read ahead
    for kept, times in ((160, 1), (159, 3)):  # ten pictures of sixteen bytes
        monkeypatch.setattr(examples, "KEPT_BYTES", kept)
        forget()
        first(batches(images, True, 5, 0), 4)
        whole(images, True)
        assert sorted(asked) == sorted([*range(10)] * times)
        asked.clear()


def test_values_that_are_no_pixels_take_four_bytes(monkeypatch):
    data = Series(length=16, channels=2, examples=40, threads=0)
    size = 4 * 16 * 2 * len(fresh(data, True))
    for kept, fits in ((size, True), (size - 1, False)):
        monkeypatch.setattr(examples, "KEPT_BYTES", kept)
        assert (fresh(data, True)._made is not None) == fits


@pytest.mark.parametrize("threads, light", [(0, False), (3, False), (3, True)])
def test_what_all_records_have_is_told_or_read(threads, light):
    """Their own words, else those of their class; read where either is not known."""
    own = [None if i % 4 else f"own {i}" for i in range(40)]
    labels, words, asked = np.arange(40) % 3 - 1, ("cat", "dog"), []
    expected = [
        text or (words[label] if label >= 0 else None)
        for text, label in zip(own, labels, strict=True)
    ]

    def take(rows):
        asked.extend(rows)
        return [
            Record(np.zeros(1), label=int(labels[i]), more={"caption": own[i]})
            for i in rows
        ]

    opened = examples.Examples.__new__(examples.Examples)
    opened.data = types.SimpleNamespace(words=words, threads=threads)
    for told, known, reads in (
        (own, labels, False),
        (None, labels, True),
        (own, None, True),
    ):
        held = {"told": lambda name, told=told: told, "labels": known, "take": take}
        kind = type("Held", (types.SimpleNamespace,), {"__len__": lambda _: 40})
        opened.source = kind(**held, light=light)
        assert opened.values("caption") == expected
        assert sorted(asked) == (list(range(40)) if reads else [])
        asked.clear()
    assert opened.values("row") == [None] * 40  # classes have words, and no rows
    opened._windows = np.array([[1, 0], [1, 5], [0, 0]])
    for keys, of_each in ((None, None), (["a", "b"], ["b", "b", "a"])):
        opened.source = types.SimpleNamespace(keys=keys)
        assert opened.keys == of_each


def test_what_a_caller_writes_into_a_batch_is_not_kept(images):
    whole(images, True)["x"][:] = 0
    next(batches(images, True, 4, 0))["x"][:] = 0
    assert whole(images, True)["x"].min() == 4 and not whole(images, True)["label"][0]


def test_larger_sizes_and_rgb(images):
    batch = next(batches(replaced(images, size=9, channels=3), True, 2, 0))
    assert batch["x"].shape == (2, 9, 9, 3)


@pytest.mark.parametrize("train", [True, False])
def test_bad_requests_are_refused_before_the_first_batch(images, train):
    with pytest.raises(BadInput, match="data.data_dir"):
        batches(replaced(images, data_dir=""), train, 4, 0)
    assert len(next(batches(images, True, 1, 2**63 - 1))["label"]) == 1


@pytest.mark.parametrize("threads", [0, 3])
def test_an_error_while_reading_reaches_the_caller_and_ends_the_batches(threads):
    def take(indices, epochs):
        if (epochs == 1).any():
            raise BadInput("example 3 is damaged")
        return {"label": indices}

    iterator = endless(take, count=8, batch=4, seed=0, threads=threads)
    first(iterator, 2)
    with pytest.raises(BadInput) as caught:
        next(iterator)
    assert str(caught.value) == "example 3 is damaged"
    with pytest.raises(StopIteration):
        next(iterator)


def test_once_reads_no_example_that_is_not_there():
    read = []

    def take(indices):
        read.extend(indices)
        return {"label": indices}

    list(once(take, count=5, batch=4, rows=np.arange(2, 4), threads=0))
    assert max(read) == 4 and min(read) == 2


def test_files_are_read_by_threads_in_chunks_as_they_are_one_by_one(
    tmp_path, monkeypatch
):
    for i in range(8):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    images = Images("folder", str(tmp_path), size=4, holdout=0, bad_share=0.0)
    opened = [fresh(replaced(images, threads=n), True) for n in (0, 3)]
    monkeypatch.setattr(examples, "CHUNK", 3)
    for each in opened:
        rows = np.array([7, 0, 3, 3, 5, 1, 2])
        found = each.take(rows)["x"]
        np.testing.assert_array_equal(found[:, 0, 0, 0], rows)
        assert each.keys == [str(i) for i in range(8)]


@pytest.mark.parametrize("held", [2, 0.5])
def test_of_records_that_are_large_before_they_are_cut_few_are_read_at_once(
    held, tmp_path, monkeypatch
):
    """As many as their bytes allow, and at least one."""
    for i in range(8):
        Image.fromarray(np.full((4, 40), i, np.uint8)).save(tmp_path / f"{i}.png")
    images = Images("folder", str(tmp_path), size=4, channels=1, crop="random")
    examples_of = fresh(replaced(images, holdout=0, threads=0), True)
    source, asked = examples_of.source, []
    take = source.take
    assert source[0].nbytes >= 4 * 40  # it is no square yet
    monkeypatch.setattr(examples, "CHUNK_BYTES", int(held * source[0].nbytes))
    monkeypatch.setattr(
        source, "take", lambda rows: asked.append(len(rows)) or take(rows)
    )
    found = examples_of.take(np.arange(8))["x"]
    np.testing.assert_array_equal(found[:, 0, 0, 0], np.arange(8))
    assert max(asked) <= max(held, 1) and sum(asked) >= 8


def test_a_damaged_file_does_not_move_the_other_examples(tmp_path):
    for i in range(8):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    images = Images("folder", str(tmp_path), size=4, holdout=0, bad_share=0.2)
    source = open_source(images, True)
    before = [source[i].values[0, 0, 0] for i in range(8)]
    (tmp_path / "3.png").write_bytes(b"")
    assert [source[i].values[0, 0, 0] for i in range(8) if i != 3] == [
        value for value in before if value != 3
    ]
