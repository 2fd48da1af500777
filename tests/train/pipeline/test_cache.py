import itertools
import json
import types

import numpy as np
import pytest

from tests.train.caches import write_cache
from tests.train.fresh import batches
from train.errors import BadInput
from train.modalities import Images
from train.modalities.draws import Draws, Word
from train.pipeline import JointExamples, cache, statistics
from train.pipeline.cache import CachedExamples, LatentCache
from vqdit import sealed

CONTRACT = {"grid": [2, 2], "fingerprint": "ab12", "classes": 10, "mean": [0.5, -1e-7]}


def records(n: int) -> list[dict]:
    random = np.random.default_rng(0)
    return [
        {
            "latents": random.normal(size=(2, 2, 3)).astype(np.float32),
            "codes": random.integers(0, 512, (2, 2, 1)).astype(np.int32),
            "label": i % 10,
        }
        for i in range(n)
    ]


def fake_record(index: int) -> dict:
    return {"codes": np.full((2, 1), index), "label": index}


def test_a_cache_returns_every_bit_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 300)  # four records a shard
    written = records(11)
    write_cache(tmp_path / "deep" / "cache", iter(written), CONTRACT, 11)
    assert len(list((tmp_path / "deep" / "cache").glob("*.array_record"))) == 3
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["cache"]
    read = LatentCache(tmp_path / "deep" / "cache")
    assert len(read) == 11 and read.contract == CONTRACT and read.classes == 10
    rows = np.array([10, *range(11), 3, 10])
    taken = read.take(rows)
    np.testing.assert_array_equal(taken["label"], rows % 10)
    for name, dtype in [("latents", np.float32), ("codes", np.int32)]:
        assert taken[name].dtype == dtype
        wanted = [written[row][name] for row in rows]
        np.testing.assert_array_equal(taken[name], wanted)
    taken["codes"][:] = 0  # the caller's own
    assert read.take(rows)["codes"].any()


@pytest.mark.parametrize("kept", ["latents", "codes"])
def test_one_kind_alone_and_no_label(tmp_path, kept):
    written = [{kept: record[kept]} for record in records(2)]
    write_cache(tmp_path / "cache", written, {}, 2)
    read = LatentCache(tmp_path / "cache")
    found = read.take(np.arange(2))
    assert set(found) == set(read.fields) == {kept, "label"}
    assert found["label"].tolist() == [-1, -1]
    assert read.classes == 0


def test_batches_have_the_order_of_the_pictures_they_came_from(tmp_path):
    image = np.zeros((9, 4, 4, 1), np.uint8)
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", image=image, label=np.arange(9))
    images = Images("npz", str(tmp_path), size=4)
    write_cache(tmp_path / "cache", map(fake_record, range(9)), {}, 9)
    read = LatentCache(tmp_path / "cache")
    cached = {"x": CachedExamples(read, images, "codes")}
    joined = JointExamples({"x": images}, {}, True, caches=cached)
    assert joined.made_of() == {"x": None}  # of before caches said it
    both = JointExamples({"x": images, "y": images}, {}, True)
    now = {**statistics.probe(images, True), "mark": both.parts["x"].source.mark}
    assert both.made_of() == dict.fromkeys("xy", now) and now["mark"]
    read.contract["data"] = {"a": "probe"}
    assert joined.made_of() == {"x": {"a": "probe", "mark": read.mark}} and read.mark
    from_cache = joined.batches(4, seed=2, start=1)
    from_images = batches(images, True, 4, seed=2, start=1)
    for a, b in itertools.islice(zip(from_cache, from_images, strict=True), 6):
        np.testing.assert_array_equal(a["label"], b["label"])
        codes = a["streams"]["x"]
        np.testing.assert_array_equal(codes[:, 0, 0], b["label"])
        assert codes.shape == (4, 2, 1) and a["label"].dtype == np.int32


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "count", "json", "format"])
def test_an_altered_cache_is_refused_in_one_line(tmp_path, damage):
    folder = tmp_path / "cache"
    write_cache(folder, records(5), CONTRACT, 5)
    shard, description = folder / "records-00000.array_record", folder / "cache.json"
    data = bytearray(shard.read_bytes())
    stored = json.loads(description.read_text())
    if damage == "flip":
        data[-1] ^= 1  # in the padding, which the record format itself never looks at
        shard.write_bytes(data)
    elif damage == "cut":
        shard.write_bytes(data[:-10])
    elif damage == "gone":
        shard.unlink()
    elif damage == "count":
        description.write_text(json.dumps(stored | {"count": 4}))
    elif damage == "json":
        description.write_text(description.read_text()[:-40])
    else:
        description.write_text(json.dumps(stored | {"format": 2}))
    with pytest.raises(BadInput, match="encode again") as caught:
        LatentCache(folder)
    assert "\n" not in str(caught.value)


