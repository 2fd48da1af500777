"""Sets that others have saved, and what describes them, as an attacker writes them."""

import json
import os
import struct

import numpy as np
import pyarrow
import pytest

from tests import hostile
from tests.train.fresh import fresh_source
from tests.train.sources.test_catalogue import LABELLED, numbered, write_set
from tests.train.sources.test_catalogue import at as of_tfds
from tests.train.sources.test_saved import at as of_saved
from tests.train.sources.test_saved import pictures, save
from train.errors import BadInput
from train.modalities import Images

CASES = 60


def reads(path, read, seed, needed):
    """Every spoiled form of a JSON file is refused in a line, or read."""
    content, source = json.loads(path.read_text()), hostile.seeded(seed)
    lines = []
    for _ in range(CASES):
        path.write_text(json.dumps(hostile.spoiled(content, source)))
        lines.append(hostile.refused(read, BadInput))
    assert sum(line is not None for line in lines) > needed * CASES
    for text in hostile.texts(source):
        path.write_bytes(text)
        assert hostile.refused(read, BadInput)
    path.write_text(json.dumps(content))
    assert hostile.refused(read, BadInput) is None


def all_of(data):
    list(fresh_source(data, True))


@pytest.mark.parametrize("name", ["dataset_info.json", "state.json"])
def test_descriptions_of_saved_sets(tmp_path, name):
    folder = pictures(tmp_path / "set", 0, 6)
    reads(folder / name, lambda: all_of(of_saved(folder)), 21, 0.2)


def test_the_splits_of_a_saved_set(tmp_path):
    for part in ("train", "test"):
        pictures(tmp_path / "all" / part, 0, 6)
    path = tmp_path / "all" / "dataset_dict.json"
    path.write_text(json.dumps({"splits": ["train", "test"]}))
    reads(path, lambda: all_of(of_saved(path.parent)), 22, 0.2)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_descriptions_of_prepared_sets(tmp_path, name):
    folder = tmp_path / "toys" / "1.0.0"
    write_set(folder, {"train": numbered(6), "test": numbered(4)})
    reads(folder / name, lambda: all_of(of_tfds(tmp_path)), 23, 0.2)


def test_prepared_sets_claim_no_more_than_their_files_hold(tmp_path):
    folder = tmp_path / "toys" / "1.0.0"
    write_set(folder, {"train": numbered(6), "test": numbered(4)})
    read = lambda: all_of(of_tfds(tmp_path))
    path = folder / "dataset_info.json"
    about = json.loads(path.read_text())
    for length in (10**12, -5):
        about["splits"][0]["shardLengths"] = [str(length), "3"]
        path.write_text(json.dumps(about))
        assert hostile.refused(read, BadInput)
    outside = LABELLED["label"] | {"classLabel": {"numClasses": str(10**12)}}
    for name, label in (("label", outside), ("../label", LABELLED["label"])):
        features = {"image": LABELLED["image"], name: label}
        tree = {"featuresDict": {"features": features}}
        (folder / "features.json").write_text(json.dumps(tree))
        assert hostile.refused(read, BadInput)


def test_files_beside_a_saved_set_are_not_its_own(tmp_path):
    folder, other = (pictures(tmp_path / name, 0, 6) for name in "ab")
    (shard, *_) = sorted(other.glob("*.arrow"))
    for name in (f"../b/{shard.name}", str(shard), "..", ""):
        state = {"_data_files": [{"filename": name}]}
        (folder / "state.json").write_text(json.dumps(state))
        line = hostile.refused(lambda: all_of(of_saved(folder)), BadInput)
        assert "state.json names" in line


def test_an_offset_that_is_wrong_does_not_end_the_process(tmp_path):
    """A text of less than no bytes makes Arrow throw what nothing catches."""
    folder = pictures(tmp_path / "set", 0, 3, shards=1)
    (path,) = folder.glob("*.arrow")
    whole = path.read_bytes()
    sizes = [len(each["bytes"]) for each in _column(path, "image")]
    offsets = struct.pack("<4i", 0, *np.cumsum(sizes))
    assert whole.count(offsets) == 1
    wrong = struct.pack("<4i", 0, sizes[0], -1, sum(sizes))
    path.write_bytes(whole.replace(offsets, wrong))
    line = hostile.refused(lambda: all_of(of_saved(folder, holdout=0.0)), BadInput)
    assert "no whole Arrow stream" in line and path.name in line


def _column(path, name):
    with pyarrow.memory_map(str(path)) as file:
        return pyarrow.ipc.open_stream(file).read_all()[name].to_pylist()


@pytest.mark.parametrize("packed", ["zstd", "lz4"])
def test_packed_streams_are_asked_what_they_unpack_to(tmp_path, packed):
    folder = pictures(tmp_path / "set", 0, 6, shards=1)
    (path,) = folder.glob("*.arrow")
    table = pyarrow.ipc.open_stream(path.read_bytes()).read_all().combine_chunks()
    options = pyarrow.ipc.IpcWriteOptions(compression=packed)
    with pyarrow.ipc.new_stream(path, table.schema, options=options) as stream:
        stream.write_table(table)
    read = lambda: all_of(of_saved(folder))
    assert hostile.refused(read, BadInput) is None
    # Not written as it is, which would take as much memory here.
    size = sum(len(each["bytes"]) for each in _column(path, "image"))
    before, claim, after = path.read_bytes().rpartition(struct.pack("<q", size))
    assert claim
    path.write_bytes(before + struct.pack("<q", 2**32) + after)
    assert "or set VQDIT_MOST_GB=4.3" in hostile.refused(read, BadInput)


@pytest.mark.parametrize("column", [[1, 2, 3], ["a", "b", "c"], [{"path": "a"}]])
def test_a_signal_has_to_be_of_bytes(tmp_path, column):
    features = {"image": {"_type": "Image"}}
    folder = save(tmp_path / "set", features, {"image": pyarrow.array(column)})
    line = hostile.refused(lambda: all_of(of_saved(folder)), BadInput)
    assert "no encoded files" in line


def test_what_has_no_end_is_not_read(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "b.png")
    (folder / "list.jsonl").write_text('{"file": "a.png"}\n{"file": "b.png"}\n')
    read = lambda: all_of(Images("folder", str(folder), holdout=0.0))
    assert "is a device or a pipe" in hostile.refused(read, BadInput)
