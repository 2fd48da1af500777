import dataclasses
import re

import numpy as np
import pytest

from tests.train.fresh import batches, fresh
from train.errors import BadInput
from train.modalities.draws import Draws
from train.modalities.record import Record
from train.modalities.series import Series
from train.modalities.transforms.augment import SeriesAugment
from train.modalities.transforms.gaps import Cleaning
from train.pipeline import keep_statistics, whole

SMALL = Series(length=64, channels=2, examples=80, threads=0)


def recording(n: int, c: int = 2, seed: int = 0) -> np.ndarray:
    """Slow waves, which cleaning leaves alone."""
    draw = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    return 5 + 2 * np.sin(t / draw.uniform(5, 9, c) + draw.uniform(0, 6, c))


def write_csv(path, values, names=("a", "b"), mark=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        mark.join("" if np.isnan(v) else repr(float(v)) for v in row) for row in values
    ]
    head = [mark.join(names)] if names else []
    path.write_text("\n".join([*head, *rows]) + "\n")


def over(folder, **fields) -> Series:
    given = {"length": 50, "channels": 2, "threads": 0, "holdout": 0.0} | fields
    return Series(name="folder", data_dir=str(folder), **given)


def raw(series: Series, part: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """All windows in their own units, and their masks."""
    found = whole(series, part)
    examples = fresh(series, part)
    signal = found["x"].astype(np.float64)
    return signal * examples.scale + examples.offset, found["known"]


def test_generated_series_come_cleaned_with_mask_and_truth():
    train, test = fresh(SMALL, True), fresh(SMALL, False)
    assert (len(train), len(test)) == (80, 10)
    found = train.take(np.arange(80))
    assert found["x"].shape == found["known"].shape == found["truth"].shape
    assert found["x"].dtype == np.float32 and set(np.unique(found["known"])) == {
        0,
        1,
    }
    assert 0.05 < 1 - found["known"].mean() < 0.15
    # Statistics of the known values: 0 and a quarter, since 4 deviations reach 1.
    known = found["x"][found["known"] > 0]
    assert abs(known.mean()) < 0.01 and abs(known.std() - 0.25) < 0.01
    near = abs(found["x"] - found["truth"])[found["known"] > 0]
    assert np.median(near) * train.scale[0] < 0.1
    np.testing.assert_array_equal(train.take(np.array([7]))["x"][0], found["x"][7])
    assert train.findings["missing_share"] == pytest.approx([0.1, 0.1], abs=0.04)
    assert train.findings["outlier_share"] == pytest.approx([0.01, 0.01], abs=0.01)


def test_held_out_windows_use_the_statistics_of_training(tmp_path):
    write_csv(tmp_path / "train" / "r.csv", recording(200))
    write_csv(tmp_path / "test" / "r.csv", 100 + recording(100))
    series = over(tmp_path)
    train, test = fresh(series, True), fresh(series, False)
    assert train.offset == test.offset and train.scale == test.scale
    np.testing.assert_allclose(train.offset, recording(200).mean(0))
    values, _ = raw(series, False)
    np.testing.assert_allclose(values.reshape(-1, 2), 100 + recording(100), rtol=1e-5)


@pytest.mark.parametrize(
    "form", ["csv", "semicolons", "bare", "parquet", "npz", "npz2"]
)
def test_every_file_form_gives_the_same_windows(tmp_path, form):
    x = recording(170)
    x[10:13, 0] = np.nan
    if form == "parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"a": x[:, 0], "b": x[:, 1].astype(np.float64)})
        pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    elif form == "npz":
        np.savez(tmp_path / "x.npz", values=x)
    elif form == "npz2":
        np.savez(tmp_path / "x.npz", a=x[:, 0], b=x[:, 1])
    else:
        names = None if form == "bare" else ("a", "b")
        mark = ";" if form == "semicolons" else ","
        write_csv(tmp_path / "x.csv", x, names, mark)
    values, mask = raw(over(tmp_path, cleaning=Cleaning(outliers="keep")))
    assert values.shape == (3, 50, 2)
    np.testing.assert_array_equal(mask[0, :, 0] == 0, np.isnan(x[:50, 0]))
    filled = x.copy()
    filled[10:13, 0] = np.interp([10, 11, 12], [9, 13], x[[9, 13], 0])
    np.testing.assert_allclose(values.reshape(-1, 2), filled[:150], rtol=1e-5)


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_columns_are_chosen_by_name_and_in_order(tmp_path, form):
    x = recording(60, 3)
    if form == "npz":
        np.savez(tmp_path / "x.npz", **dict(zip("abc", x.T, strict=True)))
    else:
        write_csv(tmp_path / "x.csv", x, ("a", "b", "c"))
    values, _ = raw(over(tmp_path, columns=("c", "a")))
    np.testing.assert_allclose(values[0], x[:50, [2, 0]], rtol=1e-5)
    with pytest.raises(BadInput, match="has 3 channels, where data.channels=2; choose"):
        fresh(over(tmp_path), True)
    with pytest.raises(BadInput, match="has no column 'd', only a, b, c"):
        fresh(over(tmp_path, columns=("a", "d")), True)


def test_dates_and_seconds_bring_a_table_onto_a_clock(tmp_path):
    t = np.arange(0, 40, 0.5)
    rows = [f"{v},{2 * v},{3 - v}" for v in t]
    (tmp_path / "x.csv").write_text("\n".join(["when,a,b", *rows]))
    expected = np.stack([2 * np.arange(30), 3 - np.arange(30)], -1)
    values, _ = raw(over(tmp_path, time="when", rate=1.0, length=30))
    np.testing.assert_allclose(values[0], expected, atol=1e-4)
    rows = [f"2024-01-01T00:00:{v:06.3f},{2 * v},{3 - v}" for v in t]
    (tmp_path / "x.csv").write_text("\n".join(["when,a,b", *rows]))
    values, _ = raw(over(tmp_path, time="when", rate=1.0, length=30, seed=1))
    np.testing.assert_allclose(values[0], expected, atol=1e-4)


def test_series_of_several_rates_share_one_clock(tmp_path):
    slow, fast = np.arange(0, 61.0), np.arange(20, 90, 0.25)
    np.savez(
        tmp_path / "x.npz",
        slow=2 * slow, slow_rate=1.0, fast=3 * fast, fast_time=fast,
    )  # fmt: skip
    values, mask = raw(over(tmp_path, rate=1.0, length=40))
    clock = 20 + np.arange(40)
    np.testing.assert_allclose(
        values[0], np.stack([2 * clock, 3 * clock], -1), rtol=1e-5
    )
    assert mask.all()
    np.savez(tmp_path / "x.npz", a=slow, a_time=slow, b=slow, b_time=slow + 100)
    with pytest.raises(BadInput, match="no overlap in time: a ends at 60 s and b star"):
        fresh(over(tmp_path, rate=1.0, length=39), True)
    with pytest.raises(BadInput, match="have their own times; write data.rate"):
        fresh(over(tmp_path, length=38), True)


def test_one_file_is_divided_in_time(tmp_path):
    x = recording(300)
    write_csv(tmp_path / "x.csv", x)
    series = over(tmp_path / "x.csv", holdout=0.25, stride=25)
    train, test = raw(series)[0], raw(series, False)[0]
    np.testing.assert_allclose(train[0], x[:50], rtol=1e-5)
    np.testing.assert_allclose(train[-1], x[175:225], rtol=1e-5)
    np.testing.assert_allclose(test[0], x[225:275], rtol=1e-5)
    assert len(train) == 8 and len(test) == 2
    with pytest.raises(BadInput, match="holdout=0 keeps nothing"):
        fresh(dataclasses.replace(series, holdout=0.0), False)
    with pytest.raises(BadInput, match="holdout='name:0.1': .* is one file; a share"):
        fresh(dataclasses.replace(series, holdout="name:0.1"), True)


def test_mask_channels_say_what_is_filled():
    plain = whole(SMALL, False)
    both = dataclasses.replace(SMALL, mask_channels=True)
    assert both.shape == (64, 4)
    found, examples = whole(both, False), fresh(both, False)
    np.testing.assert_array_equal(found["x"][..., :2], plain["x"])
    np.testing.assert_array_equal(found["x"][..., 2:], 2 * plain["known"] - 1)
    assert found["known"].shape == (10, 64, 4) and found["known"][..., 2:].all()
    # In their own units mask channels are 0 and 1, as offset and scale say.
    back = found["x"] * examples.scale + examples.offset
    np.testing.assert_array_equal(back[..., 2:], plain["known"])
    # A tokenizer of four channels has files of two.
    assert Series.of(4, mask_channels=True).channels == 2


def test_windows_shift_within_their_recording_with_their_mask(tmp_path):
    x = recording(120, seed=3)
    x[70:75, 1] = np.nan
    write_csv(tmp_path / "x.csv", x)
    series = over(tmp_path, augment=SeriesAugment(shift=30))
    examples = fresh(series, True)
    starts = set()
    for epoch in range(20):
        out = examples.augmented(np.arange(2), np.full(2, epoch), 0)
        values = out["x"] * examples.scale + examples.offset
        for value, mask in zip(values, out["known"], strict=True):
            errors = [abs(value[:, 0] - x[s : s + 50, 0]).max() for s in range(71)]
            start = int(np.argmin(errors))
            assert errors[start] < 1e-4
            known = ~np.isnan(x[start : start + 50, 1])
            np.testing.assert_array_equal(mask[:, 1] > 0, known)
            starts.add(start)
    assert len(starts) > 15 and min(starts) == 0 and max(starts) == 70
    draws = Draws(0, np.arange(9), np.arange(9))
    later = series.augment.shifts(draws)
    cut = series.cut([Record(x, known=np.isfinite(x))] * 9, [35] * 9, draws)["x"]
    np.testing.assert_array_equal(cut[:, 0], x[35 + later])


def test_no_cleaning_leaves_holes_at_zero_and_spikes_as_they_are():
    series = dataclasses.replace(SMALL, cleaning=None)
    values, mask = raw(series)
    np.testing.assert_allclose(values[mask == 0], 0, atol=1e-5)
    assert abs(values).max() > 6
    cleaned, _ = raw(SMALL)
    assert abs(cleaned).max() < abs(values).max()


def test_files_that_cannot_be_used_are_named_and_refused_above_a_share(
    tmp_path, caplog
):
    for i in range(8):
        write_csv(tmp_path / f"{i}.csv", recording(60, seed=i))
    (tmp_path / "short.csv").write_text("a,b\n1,2\n")
    (tmp_path / "text.csv").write_text("name,a,b\n" + "bob,1,2\n" * 60)
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "fake.npz").write_text("no arrays")
    (tmp_path / "fake.parquet").write_text("no table")
    series = over(tmp_path, bad_share=0.6)
    examples = fresh(series, True)
    why = dict(examples.refused)
    assert len(examples) == 8 and len(why) == 6
    for file, words in {
        "short.csv": "1 samples, fewer than data.length=50",
        "text.csv": "column 'name' holds string, not numbers",
        "ragged.csv": "Expected 2 columns, got 3",
        "empty.csv": "not a whole csv",
        "fake.npz": "not a whole npz",
        "fake.parquet": "not a whole parquet",
    }.items():
        assert words in why[file]
    assert "skipped 6 of 14 files" in caplog.text
    with pytest.raises(BadInput, match="6 of 14 files unreadable, more than data.bad"):
        fresh(over(tmp_path, bad_share=0.3), True)


