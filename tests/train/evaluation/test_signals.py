import dataclasses
import json
import types

import numpy as np
import pytest

from train.errors import BadInput
from train.evaluation import evaluator
from train.evaluation.features import Latents, network_by, network_of
from train.evaluation.reconstruction import pictures
from train.evaluation.reconstruction.kinds import own_measure
from train.evaluation.reconstruction.measures import Measures
from train.evaluation.samples import Reference
from train.evaluation.scores import (
    evaluate_generator,
    evaluate_tokenizer,
    references_of,
)
from train.modalities import Audio, Cleaning, Ranges, Series, Video, Volumes
from train.pipeline import open_examples, whole
from vqdit.diffusion import Heun, Plain
from vqdit.metrics import ssim_per_image
from vqdit.quantizers import Quantized
from vqdit.trained.contract import LatentContract

SERIES = Series(
    length=128,
    channels=2,
    examples=80,
    cleaning=Cleaning(outliers="missing", limit=4.5),
    threads=0,
)


class Stand:
    """A codec that returns what `change` makes of a signal, with made-up codes."""

    def __init__(self, data, codes=(), grid=(1,), change=lambda x: x):
        examples = open_examples(data, True)
        self.contract = LatentContract(
            data.kind, data.shape, grid, 1, codes, (0.0,), (1.0,), "none",
            offset=examples.offset, scale=examples.scale,
        )  # fmt: skip
        self.change, self.widths = change, []

    def from_raw(self, raw):
        return raw.astype(np.float32) / 127.5 - 1

    def encode(self, x):
        assert x.dtype == np.float32
        self.widths.append(len(x))
        codes = None
        if self.contract.codes:
            codes = np.arange(len(x) * np.prod(self.contract.grid)) % 4
            codes = codes.reshape(len(x), *self.contract.grid, 1)
        self.x = x
        return Quantized(x, codes, {}, {})

    def decode(self, q):
        return self.change(self.x)


def test_a_perfect_codec_of_series_is_as_good_as_its_cleaning():
    figures = evaluate_tokenizer(Stand(SERIES), SERIES)
    assert figures["examples"] == 10
    for part in ("", "_gaps"):
        for a, b in (("reconstruction", "interpolation_cleaned"),):
            assert figures[f"rmse_{a}{part}"] == pytest.approx(
                figures[f"rmse_{b}{part}"]
            )
    # Noise of 0.1 on nine of ten values, and what interpolation misses on the rest.
    assert 0.09 < figures["rmse_interpolation_cleaned"] < 0.35
    # Spikes of 4 to 12 on 1 % of the values: about 0.8 of their own.
    assert figures["rmse_interpolation"] > 2 * figures["rmse_interpolation_cleaned"]
    assert figures["rmse_reconstruction_uncleaned"] > figures["rmse_interpolation"]
    # A gap at 0 is wrong by the signal itself.
    assert figures["rmse_reconstruction_uncleaned_gaps"] == pytest.approx(
        figures["std_truth"], rel=0.25
    )


def test_the_truth_itself_has_no_error():
    truth = whole(SERIES, False)["truth"]
    codec = Stand(SERIES, change=lambda x: truth)
    figures = evaluate_tokenizer(codec, SERIES)
    assert figures["rmse_reconstruction"] == pytest.approx(0, abs=1e-6)
    masked = dataclasses.replace(SERIES, mask_channels=True)
    wide = np.concatenate([truth, truth], -1)
    figures = evaluate_tokenizer(Stand(masked, change=lambda x: wide), masked)
    assert figures["rmse_reconstruction"] == pytest.approx(0, abs=1e-6)


def test_statistics_are_those_of_the_bundle_whatever_the_data_says():
    """A codec trained uncleaned has another scale; series go in on that."""
    raw = dataclasses.replace(SERIES, cleaning=None)
    truth = open_examples(raw, False).normaliser(
        open_examples(SERIES, False).normaliser.invert(whole(SERIES, False)["truth"])
    )
    figures = evaluate_tokenizer(Stand(raw, change=lambda x: truth), raw)
    assert figures["rmse_reconstruction"] == pytest.approx(0, abs=1e-5)


