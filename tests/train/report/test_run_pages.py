import types

import numpy as np
import pytest

from train.report import run_pages
from train.report.pages import render
from train.report.run_pages import (
    DRAWN,
    LEAST,
    TRUE,
    Section,
    bars,
    crossings,
    measured,
    outlined,
    samples,
    seen,
    training,
    written,
)


def contract_of(kind, shape, rate):
    return types.SimpleNamespace(
        kind=kind, shape=shape, rate=rate, offset=(), scale=(), preparation=(), names=()
    )


def test_a_sound_can_be_played_and_a_clip_moves_beside_their_sheets():
    sound = np.sin(np.arange(2 * 800).reshape(2, 800, 1) / 9).astype(np.float32) / 2
    found = seen("heard", contract_of("audio", (800, 1), 8000.0), sound, ("a", "b"))
    assert [name for name, _ in found] == ["heard", "heard, a", "heard, b"]
    assert [content[:4] for _, content in found] == [b"\x89PNG", b"RIFF", b"RIFF"]
    clip = np.arange(3 * 4 * 8 * 8, dtype=np.uint8).reshape(1, 12, 8, 8, 1)
    shown = seen("seen", contract_of("video", (12, 8, 8, 1), 8.0), clip)
    assert [content[:4] for _, content in shown] == [b"\x89PNG", b"GIF8"]
    # A small picture is as wide as one with a name, which begins with its sides.
    ((_, small),) = seen("digits", contract_of("image", (8, 8, 1), 0.0), clip[0, :2])
    assert int.from_bytes(small[16:20]) >= 2 * LEAST
    html = render(*written("t", "i", [Section("s", "x", [*found, *shown])]))
    assert html.count("<audio controls") == 2 and html.count("data:image/gif") == 1
    assert "heard, b" in html and "<h2>s</h2>" in html


def test_a_page_is_its_title_and_a_block_for_each_part_of_a_section():
    first = Section("First", "Some text.", [("one", b"1"), ("two", b"2")])
    text, shown = written("Title", "Intro.", [first, Section("Second"), first])
    blocks = ["## First", "Some text.", "![one](0.0)\n![two](0.1)", "## Second"]
    blocks += ["## First", "Some text.", "![one](2.0)\n![two](2.1)"]
    assert text.split("\n\n") == ["# Title", "Intro.", *blocks]
    assert shown == {"0.0": b"1", "0.1": b"2", "2.0": b"1", "2.1": b"2"}


def test_a_page_plays_the_first_few_and_its_sheets_fit_its_width(monkeypatch):
    """Eight images in a row at most, and of what is wide one."""
    asked = []

    def sheet(kind, x, units, columns, names, least):
        asked.append((kind, len(x), units.rate, columns, len(names), least))
        return np.zeros((4, 120 if x.shape[-2] == 40 else 60, 3), np.uint8)

    monkeypatch.setattr(run_pages, "sheet", sheet)
    wide = contract_of("image", (4, 40, 1), 0.0)
    seen("a", wide, np.zeros((9, 4, 40, 1)), "abcdefghi")
    seen("a", contract_of("image", (4, 4, 1), 0.0), np.zeros((9, 4, 4, 1)))
    sounds = np.zeros((9, 800, 1), np.float32)
    found = seen("a", contract_of("audio", (800, 1), 8000.0), sounds)
    assert [name for name, _ in found] == ["a", *(f"a, {i}" for i in range(1, 7))]
    seen("a", contract_of("range", (4, 16, 2), 0.0), np.zeros((9, 4, 16, 2)))
    assert asked == [
        *(("image", 1, 0.0, 1, 1, 104), ("image", 9, 0.0, 5, 9, 104)),
        *(("image", 1, 0.0, 1, 0, 104), ("image", 9, 0.0, 8, 0, 104)),
        *(("audio", 1, 8000.0, 1, 0, 104), ("audio", 9, 8000.0, 8, 0, 104)),
        *(("range", 1, 0.0, 1, 0, 104), ("range", 9, 0.0, 1, 0, 104)),
    ]


