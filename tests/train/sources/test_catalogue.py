import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from train.errors import BadInput
from train.modalities import Audio, Images
from train.pipeline import open_examples
from train.pipeline.streams import check_values
from train.sources import builds, catalogue, open_source
from vqdit.tokenizer import Bytes


def feature(kind: str, **content) -> dict:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{kind}"} | content


def shape(*sizes) -> dict:
    return {"dtype": "uint8", "shape": {"dimensions": [str(size) for size in sizes]}}


LABELLED = {
    "image": feature("image_feature.Image", image=shape(4, 6, 1)),
    "label": feature("class_label_feature.ClassLabel", classLabel={"numClasses": "3"}),
}
CAPTIONED = {
    "picture": feature("image_feature.Image", image=shape(4, 4, 3)),
    "caption": feature("text_feature.Text", text={}),
    "id": feature("text_feature.Text", text={}),
}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return file.getvalue()


def write_set(folder, splits: dict[str, list[dict]], features=LABELLED, **info):
    """A prepared TFDS set, two shards a split, as `tfds build` leaves it."""
    folder.mkdir(parents=True)
    name = info.get("name", "toys")
    described = []
    for split, examples in splits.items():
        halves = [examples[: len(examples) // 2], examples[len(examples) // 2 :]]
        for i, half in enumerate(halves):
            path = folder / f"{name}-{split}.array_record-{i:05d}-of-00002"
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for example in half:
                writer.write(record(example))
            writer.close()
        described.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(len(half)) for half in halves],
            }
        )
    description = {"name": name, "version": folder.name, "fileFormat": "array_record"}
    description |= {"splits": described} | info
    (folder / "dataset_info.json").write_text(json.dumps(description))
    tree = feature("features_dict.FeaturesDict", featuresDict={"features": features})
    (folder / "features.json").write_text(json.dumps(tree))


def record(example: dict) -> bytes:
    message = tf_example_pb2.Example()
    for name, value in example.items():
        if isinstance(value, int):
            message.features.feature[name].int64_list.value.append(value)
        else:
            message.features.feature[name].bytes_list.value.append(value)
    return message.SerializeToString()


def numbered(n: int, start: int = 0) -> list[dict]:
    return [
        {"image": png(np.full((4, 6), i, np.uint8)), "label": i % 3}
        for i in range(start, start + n)
    ]


def at(root, name="toys", **fields) -> Images:
    return Images(name=name, data_dir=str(root), size=4, crop="random", **fields)


def values(source) -> list[int]:
    return [int(e.values[0, 0, 0]) for e in source.take(range(len(source)))]


def test_a_prepared_set_reads_as_written(tmp_path):
    folder = tmp_path / "toys" / "1.0.0"
    write_set(folder, {"train": numbered(7), "test": numbered(3, 50)})
    (folder / "label.labels.txt").write_text("car\nbus\ntram\n")
    train, test = (open_source(at(tmp_path), part) for part in (True, False))
    assert values(train) == list(range(7)) and values(test) == [50, 51, 52]
    assert [train[i].label for i in range(7)] == [i % 3 for i in range(7)]
    assert train[2].values.shape == (4, 6, 1) and train[2].values.dtype == np.uint8
    assert (train.classes, train.class_names) == (3, ("car", "bus", "tram"))
    assert [int(e.values[0, 0, 0]) for e in train.take([5, 0, 5])] == [5, 0, 5]


def test_it_reads_what_tfds_itself_reads(tmp_path):
    folder = tmp_path / "toys" / "1.0.0"
    random = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    examples = [{"picture": png(x), "caption": b"a", "id": b"1"} for x in random]
    write_set(folder, {"train": examples}, CAPTIONED)
    source = open_source(at(tmp_path, channels=3), True)
    theirs = tfds.builder_from_directory(folder).as_data_source("train")
    for i in range(6):
        np.testing.assert_array_equal(source[i].values, theirs[i]["picture"])


