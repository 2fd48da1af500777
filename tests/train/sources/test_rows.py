"""Tables of the user's own: rows as examples, alone and beside files."""

import dataclasses

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tests.train.fresh import fresh
from tests.train.pipeline.test_streams import folder_of
from train.errors import BadInput
from train.inspect import inspect, lines
from train.modalities import Tables
from train.modalities.rows import WORDS, csv_of, rows_of
from train.pipeline import JointExamples
from train.pipeline.streams import settled
from vqdit.tokenizer import Category, Labels, Number, Table

TEXT = "file,age,sex,smoker,kind,said\n" + "".join(
    f"scan{i}.png,{'' if i % 5 == 0 else 20 + i},{'fm'[i % 2]},"
    f"{('true', 'false', 'NA')[i % 3]},{('b', 'a', '')[i % 3]},row {i}\n"
    for i in range(20)
)
FIELDS = {"key": "file", "label": "kind", "caption": "said", "bad_share": 0.0}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text(TEXT)
    return path


def test_a_row_is_an_example_with_its_class_text_and_key(path):
    data = Tables(data_dir=str(path), **FIELDS, holdout="name:0.3")
    parts = fresh(data, True), fresh(data, False)
    assert sum(map(len, parts)) == 20
    keys = [key for part in parts for key in part.keys]
    assert sorted(keys) == sorted(f"scan{i}" for i in range(20))
    for part in parts:
        batch = part.take(np.arange(len(part)))
        for i, key in enumerate(part.keys):
            n = int(key.removeprefix("scan"))
            smoker = ("true", "false", None)[n % 3]
            age = None if n % 5 == 0 else 20.0 + n
            assert batch["row"][i] == {"age": age, "sex": "fm"[n % 2], "smoker": smoker}
            assert batch["label"][i] == (1, 0, -1)[n % 3]
            assert batch["caption"][i] == f"row {n}"
    assert parts[0].class_names == ("a", "b")


def test_a_key_may_be_the_text_too_and_no_number_is_written_in_parquet(tmp_path):
    """Of a column of whole numbers some of which were missing pandas makes floats."""
    table = pyarrow.table({"id": [7.0, 8.5, 1e16], "sick": [True, False, None]})
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path)
    data = Tables(data_dir=str(path), key="id", caption="id", holdout=0.0)
    source = fresh(data, True).source
    captions = lambda source: [record.more["caption"] for record in source]
    assert captions(source) == ["7", "8.5", "1e+16"] and source.keys[0] == "7"
    source = fresh(dataclasses.replace(data, caption="sick"), True).source
    assert captions(source) == ["true", "false", ""]


def test_keys_and_texts_are_as_they_are_written(path, tmp_path):
    """And not the numbers that they look like, of which files have other names."""
    ids = ["007", " 010", "12345678901234567", "12345678901234568"]
    lines = [f"{key},{i},1.50" for i, key in enumerate(ids)]
    path.write_text("\n".join(["id,x,said", *lines, "9.0,4,NA"]))
    data = Tables(data_dir=str(path), key="id", caption="said", holdout=0.0)
    source = fresh(data, True).source
    assert source.keys == [*map(str.strip, ids), "9"]
    assert [record.more["caption"] for record in source] == ["1.50"] * 4 + [""]
    assert source[1].more["row"] == {"x": 1.0}


def test_the_training_part_alone_settles_bins(path):
    data = Tables(data_dir=str(path), **FIELDS, holdout="name:0.3")
    table = settled(Table(), data)
    rows = fresh(data, True).values("row")
    assert table == Table().settle(rows)
    assert [type(column) for column in table.columns] == [Number, Category, Category]
    chosen = dataclasses.replace(data, columns=("sex",))
    assert settled(Table(), chosen).names == ("sex",)


def test_rows_join_files_by_their_names(path, tmp_path):
    # As a Mac and all others write one name, which look alike.
    decomposed, composed = "u\u0308", "\u00fc"
    path.write_text(f"{TEXT}{composed},40,f,true,a,said\n", encoding="utf-8")
    names = [f"{name}.png" for name in ("scan3", "scan4", "scan25", decomposed)]
    pictures = folder_of(tmp_path / "scans", names, bad_share=0.0, holdout="name:0.3")
    table = Tables(data_dir=str(path), **FIELDS, holdout="name:0.3")
    values = {"record": settled(Table(), table), "kind": Labels(2)}
    data = {"scan": pictures, "record": table, "kind": table}
    found = {}
    for train in (True, False):
        joined = JointExamples(data, values, train, "key")
        batch = joined.take(np.arange(len(joined)))
        known = batch["known"]
        for i, key in enumerate(
            sorted({*joined.parts["record"].keys, *joined.parts["scan"].keys})
        ):
            found[key] = [
                bool(known["scan"][i]) if "scan" in known else True,
                known["record"][i].tolist(),
                bool(known["kind"][i]),
            ]
    assert found["scan3"] == [True, [1, 1, 1], True]
    assert found["scan5"] == [False, [0, 1, 0], False]
    assert found[composed] == found["scan3"]
    assert found["scan25"] == [True, [0, 0, 0], False]
    # Without names to go by, the parts are not divided alike.
    bare = dataclasses.replace(table, key="", columns=("age",), holdout=0.3)
    with pytest.raises(BadInput, match="data.record.key is empty"):
        JointExamples({"scan": pictures, "record": bare}, {}, True, "index")


