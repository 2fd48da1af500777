"""Files and folders are written whole or not at all, and hold what others can read."""

import errno
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from train.modalities.files import writing
from train.modalities.files.writing import (
    becoming,
    new_folder,
    write,
    write_bytes,
    write_folder,
)


def test_json_has_null_for_what_is_no_finite_number(tmp_path):
    """Other readers of JSON know no NaN, and would refuse the whole file."""
    nan, inf = float("nan"), float("inf")
    rows = ({"a": nan, "b": 1.5}, [np.float64(inf), 2, "nan", None, True])
    write(tmp_path / "found.json", {"rows": rows, "least": -inf})

    def none(name):
        raise AssertionError(f"{name} is in the file")

    found = json.loads((tmp_path / "found.json").read_text(), parse_constant=none)
    row = [None, 2, "nan", None, True]
    assert found == {"rows": [{"a": None, "b": 1.5}, row], "least": None}


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_bytes(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(writing.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "clip"
    write_folder(folder, {"a": b"1", "b": b"2"})
    write_folder(folder, {"a": b"3"})
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("a", b"3")]
    with pytest.raises(OSError):
        write_folder(folder, {"a": b"4", "no/such": b"5"})
    with pytest.raises(OSError, match=f"No space left on device: '{folder}'"):
        with new_folder(folder):
            os.write(os.open("/dev/full", os.O_WRONLY), b"6")
    assert (folder / "a").read_bytes() == b"3"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_link_is_followed_and_stays(tmp_path):
    """Results that were moved to another disk are where one looks for them."""
    (tmp_path / "far").mkdir()
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
    for text in (b"1", b"2"):  # where a link leads need not be there yet
        write_bytes(tmp_path / "file", text)
        write_folder(tmp_path / "folder", {"a": text})
        assert (tmp_path / "far/file").read_bytes() == text
        assert (tmp_path / "far/folder/a").read_bytes() == text
    links = sorted(tmp_path.iterdir())[1:]
    assert [p.is_symlink() for p in links] == [True, True]
    assert len([*(tmp_path / "far").iterdir()]) == 2


def test_a_device_is_written_to_and_stays(tmp_path):
    (tmp_path / "thrown_away").symlink_to("/dev/null")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_bytes(pipe, b"1")
        assert (os.read(reader, 9), pipe.is_fifo()) == (b"1", True)
    finally:
        os.close(reader)
    write_bytes(tmp_path / "thrown_away", b"1")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_write_never_loses_the_folder(tmp_path, monkeypatch, nth, when):
    folder = tmp_path / "clip"
    write_folder(folder, {"a": b"1"})
    rename, done = Path.rename, []

    def interrupted(self, target):
        done.append(target)
        if len(done) == nth and when == "before":
            raise KeyboardInterrupt
        rename(self, target)
        if len(done) == nth:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, {"a": b"2"})
    last = b"2" if (nth, when) == (2, "after") else b"1"
    assert (folder / "a").read_bytes() == last
    monkeypatch.undo()
    write_folder(folder, {"a": b"3"})
    assert (folder / "a").read_bytes() == b"3"
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_process_had_begun_goes_and_what_a_living_one_writes_stays(
    tmp_path,
):
    """With the first that another one writes into the same folder, file or folder."""
    folder, host = tmp_path / "cache", socket.gethostname()
    gone = [f".cache.{host}.12.new", f".a.json.{host}.12.3.new", f".b.{host}.12.4.new"]
    kept = [".cache.12.old", ".cache.12.new", ".cache.elsewhere.12.3.new", "a.12.new"]
    for name in (*gone[1:], *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records").touch()
    (tmp_path / gone[0]).touch()
    with new_folder(folder) as living, becoming(tmp_path / "c") as file:
        (living / "records").touch()
        begun = {p.name for p in tmp_path.iterdir()}
        assert begun == {*kept, living.name, file.name}
        writing.LIVING.clear()
        writing._sweep.cache_clear()
        write_bytes(tmp_path / "a.json", b"1")  # as another process does,
        write_bytes(tmp_path / "c", b"2")  # of this number in another container, too
        assert (living / "records").exists() and file.exists()
    assert (folder / "records").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"cache", "a.json", "c", *kept}


def test_what_is_swept_before_it_is_owned_is_begun_again(tmp_path, monkeypatch):
    owned, taken = writing._owned, []

    def late(path):
        if not taken:
            taken.append(path)
            path.unlink()  # by another process, which looks between the two
        return owned(path)

    monkeypatch.setattr(writing, "_owned", late)
    write_bytes(tmp_path / ("a" * 250), b"1")  # a name as long as may be
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"1"] and taken


@pytest.mark.parametrize("folder", [False, True])
def test_what_its_writer_finds_there_already_is_the_writers_to_say(folder, tmp_path):
    with pytest.raises(FileExistsError), becoming(tmp_path / "a", folder) as fresh:
        fresh.touch(exist_ok=False) if not folder else fresh.mkdir()
    assert not [*tmp_path.iterdir()]


def test_what_a_process_of_this_number_had_begun_goes_where_there_are_no_locks(
    tmp_path, monkeypatch
):
    """In a container a process has the same number at every start."""

    def unknown(*_):
        raise OSError(errno.EBADF, "no locks here")

    monkeypatch.setattr(writing.fcntl, "flock", unknown)
    mine = f"{socket.gethostname()}.{os.getpid()}.0.new"
    # Of another number, and of this in another container: they may be alive.
    kept = [f".cache.{socket.gethostname()}.12.new", f".other.{mine}"]
    for each in (f".cache.{mine}", *kept):
        (tmp_path / each / "part").mkdir(parents=True)
    write_folder(tmp_path / "cache", {"a": b"1"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [*kept, "cache"]


def test_what_may_not_be_removed_keeps_nothing_else(tmp_path, monkeypatch):
    """As where all may write, and each remove what is their own."""
    names = [f".{name}.{socket.gethostname()}.12.3.new" for name in "ab"]
    for name in names:
        (tmp_path / name).touch()
    order = sorted(tmp_path.iterdir())
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(order))
    unlink = Path.unlink

    def refused(path, **how):
        if path == order[0]:
            raise PermissionError(errno.EPERM, "not yours")
        unlink(path, **how)

    monkeypatch.setattr(Path, "unlink", refused)
    write_bytes(tmp_path / "c", b"1")
    assert sorted(os.listdir(tmp_path)) == [names[0], "c"]


def test_what_is_raised_while_a_folder_is_written_is_said_as_it_is(tmp_path):
    with pytest.raises(FileExistsError, match="part"):
        with new_folder(tmp_path / "cache") as fresh:
            for _ in range(2):
                (fresh / "part").mkdir()
    assert not list(tmp_path.iterdir())
