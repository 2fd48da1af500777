"""The figures of a part counted by hand, and every line that is made of them."""

import json
import logging
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from train import inspect as program
from train.inspect import Survey, inspect, lines, survey
from train.modalities import Images, Series, Tables
from train.modalities.shown import Units

# Two channels at two times, of nine examples: 9 stands where a value is missing.
X = np.float32(
    [
        [[0, 0.5], [0.25, 0.5]],
        [[0, 0.5], [0.25, 0.5]],
        [[0, 0.5], [0.25, 0.5]],
        [[0.5, 0.5], [0.5, 0.5]],
        [[-1, 0.5], [1, 0.5]],
        [[2, 0.5], [-4, 0.5]],
        [[0.75, 9], [0.75, 0.5]],
        [[0, 0.5], [0.75, 9]],
        [[0.5, 0.5], [0.5, 0.5]],
    ]
)
LABELS = np.array([0, 0, 1, -1, 2, 2, 0, -1, 0])


class Nine:
    """Twenty examples, of which nine are looked at."""

    classes, class_names = 4, ("a", "b", "c", "d")
    offset, scale = (10.0, 100.0), (2.0, 4.0)
    found, refused = 23, (("x.npz", "cut short"), ("y.npz", "empty"))
    findings = {"gap_share": [0.5]}
    source = types.SimpleNamespace(left_out={".txt": 3})

    def __init__(self, x=X, known=X < 9):
        self.x, self.known, self.asked, self.taken = x, known, [], []

    def __len__(self):
        return 20

    def spaced(self, most):
        self.asked.append(most)
        return np.arange(9)

    def take(self, rows):
        self.taken.append(rows.tolist())
        found = {"x": self.x[rows], "label": LABELS[rows]}
        return found if self.known is None else found | {"known": self.known[rows]}


DATA = types.SimpleNamespace(
    pictured=True,
    shape=(2, 2),
    changes=lambda findings: [f"{name} too" for name in findings],
    doubts=lambda source: [f"no {suffix}?" for suffix in source.left_out],
)


def surveyed(monkeypatch, examples, most=None, train=True):
    parts, said = [], []
    monkeypatch.setattr(program, "CHUNK", 4)
    bar = lambda steps, *how, **more: said.append((*how, more)) or steps
    monkeypatch.setattr(program, "progress", bar)
    opening = lambda data, train: parts.append((data, train)) or examples
    monkeypatch.setattr(program, "open_examples", opening)
    found = survey(DATA, train, most)
    assert parts == [(DATA, train)]
    part = "train" if train else "test"
    assert said == [(f"looking at {part}", {"unit": "batch"})]
    return found


@pytest.mark.parametrize("train", [True, False])
def test_figures_of_a_part_are_those_counted_by_hand(monkeypatch, capsys, train):
    examples = Nine()
    found = surveyed(monkeypatch, examples, most=9, train=train)
    assert examples.taken == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    figures = dict(found.figures)
    first = [*[0] * 4, *[0.25] * 3, *[0.5] * 4, *[0.75] * 3, -1, 1, 2, -4]
    np.testing.assert_allclose(figures.pop("mean"), [3 / 18, 0.5])
    np.testing.assert_allclose(figures.pop("std"), [np.std(first), 0])
    assert figures == {
        "examples": 20,
        "looked_at": 9,
        "dtype": "float32",
        "min": [-4.0, 0.5],
        "max": [2.0, 0.5],
        "blank_examples": 2,
        "share_outside_1": 2 / 36,
        "outlier_share": [1 / 18, 0.0],  # -4: the middle is of -1 to 1
        "raw_min": [2.0, 102.0],
        "raw_max": [14.0, 102.0],
        "missing_share": [0.0, 2 / 18],
        "constant_channels": [1],
        "classes": {"a": 4, "b": 1, "c": 2, "d": 0},
        "unlabelled": 2,
        "repeated_examples": 3,
        "files": 23,
        "refused": [["x.npz", "cut short"], ["y.npz", "empty"]],
        "as_stored": {"gap_share": [0.5]},
        "changes": ["gap_share too"],
        "doubts": ["no .txt?"] if train else [],
        "left_out": {".txt": 3},
    }
    assert json.loads(json.dumps(figures)) == figures
    assert sorted(found.seen.values()) == [1, 1, 1, 1, 2, 3]
    assert [sorted(each) for each in found.sample] == [sorted(first), [0.5] * 16]