def test_parts_of_several_processes_are_one_cache(tmp_path, monkeypatch):
    """In the order of the parts, whichever is written first; one may be empty."""
    monkeypatch.setattr(cache, "SHARD_BYTES", 300)
    written, parts = records(11), {}
    with cache.new_cache(tmp_path / "cache") as folder:
        for part, rows in ((2, slice(9, 11)), (1, slice(9, 9)), (0, slice(0, 9))):
            parts[part] = cache.write_part(folder, written[rows], part)
        ordered = [parts[i] for i in range(3)]
        cache.seal_cache(folder, ordered, CONTRACT, 11)
    found = LatentCache(tmp_path / "cache").take(np.arange(11))
    for name, value in found.items():
        np.testing.assert_array_equal(value, [record[name] for record in written])
    with pytest.raises(BadInput, match="encode again"):
        with cache.new_cache(tmp_path / "other") as folder:
            other = cache.write_part(folder, [fake_record(0)], 1)
            cache.seal_cache(folder, [ordered[0], other], CONTRACT, 10)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "records-00000.array_record").symlink_to("/dev/full")
    with pytest.raises(BadInput, match=f"^{tmp_path}: cannot be written .*No space"):
        cache.write_part(tmp_path, [fake_record(0)])


def test_a_folder_that_is_no_cache_names_the_command(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(BadInput, match="python -m train.encode"):
            LatentCache(path)


def test_a_cache_states_its_classes_and_reads_all_labels_in_chunks(
    tmp_path, monkeypatch
):
    names = {"class_names": ["cat", "dog"], "classes": 2, "absent": [1], "keys": ["a"]}
    write_cache(tmp_path / "cache", records(11), names, 11)
    read = LatentCache(tmp_path / "cache")
    assert (read.classes, read.class_names, read.absent) == (2, ("cat", "dog"), (1,))
    found = CachedExamples(read, "data", "codes")
    assert (found.classes, found.class_names) == (2, ("cat", "dog"))
    assert (found.absent, found.keys, found.data) == ((1,), ["a"], "data")
    asked, take = [], read.take
    monkeypatch.setattr(
        read, "take", lambda rows: asked.append(len(rows)) or take(rows)
    )
    for most in (4, 0.5):  # records in memory, and one where none would be
        monkeypatch.setattr(cache, "CHUNK_BYTES", int(most * read.record_bytes))
        np.testing.assert_array_equal(found.labels, np.arange(11) % 10)
        assert max(asked) <= max(most, 1) and len(found) == sum(asked) == 11
        del found.labels, asked[:]
    bare = CachedExamples(
        types.SimpleNamespace(**vars(read) | {"contract": {}}), 0, "x"
    )
    assert bare.keys is None


@pytest.mark.parametrize("mirrors", [(), (Word.FLIP,), (Word.FLIP, Word.MIRROR)])
def test_the_version_of_an_example_is_drawn_evenly(mirrors):
    """As it is mirrored or, of a cache of epochs, any of these; by seed, epoch and
    index alone."""
    index, epochs = np.arange(6000), np.repeat([0, 1], 3000)
    take = lambda rows, version: {"latents": version, "label": rows, "known": rows % 2}
    for versions, contract in ((5, {"epochs": 5}), (2 ** len(mirrors), {})):
        held = types.SimpleNamespace(
            **{"contract": contract, "versions": versions, "mirrors": mirrors},
            **{"take": take, "classes": 0, "class_names": (), "absent": ()},
        )
        examples = CachedExamples(held, "data", "latents")
        found = examples.augmented(index, epochs, 3)
        assert list(found) == ["x", "known", "label"]
        np.testing.assert_array_equal(found["label"], index)
        np.testing.assert_array_equal(found["known"], index % 2)
        drawn = found["x"]
        if not contract:
            draws = Draws(3, epochs, index)
            np.testing.assert_array_equal(drawn, draws.version(mirrors))
        share = np.bincount(drawn, minlength=versions) / len(index)
        assert len(share) == versions
        # Five standard errors of a share.
        assert abs(share - 1 / versions).max() <= 5 * (versions * len(index)) ** -0.5
        some = examples.augmented(index[7:9], epochs[7:9], 3)["x"]
        np.testing.assert_array_equal(some, drawn[7:9])
        for other in (
            examples.augmented(index, epochs + 1, 3),
            examples.augmented(index, epochs, 4),
        ):
            assert versions == 1 or (other["x"] != drawn).mean() > 0.3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"count": 0}, "a count is 0"),
        ({"count": 5.0}, "a count is 5.0"),
        ({"versions": 0}, "a count is 0"),
        ({"versions": True}, "a count is True"),
        ({"versions": 2}, "5 records of 2 versions"),
        ({"contract": {"classes": 10**9}}, "it has 1000000000 classes"),
        ({"contract": {"classes": -1}}, "it has -1 classes"),
        ({"format": 0}, "format 0"),
        ({"shards": [{"file": "../x.array_record", "sha256": ""}]}, "is no shard of a"),
        ({"shards": [{"file": "records-1.array_record", "sha256": ""}]}, "is no shard"),
    ],
)
def test_what_a_cache_says_of_itself_is_looked_at(tmp_path, changes, message):
    """Whoever has sealed it; one of before versions holds one of each."""
    write_cache(tmp_path / "cache", records(5), {}, 5)
    path = tmp_path / "cache" / "cache.json"
    stored = json.loads(path.read_text())
    del stored["seal"], stored["versions"]
    path.write_text(json.dumps(stored))
    assert len(LatentCache(tmp_path / "cache")) == 5
    path.write_text(json.dumps(sealed.sealed(stored | changes)))
    with pytest.raises(BadInput, match=f"{message}.*encode again"):
        LatentCache(tmp_path / "cache")


