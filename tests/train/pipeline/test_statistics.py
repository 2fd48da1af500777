import contextlib
import dataclasses
import json

import numpy as np
import pytest

from train.errors import BadInput
from train.modalities import Images, Modality, Ranges, Record, Series, Volumes
from train.modalities.transforms.normalise import SAMPLE, Moments, normaliser
from train.pipeline import keep_statistics, recall_statistics, statistics
from train.pipeline.statistics import statistics_of
from train.sources import Source


@dataclasses.dataclass(frozen=True)
class Made(Modality):
    """Data of three channels, of which the last is constant; counts its passes."""

    kind = "made"
    normalise = "standard"
    seed: int = 0
    length: int = 1000
    files: str = "a"

    passes = []

    def source(self, train):
        if not train:
            raise BadInput("statistics are of the training part")
        return Parts(self)


class Parts(Source):
    def __init__(self, data):
        super().__init__(7)
        self.data, self.identity = data, data.files

    def read(self, rows):
        self.data.passes.extend([self.data.seed] * (0 in rows))
        x = np.array_split(values(self.data.seed, self.data.length), 7)
        return [Record(x[row]) for row in rows]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(statistics, "_known", {})
    statistics.records_of.cache_clear()
    Made.passes.clear()


def test_a_probe_has_one_record_in_memory(monkeypatch):
    asked, take = [], Parts.take
    noted = lambda source, rows: asked.append(len(rows)) or take(source, rows)
    monkeypatch.setattr(Parts, "take", noted)
    assert statistics.probe(Made(), True)["records"] == 7
    assert asked == [1] * 7


def values(seed: int, n: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, 3))
    # Far from zero: a sum of squares in float64 would lose the deviation of 1e-3.
    return x * [1e-3, 5.0, 0.0] + [1e6, -2.0, 0.1]


@pytest.mark.parametrize("parts", [1, 13, 1000])
def test_streamed_moments_are_those_of_the_whole(parts):
    x = values(0, 5000)
    known = np.random.default_rng(1).random(x.shape) < 0.7
    moments = Moments(3)
    cuts = np.sort(np.random.default_rng(2).integers(0, 5001, parts - 1))
    for rows in np.split(np.arange(5000), cuts):
        moments.add(x[rows], known[rows])
    found = moments.finished()
    for c in range(3):
        whole = x[known[:, c], c]
        assert found.count[c] == len(whole)
        np.testing.assert_allclose(found.mean[c], whole.mean(), rtol=1e-13)
        np.testing.assert_allclose(found.std[c], whole.std(), rtol=1e-7, atol=1e-15)
        assert (found.minimum[c], found.maximum[c]) == (whole.min(), whole.max())
        assert found.median[c] == np.median(whole)
    assert found.exact


def test_quantiles_of_a_long_stream_come_from_an_even_sample():
    """The same whatever the chunks, and within 5 standard errors of the truth."""
    x = np.random.default_rng(3).standard_normal((5 * SAMPLE, 1))
    x = np.sort(x, axis=0)  # a sample of the first or the last would be far off
    found = []
    for parts in (3, 50):
        moments = Moments(1)
        for part in np.array_split(x, parts):
            moments.add(part)
        found.append(moments.finished())
    assert found[0].median == found[1].median and not found[0].exact
    error = 1.2533 / SAMPLE**0.5
    assert abs(found[0].median[0]) < 5 * error
    assert abs(found[0].spread[0] - 1) < 5 * 1.17 / SAMPLE**0.5


