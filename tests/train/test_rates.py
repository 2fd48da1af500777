"""Payloads are what is left of files without headers; curves meet at equal bits."""

import io
import json
import re
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vqdit
from tests.toys import drawn
from tests.train.experiments import TOKENIZER
from train import rates
from train.codec.coder import PLACED, POOLED, Alphabet, Coder
from train.codec.prior import count_codes
from train.config.workdir import open_workdir
from train.errors import BadInput
from train.evaluation.evaluator import reconstruct
from vqdit import Codec, ConvDecoder, ConvEncoder, Tokenizer, VectorQuantizer
from vqdit.quantizers import MultiScaleQuantizer
from vqdit.quantizers.residual_fsq import ResidualFSQ
from vqdit.signal import to_uint8
from vqdit.trained.contract import contract_of


def saved(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **options)
    return file.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_a_jpegs_payload_is_its_scan():
    picture = noise(40, 24, 3)
    data = saved(picture, format="jpeg", quality=60)
    start = data.index(b"\xff\xda")
    start += 2 + struct.unpack(">H", data[start + 2 : start + 4])[0]
    scan = data[start:-2]
    assert data[-2:] == b"\xff\xd9" and b"\xff\x00" in scan
    assert rates.jpeg_payload(data) == len(scan) - scan.count(b"\xff\x00")
    # Comments and restart markers are not payload; more scans are.
    more = saved(picture, format="jpeg", quality=60, comment=b"x" * 500)
    assert rates.jpeg_payload(more) == rates.jpeg_payload(data) < len(more) - 500
    marked = saved(picture, format="jpeg", quality=60, restart_marker_blocks=1)
    parts = len(re.findall(b"\xff[\xd0-\xd7]", marked))
    assert parts == 5
    # Each part ends on a whole byte, and starts its differences anew.
    difference = rates.jpeg_payload(marked) - rates.jpeg_payload(data)
    assert 0 < difference < 4 * parts
    several = saved(picture, format="jpeg", quality=60, progressive=True)
    assert several.count(b"\xff\xda") > 3
    ratio = rates.jpeg_payload(several) / rates.jpeg_payload(data)
    assert 0.8 < ratio < 1.2


