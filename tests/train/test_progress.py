import io
import sys

import numpy as np
import pytest

from train import progress as module
from train.modalities import Series
from train.pipeline.statistics import statistics_of
from train.progress import progress, say


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def worked(clock, seconds, steps=1000):
    for _ in progress(range(steps), "reading", unit="file"):
        clock[0] += seconds / steps


def test_nothing_is_said_of_what_takes_less_than_two_seconds(clock, capsys):
    worked(clock, 1.9)
    assert capsys.readouterr() == ("", "")


def test_a_log_file_gets_lines_of_count_rate_and_time_left(clock, capsys):
    worked(clock, 100.0)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert not out and "\r" not in err and "\x1b" not in err
    assert 3 <= len(lines) <= 8  # after 2 seconds, then at growing distances
    assert "reading" in lines[0] and "20/1000" in lines[0]
    assert "[00:02<01:3" in lines[0] and "file/s" in lines[0]


def test_lines_of_a_log_file_come_once_a_minute_at_last(clock, capsys):
    """After 2, 6, 14, 30 and 62 seconds, and then every 60."""
    worked(clock, 3600.0, 3600)
    lines = capsys.readouterr().err.splitlines()
    shown = [line.partition("[")[2][:5] for line in lines]
    assert shown[:7] == ["00:02", "00:06", "00:14", "00:30", "01:02", "02:02", "03:02"]
    assert len(lines) == 5 + 58
    assert {len(line) for line in lines} == {88}


def test_a_run_is_told_of_from_its_first_moment(clock, capsys):
    with progress(None, "training", 4, silent=0.0) as bar:
        (first,) = capsys.readouterr().err.splitlines()
        for _ in range(4):
            clock[0] += 0.9
            bar.update()
    assert first.startswith("training:   0%|") and " 0/4 [00:00<?" in first
    # After 1, 2, 4 ... seconds: one of half a second was before the first word.
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("[")[2][:5] for line in lines] == ["00:01"]


def test_a_bar_within_another_is_a_line_too(clock, capsys):
    for _ in progress(range(2), "outer", silent=0.0):
        for _ in progress(range(2), "inner", silent=0.0):
            clock[0] += 10
    err = capsys.readouterr().err
    assert "outer" in err and "inner" in err and "\x1b" not in err
    assert all(line.startswith(("outer:", "inner:")) for line in err.splitlines())


def test_what_is_said_stands_above_the_bar(clock, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with progress(None, "reading", 2, silent=0.0):
        say("a word")
    before, after = stream.getvalue().split("a word\n")
    *_, bar, blank, none = before.split("\r")
    assert "reading" in bar and not blank.strip() and not none
    assert "reading" in after


def test_what_is_done_already_counts(clock, capsys):
    """A resumed run's bar begins where the run stood; the rate is of what is new."""
    with progress(None, "reading", 1000, start=900) as bar:
        for _ in range(10):
            clock[0] += 1.0
            bar.update()
    first = capsys.readouterr().err.splitlines()[0]
    assert "902/1000" in first and "1.00it/s" in first


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_every_two_seconds_that_goes_at_the_end(
    clock, monkeypatch
):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with progress(None, "reading", 1000) as bar:
        for _ in range(1000):
            clock[0] += 0.1
            bar.update()
    shown = stream.getvalue().split("\r")
    assert 45 <= sum("reading" in text for text in shown) <= 51
    assert "\n" not in stream.getvalue() and not shown[-2].strip()


def test_only_the_first_process_speaks(clock, monkeypatch, capsys):
    monkeypatch.setattr(module, "speaks", lambda: False)
    worked(clock, 100.0)
    say("not heard")
    assert capsys.readouterr() == ("", "")


def test_opening_a_folder_and_fitting_statistics_are_told(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(module, "SILENT", 0.0)
    for i in range(4):
        text = "\n".join(f"{np.sin(t + i)}" for t in range(32))
        (tmp_path / f"{i}.csv").write_text(f"x\n{text}\n")
    data = Series(name="folder", data_dir=str(tmp_path), length=16, channels=1)
    statistics_of(data)
    said = capsys.readouterr().err
    assert "opening" in said and "fitting statistics" in said and "/4" in said


def test_without_a_bar_a_line_is_a_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    say("one")
    assert capsys.readouterr() == ("", "one\n")