def test_of_pixels_without_classes_there_are_fewer_figures(monkeypatch):
    examples = Nine(np.uint8(100 + 10 * X), known=None)
    examples.classes = examples.scale = 0
    monkeypatch.setattr(examples, "class_names", ())
    monkeypatch.setattr(examples, "take", lambda rows: {
        "x": examples.x[rows], "label": np.full(len(rows), -1)
    })  # fmt: skip
    figures = surveyed(monkeypatch, examples).figures
    absent = {"share_outside_1", "outlier_share", "raw_min", "raw_max"}
    absent |= {"missing_share", "classes"}
    assert not absent & figures.keys() and figures["dtype"] == "uint8"
    assert figures["unlabelled"] == 9 and figures["max"] == [120, 190]


def test_classes_without_names_are_numbers(monkeypatch):
    examples = Nine()
    examples.class_names = ()
    figures = surveyed(monkeypatch, examples).figures
    assert figures["classes"] == {"0": 4, "1": 1, "2": 2, "3": 0}


@pytest.mark.parametrize(
    "most, looked, expected", [(3, 40, 3), (None, 40, 10), (None, 8, 4)]
)
def test_as_many_are_looked_at_as_asked_for_or_as_fit(
    monkeypatch, most, looked, expected
):
    """Four at least, here a chunk."""
    examples = Nine()
    monkeypatch.setattr(program, "LOOKED", looked)  # values, of which an example has 4
    surveyed(monkeypatch, examples, most)
    assert examples.asked == [expected]


PART = {
    "examples": 20_000,
    "looked_at": 20_000,
    "dtype": "uint8",
    "min": [0.0],
    "max": [255.0],
    "mean": [100.0],
    "std": [50.0],
    "blank_examples": 0,
    "constant_channels": [],
    "unlabelled": 0,
    "repeated_examples": 0,
    "files": 9,
    "refused": [],
    "as_stored": {},
    "changes": [],
    "doubts": [],
    "left_out": {},
}


def reported(monkeypatch, train, test, data=None, most=None, seen=("ab", "ab")):
    """(report, plots, what was drawn) of data whose two parts have these figures."""
    asked, drawn = [], []
    parts = {True: (train, seen[0]), False: (test, seen[1])}

    def surveying(data, train, most):
        asked.append((train, most))
        figures, seen = parts[train]
        return Survey(figures, Counter(seen), [f"sample {train}"])

    def draw(what):
        return lambda *of, **how: drawn.append((what, of, how)) or what.encode()

    monkeypatch.setattr(program, "survey", surveying)
    for name in ("value_histogram", "example_picture", "augmented_picture"):
        monkeypatch.setattr(program, name, draw(name))
    monkeypatch.setattr(program.pictures, "bar_plot", draw("bar_plot"))
    monkeypatch.setattr(program, "png", lambda picture: b"PNG " + picture)
    report, plots = inspect(data or Images(size=8), most)
    assert asked == [(True, most), (False, most)]
    return report, plots, drawn


