import io
import itertools

import numpy as np
import pytest
from PIL import Image

from train.errors import BadInput
from train.modalities.kinds import modality_of
from train.modalities.shown import grid, png
from train.report import pictures


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_grid_puts_images_in_rows():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 2, 3, 1), np.uint8
    )
    sheet = grid(images, 3, gap=1, fill=9)
    expected = [
        [0, 0, 0, 9, 1, 1, 1, 9, 2, 2, 2],
        [0, 0, 0, 9, 1, 1, 1, 9, 2, 2, 2],
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        [3, 3, 3, 9, 4, 4, 4, 9, 9, 9, 9],
        [3, 3, 3, 9, 4, 4, 4, 9, 9, 9, 9],
    ]
    np.testing.assert_array_equal(sheet[..., 0], expected)


def test_grid_without_gaps_and_with_signals():
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3)).astype(np.uint8)
    sheet = grid(images / np.float32(127.5) - 1, gap=0)
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[:2, :2], images[0])
    np.testing.assert_array_equal(sheet[2:, :2], images[2])
    np.testing.assert_array_equal(
        grid(images[..., 0], 4, gap=0)[..., 0][:, 2:4], images[1, ..., 0]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_every_pixel(channels):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (3, 5, channels)).astype(np.uint8)
    found = np.asarray(Image.open(io.BytesIO(png(picture, scale=2))))
    found = found.reshape(6, 10, channels)
    np.testing.assert_array_equal(found[::2, 1::2], picture)
    np.testing.assert_array_equal(found[1::2, ::2], picture)


def test_plots_are_pictures_and_alike_each_time(monkeypatch):
    monkeypatch.setattr(pictures, "SIZE", (2, 1.5))
    lines = {"flow": ([0, 1, 2], [3.0, np.nan, 1.0]), "masked": ([0, 2], [2.0, 1.5])}

    def draw():
        return pictures.line_plot(
            lines,
            "step",
            "loss",
            points={"masked": ["w = 1", "w = 2"]},
            bars={"bar": 1.2},
        )

    found = decoded(draw())
    assert found.shape == (300, 400, 4)
    named = pictures.line_plot(lines, "at", "loss", ticks=["a", "b", "c"])
    # The legend stands beside the axes, not on a line.
    assert decoded(named).shape == (300, 400, 4)
    assert named != pictures.line_plot(lines, "at", "loss")
    assert not found[0, 0, 3]  # a clear background, for light and dark pages
    assert draw() == draw()
    bars = decoded(pictures.bar_plot([1, 5, 2], names=["a", "b", "c"]))
    assert bars.shape == (300, 400, 4)


def test_values_are_read_along_rules_that_lie_across():
    """Thin lines at the ticks of y, and of x none but the axis itself."""
    there = decoded(pictures.line_plot({"a": ([0, 1], [0, 1])}))[..., 3] > 0
    rules = lambda share: int((np.diff((share > 0.7).astype(int)) == 1).sum())
    assert rules(there.mean(1)) >= 5 and rules(there.mean(0)) == 1