def test_a_line_for_each_figure_and_a_column_for_each_who_answers():
    figures = {"accuracy": 0.5, "accuracy_interval": [0.25, 0.75]}
    found = {
        "a+b_to_c": {"examples": 9, "model": figures, "pca": {"accuracy": 0.4}},
        "a_to_b": {
            "examples": 8,
            "model": {"psnr_db": 21.26},
            "mean": {"psnr_db": 9.0},
        },
        "c_after_3": {"frames": 5, "examples": 7, "model": {"psnr_db": 20.0}},
    }
    lines = crossings(found).text.splitlines()
    assert lines[-4:] == [
        "|  | figure | model | pca | mean | examples |",
        "| a+b → c | accuracy | 0.500 (0.250\u00a0to\u00a00.750) | 0.400 | – | 9 |",
        "| a → b | psnr_db | 21.26 | – | 9.00 | 8 |",
        "| c_after_3 | psnr_db | 20.00 | – | – | 7 |",
    ]


def test_bars_say_whether_they_are_met():
    found = bars([("a > 1", True, 2.0, 1.0), ("b > 1", False, 0.5, 1.0)])
    found = found.text.splitlines()
    assert found[1:] == [
        "| a > 1 | 2.0 | 1.0 | met |",
        "| b > 1 | 0.5 | 1.0 | **missed** |",
    ]
    assert "not measured" in bars([("a > 1", None, None, 1.0)]).text


def test_samples_stand_beside_as_many_real_ones():
    curve = [{"guidance": 1.0, "distance": 4.0}, {"guidance": 2.0, "distance": 3.0}]
    lines = samples({"curve": curve, "real": {"floor_distance": 2.5}}).text.splitlines()
    assert lines[-2:] == [
        "|  | guidance 1 | guidance 2 | real |",
        "| distance | 4.0 | 3.0 | 2.5 |",
    ]
    # Of those that are held out what is known is told, too.
    curve = [{"guidance": 1.0, "accuracy": 0.9, "distance": 4.0, "copied_share": 0.5}]
    real = {"judge_accuracy": 0.8, "heldout_copied_share": 0.0, "heldout_count": 9}
    found = {"curve": curve, "real": real | {"floor_distance": 2.5, "judge": {}}}
    assert samples(found).text.splitlines()[-4:] == [
        "|  | guidance 1 | real | held out |",
        "| accuracy | 0.9 | – | 0.8 |",
        "| distance | 4.0 | 2.5 | – |",
        "| copied_share | 0.5 | – | 0.0 |",
    ]
    # Of several streams, and without guidance.
    real = {"image_floor_distance": 2.5, "image_distance": 0.9}
    found = {"curve": [{"image_distance": 4.0}], "real": real}
    assert samples(found).text.splitlines()[-2:] == [
        "|  |  | real |",
        "| image_distance | 4.0 | 2.5 |",
    ]


def test_who_answers_stands_in_one_order():
    """The model's scales first, then rivals, and last what is true."""
    names = "real mean guidance_2 nearest pca cnn likeliest guidance_1".split()
    found = crossings({"a_to_b": {"examples": 1} | {n: {"x": 1.5} for n in names}})
    order = "guidance_2 guidance_1 likeliest cnn pca nearest mean real".split()
    line = found.text.splitlines()[-2]
    assert line == f"|  | figure | {' | '.join(order)} | examples |"


def test_what_was_trained_for_a_crossing_alone_says_its_budget():
    """A row of each network and of what was fitted beside them; no figure of it."""
    network = {"examples": 9, "steps": 7, "batch": 4, "parameters": 1234}
    fitted = {"examples": 8, "seconds": 2.5}
    found = {
        "a_to_b": {
            "examples": 5,
            "model": {"x": 1.5},
            "cnn": {"x": 2.5, "budget": fitted | {"networks": {"a": network}}},
            "pca": {"x": 0.5, "budget": fitted},
        }
    }
    first, second = crossings(found).text.split("What those were given")
    assert "budget" not in first and first.count("2.5") == 1
    rows = [[x.strip() for x in y.split("|")[1:-1]] for y in second.splitlines()[2:]]
    head, *rows = rows
    assert head[2:] == [
        "network of",
        "examples",
        "steps",
        "batch",
        "parameters",
        "seconds",
    ]
    assert {row[0] for row in rows} == {"a → b"}
    assert [row[1:3] for row in rows] == [["cnn", ""], ["cnn", "a"], ["pca", ""]]
    assert [row[3] for row in rows] == ["8", "9", "8"]
    assert rows[1][4:7] == ["7", "4", "1,234"] and rows[2][-1] == rows[0][-1] == "2.5"
    del found["a_to_b"]["cnn"]["budget"], found["a_to_b"]["pca"]["budget"]
    assert "What those were" not in crossings(found).text