def test_a_report_has_both_parts_and_a_picture_of_each_kind(monkeypatch):
    data = Images(size=8, channels=3)
    train, test = PART | {"classes": {"a": 4, "b": 2}}, PART | {"std": [49.0]}
    report, plots, drawn = reported(monkeypatch, train, test, data, 7, ("aaab", "abbc"))
    assert report == {
        "data": "Images",
        "kind": "image",
        "shape": [8, 8, 3],
        "rate": 0.0,
        "train": train,
        "test": test,
        "test_examples_also_in_train": 3,
        "log": [],
        "warnings": ["3 test examples are in the training part too"],
    }
    assert plots == {
        "examples": b"PNG example_picture",
        "augmented": b"PNG augmented_picture",
        "values": b"value_histogram",
        "classes": b"bar_plot",
    }
    bars = (([4, 2], "class", "training examples"), {"names": ["a", "b"]})
    assert drawn == [
        ("example_picture", (data,), {}),
        ("augmented_picture", (data,), {}),
        ("value_histogram", (["sample True"], True, Units()), {}),
        ("bar_plot", *bars),
    ]


@pytest.mark.parametrize("count, named", [(12, True), (13, False)])
def test_bars_have_names_where_there_is_room(monkeypatch, count, named):
    classes = {f"c{i}": 1 for i in range(count)}
    part = PART | {"classes": classes}
    _, plots, drawn = reported(monkeypatch, part, part, Tables(data_dir="none.csv"))
    assert list(plots) == ["classes"]  # rows have no pictures
    assert drawn[0][2]["names"] == (list(classes) if named else None)
    report, *_ = reported(monkeypatch, part, part, Series(rate=12.5))
    assert report["rate"] == 12.5


def test_what_readers_log_is_kept_once_and_only_while_they_read(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "train.sources.folder")
    logger = logging.getLogger("train.sources.folder")

    def survey(data, train, most):
        logger.info("nothing to see")
        for name in ("x", "x", "y" if train else "z"):
            logger.warning("skips %s", name)
        return Survey(PART, Counter(), [])

    monkeypatch.setattr(program, "survey", survey)
    report, _ = inspect(Tables(data_dir="none.csv"))
    assert report["log"] == ["skips x", "skips y", "skips z"]
    before = list(logging.getLogger("train.sources").handlers)
    assert not [each for each in before if type(each).__name__ == "Keep"]


def test_every_worry_has_its_line_worst_first(monkeypatch):
    worse = {
        "refused": [["a", "cut"], ["b", "cut"]],
        "changes": ["fills gaps", "cuts peaks"],
        "doubts": ["column x is empty"],
        "repeated_examples": 5,
        "blank_examples": 6,
        "constant_channels": [1, 2],
        "as_stored": {"channels": ["hot", "cold"]},
        "share_outside_1": 0.0123,
        "classes": {"cat": 3, "dog": 0, "owl": 0},
    }
    test = PART | {"mean": [126.0], "std": [24.0], "classes": {"cat": 33, "dog": 3}}
    report, *_ = reported(monkeypatch, PART | worse, test, seen=("a", "b"))
    assert report["warnings"] == [
        "train: 2 of 9 files cannot be read",
        "train: fills gaps",
        "train: cuts peaks",
        "train: column x is empty",
        "train: 5 examples repeat another",
        "train: 6 examples hold one value throughout",
        "train: cold never changes",
        "train: channel 2 never changes",
        "train: 1.2% of the values lie outside [-1, 1]",
        "train: no example of 2 classes, such as dog",
        "test: 33 examples of cat and 3 of dog",
        "train and test differ: mean 100.0 and 126.0",
        "train and test differ: std 50.0 and 24.0",
    ]


@pytest.mark.parametrize(
    "figures",
    [
        {"share_outside_1": 0.01},
        {"classes": {"cat": 30, "dog": 3}},
        {"classes": {"cat": 30, "dog": 0}, "looked_at": 19_999},
        {"mean": [125.0], "std": [25.0]},
    ],
)
def test_what_is_usual_is_no_worry(monkeypatch, figures):
    report, *_ = reported(monkeypatch, PART, PART | figures, seen=("a", "b"))
    assert report["warnings"] == []
    assert list(lines(report))[-1] == "nothing that looks wrong"


def test_of_classes_that_are_all_rare_none_is_rarer(monkeypatch):
    """And one that was not looked at says nothing about the others."""
    rare = {"classes": {"cat": 99, "dog": 0, "owl": 1}, "looked_at": 100}
    report, *_ = reported(monkeypatch, PART | rare, PART, seen=("a", "b"))
    assert report["warnings"] == []