def test_records_that_are_not_as_the_fields_say_are_refused(tmp_path):
    write_cache(tmp_path / "cache", records(5), {}, 5)
    path = tmp_path / "cache" / "cache.json"
    stored = json.loads(path.read_text())
    del stored["seal"]
    stored["fields"]["codes"]["shape"] = [2, 2, 2]
    path.write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="its records are not of its fields; encode ag"):
        LatentCache(tmp_path / "cache")


def interrupted():
    yield from records(2)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "given,count,error,message",
    [
        (records(2), 3, BadInput, "2 records to cache where 3 are due"),
        (records(3), 2, BadInput, "3 records to cache where 2 are due"),
        ([], 0, BadInput, "0 records"),
        ([{"latents": np.array([np.nan])}], 1, BadInput, "record 0: latents .* finite"),
        ([records(1)[0], fake_record(1)], 2, BadInput, "record 1 .* unlike the first"),
        (interrupted(), 5, KeyboardInterrupt, None),
    ],
)
def test_a_cache_that_cannot_be_finished_leaves_nothing(
    tmp_path, given, count, error, message
):
    with pytest.raises(error, match=message):
        write_cache(tmp_path / "cache", given, {}, count)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_replaced(tmp_path):
    write_cache(tmp_path / "cache", records(2), {"a": 1}, 2)
    with pytest.raises(BadInput, match="cache exists; remove it"):
        write_cache(tmp_path / "cache", records(3), {"a": 2}, 3)
    assert LatentCache(tmp_path / "cache").contract == {"a": 1}
