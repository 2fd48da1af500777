"""Samples as files: by the ending of a name, or one each in a folder."""

import types

import numpy as np
import pytest
from PIL import Image

from train.report import samples as module
from train.report.samples import said_file, said_of, write_samples
from vqdit import Bytes, Category, Labels, Number, Table

TABLE = Table((Number("age", (40.0,), (30.5, 60.0)), Category("sex", ("f", "m"))))
MODEL = types.SimpleNamespace(
    codecs={},
    values={"word": Bytes(4), "digit": Labels(3), "label": Labels(9), "row": TABLE},
    class_names=("cat", "dog"),
)
ROWS = [{"age": 31.0, "sex": "f"}, {"age": None, "sex": "m"}]
SAID = {"word": ["ab", "c"], "digit": ["dog", "2"]}
DRAWN = {"word": ["ab", "c"], "digit": np.array([1, 2])}


def test_a_class_has_its_name_where_there_is_one():
    drawn = np.array([0, 1, 2, -1])
    assert said_of(MODEL, "digit", drawn) == ["cat", "dog", "2", "-1"]
    assert said_file(MODEL, "digit", drawn) == (".txt", b"cat\ndog\n2\n-1\n")
    suffix, table = said_file(MODEL, "row", ROWS)
    assert suffix == ".csv"
    assert table.decode().split() == ["age,sex", "31,f", ",m"]


def test_each_stream_has_a_file_of_its_name(tmp_path, capsys):
    write_samples(MODEL, tmp_path / "a.csv", DRAWN, SAID, None, ())
    assert (tmp_path / "a_word.txt").read_bytes() == b"ab\nc\n"
    assert (tmp_path / "a_digit.txt").read_bytes() == b"dog\n2\n"
    one = {"row": ROWS}
    write_samples(MODEL, tmp_path / "b.txt", one, {}, None, ())
    assert (tmp_path / "b.csv").read_bytes() == said_file(MODEL, "row", ROWS)[1]
    assert capsys.readouterr().err.splitlines() == [
        f"2 samples of 'word' are in {tmp_path}/a_word.txt",
        f"2 samples of 'digit' are in {tmp_path}/a_digit.txt",
        f"2 samples of 'row' are in {tmp_path}/b.csv",
    ]
    assert len([*tmp_path.iterdir()]) == 3


def test_arrays_go_beside_their_labels_and_before_them(tmp_path):
    labels = np.array([7, 8])
    for name in ("digit", "label", "row"):
        drawn = ROWS if name == "row" else DRAWN["digit"]
        write_samples(MODEL, tmp_path / "a.npz", {name: drawn}, {}, labels, ())
        with np.load(tmp_path / "a.npz") as arrays:
            found = dict(arrays)
        if name == "label":  # what was drawn goes before what it was drawn of
            assert found["label"].tolist() == [1, 2] and len(found) == 1
        else:
            assert found["label"].tolist() == [7, 8]
        if name == "digit":
            assert found["digit"].tolist() == [1, 2]
        if name == "row":
            np.testing.assert_array_equal(found["age"], [31, np.nan])
            assert found["sex"].tolist() == ["f", "m"]


@pytest.mark.parametrize("count, last", [(10, "9"), (11, "10")])
def test_in_a_folder_there_is_a_file_of_each_sample(tmp_path, capsys, count, last):
    """All names of one length; of rows one table."""
    texts = [f"{i}!" for i in range(count)]
    drawn = {"word": texts, "row": count * ROWS[:1]}
    write_samples(MODEL, tmp_path / "out", drawn, {"word": texts}, None, ())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    digits = len(last)
    assert names == [*(f"{i:0{digits}d}_word.txt" for i in range(count)), "row.csv"]
    assert (tmp_path / "out" / f"{last}_word.txt").read_text() == f"{count - 1}!"
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{count} samples of 'word', 'row' are in {tmp_path}/out"]


def test_a_signal_is_a_picture_or_a_file_beside_one(tmp_path, monkeypatch):
    """Of sounds each has a picture of its own, too; bytes are shown as they are."""
    shown = []

    def drawn(kind, x, units, columns=None, names=()):
        shown.append((kind, np.asarray(x).tolist(), columns, names))
        return np.full((2, 2, 3), len(shown), np.uint8)

    kinds = types.SimpleNamespace(front="mel")
    record = lambda x, rate, names: types.SimpleNamespace(suffix=".wav", x=x, rate=rate)
    kinds.new = record
    kinds.write = lambda record: f"{record.x} at {record.rate}".encode()
    contract = types.SimpleNamespace(
        kind="audio", rate=8.0, offset=(), scale=(), preparation=(), names=()
    )
    codec = types.SimpleNamespace(contract=contract, from_raw=lambda x: x / 2)
    model = types.SimpleNamespace(codecs={"photo": codec}, values={})
    monkeypatch.setattr(module, "sheet", drawn)
    monkeypatch.setattr(module, "of_contract", lambda contract: kinds)
    x = {"photo": np.array([2.0, 4, 6])}
    write_samples(model, tmp_path / "a.png", x, {}, None, ["a", "b", "c"])
    assert shown == [("audio", [1, 2, 3], 2, ["a", "b", "c"])]
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (2, 2, 3) and (picture == 1).all()
    raw = {"photo": np.array([2, 4], np.uint8)}
    write_samples(model, tmp_path / "out", raw, {}, None, ())
    assert shown[1:] == [
        ("audio", [2, 4], 2, ()),
        ("audio", [2], None, ()),
        ("audio", [4], None, ()),
    ]
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(found) == ["0.png", "0.wav", "1.png", "1.wav", "sheet.png"]
    assert (found["0.wav"], found["1.wav"]) == (b"2 at 8.0", b"4 at 8.0")
    assert (np.asarray(Image.open(tmp_path / "out" / "1.png")) == 4).all()
    kinds.front = None
    assert [*module.files_of(contract, raw["photo"], [], "_b")] == [
        "0_b.wav",
        "1_b.wav",
    ]
