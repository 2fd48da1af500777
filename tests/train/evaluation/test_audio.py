import dataclasses
import types

import numpy as np
import pytest

from train.evaluation import judge
from train.evaluation.evaluator import Several, evaluated, reconstruct
from train.evaluation.judge import judge_of
from train.evaluation.reconstruction import sound
from train.evaluation.reconstruction.measures import Measures
from train.evaluation.scores import evaluate_tokenizer
from train.modalities import Audio, AudioCleaning
from train.modalities.audio import ear
from train.pipeline import Examples, whole
from vqdit.quantizers import Quantized, ResidualFSQ
from vqdit.trained.contract import LatentContract

pytestmark = pytest.mark.optimized

DATA = Audio(rate=2000, length=1000, clean=AudioCleaning(peak=1.0), threads=0)


@dataclasses.dataclass
class Rounded:
    """A codec that stores every sample in one of k levels, and can halve it."""

    k: int
    gain: float = 1.0

    @property
    def module(self):
        return types.SimpleNamespace(front=None, quantizer=None)

    @property
    def contract(self):
        grid = (DATA.length,)
        return LatentContract(
            "audio", DATA.shape, grid, 1, (self.k,), (0.0,), (1.0,), ""
        )

    def encode(self, x):
        codes = np.round((np.asarray(x) + 1) / 2 * (self.k - 1)).astype(np.int32)
        return Quantized(x, codes, {}, {})

    def decode(self, codes):
        return self.gain * (codes / (self.k - 1) * 2 - 1).astype(np.float32)


class Twice(Rounded):
    """What the first book leaves by a second one, as a residual quantizer does."""

    @property
    def module(self):
        book = ResidualFSQ((self.k,), 2)
        return types.SimpleNamespace(front=None, quantizer=book)

    @property
    def contract(self):
        return dataclasses.replace(super().contract, codes=(self.k, self.k))

    def encode(self, x):
        first = super().encode(x).codes
        left = (x - super().decode(first)) * (self.k - 1)
        both = np.concatenate([first, super().encode(left).codes], -1)
        return Quantized(x, both, {}, {})

    def decode(self, codes):
        parts = np.split(codes, codes.shape[-1], axis=-1)
        values = map(super().decode, parts)
        return sum(x / (self.k - 1) ** i for i, x in enumerate(values))


@pytest.fixture(scope="module")
def fine():
    return evaluate_tokenizer(Rounded(2**16), DATA, judge=judge_of(DATA, 4, steps=60))


@pytest.mark.slow
def test_a_fine_codec_loses_nothing(fine):
    assert fine["examples"] == 32 and fine["seconds_each"] == 0.5
    assert fine["log_mel_nat"] < 0.05 and fine["si_sdr_db"] > 60
    assert fine["accuracy"] == fine["accuracy_originals"] > 0.9
    assert fine["judge"]["trained_on"] == 96


@pytest.mark.slow
def test_rates_are_of_the_codes(fine):
    assert fine["kbps"] == pytest.approx(16 * 2000 / 1000)
    assert fine["tokens"] == 1000
    assert 0 < fine["entropy_kbps"] < fine["kbps"]
    assert len(fine["usage"]) == len(fine["perplexity"]) == 1


@pytest.mark.slow
def test_a_gain_moves_the_distance_and_not_the_ratio(fine):
    halved = evaluate_tokenizer(Rounded(2**16, gain=0.5), DATA)
    assert "accuracy" not in halved
    assert halved["si_sdr_db"] == pytest.approx(fine["si_sdr_db"], abs=0.1)
    # At most log 2, where the floor is not felt.
    assert 0.3 < halved["log_mel_nat"] <= np.log(2) + 1e-3
    coarse = evaluate_tokenizer(Rounded(5), DATA, most=8)
    assert coarse["examples"] == 8
    assert coarse["si_sdr_db"] < fine["si_sdr_db"] - 20