def test_recordings_without_a_truth_are_compared_where_measured(tmp_path):
    x = np.sin(np.arange(400) / 5)[:, None] * [1.0, 3.0]
    x[50:60] = np.nan
    np.savez(tmp_path / "x.npz", values=x)
    data = Series(
        name="folder", data_dir=str(tmp_path / "x.npz"), length=64, channels=2,
        holdout=0.5, threads=0,
    )  # fmt: skip
    codec = Stand(data, change=lambda x: x + 0.5)
    figures = evaluate_tokenizer(codec, data)
    scale = np.array(codec.contract.scale)
    wanted = np.sqrt(np.mean(np.square(0.5 * scale)))
    assert figures["rmse_measured"] == pytest.approx(wanted, rel=1e-5)
    assert "rmse_interpolation" not in figures
    # Each channel in its own unit, and as a share of how much it moves.
    a, b, every = figures["channels"]
    np.testing.assert_allclose([a["rmse"], b["rmse"]], 0.5 * scale, rtol=1e-5)
    assert b["std"] == pytest.approx(3 * a["std"], rel=1e-3)
    assert a["nrmse"] == pytest.approx(0.5 * scale[0] / a["std"], rel=1e-5)
    assert every["nrmse"] == pytest.approx(a["nrmse"], rel=1e-3)
    mean = evaluate_tokenizer(Stand(data, change=np.zeros_like), data)["channels"]
    assert mean[-1]["nrmse"] == pytest.approx(1, abs=0.05)


def test_series_are_scored_beside_blocks_of_equal_bits():
    codec = Stand(SERIES, (4,), (32,), change=lambda x: x)
    rows = evaluate_tokenizer(codec, SERIES)["channels"]
    assert [row["channel"] for row in rows] == ["channel 0", "channel 1", "all"]
    assert all(row["nrmse"] < row["kmeans_nrmse"] < 1.2 for row in rows)
    assert "kmeans_rmse" in rows[0]


def test_volumes_are_scored_beside_blocks_of_equal_bits():
    data = Volumes(size=(8, 8, 8), examples=64, threads=0)
    codec = Stand(data, (4,), (4, 4, 4), change=lambda x: x + 0.02)
    figures = evaluate_tokenizer(codec, data)
    assert figures["psnr_db"] == pytest.approx(20 * np.log10(2 / 0.02), abs=1e-3)
    assert figures["bits_per_example"] == 128 and figures["usage"] == 1.0
    assert 10 < figures["kmeans_psnr_db"] < figures["psnr_db"]
    scale = open_examples(data, True).scale[0]
    noise = 20 * np.log10(2 * scale / 0.03)
    assert figures["measured_psnr_truth_db"] == pytest.approx(noise, abs=0.2)
    assert "kmeans_psnr_db" not in evaluate_tokenizer(codec, data, baseline=False)
    # However few signals are scored, k-means has learned from the training part.
    some = Stand(data, (100,), (4, 4, 4))
    assert evaluate_tokenizer(some, data, 1)["kmeans_psnr_db"] > 10
    many = Stand(data, (100_000,), (4, 4, 4))
    assert "fewer than 100000" in evaluate_tokenizer(many, data)["kmeans"]


def test_video_is_scored_frame_by_frame(monkeypatch):
    data = Video(frames=4, size=16, examples=40, threads=0)

    def worse_later(x):
        x = x.copy()
        x[:, 1:] = np.clip(x[:, 1:] - 0.1, -1, 1)
        return x

    figures = evaluate_tokenizer(Stand(data, change=worse_later), data, 3)
    assert figures["examples"] == 3
    assert figures["psnr_by_frame_db"][0] == np.inf
    assert all(np.isfinite(figures["psnr_by_frame_db"][1:]))
    assert figures["ssim_by_frame"][0] == pytest.approx(1)
    assert figures["ssim"] == pytest.approx(np.mean(figures["ssim_by_frame"]), abs=1e-5)
    # Of many clips a few unless all are asked for, and it says of how many.
    monkeypatch.setattr(pictures, "CLIPS", 2)
    codec = Stand(data)
    assert evaluate_tokenizer(codec, data)["examples"] == sum(codec.widths) == 2
    assert evaluate_tokenizer(codec, data, 40)["examples"] == 4


def test_sweeps_are_scored_in_metres_where_a_beam_returned():
    data = Ranges(rows=8, azimuth=32, examples=16, threads=0)
    codec = Stand(data, codes=(4,), grid=(4, 16), change=lambda x: x + 0.1)
    figures = evaluate_tokenizer(codec, data)
    metres = 0.1 * open_examples(data, True).scale[0]
    assert figures["rmse_m"] == pytest.approx(metres, rel=1e-4)
    assert figures["median_m"] == pytest.approx(metres, rel=1e-3)
    assert figures["tokens"] == 64 and figures["bits_per_example"] == 128
    # Four codes for blocks of four beams: metres off, and finite.
    assert metres / 100 < figures["kmeans_rmse_m"] < data.far
    # Whatever the tokenizer beside them makes of the signal.
    right = evaluate_tokenizer(Stand(data, codes=(4,), grid=(4, 16)), data)
    assert right["rmse_m"] == pytest.approx(0, abs=1e-5)
    for name in ("kmeans_rmse_m", "kmeans_median_m"):
        assert right[name] == pytest.approx(figures[name])

    lost = whole(data, False)["known"] == 0
    assert lost.any()
    codec = Stand(data, change=lambda x: np.where(lost, 1.0, x))
    assert evaluate_tokenizer(codec, data)["rmse_m"] == pytest.approx(0, abs=1e-5)
    # Most of what returned is right, though most of all beams is not.
    wrong = lost | (np.random.default_rng(0).random(lost.shape) < 0.45)
    assert wrong.mean() > 0.5 > wrong[~lost].mean()
    codec = Stand(data, change=lambda x: np.where(wrong, 1.0, x))
    assert evaluate_tokenizer(codec, data)["median_m"] == pytest.approx(0, abs=1e-3)