def test_a_report_is_told_line_by_line():
    many = {f"c{i}": i + 1 for i in range(14)}
    train = PART | {
        "looked_at": 1500,
        "dtype": "float32",
        "min": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "max": [9.0, 8.0],
        "raw_min": [-1.0],
        "raw_max": [2000.0],
        "missing_share": [0.25, 0.0],
        "outlier_share": [0.01234] * 7,
        "as_stored": {
            "gap_share": [0.5, 0.125],
            "rates": list("abcdefg"),
            "bits": 16,
            "mean_to": [0.01234567],
        },
        "classes": many,
        "left_out": {".txt": 1, ".heic": 6},
        "refused": [[f"f{i}", "cut"] for i in range(11)],
    }
    report = {"data": "Series", "kind": "series", "shape": [9, 2], "rate": 12.5}
    report |= {"train": train, "test": PART | {"classes": {"a": 1}}}
    report |= {"log": [f"skips {i}" for i in range(11)], "warnings": ["one", "two"]}
    classes = ", ".join(f"c{i} {i + 1}" for i in range(12))
    assert list(lines(report)) == [
        "Series: series of 9 x 2 at 12.5 a second",
        "train: 20,000 examples of float32 (1,500 looked at)",
        "  range       0.0, 1.0, 2.0, 3.0, 4.0, 5.0, ... to 9.0, 8.0",
        "  in own unit −1.0 to 2,000",
        "  mean, std   100.0; 50.0",
        "  missing     25.00%, 0.00%",
        "  outliers    " + ", ".join(["1.23%"] * 6) + " as trained on",
        "  as stored   gap share: 50.00%, 12.50%",
        "  as stored   rates: a, b, c, d, e, f",
        "  as stored   bits: 16",
        "  as stored   mean to: 0.0123",
        f"  classes     {classes}, and 2 more",
        "  left out    6 .heic, 1 .txt",
        *(f"  refused     f{i}: cut" for i in range(10)),
        "test: 20,000 examples of uint8",
        "  range       0.0 to 255.0",
        "  mean, std   100.0; 50.0",
        "  classes     a 1",
        *(f"note: skips {i}" for i in range(10)),
        "look: one",
        "look: two",
    ]
    still = {"data": "Images", "kind": "image", "shape": [8, 8, 3], "rate": 0.0}
    first = next(lines(report | still))
    assert first == "Images: image of 8 x 8 x 3"


def test_the_program_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    """Into a folder by the experiment's name, which may be there."""
    report = {"data": "Images", "kind": "image", "shape": [8, 8, 1], "rate": 0.0}
    report |= {"train": PART, "test": PART, "log": [], "warnings": []}
    asked = []

    def inspecting(data, most):
        asked.append((type(data), most))
        return report, {"values": b"a picture"}

    monkeypatch.setattr(program, "inspect", inspecting)
    monkeypatch.chdir(tmp_path)
    Path("c.py").write_text(
        "import dataclasses\n"
        "from tests.train.experiments import TOKENIZER\n"
        "CONFIG = dataclasses.replace(TOKENIZER, name='toy')\n"
    )
    for argv, out, most in (
        ((), "inspect_toy", None),
        ((), "inspect_toy", None),
        (("--most=7", "--out=other"), "other", 7),
    ):
        program.main(["--config=c.py", *argv])
        assert asked[-1] == (Images, most)
        printed = capsys.readouterr().out.splitlines()
        last = f"pictures and report.json are in {out}"
        assert printed == [*lines(report), last]
        found = {path.name: path.read_bytes() for path in Path(out).iterdir()}
        text = found.pop("report.json")
        assert found == {"values.png": b"a picture"}
        assert json.loads(text) == {"experiment": "toy"} | report
        assert text.startswith(b'{\n "experiment"') and text.endswith(b"}\n")
