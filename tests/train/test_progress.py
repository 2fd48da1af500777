import io

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