def test_every_channel_of_a_sweep_is_scored_where_a_beam_returned(tmp_path):
    draw = np.random.default_rng(0)
    for i in range(12):
        sweep = draw.uniform((5, 0), (70, 1), (4, 16, 2)).astype(np.float32)
        sweep[0, :8] = np.nan
        np.save(tmp_path / f"{i}.npy", sweep)
    data = Ranges("folder", str(tmp_path), rows=4, azimuth=16, channels=2, threads=0)
    wrong = lambda x: x * np.float32([1, -1])  # the second one
    found = evaluate_tokenizer(Stand(data, change=wrong), data, baseline=False)
    assert found["rmse_m"] == pytest.approx(0, abs=1e-4)
    first, second, every = found["channels"]
    assert first["channel"] == "range" and second["channel"] == "channel 1"
    assert first["nrmse"] == pytest.approx(0, abs=1e-5)
    assert second["std"] == pytest.approx(12**-0.5, rel=0.1)
    assert second["nrmse"] == pytest.approx(2, rel=0.1)
    assert every["nrmse"] == pytest.approx(second["nrmse"] / 2**0.5)


@pytest.mark.parametrize(
    "data, how, chunk",
    [
        (SERIES, {}, 7),
        (Ranges(rows=4, azimuth=16, examples=48, threads=0), {"grid": (4, 4)}, 4),
    ],
)
def test_chunks_of_a_few_signals_give_the_same_figures(data, how, chunk, monkeypatch):
    """The set is never whole, and every example counts once."""
    codes = (4,) if how else ()
    codec = Stand(data, codes, **how, change=lambda x: x + 0.1 * np.sin(9 * x))
    figures = evaluate_tokenizer(codec, data)
    codec.widths.clear()
    monkeypatch.setattr(evaluator, "CHUNK", chunk)
    again = evaluate_tokenizer(codec, data)
    assert max(codec.widths) == chunk and len(codec.widths) > 1
    assert figures.keys() == again.keys()
    for name in figures:
        if name.startswith(("usage", "perplexity")):  # the stand's codes are of places
            continue
        pairs = [(again[name], figures[name])]
        if name == "channels":
            rows = list(zip(*pairs[0], strict=True))
            pairs = [(a[k], b[k]) for a, b in rows for k in a if k != "channel"]
        for mine, its in pairs:
            assert mine == pytest.approx(its, rel=1e-6), name


KINDS = {
    "series": SERIES,
    "range": Ranges(rows=8, azimuth=32, examples=80, threads=0),
    "volume": Volumes(size=(8, 8, 8), examples=80, threads=0),
    "video": Video(frames=3, size=16, examples=40, threads=0),
    "audio": Audio(rate=2000, length=512, threads=0),
}


class Pooled(Stand):
    """One whose latents are the means of halves."""

    def latents(self, x):
        parts = np.array_split(x, 2, 1)
        means = [part.reshape(len(x), -1).mean(1) for part in parts]
        return np.stack(means, 1)[..., None]


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_every_kind_are_scored_without_labels(kind):
    """Held-out signals drawn as samples are at no distance, and cover themselves; the
    training set's own are copies."""
    data = KINDS[kind]
    train, held = (whole(data, part)["x"] for part in (True, False))
    signal = lambda x: x / np.float32(127.5) - 1 if x.dtype == np.uint8 else x
    codecs = {"signal": Pooled(data, grid=(2,))}
    generator = types.SimpleNamespace(
        codecs=codecs,
        tokenizers=codecs,
        values={},
        untrained=(),
        streams={"signal": None},
        solvers={},
        module=types.SimpleNamespace(classes=0, dtype="float32"),
    )
    # Of labelled clips a judge would be trained.
    references = {"signal": Reference(Latents(generator.codecs["signal"]), data)}
    if not data.judged:
        again = references_of(generator, {"signal": data}, network_by)
        assert isinstance(again["signal"].network, Latents)
        with pytest.raises(BadInput, match="--judge-steps is of a judge of labelled"):
            network_of(data, generator.codecs["signal"], steps=3)

    def score(x):
        x = signal(x)
        generator.sampler = lambda **how: lambda key, ids, **how: {"signal": x[ids]}
        found = evaluate_generator(generator, references, len(x))
        json.dumps(found, allow_nan=False)
        assert found["protocol"]["labels"] == "none"
        assert found["real"]["features"]["features"] == 2
        return found["curve"][0], found["real"]

    (own, real), (copies, _) = score(held), score(train[: len(held)])
    assert own["tokenizer_distance"] == pytest.approx(0, abs=1e-6)
    assert own["tokenizer_coverage"] == own["tokenizer_precision"] == 1
    assert own["memorisation"] == pytest.approx(1, rel=2e-3)
    assert own["copied_share"] == real["heldout_copied_share"]
    assert copies["memorisation"] == 0 and copies["copied_share"] == 1
    assert real["floor_tokenizer_distance"] > 0 and real["floor_count"] == len(held)
    assert 0 <= real["floor_tokenizer_recall"] <= 1 and "guidance" not in own
    # By what it is drawn where nothing is written, its own, is said.
    generator.solvers = {"signal": Heun()}
    for solver, said in ((None, "Heun()"), ({"signal": Plain()}, "Plain()")):
        found = evaluate_generator(generator, references, len(held), solver=solver)
        sampler = found["protocol"]["sampler"]
        assert sampler["solver"] == f"{{'signal': {said}}}"


