"""Signals with what their axes and names are."""

import dataclasses
import io
import types

import numpy as np
import pytest
import soundfile

from tests.train.fresh import fresh
from train.modalities import Series
from train.modalities.kinds import modality_of
from train.modalities.shown import Axis, Panel, Units, spectrogram
from train.pipeline import open_examples
from train.report import sheets
from train.report.examples import units_of
from train.report.sheets import contents, framed, sheet, ticks

KINDS = {
    "image": (8, 6, 3),
    "range": (4, 16, 2),
    "video": (5, 8, 8, 1),
    "volume": (6, 7, 8, 1),
    "audio": (999, 1),
    "series": (31, 3),
    "wide series": (31, 9),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sheet_of_any_kind_has_a_cell_each_and_lines_of_names(kind, monkeypatch):
    x = np.random.default_rng(0).normal(0, 2, (5, *KINDS[kind])).astype(np.float32)
    kind, units = kind.split()[-1], Units(100.0, (2.0,), (3.0,))
    bare = sheet(kind, x, columns=2)
    assert bare.dtype == np.uint8 and bare.ndim == 3 and bare.shape[2] == 3
    plain = sheet(kind, x, units, 2)
    said = []
    line = sheets._line
    monkeypatch.setattr(sheets, "_line", lambda *a: said.append(a[0]) or line(*a))
    named = sheet(kind, x, units, 2, ["a", "b", "c", "c", "c"])
    assert said[:3] == [["a", "b"], ["c", "c"], ["c"]]
    assert named.shape[0] >= plain.shape[0] + 2 * sheets.LINE
    notes = [p.note for p in modality_of(kind).panels(x[0], units) if p.note]
    assert said[3:] == [[note] for note in notes]
    panels = modality_of(kind).panels(x[0], units)
    # Where two ticks have no room, in 16 pixels and 44, pictures are enlarged.
    times = {"range": 5, "video": 2}.get(kind, 1)
    panels = [sheets._enlarged(panel, times) for panel in panels]
    first = np.concatenate([framed(panel) for panel in panels])
    np.testing.assert_array_equal(plain[: first.shape[0], : first.shape[1]], first)


def test_panels_have_the_unit_of_time_and_of_each_channel():
    units = Units(50.0, (10.0, -1.0), (2.0, 0.5), ("hot",))  # the next is a mask
    first, second = modality_of("series").panels(np.zeros((200, 2)), units)
    assert first.up == Axis(8, 12, "hot") and first.across is None
    assert second.up == Axis(-1.5, -0.5, "channel 1")
    assert second.across == Axis(0, 4, "s")
    wave, heard = modality_of("audio").panels(np.zeros((800, 1)), Units(8000.0))
    assert wave.up == Axis(-1, 1) and heard.up == Axis(0, 4000, "Hz")
    assert heard.across == Axis(0, 0.1, "s") and "dB" in heard.note
    # More channels than have a curve each lie over one another.
    counts = [
        len(modality_of("series").panels(np.zeros((9, channels)), Units()))
        for channels in (3, 4, 5)
    ]
    assert counts == [3, 4, 1]
    (sweep,) = modality_of("range").panels(np.zeros((4, 8, 1)), Units(0, (40,), (30,)))
    assert sweep.note == "black 10 m, white 70 m"
    assert Units(0, (250,), (1250,)).greys() == "black -1,000, white 1,500"
    assert sweep.across == Axis(0, 360, "°")


def test_channels_are_called_as_the_columns_of_files_are(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2))
    path = tmp_path / "a.csv"
    np.savetxt(path, rows, "%.3f", ",", header="hot,cold", comments="")
    data = Series(name="folder", data_dir=str(path), channels=2, length=4)
    units = units_of(data, open_examples(data, True))
    assert units.names == ("hot", "cold")
    (drawn,) = contents(Series.of(2), rows[None], units)
    assert drawn.startswith(b"hot,cold\n")
    # A Parquet file's may be numbers, which a CSV would have as its first values.
    (drawn,) = contents(Series.of(2), rows[None], Units(names=("0", "1")))
    assert drawn.count(b"\n") == len(rows)
    np.savetxt(path, rows, "%.3f", ",")  # which does not say
    assert not fresh(data, True).names
    chosen = dataclasses.replace(data, columns=("cold", "hot")).preparation
    said = {"rate": 0.0, "offset": (), "scale": (), "preparation": chosen}
    for names, expected in (((), ("cold", "hot")), (("a", "b"), ("a", "b"))):
        of = types.SimpleNamespace(**said, names=names)
        assert Units.of(of).names == expected


def test_a_sine_is_in_the_row_of_its_frequency():
    rate = 8000
    x = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    picture = spectrogram(x, rate)[..., 0]
    assert picture.shape == (64, 160)
    # 64 rows to 4000 Hz, upwards: 1000 Hz is at the border of the 16th and 17th.
    inner = picture[:, 10:-10]
    assert {*(63 - inner.argmax(0)).tolist()} <= {15, 16}
    # 20 dB below full scale, of 80 in all.
    assert abs(int(inner.max()) - 255 * 0.75) <= 6
    assert np.median(inner) < 40


def test_ticks_are_round_and_few():
    assert ticks(Axis(0, 4), 5) == [0, 1, 2, 3, 4]
    assert ticks(Axis(-6.1, 5.3), 3) == [-5, 0, 5]
    assert ticks(Axis(0, 0.128), 4) == pytest.approx([0, 0.05, 0.1])
    assert ticks(Axis(1000.2, 1000.3), 2) == pytest.approx([1000.2, 1000.3])
    assert len(ticks(Axis(3.01, 3.02), 1)) == 1