@pytest.mark.parametrize("rule", ["standard", "robust", "range", "none"])
def test_every_rule_inverts_and_leaves_a_dead_channel_alone(rule):
    x = np.random.default_rng(4).standard_normal((20, 50, 3)) * [2, 5, 0] + [7, -2, 0.1]
    moments = Moments(3)
    moments.add(x.reshape(-1, 3))
    rescale = normaliser(moments.finished(), rule)
    signal = rescale(x)
    np.testing.assert_allclose(rescale.invert(signal), x, rtol=1e-5, atol=1e-5)
    assert rescale.scale[2] == 1.0
    if rule == "range":
        np.testing.assert_allclose(signal[..., :2].max((0, 1)), 1, rtol=1e-6)
        np.testing.assert_allclose(signal[..., :2].min((0, 1)), -1, rtol=1e-6)
    if rule == "standard":
        flat = signal.reshape(-1, 3)[:, :2]
        np.testing.assert_allclose(flat.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(flat.std(0), 1 / 4, rtol=1e-5)


def test_robust_statistics_do_not_hear_a_few_wild_values():
    x = np.random.default_rng(5).standard_normal((10_000, 1))
    x[::100] = 1e9
    moments = Moments(1)
    moments.add(x)
    robust = normaliser(moments.finished(), "robust")
    np.testing.assert_allclose(robust.scale[0], 4, rtol=0.1)
    assert abs(robust.offset[0]) < 0.1  # their mean is 1e7
    assert normaliser(moments.finished(), "standard").scale[0] > 1e6


@pytest.mark.parametrize("rule", ["standard", "robust", "range"])
def test_a_channel_of_a_small_unit_is_alive(rule):
    """Nanoamperes about 0, beside one that is at rest but for rounding."""
    x = np.stack([1e-9 * np.tile([1.0, -1.0], 50), 0.1 + 1e-17 * np.arange(100)], -1)
    moments = Moments(2)
    moments.add(x)
    found = normaliser(moments.finished(), rule)
    assert 1e-10 < found.scale[0] < 1e-8 and found.scale[1] == 1


def test_one_pass_a_program_and_none_on_resuming(tmp_path, monkeypatch):
    data = Made()
    fitted = keep_statistics(data, tmp_path)
    assert statistics_of(data) == fitted and Made.passes == [0]
    stored = (tmp_path / "statistics.json").read_bytes()
    monkeypatch.setattr(statistics, "_known", {})  # another program
    again = keep_statistics(dataclasses.replace(data, threads=1), tmp_path)
    assert again == fitted == statistics_of(data)
    assert Made.passes == [0, 0]  # a few are looked at, to tell them from others
    assert (tmp_path / "statistics.json").read_bytes() == stored
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.json"]


def test_what_a_gap_was_filled_with_moves_nothing(monkeypatch):
    whole, seen = Parts.read, []

    def holed(self, rows):
        for record in whole(self, rows):
            known = np.arange(record.values.size).reshape(record.values.shape) % 4 > 0
            seen.append(np.where(known, record.values, np.nan))
            filled = np.where(known, record.values, 99.0)
            yield dataclasses.replace(record, values=filled, known=known)

    monkeypatch.setattr(Parts, "read", lambda *of: list(holed(*of)))
    found = statistics_of(Made(seed=5))
    x = np.concatenate(seen[-7:])
    assert (
        found.count == tuple(np.isfinite(x).sum(0)) and 2000 < sum(found.count) < 2300
    )
    assert found.maximum == tuple(np.nanmax(x, 0))
    np.testing.assert_allclose(found.mean, np.nanmean(x, 0), rtol=1e-12)


def test_a_probe_is_of_the_first_examples_of_some_records():
    """Seven of seven, or sixteen, evenly spaced."""
    data = Made()
    found = statistics.probe(data, True)
    parts = np.array_split(values(0, 1000), 7)
    assert found["records"] == 7 and len(found["some"]) == 7
    for (mean, std, label), x in zip(found["some"], parts, strict=True):
        np.testing.assert_allclose([mean, std], [x.mean(), x.std()], rtol=1e-5)
        assert label == -1
    many = Series(examples=40, length=16)
    found = statistics.probe(many, True)
    assert found["records"] == 40 and len(found["some"]) == 16


@pytest.mark.parametrize(
    "count, some, other",
    [
        (1, (5e-7, 2.0, 3), False),
        (1, (-5e-6, 2.0, 3), True),  # of means about 0
        (1, (0.0, 2.0001, 3), False),
        (1, (0.0, 2.0003, 3), True),
        (1, (0.0, 2.0, 4), True),
        (2, (0.0, 2.0, 3), True),
    ],
)
def test_rounding_is_no_other_record(count, some, other, monkeypatch):
    now = {"records": 1, "some": ((0.0, 2.0, 3),)}
    monkeypatch.setattr(statistics, "probe", lambda data, train: now)
    made_of = {"records": count, "some": [some]}
    assert bool(statistics.other_records(made_of, None, True)) == other
    monkeypatch.setattr(statistics, "probe", lambda data, train: {True: now}[train])
    with pytest.raises(BadInput) if other else contextlib.nullcontext():
        statistics.refuse_others(made_of, None, "what")


def test_a_share_is_every_so_manyth_record():
    parts = np.array_split(values(0, 1000), 7)
    for index in range(3):
        found = statistics.moments_of(Made(), (index, 3)).finished()
        x = np.concatenate(parts[index::3])
        assert found.count == (len(x),) * 3
        np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-6)
    data = Made(seed=3)
    assert not statistics.are_known(data) and statistics.are_known(Images())
    statistics.believe(data, "told")
    assert statistics.are_known(data) and statistics_of(data) == "told"


