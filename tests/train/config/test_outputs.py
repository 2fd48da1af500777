"""What a program cannot write is refused before it begins."""

import importlib
import os
import shutil

import pytest

from train.config import outputs
from train.config.outputs import check_free, out_file, out_folder
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


def test_a_name_is_free_where_what_is_there_is_of_its_kind(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "d").mkdir()
    (tmp_path / "null.jsonl").symlink_to(os.devnull)
    (tmp_path / "linked").symlink_to(tmp_path / "d")
    (tmp_path / "away.csv").symlink_to(tmp_path / "new.csv")  # becomes a file there
    check_free(
        tmp_path, ["a.csv", "new.csv", "null.jsonl", "away.csv"], ["d", "linked"]
    )
    check_free(tmp_path / "new" / "er", ["a.csv"])
    (tmp_path / "away").symlink_to(tmp_path / "gone")
    for names, said in (
        ((["d"],), "d is a folder, and a file is written there; remove it"),
        (((), ["a.csv"]), "a.csv is a file, and a folder is written there; remove it"),
        (((), ["away"]), "away leads to .*gone, which is not there; bring it back"),
    ):
        with pytest.raises(BadInput, match=said):
            check_free(tmp_path, *names)
    with pytest.raises(BadInput, match="a.csv is no folder one can write to"):
        check_free(tmp_path / "a.csv")


TOKENIZER, FLOW = (f"--config=demo_{n} --workdir={{}}" for n in ("tokenizer", "flow"))


@pytest.mark.parametrize(
    "program, words, names",
    [
        ("evaluate", TOKENIZER, "evaluation.json"),
        ("rates", TOKENIZER, "rates.json rates_psnr.png rates_ssim.png"),
        ("page", TOKENIZER, "report.html"),
        ("probe", TOKENIZER, "probe.json probe.png"),
        ("score", FLOW, "scores.csv scores.json"),
        ("ablate", TOKENIZER, "table.json table.md base/row.json"),
        ("demo", "--workdir={}", "report.html report.json samples_flow.npz"),
        ("stage_one", TOKENIZER, "metrics.jsonl"),
        ("stage_two", FLOW, "config.json"),
        ("inspect", "--config=demo_flow --out={}", "report.json values.png"),
        ("compress", f"{TOKENIZER} --fit --force", "prior.npz"),
    ],
)
def test_a_folder_in_a_files_place_is_refused_before_anything_is_opened(
    program, words, names, tmp_path, monkeypatch
):
    """Where it would be known only once all is trained, drawn or scored."""

    def opened(*_, **__):
        raise AssertionError("it was opened")

    module = importlib.import_module(f"train.{program}")
    long = ("open_bundle", "inspect", "open_start", "share_statistics")
    for each in {*long} & {*vars(module)}:
        monkeypatch.setattr(module, each, opened)
    monkeypatch.setattr(module, "validate", lambda *_: None, raising=False)
    monkeypatch.setattr("train.codec.counting.fit_prior", opened)
    monkeypatch.setattr("train.codec.counting.bundle_folder", lambda path: path)
    for name in names.split():
        (tmp_path / name).mkdir(parents=True)
        with pytest.raises(BadInput, match=f"{name} is a folder"):
            module.main(words.format(tmp_path).split())
        shutil.rmtree(tmp_path / name)