def test_nothing_in_a_file_is_executed(tmp_path):
    np.savez(tmp_path / "x.npz", values=np.array([{}], object))
    with pytest.raises(BadInput, match="not a whole npz file of plain arrays"):
        fresh(over(tmp_path), True)


def test_a_run_on_files_that_changed_is_refused(tmp_path):
    write_csv(tmp_path / "data" / "x.csv", recording(100))
    series = over(tmp_path / "data")
    keep_statistics(series, tmp_path / "run")
    keep_statistics(series, tmp_path / "run")
    more = tmp_path / "data" / "y.csv"
    write_csv(more, recording(90))
    other = dataclasses.replace(series, threads=1)  # another program, reading anew
    with pytest.raises(BadInput, match="fitted on other data"):
        keep_statistics(other, tmp_path / "run")
    more.unlink()  # of the same names, and of another size
    write_csv(tmp_path / "data" / "x.csv", recording(90))
    with pytest.raises(BadInput, match="fitted on other data"):
        keep_statistics(dataclasses.replace(series, threads=2), tmp_path / "run")


def test_series_go_through_the_pipeline():
    one = next(batches(SMALL, True, 8, seed=0, start=2))
    assert one["x"].shape == (8, 64, 2) and one["known"].shape == (8, 64, 2)
    last = list(batches(SMALL, False, 8, seed=0))[-1]
    assert last["valid"].sum() == 2


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"name": "csv"}, "data.name='csv': write one of generated, "),
        ({"length": 1}, "data.length=1: write at least 2"),
        (
            {"normalise": "minmax"},
            "data.normalise='minmax': write one of standard",
        ),
        ({"missing": 1.0}, "data.missing=1.0: write at least 0 and below 1"),
        ({"time": "t"}, "data.time='t': write data.rate too"),
        ({"columns": ("a",)}, "columns=.*: generated series have none"),
        ({"bad_share": 2.0}, "data.bad_share=2.0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(BadInput, match=message):
        Series(**fields)


def test_what_cleaning_changes_is_told_by_channel_in_its_unit(tmp_path, caplog):
    draw = np.random.default_rng(0)
    values = recording(1000)
    values[:, 1] = draw.exponential(5, 1000)
    values[draw.choice(1000, 120, replace=False), 1] = 585.6
    values[:40, 0] = np.nan
    write_csv(tmp_path / "0.csv", values, ("temperature", "wind"))
    fresh(over(tmp_path), True)
    said = caplog.text
    assert "temperature: 4.00% is missing, and filled (linear)" in said
    (line,) = (line for line in said.split("\n") if "wind: " in line)
    share, within = re.search(r"wind: (.*)% of what .* beyond (.*), and", line).groups()
    assert 12 <= float(share) < 13
    low, high = map(float, within.split(" to "))
    assert low < 0 and 20 < high < 60 and "outliers=keep" in line
    kept = raw(over(tmp_path, cleaning=Cleaning(outliers="keep")))[0]
    assert kept[..., 1].max() == pytest.approx(585.6, rel=1e-5)


def test_findings_are_of_all_samples_whichever_recording_they_are_in(tmp_path):
    """Of 150 samples in two recordings; a channel is constant in how many."""
    long, short = recording(100), recording(50, seed=1)
    long[:15, 0], short[:, 1] = np.nan, 7.0
    short[20, 0] = 1e6
    write_csv(tmp_path / "b.csv", long, ("x", "y"))
    write_csv(tmp_path / "a.csv", short, ("x", "y"))
    found = fresh(over(tmp_path), True).findings
    assert found["channels"] == ["x", "y"] and found["recordings"] == 2
    assert found["missing_share"] == pytest.approx([15 / 150, 0])
    assert found["outlier_share"] == pytest.approx([1 / 150, 0])
    assert found["recordings_where_constant"] == [0, 1]
    assert found["repeated_times"] == 0 and "called_otherwise" not in found
    # Of all recordings the widest.
    low, high = map(float, found["within"][1].split(" to "))
    assert low < 3 and high > 7


def test_recordings_of_other_columns_are_told(tmp_path, caplog):
    """Their first is taken for the first of the others, unless columns are chosen."""
    names = [("x", "y"), ("x", "y"), ("y", "x"), ("y", "x"), ("x", "z")]
    for i, each in enumerate(names):
        write_csv(tmp_path / f"{i}.csv", recording(50), each)
    found = fresh(over(tmp_path), True).findings
    assert found["channels"] == ["x", "y"]
    assert found["called_otherwise"] == [
        {"channels": ["y", "x"], "recordings": 2},
        {"channels": ["x", "z"], "recordings": 1},
    ]
    told = "recordings of y, x are taken for x,y, column by column: 2 of 5; "
    assert told + "data.columns=x,y takes those of these names" in caplog.text
    caplog.clear()
    (tmp_path / "4.csv").unlink()
    chosen = fresh(over(tmp_path, columns=("x", "y")), True)
    assert "called_otherwise" not in chosen.findings
    assert "column by column" not in caplog.text
    np.savetxt(tmp_path / "0.csv", recording(50)[:, :2], "%.3f", ",")
    fresh(over(tmp_path), True)
    told = "recordings of y, x are taken for channel 0,channel 1, column by column: "
    assert told + "2 of 4; data.columns=y,x takes those" in caplog.text


def test_what_a_file_holds_beside_what_is_coded_is_told(tmp_path):
    """A spike is one of the values that were measured, not of those filled in."""
    x = recording(80)
    x[1::2, 0], x[40, 0] = np.nan, 1e3
    write_csv(tmp_path / "a.csv", x)
    data = Series(name="folder", channels=2)
    assert list(data.dropped(tmp_path / "a.csv", data.read(tmp_path / "a.csv"))) == [
        "25.00% of its values, gaps that are filled",
        "1.25% of its values, beyond the limits of cleaning",
    ]


def test_rows_are_read_in_the_order_of_their_times(tmp_path, caplog):
    rows = np.random.default_rng(0).permutation(60)
    lines = [f"{row / 10},{np.sin(row / 9)},{row}" for row in [*rows, 7, 7]]
    (tmp_path / "0.csv").write_text("\n".join(["t,a,b", *lines]))
    series = over(tmp_path, length=60, channels=2, time="t", rate=10.0)
    found = raw(series)[0][0]
    np.testing.assert_allclose(found[:, 0], np.sin(np.arange(60) / 9), atol=1e-5)
    np.testing.assert_allclose(found[:, 1], np.arange(60), atol=1e-4)
    assert "2 samples have the time of another (first counts)" in caplog.text
    assert "straight lines" not in caplog.text
    fresh(over(tmp_path, length=60, channels=2, time="t", rate=1000.0), True)
    assert "samples are 100 steps of data.rate=1000 apart, and between" in caplog.text
    assert "since 1970" not in caplog.text
    lines = [f"{1_700_000_000_000 + 100 * row},{row},{row}" for row in range(60)]
    (tmp_path / "0.csv").write_text("\n".join(["t,a,b", *lines]))
    np.testing.assert_allclose(raw(series)[0][0][:, 0], np.arange(60), atol=1e-4)
    told = "times of 1 of 1 recordings are taken for milliseconds since 1970, by their "
    assert told in caplog.text


def test_a_channel_at_rest_is_not_scored_by_its_rounding():
    x = np.stack([np.sin(np.arange(99)), np.full(99, 0.1)], -1).astype(np.float32)
    noisy = x + np.float32(0.01)
    alone = Series().measure(x[:, :1], noisy[:, :1])
    assert Series().measure(x, noisy) == pytest.approx(alone)
    assert np.isnan(Series().measure(x[:, 1:], noisy[:, 1:]))
