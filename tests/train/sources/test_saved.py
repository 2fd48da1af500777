"""Sets as Hugging Face's `datasets` 2 to 4 write them, here made by hand: a folder a
split of state.json, dataset_info.json and Arrow streams in batches."""

import io
import json

import numpy as np
import pyarrow
import pytest
import soundfile
from PIL import Image

from tests.train.fresh import fresh_source
from train.errors import BadInput
from train.modalities import Audio, Images, Series, Video
from train.modalities.files import clips
from train.modalities.files.clips import even, write_gif, write_mp4
from train.sources import open_source

LABEL = {"names": ["ant", "bee", "cat"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}
FILE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def save(folder, features, columns, shards=2, **state):
    """As `Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    table = pyarrow.table(columns)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    step = -(-table.num_rows // shards)
    for i, name in enumerate(names):
        with pyarrow.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table.slice(i * step, step), max_chunksize=3)
    state |= {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps({"_fingerprint": "1", **state}))
    info = {"features": features, "splits": None}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def cells(contents, paths=None):
    paths = paths or [None] * len(contents)
    rows = [{"bytes": c, "path": p} for c, p in zip(contents, paths, strict=True)]
    return pyarrow.array(rows, FILE)


def picture(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file, "png")
    return file.getvalue()


def pictures(folder, low, high, **more):
    features = {"image": {"_type": "Image"}, "label": LABEL, "text": TEXT}
    columns = {
        "image": cells([picture(i) for i in range(low, high)]),
        "label": pyarrow.array([i % 3 for i in range(low, high)], pyarrow.int64()),
        "text": pyarrow.array([f"number {i}" for i in range(low, high)]),
    }
    return save(folder, features, columns, **more)


def at(path, **fields) -> Images:
    return Images(name="huggingface", data_dir=str(path), size=4, **fields)


def values(source) -> list[int]:
    return [int(record.values[0, 0, 0]) for record in source]


def test_rows_of_several_files_and_batches_by_index(tmp_path):
    source = open_source(at(pictures(tmp_path / "a", 0, 20), holdout=0.0), True)
    assert values(source) == list(range(20))
    assert [source[i].values[0, 0, 0] for i in (19, 0, 9, 10)] == [19, 0, 9, 10]
    assert source.class_names == ("ant", "bee", "cat")
    assert [record.label for record in source] == [i % 3 for i in range(20)]
    assert source[7].more["caption"] == "number 7"
    before = source.identity
    pictures(tmp_path / "b", 1, 20)
    assert fresh_source(at(tmp_path / "b", holdout=0.0), True).identity != before


def test_splits_are_the_parts_and_one_alone_is_divided(tmp_path):
    pictures(tmp_path / "train", 0, 12)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    parts = [values(open_source(at(tmp_path), part)) for part in (True, False)]
    assert sorted(sum(parts, [])) == list(range(12)) and all(parts)
    pictures(tmp_path / "validation", 12, 15)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    with pytest.raises(BadInput, match="write data.test_split=validation"):
        fresh_source(at(tmp_path), True)
    data = at(tmp_path, test_split="validation")
    assert values(open_source(data, True)) == list(range(12))
    assert values(open_source(data, False)) == [12, 13, 14]
    assert values(open_source(at(tmp_path / "validation", holdout=0.0), True))[0] == 12
    with pytest.raises(BadInput, match="'dev': .* holds the splits train, validation"):
        open_source(at(tmp_path, train_split="dev", test_split="dev"), True)


def test_sounds_and_clips_are_read_too(tmp_path):
    sound = io.BytesIO()
    soundfile.write(sound, np.sin(np.arange(60)), 1000, format="WAV")
    soundfile.write(tmp_path / "x.wav", np.cos(np.arange(60)), 1000)
    audio = {"sampling_rate": 1000, "_type": "Audio"}
    # One beside the set, as of `Audio` columns that were not embedded.
    column = cells(
        [sound.getvalue(), None, None], [None, str(tmp_path / "x.wav"), None]
    )
    columns = {"sound": column, "label": pyarrow.array(["b", "a", "b"])}
    save(tmp_path / "a", {"sound": audio, "label": TEXT}, columns)
    data = Audio("huggingface", str(tmp_path / "a"), holdout=0.0, rate=1000, length=50)
    with pytest.raises(BadInput, match="1 of 3 files unreadable.*2: is empty"):
        open_source(data, True)
    data = Audio(**{**vars(data), "bad_share": 0.4})
    source = open_source(data, True)
    assert len(source) == 2 and source.class_names == ("a", "b")
    assert [record.label for record in source] == [1, 0]
    frames = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(4)]
    clip = cells([write_mp4(frames, even(4, 10))])
    save(tmp_path / "v", {"video": {"_type": "Video"}}, {"video": clip}, shards=1)
    data = Video("huggingface", str(tmp_path / "v"), holdout=0.0, frames=4, size=16)
    shown = data.cut([open_source(data, True)[0]], [0], None)["x"]
    assert np.abs(shown[0, :, 0, 0, 0].astype(int) - [0, 40, 80, 120]).max() < 4


def test_a_gif_is_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "open_video", None)
    frames = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(4)]
    clip = cells([write_gif(frames, even(4, 10))])
    save(tmp_path / "v", {"video": {"_type": "Video"}}, {"video": clip}, shards=1)
    data = Video("huggingface", str(tmp_path / "v"), holdout=0.0, frames=4, size=16)
    assert len(open_source(data, True)) == 1


def test_classes_of_which_none_is_the_label_are_told(tmp_path, caplog):
    columns = {"image": cells([picture(i) for i in range(3)])}
    features = {"image": {"_type": "Image"}}
    for name in ("fine", "coarse"):
        features[name], columns[name] = LABEL, pyarrow.array([0, 1, 2])
    save(tmp_path / "a", features, columns)
    assert open_source(at(tmp_path / "a", holdout=0.0), True).classes == 0
    assert "no classes are read, since none of fine, coarse is called" in caplog.text


def test_labels_that_nothing_knows_and_of_no_class(tmp_path):
    features = {"image": {"_type": "Image"}, "label": LABEL}
    column = cells([picture(i) for i in range(3)])
    columns = {"image": column, "label": pyarrow.array([1, None, -1])}
    save(tmp_path / "a", features, columns)
    source = open_source(at(tmp_path / "a", holdout=0.0), True)
    assert [e.label for e in source] == [1, -1, -1] and "caption" not in source[0].more
    columns["label"] = pyarrow.array([1, 3, 0])
    save(tmp_path / "b", features, columns)
    with pytest.raises(BadInput, match="label 3 of row 1 is outside its 3 classes"):
        open_source(at(tmp_path / "b"), True)


def test_a_label_of_measures_is_no_class(tmp_path, caplog):
    features = {"image": {"_type": "Image"}, "label": {"_type": "Value"}}
    column = cells([picture(i) for i in range(3)])
    for values, labels in (([0.5, 2.0, 1.25], [-1] * 3), ([0.0, 2.0, 1.0], [0, 2, 1])):
        columns = {"image": column, "label": pyarrow.array(values)}
        folder = save(tmp_path / str(values[0]), features, columns)
        source = open_source(at(folder, holdout=0.0), True)
        assert [record.label for record in source] == labels
    assert caplog.text.count("no classes are read: column label holds measures") == 1


def test_what_is_no_saved_set_is_one_line(tmp_path):
    good = pictures(tmp_path / "good", 0, 4, shards=1)
    cut = pictures(tmp_path / "cut", 0, 4, shards=1)
    content = (cut / "data-00000-of-00001.arrow").read_bytes()
    (cut / "data-00000-of-00001.arrow").write_bytes(content[:-8])
    noise = pictures(tmp_path / "noise", 0, 4, shards=1)
    (noise / "data-00000-of-00001.arrow").write_bytes(b"x" * 100 + content[-8:])
    gone = pictures(tmp_path / "gone", 0, 4)
    (gone / "data-00001-of-00002.arrow").unlink()
    chosen = pictures(
        tmp_path / "chosen", 0, 4, _indices_data_files=[{"filename": "i"}]
    )
    (tmp_path / "empty").mkdir()
    torn = pictures(tmp_path / "torn", 0, 4)
    (torn / "state.json").write_text('{"_data_files": ')
    for where, said in (
        ("", "data.data_dir is empty"),
        (
            tmp_path / "empty",
            r"dataset_info\.json .*write the folder that save_to_disk",
        ),
        (tmp_path / "nowhere", "write the folder that save_to_disk"),
        (cut, "is cut short; save the set anew"),
        (noise, "is no whole Arrow stream"),
        (gone, "00001-of-00002.arrow is no whole Arrow stream"),
        (chosen, "its rows are chosen by an index; save it anew"),
        (torn, "is no whole file of a saved set"),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            open_source(at(where), True)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="no single Audio feature.* image, label, text"):
        open_source(Audio("huggingface", str(good), rate=1000, length=50), True)
    with pytest.raises(BadInput, match="data.name='huggingface': write one of"):
        Series(name="huggingface")
    with pytest.raises(BadInput, match="has no names of recordings"):
        rule = {"holdout": "speaker:a", "rate": 1000, "length": 50}
        audio = {"sound": {"_type": "Audio"}}
        save(tmp_path / "s", audio, {"sound": cells([b"", b""])})
        data = Audio("huggingface", str(tmp_path / "s"), bad_share=0.9, **rule)
        open_source(data, True)
