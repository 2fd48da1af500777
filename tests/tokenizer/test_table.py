"""Rows of numbers and categories to codes and back, with what is missing."""

import json

import numpy as np
import pytest

from vqdit.tokenizer import Category, Number, Table
from vqdit.tokenizer.columns import spelled
from vqdit.values import build, describe

DRAW = np.random.default_rng(0)
ROWS = [
    {
        "age": None if missing else float(age),
        "visits": int(visits),
        "sex": sex,
    }
    for missing, age, visits, sex in zip(
        DRAW.random(400) < 0.2,
        DRAW.normal(50, 10, 400),
        DRAW.integers(0, 3, 400),
        DRAW.choice(["f", "m", ""], 400),
        strict=True,
    )
]
TABLE = Table(bins=8).settle(ROWS)


def test_the_training_part_settles_columns_bins_and_words():
    assert not Table().settled and TABLE.settled
    assert TABLE.names == ("age", "visits", "sex")
    age, visits, sex = TABLE.columns
    assert sex == Category("sex", ("f", "m")) and TABLE.code_count == 8 + 3 + 2
    # Few different numbers are exact, many fill their bins alike.
    assert visits == Number("visits", (0.5, 1.5), (0.0, 1.0, 2.0))
    counts = np.bincount(TABLE.encode(ROWS)[TABLE.known(ROWS)[:, 0], 0])
    assert len(counts) == 8 and counts.max() - counts.min() <= 2
    assert build(json.loads(json.dumps(describe(TABLE)))) == TABLE
    chosen = Table((Category("sex"), Number("age")), bins=4).settle(ROWS)
    assert chosen.names == ("sex", "age") and len(chosen.columns[1].values) == 4
    with pytest.raises(ValueError, match="yet to say its columns"):
        Table().stream("codes")


def test_rows_come_back_to_their_bins_and_bins_to_themselves():
    codes, known = TABLE.encode(ROWS), TABLE.known(ROWS)
    assert codes.shape == known.shape == (400, 3) and codes.dtype == np.int32
    again = TABLE.decode(codes)
    np.testing.assert_array_equal(TABLE.encode(again), codes)
    edges = np.array([-np.inf, *TABLE.columns[0].edges, np.inf])
    for row, found, there in zip(ROWS, again, known, strict=True):
        assert there.tolist() == [entry is not None for entry in found.values()]
        assert there.tolist() == [row["age"] is not None, True, row["sex"] != ""]
        assert found["visits"] == row["visits"]
        if there[0]:
            at = np.searchsorted(edges, row["age"], side="right")
            assert edges[at - 1] <= found["age"] < edges[at]
        if there[2]:
            assert found["sex"] == row["sex"]


def test_a_number_beyond_all_is_in_the_end_bins():
    low, high = TABLE.decode(TABLE.encode([[-1e9, -5, "f"], [1e9, 99, "m"]]))
    values = TABLE.columns[0].values
    assert (low["age"], low["visits"]) == (values[0], 0)
    assert (high["age"], high["visits"]) == (values[-1], 2)


def test_a_bin_comes_back_as_the_median_of_its_numbers():
    """Whatever the farthest of them is."""
    number = Number("x").settle(np.array([0, 1, 10, 100, 101, 1e9], object), 2)
    assert (number.edges, number.values) == ((55.0,), (1.0, 101.0))


@pytest.mark.parametrize(
    "column",
    [
        [3.0] * 9,
        [0.0] * 50 + [1.0, 2.0, 3.0],
        [1.0, np.nextafter(1.0, 2.0)],
        [0.0] * 4 + [10.0] * 6 + [11.0, 12.0],
    ],
    ids=["constant", "mostly one", "neighbours", "between"],
)
def test_no_bin_is_empty(column):
    number = Number("x").settle(np.array(column, object), 3)
    codes = number.encode(np.array(column, object))
    assert set(codes) == set(range(len(number.values)))
    assert len(number.values) <= 3


def test_what_is_missing_is_said_in_many_ways():
    rows = [None, {}, [None, "", float("nan")], {"age": np.nan}]
    assert not TABLE.known(rows).any()
    assert TABLE.said([None, {"age": 50.0, "sex": "f"}]) == [
        "age=,visits=,sex=",
        "age=50,visits=,sex=f",
    ]
    # A code of another column, as a model may draw it, is nothing.
    assert TABLE.decode(np.array([[12, 8, 0]])) == [
        {"age": None, "visits": 0.0, "sex": None}
    ]
    found = TABLE.arrays([{"age": 1.5}])
    assert found["age"] == [1.5] and np.isnan(found["visits"][0])
    assert found["sex"] == [""]


def test_a_number_may_be_a_category():
    table = Table((Category("ward"), Category("ill"))).settle([[3, True], [12, False]])
    assert [column.values for column in table.columns] == [
        ("12", "3"),
        ("false", "true"),
    ]
    assert table.encode([[3.0, "true"]]).tolist() == [[1, 3]]
    assert table.encode([[np.int64(3), np.True_]]).tolist() == [[1, 3]]
    # What is missing is no entry of its own column, also where there are but two.
    left = table.decode(table.encode([[None, True], [3, None], [None, None]]))
    assert [list(row.values()) for row in left] == [
        [None, "true"],
        ["3", None],
        [None, None],
    ]
    long = Table((Category("ward"),)).settle([[2**53], [2**53 + 1]])
    assert long.columns[0].values == ("9007199254740992", "9007199254740993")