def test_what_was_not_measured_counts_in_no_figure(tmp_path):
    x = np.sin(np.arange(400) / 5)[:, None] * [1.0, 3.0]
    x[300:310] = np.nan
    np.savez(tmp_path / "x.npz", values=x)
    data = Series(
        name="folder", data_dir=str(tmp_path / "x.npz"), length=64, channels=2,
        holdout=0.5, threads=0,
    )  # fmt: skip
    lost = whole(data, False)["known"] == 0
    codec = Stand(data, change=lambda x: np.where(lost, 9.0, x))
    figures = evaluate_tokenizer(codec, data)
    assert figures["missing_share"] == pytest.approx(lost.mean()) and lost.any()
    assert figures["rmse_measured"] == pytest.approx(0, abs=1e-6)
    for row in figures["channels"]:
        assert row["nrmse"] == pytest.approx(0, abs=1e-6)


def test_pictures_are_scored_as_bytes_and_by_each_book():
    """The one comes back exactly and the other a fifth of the range too bright; of
    k-means both are 25 levels too bright. A book of two codes is used by half."""
    x = np.random.default_rng(0).integers(0, 200, (2, 8, 8, 1), dtype=np.uint8)
    off = np.array([0, 51]).reshape(2, 1, 1, 1)
    contract = LatentContract(
        "image", (8, 8, 1), (2, 2), 1, (4, 2), (0.0,), (1.0,), "none"
    )
    score = Measures(types.SimpleNamespace(contract=contract), None)
    codes = np.stack([np.arange(8).reshape(2, 2, 2) % 4, np.ones((2, 2, 2), int)], -1)
    batch = {"x": x, "x_hat": (x + off) / 127.5 - 1, "kmeans": x + np.uint8(25)}
    parts = [*pictures.pictures(score, {"": "x_hat", "kmeans_": "kmeans"})]
    found = evaluator.evaluated(evaluator.Several(parts), [batch | {"codes": codes}])
    alike = ssim_per_image(x[1:] + np.uint8(51), x[1:])[0]
    near = float(np.mean(ssim_per_image(batch["kmeans"], x)))
    assert found == {
        "tokens": 4,
        "bits_per_example": 4 * 3,
        "usage": 0.75,
        "usage_0": 1.0,
        "usage_1": 0.5,
        "perplexity": 2.5,
        "perplexity_0": 4.0,
        "perplexity_1": 1.0,
        "psnr_db": pytest.approx(-10 * np.log10(0.04 / 2), abs=1e-4),
        "ssim": pytest.approx((1 + alike) / 2, abs=1e-5),
        "kmeans_psnr_db": pytest.approx(-20 * np.log10(25 / 255), abs=1e-4),
        "kmeans_ssim": pytest.approx(near, abs=1e-5),
    }


def test_another_kind_has_its_own_measure_in_its_own_unit():
    """Of the signal and of what became of it, in this order."""
    codec = types.SimpleNamespace(
        to_raw=lambda x: 2 * x + 7, contract=types.SimpleNamespace(codes=())
    )
    data = types.SimpleNamespace(measure=lambda x, y: 10 * x.mean() + y.mean())
    x = np.ones((3, 4, 1), np.float32)
    parts = [*own_measure(Measures(codec, data))]
    found = evaluator.evaluated(evaluator.Several(parts), [{"x": x, "x_hat": 2 * x}])
    assert found == {"score_db": 10 * 9 + 11}