def test_captions_and_an_image_under_another_name(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    example = {"picture": png(pixels), "caption": "Käfer".encode(), "id": b"7"}
    write_set(tmp_path / "toys" / "1.0.0", {"train": [example] * 2}, CAPTIONED)
    source = open_source(at(tmp_path), True)
    assert source[1].more["caption"] == "Käfer" and source[1].label == -1
    assert source.classes == 0


def test_what_is_not_known_of_an_example_is_left_open(tmp_path):
    """A label of -1, a caption that is not there; and a set that tells no name."""
    folder = tmp_path / "toys" / "1.0.0"
    features = LABELLED | {"text": CAPTIONED["caption"]}
    examples = [numbered(1)[0] | {"label": -1}, numbered(1)[0] | {"text": b"a"}]
    write_set(folder, {"train": examples}, features)
    info = json.loads((folder / "dataset_info.json").read_text())
    del info["name"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for name in ("toys", "toys:1.0.0"):
        one, other = open_source(at(tmp_path, name), True)
        assert (one.label, one.more["caption"]) == (-1, "")
        assert (other.label, other.more["caption"]) == (0, "a")


def test_values_of_another_kind_are_refused(tmp_path):
    write_set(tmp_path / "toys" / "1.0.0", {"train": numbered(2)})
    tree = json.loads((tmp_path / "toys" / "1.0.0" / "features.json").read_text())
    inside = tree["featuresDict"]["features"]
    inside["image"]["image"]["dtype"] = "float32"
    inside["sound"] = feature("audio_feature.Audio", audio={"encoding": "flac"})
    inside["label"]["classLabel"]["numClasses"] = "1000001"
    path = tmp_path / "toys" / "1.0.0" / "features.json"
    sound = Audio("toys", str(tmp_path))
    for data, said in (
        (at(tmp_path), "float32 images; write a set of uint8"),
        (sound, "sound encoded as FLAC; prepare it plain"),
    ):
        path.write_text(json.dumps(tree))
        with pytest.raises(BadInput, match=said):
            open_source(data, True)
    inside["image"]["image"]["dtype"] = "uint16"
    path.write_text(json.dumps(tree))
    with pytest.raises(BadInput, match=r"it has 1e\+06 classes"):
        open_source(at(tmp_path), True)


@pytest.mark.parametrize("many, light", [(12, True), (2, False)])
def test_threads_read_what_takes_long_to_decode(tmp_path, monkeypatch, many, light):
    """Less than so many bytes a record, in all files."""
    folder = tmp_path / "toys" / "1.0.0"
    write_set(folder, {"train": numbered(many)})
    size = sum(each.stat().st_size for each in folder.glob("*train*"))
    monkeypatch.setattr(catalogue, "LIGHT_BYTES", size / 6)
    assert open_source(at(tmp_path), True).light == light


def test_keys_are_of_the_part_that_is_asked_for(tmp_path):
    """Where holdout divides one split by a rule over names."""
    file = {"file/filename": feature("text_feature.Text", text={})}
    named = [
        each | {"file/filename": f"{i}_ann_{i % 4}.png".encode()}
        for i, each in enumerate(numbered(20))
    ]
    write_set(tmp_path / "toys" / "1.0.0", {"train": named}, LABELLED | file)
    for part in (True, False):
        source = open_source(at(tmp_path, holdout="takes:1-2"), part)
        assert len(source) == 10
        assert [int(key.split("_")[0]) for key in source.keys] == values(source)


def test_texts_of_all_rows_are_read_a_few_at_a_time_and_no_picture(
    tmp_path, monkeypatch
):
    """A set need not fit into memory for its names; captions are told of a small one,
    so that one too long for its stream is found before training."""
    file = {"file/filename": feature("text_feature.Text", text={})}
    picture = png(np.zeros((4, 4, 3), np.uint8))
    examples = [
        {"picture": picture, "file/filename": f"{i}.png".encode()}
        | ({"caption": b"a" * i} if i else {})
        for i in range(10)
    ]
    write_set(tmp_path / "toys" / "1.0.0", {"train": examples}, CAPTIONED | file)
    source, asked = open_source(at(tmp_path), True), []
    read = source.records.__getitems__
    monkeypatch.setattr(catalogue, "CHUNK", 4)
    counted = lambda _, rows: asked.append(len(rows)) or read(rows)
    with monkeypatch.context() as inside:
        inside.setattr(type(source.records), "__getitems__", counted)
        inside.setattr(catalogue, "read_picture", None)
        assert source.keys == [str(i) for i in range(10)]
        assert source.told("caption") == ["a" * i for i in range(10)]
    assert max(asked) == 4 and sum(asked) == 20
    assert source.told("boxes") is None
    monkeypatch.setattr(catalogue, "CHECKED", 9)
    assert source.told("caption") is None
    part = open_examples(at(tmp_path), True)
    monkeypatch.setattr(catalogue, "CHECKED", 10)
    with pytest.raises(BadInput, match="streams.text.tokenizer: the text .* length=9"):
        check_values(Bytes(8), part, "text")
    del examples[1]["file/filename"]
    write_set(tmp_path / "more" / "1.0.0", {"train": examples}, CAPTIONED | file)
    with pytest.raises(BadInput, match="example 1 has no file/filename"):
        open_source(at(tmp_path, "more", holdout="match:1"), True)


def test_slices_of_splits_and_the_newest_version(tmp_path):
    write_set(tmp_path / "toys" / "1.9.0", {"train": numbered(4)})
    write_set(tmp_path / "toys" / "1.10.0", {"train": numbered(8, 100)})
    (tmp_path / "toys" / "2.0.0.incompleteA1").mkdir()
    (tmp_path / "toys" / "2.0.0.incompleteA1" / "dataset_info.json").write_text("{")
    images = at(tmp_path, train_split="train[:75%]", test_split="train[75%:]")
    assert values(open_source(images, True)) == list(range(100, 106))
    assert values(open_source(images, False)) == [106, 107]
    assert values(open_source(at(tmp_path, "toys:1.9.0"), True)) == [0, 1, 2, 3]
    with pytest.raises(BadInput, match="version 3.0.0 is not in .*1.10.0, 1.9.0"):
        open_source(at(tmp_path, "toys:3.0.0"), True)


def test_one_split_for_both_parts_is_divided(tmp_path):
    write_set(tmp_path / "toys" / "1.0.0", {"train": numbered(40)})
    for split in ("train", "train[:50%]"):
        images = at(tmp_path, train_split=split, test_split=split)
        train, test = (values(open_source(images, part)) for part in (True, False))
        assert train and test
        assert sorted(train + test) == list(range(20 if "[" in split else 40))


def test_configurations(tmp_path):
    write_set(tmp_path / "toys" / "red" / "1.0.0", {"train": numbered(2)})
    assert values(open_source(at(tmp_path), True)) == [0, 1]
    write_set(tmp_path / "toys" / "blue" / "1.0.0", {"train": numbered(2, 5)})
    assert values(open_source(at(tmp_path, "toys/blue"), True)) == [5, 6]
    with pytest.raises(BadInput, match="write toys/blue or toys/red"):
        open_source(at(tmp_path), True)


def test_a_set_that_is_not_prepared_names_the_command(tmp_path):
    write_set(tmp_path / "toys" / "1.0.0", {"train": numbered(2)})
    command = (
        f"tfds build mnist --data_dir={tmp_path} --file_format=array_record "
        ".*tensorflow.*data.download=True"
    )
    with pytest.raises(
        BadInput, match=f"prepared there: toys; run: {command}"
    ) as caught:
        open_source(at(tmp_path, "mnist"), True)
    assert "\n" not in str(caught.value)
    write_set(tmp_path / "pets" / "small" / "1.0.0", {"train": numbered(2)})
    with pytest.raises(BadInput, match="prepared there: pets, toys; run"):
        open_source(at(tmp_path, "mnist"), True)
    with pytest.raises(BadInput, match="not prepared in .*gone; run: tfds build toys"):
        open_source(at(tmp_path / "gone"), True)


def test_splits_that_are_absent_misspelt_or_empty_are_refused(tmp_path):
    splits = {"train": numbered(4), "test": []}
    write_set(tmp_path / "toys" / "1.0.0", splits)
    for split in ("trian", "train[abc", ""):
        with pytest.raises(BadInput, match="data.train_split=.*write one of train"):
            open_source(at(tmp_path, train_split=split), True)
    with pytest.raises(BadInput, match="nothing in data.test_split='test'"):
        open_source(at(tmp_path), False)
    with pytest.raises(BadInput, match="nothing in data.train_split='train.:0.'"):
        open_source(at(tmp_path, train_split="train[:0]"), True)


def test_another_file_format_is_refused(tmp_path):
    folder = tmp_path / "toys" / "1.0.0"
    write_set(folder, {"train": numbered(4)}, fileFormat="tfrecord")
    for path in folder.glob("*array_record*"):
        path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
    with pytest.raises(BadInput, match="prepared as tfrecord.*--file_format"):
        open_source(at(tmp_path), True)


def test_a_set_without_images_is_refused(tmp_path):
    features = {name: CAPTIONED[name] for name in ("caption", "id")}
    write_set(tmp_path / "toys" / "1.0.0", {"train": [{}]}, features)
    with pytest.raises(BadInput, match="no single image: its features are caption, id"):
        open_source(at(tmp_path), True)


def test_labels_are_read_without_pictures_and_are_of_the_classes(tmp_path, monkeypatch):
    examples = numbered(3)
    examples[2]["label"] = -1  # not known
    write_set(tmp_path / "toys" / "1.0.0", {"train": examples})
    part = open_examples(at(tmp_path), True)
    with monkeypatch.context() as inside:
        inside.setattr(catalogue, "read_picture", None)
        assert part.labels.tolist() == [0, 1, -1]
    assert part.told("label") is None  # a stream of them asks for a few records
    examples[1]["label"] = 3
    write_set(tmp_path / "toys" / "1.1.0", {"train": examples})
    source = open_source(at(tmp_path), True)
    assert source[0].label == 0
    for read in (lambda: source[1], source.read_labels):
        with pytest.raises(BadInput, match="label 3 of example 1 is outside its 3 cl"):
            read()


def test_damaged_images_records_and_descriptions_are_refused(tmp_path):
    folder = tmp_path / "toys" / "1.0.0"
    examples = numbered(4)
    examples[2]["image"] = examples[2]["image"][:50]
    write_set(folder, {"train": examples})
    with pytest.raises(BadInput, match="image 2 is damaged"):
        open_source(at(tmp_path), True)[2]
    shards = sorted(folder.glob("*train*"))
    data = bytearray(shards[0].read_bytes())
    for cut in (0, 100):
        shards[0].write_bytes(data[:cut])
        with pytest.raises(BadInput, match="records"):
            open_source(at(tmp_path), True)[0]
    shards[0].unlink()
    with pytest.raises(BadInput, match="00000-of-00002: no such file; run: tfds build"):
        open_source(at(tmp_path), True)
    (folder / "dataset_info.json").write_text('{"name": ')
    with pytest.raises(BadInput, match="1.0.0: not a readable TFDS set"):
        open_source(at(tmp_path), True)


def test_downloading_without_tensorflow_is_refused_before_any_network_use(
    tmp_path, monkeypatch
):
    there = lambda name: None if name == "tensorflow" else pytest.fail(name)
    monkeypatch.setattr(builds.importlib.util, "find_spec", there)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: pytest.fail("went on"))
    with pytest.raises(BadInput, match="needs TensorFlow; pip install"):
        open_source(at(tmp_path, "mnist", download=True), True)


def test_downloading_prepares_array_records_once_and_reports_failure(
    tmp_path, monkeypatch
):
    calls = []

    class Builder:
        def __init__(self, name, *, data_dir, file_format):
            calls.append((name, data_dir, file_format))
            self.data_dir = data_dir / "toys" / "1.0.0"

        def download_and_prepare(self):
            if len(calls) == 1:
                raise ConnectionError("no route\nto host")
            write_set(self.data_dir, {"train": numbered(2)})

    monkeypatch.setattr(builds.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(tfds, "builder", Builder)
    with pytest.raises(BadInput, match="no route to host.; run: tfds build toys"):
        open_source(at(tmp_path, download=True), True)
    assert len(open_source(at(tmp_path, download=True), True)) == 2
    assert len(open_source(at(tmp_path, download=True), True)) == 2
    assert calls == [("toys", tmp_path, "array_record")] * 2
