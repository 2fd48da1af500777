"""Files of series that are read and written again."""

import io

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from train.errors import Unreadable
from train.modalities.files.recordings import read_recording, write_recording
from train.modalities.record import Record


def again(path, columns=(), time="", channels=2):
    """(what is written of a file, its rate, what was not chosen)."""
    values, rate, extra, others = read_recording(path, columns, time, channels)
    record = Record(values, rate, suffix=path.suffix, extra=extra)
    return write_recording(record), rate, others


@pytest.mark.parametrize(
    "text, back, rate",
    [
        ("a,b\n1,2\n3,4\n", None, 0),
        ("1,2\n3,4\n5,6.5\n", None, 0),
        ("time,a,b\n0.5,1,2\n0.75,3,4\n1.0,5,6\n", None, 4),
        ("Seconds,a,b\n3.0,1,2\n5.0,3,4\n", None, 0.5),
        ("a,b\n5,6\n", None, 0),
        # Two columns are two channels, whatever the first is named.
        ("t,b\n5,6\n7,8\n", None, 0),
        # Dates come back as seconds, under a name that says so and is free.
        (
            "day,time,b\n2024-01-01,1,2\n2024-01-02,3,4\n",
            "t,time,b\n0.0,1,2\n86400.0,3,4\n",
            1 / 86400,
        ),
        # Milliseconds since 1970 as such, though the rate is of seconds.
        (
            "t,a,b\n1700000000500,3,4\n1700000000000,1,2\n",
            "t,a,b\n1700000000000.0,1,2\n1700000000500.0,3,4\n",
            2,
        ),
        # And nanoseconds, of which a float has some digits too few.
        (
            "t,a,b\n1700000000000010001,3,4\n1700000000000000001,1,2\n",
            "t,a,b\n1700000000000000000,1,2\n1700000000000010000,3,4\n",
            1e5,
        ),
        # Rows in the order of their times.
        ("t,a,b\n2,5,6\n0,1,2\n1,3,4\n", "t,a,b\n0.0,1,2\n1.0,3,4\n2.0,5,6\n", 1),
        ('"a,1";b\n1;2\n', '"a,1",b\n1,2\n', 0),
        ('"a;1",b\n1,2\n', '"a;1","b"\n1,2\n', 0),
        ('"a\nb",c\n1,2\n', '"a\nb","c"\n1,2\n', 0),
        ("day,t\n2024-01-01,1\n", "time,t\n0.0,1\n", 0),
        (
            "day,t,time,seconds\n2024-01-01,1,2,3\n",
            "time_2,t,time,seconds\n0.0,1,2,3\n",
            0,
        ),
    ],
)
def test_a_table_comes_back_as_it_was(tmp_path, text, back, rate):
    (tmp_path / "a.csv").write_text(text)
    found, own, others = again(tmp_path / "a.csv")
    assert found.decode() == (back or text)
    assert own == pytest.approx(rate) and others == []


def test_chosen_columns_come_back_with_the_times_they_were_read_by(tmp_path):
    text = "when,a,b,c\n3.0,1,2,9\n5.0,3,4,9\n"
    (tmp_path / "a.csv").write_text(text)
    found, rate, others = again(tmp_path / "a.csv", ("b", "a"), "when")
    assert found.decode() == "when,b,a\n3.0,2,1\n5.0,4,3\n"
    assert (rate, others) == (0.5, ["c"])


@pytest.mark.parametrize("named", [True, False])
def test_parquet_comes_back_with_its_names(tmp_path, named):
    columns = {"a": [1.0, 3.0], "b": [2.0, 4.0]}
    times = {"time": [10.0, 10.5]} if named else {}
    table = pyarrow.table(times | columns)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found, rate, _ = again(tmp_path / "a.parquet")
    back = pyarrow.parquet.read_table(io.BytesIO(found))
    assert back.to_pydict() == table.to_pydict() and rate == 2 * named


def test_arrays_come_back_as_one_with_their_times(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    times = np.array([1.0, 1.5, 2.0])
    np.savez(tmp_path / "a.npz", x=x, y=x[:, 0], time=times, y_time=times)
    found, rate, others = again(tmp_path / "a.npz", ("x",))
    with np.load(io.BytesIO(found)) as back:
        assert {*back} == {"values", "time"} and rate == 2
        np.testing.assert_array_equal(back["values"], x)
        np.testing.assert_array_equal(back["time"], times)
    assert others == ["y", "y_time"]
    np.savez(tmp_path / "b.npz", x=x, x_rate=8.0)
    found, rate, others = again(tmp_path / "b.npz", ("x",))
    with np.load(io.BytesIO(found)) as back:
        np.testing.assert_array_equal(back["time"], np.arange(3) / 8)
    assert (rate, others) == (8, [])
    np.savez(tmp_path / "c.npz", x=x, x_time=times, y=x)
    assert again(tmp_path / "c.npz", ("x",))[1:] == (2, ["y"])
    for clock in ("time", "x_time"):
        since = np.array([17, 18, 19]) * 10**14
        np.savez(tmp_path / "d.npz", x=x, **{clock: since})
        found, rate, _ = again(tmp_path / "d.npz", ("x",))
        with np.load(io.BytesIO(found)) as back:
            assert rate == 1e-8 and back["time"].tolist() == since.tolist()


@pytest.mark.parametrize("count", [2, 5])
def test_times_are_one_clock_to_a_hundredth_of_a_step(tmp_path, count):
    x, times = np.ones(count), 4.0 * np.arange(count)
    for apart, refused in ((0.036, False), (0.044, True), (-0.044, True)):
        moved = times + apart * (np.arange(count) == 1)
        np.savez(tmp_path / "a.npz", x=x, x_time=times, y=x, y_time=moved)
        if refused:
            with pytest.raises(Unreadable, match="x and y differ in their times"):
                again(tmp_path / "a.npz")
        else:
            assert again(tmp_path / "a.npz")[1] == 0.25
        if count == 2:
            continue  # any two times are even
        np.savez(tmp_path / "a.npz", x=x, x_time=moved)
        if refused:
            with pytest.raises(Unreadable, match="its times are not even"):
                again(tmp_path / "a.npz")
        else:
            assert again(tmp_path / "a.npz")[1] == 0.25