def test_a_record_that_is_not_kept_is_read_once(monkeypatch):
    monkeypatch.setattr("train.sources.source.KEPT_BYTES", 0)
    data, read = Made(seed=4), []
    records = statistics.records_of(data, True)
    own = records.read
    monkeypatch.setattr(records, "read", lambda rows: read.extend(rows) or own(rows))
    statistics.moments_of(data)
    assert read == [0, *range(len(records))]  # the first says how many channels


def test_statistics_of_other_data_are_refused(tmp_path):
    keep_statistics(Made(), tmp_path)
    for other in (Made(seed=1), Made(files="b")):
        with pytest.raises(BadInput, match="statistics.json was fitted on other data"):
            keep_statistics(other, tmp_path)
    path = tmp_path / "statistics.json"
    for text in ("{", "{}", json.dumps({"of": "x", "statistics": {"class": "os.x"}})):
        path.write_text(text)
        with pytest.raises(BadInput, match="damaged|not JSON: .*remove it"):
            keep_statistics(Made(), tmp_path)


def test_statistics_are_those_of_data_that_have_moved(tmp_path, monkeypatch):
    """Which are known by their mark; those without keep their path."""
    monkeypatch.setattr(Parts, "mark", "of these", raising=False)
    fitted = keep_statistics(Made(data_dir="a"), tmp_path)
    monkeypatch.setattr(statistics, "_known", {})
    monkeypatch.setattr(statistics, "moments_of", None)
    assert keep_statistics(Made(data_dir="b"), tmp_path) == fitted
    assert statistics_of(Made(data_dir="b")) == fitted
    for mark in ("of others", ""):
        monkeypatch.setattr(Parts, "mark", mark)
        with pytest.raises(BadInput, match="statistics.json was fitted on other data"):
            keep_statistics(Made(data_dir="b"), tmp_path)
        keep_statistics(Made(data_dir="a"), tmp_path)


def test_records_that_changed_under_their_names_are_told_from_the_old(
    tmp_path, monkeypatch
):
    keep_statistics(Made(), tmp_path)
    stored = json.loads((tmp_path / "statistics.json").read_text())
    was = values
    monkeypatch.setitem(globals(), "values", lambda *of: 1.01 * was(*of))
    statistics.records_of.cache_clear()
    with pytest.raises(BadInput, match="statistics.json: made of other records"):
        keep_statistics(Made(), tmp_path)
    # Rounded otherwise, they are the same.
    monkeypatch.setitem(globals(), "values", lambda *of: (1 + 2e-5) * was(*of))
    statistics.records_of.cache_clear()
    keep_statistics(Made(), tmp_path)
    monkeypatch.setitem(globals(), "values", lambda *of: 1.0003 * was(*of))
    statistics.records_of.cache_clear()
    with pytest.raises(BadInput, match="statistics.json: made of other records"):
        keep_statistics(Made(), tmp_path)
    del stored["data"], stored["seal"]  # of before
    (tmp_path / "statistics.json").write_text(json.dumps(stored))
    keep_statistics(Made(), tmp_path)