def test_one_table_for_each_part(tmp_path):
    (tmp_path / "train.csv").write_text("x,y\n1,b\n2,a\n")
    (tmp_path / "test.csv").write_text("x,y\n3,b\n")
    data = Tables(data_dir=str(tmp_path), label="y")
    assert len(fresh(data, True)) == 2 and fresh(data, False).labels.tolist() == [1]
    with pytest.raises(BadInput, match="data.holdout='match:a': .* a file of each"):
        fresh(dataclasses.replace(data, holdout="match:a"), True)
    one = dataclasses.replace(data, test_split="train")
    assert [len(fresh(one, part)) for part in (True, False)] == [1, 1]
    (tmp_path / "test.csv").write_text("x,y\n3,c\n")
    with pytest.raises(BadInput, match="test.csv, row 1, column 'y': 'c' is none of a"):
        fresh(data, False)


def test_inspect_says_what_columns_hold(path):
    report, plots = inspect(Tables(data_dir=str(path), **FIELDS))
    assert list(plots) == ["classes"] and report["train"]["repeated_examples"] == 0
    said = report["train"]["as_stored"]
    ((age,), (sex,)) = said["age"], said["sex"]
    assert age.endswith("% missing") and sex.startswith(("f ", "m "))
    told = list(lines(report))
    assert any(line.startswith("  as stored   smoker: ") for line in told)
    # Of the marks that rows are told apart by nothing is said.
    assert not {"mean", "blank_examples", "outlier_share"} & report["train"].keys()
    words = ("range", "mean", "outliers", "one value", "never changes", "look: ")
    assert not [line for line in told for word in words if word in line]


def test_words_that_were_meant_for_numbers_are_said_whatever_columns_are_called(path):
    """By what its entries are: a column may have the words of what is said, too."""
    path.write_text(f'market_share,note\n"1,5","{WORDS}"\n"2,25",b\n"7,5",c\n')
    report, _ = inspect(Tables(data_dir=str(path), holdout=0.34))
    assert any("as stored   market share: " in line for line in lines(report))
    (change,) = report["train"]["changes"]
    assert change.startswith("column 'market_share': ") and change.endswith(WORDS)


def test_columns_that_say_nothing_or_tell_rows_apart_are_said(tmp_path):
    """Ages, which are distinct by chance, and measures are no ids."""
    lines = ["id,mail,none,one,age,height,rare"]
    lines += [
        f"{i + 7},p{i}@x.org,,yes,{20 + 7 * i},{1.5 + i / 64},{'x' if i == 3 else ''}"
        for i in range(30)
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    report, _ = inspect(Tables(data_dir=str(tmp_path / "a.csv"), holdout=0.2))
    count = report["train"]["examples"]
    ids = f"has {count} values in {count} rows, as ids have, and texts; "
    assert report["warnings"] == [
        f"train: column id {ids}data.columns chooses others",
        f"train: column mail {ids}data.columns chooses others",
        "train: column none is empty",
        "train: column one says nothing but yes",
    ]


@pytest.mark.parametrize("cells", ["1,5 2 -3,25", "1,234 12 2,345.5", "1.234,5 2,5 7"])
def test_numbers_with_a_comma_are_said_to_be_words(tmp_path, caplog, cells):
    """As a category of a thousand they were learned without a word."""
    path = tmp_path / "a.csv"
    path.write_text("size;kind\n" + "".join(f"{c};a,b\n" for c in cells.split()))
    fresh(Tables(data_dir=str(path), holdout=0.0), True)
    assert caplog.text.count("column '") == 1
    assert "column 'size': " in caplog.text and "words: write numbers" in caplog.text


def test_a_csv_comes_back(path):
    rows = list(rows_of(path)[0])
    copy = path.with_name("copy.csv")
    copy.write_bytes(csv_of(rows))
    assert list(rows_of(copy)[0]) == rows
    assert copy.read_text().splitlines()[1] == "scan0.png,,f,true,b,row 0"


@pytest.mark.parametrize(
    "text,fields,message",
    [
        ("1,2\n3,4\n", {}, "first line holds numbers"),
        ("a,b\n1,2\n", {"key": "c"}, "no column 'c', only a, b"),
        ("a,b\n1,x\n2,\n", {"key": "b"}, "row 2, column 'b': no key"),
        ("a,b\n", {}, "has no rows"),
        ("a,a\n1,2\n", {}, "2 columns named 'a'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, fields, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        fresh(Tables(data_dir=str(path), **fields), True)
    assert "\n" not in str(error.value)


def test_other_places_are_refused(tmp_path):
    for place, message in (
        ("", "is empty"),
        (str(tmp_path / "no.csv"), "no file"),
        (str(tmp_path), "has no train.csv"),
    ):
        with pytest.raises(BadInput, match=message):
            fresh(Tables(data_dir=place), True)
    with pytest.raises(BadInput, match="each column once"):
        Tables(columns=("a",), key="a")


def test_a_table_of_many_short_rows_is_no_bomb(tmp_path):
    """600,000 rows of two digits, 2.4 MB: rows are made as they are asked for."""
    path = tmp_path / "own.csv"
    path.write_text("a,b\n" + "1,2\n3,4\n" * 300_000)
    rows, _ = rows_of(path)
    assert len(rows) == 600_000 and rows[1] == {"a": 3.0, "b": 4.0}
    assert rows[-1] == rows[1] and rows[2:4] == [rows[0], rows[1]]
    # Each is its own: what a reader changes of one is not the table's.
    rows[0]["a"] = None
    assert rows[0] == {"a": 1.0, "b": 2.0}
