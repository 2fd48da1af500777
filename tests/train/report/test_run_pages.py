import types

import numpy as np
import pytest

from train.report.pages import render
from train.report.run_pages import (
    DRAWN,
    TRUE,
    Section,
    bars,
    crossings,
    outlined,
    samples,
    seen,
    training,
    written,
)


def contract_of(kind, shape, rate):
    return types.SimpleNamespace(
        kind=kind, shape=shape, rate=rate, offset=(), scale=(), preparation=()
    )


def test_a_sound_can_be_played_and_a_clip_moves_beside_their_sheets():
    sound = np.sin(np.arange(2 * 800).reshape(2, 800, 1) / 9).astype(np.float32) / 2
    found = seen("heard", contract_of("audio", (800, 1), 8000.0), sound, ("a", "b"))
    assert [name for name, _ in found] == ["heard", "heard, a", "heard, b"]
    assert [content[:4] for _, content in found] == [b"\x89PNG", b"RIFF", b"RIFF"]
    clip = np.arange(3 * 4 * 8 * 8, dtype=np.uint8).reshape(1, 12, 8, 8, 1)
    shown = seen("seen", contract_of("video", (12, 8, 8, 1), 8.0), clip)
    assert [content[:4] for _, content in shown] == [b"\x89PNG", b"GIF8"]
    html = render(*written("t", "i", [Section("s", "x", [*found, *shown])]))
    assert html.count("<audio controls") == 2 and html.count("data:image/gif") == 1
    assert "heard, b" in html and "<h2>s</h2>" in html


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


def test_curves_are_of_every_loss_that_was_logged():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "heldout_loss": 1.5}]
    ((_, plot),) = training(rows, 10).shown
    assert plot[:4] == b"\x89PNG" and "2 of 10 steps" in training(rows, 10).text
    assert training([{"step": 1}], 10).shown == ()
    assert training([{"step": 1, "loss": None}], 10).shown == ()


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
