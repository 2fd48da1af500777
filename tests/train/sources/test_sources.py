"""What every source promises; a place in SOURCES is the price of entry."""

import dataclasses
import json
from typing import get_args

import numpy as np
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from tests.members import missing
from tests.train.fresh import fresh_source
from tests.train.sources.test_saved import pictures as rows
from tests.train.sources.test_shards import picture, shard
from train import sources as room
from train.config.options.annotations import fields_with_types
from train.errors import BadInput
from train.modalities import (
    Audio,
    Images,
    Ranges,
    Record,
    Series,
    Tables,
    Video,
    Volumes,
)
from train.modalities.draws import chance
from train.sources import Source
from train.sources import open as names
from train.sources import source as sources

CLIPS = {"rate": 1000, "length": 50}


def pictures(root):
    for i in range(12):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((4, 4), 20 * i, np.uint8)).save(path)
    return Images(name="folder", data_dir=str(root), size=4)


def recordings(root):
    root.mkdir()
    for i in range(12):
        wave = np.sin(np.arange(60) / (i + 2))
        soundfile.write(root / f"{i}_{'st'[i % 2]}_{i}.wav", wave, 1000)
    return Audio(name="folder", data_dir=str(root), holdout="speaker:t", **CLIPS)


def table(root):
    np.savez(root.with_suffix(".npz"), values=np.cumsum(np.ones((90, 2)), 0))
    path = str(root.with_suffix(".npz"))
    return Series(name="folder", data_dir=path, length=10, channels=2, cleaning=None)


def arrays(root):
    x = np.arange(20, dtype=np.uint8).reshape(20, 1, 1) * np.ones((4, 4), np.uint8)
    np.savez(root.with_suffix(".npz"), image=x, label=np.arange(20) % 3)
    return Images(name="npz", data_dir=str(root.with_suffix(".npz")), size=4)