def test_recalling_spares_the_pass_and_refuses_nothing(tmp_path, monkeypatch):
    fitted = keep_statistics(Made(), tmp_path)
    monkeypatch.setattr(statistics, "_known", {})
    recall_statistics(Made(seed=1), tmp_path)
    recall_statistics(Made(), tmp_path / "none")
    recall_statistics(Made(), None)
    assert not statistics._known
    recall_statistics(Made(), tmp_path)
    assert statistics_of(Made()) == fitted and set(Made.passes) == {0}
    (tmp_path / "statistics.json").write_text("{")
    recall_statistics(Made(), tmp_path)


def test_other_processes_write_nothing_and_pictures_need_nothing(tmp_path):
    keep_statistics(Made(), tmp_path, write=False)
    assert keep_statistics(Images(), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [900, 70_000])
def test_parts_that_are_merged_are_the_whole(n):
    """Each process reads its own chunks; the sample, where one is taken, is another."""
    draw = np.random.default_rng(0)
    x, known = draw.normal(1e6, 2, (n, 2)), draw.random((n, 2)) > 0.02
    whole, parts = Moments(2), [Moments(2, i) for i in range(3)]
    for i in range(n // 100):
        rows = slice(100 * i, 100 * i + 100)
        for moments in (whole, parts[i % 3]):
            moments.add(x[rows], known[rows])
    # What each gives to the exchange, before any has taken something from it.
    given = [[] for _ in parts]
    for part, mine in zip(parts, given, strict=True):
        part.gathered(lambda array, mine=mine: [mine.append(array) or array])
    found = []
    for part in parts:
        exchanged = zip(*given, strict=True)
        every = part.gathered(lambda _, exchanged=exchanged: list(next(exchanged)))
        found.append(every.finished())
    assert found[0] == found[1] == found[2]
    one, merged = whole.finished(), found[0]
    assert merged.count == one.count and merged.exact == one.exact
    assert merged.minimum == one.minimum and merged.maximum == one.maximum
    np.testing.assert_allclose(merged.mean, one.mean, rtol=1e-14)
    np.testing.assert_allclose(merged.std, one.std, rtol=1e-8)
    # A median of 65,536 normal values has a standard error of 0.005 deviations.
    atol = 0 if one.exact else 0.05
    np.testing.assert_allclose(merged.median, one.median, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "data,key",
    [
        (Series(examples=40, length=16), "1e92a8e6bd49"),
        (Volumes(examples=16, size=(8, 8, 8)), "dba48a288c62"),
        (Ranges(examples=16), "677be28f94a6"),
    ],
    ids=lambda given: getattr(given, "kind", ""),
)
def test_statistics_of_before_are_of_the_same_data(data, key):
    """As 0.1.0 named it: a setting that came later, at its default, is none."""
    assert statistics._key(data).startswith(key)
    free = {"threads": 7, "stride": 5, "words": ("a",), "download": True}
    for name in free.keys() & vars(data):
        other = dataclasses.replace(data, **{name: free[name]})
        assert statistics._key(other).startswith(key), name
    for name, value in {
        "duplicates": "mean",
        "share": 0.5,
        "elevation": (-20.0, 3.0),
        "seed": 9,
        "normalise": "robust",
    }.items():
        if name in vars(data):
            other = dataclasses.replace(data, **{name: value})
            assert not statistics._key(other).startswith(key), name