@pytest.mark.parametrize(
    "row,message",
    [
        ({"agee": 1}, "no column 'agee'; did you mean age"),
        ([1, 2], "row 0 is .*; write the columns age, visits, sex"),
        ("age", "row 0 is 'age'"),
        ({"sex": "x"}, "sex='x' is none of f, m"),
        ({"age": "old"}, "age='old': write a number, or None"),
        ({"age": np.inf}, "age=inf: not finite"),
        ({"age": 10**400}, "age=1000.*: write a number"),
    ],
)
def test_what_is_no_row_is_refused(row, message):
    with pytest.raises(ValueError, match=message) as error:
        TABLE.encode([row])
    assert "\n" not in str(error.value)


def test_the_first_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="age='old': write a number"):
        TABLE.encode([{"age": 3}, {"age": "4"}, {"age": "old"}, {"age": "new"}])


def test_tables_that_cannot_be_are_refused():
    for make, message in (
        (lambda: Number("a", (2.0, 1.0), (0.0,) * 3), "ascending"),
        (lambda: Number("a", (1.0,), (0.0,)), "one more than edges, 2"),
        (lambda: Category("a", ("x", "x")), "each once"),
        (lambda: Table((Number("a"), Category("a"))), "each name once"),
        (lambda: Table().settle([]), "has no rows"),
        (lambda: Table((Number("b"),)).settle(ROWS), "no column 'b'"),
        (lambda: Table((Number("b"),)).settle([{"b": None}]), "'b' has no entry"),
        (lambda: Table((Category("sex", ("f",)),)).settle(ROWS), "sex='m' is none"),
        (lambda: Table((Number("sex"),)).settle(ROWS), "sex=.*: write a number"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_more_columns_than_its_own_are_left_out_where_its_own_are_there():
    table = Table((Number("age"),)).settle(ROWS)
    assert table.known(ROWS)[:, 0].mean() < 1
    with pytest.raises(ValueError, match="no column 'sex'"):
        table.encode([{"sex": "f"}])


def test_words_of_data_that_training_has_never_had_are_missing():
    rows = [{"age": 50.0, "visits": 1, "sex": "x"}, None, [None, 2, "f"]]
    seen, counts = TABLE.seen(rows)
    assert counts == {"sex": 1}
    assert TABLE.known(seen).tolist() == [
        [True, True, False],
        [False] * 3,
        [False, True, True],
    ]
    assert TABLE.seen(ROWS) == (ROWS, {})


def test_what_is_written_is_not_contradicted():
    wanted = Table(bins=8)
    assert wanted.contradiction(TABLE) is None
    assert Table((), bins=4).contradiction(TABLE) == ("bins", 4, 8)
    columns = (Number("age"), Number("visits"), Category("sex", ("f", "m")))
    assert Table(columns, bins=8).contradiction(TABLE) is None
    for other, field in (
        (columns[::-1], "columns"),
        ((Category("age"), *columns[1:]), "columns.age"),
        ((*columns[:2], Category("sex", ("m", "f"))), "columns.sex.values"),
    ):
        assert Table(other, bins=8).contradiction(TABLE)[0] == field


def test_numbers_that_are_given_stay_and_words_and_the_rest_are_drawn():
    drawn = [{"age": 1.0, "visits": 2.0, "sex": "f"} for _ in range(3)]
    given = [{"age": 51.25, "visits": 1, "sex": "m"}, [40.5, 0, "m"], None]
    known = np.array([[True, False, True], [True, True, False], [False] * 3])
    kept = TABLE.kept(drawn, given, known)
    assert [list(row.values()) for row in kept] == [
        [51.25, 2.0, "f"],
        [40.5, 0.0, "f"],
        [1.0, 2.0, "f"],
    ]
    assert drawn[0]["age"] == 1.0  # as it was
    whole = TABLE.kept(drawn[:2], given[:2], np.array([False, True]))
    assert [row["age"] for row in whole] == [1.0, 40.5]


def test_columns_are_of_numbers_where_all_entries_are():
    """Words, and what is true or false, are categories; in the order they come in."""
    rows = [{"b": 1, "a": "x"}, None, {"c": True, "b": np.float32(2.5), "d": None}]
    rows += [{"d": 7, "a": 3}, {"c": False, "b": ""}]
    table = Table().settle(rows)
    kinds = {column.name: type(column) for column in table.columns}
    assert kinds == {"b": Number, "a": Category, "c": Category, "d": Number}
    assert list(kinds) == ["b", "a", "c", "d"] and table.length == 4
    assert table.columns[1].values == ("3", "x")
    assert table.stream("codes") == {"grid": (4,), "vocab": 7, "books": 1}
    assert table.closed and table.wide and table.source == "row"
    with pytest.raises(ValueError, match="Table has codes and no latents; write a pro"):
        table.stream("latents")


def test_a_numpy_scalar_is_spelled_as_a_number():
    assert spelled(np.float64(3.0)) == "3" and spelled(np.float64(0.1)) == "0.1"


def test_codewords_of_bins_are_in_their_order_and_of_words_are_alike():
    (words,) = TABLE.codewords()
    assert words.shape[0] == TABLE.code_count
    apart = np.linalg.norm(words[:, None] - words[None], axis=-1)
    age, visits, sex = np.split(np.arange(TABLE.code_count), [8, 11])
    for column in (age, visits):  # the further apart, the further
        for i in column:
            away = apart[i, column][np.argsort(np.abs(column - i), kind="stable")]
            assert (np.diff(away) >= -1e-6).all() and away[1] > 0.1
    for column in (age, visits, sex):
        np.testing.assert_allclose(words[column].mean(0), 0, atol=1e-6)
        lengths = np.linalg.norm(words[column], axis=1)
        assert np.square(lengths).mean() == pytest.approx(1, abs=1e-5)
        rest = np.setdiff1d(np.arange(TABLE.code_count), column)
        np.testing.assert_allclose(words[column] @ words[rest].T, 0, atol=1e-6)