def test_a_webps_payload_is_its_chunk():
    picture = noise(40, 24, 3)
    data = saved(picture, format="webp", quality=60)
    assert rates.webp_payload(data) + 30 in (len(data), len(data) - 1)
    # The same chunk behind others, in an extended file.
    more = saved(picture, format="webp", quality=60, exif=b"Exif\0\0" + b"x" * 99)
    assert len(more) > len(data) + 99
    assert rates.webp_payload(more) == rates.webp_payload(data)
    with pytest.raises(ValueError, match="no lossy WebP"):
        rates.webp_payload(saved(picture, format="webp", lossless=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_curves_rise(channels):
    ramp = np.linspace(0, 255, 32)[:, None, None] + np.zeros((32, 32, channels))
    images = np.stack([ramp, ramp[::-1]]).astype(np.uint8)
    images ^= noise(2, 32, 32, channels) & 15
    curves = rates.file_curves(images)
    names = ["JPEG"] if channels == 1 else ["JPEG 4:2:0", "JPEG 4:4:4"]
    assert list(curves) == [*names, "WebP"]
    for points in curves.values():
        assert points[-1]["bits"] > 4 * points[0]["bits"]
        assert points[-1]["psnr_db"] > points[0]["psnr_db"] + 3
        assert points[-1]["ssim"] > points[0]["ssim"]
    by_hand = [
        len(saved(i.squeeze(), format="webp", quality=50, method=6)) for i in images
    ]
    (point,) = [p for p in curves["WebP"] if p["quality"] == 50]
    assert 0 <= np.mean(by_hand) - 30 - point["bits"] / 8 <= 1


def test_curves_are_read_between_their_points_and_not_beyond():
    points = [{"bits": 400.0, "ssim": 0.8}, {"bits": 100.0, "ssim": 0.4}]
    assert rates.at_rate(points, 100.0, "ssim") == (0.4, pytest.approx(100))
    assert rates.at_rate(points, 200.0, "ssim") == (pytest.approx(0.6), 200.0)
    assert rates.at_rate(points, 50.0, "ssim") == (0.4, 100.0)
    assert rates.at_rate(points, 1e4, "ssim") == (0.8, 400.0)


def test_a_point_is_above_only_what_it_beats():
    def curve(*qualities):
        return [
            {"bits": bits, "psnr_db": q, "ssim": q / 100}
            for bits, q in zip((100.0, 400.0), qualities, strict=True)
        ]

    curves = {"JPEG 4:2:0": curve(20, 22), "JPEG 4:4:4": curve(18, 30)}
    curves |= {"WebP": curve(25, 35)}
    points = [
        {"name": "a", "bits": 100.0, "psnr_db": 21.0, "ssim": 0.3},
        {"name": "b", "bits": 200.0, "psnr_db": 23.0, "ssim": 0.31},
    ]
    a, b = rates.compare(points, curves)
    # The better JPEG at 200 bits is 4:4:4, at 24 dB.
    assert (a["JPEG_psnr_db"], b["JPEG_psnr_db"]) == (20, pytest.approx(24))
    assert a["above_JPEG_psnr_db"] and not a["above_WebP_psnr_db"]
    assert a["above_WebP_ssim"] and not b["above_JPEG_psnr_db"]
    assert b["above_JPEG_ssim"] and b["above_WebP_ssim"]


def residual():
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    module = Tokenizer(
        ConvEncoder(**small, out=4), ConvDecoder(**small, out=1), ResidualFSQ((5, 3), 2)
    )
    variables = drawn(module, jnp.zeros((1, 8, 8, 1)))
    signal = {"kind": "image", "shape": (8, 8, 1)}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    return Codec(module, variables, contract)


@pytest.mark.slow
def test_every_number_of_books_is_a_point():
    codec, images = residual(), noise(60, 8, 8, 1)
    pixels, codes = reconstruct(codec, images)
    training = noise(60, 8, 8, 1, seed=1)
    prior = count_codes([reconstruct(codec, training)[1]], (15, 15), "f" * 64)
    one, two = rates.tokenizer_points("tok", codec, prior, images)
    assert [one["name"], two["name"]] == ["tok, 1 of 2 books", "tok, 2 of 2 books"]
    assert two["psnr_db"] == pytest.approx(vqdit.metrics.psnr(pixels, images))
    first = np.asarray(to_uint8(codec.decode(codes[..., :1])))
    assert one["psnr_db"] == pytest.approx(vqdit.metrics.psnr(first, images))
    assert one["ssim"] == pytest.approx(vqdit.metrics.ssim(first, images), abs=1e-6)
    assert one["fixed_bits"] == 16 * np.log2(15)
    flat = codes.reshape(60, 16, 2)
    bits = Alphabet((15, 15), prior).cost(flat, Coder(PLACED)) / 60
    assert two["bits"] == pytest.approx(bits)
    assert two["bits"] < two["fixed_bits"]
    # One table for all places never beats that of the test set's own codes.
    pooled = Alphabet((15, 15), prior).cost(flat, Coder(POOLED)) / 60
    assert two["order_0_bits"] <= pooled
    assert two["payload_bits"] <= two["bits"] + 16  # files end on whole bytes


def test_the_program_writes_figures_and_plots(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rates, "JPEG", (5, 50, 90))
    monkeypatch.setattr(rates, "WEBP", (5, 50, 90))
    asked, fit = [], rates.fit_prior
    monkeypatch.setattr(rates, "fit_prior", lambda *of: asked.append(of[2]) or fit(*of))
    workdir = open_workdir(tmp_path / "run", TOKENIZER)
    vqdit.trained.bundle.save(workdir / "bundle", residual())
    rates.main([f"--workdir={workdir}", "--most=60", "--counted=60"])
    assert asked == [60]
    found = json.loads((workdir / "rates.json").read_text())
    assert found["images"] == 60 and len(found["points"]) == 2
    assert {"JPEG", "WebP"} == set(found["curves"])
    for name in ("rates_psnr.png", "rates_ssim.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "run, 1 of 2 books: " in capsys.readouterr().out
    with pytest.raises(BadInput, match="--most: write a whole number, at least 1"):
        rates.main([f"--workdir={workdir}", "--most=0"])
    with pytest.raises(BadInput, match=r"takes \(8, 8, 1\), the data is \(9, 9, 1\)"):
        rates.main([f"--workdir={workdir}", "--config.data.size=9", "--most=9"])


@pytest.mark.slow
def test_every_number_of_scales_is_a_point():
    small = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
    module = Tokenizer(
        ConvEncoder(**small, out=4),
        ConvDecoder(**small, out=1),
        MultiScaleQuantizer(VectorQuantizer(7, 2), (1, 4), phis=1),
    )
    variables = drawn(module, jnp.zeros((1, 8, 8, 1)))
    signal = {"kind": "image", "shape": (8, 8, 1), "code_grid": (17,)}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    codec, images = Codec(module, variables, contract), noise(20, 8, 8, 1)
    pixels, codes = reconstruct(codec, images)
    prior = count_codes([codes], (7,), "f" * 64)
    one, two = rates.tokenizer_points("tok", codec, prior, images)
    assert [one["name"], two["name"]] == ["tok, 1 of 2 scales", "tok, 2 of 2 scales"]
    assert two["psnr_db"] == pytest.approx(vqdit.metrics.psnr(pixels, images))
    first = np.asarray(to_uint8(codec.decode(codes[:, :1])))
    assert one["psnr_db"] == pytest.approx(vqdit.metrics.psnr(first, images))
    assert one["fixed_bits"] == np.log2(7) and two["fixed_bits"] == 17 * np.log2(7)
    assert one["bits"] < two["bits"]
