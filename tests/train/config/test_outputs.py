"""What a program cannot write is refused before it begins."""

import os

import pytest

from train.config import outputs
from train.config.outputs import out_file, out_folder
from train.errors import BadInput


def test_a_file_may_be_there_and_a_folder_may_not(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    assert out_file(tmp_path / "a.csv", ".csv") == tmp_path / "a.csv"
    assert out_file(str(tmp_path / "new" / "b.txt"), ".csv", ".txt").suffix == ".txt"
    assert out_folder(tmp_path / "new" / "run") == tmp_path / "new" / "run"
    assert out_folder(tmp_path, there=True) == tmp_path
    assert os.listdir(tmp_path) == ["a.csv"], "nothing is made"


@pytest.mark.parametrize(
    "place,said",
    [
        (lambda at: out_file(at / "b.png", ".csv", ".txt"), "write a .csv or .txt"),
        (lambda at: out_file(at / "d.csv", ".csv"), "d.csv is a folder; write a file"),
        (lambda at: out_file(at / "a.csv" / "b.csv", ".csv"), "a.csv is a file; write"),
        (lambda at: out_folder(at / "a.csv" / "x" / "y"), "a.csv is a file; write"),
        (lambda at: out_folder(at / "a.csv", there=True), "is a file; write a folder"),
        (lambda at: out_folder(at / "d.csv"), "is there; remove it, or write a new"),
    ],
)
def test_what_cannot_be_written_is_one_line(place, said, tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(BadInput, match=f"--out=.*{said}"):
        place(tmp_path)


def test_a_place_without_leave_to_write_is_refused(tmp_path, monkeypatch):
    asked = []

    def access(path, mode):
        asked.append(path)
        return not mode & os.W_OK  # as of what may be read

    monkeypatch.setattr(outputs.os, "access", access)
    with pytest.raises(BadInput, match="cannot be written to; write another"):
        out_file(tmp_path / "new" / "a.csv", ".csv")
    with pytest.raises(BadInput, match="cannot be written to; write another"):
        out_folder(tmp_path, there=True)
    assert asked == [tmp_path] * 2, "the folder, or the first above that is there"