def test_every_number_of_books_has_its_rate_and_its_ratio():
    found = evaluate_tokenizer(Twice(16), DATA, most=4)
    rows = found["books"]
    assert [(row["books"], row["kbps"]) for row in rows] == [(1, 8.0), (2, 16.0)]
    first, both = (row["si_sdr_db"] for row in rows)
    assert both == found["si_sdr_db"] > first + 15


def test_a_perfect_ratio_counts_as_100_decibels():
    x, figures = whole(DATA, train=False)["x"][:4], {}
    for each in sound._alike(DATA.front, None, "x"):
        figures |= each.finish(each.sums({"x": x}))
    assert figures["si_sdr_db"] == 100
    assert figures["si_sdr_median_db"] == pytest.approx(100, abs=0.01)


def test_every_clip_is_rebuilt_in_order():
    x = whole(DATA, train=True)["x"]
    assert len(x) == 96
    for count in (96, 5):
        found, codes = reconstruct(Rounded(2**16), x[:count])
        np.testing.assert_allclose(found, x[:count], atol=1e-4)
        assert codes.shape == (count, 1000, 1)


def test_the_ear_has_bands_at_any_rate():
    for rate in (500, 2000, 8000, 16_000, 44_100):
        front = ear(rate)
        assert front.window / rate == pytest.approx(0.032, rel=0.1)
        assert front.window == 2 * front.hop
    assert ear(8000).bands == 64 and ear(8000).window == 256


@pytest.mark.slow
def test_a_listener_reads_a_batch_at_a_time(monkeypatch):
    """And hears what one does that has read them all."""
    sizes, take = [], Examples.take

    def seen(examples, rows):
        sizes.append(len(rows))
        return take(examples, rows)

    monkeypatch.setattr(judge, "BATCH", 16)
    monkeypatch.setattr(Examples, "take", seen)
    listener = judge.train_judge(DATA, steps=60)
    assert set(sizes) == {1, 16}
    batch = whole(DATA, train=False)
    assert listener.accuracy(batch["x"], batch["label"]) > 0.9


@dataclasses.dataclass(frozen=True)
class Loud:
    """A front end that gives back twice of what it heard."""

    def apply(self, variables, x, method="forward"):
        assert not variables
        return x / 2 if method == "invert" else 4 * x


class Heard(Rounded):
    @property
    def module(self):
        return types.SimpleNamespace(front=Loud(), quantizer=None)


def test_a_listener_hears_what_was_what_came_back_and_the_front_end_alone():
    """It tells peaks: of clips 2 quarters, of those that came back 1, of the front end
    4, which is the most there is."""
    wave = np.sin(np.arange(1000) / 5)
    x = np.tile(0.6 * wave[:, None] / np.abs(wave).max(), (6, 1, 1)).astype(np.float32)
    predict = lambda x: np.round(4 * np.abs(x).max((1, 2))).astype(int)
    score = Measures(
        *(Heard(2**16), DATA),
        judge=types.SimpleNamespace(protocol={"steps": 3}, predict=predict),
    )
    parts = [*sound.sound(score)]
    batch = {"x": x, "x_hat": x / 2, "label": np.array([2, 2, 1, 4, 4, 4])}
    batch["codes"] = np.arange(6000).reshape(6, 1000, 1)
    for make in score.beside:
        batch |= make(batch)
    np.testing.assert_allclose(batch["front"], np.clip(2 * x, -1, 1), atol=1e-6)
    found = evaluated(Several(parts, score.known), [batch])
    assert found["accuracy_originals"] == 2 / 6 and found["accuracy"] == 1 / 6
    assert found["accuracy_front_only"] == 3 / 6
    assert found["judge"] == {"steps": 3} and found["seconds_each"] == 0.5
    assert found["kbps"] == 16 * 2000 / 1000 and found["tokens"] == 1000
    assert found["bits_per_example"] == 16_000
    assert found["entropy_kbps"] == pytest.approx(np.log2(6000) * 2, rel=1e-6)
    assert found["usage"] == [6000 / 2**16]