def test_curves_are_of_every_loss_that_was_logged():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "heldout_loss": 1.5}]
    ((_, plot),) = training(rows, 10).shown
    assert plot[:4] == b"\x89PNG" and "2 of 10 steps" in training(rows, 10).text
    assert training([{"step": 1}], 10).shown == ()
    assert training([{"step": 1}], 10).text == "Nothing was logged."
    assert training([{"step": 1, "loss": None}], 10).shown == ()


def test_what_was_measured_while_it_trained_has_a_line_each():
    """Losses have curves; what was no number at a step, nothing of that one."""
    rows = [
        {"step": 0, "loss": 3.0, "evaluation_psnr_db": 9.0, "heldout_loss": 2.0},
        {"step": 500, "evaluation_psnr_db": 22.25, "heldout_usage": None},
        {"step": 1000, "evaluation_psnr_db": 21.5, "heldout_usage": 0.5},
    ]
    (section,) = measured(rows)
    assert section.text.splitlines()[-3:] == [
        "|  | first | least | greatest | last |",
        "| evaluation_psnr_db | 9.0 at 0 | 9.0 at 0 | 22.25 at 500 | 21.5 at 1,000 |",
        "| heldout_usage | 0.5 at 1,000 | 0.5 at 1,000 | 0.5 at 1,000 | 0.5 at 1,000 |",
    ]
    assert measured(rows[:1])[0].text and not measured([{"step": 1, "loss": 2.0}])


@pytest.mark.parametrize("least, far", [(0.1, False), (0.05, True), (-1.0, False)])
def test_losses_that_lie_far_apart_are_drawn_by_their_logarithm(
    least, far, monkeypatch
):
    """What a row lacks, or what was no number, is no point of a curve."""
    asked = []
    draw = lambda *of, **how: asked.append((of, how)) or b"plot"
    monkeypatch.setattr(run_pages.pictures, "line_plot", draw)
    rows = [
        {"step": 2, "loss": 3.0, "seconds": 9.0},
        {"step": 4, "heldout_loss": least},
    ]
    rows.append({"step": 1006, "loss": 2.0, "heldout_loss": None})
    section = training(rows, 2000, {"k-means": 9})
    lines = {"loss": ((2, 1006), (3.0, 2.0)), "heldout_loss": ((4,), (least,))}
    how = {"log_y": far, "moments": {"k-means": 9}}
    assert asked == [((lines, "step", "loss"), how)]
    assert section.text == "1,006 of 2,000 steps; means between the points."
    assert section.shown == [("losses", b"plot")]


@pytest.mark.parametrize("frames", [(), (2,)])
def test_boxes_are_drawn_where_they_are(frames):
    """x runs along the width: the true one is on the left, the drawn one at the top."""
    x = np.zeros((1, *frames, 96, 192, 1), np.uint8)
    none = [0, 0, 1, 1, -1]
    true = np.broadcast_to([[0.0, 0.0, 0.25, 1.0, 0], none], (1, *frames, 2, 5))
    drawn = np.broadcast_to([[0.5, 0.0, 1.0, 0.25, 0], none], (1, *frames, 2, 5))
    found = outlined(x, true, drawn).reshape(-1, 96, 192, 3)
    for picture in found:
        rows, columns = np.nonzero((picture == TRUE).all(-1))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 95, 0, 48)
        rows, columns = np.nonzero((picture == DRAWN).all(-1))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
            0,
            24,
            96,
            191,
        )
        assert not picture[10, 20].any()
    small = np.zeros((1, *frames, 8, 16, 1), np.uint8)
    assert outlined(small, true, drawn).shape == (1, *frames, 48, 96, 3)