def prepared(root):
    folder = root / "toys" / "1.0.0"
    folder.mkdir(parents=True)
    path = folder / "toys-train.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for i in range(16):
        message = tf_example_pb2.Example()
        wave = (np.arange(60) % (i + 2)) * 100
        message.features.feature["audio"].int64_list.value.extend(wave)
        writer.write(message.SerializeToString())
    writer.close()
    kind = "tensorflow_datasets.core.features.audio_feature.Audio"
    sound = {"sampleRate": "1000", "shape": {"dimensions": ["-1"]}}
    features = {"audio": {"pythonClassName": kind, "audio": sound}}
    tree = {"featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(tree))
    splits = [{"name": "train", "shardLengths": ["16"]}]
    info = {"fileFormat": "array_record", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return Audio(name="toys", data_dir=str(root), **CLIPS)


def shards(root):
    members = [
        (f"{i}.{end}", content)
        for i in range(12)
        for end, content in (("png", picture(20 * i)), ("cls", str(i % 2)))
    ]
    shard(root / "0.tar", members[:10])
    shard(root / "1.tar", members[10:])
    return Images(name="webdataset", data_dir=str(root), size=4)


def saved(root):
    return Images(name="huggingface", data_dir=str(rows(root, 0, 12)), size=4)


def cells(root):
    root.mkdir()
    (root / "a.csv").write_text("x\n" + "".join(f"{i}\n" for i in range(12)))
    return Tables(data_dir=str(root / "a.csv"))


SOURCES = {
    "digits": lambda root: Images(),
    "folder": pictures,
    "shards": shards,
    "saved": saved,
    "rule": recordings,
    "one file": table,
    "npz": arrays,
    "prepared": prepared,
    "tones": lambda root: Audio(rate=1000, length=50),
    "moving": lambda root: Video(frames=2, size=16, examples=20, digits=1),
    "actions": lambda root: Video(
        "moving_actions", frames=2, size=16, examples=20, digits=1
    ),
    "events": lambda root: Video(
        "moving_events", frames=2, size=16, examples=20, digits=1
    ),
    "generated": lambda root: Series(length=16, examples=16),
    "strokes": lambda root: Series("digit_strokes", length=16, examples=16),
    "phantoms": lambda root: Volumes(size=(4, 4, 4), examples=16),
    "patients": lambda root: Volumes("patients", size=(4, 4, 4), examples=16),
    "planted": lambda root: Volumes("planted_patients", size=(4, 4, 4), examples=16),
    "rows": cells,
    "scenes": lambda root: Ranges(rows=4, azimuth=8, examples=16),
    "driving": lambda root: Images("driving", channels=3, examples=16),
    "faults": lambda root: Images("driving_faults", channels=3, examples=16),
}


@pytest.fixture(params=SOURCES)
def data(request, tmp_path):
    return SOURCES[request.param](tmp_path / "data")


def test_no_source_is_left_out(tmp_path):
    """Neither a class, nor a name by which data ask for one."""
    cases = [make(tmp_path / name) for name, make in SOURCES.items()]
    members = {type(fresh_source(data, True)) for data in cases}
    bases = {"Source", "Folder", "Portion"}  # behind parts, and of any other
    assert missing(room, lambda kind: issubclass(kind, Source), members) == bases
    asked = {names.opener(data) for data in cases}
    assert names.open_prepared in asked
    assert all(asked & {*kinds.values()} for kinds in names.SOURCES.values())


def content(data, record) -> bytes:
    batch = data.cut([record], [0], None)
    return batch["x"].tobytes()


def test_records_come_in_the_order_asked_for_however_they_are_read(data, monkeypatch):
    source = fresh_source(data, True)
    n = len(source)
    rows = [n - 1, 0, n // 2, 0]
    one_by_one = [content(data, source[row]) for row in rows]
    assert [content(data, each) for each in source.take(rows)] == one_by_one
    assert len(list(source)) == n
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    forgetful = fresh_source(data, True)
    assert [content(data, each) for each in forgetful.take(rows)] == one_by_one
    assert forgetful.identity == source.identity


def test_parts_share_their_classes_and_no_record(data):
    train, test = (fresh_source(data, part) for part in (True, False))
    assert len(train) and len(test)
    assert (train.classes, train.class_names) == (test.classes, test.class_names)
    labels = [record.label for part in (train, test) for record in part]
    assert min(labels) >= -1 and max(labels) < max(train.classes, 1)
    assert (max(labels) >= 0) == bool(train.classes)
    seen = [{content(data, record) for record in part} for part in (train, test)]
    if data.name != "digits":  # some of scikit-learn's are written alike
        assert not seen[0] & seen[1]


@pytest.mark.parametrize("name", ["folder", "webdataset", "huggingface", "npz", "toys"])
def test_what_is_not_there_is_refused_in_one_line(tmp_path, name):
    for where in ("", str(tmp_path / "gone")):
        if name == "toys" and not where:
            continue  # TFDS has a folder of its own
        with pytest.raises(BadInput) as caught:
            fresh_source(Audio(name=name, data_dir=where), True)
        assert "\n" not in str(caught.value)


def test_stored_sound_has_its_own_rate(tmp_path):
    """Of 1,000 samples a second, brought to 500: half as many."""
    wave = np.sin(np.arange(60) / 3)
    np.savez(tmp_path / "x.npz", audio=np.stack([wave] * 8), rate=1000)
    loaded = Audio(name="npz", data_dir=str(tmp_path / "x.npz"), **CLIPS)
    for data in (prepared(tmp_path), loaded):
        whole, half = (
            fresh_source(dataclasses.replace(data, rate=rate), True)[0].values
            for rate in (1000, 500)
        )
        assert abs(len(half) - len(whole) / 2) <= 1 and len(whole) > 40


def test_records_are_kept_while_there_is_room(monkeypatch):
    """Of eight that were read, those that fit; the others are read again."""
    asked = []

    class Counted(Source):
        def read(self, rows):
            asked.extend(rows)
            return [Record(np.full((4, 1), float(row))) for row in rows]

    monkeypatch.setattr(sources, "KEPT_BYTES", 3 * Record(np.zeros((4, 1))).nbytes)
    source = Counted(8)
    for _ in range(2):
        found = source.take([*range(8), 0])
        assert [record.values[0, 0] for record in found] == [*range(8), 0]
    assert asked == [*range(8), *range(3, 8)]


def test_draws_of_parts_do_not_move_when_records_are_added():
    few, many = chance(0, np.arange(10)), chance(0, np.arange(20))
    np.testing.assert_array_equal(few, many[:10])


def test_what_says_how_data_are_made_is_told_of_what_is_read(capsys):
    """Once, and of nothing that is as it is by default."""
    digits = Images(name="digits", examples=100, seed=1)
    for train in (True, False, True):
        names.open_source(digits, train)
    line = "data.examples=100, data.seed=1: of generated data, and 'digits' is read\n"
    assert capsys.readouterr().err == line
    names.open_source(Images(name="digits"), True)
    names.open_source(Series(examples=16, missing=0.2, noise=0.3), True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "data", [Images(name="digits"), Series(), Volumes(), Video(name="moving_digits")]
)
def test_a_folder_that_would_not_be_read_is_refused(data):
    """A run was of scikit-learn's digits, whatever folder was written."""
    line = f"data.data_dir=photos: '{data.name}' is made without files, and none"
    with pytest.raises(BadInput, match=f"{line}.*write data.name=folder too"):
        names.open_source(dataclasses.replace(data, data_dir="photos"), True)


@pytest.mark.parametrize("kind", [Ranges, Series, Tables, Video, Volumes])
def test_every_name_that_a_kind_takes_is_of_a_source(kind):
    """Which any other would be looked for among prepared sets."""
    taken = get_args(fields_with_types(kind)["name"])
    assert taken
    assert all(issubclass(kind, tuple(names.SOURCES[name])) for name in taken)


@pytest.mark.parametrize("data", [Images(), Audio()])
def test_a_source_of_another_kind_is_refused(data):
    """Sets of pictures and sounds may have any name: it was an AttributeError."""
    others = {
        name for name, of in names.SOURCES.items() if not isinstance(data, tuple(of))
    }
    assert {"scenes", "phantoms", "generated", "moving_digits", "table"} <= others
    for name in others:
        with pytest.raises(BadInput, match=f"data.name='{name}': is of .*write anothe"):
            names.open_source(dataclasses.replace(data, name=name), True)