def test_ticks_stand_where_their_values_are():
    panel = Panel(np.zeros((61, 81, 1), np.uint8), Axis(0, 8, "s"), Axis(0, 5))
    picture = framed(panel)
    top, left = sheets.LINE // 2, sheets.LEFT
    np.testing.assert_array_equal(picture[top : top + 61, left : left + 81], 0)
    marks = np.flatnonzero((picture[:, left - 1] == sheets.INK).all(-1))
    assert marks.tolist() == [top + 12, top + 36, top + 60]  # 4, 2 and 0
    marks = np.flatnonzero((picture[top + 61] == sheets.INK).all(-1))
    assert marks.tolist() == [left, left + 50]  # 0 and 5


def test_what_is_played_is_in_its_raw_unit():
    """A sound of another scale, and pixels in [-1, 1] as those of 8 bits."""
    sound = np.linspace(-1, 1, 80, dtype=np.float32).reshape(1, 80, 1)
    of = sheets.modality_of("audio").of(1)
    (content,) = sheets.played(of, sound, Units(8000.0, (0.25,), (0.5,)))
    heard, rate = soundfile.read(io.BytesIO(content))
    assert rate == 8000
    np.testing.assert_allclose(heard, 0.25 + 0.5 * sound[0, :, 0], atol=1e-4)
    clip = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8, 1)).astype(np.uint8)
    of, units = sheets.modality_of("video").of(1), Units(10.0)
    signal = clip / np.float32(127.5) - 1
    assert sheets.played(of, signal, units) == sheets.played(of, clip, units) != []
    assert sheets.played(sheets.modality_of("image").of(1), clip[0], units) == []


def test_a_name_is_cut_to_its_cell_and_great_numbers_are_in_thousands(monkeypatch):
    said = []
    text = sheets.ImageDraw.ImageDraw.text

    def keep(self, at, words, *more, **how):
        said.append((at[0], words))
        return text(self, at, words, *more, **how)

    monkeypatch.setattr(sheets.ImageDraw.ImageDraw, "text", keep)
    assert sheets._line(["a", "b" * 40, "c"], 90, 30).shape == (sheets.LINE, 90, 3)
    (_, first), (at, cut), (_, last) = said
    assert (first, at, last) == ("a", 31, "c") and cut.strip("b") == "…"
    width = sheets._font().getlength
    assert width(cut) <= 28 < width("b" + cut)
    said.clear()
    sheets._line(["same", "same"], 90, 20)  # one for all of the row
    assert said == [(1, "same")]
    said.clear()
    framed(Panel(np.zeros((9, 99, 1), np.uint8), Axis(0, 8, "s")))
    assert [words for _, words in said] == ["0", "5 s"]  # the last says of what
    axis = Axis(0, 1e4)
    assert [sheets._number(x, axis) for x in (0, 2500, 1e4)] == ["0", "2.5k", "10k"]
    assert sheets._number(-2e4, Axis(-2e4, 10)) == "-20k"
    assert sheets._number(9999, Axis(0, 9999)) == "9999"


def test_neighbouring_ticks_are_told_apart_and_have_room(monkeypatch):
    """Of an air pressure in Pa; beside it a channel of few digits stands in line."""
    units = Units(1.0, (101_400.0, 20.0), (800.0, 5.0))
    high, low = modality_of("series").panels(np.zeros((9, 2)), units)
    said = [sheets._number(value, high.up) for value in ticks(high.up, 4)]
    assert said == ["101k", "101.5k", "102k"]
    axis = Axis(1013.1, 1014.1)
    said = [sheets._number(value, axis) for value in ticks(axis, 3)]
    assert said == ["1013.5", "1014"]
    # Wide numbers move the picture to the right, and those of its cell with it.
    longer = high._replace(up=Axis(101_300.1, 101_300.3))
    ground = framed(longer)[:, :3]
    assert (ground == 255).all() and framed(longer).shape[1] > framed(low).shape[1]
    x = np.zeros((1, 9, 2), np.float32)
    assert sheet("series", x, Units(1.0, (101_300.2, 20.0), (0.1, 5.0))).size


def test_every_name_stands_over_its_own_cell(monkeypatch):
    """Of pictures 8 wide, which are enlarged to 40, and a line between two."""
    said, line = [], sheets._line
    monkeypatch.setattr(sheets, "_line", lambda *of: said.append(of) or line(*of))
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    found = sheet("image", x, columns=2, names=["a", "b", "c"])
    assert [(names, each) for names, _, each in said] == [(["a", "b"], 41), (["c"], 41)]
    for i, picture in enumerate(x.repeat(5, 1).repeat(5, 2)):
        rows, columns = sheets.LINE + 54 * (i // 2), 41 * (i % 2)
        there = found[rows : rows + 42, columns : columns + 42]
        windows = np.lib.stride_tricks.sliding_window_view(there, (40, 40, 3))
        assert (windows == picture).all((-3, -2, -1)).any()


def test_letters_beyond_english_are_drawn_and_not_boxes():
    shape = lambda letter: bytes(sheets._font().getmask(letter))
    letters = "öéßЖωµ²−…"
    assert shape("\uffff") not in map(shape, letters)
    assert len(set(map(shape, letters))) == len(letters)