def test_what_is_no_picture_is_refused():
    with pytest.raises(BadInput, match="not finite"):
        png(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(BadInput, match="int64"):
        png(np.zeros((2, 2), np.int64))
    with pytest.raises(BadInput, match="1 or 3"):
        grid(np.zeros((2, 4, 4, 2), np.uint8))
    with pytest.raises(BadInput, match="1 or 3"):
        png(np.zeros((4, 4, 2), np.uint8))


@pytest.mark.parametrize(
    "kind, shape, size",
    [
        ("image", (8, 6, 3), (8, 6)),
        ("range", (4, 16, 2), (4, 16)),
        ("video", (5, 8, 8, 1), (8, 5 * 9 - 1)),
        ("volume", (6, 7, 8, 1), (7, 8)),
        ("audio", (999, 1), (64, 160)),
        ("series", (31, 5), (64, 160)),
    ],
)
def test_a_sheet_shows_any_kind_of_signal(kind, shape, size):
    x = np.random.default_rng(0).normal(0, 2, (4, *shape)).astype(np.float32)
    picture = grid(modality_of(kind).show(x), 2)
    assert picture.shape[:2] == (2 * size[0] + 1, 2 * size[1] + 1)
    assert picture.dtype == np.uint8 and len(np.unique(picture)) > 2


def test_curves_show_a_peak_of_one_sample_and_each_channel():
    x = np.zeros((16_000, 2), np.float32)
    x[5_050, 0], x[:, 1] = 1, -0.5
    picture = grid(modality_of("audio").show(x[None]))
    assert (picture[0] != 255).any(axis=-1).sum() == 1  # the peak touches the top
    # And stands on the curve: of 64 rows 0 is in the 33rd.
    (column,) = np.flatnonzero((picture[0] != 255).any(axis=-1))
    assert (picture[:33, column] == picture[0, column]).all()
    assert (picture[:31, column + 1] == 255).all()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3  # ground, two curves


def test_a_plot_has_the_scale_and_the_words_that_it_was_given(monkeypatch):
    seen = []
    keep = lambda figure, axes, *labels: seen.append((axes, labels)) or b""
    monkeypatch.setattr(pictures, "_drawn", keep)
    lines = {"a": ([0, 1, 2], [1.0, 10.0, 100.0]), "b": ([0, 2], [5.0, 6.0])}
    pictures.line_plot(lines, log_y=True, colours=["#ff0000", "#00ff00"])
    axes, labels = seen.pop()
    assert axes.get_yscale() == "log" and labels == ("", "")
    assert [line.get_color() for line in axes.lines] == ["#ff0000", "#00ff00"]
    shown = lambda axes: [
        text.get_text()
        for at, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if axes.get_ylim()[0] <= at <= axes.get_ylim()[1]
    ]
    assert shown(axes) == ["1", "2", "5", "10", "20", "50", "100"]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[0, 1], [1, 10], [2, 100]],
        [[0, 5], [2, 6]],
    ]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["a", "b"]
    points, ticks = {"b": ["w = 1", "w = 2"]}, ["x", "y", "z"]
    pictures.line_plot(lines, "at", "loss", points=points, bars={"m": 7}, ticks=ticks)
    axes, labels = seen.pop()
    assert axes.get_yscale() == "linear" and labels == ("at", "loss")
    assert [(text.get_text(), text.xy) for text in axes.texts] == [
        ("w = 1", (0, 5.0)),
        ("w = 2", (2, 6.0)),
    ]
    assert {*axes.lines[2].get_ydata()} == {7}
    assert [each.get_text() for each in axes.get_xticklabels()] == ticks
    assert axes.get_xticks().tolist() == [0, 1, 2]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["a", "b", "m"]
    far = {"a": ([0, 1], [0.001, 1e3])}
    pictures.line_plot(far, log_y=True, moments={"k-means": 0.5})
    axes, _ = seen.pop()
    assert shown(axes) == ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]
    assert axes.lines[1].get_xdata() == [0.5, 0.5]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["a", "k-means"]
    pictures.line_plot({"a": lines["a"]})  # of one line the title says what it is
    assert seen.pop()[0].get_legend() is None
    for count, width in ((32, 0.8), (33, 1.0)):
        pictures.bar_plot(range(count), "code", "count")
        axes, labels = seen.pop()
        assert [bar.get_height() for bar in axes.patches] == [*range(count)]
        assert axes.patches[0].get_width() == width and labels == ("code", "count")
    pictures.bar_plot([1, 2], names=["a", "b"])
    axes, labels = seen.pop()
    assert [each.get_text() for each in axes.get_xticklabels()] == ["a", "b"]
    assert axes.get_xticks().tolist() == [0, 1] and labels == ("", "")


def test_names_of_bars_are_drawn_as_they_are_and_never_over_each_other(monkeypatch):
    """A formula that is none ended the plot, and names of ten letters overlapped."""
    drawn = pictures._drawn
    boxes = []

    def measured(figure, axes, *labels):
        png = drawn(figure, axes, *labels)
        labels = axes.get_xticklabels()
        assert [each.get_text() for each in labels] == names
        boxes.append(
            [(each.get_rotation(), each.get_window_extent()) for each in labels]
        )
        return png

    monkeypatch.setattr(pictures, "_drawn", measured)
    for names in (["$\\foo$", "$a$"], [f"class no. {i}" for i in range(12)]):
        pictures.bar_plot(range(len(names)), names=names)
        for (turned, box), (_, after) in itertools.pairwise(boxes.pop()):
            assert turned or box.x1 < after.x0
