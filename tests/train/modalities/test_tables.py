"""Times of tables, in every type that a file may have them."""

import numpy as np
import pyarrow
import pytest

from train.errors import Unreadable
from train.modalities.files.tables import arrays_of, columns_of, open_table

DAY = 1_704_067_200_000_000_000  # 2024-01-01 in nanoseconds
STEP = 5_000_123  # a step with digits below a microsecond


@pytest.mark.parametrize(
    "kind, ticks, seconds",
    [
        (pyarrow.timestamp("ns"), [DAY, DAY + STEP], [0, 0.005000123]),
        (pyarrow.timestamp("ns", "UTC"), [DAY, DAY + STEP], [0, 0.005000123]),
        (pyarrow.timestamp("s"), [7, 9], [0, 2]),
        (pyarrow.time32("ms"), [43_200_000, 43_200_020], [0, 0.02]),
        (pyarrow.time64("ns"), [STEP, 3 * STEP], [0, 0.010000246]),
        (pyarrow.duration("us"), [5, 25], [0, 2e-5]),
        (pyarrow.date32(), [19_000, 19_001], [0, 86_400]),
        (pyarrow.int64(), [DAY, DAY + STEP], [0, 0.005000123]),
        (pyarrow.uint64(), [DAY + STEP, DAY], [0, -0.005000123]),
        (pyarrow.int64(), [DAY // 1000, DAY // 1000 + 7], [0, 7e-6]),
        (pyarrow.float64(), [DAY / 1e6, DAY / 1e6 + 0.5], [0, 5e-4]),
        (pyarrow.int64(), [DAY // 10**9, DAY // 10**9 + 1], [1704067200, 1704067201]),
        # A day that is written in digits, and a clock that began with a machine.
        (pyarrow.int64(), [20240101093000, 20240101093001], None),
        (pyarrow.float64(), [86_400_000, 86_400_001], None),
        (pyarrow.int64(), [638 * 10**15, 638 * 10**15 + 10**5], [0, 10**5]),  # .NET's
        (pyarrow.int64(), [5, 6], [5, 6]),
        # Nanoseconds since a start, which as milliseconds end in 2103 or later.
        (pyarrow.int64(), [3 * 10**11, 42 * 10**11], None),
        (pyarrow.int64(), [2**53, 2**53 + 4], [2**53, 2**53 + 4]),
        (pyarrow.int64(), [2**53 + 1, 2**53 + 2], [0, 1]),
        (pyarrow.timestamp("ns"), [DAY, None], [0, np.nan]),
        (pyarrow.timestamp("ns"), [None, DAY, DAY + 10**9], [np.nan, 0, 1]),
        (pyarrow.int64(), [None, DAY, DAY + 512], [np.nan, DAY, DAY + 512]),
    ],
    ids=str,
)
def test_times_are_seconds(kind, ticks, seconds):
    """Numbers are those since 1970 in what they then must be; None: as they are."""
    table = pyarrow.table({"time": pyarrow.array(ticks, kind), "x": ticks})
    times, _ = columns_of(table, "time")["x"]
    np.testing.assert_allclose(times, seconds or ticks, rtol=1e-12)


@pytest.mark.parametrize(
    "own, start",
    [
        (DAY // 10**6 + np.array([3000, 3010]), 3),
        (DAY + np.array([3, 4]), 3e-9),
        (DAY / 1e9 + np.array([1.5, 2.5]), 1.5),
        (np.array([0.0, 1.0]), -DAY / 1e9),
        (np.array([np.inf, 1.0]), np.inf),
    ],
    ids="milliseconds nanoseconds seconds start broken".split(),
)
def test_clocks_of_a_file_stand_to_each_other_as_they_did(own, start):
    """Though those since 1970 begin at their first."""
    x, since = np.ones(2), DAY // 10**6 + np.array([0, 10])
    arrays = {"a": x, "a_time": since, "b": x, "b_time": own, "c": x, "c_rate": 2}
    found = arrays_of({name: np.asarray(array) for name, array in arrays.items()})
    assert found["a"][0].tolist() == [0, 0.01] and found["b"][0][0] == start
    assert found["c"][0].tolist() == [-DAY / 1e9, 0.5 - DAY / 1e9]


def test_times_of_day_in_a_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,x\n12:00:00,1\n12:00:02,2\n")
    times, values = columns_of(open_table(path)[0], "time")["x"]
    assert times.tolist() == [0, 2] and values.tolist() == [[1], [2]]


def test_times_of_day_that_pass_midnight_are_refused(tmp_path):
    """In the order of their times what follows would come first, a day before."""
    path = tmp_path / "a.csv"
    path.write_text("time,x\n23:59:58,1\n23:59:59,2\n00:00:00,3\n00:00:01,4\n")
    with pytest.raises(Unreadable, match="'time' passes midnight in row 3.*dates"):
        columns_of(open_table(path)[0], "time")
    path.write_text("time,x\n12:00:01,1\n12:00:00,2\n")  # the order alone is none
    assert columns_of(open_table(path)[0], "time")["x"][0].tolist() == [0, -1]


@pytest.mark.parametrize(
    "cells, told",
    [
        (["0,5", "1,25"], r"row 1: '0,5', write 0.5\)"),
        (["1", "", "1,000"], r"row 3: '1,000'\)"),
        (["NA", "nan", "7 m"], r"row 3: '7 m'\)"),
        (["1", "\0\x1b[31m"], r"row 2: '\\x00\\x1b\[31m'\)"),
    ],
)
def test_the_cell_that_is_no_number_is_shown(tmp_path, cells, told):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["a;b", *(f"{cell};1" for cell in cells)]))
    with pytest.raises(Unreadable, match=rf"'a' holds string, not numbers \({told}"):
        columns_of(open_table(path)[0])


def test_columns_that_hold_no_numbers_are_one_line():
    span = pyarrow.array([(0, 0, 1), (0, 0, 2)], pyarrow.month_day_nano_interval())
    table = pyarrow.table({"time": span, "x": [2**60 + 1, 5]})
    with pytest.raises(Unreadable, match="'time' holds month_day_nano_.*not numbers"):
        columns_of(table, "time")
    # More digits than a float has are no reason to refuse a channel.
    assert columns_of(table, names=("x",))["x"][1].tolist() == [[2.0**60], [5]]
    huge = pyarrow.table({"t": pyarrow.array([2**64 - 1], pyarrow.uint64()), "x": [1]})
    with pytest.raises(Unreadable, match="column 't' cannot be read .*2\\d+") as caught:
        columns_of(huge, "t")
    assert "\n" not in str(caught.value)


def test_what_divides_columns_is_told_from_names_that_hold_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('"a, b, c";"d\n(m)"\n1;2\n')
    assert open_table(path)[0].column_names == ["a, b, c", "d\n(m)"]


@pytest.mark.parametrize(
    "head, names",
    [
        ("# logger 4, site 2\n#\n\na;b\n", ["a", "b"]),
        ("\ufeff# logger 4\na\tb\n", ["a", "b"]),
        ("# logger 4\n#a,b\n", ["#a", "b"]),
        ("# logger 4\n", ["f0", "f1"]),
    ],
)
def test_lines_in_front_that_begin_with_a_hash_are_no_rows(tmp_path, head, names):
    """But for the last, where it has a name for each column."""
    path = tmp_path / "a.csv"
    mark = next(mark for mark in ";\t," if mark in head.split("\n")[-2] or mark == ",")
    path.write_text(f"{head}1{mark}2\n#3{mark}4\n")
    table = open_table(path)[0]
    assert table.column_names == names
    assert [column.to_pylist() for column in table] == [["1", "#3"], [2, 4]]


@pytest.mark.parametrize(
    "text", ["#a;b\n1,5;2,5\n2,5;3,5\n", '#a,b\n1,"Smith, John"\n2,Bob\n']
)
def test_names_that_begin_with_a_hash_are_above_any_row(tmp_path, text):
    """One that is of more columns by commas that do not divide them, too."""
    (tmp_path / "a.csv").write_text(text)
    assert open_table(tmp_path / "a.csv")[0].column_names == ["#a", "b"]


def test_lines_may_end_as_those_of_an_old_spreadsheet(tmp_path):
    """All of a large file was taken for its first line, and of as many columns."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\r" + b"1,2\r" * 60_000)
    table, _ = open_table(path)
    assert table.column_names == ["a", "b"] and table.num_rows == 60_000


def test_line_ends_inside_of_quotes_are_text_wherever_they_stand(tmp_path):
    """pyarrow reads a megabyte at a time."""
    path = tmp_path / "a.csv"
    texts = [f"{i}: one\nline, and another" for i in range(40_000)]
    path.write_text("\n".join(["x,text", *(f'{i},"{t}"' for i, t in enumerate(texts))]))
    assert path.stat().st_size > 2**20
    assert open_table(path)[0]["text"].to_pylist() == texts


def test_what_is_missing_may_stand_behind_a_space_as_numbers_may(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a, b, c\n1, NA, 2\n3, 4.5, \n5, -, ?\n")
    found = columns_of(open_table(path)[0])
    values = np.concatenate([values for _, values in found.values()], 1)
    nan = np.nan
    np.testing.assert_array_equal(values, [[1, nan, 2], [3, 4.5, nan], [5, nan, nan]])
